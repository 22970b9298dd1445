"""Clients' endpoint strings: which server they connect to, and the TLS before it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXClientEndpoint, clientFromString
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from zope.interface import implementer

from fingergw.core.addresses import ascii_host
from fingergw.core.errors import ListenError
from fingergw.listen.certificates import KeyPair, authorities_in
from fingergw.listen.endpoint_strings import address, call, later_path, named_file, number, refusal, split
from fingergw.listen.socket_files import check_length, lock_path
from fingergw.net.resolving import Resolver
from fingergw.net.threads import in_reactor
from fingergw.net.trust import over_tls, system_trust

_EXAMPLES = "tcp:HOST:79, tls:HOST:79, unix:PATH"
_MAX_SECONDS = 2**31 - 1

Client: TypeAlias = tuple[IStreamClientEndpoint, list[Path]]


def parse_client(description: str, base: Path, resolver: Resolver, timeout: float) -> Client:
    """Return the endpoint that a client's endpoint string describes, and the files that TLS needs there.

    :param base: the folder that the paths in it are relative to.
    :param resolver: finds the host; its reactor connects to it.
    :param timeout: seconds to connect in, where it has no ``timeout=`` of its own.
    :raises ListenError: it describes none; the message says why.
    """
    kind = split(description)[0]
    if kind == "ssl":
        raise ListenError("ssl: does not verify the server; write tls:HOST:PORT in its place")
    if kind in _TYPES:
        function, example = _TYPES[kind]
        return call(partial(function, base, resolver, timeout), description, example)
    try:
        return in_reactor(resolver.reactor, partial(clientFromString, resolver.as_reactor(), description)), []
    except Exception as error:  # plug-ins raise what they like
        raise refusal(error, kind, _EXAMPLES) from None


# Each of these has the parameters of Twisted's endpoint type of that name, in that order.


def _tcp(
    _base: Path,
    resolver: Resolver,
    default_timeout: float,
    host: str,
    port: str,
    *,
    timeout: str | None = None,
    bindAddress: str | None = None,  # as Twisted has it
) -> Client:
    if not host:
        raise ValueError("the host is empty")
    ascii_host(host)  # refuses what is none
    port_number, seconds = number("the port", port, 1, 65535), _seconds(timeout, default_timeout)
    if bindAddress is not None:
        bindAddress = str(address("bindAddress", bindAddress))
    # Twisted's own asks the reactor's resolver, whatever it is given, and for IPv4 alone
    return resolver.endpoint(host, port_number, timeout=seconds, bind_address=bindAddress), []


def _unix(
    base: Path,
    resolver: Resolver,
    default_timeout: float,
    path: str,
    *,
    timeout: str | None = None,
    lockfile: str = "0",
) -> Client:
    if not path:
        raise ValueError("the path is empty")
    seconds, needs_lock = _seconds(timeout, default_timeout), number("lockfile", lockfile, 0, 1)
    socket_path = later_path(base / path)
    check_length(socket_path)
    if needs_lock:
        return _LockedUnixEndpoint(resolver.reactor, socket_path, seconds), []
    return UNIXClientEndpoint(resolver.reactor, str(socket_path), seconds), []


@implementer(IStreamClientEndpoint)
@frozen(eq=False, repr=False)
class _LockedUnixEndpoint:
    """A unix socket that is connected to only if its ``PATH.lock`` says that a process has it."""

    reactor: Any
    path: Path
    timeout: float

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        lock = lock_path(self.path)
        # Twisted's is a link to a process's number. Ours is a file, and without its process the socket refuses.
        is_link = lock.is_symlink() or not lock.exists()
        connecting: Deferred[IProtocol] = UNIXClientEndpoint(
            self.reactor, str(self.path), self.timeout, is_link
        ).connect(factory)
        return connecting


def _tls(
    base: Path,
    resolver: Resolver,
    default_timeout: float,
    host: str,
    port: str,
    timeout: str | None = None,
    bindAddress: str | None = None,
    certificate: str | None = None,
    privateKey: str | None = None,  # noqa: N803
    trustRoots: str | None = None,
    endpoint: str | None = None,
) -> Client:
    below, files = _tcp(base, resolver, default_timeout, host, port, timeout=timeout, bindAddress=bindAddress)
    if endpoint is not None:
        below, files = parse_client(endpoint, base, resolver, default_timeout)
    trust = system_trust()
    if trustRoots is not None:
        trust = authorities_in(base / named_file("trustRoots", trustRoots))
        files = [*files, base / trustRoots]
    own = {}
    if certificate is not None:
        path = base / named_file("certificate", certificate)
        pair = KeyPair(path if privateKey is None else base / named_file("privateKey", privateKey), path)
        pair.load()  # now, so that its mistakes are reported
        own, files = pair.own(), [*files, *pair.files()]
    elif privateKey is not None:
        raise ValueError("privateKey= is of no use without its certificate=; name both, or neither")
    return over_tls(below, host, trust, **own), files


def _seconds(timeout: str | None, default: float) -> float:
    return default if timeout is None else number("timeout", timeout, 0, _MAX_SECONDS)


_TYPES: dict[str, tuple[Callable[..., Client], str]] = {
    "tcp": (_tcp, "tcp:old.example.org:79"),
    "tls": (_tls, "tls:old.example.org:79"),
    "unix": (_unix, "unix:/run/other/finger.sock"),
}
