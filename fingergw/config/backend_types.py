"""The types of backends that are installed: our own, and those of other people's packages."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from functools import cache, partial
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final, TypeVar

from attrs import frozen

from fingergw.config.class_rules import refuse_unfit
from fingergw.core.errors import FingergwError
from fingergw.core.outcome import BackendCache
from fingergw.core.setting_types import Count, Seconds
from fingergw.core.settings import Waits, is_table, setting, settings

T = TypeVar("T")
_OURS = "fingergw.backends."
GROUP: Final = "fingergw.backends"
"""The group of entry points by which a package names its types."""
_TIMEOUT = "Seconds that an answer may take, waiting for a place included; what takes longer is a failure."
_MAX_RUNNING = "How many answers are got at once; more wait, within the timeout."
_CACHE = "How long answers of this backend are kept. Default: not at all"


class BrokenTypeError(Exception):
    """A package's type of backend cannot be used; the message says which and why."""


class ForeignError(Exception):
    """Somebody else's code has raised something; the message says what."""


@frozen
class BackendType:
    """A type of backend.

    :param name: what the configuration calls it.
    :param settings: the class of its own keys.
    :param table: the class of all keys that its table takes.
    """

    name: str
    settings: Any
    table: Any

    @property
    def waits(self) -> Waits | None:
        """What its keys for waiting are by default; None if it waits for nobody."""
        waits: Waits | None = getattr(self.settings, "waits", None)
        return waits

    @property
    def sees(self) -> frozenset[str]:
        """What of a query it is told beside the name and the groups."""
        return frozenset(getattr(self.settings, "sees", ()))

    @property
    def may_vary(self) -> bool:
        """Whether a cache's ``vary`` may have it told less."""
        return bool(getattr(self.settings, "may_vary", False))


@cache
def _installed() -> dict[str, list[EntryPoint]]:
    """Return what is installed, by the names of the types.

    :raises FingergwError: our own are not there, as fingergw is not installed, or was before it had this group.
    """
    found: dict[str, dict[str, EntryPoint]] = {}
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        # The same class may be named twice: an upgrade that was broken off leaves the old package's names behind.
        found.setdefault(point.name, {}).setdefault(point.value, point)
    if not any(value.startswith(_OURS) for points in found.values() for value in points):
        raise FingergwError("its own types of backends are not installed: install it anew where its code is now")
    return {name: list(points.values()) for name, points in found.items()}


def names() -> tuple[str, ...]:
    """Return the names of the types that are installed."""
    return tuple(_installed())


def backend_type(name: str) -> BackendType:
    """Return a type, which is imported if nobody has asked for it yet.

    :param name: one of :func:`names`.
    :raises BrokenTypeError: its package is not as it should be.
    """
    found = _found(name)
    if isinstance(found, str):
        raise BrokenTypeError(found)
    return found


def run_foreign(code: Callable[[], T]) -> T:
    """Run what is somebody else's. What it prints goes to standard error: it is no part of what a command prints.

    :raises ForeignError: it raised something, be it SystemExit.
    """
    try:
        with redirect_stdout(sys.stderr):
            return code()
    except KeyboardInterrupt:
        raise
    except FingergwError as error:
        raise ForeignError(str(error)) from None
    except BaseException as error:
        raise ForeignError(named(error)) from None


def named(error: BaseException) -> str:
    """Return what was raised by its name, and its text if it has one that can be had."""
    kind, told = type(error).__name__, ""
    with suppress(Exception):
        told = str(error)
    return f"{kind}: {told}" if told else kind


@cache
def _found(name: str) -> BackendType | str:
    """Return a type, or why there is none: a package that cannot be imported is not tried again and again."""
    points = _installed()[name]
    packages = [(point.dist and point.dist.name) or point.value for point in points]
    if len(points) > 1:
        return f'type "{name}" is in several packages: {", ".join(packages)}; remove all but one'
    (point,), (package,) = points, packages
    try:
        cls = run_foreign(point.load)
        why = "" if is_table(cls) else f"{point.value} is no class that is made by fingergw.api.settings"
        if not why and not callable(getattr(cls, "open", None)):
            why = f"{point.value} has no method open"
    except ForeignError as error:
        why = f"{point.value} cannot be imported: {error}"
    if not why:
        try:
            return BackendType(name, cls, run_foreign(partial(_table, cls)))
        except ForeignError as error:
            why = f"the keys of {point.value} cannot be used: {error}"
    return f'type "{name}" of the package {package}: {why}; mend or remove the package'


def _table(cls: Any) -> Any:
    """Return the class of all that a type's table takes: its own keys, and those that the core adds."""
    waits: Waits | None = getattr(cls, "waits", None)
    refuse_unfit(cls)
    added: dict[str, tuple[Any, Any]] = {"cache": (BackendCache | None, setting(_CACHE, default=None))}
    if waits is not None:
        added["timeout"] = (Seconds, setting(_TIMEOUT, default=waits.timeout))
        added["max_running"] = (Count, setting(_MAX_RUNNING, default=waits.max_running))
    types = {name: kind for name, (kind, _) in added.items()}
    fields = {name: field for name, (_, field) in added.items()}
    return settings(type(cls.__name__, (cls,), {"__annotations__": types, "__doc__": cls.__doc__, **fields}))
