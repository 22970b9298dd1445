"""Values that are loaded from files, and loaded again when the files change."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Generic, TypeAlias, TypeVar

from attrs import define, field

from fingergw.core.errors import ConfigError, FingergwError
from fingergw.net.root import in_chroot, usable_now

T = TypeVar("T")
LOOK_SECONDS = 1.0
"""How often the files are looked at; one that changed less than this ago may be half-written."""

_State: TypeAlias = tuple[int, ...]
"""A file's ctime in nanoseconds, mtime in nanoseconds, size, inode and device; for one out of reach the errno alone."""


@define(eq=False)
class Watched(Generic[T]):
    """Keep the value of files, and load it again when somebody asks for it after one of them has changed.

    Nothing runs in between. A file may be written in place, be replaced, or belong together with others: a change is
    loaded once a look interval has passed without another change, or at the second look if changes never pause. A
    value that cannot be loaded leaves the previous one in use.

    :param load: returns the value; what it raises the first time is passed on.
    :param files: returns the files that the value comes from, by the paths that they have outside of a chroot.
    :param report: called once for each change that cannot be loaded, with the reason.
    :param seconds: a monotonic clock.
    :param now: the time of day in seconds since 1970, to compare with the files' ctime.
    """

    load: Callable[[], T] = field(repr=False)
    files: Callable[[], Iterable[Path]] = field(repr=False)
    report: Callable[[str], object] = field(repr=False)
    seconds: Callable[[], float] = field(repr=False, default=time.monotonic)
    now: Callable[[], float] = field(repr=False, default=time.time)
    _value: T = field(init=False, repr=False)  # it may be a secret
    _seen: tuple[_State, ...] = field(init=False, repr=False)  # at the last look
    _loaded: tuple[_State, ...] | None = field(init=False, repr=False)  # None: load again, whatever is seen
    _next_look: float = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._seen = self._look()
        self._loaded = None if self._may_be_changing(self._seen) else self._seen
        self._value = self.load()
        self._next_look = self.seconds() + LOOK_SECONDS

    def current(self) -> T:
        """Return the value of the files as they are, or as they were when they could last be loaded."""
        now = self.seconds()
        if now >= self._next_look:
            self._next_look = now + LOOK_SECONDS
            self._refresh()
        return self._value

    def catch_up(self, newer: Watched[T]) -> None:
        """Take over the value that another has just loaded from the same files, if it may differ."""
        if newer._seen != self._loaded:
            self._value, self._seen, self._loaded = newer._value, newer._seen, newer._loaded
            self._next_look = newer._next_look

    def _refresh(self) -> None:
        seen, self._seen = self._seen, self._look()  # before loading, so that a later write is seen next time
        if self._seen == self._loaded:
            return
        is_settled = self._seen == seen or not self._may_be_changing(self._seen)
        if not is_settled and seen == self._loaded:
            return  # the change has only just been noticed; give whoever makes it until the next look
        self._loaded = self._seen if is_settled else None
        try:
            self._value = self.load()
        except Exception as error:  # whatever it is, the previous value is better than none
            if is_settled:
                self.report(_reason(error))

    def _look(self) -> tuple[_State, ...]:
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
