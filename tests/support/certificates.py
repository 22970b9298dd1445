"""Certificates, including bad ones that no authority should issue, and TLS client hellos."""

from __future__ import annotations

import contextlib
import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Any

from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID
from twisted.internet.ssl import CertificateOptions


@frozen(eq=False)
class Issued:
    """A certificate, its key, and those that are sent after it."""

    certificate: x509.Certificate
    key: EllipticCurvePrivateKey
    chain: tuple[Issued, ...] = ()

    @property
    def pem(self) -> str:
        """The certificate alone."""
        return self.certificate.public_bytes(Encoding.PEM).decode()

    @property
    def key_pem(self) -> str:
        """The key."""
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()

    def context(self, **options: Any) -> CertificateOptions:
        """Return what serves it."""
        own: Any = self.certificate
        rest: Any = [each.certificate for each in self.chain]
        return CertificateOptions(privateKey=self.key, certificate=own, extraCertChain=rest, **options)  # type: ignore[arg-type]


def names(*hosts: str) -> x509.SubjectAlternativeName:
    """Return a subjectAltName of host names and addresses."""
    return x509.SubjectAlternativeName([_name(host) for host in hosts])


def client_hello() -> bytes:
    """Return a TLS client hello."""
    sent = ssl.MemoryBIO()
    context = ssl.create_default_context()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), sent, server_hostname="localhost").do_handshake()
    return sent.read()


def _name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def issue(  # each is one way to be wrong
    common_name: str,
    alternative_names: x509.ExtensionType | None = None,
    *,
    issuer: Issued | None = None,
    is_authority: bool = False,
    days: tuple[int, int] = (-1, 30),
    usage: x509.ObjectIdentifier | None = None,
) -> Issued:
    """Return a certificate.

    :param issuer: who signs it; itself without.
    :param days: from when until when it is valid, from today.
    :param usage: what alone it is for.
    """
    key, today = generate_private_key(SECP256R1()), datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today + timedelta(days=days[0]))
        .not_valid_after(today + timedelta(days=days[1]))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
    )
    if alternative_names is not None:
        builder = builder.add_extension(alternative_names, critical=False)
    if usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    signed = builder.sign(key if issuer is None else issuer.key, SHA256())
    chain = () if issuer is None or issuer.certificate.issuer == issuer.certificate.subject else (issuer,)
    return Issued(signed, key, chain)


AUTHORITY = issue("authority", is_authority=True)
OTHER_AUTHORITY = issue("other authority", is_authority=True)
# as "openssl req -x509 -subj /CN=localhost" makes one
TRUSTED_ITSELF = issue("localhost", is_authority=True)
TRUSTED = AUTHORITY.pem + TRUSTED_ITSELF.pem
_EXPIRED_BETWEEN = issue("between", issuer=AUTHORITY, is_authority=True, days=(-9, -1))
_NO_AUTHORITY = issue("between", names("between"), issuer=AUTHORITY)
_NO_NAMES = x509.UnrecognizedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, b"\x30\x00")  # DER
_GARBAGE = x509.UnrecognizedExtension(
    ExtensionOID.SUBJECT_ALTERNATIVE_NAME, b"\x30\x07\x87\x05abcde"
)  # an address of 5 bytes
_MAIL_ALONE = x509.SubjectAlternativeName([x509.RFC822Name("a@localhost")])

_NAMES_NOBODY = "the certificate has no usable subjectAltName, so it is not for {host}; issue it anew with one"
_NOT_TRUSTED = (
    "the certificate of {host} was issued by an authority that is not trusted; trust it, or see that the server sends "
    "its whole chain"
)


def _not_for(others: str) -> str:
    return f"the certificate is for {others}, not for {{host}}; ask for the former, or issue it anew"


UNTRUSTED = "TLS: " + _NOT_TRUSTED.format(host="127.0.0.1")
"""What is told of a server at that address whose authority is not trusted."""

