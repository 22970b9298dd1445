"""The types of backends that are installed: fingergw's own, and those of other packages."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from functools import cache, partial
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final, TypeVar

from attrs import frozen

from fingergw.config.class_rules import refuse_unfit
from fingergw.core.breaker import BreakerSettings, OptionalBreaker
from fingergw.core.errors import FingergwError
from fingergw.core.outcome import BackendCache, VaryingCache
from fingergw.core.setting_types import Count, Seconds
from fingergw.core.settings import Waits, is_table, setting, settings

T = TypeVar("T")
_OURS = "fingergw.backends."
GROUP: Final = "fingergw.backends"
"""The group of entry points by which a package names its types."""
_TIMEOUT = "Seconds that an answer may take, waiting for a place included; after that it is a failure."
_MAX_RUNNING = "The most answers that are asked for at the same time; other queries wait, within the timeout."
_BREAKER = (
    "When the backend is left alone: after a number of failures in a row it fails at once, until a query that tries is "
    "answered. false: never"
)
WAITING: Final = ("timeout", "max_running", "breaker")
"""The keys that a type gets because it waits for others."""
_CACHE = "How long answers of this backend are kept. Default: not at all"


@settings
class AnyType:
    """What the table of a backend may have whatever its type is."""

    timeout: Seconds | None = setting(_TIMEOUT, default=None)
    max_running: Count | None = setting(_MAX_RUNNING, default=None)
    breaker: OptionalBreaker = setting(_BREAKER, default=False)
    cache: VaryingCache | None = setting(_CACHE, default=None)


class BrokenTypeError(Exception):
    """A package's type of backend cannot be used; the message says which and why."""


class ForeignError(Exception):
    """The code of another package has raised something; the message says what."""


@frozen(eq=False, repr=False)
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
        """The defaults of its keys for waiting; None if it waits for nobody."""
        waits: Waits | None = getattr(self.settings, "waits", None)
        return waits

    @property
    def sees(self) -> frozenset[str]:
        """The parts of a query that it is told, besides the name and the groups."""
        return frozenset(getattr(self.settings, "sees", ()))


@cache
def _installed() -> dict[str, list[EntryPoint]]:
    """Return the entry points that are installed, by the names of the types.

    :raises FingergwError: fingergw's own are missing: it is not installed, or was before it had them.
    """
    found: dict[str, dict[str, EntryPoint]] = {}
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        # The same class may be named twice: an interrupted upgrade leaves the old package's metadata behind.
        found.setdefault(point.name, {}).setdefault(point.value, point)
    if not any(value.startswith(_OURS) for points in found.values() for value in points):
        raise FingergwError(
            "fingergw's own types of backends are not registered; install fingergw again from where its code is"
        )
    return {name: list(points.values()) for name, points in found.items()}


def names() -> tuple[str, ...]:
    """Return the names of the types that are installed."""
    return tuple(_installed())


def backend_type(name: str) -> BackendType:
    """Return a type; its package is imported when it is first asked for.

    :param name: one of :func:`names`.
    :raises BrokenTypeError: its package cannot be used.
    """
    found = _found(name)
    if isinstance(found, str):
        raise BrokenTypeError(found)
    return found


def run_foreign(code: Callable[[], T]) -> T:
    """Run the code of another package. What it prints goes to standard error, as it is not a command's output.

    :raises ForeignError: it raised anything, even SystemExit.
    """
    try:
        with redirect_stdout(sys.stderr):
            return code()
    except KeyboardInterrupt:
        raise
    except FingergwError as error:
        raise ForeignError(str(error)) from None
    except BaseException as error:
        raise ForeignError(describe_exception(error)) from None


def describe_exception(error: BaseException) -> str:
    """Return an exception's name, with its text if it has one."""
    kind, told = type(error).__name__, ""
    with suppress(Exception):
        told = str(error)
    return f"{kind}: {told}" if told else kind


@cache
def _found(name: str) -> BackendType | str:
    """Return a type, or why it cannot be used: a package that cannot be imported is tried only once."""
    points = _installed()[name]
    if len(points) > 1:
        return f'type "{name}" is in several packages: {", ".join(map(_package, points))}; uninstall all but one'
    (point,) = points
    try:
        cls = run_foreign(point.load)
        why = "" if is_table(cls) else f"{point.value} is not a class with the decorator fingergw.api.settings"
        if not why and not callable(getattr(cls, "open", None)):
            why = f"{point.value} has no method open"
    except ForeignError as error:
        why = f"{point.value} cannot be imported: {error}"
    if not why:
        try:
            return BackendType(name, cls, run_foreign(partial(_table, cls)))
        except ForeignError as error:
            why = f"the keys of {point.value} cannot be used: {error}"
    return f'type "{name}" of the package {_package(point)}: {why}; upgrade or uninstall the package'


def _package(point: EntryPoint) -> str:
    return (point.dist and point.dist.name) or point.value  # its metadata is parsed for that


def _table(cls: Any) -> Any:
    """Return the class of a type's whole table: its own keys, and those that the core adds."""
    waits: Waits | None = getattr(cls, "waits", None)
    refuse_unfit(cls)
    kept = VaryingCache if getattr(cls, "may_vary", False) else BackendCache
    types: dict[str, Any] = {"cache": kept | None}
    fields = {"cache": setting(_CACHE, default=None)}
    if waits is not None:
        types |= {"timeout": Seconds, "max_running": Count, "breaker": OptionalBreaker}
        fields["timeout"] = setting(_TIMEOUT, default=waits.timeout)
        fields["max_running"] = setting(_MAX_RUNNING, default=waits.max_running)
        fields["breaker"] = setting(_BREAKER, default=waits.breaker and BreakerSettings())
    return settings(type(cls.__name__, (cls,), {"__annotations__": types, "__doc__": cls.__doc__, **fields}))
