"""Tables of the configuration as classes: each field has its key's type, default, bounds and sentence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from inspect import cleandoc
from types import MappingProxyType, NoneType, UnionType
from typing import Any, Final, TypeAlias, TypeVar, Union, dataclass_transform, get_args, get_origin, get_type_hints

import attrs
from attrs import NOTHING, frozen

from fingergw.core.placeholders import Template
from fingergw.core.setting_types import Argv, Jinja, SecretFile, Url

T = TypeVar("T")
KeyPath: TypeAlias = tuple[str | int, ...]
"""The keys and list positions that lead to something in the configuration."""
_SETTING: Final = "fingergw"
_tables: Final[set[type]] = set()


@frozen
class Waits:
    """The defaults of the keys that a type of backend gets because it waits for others.

    :param timeout: seconds that an answer may take, waiting for a place included.
    :param max_running: how many answers it works on at the same time; other queries wait.
    :param breaker: whether there is a breaker: after failures in a row it is not asked for a while.
    """

    timeout: float
    max_running: int
    breaker: bool = True


@frozen
class Key:
    """A key of a table.

    :param type: the type of its value: one of :mod:`fingergw.core.setting_types`, or a list or table of these.
    :param default: ``attrs.NOTHING`` if it must be given.
    :param text: its sentence, for the schema and the reference.
    :param least: the lower bound of a number.
    :param most: the upper bound of a number.
    :param nonempty: whether a list must have an item, as an Argv must.
    :param secret: whether its value is hidden wherever the configuration is shown.
    :param holds: what its file contains: for a SecretFile, or each of a table of these, what to call the secret, for a
        TOML file the table's type.
    """

    name: str
    type: Any
    default: Any
    text: str
    least: float | None
    most: float | None
    nonempty: bool
    secret: bool
    holds: Any

    @property
    def own_default(self) -> Any:
        """Its default, if that does not depend on other keys; else ``attrs.NOTHING``."""
        if isinstance(self.default, attrs.Factory):  # type: ignore[arg-type]  # it is a class
            return NOTHING if self.default.takes_self else self.default.factory()
        return self.default


def setting(
    text: str = "",
    *,
    default: Any = NOTHING,
    least: float | None = None,
    most: float | None = None,
    nonempty: bool = False,
    secret: bool = False,
    holds: Any = None,
) -> Any:
    """Return the field for a key, in a class with the decorator :func:`settings`.

    The parameters are those of :class:`Key`.

    :param text: its sentence; by default that of the table that is its value.
    :param default: without one the key must be given. A dict is copied for each instance.
    """
    if isinstance(default, dict):
        default = attrs.Factory(default.copy)
    said = {"text": text, "least": least, "most": most, "nonempty": nonempty, "secret": secret, "holds": holds}
    return attrs.field(default=default, repr=not secret, metadata={_SETTING: MappingProxyType(said)})


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(setting, attrs.field))
def settings(cls: type[T]) -> type[T]:
    """Make a class a table of the configuration: frozen, with keyword-only arguments.

    The first paragraph of its docstring says what the table is for. ``one_of`` may name keys of which exactly one must
    be given.
    """
    made = attrs.frozen(cls, kw_only=True)
    _tables.add(made)
    return made


def is_table(cls: object) -> bool:
    """Tell whether a class has the decorator :func:`settings`."""
    return isinstance(cls, type) and cls in _tables


@cache
def keys_of(cls: Any) -> tuple[Key, ...]:
    """Return the keys of a table, in the order of the class.

    :raises NameError: a type has a name that its module does not know.
    """
    types = get_type_hints(cls)
    keys = []
    for each in attrs.fields(cls):
        if _SETTING in each.metadata:
            said, kind = each.metadata[_SETTING], types[each.name]
            own = without_none(kind)
            text = said["text"] or (sentence_of(own) if is_table(own) else "")
            said = {**said, "text": text, "nonempty": said["nonempty"] or own is Argv}
            keys.append(Key(name=each.name, type=kind, default=each.default, **said))
    return tuple(keys)


def sentence_of(cls: Any) -> str:
    """Return the sentence of a table: the first paragraph of its docstring, in one line."""
    return " ".join(cleandoc(cls.__doc__ or "").partition("\n\n")[0].split())


def changed(table: T, **values: Any) -> T:
    """Return a copy of a table with other values for some keys."""
    return attrs.evolve(table, **values)  # type: ignore[misc]  # T is an attrs class


def is_same(one: object, other: object) -> bool:
    """Tell whether two values of the configuration are equal.

    It goes step by step, as other threads wait while Python itself compares two large dicts.
    """
    if type(one) is not type(other):
        return one == other
    if isinstance(one, dict) and isinstance(other, dict):
        return len(one) == len(other) and all(key in other and is_same(one[key], other[key]) for key in one)
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(is_same, one, other))
    if attrs.has(type(one)):
        names = [field.name for field in attrs.fields(type(one)) if field.eq]  # type: ignore[arg-type]
        return all(is_same(getattr(one, name), getattr(other, name)) for name in names)
    return one == other


def incomplete(cls: type[T], values: Mapping[str, Any]) -> T:
    """Return a table with values for some of its keys; to read another key raises AttributeError."""
    made = object.__new__(cls)
    for name, value in values.items():
        object.__setattr__(made, name, value)
    return made


@cache
def without_none(kind: Any) -> Any:
    """Return the type of a key without ``| None``."""
    kinds = [each for each in get_args(kind) if each is not NoneType]
    return kinds[0] if get_origin(kind) in (Union, UnionType) and len(kinds) == 1 else kind


@cache
def is_secrets(kind: Any) -> bool:
    """Tell whether a type is a table of secrets, each in a file: ``dict[str, SecretFile]``, whatever its names are."""
    return get_origin(kind) is dict and get_args(kind)[1] is SecretFile


@cache
def supertype(kind: Any) -> Any:
    """Return the type that a value has at run time: for ``Seconds`` that is ``float``."""
    while hasattr(kind, "__supertype__"):
        kind = kind.__supertype__
    return kind


@cache
def takes_placeholders(kind: Any) -> bool:
    """Tell whether a type has placeholders, or contains a type that has some."""
    if is_table(kind):
        return any(takes_placeholders(key.type) for key in keys_of(kind))
    return kind in (Template, Url, Argv, Jinja) or any(map(takes_placeholders, get_args(kind)))


def templates_in(value: object, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Template]]:
    """Return the texts with placeholders in a table, each with its path; it may lack keys that have mistakes."""
    if isinstance(value, Template):
        yield path, value
    elif isinstance(value, tuple):
        for place, inner in enumerate(value):
            yield from templates_in(inner, (*path, place))
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from templates_in(inner, (*path, name))
    elif is_table(type(value)):
        for key in keys_of(type(value)):  # type: ignore[arg-type]  # a class has a hash
            if takes_placeholders(key.type):  # else every entry of a large map would be visited
                yield from templates_in(getattr(value, key.name, None), (*path, key.name))
