"""Values that are loaded from files, and loaded again when the files change."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar

from attrs import define, evolve, field, frozen
from twisted.python.failure import Failure

from fingergw.core.errors import ConfigError, FingergwError
from fingergw.net.root import in_chroot, usable_now
from fingergw.net.threads import Run, at_once

T = TypeVar("T")
LOOK_SECONDS = 1.0
"""How often the files are looked at; one that changed less than this ago may be half-written."""
PATIENCE_SECONDS = 0.01
"""How long whoever asks after a pause waits for a look, so as to be told at once what has changed meanwhile."""

_State: TypeAlias = tuple[int, ...]
"""A file's ctime in nanoseconds, mtime in nanoseconds, size, inode and device; for one out of reach the errno alone."""


@frozen(eq=False, repr=False)
class _Kept(Generic[T]):
    """What is kept of the files.

    :param seen: their states at the last look.
    :param loaded: their states when the value was loaded; None: load again, whatever is seen.
    """

    value: T
    seen: tuple[_State, ...]
    loaded: tuple[_State, ...] | None


@define(eq=False, repr=False)
class Watched(Generic[T]):
    """Keep the value of files, and load it again when somebody asks for it after one of them has changed.

    Nothing runs in between. A file may be written in place, be replaced, or belong together with others: a change is
    loaded once a look interval has passed without another change, or at the second look if changes never pause. A
    value that cannot be loaded leaves the previous one in use.

    :param load: returns the value; what it raises the first time is passed on. It may be called in another thread.
    :param files: likewise; returns the files that the value comes from, by their paths outside of a chroot.
    :param report: called once for each change that cannot be loaded, with the reason.
    :param seconds: a monotonic clock.
    :param now: the time of day in seconds since 1970, to compare with the files' ctime.
    :param run: runs a look, with the loading that it leads to, as both may take long; not the first.
    """

    load: Callable[[], T]
    files: Callable[[], Iterable[Path]]
    report: Callable[[str], object]
    seconds: Callable[[], float] = time.monotonic
    now: Callable[[], float] = time.time
    run: Run = at_once
    _make: Callable[[Any], Any] | None = field(init=False, default=None)
    _kept: _Kept[T] = field(init=False)
    _next_look: float = field(init=False)
    _look: object = field(init=False, default=None)  # the one that is under way

    def __attrs_post_init__(self) -> None:
        seen = self._states()
        loaded = None if self._may_be_changing(seen) else seen
        self._kept = _Kept(self.load(), seen, loaded)
        self._next_look = self.seconds() + LOOK_SECONDS

    def current(self) -> T:
        """Return the value of the files as they were at the last look, or when they could last be loaded.

        If it is time, a look begins. It is waited for only briefly, and only after a pause in which nobody has asked.
        """
        now = self.seconds()
        if now >= self._next_look and self._look is None:
            patience = PATIENCE_SECONDS if now >= self._next_look + LOOK_SECONDS else 0.0
            self._next_look = now + LOOK_SECONDS
            self._look = look = object()
            looking = self.run(partial(self._refreshed, self._kept), patience)
            looking.addCallbacks(partial(self._end_look, look), partial(self._fail_look, look))
        return self._kept.value

    def make(self, make: Callable[[T], Any]) -> None:
        """Have the value be what is made of it, now and whenever it is loaded again. Call it before anybody asks."""
        load, kept = self.load, self._kept
        self._make, self.load = make, lambda: make(load())
        self._kept = evolve(kept, value=make(kept.value))

    def prepare(self, newer: Watched[Any]) -> None:
        """Make of another's value what is made of this one's, if it is to be taken over."""
        if self._make is not None and self._differs(newer):
            newer.make(self._make)

    def catch_up(self, newer: Watched[T]) -> None:
        """Take over the value that another has just loaded from the same files, if it may differ.

        A look that is under way, and may hang, is given up.
        """
        self._look = None
        if self._differs(newer) and newer._make is self._make:
            self._kept, self._next_look = newer._kept, newer._next_look

    def _differs(self, newer: Watched[T]) -> bool:
        return newer._kept.seen != self._kept.loaded

    def _end_look(self, look: object, found: tuple[_Kept[T], str]) -> None:
        if self._look is look:
            self._look = None
            self._kept, why = found
            if why:
                self.report(why)

    def _fail_look(self, look: object, failure: Failure) -> None:
        if self._look is look:
            self._look = None
            self.report(f"unforeseen {type(failure.value).__name__}")

    def _refreshed(self, kept: _Kept[T]) -> tuple[_Kept[T], str]:
        """Return what is to be kept after a look, and what is to be reported."""
        seen = self._states()  # before loading, so that a later write is seen next time
        if seen == kept.loaded:
            return evolve(kept, seen=seen), ""
        is_settled = seen == kept.seen or not self._may_be_changing(seen)
        if not is_settled and kept.seen == kept.loaded:
            # the change has only just been noticed; give whoever makes it until the next look
            return evolve(kept, seen=seen), ""
        loaded = seen if is_settled else None
        try:
            return _Kept(self.load(), seen, loaded), ""
        except Exception as error:  # whatever it is, the previous value is better than none
            return _Kept(kept.value, seen, loaded), _reason(error) if is_settled else ""

    def _states(self) -> tuple[_State, ...]:
        """Return the states of the files that stay within reach after a change of the root."""
        return tuple(_state(path) for path in self.files() if in_chroot(path) is not None)

    def _may_be_changing(self, states: Iterable[_State]) -> bool:
        """Tell whether a file is gone, perhaps for a moment, or has just changed; a ctime far in the future is old."""
        now = self.now()
        return any(len(state) == 1 or abs(now - state[0] / 1e9) < LOOK_SECONDS for state in states)


def _state(path: Path) -> _State:
    try:
        found = usable_now(path).stat()
    except (OSError, ValueError) as error:
        return (getattr(error, "errno", None) or 0,)
    return found.st_ctime_ns, found.st_mtime_ns, found.st_size, found.st_ino, found.st_dev


def _reason(error: Exception) -> str:
    if isinstance(error, ConfigError):
        return "; ".join(error.problems)
    return str(error) if isinstance(error, FingergwError) else f"unforeseen {type(error).__name__}"
