"""One function a target: it is given any bytes at all, and raises an AssertionError where something is not as promised.

Each has a folder of seeds in ``corpus/``.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Iterable
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.testing import MemoryReactorClock

from fingergw import config
from fingergw.app import build
from fingergw.config.problems import to_error
from fingergw.core.errors import BadProxyHeader, BadQuery, ConfigError
from fingergw.core.proxy_header import take_header
from fingergw.core.query import Query, compose, fold_case, parse, take_last_line, take_line
from fingergw.core.text import clean, escape, printable, to_wire, truncate
from fingergw.telemetry.access_log import Entry, json_line, text_line
from tests.fuzz.bodies import bodies
from tests.support.escaped import unescaped

T = TypeVar("T")
CORPUS = Path(__file__).parent / "corpus"

_MAX_QUERY_BYTES = 64
_MAX_HEADER_BYTES = 16 + 4096
# What a client is never sent: C0 but TAB and LF, DEL, C1, surrogates, and what reorders a text or ends a line.
FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def grammar(data: bytes) -> None:
    """Any bytes are a query, no query, or the beginning of one, in whatever pieces they come."""
    whole = _fed(_take_query, [data])
    for pieces in _pieces(data):
        assert _fed(_take_query, pieces) == whole, pieces
    if whole is None:
        _check_last(data)
    if not isinstance(whole, Query):
        return
    assert _fed(_take_query, [data + b"more\r\n"]) == whole
    names = (whole.user, *whole.hosts)
    assert all(name.isprintable() and name == name.strip() == name.lower() and "@" not in name for name in names)
    assert all(name == compose(name) == fold_case(name) for name in names)
    assert all(whole.hosts)
    assert whole == parse((("/W " if whole.verbose else "") + "@".join(names)).encode())
    line = take_line(data, _MAX_QUERY_BYTES)
    assert line is not None
    as_asked = parse(line, case_sensitive=True)
    assert (as_asked.verbose, len(as_asked.hosts)) == (whole.verbose, len(whole.hosts))


def _check_last(received: bytes) -> None:
    """Check that the end of what a client sends ends its line, as a line end does outside of telnet commands."""
    last = _query(take_last_line(received, _MAX_QUERY_BYTES))
    if b"\xff" not in received:
        assert last == (_take_query(received + b"\n") if received else None)


def _take_query(received: bytes) -> Query | str | None:
    return _query(take_line(received, _MAX_QUERY_BYTES))


def _query(line: bytes | None) -> Query | str | None:
    if line is None:
        return None
    if len(line) > _MAX_QUERY_BYTES:
        return "bad"
    try:
        return parse(line)
    except BadQuery as error:
        return _bad(error)


def cleaner(data: bytes) -> None:
    """Whatever a text has in it, what goes to a client or a log can do no harm there, and the rest of it is kept."""
    for text in (data.decode(errors="replace"), data.decode(errors="surrogateescape"), data.decode("latin-1")):
        cleaned = clean(text)
        assert not FORBIDDEN.search(cleaned)
        assert clean(cleaned) == cleaned
        assert cleaned == text or not text.isprintable()
        assert not text.isprintable() or clean(f"<\x1b[1m{text}\x1b]0;{text}\x07>") == f"<{text}>"
        assert clean(f"<{text}>\n<{text}>") == "\n".join([clean(f"<{text}>")] * 2)
        assert to_wire(text).decode() == (f"{cleaned.removesuffix(chr(10))}\n" if cleaned else "").replace("\n", "\r\n")
        for charset in ("utf-8", "ascii"):
            _check_wire(to_wire(text, charset), charset)
        escaped = escape(text)
        assert escaped.isascii()
        assert escaped.isprintable()
        assert re.fullmatch(r'(?:[^"\\]|\\.)*', escaped)
        assert unescaped(escaped) == text
        assert printable(text).isprintable()
        assert printable(text, kept=text) == text
        entry: Entry = (0.0, text, text, data, text, text, "answered", 0, 0.0, "")
        for line in (text_line("now", entry), json_line("now", entry)):
            assert line.isascii()
            assert line[:-1].isprintable()
        _check_logged(data, json.loads(json_line("now", entry)))


def _check_logged(line: bytes, logged: dict[str, str]) -> None:
    given = logged.get("query_hex")
    assert (logged["query"].encode() if given is None else bytes.fromhex(given)) == line
    assert logged["query"] == line.decode(errors="backslashreplace")


def _check_wire(wire: bytes, charset: str) -> None:
    sent = wire.decode(charset)
    assert not sent or sent.endswith("\r\n")
    assert not FORBIDDEN.search(sent.replace("\r\n", "\n"))
    assert to_wire(sent, charset) == wire
    for max_bytes in {0, 1, 2, 3, 4, len(wire) // 2, len(wire) - 2, len(wire) - 1, len(wire)}:
        kept = truncate(wire, max_bytes)
        assert len(kept) <= max(0, max_bytes)
        assert sent.startswith(kept.decode(charset).removesuffix("\r\n"))
        assert kept.endswith(b"\r\n") or not wire or max_bytes < 2
        assert truncate(kept, max_bytes) == kept


def configuration(data: bytes) -> None:
    """Any file is a configuration, or its mistakes are listed, each on a line that a terminal can show."""
    path = _folder() / "fingergw.toml"
    path.write_bytes(data)
    try:
        found, problems = config.read(path)
        more = build.check(found, MemoryReactorClock())[0]
        mistakes = to_error(problems, found.source).problems
        assert all(mistake.isprintable() for mistake in to_error(more, found.source).problems)
    except ConfigError as error:
        found, mistakes = None, error.problems
    for mistake in mistakes:
        assert mistake.isprintable(), ascii(mistake)
    if mistakes:
        return
    assert found is not None
    path.write_text(config.dumps(found))
    assert config.load(path) == found


@cache
def _folder() -> Path:
    folder = tempfile.TemporaryDirectory(prefix="fingergw-fuzz-")
    _folder.kept = folder  # type: ignore[attr-defined]  # removed with the process
    return Path(folder.name)


def proxy(data: bytes) -> None:
    """Any bytes are a PROXY header and what follows it, or none, or the beginning of one, in whatever pieces."""
    whole = _fed(_take_header, [data])
    for pieces in _pieces(data):
        fed = _fed(_take_header, pieces)
        if isinstance(whole, tuple):
            # the rest comes with what the header's end came with
            assert isinstance(fed, tuple), pieces
            assert fed[0] == whole[0]
            assert whole[1].startswith(fed[1])
        else:
            assert fed == whole, pieces
    if not isinstance(whole, tuple):
        return
    address, rest = whole
    assert data.endswith(rest)
    size = len(data) - len(rest)
    assert 0 < size <= _MAX_HEADER_BYTES
    assert take_header(data[:size]) == (address, b"")
    assert take_header(data[: size - 1]) is None
    if address is not None:
        parsed: Any = ip_address(address)
        assert str(parsed) == address
        assert getattr(parsed, "ipv4_mapped", None) is None
        assert "%" not in address


def _take_header(received: bytes) -> tuple[str | None, bytes] | str | None:
    try:
        return take_header(received)
    except BadProxyHeader as error:
        return _bad(error)


def _bad(error: BadQuery | BadProxyHeader) -> str:
    assert str(error).isprintable()
    return "bad"


def _fed(take: Callable[[bytes], T | None], pieces: Iterable[bytes]) -> T | None:
    """Feed pieces as a connection brings them, until something is made of them."""
    received = b""
    for piece in pieces:
        received += piece
        taken = take(received)
        if taken is not None:
            return taken
    return None


def _pieces(data: bytes) -> Iterable[list[bytes]]:
    """Return ways in which bytes may come: each by itself where they are few, and in two halves."""
    step = max(1, len(data) // 150)
    yield [data[place : place + step] for place in range(0, len(data), step)]
    yield [data[: len(data) // 2], data[len(data) // 2 :]]


TARGETS: dict[str, Callable[[bytes], None]] = {
    "bodies": bodies,
    "cleaner": cleaner,
    "config": configuration,
    "grammar": grammar,
    "proxy": proxy,
}
