"""What a URL gives."""

from __future__ import annotations

import codecs
import json
from collections.abc import Mapping
from email.message import Message
from typing import Any, TypeAlias
from urllib.parse import quote, urljoin, urlsplit

import jinja2
from attrs import field, frozen
from hyperlink import EncodedURL
from jinja2.sandbox import ImmutableSandboxedEnvironment
from justhtml import JustHTML
from OpenSSL import SSL
from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred
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

from fingergw.bounded_http import BodyError, Undecoded, discard, read
from fingergw.outcome import Answered, Failed, Missing, Outcome
from fingergw.placeholders import Template
from fingergw.query import Query, clean

_MAX_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# The codecs that the standard library documents as Python's own: no page is written in one, and some are slow.
_NOT_CHARSETS = frozenset({"idna", "punycode", "raw-unicode-escape", "undefined", "unicode-escape"})
_UPSTREAM_ERRORS = (
    ConnectError,
    ConnectingCancelledError,
    ConnectionClosed,
    DNSLookupError,
    RequestTransmissionFailed,
    ResponseFailed,
)

Json: TypeAlias = "dict[str, Json] | list[Json] | str | float | bool | None"


def compile_template(text: str) -> jinja2.Template:
    """Compile an answer's template, sandboxed: it is the operator's, but what it is filled with is not.

    :raises ValueError: it is not Jinja2; the message says where.
    """
    environment = ImmutableSandboxedEnvironment(
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: clean(value) if isinstance(value, str) else value,
        autoescape=False,
    )
    try:
        return environment.from_string(text)
    except jinja2.TemplateSyntaxError as error:
        raise ValueError(f"expected a Jinja2 template: {error.message} (its line {error.lineno})") from None
    except RecursionError:
        raise ValueError("expected a Jinja2 template that is not nested so deeply") from None


class _Url(EncodedURL):
    """A URL whose host, ASCII already, treq leaves as it is: it would take an IPv6 address for a name, and fail."""

    def to_uri(self) -> EncodedURL:
        return EncodedURL.to_uri(self.replace(host="localhost")).replace(host=self.host)


@frozen
class HttpBackend:
    """Get a URL and answer with what it gives.

    :param agent: makes the requests; it verifies TLS.
    :param url: its placeholders' values are percent-encoded.
    :param headers: sent with every request, a bearer token's among them.
    :param timeout: seconds from the query to the last byte of the body, redirects included.
    :param max_bytes: of the decoded body.
    :param missing_statuses: what the server says of a name that it does not know.
    :param template: what to make of a JSON body; None for a body that is the answer.
    :param follow_redirects: to the same scheme, host and port only.
    """

    agent: IAgent
    clock: Any
    url: Template
    headers: Headers = field(repr=False)
    timeout: float
    max_bytes: int
    missing_statuses: frozenset[int]
    template: jinja2.Template | None
    follow_redirects: bool

    async def answer(self, query: Query) -> Outcome:
        """Get the URL; the status decides between Answered, Missing and Failed."""
        values = query.placeholders
        if "." in values.values() or ".." in values.values():
            return Missing()  # percent-encoding leaves them as they are, and the server would leave its path
        url = self.url.fill({name: quote(value, safe="") for name, value in values.items()})
        work: Deferred[Outcome] = Deferred.fromCoroutine(self._get(url, values))
        work.addTimeout(self.timeout, self.clock, lambda _, seconds: Failed(f"not done within {seconds:g} s"))
        return await work

    async def _get(self, url: str, values: Mapping[str, str]) -> Outcome:
        try:
            for _ in range(_MAX_REDIRECTS + 1):
                agent = Undecoded(self.agent)
                # a client of its own for each request: one that is kept would hand one query's cookies to the next
                response = await HTTPClient(agent).get(
                    _Url.from_text(url),
                    headers=self.headers.copy(),
                    allow_redirects=False,
                    unbuffered=True,
                    reactor=self.clock,
                )
                if not self.follow_redirects or response.code not in _REDIRECTS - self.missing_statuses:
                    return await self._outcome(response, agent.encoding, values)
                discard(response)
                location = _header(response, b"location")
                if not location:
                    return Failed(f"HTTP {response.code} without a Location")
                target = _follow(url, location)
                if target is None:
                    return Failed(f"HTTP {response.code}, a redirect to another origin: not followed")
                url = target
            return Failed(f"more than {_MAX_REDIRECTS} redirects")
        except BodyError as error:
            return Failed(str(error))
        except _UPSTREAM_ERRORS as error:
            cause = _cause(error)
            if isinstance(cause, (CancelledError, ConnectingCancelledError)):
                raise CancelledError from None  # nobody waits any more; Twisted wraps that up
            return Failed(_describe(cause))

    async def _outcome(self, response: IResponse, encoding: bytes, values: Mapping[str, str]) -> Outcome:
        if response.code in self.missing_statuses:
            discard(response)
            return Missing()
        if not 200 <= response.code < 300:
            discard(response)
            return Failed(f"HTTP {response.code}")
        data = await read(response, encoding, self.max_bytes)
        if self.template is not None:
            return _render(self.template, data, values)
        return Answered(_text(data, _header(response, b"content-type")))


def _render(template: jinja2.Template, data: bytes, values: Mapping[str, str]) -> Outcome:
    try:
        content: Json = json.loads(data)
    except (ValueError, RecursionError):
        return Failed("a body that is not JSON, which the template needs")
    fields = content if isinstance(content, dict) else {}
    try:
        return Answered(template.render({**fields, "body": content, **values}))
    except Exception as error:  # whatever the template does with what it was given
        return Failed(f"the template failed: {type(error).__name__}: {error}")


def _text(data: bytes, content_type: str) -> str:
    header = Message()
    header["content-type"] = content_type
    charset = header.get_content_charset()
    if header.get_content_type() in ("text/html", "application/xhtml+xml"):
        return JustHTML(data, encoding=charset).to_text(separator="\n", separator_blocks_only=True)
    try:
        if charset is not None and codecs.lookup(charset).name not in _NOT_CHARSETS:
            return data.decode(charset, "replace")
    except (LookupError, ValueError):  # ValueError: a name with a NUL in it, or a codec that cannot replace
        pass
    return data.decode(errors="replace")


def _follow(url: str, location: str) -> str | None:
    """Return where a redirect leads; None if that is no URL, or not of the same origin."""
    try:
        target = urljoin(url, location)
        return target if location.isascii() and _origin(target) == _origin(url) else None
    except ValueError:
        return None


def _origin(url: str) -> tuple[str, str | None, str | None, int | None]:
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, parts.username, parts.hostname, port


def _header(response: IResponse, name: bytes) -> str:
    return response.headers.getRawHeaders(name, [b""])[-1].decode("latin-1")  # type: ignore[no-any-return]


def _cause(error: BaseException) -> BaseException:
    """Return what is at the bottom of one of twisted.web's errors."""
    reasons = getattr(error, "reasons", None)
    return _cause(reasons[0].value) if reasons else error


def _describe(error: BaseException) -> str:
    """Return a reason for the log: what TLS says, or else the error's name; its text could hold the URL."""
    if isinstance(error, SSL.Error) and error.args and isinstance(error.args[0], list):
        return "TLS: " + ", ".join(str(details[-1]) for details in error.args[0])
    if isinstance(error, ConnectionAborted):  # which the agent does to such
        return "broken off: the response is larger than it may be"
    return type(error).__name__
