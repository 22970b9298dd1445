"""TLS certificates in files, which may be renewed while they are in use."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

from attrs import field, frozen
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from OpenSSL import SSL
from twisted.internet.interfaces import (
    IOpenSSLServerConnectionCreator,
    IProtocolFactory,
    IProtocolNegotiationFactory,
    IReactorTime,
)
from twisted.internet.ssl import CertificateOptions, DiffieHellmanParameters
from twisted.logger import Logger
from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.filepath import FilePath
from zope.interface import implementer

from fingergw.core.errors import ListenError
from fingergw.net.files import read_file, unreadable
from fingergw.net.reasons import tls_reason
from fingergw.net.root import here
from fingergw.net.trust import authorities
from fingergw.net.watched import Watched

_log = Logger()
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_KEY = re.compile(rb"-----BEGIN ([A-Z0-9 ]*PRIVATE KEY)-----.+?-----END \1-----", re.DOTALL)

Wrap: TypeAlias = Callable[[IProtocolFactory], IProtocolFactory]


@frozen
class _Key:
    path: Path
    private: Any = field(repr=False)
    public: bytes  # as certificates have it


@frozen
class KeyPair:
    """What an ``ssl:`` endpoint names.

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
        """Return what new connections are made with.

        :raises ListenError: the files are not what they should be; the message says which and why.
        """
        own = self.own()
        options: dict[str, Any] = {"method": self.method} if self.method else {}
        context = _context(self.certificate, **own, **options)
        if self.dh_parameters is None:
            return context
        _read(self.dh_parameters)
        options["dhParameters"] = DiffieHellmanParameters.fromFile(FilePath(str(here(self.dh_parameters))))
        return _context(self.dh_parameters, **own, **options)

    def own(self) -> dict[str, Any]:
        """Return the key, the certificate and its chain, as CertificateOptions takes them.

        :raises ListenError: the files are not what they should be; the message says which and why.
        """
        keys, (own, *rest) = _keys(self.key), _some_certificates(self.certificate)
        if not keys:
            raise ListenError(f"{self.key}: expected a private key in PEM form")
        if keys[0].public != _public(own):
            raise _mismatch(self.key, self.certificate)
        if self.chain is not None:
            rest = _some_certificates(self.chain)
        return _own(keys[0], own, rest)


@frozen
class PemFolder:
    """What a ``tls:`` endpoint names: a folder with certificates for one or more names, their keys and their chains."""

    path: Path

    def files(self) -> Iterable[Path]:
        """Return the PEM files, and the folders, which change when a file is added or removed."""
        folders = sorted(above / name for above, names, _ in _walk(self.path) for name in names)
        return [self.path, *folders, *self._pem_files()]

    def _pem_files(self, onerror: Callable[[OSError], object] | None = None) -> list[Path]:
        paths = (folder / name for folder, _, names in _walk(self.path, onerror) for name in names)
        return sorted(path for path in paths if path.name.endswith(".pem") and _is_file(path))

    def load(self) -> SSL.Context:
        """Return what new connections are made with: each gets the certificate for the name that it asks for.

        One that asks for none, or for another, gets the first file's. Of several for a name that which expires last is
        taken.

        :raises ListenError: the files are not what they should be; the message says which and why.
        """
        paths = self._pem_files(_refuse_closed)
        found = {certificate: path for path in reversed(paths) for certificate in _certificates(path)}
        keys = {key.public: key for path in paths for key in _keys(path)}
        owned = [certificate for certificate in found if _public(certificate) in keys]
        chains = {own: list(_chain(own, found)) for own in owned}
        idle = found.keys() - chain(owned, *chains.values())
        lone = keys.keys() - map(_public, owned)
        if idle and lone:  # one could be meant for the other: half of them is renewed
            raise _mismatch(min(keys[each].path for each in lone), min(found[each] for each in idle))
        if not owned:
            raise ListenError(f"{self.path}: expected a folder with certificates and their keys in *.pem files")
        by_name: dict[str, SSL.Context] = {}
        for own in sorted(owned, key=_expiry):
            pair = _own(keys[_public(own)], own, chains[own])
            context = _context(found[own], **pair, contextForServerName=partial(_for_name, by_name))
            by_name.update((name.lower(), context) for name in _names(own))
        first = min(owned, key=found.__getitem__)
        return by_name[_names(first)[0].lower()]


