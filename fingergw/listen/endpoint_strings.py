"""Servers' endpoint strings: taken apart, made absolute, spelled the same."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from inspect import signature
from ipaddress import ip_address
from pathlib import Path

from attrs import frozen
from OpenSSL import SSL
from twisted.internet.endpoints import quoteStringArgument

from fingergw.core.errors import ListenError
from fingergw.listen.certificates import KeyPair, PemFolder
from fingergw.net.root import later, outside

# Which arguments of Twisted's own endpoint types are files.
_FILE_ARGUMENTS = {
    "unix": {"address", "path", 0},
    "ssl": {"privateKey", "certKey", "extraCertChain", "dhParameters", 1, 2},
    "tls": {"path", 0},
}
PROXIED = "haproxy:"
# Clients that find the queue full try again after a second, and then three. The kernel has a limit of its own.
BACKLOG = "4096"
EXAMPLES = "tcp:79, tcp6:79, unix:PATH, ssl:PORT:privateKey=FILE"


def is_proxied(description: str) -> bool:
    """Tell whether an endpoint string is for clients that come through a proxy, which sends a PROXY header."""
    return description.startswith(PROXIED)


def anchor(description: str, base: Path) -> str:
    """Return an endpoint string whose relative files are relative to a folder."""
    return _with_files(description, lambda path: base / path)


def in_later_root(description: str) -> str:
    """Return an endpoint string whose unix socket, if it is for one, is where it is once the root has been changed.

    :raises ListenError: it is out of reach then.
    """

    def place(path: Path) -> Path:
        found = later(path)
        if found is None:
            raise ListenError(f"{path}: {outside()}; put it below that")
        return found

    is_unix = split(description.removeprefix(PROXIED))[0] == "unix"
    return _with_files(description, place) if is_unix else description


def _with_files(description: str, change: Callable[[Path], Path]) -> str:
    """Return an endpoint string whose files are others."""
    proxied = PROXIED if is_proxied(description) else ""
    kind, *arguments = split(description.removeprefix(proxied))
    files = _FILE_ARGUMENTS.get(kind, set())
    changed = [kind]
    for place, argument in enumerate(arguments):
        key, equals, value = argument.partition("=") if re.match(r"\w+=", argument) else ("", "", argument)
        if value and (key or place) in files:
            path = change(Path(unquote(value)))
            argument = key + equals + quoteStringArgument(str(path)).replace("=", r"\=")
        changed.append(argument)
    return proxied + ":".join(changed)


def split(description: str) -> list[str]:
    """Return an endpoint string's kind, which Twisted takes in any case, and arguments, quoted as they are."""
    kind, *arguments = re.findall(r"(?:^|:)((?:\\.|[^:])*)", description)
    return [quoteStringArgument(unquote(kind).lower()), *arguments]


def unquote(value: str) -> str:
    """Return what a quoted part of an endpoint string stands for."""
    return re.sub(r"\\(.)", r"\1", value)


@frozen
class Server:
    """What a server's endpoint string says.

    :param socket: what to bind, as a string that is the same however it was spelled.
    :param files: what TLS needs; None without TLS.
    """

    socket: str
    files: KeyPair | PemFolder | None = None


# Each of these has the arguments of Twisted's endpoint of that name, in that order.


def _tcp(port: str, interface: str = "", backlog: str = BACKLOG) -> Server:
    if not 0 <= int(port) < 65536:
        raise ValueError(f"expected a port below 65536, not {int(port)}")
    with suppress(ValueError):
        interface = str(ip_address(interface))
    if interface == "0.0.0.0":  # noqa: S104  # which is what none at all means
        interface = ""
    return Server(_join("tcp", str(int(port)), interface=interface, backlog=_count(backlog)))


def _tcp6(port: str, backlog: str = BACKLOG, interface: str = "::") -> Server:
    return _tcp(port, interface, backlog)  # Twisted's two differ in nothing else


def _unix(address: str, mode: str = "666", backlog: str = BACKLOG, lockfile: str = "1") -> Server:
    own_mode = f"{int(mode, 8):03o}"
    has_lock = bool(int(lockfile))
    return Server(
        _join(
            "unix",
            address,
            mode="" if own_mode == "666" else own_mode,
            backlog=_count(backlog),
            lockfile="" if has_lock else "0",
        )
    )


