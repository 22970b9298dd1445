"""A finger client (RFC 1288 §2.1, §3.3)."""

from __future__ import annotations

from typing import Any

from attrs import frozen
from twisted.internet.defer import TimeoutError as DeferredTimeout

from fingergw.exchange import Connection, Incomplete, connect
from fingergw.query import clean
from fingergw.resolving import Resolver

_PORT = 79
_MAX_BYTES = 1 << 20


@frozen
class Target:
    """Whom to ask, and what.

    :param line: the query without its end.
    """

    host: str
    port: int
    line: str


def parse_target(text: str, *, verbose: bool = False) -> Target:
    """Parse ``[USER][@HOST[:PORT]]``; the last of several hosts is asked, and told the others.

    :param verbose: ask with /W.
    :raises ValueError: the port is no number, or there is something in it that no query may hold.
    """
    if not text.isprintable():
        raise ValueError("expected printable characters alone")
    asked, at, address = text.rpartition("@")
    if not at:
        asked, address = text, ""
    host, colon, port = address.rpartition(":")
    if not colon or "]" in port or (":" in host and not host.endswith("]")):
        host, port = address, str(_PORT)
    if not (port.isascii() and port.isdigit()) or not 0 < int(port) < 65536:
        raise ValueError(f'expected a port from 1 to 65535 after the host, not "{port}"')
    words = ["/W"] if verbose else []
    return Target(host.strip("[]") or "localhost", int(port), " ".join(words + ([asked] if asked else [])))


async def ask(target: Target, reactor: Any, *, timeout: float) -> str:
    """Ask a finger server.

    :param timeout: seconds to connect in, and then to have the whole answer in.
    :return: the answer, safe for a terminal; what is not UTF-8 in it is replaced.
    :raises Exception: the connection failed, or took too long.
    """
    endpoint = Resolver(reactor).endpoint(target.host, target.port, timeout=timeout)
    connection = Connection(_MAX_BYTES)
    try:
        await connect(endpoint, connection).addTimeout(timeout, reactor)
        connection.send(target.line)
        received = await connection.answer.addTimeout(timeout, reactor)
    except DeferredTimeout:
        raise TimeoutError(f"no answer within {timeout:g} s") from None
    except Incomplete as error:
        if not error.received:
            raise error.__cause__ or error from None
        received = error.received  # somebody looks at it, who sees what is missing
    finally:
        connection.close()
    return clean(received.decode(errors="replace"))
