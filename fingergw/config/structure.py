"""Raw TOML values into the classes of the model, strictly, with every mistake reported."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar, get_args, get_origin
from urllib.parse import urlsplit

import attrs
from cattrs import ClassValidationError, Converter, ForbiddenExtraKeysError, IterableValidationError
from cattrs.cols import homogenous_tuple_structure_factory, mapping_structure_factory
from cattrs.gen import make_dict_structure_fn

from fingergw.addresses import Network, parse_address
from fingergw.config import model
from fingergw.config.lines import KeyPath
from fingergw.config.problems import Problem, unknown
from fingergw.errors import BadQuery
from fingergw.placeholders import Template
from fingergw.query import Query, parse
from fingergw.routing import group_names
from fingergw.stores.address import parse_store

T = TypeVar("T")
StructureHook: TypeAlias = Callable[[Any, Any], Any]

_LARGE = 10**9
_KINDS: dict[type, str] = {
    str: "a string",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    list: "a list",
    dict: "a table",
}


class _ExpectedError(ValueError):
    """A value is not what the key takes.

    :param path: where in the value.
    """

    def __init__(self, message: str, *path: str) -> None:
        super().__init__(message)
        self.path = path


def _plain(kind: type[T], value: object) -> T:
    """Return the value if it is of this kind and no other: cattrs would make a number of "79"."""
    if type(value) is not kind:
        raise _ExpectedError(f"expected {_KINDS[kind]}, not {_KINDS.get(type(value), 'a date or time')}")
    return value


def _text(value: object, _: object) -> str:
    text = _plain(str, value)
    if "\0" in text:  # no file, program or user can have it in its name
        raise _ExpectedError("expected a string without NUL")
    return text


def _within(low: int, high: int) -> Callable[[object, object], int]:
    def structure(value: object, _: object) -> int:
        number = _plain(int, value)
        if not low <= number <= high:
            bounds = f"{low} or more" if number < low and high >= _LARGE else f"{low} to {high}"
            raise _ExpectedError(f"expected {bounds}")
        return number

    return structure


def _number(value: object, _: object) -> float:
    return float(value) if type(value) is int else _plain(float, value)


def _seconds(value: object, _: object) -> float:
    number = _number(value, _)
    if not 0 < number < 1e9:
        raise _ExpectedError("expected a number of seconds above 0")
    return number


def _period(value: object, _: object) -> float:
    number = _number(value, _)
    if not 0 <= number < 1e9:
        raise _ExpectedError("expected a number of seconds, 0 or more")
    return number


def _network(value: object, _: object) -> Network:
    text = _plain(str, value)
    try:
        network = ip_network(text)
    except ValueError as error:
        raise _ExpectedError(f'expected a network such as "10.0.0.0/8" or "2001:db8::/32": {error}') from None
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    if mapped is not None and network.prefixlen >= 96:  # a client with such an address counts as IPv4
        return ip_network((mapped, network.prefixlen - 96))
    return network


def _umask(value: object, _: object) -> int:
    text = _plain(str, value)
    if not 1 <= len(text) <= 4 or set(text) - set("01234567"):
        raise _ExpectedError('expected a string of octal digits such as "027"')
    return int(text, 8)


def _regex(value: object, _: object) -> str:
    pattern = _plain(str, value)
    try:
        names = group_names(pattern)
    except ValueError as error:
        raise _ExpectedError(f"expected RE2 syntax: {error}") from None
    if "user" in names:
        raise _ExpectedError('expected another name for the group "user": {user} is the whole name')
    return pattern


def _variable(value: object, _: object) -> str:
    name = _plain(str, value)
    if not name or "=" in name or not name.isprintable():
        raise _ExpectedError("expected the name of an environment variable")
    return name


def _argument(value: object, _: object) -> str:
    text = _text(value, _)
    Template.compile(text)
    return text


def _url(value: object, _: object) -> str:
    text = _argument(value, _)
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if (
        parts.scheme not in ("http", "https")
        or not re.fullmatch(r"[a-z0-9.:-]+", parts.hostname or "")  # Twisted connects to no other, _ included
        or port == 0
        or set("{}@ ") & set(parts.netloc)
        or not (text.isascii() and text.isprintable())
    ):
        raise _ExpectedError(
            'expected a URL such as "https://example.org/{user}", in ASCII, with placeholders after the host only'
        )
    return text


def _store(value: object, _: object) -> str:
    text = _text(value, _)
    parse_store(text)
    return text


def _host_name(value: object, _: object) -> str:
    name = _plain(str, value)
    if not re.fullmatch(r"[A-Za-z0-9-]+([.][A-Za-z0-9-]+)*[.]?", name) and ("%" in name or parse_address(name) is None):
        raise _ExpectedError('expected a host\'s name or address, such as "old.example.org", and no port')
    return name


def _header_name(value: object, _: object) -> str:
    name = _plain(str, value)
    if not re.fullmatch(r"[\w!#$%&'*+.^`|~-]+", name, re.ASCII):
        raise _ExpectedError('expected a header\'s name such as "Accept"')
    return name


def _header_value(value: object, _: object) -> str:
    text = _plain(str, value)
    if not text.isprintable():
        raise _ExpectedError("expected a header's value, without line ends and other controls")
    return text


def _user_name(value: object, _: object) -> str:
    name = _plain(str, value)
    with suppress(BadQuery):
        if name and parse(name.encode(), case_sensitive=True) == Query(name):
            return name
    raise _ExpectedError("expected a name that can be asked for; the empty query is index = true")


def _entry(converter: Converter) -> Callable[[object, object], str | model.Person]:
    def structure(value: object, _: object) -> str | model.Person:
        if isinstance(value, dict):
            return converter.structure(value, model.Person)
        if isinstance(value, str):
            return value
        raise _ExpectedError(
            "expected a text, or a table such as { name, directory, shell, office, phone, project, plan }"
        )

    return structure


def _backend(converter: Converter) -> Callable[[object, object], model.Backend]:
    def structure(value: object, _: object) -> model.Backend:
        table = dict(_plain(dict, value))
        kind = table.pop("type", None)
        if kind is None:
            raise _ExpectedError(f"expected a type, one of: {', '.join(model.BACKEND_TYPES)}")
        if not isinstance(kind, str):
            raise _ExpectedError(f"expected one of: {', '.join(model.BACKEND_TYPES)}", "type")
        if kind not in model.BACKEND_TYPES:
            raise _ExpectedError(unknown(kind, model.BACKEND_TYPES, "backend type"), "type")
        return converter.structure(table, model.BACKEND_TYPES[kind])

    return structure


def make_converter(base: Path) -> Converter:
    """Return a converter that takes each type as TOML writes it and nothing else.

    :param base: the folder that relative paths are relative to.
    """
    converter = Converter(forbid_extra_keys=True)
    converter.register_structure_hook(str, _text)
    for kind in (bool, int):
        converter.register_structure_hook(kind, lambda value, to: _plain(to, value))
    converter.register_structure_hook(float, _number)
    converter.register_structure_hook(model.Seconds, _seconds)
    converter.register_structure_hook(model.Period, _period)
    limits: list[tuple[Any, int, int]] = [
        (model.Bytes, 1, 10**15),  # setrlimit takes no number without end
        (model.Count, 1, _LARGE),
        (model.Port, 1, 65535),
        (model.ExitCode, 1, 255),
        (model.Status, 100, 599),
    ]
    for new_type, low, high in limits:
        converter.register_structure_hook(new_type, _within(low, high))
    converter.register_structure_hook(model.Umask, _umask)
    converter.register_structure_hook(model.Regex, _regex)
    converter.register_structure_hook(model.Variable, _variable)
    converter.register_structure_hook(model.Argument, _argument)
    converter.register_structure_hook(model.Url, _url)
    converter.register_structure_hook(model.HeaderName, _header_name)
    converter.register_structure_hook(model.HeaderValue, _header_value)
    converter.register_structure_hook(model.HostName, _host_name)
    converter.register_structure_hook(model.Store, _store)
    converter.register_structure_hook(model.UserName, _user_name)
    converter.register_structure_hook(model.FilePath, lambda value, _: base / _text(value, _))
    converter.register_structure_hook(Network, _network)
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
            raise _ExpectedError("expected " + " or ".join(f'"{choice}"' for choice in choices))
        return value

    return structure


def _checked(
    raw: type, factory: Callable[[Any, Converter], StructureHook], kind: Any, converter: Converter
) -> StructureHook:
    """Take a list or a table only: cattrs would make a list of a string's letters."""
    structure = factory(kind, converter)
    return lambda value, to: structure(_plain(raw, value), to)


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
