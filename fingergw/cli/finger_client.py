"""A finger client (RFC 1288 §2.1, §3.3)."""

from __future__ import annotations

import os
from typing import Any

from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint

from fingergw.core.text import clean, is_blank
from fingergw.net.exchange import Connection, NoAnswer, connect
from fingergw.net.reasons import reason
from fingergw.net.resolving import Resolver
from fingergw.net.trust import over_tls

_PORT = 79
_MAX_BYTES = 1 << 20
_MAX_PATH_BYTES = 107  # unix(7): sun_path without its NUL


@frozen
class Target:
    """A finger server, and what to ask it.

    :param line: the query without its line end.
    :param path: the unix socket to connect to instead of the host and port.
    """

    host: str
    port: int
    line: str
    path: str | None = None

    @property
    def place(self) -> str:
        """The server's address, for a message."""
        return f"{self.host}, port {self.port}" if self.path is None else self.path


@frozen
class Answer:
    """What a finger server answered.

    :param received: the bytes as they came.
    :param problem: why they are not the whole answer, or no text; empty if the answer is whole.
    """

    received: bytes
    problem: str = ""

    @property
    def text(self) -> str:
        """What was received, safe for a terminal; what is not UTF-8 in it is replaced."""
        return clean(self.received.decode(errors="replace"))


def parse_target(text: str, *, verbose: bool = False, path: str | None = None) -> Target:
    """Parse ``[USER][@HOST[:PORT]]``; the last of several hosts is asked, and the others are part of the query.

    :param verbose: ask with /W.
    :param path: the unix socket to ask at; then the whole text is the query.
    :raises ValueError: the port is not a number, the text has characters that no query may have, or the path is one
        that no unix socket can have.
    """
    if not text.isprintable():
        raise ValueError(f'target "{text}": expected only printable characters')
    if path is not None and not 0 < len(os.fsencode(path)) <= _MAX_PATH_BYTES:
        raise ValueError(f'expected the path of a unix socket, of {_MAX_PATH_BYTES} bytes at most, not "{path}"')
    user, at, address = text.rpartition("@")
    if not at or path is not None:
        user, address = text, ""
    host, colon, port = address.rpartition(":")
    if not colon or "]" in port or (":" in host and not host.endswith("]")):
        host, port = address, str(_PORT)
    if not (port.isascii() and port.isdigit() and len(port) <= 5) or not 0 < int(port) < 65536:
        raise ValueError(f'target "{text}": expected a port from 1 to 65535 after the host, not "{port}"')
    words = (["/W"] if verbose else []) + ([user] if user else [])
    return Target(host.strip("[]") or "localhost", int(port), " ".join(words), path)


def _endpoint(target: Target, resolver: Resolver, timeout: float, trust: Any) -> IStreamClientEndpoint:
    if target.path is not None:
        return UNIXClientEndpoint(resolver.reactor, target.path, timeout=timeout)
    endpoint = resolver.endpoint(target.host, target.port, timeout=timeout)
    if trust is not None:
        endpoint = over_tls(endpoint, target.host, trust)
    return endpoint


async def fetch(target: Target, resolver: Resolver, *, timeout: float, trust: Any = None) -> Answer:
    """Ask a finger server, and take as much of its answer as comes.

    :param resolver: looks up the host, and has the reactor to use.
    :param timeout: seconds for the whole answer, from now on.
    :param trust: the authorities to trust for TLS; None: without TLS.
    """
    connection = Connection(_MAX_BYTES)

    async def talk() -> bytes:
        # an endpoint's own timeout would have a message that helps nobody
        await connect(_endpoint(target, resolver, timeout + 1, trust), connection)
        connection.send(target.line.encode())
        return await connection.answer

    try:
        answer = Answer(await Deferred.fromCoroutine(talk()).addTimeout(timeout, resolver.reactor))
        if not answer.received:
            return Answer(b"", "the server closed the connection without an answer")
        return Answer(answer.received, "the answer has no text") if is_blank(answer.text) else answer
    except DeferredTimeout:
        missing = "the answer is incomplete: its end did not arrive" if connection.received else "no answer"
        return Answer(connection.received, f"{missing} within {timeout:g} s")
    except CancelledError:
        raise
    except NoAnswer as error:
        if error.received:
            return Answer(error.received, f"the answer is incomplete: {error}")
        is_unclear = trust is not None and not str(error).startswith("TLS: ")
        return Answer(b"", f"{error}{'; the server may not speak TLS on this port' if is_unclear else ''}")
    except Exception as error:  # whatever an endpoint raises
        return Answer(b"", reason(error))
    finally:
        connection.close()