# what a client that trusts TRUSTED finds: the host, the certificate that serves it, and why it is refused
REFUSED = {
    "no names, trusted itself": ("localhost", TRUSTED_ITSELF, _NAMES_NOBODY),
    "no names": ("localhost", issue("localhost", issuer=AUTHORITY), _NAMES_NOBODY),
    "no names, an address": ("127.0.0.1", issue("127.0.0.1", issuer=AUTHORITY), _NAMES_NOBODY),
    "an empty list of names": ("localhost", issue("localhost", _NO_NAMES, issuer=AUTHORITY), _NAMES_NOBODY),
    "a mail address alone": ("localhost", issue("localhost", _MAIL_ALONE, issuer=AUTHORITY), _NAMES_NOBODY),
    "another name": (
        "localhost",
        issue("localhost", names("elsewhere.example"), issuer=AUTHORITY),
        _not_for("elsewhere.example"),
    ),
    "many other names": (
        "localhost",
        issue("localhost", names("b.example", "127.0.0.9", "c.example", "a.example", "::9"), issuer=AUTHORITY),
        _not_for("b.example, c.example, a.example, others"),
    ),
    "a name below": ("localhost", issue("localhost", names("*.localhost"), issuer=AUTHORITY), _NAMES_NOBODY),
    "an address for a name": (
        "localhost",
        issue("localhost", names("127.0.0.1"), issuer=AUTHORITY),
        _not_for("127.0.0.1"),
    ),
    "another address": ("127.0.0.1", issue("127.0.0.1", names("127.0.0.2"), issuer=AUTHORITY), _not_for("127.0.0.2")),
    "a name for an address": (
        "127.0.0.1",
        issue("127.0.0.1", names("localhost"), issuer=AUTHORITY),
        _not_for("localhost"),
    ),
    "an address that is a name": (
        "127.0.0.1",
        issue("x", x509.SubjectAlternativeName([x509.DNSName("127.0.0.1")]), issuer=AUTHORITY),
        _NAMES_NOBODY,
    ),
    "names that are none": (
        "localhost",
        issue("localhost", _GARBAGE, issuer=AUTHORITY),
        "the certificate of {host} cannot be verified (ValueError); issue it anew",
    ),
    "expired": (
        "localhost",
        issue("localhost", names("localhost"), issuer=AUTHORITY, days=(-9, -1)),
        "the certificate of {host} has expired; renew it, or check this machine's clock",
    ),
    "not valid yet": (
        "localhost",
        issue("localhost", names("localhost"), issuer=AUTHORITY, days=(1, 9)),
        "the certificate of {host} is not valid yet; check the clocks of both machines",
    ),
    "another authority": ("localhost", issue("x", names("localhost"), issuer=OTHER_AUTHORITY), _NOT_TRUSTED),
    "signed by itself": (
        "localhost",
        issue("localhost", names("localhost")),
        "the certificate of {host} is self-signed, and not trusted; trust it, or have a trusted authority issue one",
    ),
    "for clients": (
        "localhost",
        issue("localhost", names("localhost"), issuer=AUTHORITY, usage=ExtendedKeyUsageOID.CLIENT_AUTH),
        "the certificate of {host} is not for servers; issue it anew for them",
    ),
    "an expired authority between": (
        "localhost",
        issue("localhost", names("localhost"), issuer=_EXPIRED_BETWEEN),
        "the certificate of an authority of {host} has expired; renew it, or check this machine's clock",
    ),
    "issued by what is no authority": (
        "localhost",
        issue("localhost", names("localhost"), issuer=_NO_AUTHORITY),
        "the certificate of an authority of {host} may not issue certificates; have the server's issued by another",
    ),
}

ACCEPTED = {
    "a name": ("localhost", issue("x", names("localhost"), issuer=AUTHORITY)),
    "one of several": ("localhost", issue("x", names("elsewhere.example", "localhost", "::9"), issuer=AUTHORITY)),
    "an address": ("127.0.0.1", issue("x", names("127.0.0.1"), issuer=AUTHORITY)),
    "an IPv6 address": ("::1", issue("x", names("::1"), issuer=AUTHORITY)),
    "an authority between": (
        "localhost",
        issue("x", names("localhost"), issuer=issue("between", issuer=AUTHORITY, is_authority=True)),
    ),
}
