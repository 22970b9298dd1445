"""Clients' endpoint strings: whom they lead to, and over what."""

from __future__ import annotations

from inspect import signature
from pathlib import Path

from attrs import frozen
from twisted.internet.endpoints import HostnameEndpoint, clientFromString
from twisted.internet.interfaces import IStreamClientEndpoint

from fingergw.core.errors import ListenError
from fingergw.listen.certificates import KeyPair, authorities_in
from fingergw.listen.endpoint_strings import anchor, in_later_root, parse_arguments, reason, split
from fingergw.net.resolving import Resolver
from fingergw.net.trust import over_tls, system_trust

_EXAMPLES = "tcp:HOST:79, tls:HOST:79, unix:PATH"


def parse_client(description: str, base: Path, resolver: Resolver) -> IStreamClientEndpoint:
    """Return the endpoint that a client's endpoint string describes.

    :param base: the folder that the files in it are relative to.
    :param resolver: finds the host; its reactor connects to it.
    :raises ListenError: it describes none; the message says why.
    """
    kind, *rest = split(description)
    if kind == "ssl":
        raise ListenError("expected tls:HOST:PORT in the place of ssl:, which does not verify the server")
    unnamed, named = parse_arguments(rest)
    try:
        if kind == "tls":
            return _Tls(base, resolver).endpoint(*unnamed, **named)
        endpoint: IStreamClientEndpoint = clientFromString(
            resolver.as_reactor(), in_later_root(anchor(description, base)) if kind == "unix" else description
        )
    except ListenError:
        raise
    except Exception as error:  # plug-ins raise what they like
        raise ListenError(reason(error, kind, _EXAMPLES)) from None
    if kind != "tcp":
        return endpoint
    named.update(zip(("port",) if "host" in named else ("host", "port"), unnamed, strict=False))
    port = _port(kind, named["host"], named["port"])
    if "bindAddress" in named:
        return endpoint
    # Twisted's own asks the reactor's resolver, whatever it is given, and for IPv4 alone
    return resolver.endpoint(named["host"], port, timeout=int(named.get("timeout", 30)))


def client_files(description: str, base: Path) -> list[Path]:
    """Return the files that TLS needs at the endpoint that a client's endpoint string describes.

    :param base: the folder that they are relative to.
    """
    kind, *rest = split(description)
    if kind != "tls":
        return []
    unnamed, named = parse_arguments(rest)
    given = signature(_Tls.endpoint).bind(None, *unnamed, **named).arguments
    own = [base / given[key] for key in ("certificate", "privateKey", "trustRoots") if key in given]
    return own + (client_files(given["endpoint"], base) if "endpoint" in given else [])


def _port(kind: str, host: str, port: str) -> int:
    if not (host and port.isdecimal() and 0 < int(port) < 65536):
        raise ListenError(f"expected a host, and a port from 1 to 65535, as in {kind}:old.example.org:79")
    return int(port)


@frozen
class _Tls:
    """Makes endpoints of the arguments that Twisted's own ``tls:`` has, in that order."""

    base: Path
    resolver: Resolver

    def endpoint(
        self,
        host: str,
        port: str,
        timeout: str = "30",
        bindAddress: str | None = None,  # as Twisted has it
        certificate: str | None = None,
        privateKey: str | None = None,  # noqa: N803
        trustRoots: str | None = None,
        endpoint: str | None = None,
    ) -> IStreamClientEndpoint:
        number, seconds = _port("tls", host, port), int(timeout)
        if endpoint is not None:
            below = parse_client(endpoint, self.base, self.resolver)
        elif bindAddress is not None:
            below = HostnameEndpoint(self.resolver.as_reactor(), host, number, seconds, (bindAddress, 0))
        else:
            below = self.resolver.endpoint(host, number, timeout=seconds)
        trust = system_trust() if trustRoots is None else authorities_in(self.base / trustRoots)
        if certificate is None:
            if privateKey is not None:
                raise ListenError("privateKey= is of no use without its certificate=; name both, or neither")
            return over_tls(below, host, trust)
        own = self.base / certificate
        pair = KeyPair(own if privateKey is None else self.base / privateKey, own)
        pair.load()  # what is not fit for TLS is told now
        return over_tls(below, host, trust, **pair.own())
