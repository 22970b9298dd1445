"""Tables of the configuration as classes: a key's type, default, bounds and sentence stand at its field."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from inspect import cleandoc
from types import MappingProxyType, NoneType, UnionType
from typing import Any, Final, TypeAlias, TypeVar, Union, dataclass_transform, get_args, get_origin, get_type_hints

import attrs
from attrs import NOTHING, frozen

from fingergw.core.placeholders import Template
from fingergw.core.setting_types import Argv, Jinja, Url

T = TypeVar("T")
KeyPath: TypeAlias = tuple[str | int, ...]
"""The keys and list places that lead to something in the configuration."""
_SETTING: Final = "fingergw"
_tables: Final[set[type]] = set()


@frozen
class Waits:
    """Say of a type of backend that it waits for somebody: its table has these keys then, with these defaults.

    :param timeout: seconds that an answer may take, waiting for a place included.
    :param max_running: how many answers are got at once; more wait.
    """

    timeout: float
    max_running: int


@frozen
class Key:
    """A key of a table.

    :param type: of its value: one of :mod:`fingergw.core.setting_types`, or made of these.
    :param default: ``attrs.NOTHING`` where it must be given.
    :param text: its sentence, for schema and reference.
    :param least: the least number that it takes.
    :param most: the greatest.
    :param nonempty: whether a list must have an item.
    :param secret: whether it is shown nowhere.
    :param holds: what is in the file that it names: for a secret a word for it, for TOML the type of the table.
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
        """What it is by default, whatever the others are; ``attrs.NOTHING`` where that is nothing."""
        if isinstance(self.default, attrs.Factory):  # type: ignore[arg-type]  # a class, whatever its type says
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
    """Return a key of a table: what stands at the field of a class that is made by :func:`settings`.

    :param text: its sentence; by default that of the table that is its value.
    :param default: without one the key must be given. A table is copied for each.
    """
    if isinstance(default, dict):
        default = attrs.Factory(default.copy)
    said = {"text": text, "least": least, "most": most, "nonempty": nonempty, "secret": secret, "holds": holds}
    return attrs.field(default=default, repr=not secret, metadata={_SETTING: MappingProxyType(said)})


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(setting, attrs.field))
def settings(cls: type[T]) -> type[T]:
    """Make a class a table of the configuration: frozen, with keyword arguments alone.

    Its docstring is what the table is for. ``one_of`` may name keys of which exactly one must be given.
    """
    made = attrs.frozen(cls, kw_only=True)
    _tables.add(made)
    return made


def is_table(cls: object) -> bool:
    """Tell whether a class was made by :func:`settings`."""
    return isinstance(cls, type) and cls in _tables


@cache
def keys_of(cls: Any) -> tuple[Key, ...]:
    """Return the keys of a table, in the order of the class.

    :raises NameError: the name of a type is not known where the class is.
    """
    types = get_type_hints(cls)
    keys = []
    for each in attrs.fields(cls):
        if _SETTING in each.metadata:
            said, kind = each.metadata[_SETTING], types[each.name]
            said = {**said, "text": said["text"] or (sentence_of(bare(kind)) if is_table(bare(kind)) else "")}
            keys.append(Key(name=each.name, type=kind, default=each.default, **said))
    return tuple(keys)


def sentence_of(cls: Any) -> str:
    """Return what a table is for: the first paragraph of its docstring, in one line."""
    return " ".join(cleandoc(cls.__doc__ or "").partition("\n\n")[0].split())


def changed(table: T, **values: Any) -> T:
    """Return a table with other values at some keys."""
    return attrs.evolve(table, **values)  # type: ignore[misc]  # it is one, which mypy cannot know


@cache
def bare(kind: Any) -> Any:
    """Return a key's type without the None that it may be instead."""
    kinds = [each for each in get_args(kind) if each is not NoneType]
    return kinds[0] if get_origin(kind) in (Union, UnionType) and len(kinds) == 1 else kind


@cache
def supertype(kind: Any) -> Any:
    """Return the type that a value of another has at run time: of ``Seconds`` that is ``float``."""
    while hasattr(kind, "__supertype__"):
        kind = kind.__supertype__
    return kind


@cache
def takes_placeholders(kind: Any) -> bool:
    """Tell whether a type, or one that it is made of, is a text with placeholders."""
    if is_table(kind):
        return any(takes_placeholders(key.type) for key in keys_of(kind))
    return kind in (Template, Url, Argv, Jinja) or any(map(takes_placeholders, get_args(kind)))


def templates_in(value: object, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Template]]:
    """Return the texts with placeholders in a table, and where in it each stands."""
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
            if takes_placeholders(key.type):  # or a map of many names would be gone through
                yield from templates_in(getattr(value, key.name), (*path, key.name))
