"""Servers' endpoint strings: which socket they bind, and the TLS before it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import evolve, frozen
from OpenSSL import SSL
from twisted.internet.endpoints import AdoptedStreamServerEndpoint, serverFromString
from twisted.internet.interfaces import IStreamServerEndpoint

from fingergw.core.addresses import Address, parse_address
from fingergw.core.errors import ListenError
from fingergw.listen.endpoint_strings import (
    PROXIED,
    address,
    arguments_of,
    call,
    named_file,
    number,
    quote,
    refusal,
    split,
)
from fingergw.listen.passed_sockets import take_over
from fingergw.listen.reachability import can_bind
from fingergw.listen.socket_files import check_file, check_length
from fingergw.listen.unix_sockets import UnixEndpoint
from fingergw.net.files import is_made_by_systemd, may_be_made_by_systemd, no_folder, no_folder_yet
from fingergw.net.root import outside
from fingergw.net.threads import in_reactor

if TYPE_CHECKING:  # it is loaded where there is TLS
    from fingergw.listen.certificates import KeyPair, PemFolder, Wrap

# What parsing these raises is about this machine, not the text: sockets that systemd passed, and Tor, which it starts.
_NOT_PARSED_BY_CHECK = ("systemd", "onion")
# Clients that find the queue full try again after a second, and then three. The kernel has a limit of its own.
_BACKLOG = "4096"
_MAX_INT = 2**31 - 1


@frozen(eq=False, repr=False)
class Server:
    """A server's endpoint string, taken apart.

    :param socket: the endpoint string of the socket alone, the same however it was spelled.
    :param tls: the files that TLS needs; None without TLS.
    :param interface: the address that it binds, if it names one; IPv4 if it is that within IPv6.
    """

    socket: str
    tls: KeyPair | PemFolder | None = None
    interface: Address | None = None

    def check(self, reactor: Any) -> str | None:
        """Check it as far as can be done without binding or starting anything.

        :return: why it could not be bound now, if that may be different at the start.
        :raises ListenError: it describes no endpoint, or none that can be bound here; the message says why.
        """
        kind = split(self.socket)[0]
        if kind in _NOT_PARSED_BY_CHECK:
            return None
        endpoint = parse(self.socket, reactor)
        if isinstance(endpoint, UnixEndpoint):
            try:
                check_file(endpoint.path)
            except FileNotFoundError:
                return _missing(outside(endpoint.path).parent)
        if self.interface is not None and not can_bind(self.interface):
            why = "is no address of this machine now, and without it the gateway cannot start"
            return f"{self.interface} {why}; assign it to this machine, or name another"
        return None

    def secured(self, reactor: Any) -> Wrap:
        """Return a function that puts TLS before a factory's connections, if this endpoint has TLS.

        :raises ListenError: a key or certificate cannot be used; the message says which and why.
        """
        if self.tls is None:
            return lambda factory: factory
        from fingergw.listen.certificates import secured

        return secured(self.tls, reactor)


# Each of these has the parameters of Twisted's endpoint type of that name, in that order.


def _tcp(port: str, interface: str = "", backlog: str = _BACKLOG) -> Server:
    return _on_port(port, interface, backlog, "127.0.0.1")


def _tcp6(port: str, backlog: str = _BACKLOG, interface: str = "::") -> Server:
    return _on_port(port, interface, backlog, "::1")  # otherwise Twisted's two are the same


def _on_port(port: str, interface: str, backlog: str, localhost: str) -> Server:
    own_port, own_backlog = number("the port", port, 0, 65535), _backlog(backlog)
    bound = address("interface", interface, localhost) if interface else None
    is_default = bound is None or str(bound) == "0.0.0.0"  # noqa: S104
    socket = _join("tcp", str(own_port), interface="" if is_default else str(bound), backlog=own_backlog)
    return Server(socket, interface=None if bound is None else parse_address(str(bound)))


def _unix(address: str, mode: str = "666", backlog: str = _BACKLOG, lockfile: str = "1") -> Server:
    if not address:
        raise ValueError("the path is empty")
    own_mode = number("mode", mode, 0, 0o7777, base=8)
    own_backlog, has_lock = _backlog(backlog), number("lockfile", lockfile, 0, 1)
    check_length(Path(address))
    return Server(
        _join(
            "unix",
            address,
            mode="" if own_mode == 0o666 else f"{own_mode:03o}",
            backlog=own_backlog,
            lockfile="" if has_lock else "0",
        )
    )


def _ssl(
    port: str,
    privateKey: str = "server.pem",  # noqa: N803  # as Twisted has it
    certKey: str | None = None,  # noqa: N803
    sslmethod: str | None = None,
    interface: str = "",
    backlog: str = _BACKLOG,
    extraCertChain: str | None = None,
    dhParameters: str | None = None,
) -> Server:
    from fingergw.listen.certificates import KeyPair

    method = None if sslmethod is None else getattr(SSL, sslmethod, None)
    if sslmethod is not None and (not sslmethod.endswith("_METHOD") or method is None):
        raise ValueError(f'expected sslmethod to be one of pyOpenSSL\'s methods, such as TLS_METHOD, not "{sslmethod}"')
    key, certificate = (
        named_file("privateKey", privateKey),
        named_file("certKey", privateKey if certKey is None else certKey),
    )
    chain = None if extraCertChain is None else named_file("extraCertChain", extraCertChain)
    dh_parameters = None if dhParameters is None else named_file("dhParameters", dhParameters)
    files = KeyPair(key, certificate, chain, dh_parameters, method)
    return evolve(_tcp(port, interface, backlog), tls=files)


def _tls(path: str, port: str = "443", backlog: str = _BACKLOG, interface: str = "::") -> Server:
    from fingergw.listen.certificates import PemFolder

    return evolve(_tcp6(port, backlog, interface), tls=PemFolder(named_file("the path", path)))


def _systemd(domain: str, index: str | None = None, name: str | None = None) -> Server:
    if (index is None) == (not name):
        raise ValueError("expected either name= or index=")
    if domain not in ("INET", "INET6", "UNIX"):
        raise ValueError(f'expected domain to be INET6, INET or UNIX, not "{domain}"')
    if index is not None:
        index = str(number("index", index, 0, _MAX_INT))
    return Server(_join("systemd", domain=domain, index=index or "", name=name or ""))


_TYPES: dict[str, tuple[Callable[..., Server], str]] = {
    "tcp": (_tcp, "tcp:79:interface=127.0.0.1"),
    "tcp6": (_tcp6, "tcp6:79"),
    "unix": (_unix, "unix:/run/fingergw/finger.sock:mode=660"),
    "ssl": (_ssl, "ssl:79:privateKey=key.pem:certKey=fullchain.pem"),
    "tls": (_tls, "tls:certificates:79"),
    "systemd": (_systemd, "systemd:domain=INET6:name=public"),
}
_ON_A_PORT = ("tcp", "tcp6", "ssl", "tls")
_EXAMPLES = "tcp:79:interface=127.0.0.1, tcp:79, unix:PATH, ssl:PORT:privateKey=FILE:certKey=FILE"


def _backlog(text: str) -> str:
    return str(number("backlog", text, -1, _MAX_INT))


def _join(kind: str, *unnamed: str, **named: str) -> str:
    arguments = [f"{key}={quote(value)}" for key, value in named.items() if value]
    return ":".join([kind, *map(quote, unnamed), *arguments])


def server(description: str) -> Server:
    """Take a server's endpoint string apart.

    :raises ListenError: it describes none; the message says why.
    """
    bare = description.removeprefix(PROXIED)
    kind = split(bare)[0]
    if kind == PROXIED[:-1]:  # Twisted's own accepts a PROXY header from anybody
        raise ListenError("expected haproxy: once, in lower case, and another endpoint after it, as in haproxy:tcp:79")
    if kind not in _TYPES:
        return Server(bare)
    function, example = _TYPES[kind]
    found = call(function, description, example)
    if bare != description and found.socket.startswith("systemd:domain=UNIX"):
        raise ListenError("a proxy is known by its address, and a unix socket's clients have none; use domain=INET6")
    return found


def _missing(folder: Path) -> str | None:
    """Return a warning about a unix socket's folder that is not there, if it may be by then; None if it will be.

    :raises ListenError: it may not.
    """
    if is_made_by_systemd(folder):
        return None
    if not may_be_made_by_systemd(folder):
        raise ListenError(no_folder(folder))
    return no_folder_yet(folder)


def on_loopback(description: str) -> str:
    """Return an endpoint string that binds the loopback, unless it says what to bind."""
    with suppress(ValueError, ListenError):  # reported when it is taken apart
        kind = split(description)[0]
        names_none = kind in _ON_A_PORT and "interface" not in arguments_of(_TYPES[kind][0], description).arguments
        if names_none:
            return f"{description}:interface=" + (r"\:\:1" if kind in ("tcp6", "tls") else "127.0.0.1")
    return description


def parse(socket_string: str, reactor: Any) -> IStreamServerEndpoint:
    """Return the endpoint of a server's socket.

    :param socket_string: a :class:`Server`'s ``socket``.
    :raises ListenError: it describes none; the message says why.
    """
    kind = split(socket_string)[0]
    if kind == "unix":
        return call(partial(_unix_endpoint, reactor), socket_string, _TYPES[kind][1])
    try:
        make = partial(serverFromString, reactor, socket_string)
        endpoint: IStreamServerEndpoint = make() if kind in _TYPES else in_reactor(reactor, make)
    except LookupError as error:
        if kind != "systemd":
            raise refusal(error, kind, _EXAMPLES) from None
        if isinstance(error, KeyError):
            name = error.args[0]
            why = f'by the name "{name}"; start the .socket unit that has FileDescriptorName={name}'
        else:
            why = "with that index; start the .socket unit that has it"
        raise ListenError(f"systemd passed no socket {why}") from None
    except OSError as error:
        raise ListenError(f"{error.filename or kind}: {error.strerror or error}") from None
    except Exception as error:  # plug-ins raise what they like
        raise refusal(error, kind, _EXAMPLES) from None
    if isinstance(endpoint, AdoptedStreamServerEndpoint):
        take_over(endpoint)
    return endpoint


def _unix_endpoint(
    reactor: Any, address: str, mode: str = "666", backlog: str = _BACKLOG, lockfile: str = "1"
) -> IStreamServerEndpoint:
    return UnixEndpoint(reactor, Path(address), int(mode, 8), int(backlog), lockfile != "0")
