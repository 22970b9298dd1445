"""Whom to trust for TLS, and the verification of servers before anything is sent to them."""

from __future__ import annotations

import ssl
from functools import cache
from pathlib import Path
from typing import Any
from weakref import ref

from attrs import frozen
from cryptography.x509 import DNSName, IPAddress, SubjectAlternativeName, load_pem_x509_certificates
from OpenSSL import SSL
from OpenSSL.crypto import X509
from service_identity import CertificateError, VerificationError
from service_identity.cryptography import verify_certificate_hostname, verify_certificate_ip_address
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IStreamClientEndpoint
from twisted.internet.ssl import Certificate, CertificateOptions, platformTrust, trustRootFromCertificates
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from fingergw.core.addresses import ascii_host, parse_address
from fingergw.core.errors import ConfigError
from fingergw.core.text import escape
from fingergw.net.files import read_text
from fingergw.net.root import has_chroot

# OpenSSL's verification errors (x509_vfy.h), in words, and what to do.
_NOT_TRUSTED = "was issued by an authority that is not trusted; trust it, or see that the server sends its whole chain"
_NO_AUTHORITY = "may not issue certificates; have the server's issued by another"
_WEAK = "has a key or signature that is too weak; issue it anew"
_FOUND = {
    2: _NOT_TRUSTED,
    7: "has not been signed by its authority; issue it anew",
    9: "is not valid yet; check the clocks of both machines",
    10: "has expired; renew it, or check this machine's clock",
    18: "is self-signed, and not trusted; trust it, or have a trusted authority issue one",
    19: _NOT_TRUSTED,
    20: _NOT_TRUSTED,
    21: _NOT_TRUSTED,
    24: _NO_AUTHORITY,
    25: _NO_AUTHORITY,
    26: "is not for servers; issue it anew for them",
    32: _NO_AUTHORITY,
    47: "is for a name that its authority may not certify; have it issued by another",
    66: _WEAK,
    67: _WEAK,
    68: _WEAK,
    79: _NO_AUTHORITY,
}
_MAX_NAMES, _MAX_NAME = 3, 255  # of a certificate, in a message


class UnverifiedError(Exception):
    """The server could not be verified; the message says why, and is safe to log."""


def authorities(pem: bytes) -> Any:
    """Return a trust root, as Twisted's TLS options take it.

    :param pem: the certificates of the authorities to trust.
    :raises ValueError: there is none in it, or one is broken.
    """
    try:
        certificates = load_pem_x509_certificates(pem)
    except ValueError:
        raise ValueError("expected one or more certificates in PEM form") from None
    return trustRootFromCertificates([Certificate(X509.from_cryptography(each)) for each in certificates])


def read_authorities(path: Path) -> tuple[Any, str]:
    """Read the authorities to trust from a file.

    :param path: a PEM file; its path outside of a chroot.
    :return: as :func:`authorities` does, and the text of the file.
    :raises ConfigError: it cannot be read, or has no certificates, or a broken one.
    """
    pem = read_text(path)
    try:
        return authorities(pem.encode()), pem
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None


@cache
def system_trust() -> Any:
    """Return the system's trust root; if there will be a chroot, call it first before the root is changed."""
    found = ssl.create_default_context().get_ca_certs(binary_form=True) if has_chroot() else ()
    return trustRootFromCertificates([Certificate.load(each) for each in found]) if found else platformTrust()


def over_tls(endpoint: IStreamClientEndpoint, host: str, trust: Any, **own: Any) -> IStreamClientEndpoint:
    """Wrap an endpoint in TLS to a server that must be verified.

    If the server cannot be verified the connection is lost with :class:`UnverifiedError`, and nothing has been sent.

    :param host: the name or address that the certificate must be for.
    :param trust: the trust root.
    :param own: options of CertificateOptions for a client certificate.
    :raises ValueError: the host is no valid name.
    """
    # Certificates, and what the server is told, have names without a final dot (RFC 6066 §3).
    return wrapClientTLS(
        _Verified(ascii_host(host).removesuffix("."), CertificateOptions(trustRoot=trust, **own)), endpoint
    )


class TlsConnection(SSL.Connection):
    """A TLS connection whose handshake fails if the other side ends it properly, for which Twisted is not prepared."""

    def do_handshake(self) -> None:
        """Go on with the handshake.

        :raises SSL.Error: it fails, or has not ended yet.
        """
        try:
            super().do_handshake()
        except SSL.ZeroReturnError:
            raise SSL.Error([("SSL routines", "", "unexpected eof while reading")]) from None


@implementer(IOpenSSLClientConnectionCreator)
@frozen
class _Verified:
    """A creator in the place of Twisted's, in which an unexpected exception counts as verified, and _ is refused."""

    host: str
    options: CertificateOptions

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        connection = TlsConnection(self.options.getContext(), None)
        if parse_address(self.host) is None:  # an address is no server name
            connection.set_tlsext_host_name(self.host.encode())
        protocol = ref(tlsProtocol)  # no cycle: it has the connection, which has this callback

        def verify(_: SSL.Connection, certificate: X509, error: int, depth: int, ok: int) -> bool:
            why: str | None
            try:
                why = _why_not(self.host, certificate, error, depth, is_trusted=bool(ok))
            except BaseException as unforeseen:  # whatever it is, the server is not verified
                why = f"the certificate of {self.host} cannot be verified ({type(unforeseen).__name__}); issue it anew"
            shaking_hands = protocol()
            if why is not None and shaking_hands is not None:
                shaking_hands.failVerification(Failure(UnverifiedError(why)))
            return why is None

        connection.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, verify)
        return connection


def _why_not(host: str, certificate: X509, error: int, depth: int, *, is_trusted: bool) -> str | None:
    """Return why one certificate of a chain is refused; None if it is accepted.

    :param error: OpenSSL's error number, if it does not trust the certificate.
    :param depth: 0 for the server's own, which must be for the host.
    """
    if not is_trusted:
        whose = f"the certificate of {host}" if depth == 0 else f"the certificate of an authority of {host}"
        return f"{whose} {_FOUND.get(error, f'cannot be verified (X509_V_ERR {error})')}"
    if depth > 0:
        return None
    address = parse_address(host)
    try:
        if address is None:
            verify_certificate_hostname(certificate.to_cryptography(), host)
        else:
            verify_certificate_ip_address(certificate.to_cryptography(), str(address))
    except VerificationError:
        return f"the certificate is for {_names(certificate)}, not for {host}; ask for the former, or issue it anew"
    except CertificateError:
        return f"the certificate has no usable subjectAltName, so it is not for {host}; issue it anew with one"
    return None


def _names(certificate: X509) -> str:
    """Return the first of the names and addresses that a certificate is for."""
    extensions = certificate.to_cryptography().extensions
    names = extensions.get_extension_for_class(SubjectAlternativeName).value
    found = [*names.get_values_for_type(DNSName), *map(str, names.get_values_for_type(IPAddress))]
    shown = [escape(name[:_MAX_NAME]) for name in found[:_MAX_NAMES]]
    return ", ".join([*shown, "others"] if len(found) > len(shown) else shown)
