"""Backends that ask another finger server."""

from __future__ import annotations

from collections.abc import Callable

from attrs import frozen
from twisted.internet.interfaces import IStreamClientEndpoint, ITransport

from fingergw.api import (
    Answered,
    Backend,
    Bytes,
    Charset,
    Failed,
    HostName,
    Missing,
    Outcome,
    Port,
    Query,
    Site,
    Waits,
    setting,
    settings,
)
from fingergw.core.errors import BadQuery
from fingergw.core.query import parse
from fingergw.core.text import is_blank
from fingergw.net.exchange import NoAnswer, NotSent, TooMuch, exchange
from fingergw.net.http.charsets import UTF_8
from fingergw.net.resolving import connect_seconds


@settings
class Finger:
    """Asks another finger server, and passes on its answer."""

    sees = ("verbose",)
    coalesces = True
    waits = Waits(timeout=5, max_running=20)

    host: HostName = setting("The server's name or address.")
    port: Port = setting("Its port.", default=79)
    max_bytes: Bytes = setting("The largest answer; a larger one is a failure.", default=65536)
    charset: Charset = setting("The charset of the server's answers, and of names that it is asked for.", default=UTF_8)

    def open(self, site: Site) -> Backend:
        """Return the backend."""
        endpoint = site.resolver.endpoint(self.host, self.port, timeout=connect_seconds(site.timeout))
        return FingerBackend(endpoint, self.max_bytes, site.is_self, self.charset)


def line_for(query: Query) -> str | None:
    """Return the query line for another server, without CRLF.

    :param query: the last host of its host chain is that server, and is left out (RFC 1288 §2.4).
    :return: None if that server would understand another query: of ``/W@host`` only ``/W`` is left.
    """
    hosts = query.hosts[:-1]
    asked = "@".join((query.user, *hosts))
    line = " ".join((["/W"] if query.verbose else []) + ([asked] if asked else []))
    try:
        read = parse(line.encode(), case_sensitive=True)
    except (BadQuery, UnicodeEncodeError):
        return None
    return line if (read.user, read.hosts, read.verbose) == (query.user, hosts, query.verbose) else None


def encoded(line: str, charset: Charset) -> bytes | None:
    """Return a query line in a server's charset.

    :return: None if the charset lacks a character of it, or if bytes of one could be taken for ASCII, such as ``@``.
    """
    if line.isascii():
        return line.encode()
    try:
        wire = line.encode(charset.codec)
    except UnicodeEncodeError:
        return None
    return wire if bytes(byte for byte in wire if byte < 0x80) == line.encode("ascii", "ignore") else None


@frozen(eq=False, repr=False)
class FingerBackend:
    """Ask another finger server, and pass on its answer.

    :param endpoint: connects to the server.
    :param max_bytes: of the answer.
    :param is_self: tells whether a connection leads back to this gateway.
    :param charset: the server's.
    """

    endpoint: IStreamClientEndpoint
    max_bytes: int
    is_self: Callable[[ITransport], bool]
    charset: Charset = UTF_8

    def _line(self, query: Query) -> bytes | None:
        line = line_for(query)
        return None if line is None else encoded(line, self.charset)

    def at_once(self, query: Query) -> Outcome | None:
        """Return Missing for a name that the server would understand otherwise, or that its charset lacks."""
        return Missing() if self._line(query) is None else None

    async def answer(self, query: Query) -> Outcome:
        """Ask; whatever the server sends is the answer, as finger has no way to say that a name is unknown."""
        line = self._line(query)
        if line is None:
            return Missing()
        try:
            received = await exchange(
                self.endpoint, line, max_bytes=self.max_bytes, may_send=lambda transport: not self.is_self(transport)
            )
        except NotSent:
            why = "its address leads back to this gateway, which would ask itself; correct it"
            return Failed(why, upstream="unknown")
        except TooMuch:
            return Failed(f"the answer is larger than max_bytes = {self.max_bytes}")
        except NoAnswer as error:
            return Failed(str(error), upstream=error.upstream)
        if not received:
            return Failed("the server closed the connection without an answer", upstream="silent")
        text = self.charset.decode(received)
        if is_blank(text):
            return Failed("the server's answer is blank")
        return Answered(text)
