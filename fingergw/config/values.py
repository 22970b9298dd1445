"""How a file writes each type of value: what is read, strictly, its JSON Schema, and how it is written back.

Lists, tables and paths are not here: :mod:`fingergw.config.structure` reads them. A new type is declared in
:mod:`fingergw.core.setting_types`, has its entry in ``KINDS`` here, and stands in :mod:`fingergw.api` and the README's
table.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import date, datetime, time
from functools import partial
from ipaddress import ip_network
from math import inf
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from attrs import frozen

from fingergw.config.store_address import parse_store
from fingergw.core import setting_types as types
from fingergw.core.addresses import HOST_LABEL, Network, is_host
from fingergw.core.errors import BadQuery, ExpectedError
from fingergw.core.patterns import group_names
from fingergw.core.placeholders import Template
from fingergw.core.query import Query, compose, parse
from fingergw.core.text import clean
from fingergw.net.http.charsets import Charset
from fingergw.net.identity import MAX_ID

T = TypeVar("T")

PATHS: Final = (types.FilePath, *types.FILES)
"""The types of paths, which are made absolute when they are read."""
_LARGE = 10**9
END_SECONDS: Final = 10**9
"""All durations are below this."""
_TOML: dict[type, tuple[str, str]] = {  # as it is expected, and as it is found
    str: ("a string", "a string"),
    bool: ("true or false", "a boolean"),
    int: ("a whole number", "a whole number"),
    float: ("a number", "a decimal number"),
    list: ("a list", "a list"),
    dict: ("a table", "a table"),
}
_ADVICE: dict[tuple[type, type], str] = {
    **dict.fromkeys(((list, kind) for kind in (str, int)), "; put it in brackets"),
    **dict.fromkeys(((kind, str) for kind in (int, float)), "; write only the number, without quotes"),
    (bool, str): "; remove the quotes",
    **dict.fromkeys(((str, kind) for kind in (int, float, date, datetime, time)), "; put it in quotes"),
}
_HEADER_NAME = r"[0-9A-Za-z_!#$%&'*+.^`|~-]+"  # RFC 9110 §5.6.2
_HOST_NAME = rf"{HOST_LABEL}([.]{HOST_LABEL})*[.]?"  # where it is no address
_AUTHORITY = r"([0-9A-Za-z_.-]+|\[[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*\])(:[0-9]*)?"  # an empty port is the default one
_URL = rf'[Hh][Tt][Tt][Pp][Ss]?://{_AUTHORITY}([/?][!"$-~]*)?'  # $ to ~ is all that is printable after the #


@frozen
class Kind:
    """How a file writes the values of a type.

    :param read: returns the value for what TOML has; raises ExpectedError if it is none.
    :param schema: the JSON Schema for it, which refuses nothing that is read.
    :param write: returns what TOML has for a value.
    """

    read: Callable[[object], object]
    schema: Mapping[str, Any]
    write: Callable[[Any], object] | None = None


def plain(kind: type[T], value: object, *, form: str = "") -> T:
    """Return a value that is of this kind and no other: a bool is no number.

    :param form: how a file writes a value of this kind, for the message.
    :raises ExpectedError: it is of another kind.
    """
    if type(value) is not kind:
        found = _TOML.get(type(value), ("", "a date or time"))[1]
        advice = _ADVICE.get((kind, type(value)), f"; write {form}" if form else "")
        raise ExpectedError(f"expected {_TOML[kind][0]}, not {found}{advice}")
    return value


def text(value: object) -> str:
    """Return a string of any kind."""
    string = plain(str, value)
    if "\0" in string:  # no file, program or user can have it in its name
        raise ExpectedError("expected a string without the character NUL")
    return string


def number(value: object) -> float:
    """Return a number of any kind."""
    try:
        return float(value) if type(value) is int else plain(float, value)
    except OverflowError:
        return inf


def refuse_outside(number: float, least: float | None, most: float | None) -> None:
    """Refuse a number outside of its bounds; None for no bound.

    :raises ExpectedError: it is too small, too large or NaN.
    """
    if (-inf if least is None else least) <= number <= (inf if most is None else most):
        return
    if most is None or (least is not None and number < least and most >= _LARGE):
        raise ExpectedError(f"expected a number of at least {least}")
    bounds = f"of at most {most}" if least is None else f"from {least} to {most}"
    raise ExpectedError(f"expected a number {bounds}")


def _whole(least: int, most: int) -> Kind:
    def read(value: object) -> int:
        whole = plain(int, value)
        refuse_outside(whole, least, most)
        return whole

    return Kind(read, {"type": "integer", "minimum": least, "maximum": most})


def _seconds(lower_bound: str, expected: str) -> Kind:
    """Return a kind of duration.

    :param lower_bound: JSON Schema's word for a lower bound of 0: ``minimum`` or ``exclusiveMinimum``.
    """

    def read(value: object) -> float:
        duration = number(value)
        if not 0 <= duration < END_SECONDS or (duration == 0 and lower_bound == "exclusiveMinimum"):
            raise ExpectedError(f"expected a finite number of seconds, {expected} and below {END_SECONDS}")
        return duration

    return Kind(read, {"type": "number", "exclusiveMaximum": END_SECONDS, lower_bound: 0})


def _string(
    pattern: str, expected: str, make: Callable[[str], object] = str, write: Callable[[Any], object] | None = None
) -> Kind:
    """Return a kind of string that has a form.

    :param pattern: what the whole of it matches.
    :param expected: the form in words.
    :param make: returns the value; raises ValueError if the string has not the form, although it matches.
    """

    def read(value: object) -> object:
        string = text(value)
        if re.fullmatch(pattern, string, re.DOTALL):
            try:
                return make(string)
            except ExpectedError:  # which says more
                raise
            except ValueError:
                pass
        raise ExpectedError(f"expected {expected}")

    return Kind(read, {"type": "string", "pattern": f"^{pattern}$"}, write)


def _network(string: str) -> Network:
    try:
        network = ip_network(string)
    except ValueError:
        whole, address = ip_network(string, strict=False), string.partition("/")[0]
        raise ExpectedError(
            f'"{string}" is an address within a network; write "{whole}" for the network, or "{address}" for the '
            "address alone"
        ) from None
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    if mapped is not None and network.prefixlen >= 96:  # a client with such an address counts as IPv4
        return ip_network((mapped, network.prefixlen - 96))
    return network


def _printable(string: str) -> str:
    if not string.isprintable():
        raise ValueError
    return string


def _line(value: object) -> str:
    string = text(value)
    if "\n" in string or "\t" in string or clean(string) != string:
        raise ExpectedError("expected one line of text, without tabs and other control characters")
    return string


def _url(value: object) -> Template:
    string = text(value)
    if re.search(r"[\x00-\x20\x7f]", string):
        raise ExpectedError("expected a URL without spaces and control characters; write a space in it as %20")
    if not string.isascii():
        raise ExpectedError("expected a URL in ASCII: a host with other letters in its xn-- form, the rest in % form")
    if "#" in string:
        raise ExpectedError("remove the # and what follows it, which is never sent to a server; a # itself is %23")
    try:
        template, parts = Template(string), urlsplit(string)
        is_url = re.fullmatch(_URL, string) and is_host(parts.hostname or "") and parts.port != 0
    except ExpectedError:  # of a placeholder; it says more
        raise
    except ValueError:
        is_url = False
    if is_url:
        return template
    raise ExpectedError(
        'expected an http or https URL in ASCII such as "https://example.org/{user}", with no user name or placeholder '
        "in its host, and a port from 1 to 65535 if any"
    )


def _store(string: str) -> str:
    parse_store(string)
    return string


def _host_name(string: str) -> str:
    if not is_host(string):
        raise ValueError
    return string


def _user_names(hint: str) -> Kind:
    """Return a kind of user name.

    :param hint: what to write for the empty query.
    """
    kind = _string(
        r"[^@\x00-\x1f\x7f]+",
        "a name that clients can ask for: it has no @, /W or control characters, no space at its start or end, and no "
        f"two in a row; for the empty query, {hint}",
        _user_name,
    )

    def read(value: object) -> object:
        is_plain = type(value) is str and value.isascii() and value.isalnum()  # there may be 100,000 in a map
        return value if is_plain else kind.read(value)

    return Kind(read, kind.schema)


def _user_name(string: str) -> str:
    with suppress(BadQuery, UnicodeEncodeError):
        if parse(string.encode(), case_sensitive=True) == Query(compose(string)):
            return string
    raise ValueError


def _umask(value: object) -> int:
    if type(value) is str and re.fullmatch("[0-7]{1,4}", value):
        return int(value, 8)
    raise ExpectedError('expected a string of up to four octal digits, in quotes, such as "027"')


def _account(value: object) -> str:
    if type(value) is int:
        refuse_outside(value, 0, MAX_ID)
        return str(value)
    return text(value)


def _regex(pattern: str) -> str:
    if "user" in group_names(pattern):
        raise ExpectedError('rename the group "user": {user} is always the whole name that was asked for')
    return pattern


def _pattern(most: int, make: Callable[[str], str] = str) -> Kind:
    """Return a kind of pattern; its length is bounded, as compiling it takes time and memory by that."""

    def read(value: object) -> str:
        string = text(value)
        if not 1 <= len(string) <= most:
            raise ExpectedError(f"expected a pattern of 1 to {most} characters, not {len(string)}")
        return make(string)

    return Kind(read, {"type": "string", "minLength": 1, "maxLength": most})


_TEXT = Kind(text, {"type": "string"})
KINDS: Final[dict[Any, Kind]] = {
    str: _TEXT,
    bool: Kind(partial(plain, bool), {"type": "boolean"}),
    int: Kind(partial(plain, int), {"type": "integer"}),
    float: Kind(number, {"type": "number"}),
    types.Bytes: _whole(1, 10**15),  # setrlimit takes no unbounded number
    types.Count: _whole(1, _LARGE),
    types.Port: _whole(1, 65535),
    types.ExitCode: _whole(1, 255),
    types.Status: _whole(100, 599),
    types.Seconds: _seconds("exclusiveMinimum", "above 0"),
    types.Period: _seconds("minimum", "0 or more"),
    types.Umask: Kind(_umask, {"type": "string", "pattern": "^[0-7]{1,4}$"}, lambda umask: f"{umask:03o}"),
    types.Account: Kind(_account, {"type": ["string", "integer"], "minimum": 0, "maximum": MAX_ID}),
    types.Glob: _pattern(1000, _line),
    types.Regex: _pattern(3000, _regex),
    types.UserName: _user_names("write index = true"),
    types.Name: _user_names("write a route with index = true"),
    types.HostName: _string(
        rf"({_HOST_NAME}|[0-9A-Fa-f:.]+)",
        'a host name or IP address without a port, such as "old.example.org"',
        _host_name,
    ),
    types.Line: Kind(_line, {"type": "string", "pattern": r"^[^\x00-\x1f\x7f]*$"}),
    types.HeaderName: _string(_HEADER_NAME, 'a header name such as "Accept"'),
    types.HeaderValue: _string(
        r"[^\x00-\x1f\x7f]*", "a header value without line ends or control characters", _printable
    ),
    types.Variable: _string("[^=]+", 'a variable name without "=" or control characters', _printable),
    types.Store: _string(
        "(memory|sqlite:[^:].*|rediss?://.+)",
        '"memory", "sqlite:PATH" or "redis://HOST:PORT/DATABASE" (rediss: for TLS)',
        _store,
    ),
    types.Url: Kind(_url, {"type": "string", "pattern": f"^{_URL}$"}, lambda template: template.text),
    types.Jinja: _TEXT,
    types.ProgramPath: _TEXT,
    Charset: Kind(lambda value: Charset(text(value)), {"type": "string", "minLength": 1}, lambda charset: charset.name),
    Template: Kind(lambda value: Template(text(value)), {"type": "string"}, lambda template: template.text),
    Network: _string(
        r"[0-9A-Fa-f:.]+(%[^%/]+)?(/[0-9.]+)?", 'a network such as "10.0.0.0/8" or "2001:db8::/32"', _network, str
    ),
}
"""How a file writes each type that a key can have."""
