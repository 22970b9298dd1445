"""The types of backends that are installed: our own, and those of other people's packages."""

from __future__ import annotations

import reprlib
import sys
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from functools import cache, partial
from importlib.metadata import EntryPoint, entry_points
from types import NoneType, UnionType
from typing import Any, Final, Literal, TypeVar, Union, get_args, get_origin

import attrs
from attrs import frozen

from fingergw.config.tables import BackendCache
from fingergw.config.values import END_SECONDS
from fingergw.core import setting_types
from fingergw.core.addresses import Network
from fingergw.core.errors import FingergwError
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
from fingergw.core.settings import Key, Waits, bare, is_table, keys_of, setting, settings

T = TypeVar("T")
_OURS = "fingergw.backends."
GROUP: Final = "fingergw.backends"
"""The group of entry points by which a package names its types."""
_PLAIN = (str, bool, int, float, Template)
_AT_THE_TOP = (SecretFile, WatchedFile, AuthoritiesFile, ProgramPath, Argv, Jinja)
_TIMEOUT = "Seconds that an answer may take, waiting for a place included; what takes longer is a failure."
_MAX_RUNNING = "How many answers are got at once; more wait, within the timeout."
_CACHE = "How long answers of this backend are kept. Default: not at all"
_TAKEN = frozenset({"type", "cache", "timeout", "max_running", "breaker"}) | frozenset(
    {"check", "open", "sees", "only_placeholders", "may_vary", "waits", "one_of"}
)
_SEEN = frozenset({"client", "listener", "verbose"})


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
    keys, waits = keys_of(cls), getattr(cls, "waits", None)
    _refuse_unfit(cls, keys, waits)
    added: dict[str, tuple[Any, Any]] = {"cache": (BackendCache | None, setting(_CACHE, default=None))}
    if waits is not None:
        added["timeout"] = (Seconds, setting(_TIMEOUT, default=waits.timeout))
        added["max_running"] = (Count, setting(_MAX_RUNNING, default=waits.max_running))
    types = {name: kind for name, (kind, _) in added.items()}
    fields = {name: field for name, (_, field) in added.items()}
    return settings(type(cls.__name__, (cls,), {"__annotations__": types, "__doc__": cls.__doc__, **fields}))


def _refuse_unfit(cls: Any, keys: tuple[Key, ...], waits: object) -> None:
    """Refuse a class that says what the core cannot do, or would overlook.

    :raises ValueError: it does.
    :raises TypeError: likewise.
    """
    names = {key.name for key in keys}
    for each in attrs.fields(cls):
        if each.name in names and each.name.startswith("_"):
            raise ValueError(f"{each.name}: expected a name that begins with a letter")
        if each.name in _TAKEN:
            raise ValueError(
                f"{each.name}: the core has something else of that name; give the key another name, or leave out "
                "the annotation if it is no key"
            )
        if each.init and each.name not in names:
            raise TypeError(f"{each.name}: expected a setting(), or a field(init=False)")
    if waits is not None and not (
        isinstance(waits, Waits)
        and 0 < waits.timeout < END_SECONDS
        and isinstance(waits.max_running, int)
        and waits.max_running > 0
    ):
        raise ValueError("waits: expected Waits(timeout=..., max_running=...), both above 0")
    for word, known in (("sees", _SEEN), ("one_of", names)):
        said = getattr(cls, word, ())
        if not isinstance(said, tuple) or not known.issuperset(said):
            raise ValueError(f"{word}: expected a tuple of some of: {', '.join(sorted(known)) or '(there is none)'}")
    for key in keys:
        _refuse_key(key, key.name)
        if bare(key.type) is WatchedFile and key.holds is not None:
            _refuse_unknown(key.holds, f"{key.name} holds", is_inner=True)
        default = key.default
        if isinstance(default, attrs.Factory) and not default.takes_self:  # type: ignore[arg-type]  # it is a class
            default = default.factory()
        if not isinstance(default, attrs.Factory) and default is not attrs.NOTHING and not _is_of(default, key.type):  # type: ignore[arg-type]
            raise TypeError(f"{key.name}: its default {reprlib.repr(default)} is not of its type")


def _is_of(value: object, kind: Any) -> bool:
    """Tell whether a value is of a key's type, bounds aside."""
    while hasattr(kind, "__supertype__"):
        kind = kind.__supertype__
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return any(_is_of(value, each) for each in arguments)
    if origin is Literal:
        return value in arguments
    if origin is tuple:
        return isinstance(value, tuple) and all(_is_of(each, arguments[0]) for each in value)
    if origin is dict:
        return isinstance(value, dict) and all(
            _is_of(name, arguments[0]) and _is_of(each, arguments[1]) for name, each in value.items()
        )
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _refuse_key(key: Key, name: str, *, is_inner: bool = False) -> None:
    """Refuse a key of a type that the configuration knows nothing of, or with what it cannot do for that type.

    :param name: where it stands.
    :param is_inner: whether it is of a table in a list or a table.
    :raises TypeError: the type is unknown.
    :raises ValueError: what it says is not for that type.
    """
    _refuse_unknown(key.type, name, is_inner=is_inner)
    kind = bare(key.type)
    if key.nonempty and get_origin(kind) is not tuple:
        raise ValueError(f"{name}: only a list can be nonempty")
    while hasattr(kind, "__supertype__"):
        kind = kind.__supertype__
    if (key.least is not None or key.most is not None) and kind not in (int, float):
        raise ValueError(f"{name}: only a number has least and most")
    if key.secret and kind in (bool, int, float):  # what stands in its place could not be loaded again
        raise ValueError(f"{name}: only a text can be secret")


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
            _refuse_key(inner, f"{key}.{inner.name}", is_inner=True)
    elif origin is tuple and arguments[1:] == [Ellipsis]:
        _refuse_unknown(arguments[0], key, is_inner=True)
    elif origin is dict and getattr(arguments[0], "__supertype__", arguments[0]) is str:
        _refuse_unknown(arguments[1], key, is_inner=True)
    elif origin in (Union, UnionType) and len(arguments) == 2 and str in arguments and any(map(is_table, arguments)):
        _refuse_unknown(next(filter(is_table, arguments)), key, is_inner=True)
    elif not (origin is Literal and all(isinstance(choice, str) for choice in arguments)):
        advice = "; a list is tuple[str, ...], and a table dict[str, str]" if origin in (list, tuple, dict) else ""
        raise TypeError(f"{key}: no key can have the type {kind!r}{advice}")
