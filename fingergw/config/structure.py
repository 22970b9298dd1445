"""Make the classes of tables from raw TOML values, strictly, and find every mistake in them.

What is right in a table is kept beside what is wrong, so that the rest can still be checked: a key with a mistake is as
if it were not given. A table that lacks a key that must be given is kept only where it may hold placeholders.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Final, Literal, TypeAlias, Union, get_args, get_origin

from attrs import NOTHING, Factory, define

from fingergw.config.backend_types import (
    WAITING,
    AnyType,
    BrokenTypeError,
    backend_type,
    describe_exception,
    names,
)
from fingergw.config.forms import form_of
from fingergw.config.model import Backend
from fingergw.config.problems import Problem, nearest, unknown
from fingergw.config.values import KINDS, PATHS, plain, refuse_outside, text
from fingergw.core.errors import ExpectedError, FingergwError
from fingergw.core.settings import Key, KeyPath, incomplete, is_table, keys_of, supertype, takes_placeholders

_WRONG: Final = object()  # in the place of a value with a mistake


@define(eq=False, repr=False)
class _Reading:
    """What is found while values are read.

    :param base: the folder that relative paths are relative to.
    """

    base: Path
    problems: list[Problem] = Factory(list)

    def attempt(self, read: Callable[[object], Any], value: object, path: KeyPath) -> Any:
        """Return what is read of a value; _WRONG, with a problem, if it is not as expected."""
        try:
            return read(value)
        except ExpectedError as error:
            self.problems.append(Problem((*path, *error.path), str(error)))
            return _WRONG


Reader: TypeAlias = Callable[[object, KeyPath, _Reading], Any]


def structure(value: object, kind: Any, path: KeyPath, base: Path) -> tuple[Any, list[Problem]]:
    """Structure one raw value.

    :param path: where it is in the file.
    :param base: the folder that relative paths are relative to.
    :return: the result, without what has mistakes: a list without some of its items, a table with the defaults of some
        keys, without those that have none; None if nothing is left. And the mistakes.
    :raises FingergwError: no type of backend is installed.
    """
    reading = _Reading(base)
    made = (partial(_table, kind) if is_table(kind) else _reader(kind))(value, path, reading)
    return None if made is _WRONG else made, reading.problems


@cache
def _reader(kind: Any) -> Reader:
    """Return what reads the values of a type."""
    if kind in KINDS:
        return partial(_scalar, KINDS[kind].read)
    kinds = [each for each in get_args(kind) if each is not NoneType]
    if get_origin(kind) in (Union, UnionType):
        return _reader(kinds[0]) if len(kinds) == 1 else _either(kinds)
    if kind in PATHS:
        return _path
    if kind is Backend:
        return _backend
    if is_table(kind):
        return partial(_inner_table, kind)
    kind = supertype(kind)
    readers = {Literal: _literal, tuple: _list, dict: _mapping}
    return readers[get_origin(kind)](kind)


def _scalar(read: Callable[[object], object], value: object, path: KeyPath, reading: _Reading) -> Any:
    return reading.attempt(read, value, path)


def _path(value: object, path: KeyPath, reading: _Reading) -> Any:
    return reading.attempt(lambda value: reading.base / text(value), value, path)


def _literal(kind: Any) -> Reader:
    choices = get_args(kind)
    *most, last = (f'"{choice}"' for choice in choices)
    expected = f"expected {', '.join(most)} or {last}" if most else f"expected {last}"

    def read(value: object) -> object:
        if type(value) is not str or value not in choices:
            raise ExpectedError(expected)
        return value

    return partial(_scalar, read)


def _list(kind: Any) -> Reader:
    item = get_args(kind)[0]
    read_item, keeps_places, take = _reader(item), takes_placeholders(item), partial(plain, list, form=form_of(kind))

    def read(value: object, path: KeyPath, reading: _Reading) -> Any:
        items = reading.attempt(take, value, path)
        if items is _WRONG:
            return _WRONG
        made = [read_item(each, (*path, place), reading) for place, each in enumerate(items)]
        if keeps_places:  # they are the places of mistakes that are found later
            return tuple(None if each is _WRONG else each for each in made)
        return tuple(each for each in made if each is not _WRONG)

    return read


def _mapping(kind: Any) -> Reader:
    read_name, read_item = map(_reader, get_args(kind))
    take = partial(plain, dict, form=form_of(kind))

    def read(value: object, path: KeyPath, reading: _Reading) -> Any:
        table = reading.attempt(take, value, path)
        if table is _WRONG:
            return _WRONG
        made = {}
        for name, each in table.items():
            inner = (*path, name)
            own_name, own_value = read_name(name, inner, reading), read_item(each, inner, reading)
            if own_name is not _WRONG and own_value is not _WRONG:
                made[own_name] = own_value
        return made

    return read


def _either(kinds: list[Any]) -> Reader:
    """Return what reads a table, or else a string or false."""
    table, takes_text = next(filter(is_table, kinds)), str in kinds
    read_table = _reader(table)
    expected = f"expected a string, or a table with any of the keys {', '.join(key.name for key in keys_of(table))}"
    if not takes_text:
        expected = f"expected false, or a table such as {form_of(table)}"

    def read(value: object, path: KeyPath, reading: _Reading) -> Any:
        if isinstance(value, str) and takes_text:
            return reading.attempt(text, value, path)
        if isinstance(value, dict):
            return read_table(value, path, reading)
        if value is False and not takes_text:
            return value
        reading.problems.append(Problem(path, expected))
        return _WRONG

    return read


def _inner_table(cls: Any, value: object, path: KeyPath, reading: _Reading) -> Any:
    made = _table(cls, value, path, reading)
    is_complete = made is _WRONG or all(hasattr(made, key.name) for key in keys_of(cls))
    return made if is_complete or takes_placeholders(cls) else _WRONG


def _table(cls: Any, value: object, path: KeyPath, reading: _Reading) -> Any:
    raw = reading.attempt(partial(plain, dict, form=form_of(cls)), value, path)
    if raw is _WRONG:
        return _WRONG
    before = len(reading.problems)
    values = _values(cls, raw, path, reading)
    return _made(cls, values, path, reading, is_whole=len(reading.problems) == before)


def _backend(value: object, path: KeyPath, reading: _Reading) -> Any:
    raw = reading.attempt(partial(plain, dict), value, path)
    if raw is _WRONG:
        return _WRONG
    before = len(reading.problems)
    kind = _type_of(raw, path, reading)
    if kind is None:  # a mistake; what the core adds to a table is checked whatever the type is
        common = {key.name: raw[key.name] for key in keys_of(AnyType) if key.name in raw}
        return Backend("", None, _values(AnyType, common, path, reading).get("cache"))
    known = backend_type(kind)
    values = {**_defaults(known.table), **_values(known.table, raw, path, reading, known="type")}
    own = {key.name: values[key.name] for key in keys_of(known.settings) if key.name in values}
    made = _made(known.settings, own, path, reading, is_whole=len(reading.problems) == before)
    waiting = {key: values[key] for key in WAITING if known.waits is not None}
    return Backend(kind, made, values["cache"], **waiting)


def _type_of(raw: dict[str, object], path: KeyPath, reading: _Reading) -> str | None:
    """Return the type of a backend; None, with a problem, if it cannot be used."""
    kind, where = raw.get("type"), (*path, "type")
    if kind is None:
        why = f'missing key "type"; expected one of: {", ".join(names())}'
        reading.problems.append(Problem(path, why, (where,)))
    elif not isinstance(kind, str):
        reading.problems.append(Problem(where, f"expected a string, one of: {', '.join(names())}"))
    elif kind not in names():
        reading.problems.append(Problem(where, unknown(kind, names(), "backend type")))
    else:
        try:
            return backend_type(kind).name
        except BrokenTypeError as error:
            reading.problems.append(Problem(where, str(error)))
    return None


def _values(
    cls: Any, raw: dict[str, object], path: KeyPath, reading: _Reading, known: str | None = None
) -> dict[str, Any]:
    """Return the values of the keys that are right; what is wrong is added to the problems.

    :param known: a key that the table has beside those of the class.
    """
    keys = _keys(cls)
    strange = sorted(raw.keys() - keys.keys() - {known})
    meant = {name: near for name in strange if (near := nearest(name, keys)) is not None and near not in raw}
    values = {}
    for name, key in keys.items():
        if name in raw:
            made = _bounded(key, raw[name], (*path, name), reading)
            if made is not _WRONG:
                values[name] = made
        elif key.default is NOTHING and name not in meant.values():
            reading.problems.append(Problem(path, f'missing key "{name}"', ((*path, name),)))
    one_of: tuple[str, ...] = getattr(cls, "one_of", ())
    given = [key for key in one_of if raw.get(key, False) is not False]
    if one_of and len(given) != 1 and not (not given and set(one_of) & set(meant.values())):
        why = f"expected exactly one of the keys {', '.join(one_of)}; found {' and '.join(given) or 'none'}"
        # "": what any of them says may be right by itself, and is checked on
        reading.problems.append(Problem(path, why, tuple((*path, key, "") for key in one_of)))
    for name in strange:
        about = ((*path, name), (*path, meant[name])) if name in meant else ()
        reading.problems.append(Problem((*path, name), unknown(name, keys, "key"), about))
    return values


@cache
def _keys(cls: Any) -> dict[str, Key]:
    return {key.name: key for key in keys_of(cls)}


def _bounded(key: Key, value: object, path: KeyPath, reading: _Reading) -> Any:
    """Return the value of a key, which observes the key's own bounds."""
    if key.nonempty and value == []:
        reading.problems.append(Problem(path, "expected a list of at least one item"))
        return _WRONG
    made = _reader(key.type)(value, path, reading)
    if isinstance(made, int | float) and (key.least is not None or key.most is not None):
        return reading.attempt(partial(_within, key.least, key.most), made, path)
    return made


def _within(least: float | None, most: float | None, number: Any) -> object:
    refuse_outside(number, least, most)
    return number


def _defaults(cls: Any) -> dict[str, Any]:
    return {key.name: key.own_default for key in keys_of(cls) if key.own_default is not NOTHING}


def _made(cls: Any, values: dict[str, Any], path: KeyPath, reading: _Reading, *, is_whole: bool) -> Any:
    """Return a table with these values.

    :param is_whole: whether no key of it has a mistake.
    """
    try:
        return cls(**values)
    except (KeyboardInterrupt, FingergwError):
        raise
    except BaseException as error:  # somebody else's class may raise SystemExit
        if is_whole:
            place = error.path if isinstance(error, ExpectedError) else ()
            reading.problems.append(Problem((*path, *place), _told(error), () if place else ((*path, ""),)))
    return incomplete(cls, {**_defaults(cls), **values})


def _told(error: BaseException) -> str:
    told = ""
    if isinstance(error, Exception):
        with suppress(Exception):
            told = str(error)
    return told or describe_exception(error)
