"""Raw TOML values into the classes of the model, strictly, with every mistake reported."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args, get_origin

import attrs
from cattrs import ClassValidationError, Converter, ForbiddenExtraKeysError, IterableValidationError
from cattrs.cols import homogenous_tuple_structure_factory, mapping_structure_factory
from cattrs.gen import make_dict_structure_fn

from fingergw.config import model, values
from fingergw.config.lines import KeyPath
from fingergw.config.problems import Problem, unknown
from fingergw.config.values import ExpectedError

StructureHook: TypeAlias = Callable[[Any, Any], Any]


def _entry(converter: Converter) -> Callable[[object, object], str | model.Person]:
    def structure(value: object, _: object) -> str | model.Person:
        if isinstance(value, dict):
            return converter.structure(value, model.Person)
        if isinstance(value, str):
            return value
        raise ExpectedError(
            "expected a text, or a table such as { name, directory, shell, office, phone, project, plan }"
        )

    return structure


def _backend(converter: Converter) -> Callable[[object, object], model.Backend]:
    def structure(value: object, _: object) -> model.Backend:
        table = dict(values.plain(dict, value))
        kind = table.pop("type", None)
        if kind is None:
            raise ExpectedError(f"expected a type, one of: {', '.join(model.BACKEND_TYPES)}")
        if not isinstance(kind, str):
            raise ExpectedError(f"expected one of: {', '.join(model.BACKEND_TYPES)}", "type")
        if kind not in model.BACKEND_TYPES:
            raise ExpectedError(unknown(kind, model.BACKEND_TYPES, "backend type"), "type")
        return converter.structure(table, model.BACKEND_TYPES[kind])

    return structure


def make_converter(base: Path) -> Converter:
    """Return a converter that takes each type as TOML writes it and nothing else.

    :param base: the folder that relative paths are relative to.
    """
    converter = Converter(forbid_extra_keys=True)
    for kind in (bool, int):
        converter.register_structure_hook(kind, lambda value, to: values.plain(to, value))
    for new_type, hook in values.HOOKS.items():
        converter.register_structure_hook(new_type, hook)
    converter.register_structure_hook(model.FilePath, lambda value, _: base / values.text(value, _))
    converter.register_structure_hook(str | model.Person, _entry(converter))
    converter.register_structure_hook(model.Backend, _backend(converter))

    converter.register_structure_hook_factory(_is(Literal), _literal)
    for predicate, raw, factory in (
        (_is(tuple), list, homogenous_tuple_structure_factory),
        (_is(dict), dict, mapping_structure_factory),
        (attrs.has, dict, make_dict_structure_fn),
    ):
        converter.register_structure_hook_factory(predicate, partial(_checked, raw, factory))
    return converter


def _is(origin: Any) -> Callable[[Any], bool]:
    return lambda kind: get_origin(kind) is origin


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


def structure(converter: Converter, value: object, kind: Any, path: KeyPath) -> tuple[Any, list[Problem]]:
    """Structure one raw value.

    :param path: where it stands.
    :return: what was made of it, None if there are problems; and these.
    """
    try:
        return converter.structure(value, kind), []
    except Exception as error:
        return None, list(_problems(error, path))


def _problems(error: BaseException, path: KeyPath) -> Iterator[Problem]:
    if isinstance(error, ForbiddenExtraKeysError):
        known = [attribute.name for attribute in attrs.fields(error.cl)]
        for key in sorted(error.extra_fields):
            yield Problem((*path, key), unknown(key, known, "key"))
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
    else:
        yield Problem((*path, *getattr(error, "path", ())), str(error))
