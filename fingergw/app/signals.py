"""The process's signals: who acts on them, and holding those that come before anybody can.

The first module that the command imports, so it imports next to nothing itself.
"""

from __future__ import annotations

import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any, Final

ALL: Final = (signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM, signal.SIGINT)
"""The signals that mean something to a gateway."""

_acts: dict[int, list[Callable[[], object]]] = {}
_earlier: dict[int, Any] = {}  # the handlers that ours have replaced
_held: set[int] = set()
_waiting: list[int] = []


def hold(*numbers: int) -> None:
    """Have signals wait, each at most once, until :func:`release`; nobody acts on them any more.

    In any thread but the main one, where Python handles no signals, this does nothing.

    :param numbers: default: all of :data:`ALL`.
    """
    for number in numbers or ALL:
        if _install(number):
            _held.add(number)
            _acts.pop(number, None)


def add(act: Callable[[], object], *numbers: int) -> None:
    """Have something act on signals, beside all that does so already.

    :param act: called within the handler, so it should only tell the reactor.
    """
    for number in numbers:
        if _install(number):
            _acts.setdefault(number, []).append(act)


def remove(act: Callable[[], object], *numbers: int, at_end: bool = False) -> None:
    """Undo :func:`add`; after the last one, the earlier handler is back in its place.

    :param at_end: whether the process is about to end, so that signals are ignored rather than kill it.
    """
    for number in numbers:
        acts = _acts.get(number, [])
        if act in acts:
            acts.remove(act)
            if not acts and number not in _held:
                _restore(number, at_end=at_end)


def was_ignored(number: int) -> bool:
    """Tell whether a signal was ignored before anybody here acted on it, as with nohup."""
    return bool(_earlier.get(number, signal.getsignal(number)) == signal.SIG_IGN)


def release(*numbers: int) -> None:
    """Have signals wait no longer. Those that did are sent again, to the earlier handlers where nobody acts on them.

    :param numbers: default: all that are held.
    """
    for number in numbers or tuple(_held):
        _held.discard(number)
        if _acts.get(number):
            signal.signal(number, _caught)  # a reactor that has begun to run has its own for SIGTERM
        else:
            _restore(number)
    for number in [each for each in _waiting if each not in _held]:
        _waiting.remove(number)
        signal.raise_signal(number)


def drop(*numbers: int) -> None:
    """Forget those that wait.

    :param numbers: default: all.
    """
    _waiting[:] = [number for number in _waiting if numbers and number not in numbers]


def ignore() -> None:
    """Ignore them from now on, as the process ends: Python itself restores the defaults a little before that."""
    forget()
    for number in ALL:
        signal.signal(number, signal.SIG_IGN)


def forget() -> None:
    """Undo everything; those that wait are lost."""
    _held.clear()
    drop()
    for number in tuple(_earlier):
        _acts.pop(number, None)
        _restore(number)


def _install(number: int) -> bool:
    if number in _earlier:
        return True
    if number == signal.SIGINT and signal.getsignal(number) == signal.SIG_IGN:
        return False  # the shell has it ignored for what runs in the background
    try:
        _earlier[number] = signal.signal(number, _caught)
    except ValueError:  # not in the main thread
        return False
    return True


def _restore(number: int, *, at_end: bool = False) -> None:
    earlier = _earlier.pop(number, None)
    if signal.getsignal(number) is not _caught:  # somebody else's by now
        return
    if at_end and earlier in (signal.SIG_DFL, signal.default_int_handler):
        earlier = signal.SIG_IGN
    signal.signal(number, signal.SIG_DFL if earlier is None else earlier)


def _caught(number: int, frame: FrameType | None) -> None:
    if number in _held:
        if number not in _waiting:
            _waiting.append(number)
        return
    for act in tuple(_acts.get(number, ())):
        act()
    earlier = _earlier.get(number)
    if callable(earlier) and earlier is not signal.default_int_handler:  # twistd has a log to reopen
        earlier(number, frame)
