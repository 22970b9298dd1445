"""The syntax of endpoint strings, of servers and of clients, and what is wrong with one."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from inspect import BoundArguments, Parameter, signature
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import TypeVar

from twisted.internet.endpoints import quoteStringArgument

from fingergw.core.addresses import Address
from fingergw.core.errors import ListenError
from fingergw.net.root import in_chroot, outside_message

T = TypeVar("T")

# The arguments of Twisted's own endpoint types that are paths, by name or by position.
_PATH_ARGUMENTS = {
    "unix": {"address", "path", 0},
    "ssl": {"privateKey", "certKey", "extraCertChain", "dhParameters", 1, 2},
    "tls": {"path", 0},
}
PROXIED = "haproxy:"
_NO_TYPE = re.compile(r"[0-9.]+|\[.*")  # a port or an address
_MAX_ADDRESS_LENGTH = 48  # an IPv6 address is no longer


def is_proxied(description: str) -> bool:
    """Tell whether an endpoint string is for connections from a proxy, which begin with a PROXY header."""
    return description.startswith(PROXIED)


def anchor(description: str, base: Path) -> str:
    """Return an endpoint string with its relative paths made absolute.

    :param base: the folder that they are relative to.
    :raises ListenError: it ends within a quotation.
    """
    return _with_paths(description, lambda path: base / path)


def in_later_root(description: str) -> str:
    """Return an endpoint string with the path that its unix socket, if it has one, has in the later chroot.

    :raises ListenError: the path is outside of the chroot.
    """
    is_unix = split(description.removeprefix(PROXIED))[0] == "unix"
    return _with_paths(description, later_path) if is_unix else description


def later_path(path: Path) -> Path:
    """Return the path that a unix socket has in the later chroot.

    :raises ListenError: the path is outside of the chroot.
    """
    found = in_chroot(path)
    if found is None:
        raise ListenError(f"{path}: {outside_message()}; put it below that")
    return found


def _with_paths(description: str, change: Callable[[Path], Path]) -> str:
    """Return an endpoint string with its paths changed."""
    proxied = PROXIED if is_proxied(description) else ""
    kind, *arguments = split(description.removeprefix(proxied))
    if kind not in _PATH_ARGUMENTS:
        return description
    changed, position = [kind], 0
    for argument in arguments:
        key, value = _key_and_value(argument)
        if value and (position if key is None else unquote(key)) in _PATH_ARGUMENTS[kind]:
            argument = ("" if key is None else f"{key}=") + quote(str(change(Path(unquote(value)))))
        position += key is None
        changed.append(argument)
    return proxied + ":".join(changed)


def split(description: str) -> list[str]:
    """Return an endpoint string's type, in lower case as Twisted ignores case, and its arguments, still quoted.

    :raises ListenError: it begins with none, or ends within a quotation.
    """
    if (len(description) - len(description.rstrip("\\"))) % 2:
        raise ListenError("nothing follows the last backslash; write two for a backslash itself")
    kind, *arguments = re.findall(r"(?s)(?:^|:)((?:\\.|[^:])*)", description)
    if _key_and_value(kind)[0] is not None:  # Twisted would take the next part for the type
        raise ListenError(f"an endpoint begins with its type, such as tcp:, not with {kind}")
    return [quoteStringArgument(unquote(kind).lower()), *arguments]


def _key_and_value(argument: str) -> tuple[str | None, str]:
    """Return the key of an argument, None if it has none, and its value, both still quoted."""
    found = re.match(r"(?s)((?:\\.|[^=\\])*)=", argument)
    return (None, argument) if found is None else (found[1], argument[found.end() :])


def quote(value: str) -> str:
    """Return a value as an endpoint string must have it."""
    quoted: str = quoteStringArgument(value)
    return quoted.replace("=", r"\=")


def unquote(value: str) -> str:
    """Return the value of a quoted part of an endpoint string."""
    return re.sub(r"(?s)\\(.)", r"\1", value)


def call(function: Callable[..., T], description: str, example: str) -> T:
    """Call a function with the arguments of an endpoint string.

    :param function: has the parameters of the endpoint type, and raises ValueError for a wrong value.
    :param example: a correct endpoint string of the type, for the message.
    :raises ListenError: the arguments do not fit; the message says what to write.
    """
    try:
        return _called(function, description)
    except ValueError as error:
        corrected = _with_escaped_address(function, description)
        if corrected is None:
            raise ListenError(f"{error}; write it like {example}") from None
    why = "an IPv6 address in an endpoint string needs a backslash before each colon"
    raise ListenError(f"{why}; write '{corrected}', in single quotes")


def _called(function: Callable[..., T], description: str) -> T:
    bound = arguments_of(function, description)
    return function(*bound.args, **bound.kwargs)


def arguments_of(function: Callable[..., object], description: str) -> BoundArguments:
    """Return the arguments of an endpoint string.

    :param function: has the parameters of the endpoint type.
    :raises ValueError: the arguments do not fit.
    :raises ListenError: as :func:`split`.
    """
    kind, *arguments = split(description.removeprefix(PROXIED))
    unnamed, named = list[str](), dict[str, str]()
    for argument in arguments:
        key, value = _key_and_value(argument)
        if key is None:
            unnamed.append(unquote(value))
        else:
            named[unquote(key)] = unquote(value)
    parameters = signature(function).parameters.values()
    names = [each.name for each in parameters]
    positional = [each.name for each in parameters if each.kind is Parameter.POSITIONAL_OR_KEYWORD]
    if unknown := named.keys() - names:
        raise ValueError(f"{kind}: has no argument {min(unknown)}=, only {', '.join(names)}")
    if len(unnamed) > len(positional):
        raise ValueError(
            f"too many parts after {kind}:, which takes {', '.join(positional)} in this order; write a colon within a "
            r"part as \:"
        )
    if twice := named.keys() & set(positional[: len(unnamed)]):
        raise ValueError(f"{min(twice)} is given twice, by position and as {min(twice)}=")
    given = [*positional[: len(unnamed)], *named]
    if missing := [each.name for each in parameters if each.default is Parameter.empty and each.name not in given]:
        raise ValueError(f"expected {' and '.join(missing)} after {kind}:")
    return signature(function).bind(*unnamed, **named)


def _with_escaped_address(function: Callable[..., object], description: str) -> str | None:
    """Return an endpoint string with the colons of its IPv6 address escaped, if its arguments fit then."""
    for begin in (found.end() for found in re.finditer(r"[:=](?=[\[0-9A-Fa-f:])", description)):
        parts = description[begin : begin + _MAX_ADDRESS_LENGTH].split(":")
        for count in range(len(parts), 1, -1):
            written = ":".join(parts[:count])
            rest = description[begin + len(written) :]
            if rest[:1] not in ("", ":"):
                continue
            with suppress(ValueError):
                address = str(IPv6Address(written.removeprefix("[").removesuffix("]")))
                corrected = description[:begin] + address.replace(":", r"\:") + rest
                with suppress(ListenError):  # of another mistake
                    _called(function, corrected)
                return corrected
    return None


def number(name: str, text: str, least: int, most: int, *, base: int = 10) -> int:
    """Return the number that an argument is.

    :raises ValueError: it is none, or out of bounds; the message says which are allowed.
    """
    try:
        value = int(text, base)
    except ValueError:  # also of thousands of digits
        value = least - 1
    if not least <= value <= most:
        bounds = f"from {least} to {most}" if base == 10 else f"in octal from {least:o} to {most:o}"
        raise ValueError(f'expected {name} to be a whole number {bounds}, not "{text}"')
    return value


def address(name: str, text: str, localhost: str = "127.0.0.1") -> Address:
    """Return the IP address that an argument is.

    :param localhost: what the word ``localhost`` stands for.
    :raises ValueError: it is none; no name is looked up.
    """
    try:
        return ip_address(localhost if text == "localhost" else text)
    except ValueError:
        raise ValueError(f'expected {name} to be an IP address of this machine, not "{text}"') from None


def named_file(name: str, text: str) -> Path:
    """Return the path that an argument is.

    :raises ValueError: it is empty.
    """
    if not text:
        raise ValueError(f"{name} is empty")
    return Path(text)


def refusal(error: Exception, kind: str, example: str) -> ListenError:
    """Return the error for an endpoint string that Twisted, or a plug-in, does not take."""
    text = str(error).replace("\n", " ")
    if "Unknown endpoint type" in text:
        if not kind or _NO_TYPE.fullmatch(unquote(kind)):
            return ListenError(f"an endpoint begins with its type; write {example.partition(', ')[0]}")
        return ListenError(
            f'unknown endpoint type "{kind}"; write one such as {example}, or install the plug-in for it'
        )
    text = re.sub(r"^_?[A-Za-z0-9_.]+[(][)] ", "", text)
    return ListenError(f"the {kind}: endpoint type refuses its arguments, see its documentation: {text}")
