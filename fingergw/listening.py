"""Endpoint strings: made absolute, checked, parsed."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from twisted.internet.address import UNIXAddress
from twisted.internet.endpoints import clientFromString, quoteStringArgument, serverFromString
from twisted.internet.interfaces import IAddress, IReactorCore, IStreamClientEndpoint, IStreamServerEndpoint
from twisted.logger import Logger

from fingergw.addresses import parse_address
from fingergw.errors import ListenError
from fingergw.resolving import Resolver

_log = Logger()
# Which arguments of Twisted's own endpoint types are files.
_FILE_ARGUMENTS = {
    "unix": {"address", "path", 0},
    "ssl": {"privateKey", "certKey", "extraCertChain", "dhParameters", 1, 2},
    "tls": {"path", 0},
}
# Parsing these says something about the machine, not the text: sockets passed by systemd; Tor, which is launched.
_NOT_PARSED_BY_CHECK = ("systemd", "onion")
_PROXIED = "haproxy:"
_QUEUEING = ("tcp", "tcp6", "ssl", "tls", "unix")
# Clients that find the queue full try again after a second, and then three. The kernel has a limit of its own.
_BACKLOG = 4096
_EXAMPLES = "tcp:79, tcp6:79, unix:PATH, ssl:PORT:privateKey=FILE"
_CLIENT_EXAMPLES = "tcp:HOST:79, tls:HOST:79, unix:PATH"


def is_proxied(description: str) -> bool:
    """Tell whether an endpoint string is for clients that come through a proxy, which sends a PROXY header."""
    return description.startswith(_PROXIED)


def anchor(description: str, base: Path) -> str:
    """Return an endpoint string whose relative files are relative to a folder."""
    if is_proxied(description):
        return _PROXIED + anchor(description.removeprefix(_PROXIED), base)
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
    """Return the endpoint that a string describes; for a proxied one that which the proxy connects to.

    :raises ListenError: it describes none; the message says why.
    """
    description = description.removeprefix(_PROXIED)
    kind, *arguments = _split(description)
    if _unquote(kind) == _PROXIED[:-1]:  # Twisted's own would believe anybody
        raise ListenError("expected haproxy: once, and as plainly as that")
    try:
        endpoint = _with_backlog(kind, arguments, description, reactor) or serverFromString(reactor, description)
    except OSError as error:
        raise ListenError(f"{error.filename or kind}: {error.strerror or error}") from None
    except KeyError as error:
        if kind == "systemd":
            raise ListenError(f"systemd passed no socket named {error}; start the .socket unit of that name") from None
        raise ListenError(f"unknown argument or value {error}") from None
    except Exception as error:  # plug-ins raise what they like
        raise ListenError(_reason(error, kind, _EXAMPLES)) from None
    if kind == "tls":
        folder = next((argument[5:] for argument in arguments if argument.startswith("path=")), arguments[0])
        if not any(Path(_unquote(folder)).rglob("*.pem")):  # Twisted would notice at the first client
            raise ListenError(f"{_unquote(folder)}: expected a folder with certificates and their keys in *.pem files")
    return endpoint


def _with_backlog(
    kind: str, arguments: list[str], description: str, reactor: IReactorCore
) -> IStreamServerEndpoint | None:
    """Return the endpoint with a longer queue than Twisted's 50, where the string leaves that open."""
    if kind in _QUEUEING and not any(argument.startswith("backlog=") for argument in arguments):
        with suppress(Exception):  # it may be given by its place; and what is wrong will be found without it too
            return serverFromString(reactor, f"{description}:backlog={_BACKLOG}")  # type: ignore[no-any-return]
    return None


def _reason(error: Exception, kind: str, examples: str) -> str:
    text = str(error).replace("\n", " ")
    if "Unknown endpoint type" in text:
        return f'unknown endpoint type "{kind}"; expected one such as {examples}'
    return f"not what a {kind}: endpoint takes: {re.sub(r'^_?[A-Za-z0-9_.]+[(][)] ', '', text)}"


def parse_client(description: str, base: Path, resolver: Resolver) -> IStreamClientEndpoint:
    """Return the endpoint that a client's endpoint string describes.

    :param base: the folder that the path of a ``unix:`` endpoint is relative to.
    :param resolver: finds the host; its reactor connects to it.
    :raises ListenError: it describes none; the message says why.
    """
    kind, *arguments = _split(description)
    if kind == "ssl":
        raise ListenError("expected tls:HOST:PORT in the place of ssl:, which does not verify the server")
    try:
        endpoint: IStreamClientEndpoint = clientFromString(
            resolver.as_reactor(), anchor(description, base) if kind == "unix" else description
        )
    except Exception as error:  # plug-ins raise what they like
        raise ListenError(_reason(error, kind, _CLIENT_EXAMPLES)) from None
    named = {key: _unquote(value) for key, equals, value in (each.partition("=") for each in arguments) if equals}
    if kind not in ("tcp", "tls"):
        return endpoint
    unnamed = [_unquote(argument) for argument in arguments if "=" not in argument]
    named.update(zip(("port",) if "host" in named else ("host", "port"), unnamed, strict=False))
    if not (named["host"] and named["port"].isdecimal() and 0 < int(named["port"]) < 65536):
        raise ListenError(f"expected a host, and a port from 1 to 65535, as in {kind}:old.example.org:79")
    if kind == "tls" or "bindAddress" in named:
        return endpoint
    # Twisted's own asks the reactor's resolver, whatever it is given, and for IPv4 alone
    return resolver.endpoint(named["host"], int(named["port"]), timeout=int(named.get("timeout", 30)))


def check(description: str, reactor: IReactorCore) -> None:
    """Look whether a string describes an endpoint, without binding or launching anything.

    :raises ListenError: it describes none; the message says why.
    """
    if _split(description.removeprefix(_PROXIED))[0] not in _NOT_PARSED_BY_CHECK:
        parse(description, reactor)


def leads_to(peer: IAddress, own: IAddress, bound: IAddress) -> bool:
    """Tell whether a connection has one of this process's own listeners at its other end.

    :param peer: the address of the connection's other end.
    :param own: that of this end.
    :param bound: what the listener is bound to.
    """
    if isinstance(bound, UNIXAddress) or isinstance(peer, UNIXAddress):
        return peer == bound
    if getattr(peer, "port", None) != getattr(bound, "port", None):
        return False
    peer_host, own_host, bound_host = (parse_address(getattr(address, "host", "")) for address in (peer, own, bound))
    if bound_host is not None and bound_host.is_unspecified:  # it is bound to all that this machine has
        return peer_host == own_host or (peer_host is not None and peer_host.is_loopback)
    return peer_host == bound_host


def is_reachable(address: IAddress) -> bool:
    """Tell whether another host could reach a bound address; in doubt it could."""
    if isinstance(address, UNIXAddress):
        return False
    ip = parse_address(getattr(address, "host", ""))
    return ip is None or not ip.is_loopback
