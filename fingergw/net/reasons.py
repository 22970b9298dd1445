"""Why a connection failed, in words for a log: a library's own may quote a URL, a secret or a client."""

from __future__ import annotations

import os
from errno import ECONNRESET
from socket import SO_ERROR, SOL_SOCKET
from typing import Any, Final

from OpenSSL import SSL
from twisted.internet import error as twisted_error

from fingergw.core.outcome import Upstream
from fingergw.net.trust import UnverifiedError

_WORDS: Final[tuple[tuple[type[BaseException], str], ...]] = (
    (twisted_error.DNSLookupError, "the host has no address; check its name, and the name server"),
    (twisted_error.TimeoutError, "the connection attempt timed out"),
    (twisted_error.ConnectionDone, "the other side closed the connection"),
    (twisted_error.ConnectionLost, "the connection was lost"),
    (twisted_error.ConnectError, "the connection attempt failed"),
)
# What OpenSSL says where its words need explaining, or the other side is to blame.
_NO_TLS: Final = "the other side does not speak TLS; check the port"
_NO_VERSION: Final = "the two sides have no version of TLS in common; it must be 1.2 or later"
_OPENSSL: Final = {
    "data length too long": _NO_TLS,
    "http request": "the other side speaks HTTP without TLS",
    "no shared cipher": "the two sides have no cipher in common",
    "packet length too long": _NO_TLS,
    "record layer failure": _NO_TLS,
    "unexpected eof while reading": "the other side closed the connection without ending TLS",
    "unsupported protocol": _NO_VERSION,
    "wrong version number": _NO_TLS,
}
# What the other side says (RFC 8446 §6.2), by the end of OpenSSL's words for it, which begin differently by version.
_REFUSED: Final = "the other side refuses the certificate of this side"
_ALERTS: Final = {
    "bad certificate": _REFUSED,
    "certificate expired": f"{_REFUSED}: it has expired; renew it",
    "certificate required": "the other side wants a certificate of this side, which has none for it",
    "certificate revoked": f"{_REFUSED}: it is revoked",
    "certificate unknown": _REFUSED,
    "handshake failure": "the other side has no cipher in common with this one, or wants a certificate of it",
    "insufficient security": "the other side wants safer ciphers",
    "internal error": "the other side has an internal error; see its log",
    "protocol version": _NO_VERSION,
    "unknown ca": f"{_REFUSED}: it does not trust its authority",
    "unrecognized name": "the other side does not serve the host by this name; check the name",
    "unsupported certificate": _REFUSED,
}


def tls_reason(error: BaseException | None) -> str | None:
    """Return why TLS failed; None if it was something else that failed."""
    if isinstance(error, UnverifiedError):
        return f"TLS: {error}"
    if isinstance(error, SSL.Error) and error.args and isinstance(error.args[0], list):
        said = [str(details[-1]) for details in error.args[0]]
        return "TLS: " + ", ".join(dict.fromkeys(map(_explain, said)))
    return None


def _explain(said: str) -> str:
    """Return in words what OpenSSL says."""
    meant = next((words for alert, words in _ALERTS.items() if said.endswith(f" {alert}")), None)
    return meant or _OPENSSL.get(said, f"OpenSSL says: {said}")


def connection_reason(error: BaseException | None) -> str | None:
    """Return why a connection failed; None if that is not known."""
    number = getattr(error, "osError", None)
    words = os.strerror(number) if isinstance(number, int) else None
    return tls_reason(error) or words or next((words for kind, words in _WORDS if isinstance(error, kind)), None)


def is_reset(transport: Any) -> bool:
    """Tell whether an end of file on a socket is a reset: Twisted may take it for one, as the kernel tells of it first.

    A reset after the end of file would be EPIPE.
    """
    handle = getattr(transport, "getHandle", lambda: None)()
    option = getattr(handle, "getsockopt", None)  # not under TLS, where the end of file is a message
    return option is not None and option(SOL_SOCKET, SO_ERROR) == ECONNRESET


def is_local(error: BaseException | None) -> bool:
    """Tell whether this machine itself had no socket for a connection, so that the other side was not asked."""
    return isinstance(error, twisted_error.ConnectBindError)


def upstream(error: BaseException | None) -> Upstream:
    """Return what the end of a connection, or of an attempt to connect, says of the other side."""
    if is_local(error):
        return "unknown"
    if tls_reason(error) or isinstance(error, twisted_error.ConnectError | twisted_error.DNSLookupError):
        return "unreachable"
    is_ours = isinstance(error, twisted_error.ConnectionAborted)  # as what was received is too much
    return "silent" if isinstance(error, twisted_error.ConnectionClosed) and not is_ours else "responded"


def reason(error: BaseException | None) -> str:
    """Return why an attempt to connect failed, or else the name of the error."""
    if isinstance(error, ValueError):  # of an endpoint; in a response it means something else
        return "this is not a valid host name or address; correct it"
    return connection_reason(error) or type(error).__name__
