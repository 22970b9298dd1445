"""What a key takes, value by value: TOML's own types, and what is in a string, strictly."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_network
from math import inf
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from fingergw.config.store_address import parse_store
from fingergw.core.addresses import Network, parse_address
from fingergw.core.errors import BadQuery
from fingergw.core.patterns import group_names
from fingergw.core.placeholders import Template
from fingergw.core.query import Query, parse
from fingergw.core.setting_types import (
    Bytes,
    Count,
    ExitCode,
    Glob,
    HeaderName,
    HeaderValue,
    HostName,
    Jinja,
    Name,
    Period,
    Port,
    ProgramPath,
    Regex,
    Seconds,
    Status,
    Store,
    Umask,
    Url,
    UserName,
    Variable,
)

T = TypeVar("T")

_LARGE = 10**9
_KINDS: dict[type, str] = {
    str: "a string",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    list: "a list",
    dict: "a table",
}
END_SECONDS: Final = 1e9
"""All durations are below this."""
WHOLE_NUMBERS: Final[dict[Any, tuple[int, int]]] = {
    Bytes: (1, 10**15),  # setrlimit takes no number without end
    Count: (1, _LARGE),
    Port: (1, 65535),
    ExitCode: (1, 255),
    Status: (100, 599),
}
"""The least and the greatest of each kind of whole number."""
HEADER_NAME: Final = r"[0-9A-Za-z_!#$%&'*+.^`|~-]+"
"""RFC 9110 §5.6.2."""
HOST_NAME: Final = r"[A-Za-z0-9-]+([.][A-Za-z0-9-]+)*[.]?"
"""A host's name, where it is no address."""
MAX_GLOB: Final = 1000
MAX_REGEX: Final = 3000
"""Characters in a pattern of either kind."""
UMASK: Final = "[0-7]{1,4}"


class ExpectedError(ValueError):
    """A value is not what the key takes.

    :param path: where in the value.
    """

    def __init__(self, message: str, *path: str | int) -> None:
        super().__init__(message)
        self.path = path


def plain(kind: type[T], value: object) -> T:
    """Return the value if it is of this kind and no other: cattrs would make a number of "79".

    :raises ExpectedError: it is of another.
    """
    if type(value) is not kind:
        raise ExpectedError(f"expected {_KINDS[kind]}, not {_KINDS.get(type(value), 'a date or time')}")
    return value


def text(value: object, _: object) -> str:
    """Return a string of any kind."""
    string = plain(str, value)
    if "\0" in string:  # no file, program or user can have it in its name
        raise ExpectedError("expected a string without NUL")
    return string


def number(value: object, _: object) -> float:
    """Return a number of any kind."""
    try:
        return float(value) if type(value) is int else plain(float, value)
    except OverflowError:  # it has no end
        return inf


def _within(low: int, high: int) -> Callable[[object, object], int]:
    def structure(value: object, _: object) -> int:
        whole = plain(int, value)
        refuse_outside(whole, low, high)
        return whole

    return structure


def refuse_outside(number: float, least: float | None, most: float | None) -> None:
    """Refuse a number that is below the least or above the greatest that it may be; None for no bound.

    :raises ExpectedError: it is, or is no number.
    """
    if (-inf if least is None else least) <= number <= (inf if most is None else most):
        return
    if most is None or (least is not None and number < least and most >= _LARGE):
        raise ExpectedError(f"expected {least} or more")
    raise ExpectedError(f"expected {most} or less" if least is None else f"expected {least} to {most}")


def _seconds(value: object, _: object) -> float:
    duration = number(value, _)
    if not 0 < duration < END_SECONDS:
        raise ExpectedError("expected a number of seconds above 0")
    return duration


def _period(value: object, _: object) -> float:
    duration = number(value, _)
    if not 0 <= duration < END_SECONDS:
        raise ExpectedError("expected a number of seconds, 0 or more")
    return duration


