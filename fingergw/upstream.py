"""What all that ask elsewhere have in common: a time to do it in, whom to trust, and words for what went wrong."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

from cryptography.x509 import load_pem_x509_certificates
from OpenSSL import SSL
from OpenSSL.crypto import X509
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.ssl import Certificate, trustRootFromCertificates

from fingergw.outcome import Failed

T = TypeVar("T")


def within(timeout: float, clock: IReactorTime, asking: Coroutine[Deferred[Any], Any, T]) -> Deferred[T | Failed]:
    """Begin to ask, and give it up when its time is over.

    :param timeout: in seconds.
    :param asking: cancelled at the end of its time, and where what is returned is.
    :return: fires with what it says, or with Failed if it is not done by then.
    """
    work: Deferred[T | Failed] = Deferred.fromCoroutine(asking)
    return work.addTimeout(timeout, clock, lambda _, seconds: Failed(f"not done within {seconds:g} s"))


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


def tls_reason(error: BaseException | None) -> str | None:
    """Return what TLS says went wrong, for the log; None if it was something else."""
    if isinstance(error, SSL.Error) and error.args and isinstance(error.args[0], list):
        return "TLS: " + ", ".join(str(details[-1]) for details in error.args[0])
    return None
