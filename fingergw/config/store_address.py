"""What ``[cache] store`` says."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from attrs import frozen

_EXPECTED = 'expected "memory", "sqlite:PATH" or "redis://HOST:PORT/DATABASE" (rediss: over TLS)'


@frozen
class RedisAddress:
    """``redis://USER@HOST:PORT/DATABASE``: a Redis server, and where in it."""

    host: str
    port: int = 6379
    database: int = 0
    user: str | None = None
    tls: bool = False


def parse_store(text: str) -> RedisAddress | Path | None:
    """Take a store's address apart.

    :return: an SQLite database's path; None for the process's own memory.
    :raises ValueError: it is none; the message says what is expected.
    """
    kind, _, rest = text.partition(":")
    if text == "memory":
        return None
    if kind == "sqlite" and rest and not rest.startswith(("//", ":")) and not rest.endswith("/"):
        return Path(rest)
    if kind not in ("redis", "rediss") or not rest.startswith("//"):
        raise ValueError(_EXPECTED)
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError(_EXPECTED) from None
    if parts.password is not None:
        raise ValueError("expected no password in it: put it into a file, and name that in password_file")
    database = parts.path.removeprefix("/") or "0"
    if (
        not parts.hostname
        or port == 0
        or parts.query
        or parts.fragment
        or not (database.isdecimal() and len(database) < 6)
    ):
        raise ValueError(_EXPECTED)
    user = unquote(parts.username) if parts.username else None
    return RedisAddress(parts.hostname, port or 6379, int(database), user, kind == "rediss")
