"""Certificates of an authority that the tests' clients trust."""

from __future__ import annotations

import datetime
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

AUTHORITY = trustme.CA()


def issue(*names: str, days: int = 30, authority: trustme.CA = AUTHORITY) -> trustme.LeafCert:
    """Return a certificate that is valid for some days."""
    return authority.issue_cert(*names, not_after=datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days))


def put(folder: Path, name: str, issued: trustme.LeafCert, parts: str = "kc") -> trustme.LeafCert:
    """Write a certificate, its key, or both into a PEM file."""
    pem = {"k": issued.private_key_pem.bytes(), "c": b"".join(blob.bytes() for blob in issued.cert_chain_pems)}
    (folder / name).write_bytes(b"".join(pem[part] for part in parts))
    return issued


def leaf(issued: trustme.LeafCert) -> bytes:
    """Return a certificate as clients get it."""
    return x509.load_pem_x509_certificate(issued.cert_chain_pems[0].bytes()).public_bytes(Encoding.DER)


GOOD = issue("localhost")
KEY, CERTIFICATE = GOOD.private_key_pem.bytes(), GOOD.cert_chain_pems[0].bytes()
