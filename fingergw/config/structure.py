"""Raw TOML values into the classes of tables, strictly, with every mistake reported."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeAlias, Union, get_args, get_origin

from cattrs import ClassValidationError, Converter, ForbiddenExtraKeysError, IterableValidationError
from cattrs.cols import homogenous_tuple_structure_factory, mapping_structure_factory
from cattrs.gen import make_dict_structure_fn, override

from fingergw.config import values
from fingergw.config.backend_types import BrokenTypeError, backend_type, named, names
from fingergw.config.model import Backend
from fingergw.config.problems import Problem, unknown
from fingergw.config.values import ExpectedError
from fingergw.core.placeholders import Template
from fingergw.core.setting_types import FILES, Argv, FilePath
from fingergw.core.settings import Key, KeyPath, is_table, keys_of

StructureHook: TypeAlias = Callable[[Any, Any], Any]
PATHS = (FilePath, *FILES)
_ONE = "expected at least one"


def make_converter(base: Path) -> Converter:
    """Return a converter that takes each type as TOML writes it and nothing else.

    :param base: the folder that relative paths are relative to.
    """
    converter = Converter(forbid_extra_keys=True)
    for kind in (bool, int):
        converter.register_structure_hook(kind, lambda value, to: values.plain(to, value))
    for new_type, hook in values.HOOKS.items():
        converter.register_structure_hook(new_type, hook)
    for path in PATHS:
        converter.register_structure_hook(path, lambda value, _: base / values.text(value, _))
    converter.register_structure_hook(Argv, partial(_argv, converter))
    converter.register_structure_hook(Backend, partial(_backend, converter))
    converter.register_structure_hook_factory(_is(Literal), _literal)
    for predicate, raw, factory in (
        (_is(tuple), list, homogenous_tuple_structure_factory),
        (_is(dict), dict, mapping_structure_factory),
        (is_table, dict, _table),
    ):
        converter.register_structure_hook_factory(predicate, partial(_checked, raw, factory))
    converter.register_structure_hook_factory(_is_text_or_table, _text_or_table)
    return converter


def _is(origin: Any) -> Callable[[Any], bool]:
    return lambda kind: get_origin(kind) is origin


def _is_text_or_table(kind: Any) -> bool:
    return get_origin(kind) in (Union, UnionType) and str in get_args(kind) and any(map(is_table, get_args(kind)))


def _text_or_table(kind: Any, converter: Converter) -> StructureHook:
    table = next(each for each in get_args(kind) if is_table(each))
    expected = f"expected a text, or a table such as {{ {', '.join(key.name for key in keys_of(table))} }}"

    def structure(value: object, _: object) -> object:
        if isinstance(value, dict):
            return converter.structure(value, table)
        if isinstance(value, str):
            return value
        raise ExpectedError(expected)

    return structure


def _backend(converter: Converter, value: object, _: object) -> Backend:
    table = dict(values.plain(dict, value))
    kind = table.pop("type", None)
    if kind is None:
        raise ExpectedError(f"expected a type, one of: {', '.join(names())}")
    if not isinstance(kind, str):
        raise ExpectedError(f"expected one of: {', '.join(names())}", "type")
    if kind not in names():
        raise ExpectedError(unknown(kind, names(), "backend type"), "type")
    try:
        known = backend_type(kind)
    except BrokenTypeError as error:
        raise ExpectedError(str(error), "type") from None
    made = converter.structure(table, known.table)
    own = known.settings(**{key.name: getattr(made, key.name) for key in keys_of(known.settings)})
    waiting = {key: getattr(made, key) for key in ("timeout", "max_running") if known.waits is not None}
    return Backend(kind, own, made.cache, **waiting)


def _argv(converter: Converter, value: object, _: object) -> tuple[Template, ...]:
    if value == []:
        raise ExpectedError(_ONE)
    argv: tuple[Template, ...] = converter.structure(value, tuple[Template, ...])
    return argv


def _literal(kind: Any) -> StructureHook:
    choices = get_args(kind)

    def structure(value: object, _: object) -> object:
        if type(value) is not str or value not in choices:
            raise ExpectedError("expected " + " or ".join(f'"{choice}"' for choice in choices))
        return value

    return structure


def _checked(
    raw: type, factory: Callable[[Any, Converter], StructureHook], kind: Any, converter: Converter
) -> StructureHook:
    """Take a list or a table only: cattrs would make a list of a string's letters."""
    structure = factory(kind, converter)
    return lambda value, to: structure(values.plain(raw, value), to)


def _table(cls: Any, converter: Converter) -> StructureHook:
    bounded: Any = {key.name: override(struct_hook=hook) for key in keys_of(cls) if (hook := _bounded(key, converter))}
    structure = make_dict_structure_fn(cls, converter, **bounded)
    one_of: tuple[str, ...] = getattr(cls, "one_of", ())

    def structured(value: dict[str, object], to: Any) -> Any:
        given = [key for key in one_of if value.get(key, False) is not False]
        if len(given) == 1:
            return structure(value, to)
        why = f"expected exactly one of {', '.join(one_of)}; found {', '.join(given) or 'none of them'}"
        mistakes: list[Exception] = [ValueError(why)]
        try:
            structure(value, to)
        except ClassValidationError as error:  # they are told beside it
            mistakes += error.exceptions
        raise ClassValidationError(f"While structuring {cls.__name__}", mistakes, cls)

    return structured if one_of else structure


def _bounded(key: Key, converter: Converter) -> StructureHook | None:
    """Return what takes a key's value where that has bounds; None for one that has none but its type's."""
    if not key.nonempty and key.least is None and key.most is None:
        return None

    def structure(value: object, _: object) -> object:
        if key.nonempty and value == []:
            raise ExpectedError(_ONE)
        made = converter.structure(value, key.type)
        if isinstance(made, int | float):
            values.refuse_outside(made, key.least, key.most)
        return made

    return structure


def structure(converter: Converter, value: object, kind: Any, path: KeyPath) -> tuple[Any, list[Problem]]:
    """Structure one raw value.

    :param path: where it stands.
    :return: what was made of it, None if there are problems; and these.
    """
    try:
        return converter.structure(value, kind), []
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # somebody else's class may raise SystemExit
        return None, list(_problems(error, path))


def _problems(error: BaseException, path: KeyPath) -> Iterator[Problem]:
    if isinstance(error, ForbiddenExtraKeysError):
        known = [key.name for key in keys_of(error.cl)]
        for name in sorted(error.extra_fields):
            yield Problem((*path, name), unknown(name, known, "key"))
    elif isinstance(error, ClassValidationError):
        in_attributes, others = error.group_exceptions()
        for inner, attribute in in_attributes:
            if isinstance(inner, KeyError):
                yield Problem(path, f'expected a key "{attribute.name}"')
            else:
                yield from _problems(inner, (*path, attribute.name))
        for inner in others:
            yield from _problems(inner, path)
    elif isinstance(error, IterableValidationError):
        in_items, others = error.group_exceptions()
        for inner, item in in_items:
            yield from _problems(inner, (*path, item.index))
        for inner in others:
            yield from _problems(inner, path)
    elif isinstance(error, ExpectedError):
        yield Problem((*path, *error.path), str(error))
    else:  # of what a class makes of its values, which may be anybody's
        told = ""
        if isinstance(error, Exception):
            with suppress(Exception):
                told = str(error)
        yield Problem(path, told or named(error))
