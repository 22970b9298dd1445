"""Keys and certificates in PEM files: which belong together, which names they are for."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from attrs import field, frozen
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from fingergw.core.errors import ListenError
from fingergw.net.files import read_file, unreadable

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_KEY = re.compile(rb"-----BEGIN ([A-Z0-9 ]*PRIVATE KEY)-----.+?-----END \1-----", re.DOTALL)

_ADVICE = {
    errno.EISDIR: "; name a PEM file",
    errno.ENOENT: "; name a file that exists",
    errno.ENOTDIR: "; name a file that exists",
}


@frozen
class Key:
    """A private key.

    :param path: its file.
    :param public: the public key, encoded as :func:`public_key` encodes a certificate's.
    """

    path: Path
    private: Any = field(repr=False)
    public: bytes


def read(path: Path) -> bytes:
    """Return the content of a file.

    :raises ListenError: it cannot be read.
    """
    try:
        return read_file(path)[0]
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0, "")
        raise ListenError(f"{unreadable(path, error)}{advice}") from None


def certificates_in(path: Path, what: str = "a certificate") -> list[x509.Certificate]:
    """Return the certificates in a file, which may have none.

    :param what: what the file should have, for the message.
    :raises ListenError: it cannot be read, or one is broken.
    """
    try:
        return [x509.load_pem_x509_certificate(pem[0]) for pem in _CERTIFICATE.finditer(read(path))]
    except ValueError:
        raise ListenError(
            f"{path}: a certificate in it cannot be parsed; replace the file with {what} in PEM form"
        ) from None


def certificate_and_chain(path: Path) -> list[x509.Certificate]:
    """Return the certificates in a file, at least one.

    :raises ListenError: it cannot be read, has none, or one is broken.
    """
    certificates = certificates_in(path)
    if not certificates:
        raise ListenError(f"{path}: expected one or more certificates in PEM form")
    return certificates


def keys_in(path: Path) -> list[Key]:
    """Return the private keys in a file, which may have none.

    :raises ListenError: it cannot be read, or one cannot be used.
    """
    keys = []
    for pem in _KEY.finditer(read(path)):
        try:
            private = load_pem_private_key(pem[0], None)
        except TypeError:
            raise ListenError(
                f"{path}: this key is encrypted, and the gateway cannot ask for its passphrase; store it without one, "
                "readable for the gateway alone: openssl pkey -in FILE -out FILE"
            ) from None
        except (ValueError, UnsupportedAlgorithm):
            raise ListenError(
                f"{path}: a private key in it is broken, or of a type that TLS does not have; make another"
            ) from None
        keys.append(Key(path, private, _encoded(private.public_key())))
    return keys


def public_key(certificate: x509.Certificate) -> bytes:
    """Return a certificate's public key, encoded."""
    return _encoded(certificate.public_key())


def _encoded(public: Any) -> bytes:
    encoded: bytes = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return encoded


def mismatch(key: Path, certificate: Path) -> ListenError:
    """Return the error for a key and a certificate that do not belong together."""
    return ListenError(
        f"{key}: this is not the key of the certificate in {certificate}; name the key that belongs to it"
    )


def chain_of(own: x509.Certificate, others: Iterable[x509.Certificate]) -> Iterator[x509.Certificate]:
    """Return the certificates between one and the authority that clients trust, as far as they are there."""
    left = set(others) - {own}
    last: x509.Certificate | None = own
    while last is not None and last.issuer != last.subject:
        issuers = [each for each in left if each.subject == last.issuer and _is_issued_by(last, each)]
        last = max(issuers, key=validity, default=None)
        if last is not None:
            left.remove(last)
            yield last


def _is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, TypeError, ValueError, UnsupportedAlgorithm):
        return False
    return True


def validity(certificate: x509.Certificate) -> tuple[bool, datetime]:
    """Return a sort key: a certificate that is valid already is greater, and then one that expires later."""
    return certificate.not_valid_before_utc <= datetime.now(UTC), certificate.not_valid_after_utc


def names_of(certificate: x509.Certificate) -> list[str]:
    """Return the names that a certificate is for; its subject if there are none."""
    try:
        san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = [*san.get_values_for_type(x509.DNSName), *map(str, san.get_values_for_type(x509.IPAddress))]
    except (x509.ExtensionNotFound, ValueError):
        names = []
    return names or [certificate.subject.rfc4514_string()]
