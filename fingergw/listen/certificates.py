"""TLS with certificates from files, which may be renewed while they are in use."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL
from twisted.internet.interfaces import (
    IOpenSSLServerConnectionCreator,
    IProtocolFactory,
    IProtocolNegotiationFactory,
)
from twisted.internet.ssl import CertificateOptions, DiffieHellmanParameters
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.filepath import FilePath
from zope.interface import implementer

from fingergw.core.errors import ListenError
from fingergw.listen import pem
from fingergw.listen.tls_connection import ServerConnection, TlsFactory
from fingergw.net.files import unreadable
from fingergw.net.reasons import tls_reason
from fingergw.net.root import usable_now
from fingergw.net.threads import Run, at_once, in_thread
from fingergw.net.trust import authorities
from fingergw.net.watched import Watched

_log = Logger()

_FOLDER_ADVICE = {
    errno.ENOENT: "; name a folder that exists",
    errno.ENOTDIR: "; trustRoots= takes a folder, not a file",
}
Wrap: TypeAlias = Callable[[IProtocolFactory], IProtocolFactory]


@frozen
class KeyPair:
    """The files that an ``ssl:`` endpoint names.

    :param certificate: a file whose first certificate is the server's; those after it are sent as its chain.
    :param chain: a file with the chain instead; None if there is none.
    :param dh_parameters: a file; None if there is none.
    :param method: OpenSSL's number for protocol versions; None for those that Twisted deems safe.
    """

    key: Path
    certificate: Path
    chain: Path | None = None
    dh_parameters: Path | None = None
    method: int | None = None

    def files(self) -> Iterable[Path]:
        """Return all the files."""
        return filter(None, (self.key, self.certificate, self.chain, self.dh_parameters))

    def load(self) -> SSL.Context:
        """Return the context for new connections.

        :raises ListenError: a file cannot be used; the message says which and why.
        """
        own = self.own()
        options: dict[str, Any] = {"method": self.method} if self.method else {}
        context = _context(self.certificate, **own, **options)
        if self.dh_parameters is None:
            return context
        pem.read(self.dh_parameters)
        options["dhParameters"] = DiffieHellmanParameters.fromFile(FilePath(str(usable_now(self.dh_parameters))))
        return _context(self.dh_parameters, **own, **options)

    def own(self) -> dict[str, Any]:
        """Return the key, the certificate and its chain, as CertificateOptions takes them.

        :raises ListenError: a file cannot be used; the message says which and why.
        """
        keys, (own, *rest) = pem.keys_in(self.key), pem.certificate_and_chain(self.certificate)
        if not keys:
            raise ListenError(f"{self.key}: expected a private key in PEM form")
        if keys[0].public != pem.public_key(own):
            raise pem.mismatch(self.key, self.certificate)
        if self.chain is not None:
            rest = pem.certificate_and_chain(self.chain)
        return _own(keys[0], own, rest)


@frozen(eq=False, repr=False)
class PemFolder:
    """The folder that a ``tls:`` endpoint names, with certificates for one or more names, their keys and chains."""

    path: Path

    def files(self) -> Iterable[Path]:
        """Return the PEM files, and the folders, which change when a file is added or removed."""
        folders = sorted(above / name for above, names, _ in _walk(self.path) for name in names)
        return [self.path, *folders, *self._pem_files()]

    def _pem_files(self, onerror: Callable[[OSError], object] | None = None) -> list[Path]:
        paths = (folder / name for folder, _, names in _walk(self.path, onerror) for name in names)
        return sorted(path for path in paths if path.name.endswith(".pem") and _is_file(path))

    def load(self) -> SSL.Context:
        """Return the context for new connections, each of which gets the certificate for the name it asks for.

        A connection that asks for no name, or an unknown one, gets the first file's certificate. Of several
        certificates for a name the one that expires last is used.

        :raises ListenError: a file cannot be used; the message says which and why.
        """
        paths = self._pem_files(_refuse_closed)
        found = {certificate: path for path in reversed(paths) for certificate in pem.certificates_in(path)}
        keys = {key.public: key for path in paths for key in pem.keys_in(path)}
        owned = [certificate for certificate in found if pem.public_key(certificate) in keys]
        chains = {own: list(pem.chain_of(own, found)) for own in owned}
        without_key = found.keys() - chain(owned, *chains.values())
        without_certificate = keys.keys() - map(pem.public_key, owned)
        if without_key and without_certificate:  # perhaps one of two files has been renewed, and the other not yet
            key = min(keys[each].path for each in without_certificate)
            raise pem.mismatch(key, min(found[each] for each in without_key))
        if not owned:
            if not usable_now(self.path).is_dir():
                raise ListenError(
                    f"{self.path}: no such folder; name one with certificates and their keys in *.pem files"
                )
            raise ListenError(f"{self.path}: has no *.pem file with a certificate and its key")
        by_name: dict[str, SSL.Context] = {}
        for own in sorted(owned, key=pem.validity):
            pair = _own(keys[pem.public_key(own)], own, chains[own])
            context = _context(found[own], **pair, contextForServerName=partial(_for_name, by_name))
            by_name.update((name.lower(), context) for name in pem.names_of(own))
        first = min(owned, key=found.__getitem__)
        return by_name[pem.names_of(first)[0].lower()]


@implementer(IOpenSSLServerConnectionCreator)
@frozen(eq=False, repr=False)
class _Renewed:
    """Create each connection with the certificates that the files have then."""

    context: Watched[SSL.Context]

    def serverConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        connection = ServerConnection(self.context.current(), None)
        connection.set_app_data(protocol)  # for _application_protocol
        return connection


def creator(files: KeyPair | PemFolder, run: Run = at_once) -> IOpenSSLServerConnectionCreator:
    """Return a creator of TLS connections, which reads the files again when they change; open connections stay.

    :param run: runs the looks at the files.
    :raises ListenError: a file cannot be used; the message says which and why.
    """
    return _Renewed(Watched(files.load, files.files, _report, run=run))


def secured(files: KeyPair | PemFolder, reactor: Any) -> Wrap:
    """Return a function that puts TLS before a factory's connections.

    :param reactor: an IReactorTime; where it runs, the files are read again in threads.
    :raises ListenError: a file cannot be used; the message says which and why.
    """
    made = creator(files, partial(in_thread, reactor))
    return lambda factory: TlsFactory(made, False, factory, clock=reactor)


def authorities_in(folder: Path) -> Any:
    """Return the trust root of the authorities whose certificates are in a folder's ``*.pem`` files.

    :raises ListenError: there are none, or a file cannot be used; the message says which and why.
    """
    try:
        paths = sorted(
            folder / path.name for path in usable_now(folder).iterdir() if path.name.lower().endswith(".pem")
        )
    except OSError as error:
        advice = _FOLDER_ADVICE.get(error.errno or 0, "")
        raise ListenError(f"{unreadable(folder, error)}{advice}") from None
    what = "the authority's certificate"
    found = [certificate for path in paths for certificate in pem.certificates_in(path, what)]
    if not found:
        raise ListenError(f"{folder}: expected a folder with authorities' certificates in *.pem files")
    return authorities(b"".join(certificate.public_bytes(Encoding.PEM) for certificate in found))


def _walk(
    path: Path, onerror: Callable[[OSError], object] | None = None
) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Yield each folder, by its path outside of a chroot, with the names of the folders and files in it."""
    try:
        top = usable_now(path)
    except PermissionError as error:
        if onerror is not None:
            onerror(error)
        return
    for folder, folders, files in os.walk(top, onerror=onerror):
        yield path / os.path.relpath(folder, top), folders, files


