"""Whom to trust for TLS, and what looks at each server's certificate before anything is said to it."""

from __future__ import annotations

import ssl
from functools import cache
from pathlib import Path
from typing import Any
from weakref import ref

from attrs import frozen
from cryptography.x509 import Certificate as X509Certificate
from cryptography.x509 import load_pem_x509_certificates
from OpenSSL import SSL
from OpenSSL.crypto import X509
from service_identity import CertificateError, VerificationError
from service_identity.cryptography import verify_certificate_hostname, verify_certificate_ip_address
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IStreamClientEndpoint
from twisted.internet.ssl import (
    Certificate,
    optionsForClientTLS,  # noqa: TID251  # with the verification in its place
    platformTrust,
    trustRootFromCertificates,
)
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from fingergw.core.addresses import parse_address
from fingergw.core.errors import ConfigError
from fingergw.net.files import read_text
from fingergw.net.root import changes

# What OpenSSL finds (openssl-verification-options(1), "Diagnostics"), in words.
_NOT_TRUSTED = "comes from an authority that is not trusted"
_NO_AUTHORITY = "may not issue others"
_FOUND = {
    2: _NOT_TRUSTED,
    9: "is not valid yet",
    10: "has expired",
    18: "is signed by nobody but itself",
    19: _NOT_TRUSTED,
    20: _NOT_TRUSTED,
    21: _NOT_TRUSTED,
    24: _NO_AUTHORITY,
    26: "is not meant for a server",
    66: "has a key that is too short",
    68: "is signed in a way that is not safe any more",
    79: _NO_AUTHORITY,
}


class UnverifiedError(Exception):
    """It is not certain that the server is the one it should be; the message says why, and may be logged."""


def authorities(pem: bytes) -> Any:
    """Return whom to trust for TLS.

    :param pem: the certificates of authorities.
    :raises ValueError: there is none in it, or one is not what it should be.
    """
    try:
        certificates = load_pem_x509_certificates(pem)
    except ValueError:
        raise ValueError("expected one or more certificates in PEM form") from None
    return trustRootFromCertificates([Certificate(X509.from_cryptography(each)) for each in certificates])


def read_authorities(path: Path) -> tuple[Any, str]:
    """Read whom to trust for TLS from a file.

    :param path: a PEM file, as it is called outside of a chroot.
    :return: the authorities; and what is in the file.
    :raises ConfigError: it cannot be read, or does not hold the certificates of authorities.
    """
    pem = read_text(path)
    try:
        return authorities(pem.encode()), pem
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None


@cache
def system_trust() -> Any:
    """Return whom the system trusts for TLS; read before the root is changed, and for good, where it will be."""
    found = ssl.create_default_context().get_ca_certs(binary_form=True) if changes() else ()
    return trustRootFromCertificates([Certificate.load(each) for each in found]) if found else platformTrust()


def verified(host: str, trust: Any, **own: Any) -> IOpenSSLClientConnectionCreator:
    """Return what begins TLS with a server, and ends it unless the server is certainly that host.

    The connection is lost with :class:`UnverifiedError` then, and no byte of what was to be sent has left.

    :param host: a name or an address, that the certificate must be for.
    :param trust: authorities, one of which must have issued it.
    :param own: a certificate to show to the server, as CertificateOptions takes it.
    :raises ValueError: no host can have that name.
    """
    return _Verified(host, optionsForClientTLS(host, trustRoot=trust, extraCertificateOptions=own))


def over_tls(endpoint: IStreamClientEndpoint, host: str, trust: Any, **own: Any) -> IStreamClientEndpoint:
    """Return an endpoint that speaks TLS with what another connects to; for the parameters see :func:`verified`."""
    return wrapClientTLS(verified(host, trust, **own), endpoint)


@implementer(IOpenSSLClientConnectionCreator)
@frozen
class _Verified:
    """Twisted's own, but for the verification: there, what is not foreseen counts as verified."""

    host: str
    options: IOpenSSLClientConnectionCreator

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        connection: SSL.Connection = self.options.clientConnectionForTLS(tlsProtocol)
        protocol = ref(tlsProtocol)  # which has the connection, and that has what follows

        def verify(_: SSL.Connection, certificate: X509, error: int, depth: int, ok: int) -> bool:
            why: str | None
            try:
                why = _why_not(self.host, certificate, error, depth, is_trusted=bool(ok))
            except BaseException as unforeseen:  # whatever it is, nothing is verified
                why = f"the certificate of {self.host} cannot be verified: {type(unforeseen).__name__}"
            shaking_hands = protocol()
            if why is not None and shaking_hands is not None:
                shaking_hands.failVerification(Failure(UnverifiedError(why)))
            return why is None

        connection.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, verify)
        return connection


def _why_not(host: str, certificate: X509, error: int, depth: int, *, is_trusted: bool) -> str | None:
    """Return why one certificate of a chain is not good; None if it is.

    :param error: OpenSSL's number for what it found, if it does not trust it.
    :param depth: 0 for the server's own; it alone must be for the host.
    """
    if not is_trusted:
        whose = f"the certificate of {host}" if depth == 0 else f"the certificate of an authority of {host}"
        return f"{whose} {_FOUND.get(error, f'cannot be verified (X509_V_ERR {error})')}"
    return _why_not_for(host, certificate.to_cryptography()) if depth == 0 else None


def _why_not_for(host: str, certificate: X509Certificate) -> str | None:
    """Return why a certificate is not for a host; None if it is."""
    address = parse_address(host)
    try:
        if address is None:
            verify_certificate_hostname(certificate, host)
        else:
            verify_certificate_ip_address(certificate, str(address))
    except VerificationError:
        return f"the certificate is not for {host}"
    except CertificateError:
        return f"the certificate has no subjectAltName that can be used, so that it is not for {host}"
    return None
