"""The types of backends that are installed: our own, and those of other people's packages."""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import NoneType, UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin

from attrs import frozen

from fingergw.config.tables import BackendCache
from fingergw.core import setting_types
from fingergw.core.addresses import Network
from fingergw.core.placeholders import Template
from fingergw.core.setting_types import (
    Argv,
    AuthoritiesFile,
    Count,
    Jinja,
    ProgramPath,
    Seconds,
    SecretFile,
    WatchedFile,
)
from fingergw.core.settings import Waits, bare, is_table, keys_of, setting, settings

GROUP: Final = "fingergw.backends"
"""The group of entry points by which a package names its types."""
_PLAIN = (str, bool, int, float, Template)
_AT_THE_TOP = (SecretFile, WatchedFile, AuthoritiesFile, ProgramPath, Argv, Jinja)
_TIMEOUT = "Seconds that an answer may take, waiting for a place included; what takes longer is a failure."
_MAX_RUNNING = "How many answers are got at once; more wait, within the timeout."
_CACHE = "How long answers of this backend are kept. Default: not at all"


class BrokenTypeError(Exception):
    """A package's type of backend cannot be used; the message says which and why."""


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
        """What of a query it is told, beside what its placeholders use."""
        return frozenset(getattr(self.settings, "sees", ()))

    @property
    def may_vary(self) -> bool:
        """Whether a cache's ``vary`` may have it told less."""
        return bool(getattr(self.settings, "may_vary", False))


@cache
def _installed() -> dict[str, list[EntryPoint]]:
    found: dict[str, list[EntryPoint]] = {}
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        found.setdefault(point.name, []).append(point)
    return found


def names() -> tuple[str, ...]:
    """Return the names of the types that are installed."""
    return tuple(_installed())


@cache
def backend_type(name: str) -> BackendType:
    """Return a type, which is imported if nobody has asked for it yet.

    :param name: one of :func:`names`.
    :raises BrokenTypeError: its package is not as it should be.
    """
    points = _installed()[name]
    packages = [point.dist.name if point.dist is not None else point.module for point in points]
    if len(points) > 1:
        raise BrokenTypeError(f'type "{name}" is in several packages: {", ".join(packages)}; remove all but one')
    (point,), (package,) = points, packages
    try:
        cls = point.load()
    except Exception as error:  # whatever there is in a stranger's module
        raise _broken(name, package, f"{point.value} cannot be imported: {_said(error)}") from None
    if not is_table(cls):
        raise _broken(name, package, f"{point.value} is no class that is made by fingergw.api.settings")
    if not callable(getattr(cls, "open", None)):
        raise _broken(name, package, f"{point.value} has no method open")
    try:
        return BackendType(name, cls, _table(cls))
    except Exception as error:
        raise _broken(name, package, f"the keys of {point.value} cannot be used: {_said(error)}") from None


def _broken(name: str, package: str, why: str) -> BrokenTypeError:
    return BrokenTypeError(f'type "{name}" of the package {package}: {why}; mend or remove the package')


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _table(cls: Any) -> Any:
    """Return the class of all that a type's table takes: its own keys, and those that the core adds."""
    added: dict[str, tuple[Any, Any]] = {"cache": (BackendCache | None, setting(_CACHE, default=None))}
    waits: Waits | None = getattr(cls, "waits", None)
    if waits is not None:
        added["timeout"] = (Seconds, setting(_TIMEOUT, default=waits.timeout))
        added["max_running"] = (Count, setting(_MAX_RUNNING, default=waits.max_running))
    if taken := {key.name for key in keys_of(cls)} & {*added, "type"}:
        raise ValueError(f"{', '.join(sorted(taken))}: the core has a key of that name")
    for key in keys_of(cls):
        _refuse_unknown(key.type, key.name)
    types = {name: kind for name, (kind, _) in added.items()}
    fields = {name: field for name, (_, field) in added.items()}
    return settings(type(cls.__name__, (cls,), {"__annotations__": types, "__doc__": cls.__doc__, **fields}))


def _refuse_unknown(kind: Any, key: str, *, is_inner: bool = False) -> None:
    """Refuse the type of a key if the configuration knows nothing of it.

    :param is_inner: whether it is of what is in a list or a table.
    :raises TypeError: it does not.
    """
    kind = bare(kind)
    origin = get_origin(kind)
    arguments = [each for each in get_args(kind) if each is not NoneType]
    if is_inner and kind in _AT_THE_TOP:
        raise TypeError(f"{key}: only a key of the backend itself can have that type")
    if kind == Network or kind in _PLAIN or getattr(kind, "__module__", "") == setting_types.__name__:
        return
    if is_table(kind):
        for inner in keys_of(kind):
            _refuse_unknown(inner.type, f"{key}.{inner.name}", is_inner=True)
    elif origin is tuple and arguments[1:] == [Ellipsis]:
        _refuse_unknown(arguments[0], key, is_inner=True)
    elif origin is dict and getattr(arguments[0], "__supertype__", arguments[0]) is str:
        _refuse_unknown(arguments[1], key, is_inner=True)
    elif origin in (Union, UnionType) and len(arguments) == 2 and str in arguments and any(map(is_table, arguments)):
        _refuse_unknown(next(filter(is_table, arguments)), key, is_inner=True)
    elif not (origin is Literal and all(isinstance(choice, str) for choice in arguments)):
        raise TypeError(f"{key}: no key can have the type {kind!r}")
