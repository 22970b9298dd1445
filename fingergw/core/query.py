"""The RFC 1288 query grammar, sans-IO."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from fingergw.core.errors import BadQuery

_NO_GROUPS: Mapping[str, str] = MappingProxyType({})


class Query(NamedTuple):
    """What one client asked. A named tuple is cheap to make, and every query makes one.

    :param user: {U}, the name in Unicode's NFC; empty for {C}. Lower case unless names are case-sensitive.
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
_LAST_TELNET = re.compile(_TELNET.pattern + rb"|\xff(?:\xfa.*|[\xfb-\xfe])?\Z", re.DOTALL)  # or an unfinished command
# An option may have the number of a line feed, so the line's end is looked for outside of commands only.
_TELNET_LINE = re.compile(rb"(?:[^\xff\n]|" + _TELNET.pattern + rb")*\n", re.DOTALL)
# Controls but TAB, LF and CR, and bytes that begin no character of UTF-8. TLS, RDP, SMB, SOCKS and others begin so.
_BEGINS_NO_QUERY = {
    bytes([each]) for each in {*range(0x20), *range(0x7F, 0xC2), *range(0xF5, 0xFF)}.difference(b"\t\n\r")
}
_MAX_CRS = 8  # before a LF


def take_line(received: bytes, max_query_bytes: int) -> bytes | None:
    """Return the query line in what a client has sent so far, or None while it is incomplete.

    :param received: everything received on the connection; what follows the first line is ignored.
    :param max_query_bytes: how long a line may be, telnet commands included and its end not.
    :return: the line without its CRLF or bare LF, and without telnet commands (RFC 854). Of a line that is too long, or
        that begins as no query does, whether or not its end has come, the first ``max_query_bytes + 1`` bytes as they
        are.
    """
    if _IAC in received:
        match = _TELNET_LINE.match(received[: max_query_bytes + _MAX_CRS + 1])  # a line that ends later is too long
        size = match.end() - 1 if match else -1
    else:
        size = received.find(b"\n")
        if 0 <= size <= max_query_bytes:
            return received[:size].rstrip(b"\r")  # some clients send several
    if size < 0:
        size = len(received)
        is_no_line = size > max_query_bytes + 1 and _is_too_long(received, size, max_query_bytes)
        is_no_line = is_no_line or received[:1] in _BEGINS_NO_QUERY
        return received[: max_query_bytes + 1] if is_no_line else None
    return _whole_line(received, size, max_query_bytes, _TELNET)


def take_last_line(received: bytes, max_query_bytes: int) -> bytes | None:
    """Return the query line that a client has ended by closing its side; None if it has sent nothing of one.

    :param received: everything received on the connection, which :func:`take_line` finds incomplete.
    :param max_query_bytes: as for :func:`take_line`.
    :return: as :func:`take_line`. Telnet commands alone, even unfinished, are nothing of a line.
    """
    if not _LAST_TELNET.sub(_unescape_iac, received):
        return None
    return _whole_line(received, len(received), max_query_bytes, _LAST_TELNET)


def _whole_line(received: bytes, size: int, max_query_bytes: int, telnet: re.Pattern[bytes]) -> bytes:
    if size > max_query_bytes and _is_too_long(received, size, max_query_bytes):
        return received[: max_query_bytes + 1]
    line = received[:size]
    if _IAC in line:  # first, as an option may have the number of a CR
        line = telnet.sub(_unescape_iac, line)
    return line.rstrip(b"\r")


def _is_too_long(received: bytes, size: int, max_query_bytes: int) -> bool:
    return size > max_query_bytes + _MAX_CRS or len(received[:size].rstrip(b"\r")) > max_query_bytes


def _unescape_iac(command: re.Match[bytes]) -> bytes:
    return b"\xff" if command[0] == b"\xff\xff" else b""


# A request of HTTP, RTSP, SIP or the like ends with a version, a response begins with one.
_VERSION = re.compile(r"(?i:http)/[0-9]+(?:\.[0-9]+)?|[A-Z]+/[0-9]+\.[0-9]+")
# Before HTTP had versions, a request was a method and a path.
_METHODS = frozenset({"connect", "delete", "get", "head", "options", "patch", "post", "put", "trace"})
_PROXIED = frozenset({"TCP4", "TCP6", "UNKNOWN"})
_OTHER_PROTOCOL = "a line of another protocol, such as HTTP or SSH"


def parse(line: bytes, case_sensitive: bool = False, listener: str = "", client: str = "") -> Query:
    """Parse one query line (RFC 1288 §2.3).

    /W counts as the verbose flag wherever it stands as a word of its own: first as in the BNF, or later as
    the older "also appears on the line" (RFC 742) has it. Blanks around and between words do not matter.

    :param line: as :func:`take_line` returns it.
    :param case_sensitive: keep the name's case.
    :param listener: the name of the listener that was asked.
    :param client: the client's address.
    :raises BadQuery: it is not UTF-8, holds a control or another invisible character, names an empty host, or is of
        another protocol.
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
        verbose = "/W" in words or "/w" in words
        if kept and ("/" in text or kept[0] == "PROXY") and _is_of_another_protocol(kept):
            raise BadQuery(_OTHER_PROTOCOL)
        text = " ".join(kept)
    if text[:4] == "SSH-":  # RFC 4253 §4.2
        raise BadQuery(_OTHER_PROTOCOL)
    text = compose(text) if case_sensitive else fold_case(text)
    if "@" not in text:
        return Query(text, (), verbose, listener, client)
    user, *hosts = (part.strip(" ") for part in text.split("@"))
    if not all(hosts):
        raise BadQuery("an empty host name")
    return Query(user, tuple(hosts), verbose, listener, client)


def _is_of_another_protocol(words: list[str]) -> bool:
    """Tell whether words are the first line of another protocol. A name may be that of a method."""
    if "://" in words[0]:  # a URL, as in Gemini
        return True
    if len(words) == 1:
        return False
    first, second, last = words[0], words[1], words[-1]
    if first == "PROXY":  # a proxy's header where none is expected
        return second in _PROXIED
    if first.lower() in _METHODS and (second[0] == "/" or "://" in second):
        return True
    return bool(_VERSION.fullmatch(last) or _VERSION.fullmatch(first))


def compose(name: str) -> str:
    """Return a name in Unicode's NFC, as queries have it: an accent may be typed as a character of its own."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def fold_case(name: str) -> str:
    """Return a name in lower case and in NFC, as queries have it unless names are case-sensitive.

    The long s (U+017F) becomes an s: its upper case is S, so a regex that ignores case would take it for an s.
    """
    if name.isascii():
        return name.lower()
    name = compose(name.lower())
    return compose(name.replace("\u017f", "s")) if "\u017f" in name else name


def fold_function(*, case_sensitive: bool) -> Callable[[str], str]:
    """Return what brings a name of the configuration to the form that names in queries have."""
    return compose if case_sensitive else fold_case
