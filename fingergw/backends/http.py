"""What a URL gives."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

from attrs import Factory, evolve, field, frozen
from hyperlink import EncodedURL
from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, DeferredSemaphore
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

from fingergw.core.charsets import content_type, decode
from fingergw.core.http_caching import FIELDS, conditions, freshness, redirected, revalidated
from fingergw.core.outcome import Answered, Failed, Freshness, Inputs, Missing, Outcome, Unchanged
from fingergw.core.placeholders import Template
from fingergw.core.query import Query
from fingergw.net import limited
from fingergw.net.bounded_http import BodyError, Undecoded, discard, read
from fingergw.net.conversions import Conversion
from fingergw.net.templates import TemplateError, names_in
from fingergw.net.trust import tls_reason
from fingergw.net.upstream import within
from fingergw.net.worker_pool import ConversionError

_MAX_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_COMPILE_SECONDS = 0.5
# A text of this size is read at once, whatever its charset is; what takes longer is for a worker.
_SMALL_BYTES = 65536
_UPSTREAM_ERRORS = (
    ConnectError,
    ConnectingCancelledError,
    ConnectionClosed,
    DNSLookupError,
    RequestTransmissionFailed,
    ResponseFailed,
)

Convert = Callable[[Conversion, bytes], Awaitable[str]]
"""Make a text of a body, which may take long; raises :class:`~fingergw.net.worker_pool.ConversionError`."""


@frozen
class BodyTemplate:
    """What makes an answer of a JSON body.

    :param names: the variables it uses.
    """

    text: str
    names: frozenset[str]

    @classmethod
    @lru_cache(maxsize=1024)  # it takes a process; a reload asks for each again
    def compile(cls, text: str, max_bytes: int) -> BodyTemplate:
        """Look whether a template can work, and what it uses.

        :param max_bytes: of its answers.
        :raises ValueError: it cannot; the message says why.
        """
        try:
            found = json.loads(limited.run(partial(_examined, text, max_bytes), _COMPILE_SECONDS))
        except limited.ExceededError:
            raise ValueError(
                f"expected a Jinja2 template that takes less than {_COMPILE_SECONDS:g} s and "
                f"{limited.ROOM_BYTES >> 20} MiB to compile"
            ) from None
        except OSError as error:
            raise ValueError(f"cannot be compiled, as that takes another process: {error.strerror}") from None
        if isinstance(found, str):
            raise ValueError(found)
        return cls(text, frozenset(found))


def _examined(text: str, max_bytes: int) -> bytes:
    """Return, as JSON, the names in a template, or what is wrong with it."""
    try:
        return json.dumps(sorted(names_in(text, max_bytes))).encode()
    except TemplateError as error:
        return json.dumps(str(error)).encode()


class _Url(EncodedURL):
    """A URL whose host, ASCII already, treq leaves as it is: it would take an IPv6 address for a name, and fail."""

    def to_uri(self) -> EncodedURL:
        return EncodedURL.to_uri(self.replace(host="localhost")).replace(host=self.host)


@frozen
class HttpBackend:
    """Get a URL and answer with what it gives.

    :param agent: makes the requests; it verifies TLS.
    :param clock: for the timeout.
    :param now: the time of day, in seconds since 1970, which is what upstream reckons in.
    :param convert: makes a text of a body where that may take long.
    :param url: its placeholders' values are percent-encoded.
    :param headers: gives what is sent with a request, a bearer token's among it.
    :param timeout: seconds from the query to the last byte of the body, redirects included.
    :param max_bytes: of the decoded body.
    :param max_running: requests at once; more wait.
    :param missing_statuses: what the server says of a name that it does not know.
    :param template: what to make of a JSON body; None for a body that is the answer.
    :param follow_redirects: to the same scheme, host and port only.
    """

    agent: IAgent
    clock: Any
    now: Callable[[], float]
    convert: Convert
    url: Template
    headers: Callable[[], Headers] = field(repr=False)
    timeout: float
    max_bytes: int
    max_running: int
    missing_statuses: frozenset[int]
    template: BodyTemplate | None
    follow_redirects: bool
    _places: DeferredSemaphore = field(
        init=False, default=Factory(lambda self: DeferredSemaphore(self.max_running), takes_self=True)
    )

    @property
    def inputs(self) -> Inputs:
        """What the URL and the template have placeholders for."""
        return Inputs(self.url.names | (self.template.names if self.template is not None else frozenset()))

    async def answer(self, query: Query) -> Outcome:
        """Get the URL; the status decides between Answered, Missing and Failed."""
        outcome = await self.revalidate(query, {})
        assert not isinstance(outcome, Unchanged)  # nothing was asked that it could answer
        return outcome

    async def revalidate(self, query: Query, validators: Mapping[str, str]) -> Outcome | Unchanged:
        """Get the URL unless an earlier answer still holds (RFC 9110 §13)."""
        values = query.placeholders
        if any(values[name] in (".", "..") for name in self.url.names):
            return Missing()  # percent-encoding leaves them as they are, and the server would leave its path
        url = self.url.fill({name: quote(value, safe="") for name, value in values.items()})
        return await within(self.timeout, self.clock, self._get_in_turn(url, values, validators))

    async def _get_in_turn(
        self, url: str, values: Mapping[str, str], validators: Mapping[str, str]
    ) -> Outcome | Unchanged:
        async with self._places:
            return await self._get(url, values, validators)

    async def _get(self, url: str, values: Mapping[str, str], validators: Mapping[str, str]) -> Outcome | Unchanged:
        redirects: list[Freshness] = []
        try:
            for _ in range(_MAX_REDIRECTS + 1):
                headers, is_conditional = self.headers().copy(), validators.get("url") == url
                for name, value in conditions(validators).items() if is_conditional else ():
                    headers.setRawHeaders(name.encode(), [value.encode("latin-1", "replace")])
                agent, sent_at = Undecoded(self.agent), self.now()
                # a client of its own for each request: one that is kept would hand one query's cookies to the next
                response = await HTTPClient(agent).get(
                    _Url.from_text(url), headers=headers, allow_redirects=False, unbuffered=True, reactor=self.clock
                )
                received_at, fields = self.now(), _fields(response)
                age = {"received_at": received_at, "delay": max(0.0, received_at - sent_at)}
                if response.code == 304 and is_conditional:
                    discard(response)
                    said = revalidated(validators, fields, **age)
                    if said is not None:
                        return Unchanged(_reached(url, said, redirects))
                    validators = {}  # it speaks of something else, so the whole is needed
                    continue
                said = freshness(fields, **age)
                if not self.follow_redirects or response.code not in _REDIRECTS - self.missing_statuses:
                    outcome = await self._outcome(response, agent.encoding, values)
                    if isinstance(outcome, Failed):
                        return outcome
                    return evolve(outcome, freshness=_reached(url, said, redirects))
                discard(response)
                redirects.append(said)
                location = _header(response, b"location")
                if not location:
                    return Failed(f"HTTP {response.code} without a Location")
                target = _follow(url, location)
                if target is None:
                    return Failed(f"HTTP {response.code}, a redirect to another origin: not followed")
                url = target
            return Failed(f"more than {_MAX_REDIRECTS} redirects")
        except (BodyError, ConversionError) as error:
            return Failed(str(error))
        except _UPSTREAM_ERRORS as error:
            cause = _cause(error)
            if isinstance(cause, (CancelledError, ConnectingCancelledError)):
                raise CancelledError from None  # nobody waits any more; Twisted wraps that up
            return Failed(_describe(cause))
        except CancelledError:
            raise
        except Exception as error:
            # its place is told, and its text, that could hold the URL or a header, is not
            name = type(error).__name__
            unsaid = RuntimeError(f"{name}, whose text is left out").with_traceback(error.__traceback__)
            return Failed(f"unforeseen {name}", unsaid)

    async def _outcome(self, response: IResponse, encoding: bytes, values: Mapping[str, str]) -> Outcome:
        if response.code in self.missing_statuses:
            discard(response)
            return Missing()
        if not 200 <= response.code < 300:
            discard(response)
            return Failed(f"HTTP {response.code}")
        data = await read(response, encoding, self.max_bytes)
        said = content_type(_header(response, b"content-type"))
        if self.template is not None:
            conversion = Conversion("template", self.max_bytes, template=self.template.text, values=values)
        elif said.is_html or len(data) > _SMALL_BYTES:
            # a text can be larger in UTF-8 than in its charset
            conversion = Conversion("html" if said.is_html else "text", 4 * self.max_bytes, said.codec)
        else:
            return Answered(decode(data, said.codec))
        return Answered(await self.convert(conversion, data))


def _fields(response: IResponse) -> dict[str, str]:
    """Return the header fields that say how long a response may be kept."""
    found = {name: response.headers.getRawHeaders(name.encode()) for name in FIELDS}
    return {name: b", ".join(values).decode("latin-1") for name, values in found.items() if values}


def _reached(url: str, said: Freshness, redirects: Sequence[Freshness]) -> Freshness:
    """Return how long an answer may be kept, with what is needed to ask for it again."""
    said = redirected(said, redirects)
    return evolve(said, validators={**said.validators, "url": url}) if said.validators else said


def _follow(url: str, location: str) -> str | None:
    """Return where a redirect leads; None if that is no URL, or not of the same origin."""
    try:
        target = urljoin(url, location)
        return target if location.isascii() and _origin(target) == _origin(url) else None
    except ValueError:
        return None


def _origin(url: str) -> tuple[str, str | None, str | None, int | None]:
    parts = urlsplit(url)
    port = {"http": 80, "https": 443}.get(parts.scheme) if parts.port is None else parts.port
    return parts.scheme, parts.username, parts.hostname, port


def _header(response: IResponse, name: bytes) -> str:
    return response.headers.getRawHeaders(name, [b""])[-1].decode("latin-1")  # type: ignore[no-any-return]


def _cause(error: BaseException) -> BaseException:
    """Return what is at the bottom of one of twisted.web's errors."""
    reasons = getattr(error, "reasons", None)
    return _cause(reasons[0].value) if reasons else error


def _describe(error: BaseException) -> str:
    """Return a reason for the log: what TLS says, or else the error's name; its text could hold the URL."""
    if isinstance(error, ConnectionAborted):  # which the agent does to such
        return "broken off: the response is larger than it may be"
    return tls_reason(error) or type(error).__name__