@implementer(IOpenSSLServerConnectionCreator)
@frozen
class _Renewed:
    """Make each connection with the certificates of the moment."""

    context: Watched[SSL.Context]

    def serverConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        connection = SSL.Connection(self.context.current(), None)
        connection.set_app_data(protocol)  # for _application_protocol
        return connection


class _Transport(BufferingTLSTransport):
    """A connection under TLS.

    :param has_begun: whether the client has sent anything.
    """

    has_begun = False

    def dataReceived(self, bytes: bytes) -> None:  # noqa: A002  # as Twisted has it
        self.has_begun = True
        super().dataReceived(bytes)  # type: ignore[no-untyped-call]


class _Factory(TLSMemoryBIOFactory):
    protocol = _Transport


def creator(files: KeyPair | PemFolder) -> IOpenSSLServerConnectionCreator:
    """Return what begins TLS on a connection. Certificates may be renewed, which open connections do not notice.

    :raises ListenError: the files are not what they should be; the message says which and why.
    """
    return _Renewed(Watched(files.load, files.files, _report))


def secured(files: KeyPair | PemFolder, clock: IReactorTime) -> Wrap:
    """Return what puts TLS before a factory's connections.

    :raises ListenError: the files are not what they should be; the message says which and why.
    """
    made = creator(files)
    return lambda factory: _Factory(made, False, factory, clock=clock)


def authorities_in(folder: Path) -> Any:
    """Return whom to trust for TLS: the authorities whose certificates are in a folder's ``*.pem`` files.

    :raises ListenError: there is none, or one is not what it should be; the message says which and why.
    """
    try:
        paths = sorted(folder / path.name for path in here(folder).iterdir() if path.name.lower().endswith(".pem"))
    except OSError as error:
        raise ListenError(unreadable(folder, error)) from None
    found = [certificate for path in paths for certificate in _certificates(path)]
    if not found:
        raise ListenError(f"{folder}: expected a folder with authorities' certificates in *.pem files")
    return authorities(b"".join(certificate.public_bytes(Encoding.PEM) for certificate in found))


def _walk(
    path: Path, onerror: Callable[[OSError], object] | None = None
) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Return each folder, as it is called outside of a chroot, with the names of the folders and files in it."""
    try:
        top = here(path)
    except PermissionError as error:
        if onerror is not None:
            onerror(error)
        return
    for folder, folders, files in os.walk(top, onerror=onerror):
        yield path / os.path.relpath(folder, top), folders, files


def _is_file(path: Path) -> bool:
    try:
        return here(path).is_file()
    except PermissionError:  # which is told of once it is read
        return True


def _refuse_closed(error: OSError) -> None:
    """Say that a folder cannot be looked into: without what is in it others' certificates would serve its names."""
    if isinstance(error, PermissionError):
        raise ListenError(unreadable(error.filename, error))


def _report(why: str) -> None:
    _log.error("TLS certificates have changed, and those from before stay in use, as the new cannot be: {why}", why=why)


def _read(path: Path) -> bytes:
    try:
        return read_file(path)[0]
    except OSError as error:
        raise ListenError(unreadable(path, error)) from None


def _certificates(path: Path) -> list[x509.Certificate]:
    try:
        return [x509.load_pem_x509_certificate(pem[0]) for pem in _CERTIFICATE.finditer(_read(path))]
    except ValueError:
        raise ListenError(f"{path}: a certificate in it is broken; issue it anew") from None


