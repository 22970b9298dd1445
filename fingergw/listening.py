"""Endpoint strings: made absolute, checked, parsed."""

from __future__ import annotations

import re
from ipaddress import ip_address
from pathlib import Path

from twisted.internet.address import UNIXAddress
from twisted.internet.endpoints import quoteStringArgument, serverFromString
from twisted.internet.interfaces import IAddress, IReactorCore, IStreamServerEndpoint
from twisted.logger import Logger

from fingergw.errors import ListenError

_log = Logger()
# Which arguments of Twisted's own endpoint types are files.
_FILE_ARGUMENTS = {
    "unix": {"address", 0},
    "ssl": {"privateKey", "certKey", "extraCertChain", "dhParameters", 1, 2},
    "tls": {"path", 0},
}
# Parsing these says something about the machine, not the text: sockets passed by systemd; Tor, which is launched.
_NOT_PARSED_BY_CHECK = ("systemd", "onion")


def anchor(description: str, base: Path) -> str:
    """Return an endpoint string whose relative files are relative to a folder."""
    kind, *arguments = _split(description)
    files = _FILE_ARGUMENTS.get(kind, set())
    anchored = [kind]
    for place, argument in enumerate(arguments):
        key, equals, value = argument.partition("=") if re.match(r"\w+=", argument) else ("", "", argument)
        if value and (key or place) in files:
            argument = key + equals + quoteStringArgument(str(base / _unquote(value))).replace("=", r"\=")
        anchored.append(argument)
    return ":".join(anchored)


def _split(description: str) -> list[str]:
    return re.findall(r"(?:^|:)((?:\\.|[^:])*)", description)


def _unquote(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value)


def parse(description: str, reactor: IReactorCore) -> IStreamServerEndpoint:
    """Return the endpoint that a string describes.

    :raises ListenError: it describes none; the message says why.
    """
    kind, *arguments = _split(description)
    try:
        endpoint = serverFromString(reactor, description)
    except OSError as error:
        raise ListenError(f"{error.filename or kind}: {error.strerror or error}") from None
    except KeyError as error:
        if kind == "systemd":
            raise ListenError(f"systemd passed no socket named {error}; start the .socket unit of that name") from None
        raise ListenError(f"unknown argument or value {error}") from None
    except Exception as error:  # plug-ins raise what they like
        raise ListenError(_reason(error, kind)) from None
    if kind == "tls":
        folder = next((argument[5:] for argument in arguments if argument.startswith("path=")), arguments[0])
        if not any(Path(_unquote(folder)).rglob("*.pem")):  # Twisted would notice at the first client
            raise ListenError(f"{_unquote(folder)}: expected a folder with certificates and their keys in *.pem files")
    return endpoint  # type: ignore[no-any-return]


def _reason(error: Exception, kind: str) -> str:
    text = str(error).replace("\n", " ")
    if "Unknown endpoint type" in text:
        return (
            f'unknown endpoint type "{kind}"; expected one such as tcp:79, tcp6:79, unix:PATH, ssl:PORT:privateKey=FILE'
        )
    return f"not what a {kind}: endpoint takes: {re.sub(r'^_?[A-Za-z_.]+[(][)] ', '', text)}"


def check(description: str, reactor: IReactorCore) -> None:
    """Look whether a string describes an endpoint, without binding or launching anything.

    :raises ListenError: it describes none; the message says why.
    """
    if description.partition(":")[0] not in _NOT_PARSED_BY_CHECK:
        parse(description, reactor)


def is_reachable(address: IAddress) -> bool:
    """Tell whether another host could reach a bound address; in doubt it could."""
    if isinstance(address, UNIXAddress):
        return False
    host = getattr(address, "host", "")
    try:
        return not ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return True
