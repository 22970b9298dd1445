"""What another finger server says."""

from __future__ import annotations

from collections.abc import Callable

from attrs import Factory, field, frozen
from twisted.internet.defer import DeferredSemaphore
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint, ITransport

from fingergw.core.errors import BadQuery
from fingergw.core.outcome import Answered, Failed, Inputs, Missing, Outcome
from fingergw.core.query import Query, parse
from fingergw.net.exchange import NoAnswer, NotSent, exchange
from fingergw.net.upstream import within


def line_for(query: Query) -> str | None:
    """Return the line that asks another server, without its end.

    :param query: one with a host chain is passed on without its last host, which is that server (RFC 1288 §2.4).
    :return: None if that server would read something else in it: after ``/W@host`` nothing is left but ``/W``.
    """
    hosts = query.hosts[:-1]
    asked = "@".join((query.user, *hosts))
    line = " ".join((["/W"] if query.verbose else []) + ([asked] if asked else []))
    try:
        read = parse(line.encode(), case_sensitive=True)
    except (BadQuery, UnicodeEncodeError):
        return None
    return line if (read.user, read.hosts, read.verbose) == (query.user, hosts, query.verbose) else None


@frozen
class FingerBackend:
    """Ask another finger server, and answer with what it says.

    :param endpoint: where it is.
    :param timeout: seconds from the query to the end of the answer, waiting for a place included.
    :param max_bytes: of the answer.
    :param max_running: connections at once; more queries wait.
    :param is_self: tells of a connection whether it leads back to this gateway.
    """

    endpoint: IStreamClientEndpoint
    timeout: float
    max_bytes: int
    max_running: int
    clock: IReactorTime
    is_self: Callable[[ITransport], bool]
    _places: DeferredSemaphore = field(
        init=False, default=Factory(lambda self: DeferredSemaphore(self.max_running), takes_self=True)
    )

    @property
    def inputs(self) -> Inputs:
        """The name, and /W."""
        return Inputs(frozenset({"user"}), verbose=True)

    async def answer(self, query: Query) -> Outcome:
        """Ask; whatever the server says is the answer, as nothing in it tells a name that it does not know."""
        line = line_for(query)
        if line is None:
            return Missing()
        return await within(self.timeout, self.clock, self._ask(line))

    async def _ask(self, line: str) -> Outcome:
        try:
            async with self._places:
                received = await exchange(self.endpoint, line, max_bytes=self.max_bytes, may_send=self._may_send)
        except NotSent:
            return Failed("it is this gateway itself, which would go round in circles")
        except NoAnswer as error:
            return Failed(str(error))
        return Answered(received.decode(errors="replace")) if received else Failed("closed without an answer")

    def _may_send(self, transport: ITransport) -> bool:
        return not self.is_self(transport)
