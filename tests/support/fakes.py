"""Fakes for conditions that tests cannot provoke with the real thing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from fingergw.core.outcome import Outcome
from fingergw.core.query import Query


@define
class FakeBackend:
    """A backend that returns a given outcome, raises a given exception, or waits for a Deferred of either.

    :param queries: what it was asked.
    """

    says: Any
    queries: list[Query] = field(factory=list)

    async def answer(self, query: Query) -> Outcome:
        """Note the query, and say it."""
        self.queries.append(query)
        return await say(self.says, lambda: None, None)  # type: ignore[no-any-return]


async def say(said: Any, on_cancel: Callable[[], object], ending: Deferred[Any] | None) -> Any:
    """Return or raise what a fake is given, or wait for a Deferred of it.

    :param on_cancel: called when waiting is cancelled.
    :param ending: what is still waited for then; None for a fake that ends at once.
    """
    if isinstance(said, Deferred):
        try:
            said = await said
        except CancelledError:
            on_cancel()
            if ending is None:
                raise
            said = await ending
    if isinstance(said, BaseException):
        raise said
    return said


@define(eq=False)
class FakeProcess:
    """A process that exists only as its transport.

    :param refuses: whether it is another user's, who may not be signalled.
    """

    protocol: ProcessProtocol
    executable: str
    argv: list[str]
    env: dict[str, str]
    pid: int | None
    signals: list[str] = field(factory=list)
    closed: bool = False
    ended: bool = False
    refuses: bool = False

    def signalProcess(self, name: str) -> None:
        """Note a signal."""
        if self.ended:
            raise ProcessExitedAlready
        if self.refuses:
            raise PermissionError
        self.signals.append(name)

    def loseConnection(self) -> None:
        """Note that the pipes are closed."""
        self.closed = True

    def end(self, *, code: int | None = 0, signal: int | None = None) -> None:
        """Exit, with all output read."""
        self.ended = True
        error = ProcessDone(0) if code == 0 else ProcessTerminated(code, signal)
        self.protocol.processExited(Failure(error))
        self.protocol.processEnded(Failure(error))


@define
class FakeSpawn:
    """A stand-in for ``spawnProcess`` that starts nothing.

    :param error: raised instead of starting one.
    :param pid: of each process; default: none, so that no real process is ever signalled.
    """

    processes: list[FakeProcess] = field(factory=list)
    error: Exception | None = None
    pid: int | None = None

    def __call__(
        self, protocol: ProcessProtocol, executable: str, argv: Sequence[str], env: Mapping[str, str]
    ) -> FakeProcess:
        """Note what would be started."""
        if self.error is not None:
            raise self.error
        process = FakeProcess(protocol, executable, list(argv), dict(env), self.pid)
        self.processes.append(process)
        protocol.makeConnection(process)
        return process
