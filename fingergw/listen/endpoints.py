"""Servers' endpoint strings: which socket they bind, and the TLS before it."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from attrs import frozen
from OpenSSL import SSL
from twisted.internet.endpoints import AdoptedStreamServerEndpoint, serverFromString
from twisted.internet.interfaces import IStreamServerEndpoint

from fingergw.core.errors import ListenError
from fingergw.listen import certificates
from fingergw.listen.certificates import KeyPair, PemFolder, Wrap
from fingergw.listen.endpoint_strings import PROXIED, arguments_of, call, number, quote, refusal, split

# What parsing these raises is about this machine, not the text: sockets that systemd passed, and Tor, which it starts.
_NOT_PARSED_BY_CHECK = ("systemd", "onion")
# Clients that find the queue full try again after a second, and then three. The kernel has a limit of its own.
_BACKLOG = "4096"
_MAX_INT = 2**31 - 1


@frozen
class Server:
    """A server's endpoint string, taken apart.

    :param socket: the endpoint string of the socket alone, the same however it was spelled.
    :param tls: the files that TLS needs; None without TLS.
    """

    socket: str
    tls: KeyPair | PemFolder | None = None

    def check(self, reactor: Any) -> None:
        """Check it as far as can be done without binding or starting anything.

        :raises ListenError: it describes no endpoint; the message says why.
        """
        if split(self.socket)[0] not in _NOT_PARSED_BY_CHECK:
            parse(self.socket, reactor)

    def secured(self, reactor: Any) -> Wrap:
        """Return a function that puts TLS before a factory's connections, if this endpoint has TLS.

        :raises ListenError: a key or certificate cannot be used; the message says which and why.
        """
        return (lambda factory: factory) if self.tls is None else certificates.secured(self.tls, reactor)


# Each of these has the parameters of Twisted's endpoint type of that name, in that order.


def _tcp(port: str, interface: str = "", backlog: str = _BACKLOG) -> Server:
    with suppress(ValueError):
        interface = str(ip_address(interface))
    if interface == "0.0.0.0":  # noqa: S104  # the default
        interface = ""
    return Server(_join("tcp", str(number("the port", port, 0, 65535)), interface=interface, backlog=_backlog(backlog)))


def _tcp6(port: str, backlog: str = _BACKLOG, interface: str = "::") -> Server:
    return _tcp(port, interface, backlog)  # otherwise Twisted's two are the same


def _unix(address: str, mode: str = "666", backlog: str = _BACKLOG, lockfile: str = "1") -> Server:
    if not address:
        raise ValueError("the path is empty")
    own_mode = number("mode", mode, 0, 0o7777, base=8)
    return Server(
        _join(
            "unix",
            address,
            mode="" if own_mode == 0o666 else f"{own_mode:03o}",
            backlog=_backlog(backlog),
            lockfile="" if number("lockfile", lockfile, 0, 1) else "0",
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
    if not privateKey:
        raise ValueError("privateKey is empty")
    method = None if sslmethod is None else getattr(SSL, sslmethod, None)
    if sslmethod is not None and (not sslmethod.endswith("_METHOD") or method is None):
        raise ValueError(f'expected sslmethod to be one of pyOpenSSL\'s methods, such as TLS_METHOD, not "{sslmethod}"')
    chain, dh_parameters = (None if path is None else Path(path) for path in (extraCertChain, dhParameters))
    key = Path(privateKey)
    files = KeyPair(key, key if certKey is None else Path(certKey), chain, dh_parameters, method)
    return Server(_tcp(port, interface, backlog).socket, files)


def _tls(path: str, port: str = "443", backlog: str = _BACKLOG, interface: str = "::") -> Server:
    return Server(_tcp(port, interface, backlog).socket, PemFolder(Path(path)))


def _systemd(domain: str, index: str | None = None, name: str | None = None) -> Server:
    if (index is None) == (name is None):
        raise ValueError("expected either name= or index=")
    if domain not in ("INET", "INET6", "UNIX"):
        raise ValueError(f'expected domain to be INET6, INET or UNIX, not "{domain}"')
    if index is not None:
        number("index", index, 0, _MAX_INT)
    return Server(_join("systemd", domain=domain, index=index or "", name=name or ""))


_TYPES: dict[str, tuple[Callable[..., Server], str]] = {
    "tcp": (_tcp, "tcp:79:interface=127.0.0.1"),
    "tcp6": (_tcp6, "tcp6:79"),
    "unix": (_unix, "unix:/run/fingergw/finger.sock:mode=660"),
    "ssl": (_ssl, "ssl:79:privateKey=key.pem:certKey=fullchain.pem"),
    "tls": (_tls, "tls:certificates:79"),
    "systemd": (_systemd, "systemd:domain=INET6:name=public"),
}
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
    return call(function, description, example)


def on_loopback(description: str) -> str:
    """Return an endpoint string that binds the loopback, unless it says what to bind."""
    kind = split(description)[0]
    if kind in ("tcp", "tcp6", "ssl", "tls"):
        with suppress(ValueError, ListenError):  # reported when it is taken apart
            if "interface" not in arguments_of(_TYPES[kind][0], description).arguments:
                return f"{description}:interface=" + (r"\:\:1" if kind in ("tcp6", "tls") else "127.0.0.1")
    return description


def parse(socket_string: str, reactor: Any) -> IStreamServerEndpoint:
    """Return the endpoint of a server's socket.

    :param socket_string: a :class:`Server`'s ``socket``.
    :raises ListenError: it describes none; the message says why.
    """
    kind = split(socket_string)[0]
    try:
        endpoint: IStreamServerEndpoint = serverFromString(reactor, socket_string)
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
        _take_over(endpoint)
    return endpoint


def _take_over(endpoint: AdoptedStreamServerEndpoint) -> None:
    """Check a socket that was passed to this process, and give the endpoint a duplicate.

    Twisted closes the socket that it is given once it listens. The one that was passed must stay open for a listener
    that a reload removes and another adds again.

    :raises ListenError: it is closed, or of another kind.
    """
    try:
        with socket.socket(fileno=os.dup(endpoint.fileno)) as passed:
            if passed.type != socket.SOCK_STREAM:
                raise ListenError(
                    "systemd passed a socket that is not a stream socket; write ListenStream= in its .socket unit"
                )
            name = passed.getsockname()
            if passed.family == socket.AF_UNIX and isinstance(name, str) and name:  # an abstract one is bytes
                raise ListenError(
                    "systemd passed a socket with a path; write unix:PATH, so that the gateway creates it"
                )
            endpoint.fileno = passed.detach()
    except OSError as error:
        raise ListenError(
            f"the socket that systemd passed cannot be used: {error.strerror}; restart its .socket unit"
        ) from None
