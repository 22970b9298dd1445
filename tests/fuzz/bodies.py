"""What an upstream says, through everything that makes a text of it."""

from __future__ import annotations

import codecs
import os
import resource
import signal
import time
from collections.abc import Callable, Iterable
from functools import cache, partial
from pathlib import Path
from typing import TypeVar

from attrs import define

from fingergw.core.text import to_wire, truncate
from fingergw.net.http.charsets import content_type, decode, known_codecs
from fingergw.net.workers import limited
from fingergw.net.workers.conversions import DONE, FAILED, Conversion
from fingergw.net.workers.converting import converted
from fingergw.net.workers.worker import CPU_SECONDS

T = TypeVar("T")

MAX_BYTES = 65536
STALL_SECONDS = 0.05
GROWTH_BYTES = 64 << 20
_ROOM_PER_BYTE = 200
_FORKED_SECONDS = 0.2  # less than a worker has, as that would only be waited for
_UNMEASURED = 100  # inputs, after which all is there that is loaded at its first use
_TEMPLATES = (
    "{{ name }} is on call until {{ until }}",
    "{{ body }}",
    "{{ a or 'nobody' }}{{ body.a.b }}{{ body['keys'] }}",
    "{% for each in body %}{{ loop.index }} {{ each }}\n{% endfor %}",
    "{% for key, value in body|dictsort %}{{ key }}: {{ value|upper|truncate(9) }}{% endfor %}",
    "{{ body|tojson|indent }}{{ a|join(', ')|wordwrap(3) }}",
)
# What these make of a number can take any time in one step, in which Python looks for no signals: only a process ends.
_COSTLY = (
    '{{ "#" * n }}',
    '{{ "x"|center(n) }}',
    '{{ "%*d"|format(n, 1) }}',
    "{{ (10 ** n) % 7 }}",
    "{% for a in range(n) %}{% for b in range(n) %}{% endfor %}{% endfor %}{{ n * n }}",
)


@define
class _Growth:
    """What the memory has grown by, of all inputs but the first."""

    inputs: int = 0
    size: int = 0

    def note(self, grown: int) -> None:
        """Add what it has grown by with one input."""
        self.inputs += 1
        if self.inputs > _UNMEASURED:
            self.size += grown
            assert self.size < GROWTH_BYTES, f"{self.size} bytes more memory after {self.inputs} inputs"


_growth = _Growth()


class _Killed(BaseException):
    """A worker would have been killed."""


def bodies(data: bytes) -> None:
    """Any Content-Type, a line, and any body make a text, or a reason why not; nothing stalls, crashes or grows."""
    before = _memory_bytes()
    unknown = _unknown_codecs()
    unknown.clear()
    head, _, body = data.partition(b"\n")
    said = _at_once(partial(content_type, head.decode("latin-1")))
    assert said.codec is None or said.codec in known_codecs()
    small = body[:MAX_BYTES]
    text = _at_once(partial(decode, small, said.codec))
    _at_once(lambda: truncate(to_wire(text), MAX_BYTES))
    for conversion in _conversions(said.codec):
        _check(_guarded(conversion.request(body)), conversion)
    if b'"n"' in body:
        for template in _COSTLY:
            conversion = Conversion("template", MAX_BYTES, template=template)
            _check(_forked(conversion.request(body)), conversion)
    assert not unknown, f"codecs that were looked up, and are remembered for ever: {unknown}"
    _growth.note(_memory_bytes() - before)


def _conversions(codec: str | None) -> Iterable[Conversion]:
    yield Conversion("text", 4 * MAX_BYTES, codec)
    yield Conversion("html", 4 * MAX_BYTES, codec)
    for template in _TEMPLATES:
        yield Conversion("template", MAX_BYTES, template=template, values={"until": "Friday"})


def _check(reply: bytes | None, conversion: Conversion) -> None:
    if reply is None:  # it took too long, or too much, and the worker was killed
        return
    assert reply[:1] in (DONE, FAILED), reply[:100]
    text = reply[1:].decode()
    assert text or reply.startswith(DONE)
    assert reply.startswith(FAILED) or len(reply) - 1 <= conversion.max_bytes
    if reply.startswith(DONE):
        _at_once(lambda: truncate(to_wire(text), MAX_BYTES))


def _at_once(work: Callable[[], T]) -> T:
    """Do what the event loop does itself, which must not be held.

    Of three times the shortest counts: the first may be that of an import.
    """
    seconds = []
    for _ in range(3):
        begun = time.thread_time()
        result = work()
        seconds.append(time.thread_time() - begun)
        if seconds[-1] < STALL_SECONDS:
            return result
    raise AssertionError(f"the event loop would be held for {min(seconds) * 1e3:.0f} ms")


def _guarded(request: bytes) -> bytes | None:
    """Convert as a worker does, within its limits, but here; None where it would be killed."""
    handler = signal.signal(signal.SIGPROF, _kill)
    memory = resource.getrlimit(resource.RLIMIT_AS)
    try:
        room = max(limited.ROOM_BYTES, _ROOM_PER_BYTE * len(request))
        limited.limit(CPU_SECONDS, (limited.address_space_bytes() or 1 << 30) + room)
        return converted(request)
    except _Killed:
        return None
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, memory)
        signal.signal(signal.SIGPROF, handler)


def _kill(*_: object) -> None:
    raise _Killed


def _forked(request: bytes) -> bytes | None:
    """Convert in a process of its own; None where that is killed."""

    def work() -> bytes:
        try:
            return converted(request)
        except Exception as error:
            return repr(error).encode()  # no reply begins so

    try:
        return limited.run(work, _FORKED_SECONDS)
    except limited.ExceededError:
        return None


@cache
def _unknown_codecs() -> list[str]:
    """Return what the names are put into of which Python is asked for codecs that nobody knows."""
    names: list[str] = []
    codecs.register(names.append)  # asked last, it returns None: it has none either
    return names


def _memory_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
