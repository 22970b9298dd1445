"""Convert raw TOML values to the classes of tables, strictly, and report every mistake."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeAlias, Union, get_args, get_origin

from cattrs import BaseValidationError, ClassValidationError, Converter, ForbiddenExtraKeysError
from cattrs.cols import homogenous_tuple_structure_factory, mapping_structure_factory
from cattrs.gen import make_dict_structure_fn, override

from fingergw.config.backend_types import WAITING, BrokenTypeError, backend_type, describe_exception, names
from fingergw.config.model import Backend
from fingergw.config.problems import Problem, unknown
from fingergw.config.values import KINDS, PATHS, plain, refuse_outside, text
from fingergw.core.errors import ExpectedError, FingergwError
from fingergw.core.settings import Key, KeyPath, is_table, keys_of

StructureHook: TypeAlias = Callable[[Any, Any], Any]


def make_converter(base: Path) -> Converter:
    """Return a converter that takes each type as TOML writes it, and nothing else.

    :param base: the folder that relative paths are relative to.
    """
    converter = Converter(forbid_extra_keys=True)
    for kind, form in KINDS.items():
        converter.register_structure_hook(kind, partial(_read, form.read))
    for path in PATHS:
        converter.register_structure_hook(path, lambda value, _: base / text(value))
    converter.register_structure_hook(Backend, partial(_backend, converter))
    for predicate, factory in (
        (_is(Literal), _literal),
        (_is(tuple), partial(_container, list, homogenous_tuple_structure_factory)),
        (_is(dict), partial(_container, dict, mapping_structure_factory)),
        (is_table, partial(_container, dict, _table)),
        (_is_or_table, _or_table),
    ):
        converter.register_structure_hook_factory(predicate, factory)
    return converter


def _read(read: Callable[[object], object], value: object, _: object) -> object:
    return read(value)


def _is(origin: Any) -> Callable[[Any], bool]:
    return lambda kind: get_origin(kind) is origin


def _container(
    raw: type, factory: Callable[[Any, Converter], StructureHook], kind: Any, converter: Converter
) -> StructureHook:
    """Take a list or a table only: cattrs would split a string into its letters."""
    structure = factory(kind, converter)
    return lambda value, to: structure(plain(raw, value), to)


def _literal(kind: Any, _: Converter) -> StructureHook:
    choices = get_args(kind)
    *most, last = (f'"{choice}"' for choice in choices)
    expected = f"expected {', '.join(most)} or {last}" if most else f"expected {last}"

    def structure(value: object, _: object) -> object:
        if type(value) is not str or value not in choices:
            raise ExpectedError(expected)
        return value

    return structure


def _is_or_table(kind: Any) -> bool:
    """Tell whether a value is a table, or else a string or false."""
    kinds = get_args(kind)
    return (
        get_origin(kind) in (Union, UnionType)
        and any(map(is_table, kinds))
        and (str in kinds or Literal[False] in kinds)
    )


def _or_table(kind: Any, converter: Converter) -> StructureHook:
    table, takes_text = next(filter(is_table, get_args(kind))), str in get_args(kind)
    keys = ", ".join(key.name for key in keys_of(table))
    expected = f"expected {'a string' if takes_text else 'false'}, or a table with any of the keys {keys}"

    def structure(value: object, _: object) -> object:
        if isinstance(value, dict):
            return converter.structure(value, table)
        if isinstance(value, str) if takes_text else value is False:
            return value
        raise ExpectedError(expected)

    return structure


def _backend(converter: Converter, value: object, _: object) -> Backend:
    table = dict(plain(dict, value))
    kind = table.pop("type", None)
    if kind is None:
        raise ExpectedError(f'missing key "type"; expected one of: {", ".join(names())}')
    if not isinstance(kind, str):
        raise ExpectedError(f"expected a string, one of: {', '.join(names())}", "type")
    if kind not in names():
        raise ExpectedError(unknown(kind, names(), "backend type"), "type")
    try:
        known = backend_type(kind)
    except BrokenTypeError as error:
        raise ExpectedError(str(error), "type") from None
    made = converter.structure(table, known.table)
    own = known.settings(**{key.name: getattr(made, key.name) for key in keys_of(known.settings)})
    waiting = {key: getattr(made, key) for key in WAITING if known.waits is not None}
    return Backend(kind, own, made.cache, **waiting)


def _table(cls: Any, converter: Converter) -> StructureHook:
    bounded: Any = {key.name: override(struct_hook=hook) for key in keys_of(cls) if (hook := _bounded(key, converter))}
    structure = make_dict_structure_fn(cls, converter, **bounded)
    one_of: tuple[str, ...] = getattr(cls, "one_of", ())

    def structure_one_of(value: dict[str, object], to: Any) -> Any:
        given = [key for key in one_of if value.get(key, False) is not False]
        if len(given) == 1:
            return structure(value, to)
        why = f"expected exactly one of the keys {', '.join(one_of)}; found {' and '.join(given) or 'none'}"
        mistakes: list[Exception] = [ExpectedError(why)]
        try:
            structure(value, to)
        except ClassValidationError as error:
            mistakes += error.exceptions
        raise ClassValidationError(f"While structuring {cls.__name__}", mistakes, cls)

    return structure_one_of if one_of else structure


def _bounded(key: Key, converter: Converter) -> StructureHook | None:
    """Return a hook for a key's value that observes the key's own bounds; None if it has none."""
    if not key.nonempty and key.least is None and key.most is None:
        return None

    def structure(value: object, _: object) -> object:
        if key.nonempty and value == []:
            raise ExpectedError("expected a list of at least one item")
        made = converter.structure(value, key.type)
        if isinstance(made, int | float):
            refuse_outside(made, key.least, key.most)
        return made

    return structure


def structure(converter: Converter, value: object, kind: Any, path: KeyPath) -> tuple[Any, list[Problem]]:
    """Structure one raw value.

    :param path: where it is in the file.
    :return: the result, None if there are problems; and the problems.
    :raises FingergwError: no type of backend is installed.
    """
    try:
        return converter.structure(value, kind), []
    except (KeyboardInterrupt, FingergwError):
        raise
    except BaseException as error:  # somebody else's class may raise SystemExit
        return None, list(_problems(error, path))


def _problems(error: BaseException, path: KeyPath) -> Iterator[Problem]:
    if isinstance(error, ForbiddenExtraKeysError):
        known = [key.name for key in keys_of(error.cl)]
        for name in sorted(error.extra_fields):
            yield Problem((*path, name), unknown(name, known, "key"))
    elif isinstance(error, BaseValidationError):
        placed, others = error.group_exceptions()  # type: ignore[attr-defined]  # both of its subclasses have it
        for inner, note in placed:
            part = note.name if isinstance(error, ClassValidationError) else note.index
            if isinstance(error, ClassValidationError) and isinstance(inner, KeyError):
                yield Problem(path, f'missing key "{part}"')
            else:
                yield from _problems(inner, (*path, part))
        for inner in others:
            yield from _problems(inner, path)
    elif isinstance(error, ExpectedError):
        yield Problem((*path, *error.path), str(error))
    else:  # raised by somebody else's class
        told = ""
        if isinstance(error, Exception):
            with suppress(Exception):
                told = str(error)
        yield Problem(path, told or describe_exception(error))
