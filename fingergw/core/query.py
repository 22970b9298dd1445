"""The RFC 1288 query grammar, sans-IO."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from fingergw.core.errors import BadQuery

_NO_GROUPS: Mapping[str, str] = MappingProxyType({})


class Query(NamedTuple):
    """What one client asked. A named tuple is cheap to make, and every query makes one.

    :param user: {U}, the name; empty for {C}. Lower case unless names are case-sensitive.
    :param hosts: {H}, the host chain in the order written; ``a@h1@h2`` has ``("h1", "h2")``.
    :param verbose: whether /W was given.
    :param listener: the name of the listener that was asked.
    :param client: the client's address in its usual text form, ``"unix"`` for a unix socket.
    :param groups: the named groups of the route's regex.
    """

    user: str
    hosts: tuple[str, ...] = ()
    verbose: bool = False
    listener: str = ""
    client: str = ""
    groups: Mapping[str, str] = _NO_GROUPS

    @property
    def placeholders(self) -> dict[str, str]:
        """The values of the placeholders, such as ``{user}``, by name."""
        return {**self.groups, "user": self.user}


# RFC 854: IAC SB ... IAC SE; IAC WILL, WONT, DO or DONT and an option; IAC and any other command.
_IAC = 0xFF
_TELNET = re.compile(rb"\xff(?:\xfa(?:[^\xff]|\xff[^\xf0])*\xff\xf0|[\xfb-\xfe].|[^\xfa-\xfe])", re.DOTALL)
# An option may have the number of a line feed, so the line's end is looked for outside of commands only.
_TELNET_LINE = re.compile(rb"(?:[^\xff\n]|" + _TELNET.pattern + rb")*\n", re.DOTALL)


def take_line(received: bytes, max_query_bytes: int) -> bytes | None:
    """Return the query line in what a client has sent so far, or None while it is incomplete.

    :param received: everything received on the connection; what follows the first line is ignored.
    :param max_query_bytes: how long a line may be, telnet commands included and its end not.
    :return: the line without its CRLF or bare LF, and without telnet commands (RFC 854). Of a line that is too long,
        whether or not its end has come, the first ``max_query_bytes + 1`` bytes as they are.
    """
    if _IAC in received:
        match = _TELNET_LINE.match(received[: max_query_bytes + 2])  # a line that ends later is too long
        size = match.end() - 1 if match else -1
    else:
        size = received.find(b"\n")
    if size < 0:
        # one byte more may be the CR
        return received[: max_query_bytes + 1] if len(received) > max_query_bytes + 1 else None
    line = received[:size]
    if _IAC in line:  # first, as an option may have the number of a CR
        line = _TELNET.sub(_unescape_iac, line)
    kept = line.removesuffix(b"\r")
    if size > max_query_bytes and size - len(line) + len(kept) > max_query_bytes:
        return received[: max_query_bytes + 1]
    return kept


def _unescape_iac(command: re.Match[bytes]) -> bytes:
    return b"\xff" if command[0] == b"\xff\xff" else b""


def parse(line: bytes, case_sensitive: bool = False, listener: str = "", client: str = "") -> Query:
    """Parse one query line (RFC 1288 §2.3).

    /W counts as the verbose flag wherever it stands as a word of its own: first as in the BNF, or later as
    the older "also appears on the line" (RFC 742) has it. Blanks around and between words do not matter.

    :param line: as :func:`take_line` returns it.
    :param case_sensitive: keep the name's case.
    :param listener: the name of the listener that was asked.
    :param client: the client's address.
    :raises BadQuery: it is not UTF-8, holds a control or another invisible character, or names an empty host.
    """
    try:
        text = line.decode()
    except UnicodeDecodeError:
        raise BadQuery("not UTF-8") from None
    if "\t" in text:
        text = text.replace("\t", " ")
    if not text.isprintable():
        raise BadQuery("a control or an invisible character")
    verbose = False
    if "/" in text or " " in text:
        words = text.split(" ")
        kept = [word for word in words if word and word not in ("/W", "/w")]
        verbose = any(word in ("/W", "/w") for word in words)
        text = " ".join(kept)
    if not case_sensitive:
        text = fold_case(text)
    if "@" not in text:
        return Query(text, (), verbose, listener, client)
    user, *hosts = (part.strip(" ") for part in text.split("@"))
    if not all(hosts):
        raise BadQuery("an empty host name")
    return Query(user, tuple(hosts), verbose, listener, client)


def fold_case(name: str) -> str:
    """Return a name in lower case, as queries have it unless names are case-sensitive.

    The long s (U+017F) becomes an s: its upper case is S, so a regex that ignores case would take it for an s.
    """
    return name.lower().replace("\u017f", "s")
