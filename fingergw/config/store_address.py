"""The address of a cache's store: ``[cache] store``."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from attrs import frozen

from fingergw.core.addresses import ascii_host
from fingergw.core.errors import ExpectedError

_REDIS_FORM = 'expected "redis://HOST:PORT/DATABASE"; PORT is 1 to 65535, DATABASE a number, and nothing follows it'


@frozen
class RedisAddress:
    """``redis://USER@HOST:PORT/DATABASE``: a database of a Redis server."""

    host: str
    port: int = 6379
    database: int = 0
    user: str | None = None
    tls: bool = False


def parse_store(text: str) -> RedisAddress | Path | None:
    """Parse a store's address.

    :return: for SQLite the database's path; for the process's own memory None.
    :raises ValueError: it is not an address.
    :raises ExpectedError: it contains a password, or is almost an address; the message says what to write.
    """
    kind, _, rest = text.partition(":")
    if text == "memory":
        return None
    if kind == "sqlite" and rest and not rest.startswith(("//", ":")) and not rest.endswith("/"):
        return Path(rest)
    if kind == "sqlite" and rest.startswith("//"):
        raise ExpectedError("write the path right after sqlite:, as in sqlite:/var/lib/fingergw/cache.db")
    if kind not in ("redis", "rediss") or not rest.startswith("//"):
        raise ValueError("not an address of a store")
    try:
        parts = urlsplit(text)
        host, port = ascii_host(parts.hostname or ""), parts.port
    except ValueError:
        raise ExpectedError(_REDIS_FORM) from None
    if parts.password is not None:
        raise ExpectedError(
            "expected an address without a password; put the password into a file, and name that in password_file"
        )
    database = parts.path.removeprefix("/") or "0"
    if port == 0 or parts.query or parts.fragment or not (database.isdecimal() and len(database) < 6):
        raise ExpectedError(_REDIS_FORM)
    user = unquote(parts.username) if parts.username else None
    return RedisAddress(host, port or 6379, int(database), user, kind == "rediss")
