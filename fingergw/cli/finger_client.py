"""A finger client (RFC 1288 §2.1, §3.3)."""

from __future__ import annotations

import os
from typing import Any

from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint

from fingergw.core.text import clean
from fingergw.net.exchange import Connection, Incomplete, connect
from fingergw.net.reasons import reason
from fingergw.net.resolving import Resolver
from fingergw.net.trust import over_tls

_PORT = 79
_MAX_BYTES = 1 << 20
_MAX_PATH_BYTES = 107  # unix(7): sun_path, and its NUL


@frozen
class Target:
    """Whom to ask, and what.

    :param line: the query without its end.
    :param path: the unix socket to ask at, instead of the host's port.
    """

    host: str
    port: int
    line: str
    path: str | None = None

    @property
    def place(self) -> str:
        """Where it is asked, for a message."""
        return f"{self.host}, port {self.port}" if self.path is None else self.path


@frozen
class Answer:
    """What came of asking.

    :param received: the bytes as they came; all of the answer, unless there is a problem.
    :param problem: why there is nothing, or only a part; empty if the answer is whole.
    """

    received: bytes
    problem: str = ""

    @property
    def text(self) -> str:
        """What was received, safe for a terminal; what is not UTF-8 in it is replaced."""
        return clean(self.received.decode(errors="replace"))

    @property
    def reason(self) -> str:
        """The problem in words; empty if there is none."""
        return f"the answer is not whole: {self.problem}" if self.problem and self.received else self.problem


def parse_target(text: str, *, verbose: bool = False, path: str | None = None) -> Target:
    """Parse ``[USER][@HOST[:PORT]]``; the last of several hosts is asked, and told the others.

    :param verbose: ask with /W.
    :param path: the unix socket to ask at: all of the text is the question then.
    :raises ValueError: the port is no number, or there is something in it that no query may hold, or
        no unix socket can have that path.
    """
    if not text.isprintable():
        raise ValueError("expected printable characters alone")
    if path is not None and not 0 < len(os.fsencode(path)) <= _MAX_PATH_BYTES:
        raise ValueError(f"expected a unix socket's path, of {_MAX_PATH_BYTES} bytes at most")
    asked, at, address = text.rpartition("@")
    if not at or path is not None:
        asked, address = text, ""
    host, colon, port = address.rpartition(":")
    if not colon or "]" in port or (":" in host and not host.endswith("]")):
        host, port = address, str(_PORT)
    if not (port.isascii() and port.isdigit()) or not 0 < int(port) < 65536:
        raise ValueError(f'expected a port from 1 to 65535 after the host, not "{port}"')
    words = ["/W"] if verbose else []
    return Target(host.strip("[]") or "localhost", int(port), " ".join(words + ([asked] if asked else [])), path)


def _endpoint(target: Target, resolver: Resolver, timeout: float, trust: Any) -> IStreamClientEndpoint:
    if target.path is not None:
        return UNIXClientEndpoint(resolver.reactor, target.path, timeout=timeout)
    endpoint = resolver.endpoint(target.host, target.port, timeout=timeout)
    if trust is not None:
        endpoint = over_tls(endpoint, target.host, trust)
    return endpoint


async def fetch(target: Target, resolver: Resolver, *, timeout: float, trust: Any = None) -> Answer:
    """Ask a finger server, and take what there is of an answer.

    :param resolver: finds the host; its reactor is the one to work in.
    :param timeout: seconds to have the whole answer in, from here on.
    :param trust: ask over TLS, of a server that these authorities know by the target's host; None: without TLS.
    """
    connection = Connection(_MAX_BYTES)

    async def talk() -> bytes:
        # an endpoint's own timeout would be told in words that help nobody
        await connect(_endpoint(target, resolver, timeout + 1, trust), connection)
        connection.send(target.line)
        return await connection.answer

    try:
        return Answer(await Deferred.fromCoroutine(talk()).addTimeout(timeout, resolver.reactor))
    except DeferredTimeout:
        missing = "its end did not come" if connection.received else "no answer"
        return Answer(connection.received, f"{missing} within {timeout:g} s")
    except CancelledError:
        raise
    except Incomplete as error:
        return Answer(error.received, str(error))
    except ValueError:
        return Answer(b"", "that is no name or address of a host; correct it")
    except Exception as error:  # whatever an endpoint says
        return Answer(b"", reason(error))
    finally:
        connection.close()