def _network(value: object, _: object) -> Network:
    string = plain(str, value)
    try:
        network = ip_network(string)
    except ValueError as error:
        raise ExpectedError(f'expected a network such as "10.0.0.0/8" or "2001:db8::/32": {error}') from None
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    if mapped is not None and network.prefixlen >= 96:  # a client with such an address counts as IPv4
        return ip_network((mapped, network.prefixlen - 96))
    return network


def _umask(value: object, _: object) -> int:
    string = plain(str, value)
    if not re.fullmatch(UMASK, string):
        raise ExpectedError('expected a string of octal digits such as "027"')
    return int(string, 8)


def _short(value: object, most: int) -> str:
    """Return a string that is compiled, which takes time and memory by its length."""
    string = plain(str, value)
    if len(string) > most:
        raise ExpectedError(f"expected no more than {most} characters, and found {len(string)}")
    return string


def _regex(value: object, _: object) -> str:
    pattern = _short(value, MAX_REGEX)
    try:
        names = group_names(pattern)
    except ValueError as error:
        raise ExpectedError(f"expected RE2 syntax: {error}") from None
    if "user" in names:
        raise ExpectedError('expected another name for the group "user": {user} is the whole name')
    return pattern


def _variable(value: object, _: object) -> str:
    name = plain(str, value)
    if not name or "=" in name or not name.isprintable():
        raise ExpectedError("expected the name of an environment variable")
    return name


def _template(value: object, _: object) -> Template:
    return Template(text(value, _))


def _url(value: object, _: object) -> Template:
    template = _template(value, _)
    string = template.text
    try:
        parts = urlsplit(string)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if (
        parts.scheme not in ("http", "https")
        or not re.fullmatch(r"[a-z0-9.:-]+", parts.hostname or "")  # Twisted connects to no other, _ included
        or port == 0
        or set("{}@ ") & set(parts.netloc)
        or not (string.isascii() and string.isprintable())
        or string.startswith(" ")  # which urlsplit overlooks
    ):
        raise ExpectedError(
            'expected a URL such as "https://example.org/{user}", in ASCII, with placeholders after the host only'
        )
    return template


def _store(value: object, _: object) -> str:
    string = text(value, _)
    parse_store(string)
    return string


def _host_name(value: object, _: object) -> str:
    name = plain(str, value)
    if not re.fullmatch(HOST_NAME, name) and ("%" in name or parse_address(name) is None):
        raise ExpectedError('expected a host\'s name or address, such as "old.example.org", and no port')
    return name


def _header_name(value: object, _: object) -> str:
    name = plain(str, value)
    if not re.fullmatch(HEADER_NAME, name):
        raise ExpectedError('expected a header\'s name such as "Accept"')
    return name


def _header_value(value: object, _: object) -> str:
    string = plain(str, value)
    if not string.isprintable():
        raise ExpectedError("expected a header's value, without line ends and other controls")
    return string


def _user_name(value: object, _: object) -> str:
    name = plain(str, value)
    with suppress(BadQuery):
        if name and parse(name.encode(), case_sensitive=True) == Query(name):
            return name
    raise ExpectedError("expected a name that can be asked for; the empty query is index = true")


HOOKS: Final[dict[Any, Callable[[object, object], object]]] = {
    str: text,
    float: number,
    **{kind: _within(*bounds) for kind, bounds in WHOLE_NUMBERS.items()},
    Seconds: _seconds,
    Period: _period,
    Umask: _umask,
    Glob: lambda value, _: _short(text(value, _), MAX_GLOB),
    Regex: _regex,
    Variable: _variable,
    Template: _template,
    Url: _url,
    Jinja: text,
    ProgramPath: text,
    Name: text,
    HeaderName: _header_name,
    HeaderValue: _header_value,
    HostName: _host_name,
    Store: _store,
    UserName: _user_name,
    Network: _network,
}
"""What takes a raw value, by the type that the model gives it."""