def _is_file(path: Path) -> bool:
    try:
        return usable_now(path).is_file()
    except PermissionError:  # reported when it is read
        return True


def _refuse_closed(error: OSError) -> None:
    """Refuse a folder that cannot be entered: without its certificates others would be used for its names."""
    if isinstance(error, PermissionError):
        raise ListenError(unreadable(error.filename, error))


def _report(why: str) -> None:
    _log.error("TLS certificates have changed, but cannot be used; those from before stay in use: {why}", why=why)


def _own(key: pem.Key, own: x509.Certificate, rest: Iterable[x509.Certificate]) -> dict[str, Any]:
    return {"privateKey": key.private, "certificate": own, "extraCertChain": list(rest)}


def _context(path: Path, **options: Any) -> SSL.Context:
    """Return Twisted's context for a certificate, with its choice of protocol versions and ciphers.

    :param path: the file to name in the error.
    """
    try:
        made: SSL.Context = CertificateOptions(**options).getContext()
    except (SSL.Error, TypeError, ValueError) as error:
        raise ListenError(f"{path}: cannot be used for TLS: {tls_reason(error) or error}") from None
    made.set_alpn_select_callback(_application_protocol)
    return made


def _application_protocol(connection: SSL.Connection, offered: Sequence[bytes]) -> Any:
    """Select one of the protocols that a client offers (ALPN, RFC 7301).

    A client that offers none of ours is served as if it had offered nothing: finger has no name there, and Twisted's
    own callback would end the handshake.
    """
    serving = IProtocolNegotiationFactory(connection.get_app_data().factory.wrappedFactory, None)
    ours = () if serving is None else serving.acceptableProtocols()
    return next((each for each in ours if each in offered), SSL.NO_OVERLAPPING_PROTOCOLS)


def _for_name(by_name: dict[str, SSL.Context], asked: bytes | None) -> SSL.Context | None:
    """Return the context for the name that a client asks for (RFC 6066 §3); a wildcard covers one level."""
    name = (asked or b"").decode("ascii", "replace").lower()
    return by_name.get(name) or by_name.get("*." + name.partition(".")[2])