def _ssl(
    port: str,
    privateKey: str = "server.pem",  # noqa: N803  # as Twisted has it
    certKey: str | None = None,  # noqa: N803
    sslmethod: str | None = None,
    interface: str = "",
    backlog: str = BACKLOG,
    extraCertChain: str | None = None,
    dhParameters: str | None = None,
) -> Server:
    method = None if sslmethod is None else getattr(SSL, sslmethod, None)
    if sslmethod is not None and (not sslmethod.endswith("_METHOD") or method is None):
        raise ValueError("expected sslmethod=TLS_METHOD, or another of pyOpenSSL's methods")
    chain, dh_parameters = (None if path is None else Path(path) for path in (extraCertChain, dhParameters))
    key = Path(privateKey)
    files = KeyPair(key, key if certKey is None else Path(certKey), chain, dh_parameters, method)
    return Server(_tcp(port, interface, backlog).socket, files)


def _tls(path: str, port: str = "443", backlog: str = BACKLOG, interface: str = "::") -> Server:
    return Server(_tcp(port, interface, backlog).socket, PemFolder(Path(path)))


def _systemd(domain: str, index: str | None = None, name: str | None = None) -> Server:
    if (index is None) == (name is None):
        raise ValueError("expected either name= or index=")
    return Server(_join("systemd", domain=domain, index=index or "", name=name or ""))


_SERVERS: dict[str, Callable[..., Server]] = {
    "tcp": _tcp,
    "tcp6": _tcp6,
    "unix": _unix,
    "ssl": _ssl,
    "tls": _tls,
    "systemd": _systemd,
}


def _count(backlog: str) -> str:
    count = str(int(backlog))
    return "" if count == BACKLOG else count


def _join(kind: str, *unnamed: str, **named: str) -> str:
    arguments = [quoteStringArgument(value).replace("=", r"\=") for value in unnamed]
    arguments += [f"{key}={quoteStringArgument(value)}" for key, value in named.items() if value]
    return ":".join([kind, *arguments])


def server(description: str) -> Server:
    """Take a server's endpoint string apart.

    :raises ListenError: it describes none; the message says why.
    """
    description = description.removeprefix(PROXIED)
    kind, *arguments = split(description)
    if kind == PROXIED[:-1]:  # Twisted's own would believe anybody
        raise ListenError("expected haproxy: once, and as plainly as that")
    if kind not in _SERVERS:
        return Server(description)
    unnamed, named = parse_arguments(arguments)
    try:
        return _SERVERS[kind](*unnamed, **named)
    except (TypeError, ValueError) as error:
        raise ListenError(reason(error, kind, EXAMPLES)) from None


def parse_arguments(arguments: list[str]) -> tuple[list[str], dict[str, str]]:
    """Return an endpoint string's unnamed and named arguments.

    :raises ListenError: one ends in the midst of a quotation.
    """
    unnamed, named = [], {}
    for argument in arguments:
        found = re.fullmatch(r"((?:\\.|[^=\\])*)(=(?:\\.|[^\\])*)?", argument, re.DOTALL)
        if found is None:
            raise ListenError("expected something after a backslash; write two for one that is meant as such")
        key, value = found.groups()
        if value is None:
            unnamed.append(unquote(key))
        else:
            named[unquote(key)] = unquote(value[1:])
    return unnamed, named


def socket_of(description: str) -> str:
    """Return the part of a server's endpoint string that says what is bound, always spelled the same.

    :raises ListenError: it describes none; the message says why.
    """
    return server(description).socket


def on_loopback(description: str) -> str:
    """Return an endpoint string that is bound to the loopback, where it does not say to what."""
    kind, *arguments = split(description)
    if kind not in ("tcp", "tcp6", "ssl", "tls"):
        return description
    with suppress(TypeError, ListenError):  # which is said where it is taken apart
        unnamed, named = parse_arguments(arguments)
        if "interface" not in signature(_SERVERS[kind]).bind(*unnamed, **named).arguments:
            return f"{description}:interface=" + (r"\:\:1" if kind in ("tcp6", "tls") else "127.0.0.1")
    return description


def reason(error: Exception, kind: str, examples: str) -> str:
    """Return what an endpoint string's mistake is."""
    text = str(error).replace("\n", " ")
    if "Unknown endpoint type" in text:
        return f'unknown endpoint type "{kind}"; expected one such as {examples}'
    return f"not what a {kind}: endpoint takes: {re.sub(r'^_?[A-Za-z0-9_.]+[(][)] ', '', text)}"
