"""One GET over HTTP: redirects, and why it failed."""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import quote, urldefrag, urljoin, urlsplit

from hyperlink import EncodedURL
from treq.client import HTTPClient
from twisted.internet.defer import CancelledError
from twisted.internet.error import (
    ConnectError,
    ConnectingCancelledError,
    ConnectionAborted,
    ConnectionClosed,
    DNSLookupError,
)
from twisted.web.client import RequestTransmissionFailed, ResponseFailed
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IResponse

from fingergw.core.outcome import Upstream
from fingergw.net.reasons import connection_reason
from fingergw.net.reasons import upstream as upstream_of

UPSTREAM_ERRORS = (
    ConnectError,
    ConnectingCancelledError,
    ConnectionClosed,
    DNSLookupError,
    RequestTransmissionFailed,
    ResponseFailed,
)
"""The errors that are the fault of the upstream, or of the network."""


# An empty port is the default one (RFC 3986 §3.2.3), but not to treq and Twisted.
_EMPTY_PORT: Final = re.compile(r"^([a-z]+://[^/?#]*):(?=[/?#]|$)", re.IGNORECASE)
_IN_URLS: Final = "!#$%&'()*+,/:;=?@[]"  # besides letters, digits and what quote() keeps anyway (RFC 3986 §2)


class _Url(EncodedURL):
    """A URL whose host treq leaves as it is: it would encode an IPv6 address as a name, and fail."""

    def to_uri(self) -> EncodedURL:
        return EncodedURL.to_uri(self.replace(host="localhost")).replace(host=self.host)


async def get(agent: IAgent, url: str, headers: Headers, clock: Any) -> IResponse:
    """Get a URL. Redirects are not followed, and the body is not read.

    :raises UPSTREAM_ERRORS: there is no response.
    """
    # A client for each request, or one query's cookies would be sent with the next.
    response: IResponse = await HTTPClient(agent).get(
        _Url.from_text(_EMPTY_PORT.sub(r"\1", url)),
        headers=headers,
        allow_redirects=False,
        unbuffered=True,
        reactor=clock,
    )
    return response


def follow(url: str, location: str) -> str | None:
    """Return the URL that a redirect leads to, without a fragment; None if it is invalid, or of another origin.

    :param location: as :func:`header` returns it. What a URL cannot have is percent-encoded, byte by byte as sent.
    """
    try:
        target = urldefrag(urljoin(url, quote(location.encode("latin-1"), safe=_IN_URLS))).url
        return target if _origin(target) == _origin(url) else None
    except ValueError:
        return None


def _origin(url: str) -> tuple[str, str | None, str | None, int | None]:
    parts = urlsplit(url)
    port = {"http": 80, "https": 443}.get(parts.scheme) if parts.port is None else parts.port
    return parts.scheme, parts.username, parts.hostname, port


def header(response: IResponse, name: bytes) -> str:
    """Return the last value of a header; empty if there is none."""
    return response.headers.getRawHeaders(name, [b""])[-1].decode("latin-1")  # type: ignore[no-any-return]


def reason(error: BaseException) -> str:
    """Return why there is no response, for the log.

    :param error: one of :data:`UPSTREAM_ERRORS`.
    :raises CancelledError: the request was cancelled, which twisted.web wraps in an error of its own.
    """
    cause = _cause(error)
    if isinstance(cause, (CancelledError, ConnectingCancelledError)):
        raise CancelledError from None
    if isinstance(cause, ConnectionAborted):  # by our own agent, which bounds what it receives
        return "broken off: the response is larger than max_bytes allows"
    return connection_reason(cause) or f"the response is not valid HTTP, or ends early ({type(cause).__name__})"


def upstream(error: BaseException) -> Upstream:
    """Return what the lack of a response says of the upstream.

    :param error: one of :data:`UPSTREAM_ERRORS`.
    """
    return upstream_of(_cause(error))


def _cause(error: BaseException) -> BaseException:
    """Return the error at the bottom of one of twisted.web's."""
    reasons = getattr(error, "reasons", None)
    return _cause(reasons[0].value) if reasons else error
