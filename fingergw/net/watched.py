"""Files that change while they are in use, and what was made of them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from attrs import define, field

from fingergw.core.errors import ConfigError, FingergwError
from fingergw.net.root import here, later

T = TypeVar("T")
_LOOK_SECONDS = 1.0
# A file that changed less than this ago may be half-written, and another write could leave its time as it is.
_SETTLED_SECONDS = 1.0


class _Mark(NamedTuple):
    """What tells a file from what it was.

    :param changed: in nanoseconds; the kernel alone moves it, at each write, chmod and chown. For a file that is not
        there, or not to be reached, the error's number, and nothing else.
    """

    changed: int
    modified: int = 0
    size: int = 0
    inode: int = 0
    device: int = 0


@define(eq=False)
class Watched(Generic[T]):
    """Keep what was made of files, and make it anew when one of them has changed and somebody asks.

    Nothing runs in between. A file may be written in place, or replaced, or be one of several that belong together:
    what is being written is left alone for a second, and what cannot be used leaves the old value as it is.

    :param load: makes the value; what it raises the first time is passed on.
    :param files: says which files it is made of, as they are called outside of a chroot.
    :param report: called once for each change that cannot be used, with what is wrong.
    :param seconds: a clock that never goes back.
    :param now: the time of day, in seconds since 1970, which is what files have.
    """

    load: Callable[[], T] = field(repr=False)
    files: Callable[[], Iterable[Path]] = field(repr=False)
    report: Callable[[str], object] = field(repr=False)
    seconds: Callable[[], float] = field(repr=False, default=time.monotonic)
    now: Callable[[], float] = field(repr=False, default=time.time)
    _value: T = field(init=False, repr=False)  # it may be a secret
    _marks: tuple[_Mark, ...] = field(init=False, repr=False)  # of the last try
    _is_settled: bool = field(init=False, repr=False)  # whether there is nothing to try until they change
    _has_waited: bool = field(init=False, repr=False, default=False)
    _next_look: float = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._marks = self._look()
        self._is_settled = self._age(self._marks) >= _SETTLED_SECONDS
        self._value = self.load()
        self._next_look = self.seconds() + _LOOK_SECONDS

    def current(self) -> T:
        """Return what was made of the files as they are, or as they were when they could be used last."""
        now = self.seconds()
        if now >= self._next_look:
            self._next_look = now + _LOOK_SECONDS
            self._refresh(now)
        return self._value

    def catch_up(self, newer: Watched[T]) -> None:
        """Take over what another has made of the same files, if that may be something else."""
        if newer._marks != self._marks or not self._is_settled:
            self._value, self._marks, self._is_settled = newer._value, newer._marks, newer._is_settled
            self._has_waited, self._next_look = False, newer._next_look

    def _refresh(self, now: float) -> None:
        marks = self._look()  # before they are read: what is written after that is seen the next time
        if marks == self._marks and self._is_settled:
            self._has_waited = False
            return
        age = self._age(marks)
        is_young = age < _SETTLED_SECONDS
        if (is_young or not all(mark.inode for mark in marks)) and not self._has_waited:
            self._has_waited = True  # once: a file that is written all the time is read too
            if is_young:
                self._next_look = now + _SETTLED_SECONDS - max(age, 0.0)
            return
        self._has_waited = False
        self._marks, self._is_settled = marks, not is_young
        try:
            self._value = self.load()
        except Exception as error:  # whatever it is, what there was is better than nothing
            if self._is_settled:
                self.report(f"{_reason(error)}{_advice(self._lasting())}")

    def _look(self) -> tuple[_Mark, ...]:
        return tuple(map(_mark, self._lasting()))

    def _lasting(self) -> Iterable[Path]:
        """Return the files that stay within reach, whatever becomes of the root."""
        return (path for path in self.files() if later(path) is not None)

    def _age(self, marks: Iterable[_Mark]) -> float:
        """Return for how long nothing has changed, in seconds; a time that is to come is no age."""
        now = self.now()
        ages = (now - mark.changed / 1e9 for mark in marks if mark.inode)
        return min((age for age in ages if age > -_SETTLED_SECONDS), default=_SETTLED_SECONDS)


def _mark(path: Path) -> _Mark:
    try:
        found = here(path).stat()
    except (OSError, ValueError) as error:
        return _Mark(getattr(error, "errno", None) or 0)
    return _Mark(found.st_ctime_ns, found.st_mtime_ns, found.st_size, found.st_ino, found.st_dev)


def _reason(error: Exception) -> str:
    if isinstance(error, ConfigError):
        return "; ".join(error.problems)
    return str(error) if isinstance(error, FingergwError) else f"unforeseen {type(error).__name__}"


def _advice(paths: Iterable[Path]) -> str:
    """Return what to do where a file cannot be read, which is often so since privileges were shed."""
    denied = [path for path in paths if _is_denied(path)]
    names = ", ".join(map(str, denied))
    return f"; see to it that the gateway's group can read {names}, and enter the folder" if denied else ""


def _is_denied(path: Path) -> bool:
    try:
        os.close(os.open(here(path), os.O_RDONLY | os.O_NONBLOCK))
    except PermissionError:
        return True
    except (OSError, ValueError):
        pass
    return False