def _some_certificates(path: Path) -> list[x509.Certificate]:
    certificates = _certificates(path)
    if not certificates:
        raise ListenError(f"{path}: expected one or more certificates in PEM form")
    return certificates


def _keys(path: Path) -> list[_Key]:
    keys = []
    for pem in _KEY.finditer(_read(path)):
        try:
            private = load_pem_private_key(pem[0], None)
        except TypeError:
            raise ListenError(
                f"{path}: this key is encrypted, and nobody can type its passphrase here; store it without one, "
                "readable for the gateway alone: openssl pkey -in FILE -out FILE"
            ) from None
        except (ValueError, UnsupportedAlgorithm):
            raise ListenError(f"{path}: a private key in it is broken, or of no kind that TLS has") from None
        keys.append(_Key(path, private, _encoded(private.public_key())))
    return keys


def _encoded(public: Any) -> bytes:
    encoded: bytes = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return encoded


def _public(certificate: x509.Certificate) -> bytes:
    return _encoded(certificate.public_key())


def _mismatch(key: Path, certificate: Path) -> ListenError:
    return ListenError(
        f"{key}: this is not the key of the certificate in {certificate}; put in those that belong together"
    )


def _own(key: _Key, own: x509.Certificate, rest: Iterable[x509.Certificate]) -> dict[str, Any]:
    return {"privateKey": key.private, "certificate": own, "extraCertChain": list(rest)}


def _context(path: Path, **options: Any) -> SSL.Context:
    """Return what Twisted makes of a certificate, its choice of protocol versions and ciphers included."""
    try:
        made: SSL.Context = CertificateOptions(**options).getContext()
    except (SSL.Error, TypeError, ValueError) as error:
        raise ListenError(f"{path}: not fit for TLS: {tls_reason(error) or error}") from None
    made.set_alpn_select_callback(_application_protocol)
    return made


def _application_protocol(connection: SSL.Connection, offered: Sequence[bytes]) -> Any:
    """Return which of the protocols that a client offers (ALPN, RFC 7301) is spoken.

    Where it offers none of ours it is served as if it had offered none: finger has no name there, and Twisted's own
    would end the handshake.
    """
    serving = IProtocolNegotiationFactory(connection.get_app_data().factory.wrappedFactory, None)
    ours = () if serving is None else serving.acceptableProtocols()
    return next((each for each in ours if each in offered), SSL.NO_OVERLAPPING_PROTOCOLS)


def _chain(own: x509.Certificate, others: Iterable[x509.Certificate]) -> Iterator[x509.Certificate]:
    """Return what leads from a certificate to the authority that clients trust."""
    left = set(others) - {own}
    last: x509.Certificate | None = own
    while last is not None and last.issuer != last.subject:
        issuers = [each for each in left if each.subject == last.issuer and _is_issued_by(last, each)]
        last = max(issuers, key=_expiry, default=None)
        if last is not None:
            left.remove(last)
            yield last


def _is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, TypeError, ValueError, UnsupportedAlgorithm):
        return False
    return True


def _expiry(certificate: x509.Certificate) -> tuple[bool, datetime]:
    """Return what is the greater, the better a certificate is: that it is valid already, and until when."""
    return certificate.not_valid_before_utc <= datetime.now(UTC), certificate.not_valid_after_utc


def _names(certificate: x509.Certificate) -> list[str]:
    """Return what a certificate is for; at least one name, whatever it is."""
    try:
        san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = [*san.get_values_for_type(x509.DNSName), *map(str, san.get_values_for_type(x509.IPAddress))]
    except (x509.ExtensionNotFound, ValueError):
        names = []
    return names or [certificate.subject.rfc4514_string()]


def _for_name(by_name: dict[str, SSL.Context], asked: bytes | None) -> SSL.Context | None:
    """Return what serves the name that a client asks for (RFC 6066 §3), which a wildcard covers one level deep."""
    name = (asked or b"").decode("ascii", "replace").lower()
    return by_name.get(name) or by_name.get("*." + name.partition(".")[2])
