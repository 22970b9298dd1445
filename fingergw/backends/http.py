"""Backends that get a URL."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from typing import Any
from urllib.parse import quote

from attrs import evolve, field, frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.web.client import HTTPConnectionPool
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IResponse

from fingergw.api import (
    Answered,
    AuthoritiesFile,
    Backend,
    Bytes,
    Charset,
    Conversion,
    ConversionError,
    Convert,
    Failed,
    Freshness,
    HeaderName,
    HeaderValue,
    Jinja,
    Missing,
    Outcome,
    Query,
    SecretFile,
    Site,
    Status,
    Unchanged,
    Url,
    Waits,
    setting,
    settings,
)
from fingergw.core.http_caching import FIELDS, conditions, freshness, redirected, revalidated
from fingergw.core.text import is_blank
from fingergw.net.http.bounded import BodyError, Undecoded, bounded_agent, discard, read
from fingergw.net.http.charsets import UTF_8, content_type, decode
from fingergw.net.http.request import UPSTREAM_ERRORS, follow, get, header, reason, upstream
from fingergw.net.resolving import connect_seconds
from fingergw.net.watched import Watched

_USER_AGENT = f"fingergw/{version('fingergw')}"
_MAX_REDIRECTS = 5
_TWICE = "this header is given twice, in headers, header_files or by bearer_token_file; remove one of the two"
_OF_A_BODY = frozenset({"content-length", "transfer-encoding"})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# A text up to this size is decoded here, whatever its charset is; decoding a larger one is left to a worker.
_SMALL_BYTES = 65536


@settings
class Http:
    """Answers with the content of a URL."""

    only_placeholders = True
    waits = Waits(timeout=5, max_running=100)

    url: Url = setting(
        "An http or https URL. {user} and a regex's groups are replaced after the host, percent-encoded; {user:upper} "
        "by the name in upper case."
    )
    headers: dict[HeaderName, HeaderValue] = setting(
        "Request headers. Do not write secrets here: see header_files and bearer_token_file.", default={}, secret=True
    )
    bearer_token_file: SecretFile | None = setting(
        "A file with a token for the Authorization header; others may neither read nor write it.",
        default=None,
        holds="token",
    )
    header_files: dict[HeaderName, SecretFile] = setting(
        "Request headers whose values are secret: each with a file with its value; others may neither read nor write "
        "it.",
        default={},
        holds="header value",
    )
    max_bytes: Bytes = setting(
        "The largest decoded body, and text of the template; a larger one is a failure.", default=65536
    )
    charset: Charset = setting(
        "The charset of a body where neither its Content-Type, nor a byte order mark, nor the page itself says.",
        default=UTF_8,
    )
    missing_statuses: tuple[Status, ...] = setting(
        "Statuses that mean that the server does not know the name, as a 2xx without a text does. Any other 2xx is an "
        "answer, any other status a failure.",
        default=(404, 410),
    )
    template: Jinja | None = setting(
        "A Jinja2 template. Its variables are the keys of the JSON body, the whole of it as body, and the "
        "placeholders. Default: the body is the answer",
        default=None,
    )
    ca_file: AuthoritiesFile | None = setting(
        "A PEM file with the certificate authorities to trust. Default: the system's", default=None
    )
    follow_redirects: bool = setting("Follow redirects to the same scheme, host and port.", default=True)

    def check(self) -> Iterator[tuple[tuple[str, ...], str]]:
        """Yield the key of each header that is given twice, or that would announce a body, with a message."""
        given: set[str] = set() if self.bearer_token_file is None else {"authorization"}
        for key in ("headers", "header_files"):
            for name in getattr(self, key):
                if name.lower() in _OF_A_BODY:
                    yield (key, name), "a GET request has no body, and a server would wait for it; remove the header"
                if name.lower() in given:
                    yield (key, name), _TWICE
                given.add(name.lower())

    def open(self, site: Site) -> Backend:
        """Return the backend."""
        pool = HTTPConnectionPool(site.reactor)
        agent = bounded_agent(
            site.resolver,
            site.trust("ca_file"),
            pool,
            timeout=connect_seconds(site.timeout),
            max_bytes=self.max_bytes,
        )
        secrets = [(name, "", file) for name, file in site.files("header_files").items()]
        if self.bearer_token_file is not None:
            secrets.append(("Authorization", "Bearer ", site.file("bearer_token_file")))
        return HttpBackend(self, agent, site.reactor, time.time, site.converter(), secrets, pool.closeCachedConnections)


@frozen
class HttpBackend:
    """Get a URL and answer with its content.

    :param settings: its table.
    :param agent: makes the requests; it verifies TLS.
    :param clock: for treq.
    :param now: the time of day in seconds since 1970, to compare with upstream's dates.
    :param convert: converts a body to text in a worker.
    :param secrets: the names of headers, what their values begin with, and the files with the rest.
    :param close: closes idle connections.
    """

    settings: Http
    agent: IAgent
    clock: Any
    now: Callable[[], float]
    convert: Convert
    secrets: Sequence[tuple[str, str, Watched[str]]] = field(repr=False)
    close: Callable[[], Deferred[object]]

    def at_once(self, query: Query) -> Outcome | None:
        """Return Missing for ``.`` and ``..``, which would change the path, as percent-encoding keeps dots."""
        values = query.placeholders
        return Missing() if any(values[name] in (".", "..") for name in self.settings.url.names) else None

    async def answer(self, query: Query) -> Outcome:
        """Get the URL; the status decides between Answered, Missing and Failed."""
        outcome = await self.revalidate(query, {})
        assert not isinstance(outcome, Unchanged)  # without validators no request is conditional
        return outcome

    async def revalidate(self, query: Query, validators: Mapping[str, str]) -> Outcome | Unchanged:
        """Get the URL, unless the cached answer still holds (RFC 9110 §13)."""
        values, url = query.placeholders, self.settings.url
        return await self._get(url.fill(values, partial(quote, safe="")), values, validators)

    def _headers(self) -> Headers:
        headers = Headers({"User-Agent": [_USER_AGENT]})
        for name, value in self.settings.headers.items():
            headers.setRawHeaders(name, [value])
        for secret, begin, file in self.secrets:
            headers.setRawHeaders(secret, [begin + file.current()])
        return headers

    async def _get(self, url: str, values: Mapping[str, str], validators: Mapping[str, str]) -> Outcome | Unchanged:
        redirects: list[Freshness] = []
        follows, missing = self.settings.follow_redirects, self.settings.missing_statuses
        followed = _REDIRECTS.difference(missing) if follows else frozenset[int]()
        try:
            for _ in range(_MAX_REDIRECTS + 1):
                headers, is_conditional = self._headers(), validators.get("url") == url
                for name, value in conditions(validators).items() if is_conditional else ():
                    headers.setRawHeaders(name.encode(), [value.encode("latin-1", "replace")])
                agent, sent_at = Undecoded(self.agent), self.now()
                response = await get(agent, url, headers, self.clock)
                received_at, fields = self.now(), _fields(response)
                age = {"received_at": received_at, "delay": max(0.0, received_at - sent_at)}
                if response.code == 304 and is_conditional:
                    discard(response)
                    said = revalidated(validators, fields, **age)
                    if said is not None:
                        return Unchanged(_reached(url, said, redirects))
                    validators = {}  # it is about another response; get the whole
                    continue
                said = freshness(fields, **age)
                if response.code not in followed:
                    outcome = await self._outcome(response, agent.encoding, values)
                    if isinstance(outcome, Failed):
                        return outcome
                    if isinstance(outcome, Answered) and is_blank(outcome.text):
                        outcome = Missing()
                    return evolve(outcome, freshness=_reached(url, said, redirects))
                discard(response)
                redirects.append(said)
                location = header(response, b"location")
                if not location:
                    return Failed(f"HTTP {response.code}, a redirect without a Location header")
                target = follow(url, location)
                if target is None:
                    return Failed(f"HTTP {response.code}, a redirect to another origin: not followed")
                url = target
            return Failed(f"more than {_MAX_REDIRECTS} redirects")
        except (BodyError, ConversionError) as error:
            return Failed(str(error))
        except UPSTREAM_ERRORS as error:
            return Failed(reason(error), upstream=upstream(error))
        except CancelledError:
            raise
        except Exception as error:
            # The traceback is logged without the error's text, which may quote the URL or a header.
            name = type(error).__name__
            redacted = RuntimeError(f"{name}, whose text is left out").with_traceback(error.__traceback__)
            return Failed(f"unforeseen {name}", redacted, upstream="unknown")

    async def _outcome(self, response: IResponse, encoding: bytes, values: Mapping[str, str]) -> Outcome:
        settings = self.settings
        if response.code in settings.missing_statuses:
            discard(response)
            return Missing()
        if not 200 <= response.code < 300:
            discard(response)
            return Failed(f"HTTP {response.code}")
        data = await read(response, encoding, settings.max_bytes)
        if not data.strip():  # as with 204; there is nothing for a template either
            return Missing()
        said, default = content_type(header(response, b"content-type")), settings.charset.codec
        if settings.template is not None:
            conversion = Conversion(
                "template", settings.max_bytes, said.codec, default, template=settings.template, values=values
            )
        elif said.is_html or len(data) > _SMALL_BYTES:
            # A text can be larger in UTF-8 than in its charset.
            conversion = Conversion("html" if said.is_html else "text", 4 * settings.max_bytes, said.codec, default)
        else:
            return Answered(decode(data, said.codec or default))
        return Answered(await self.convert(conversion, data))


def _fields(response: IResponse) -> dict[str, str]:
    """Return the header fields that control caching."""
    found = {name: response.headers.getRawHeaders(name.encode()) for name in FIELDS}
    return {name: b", ".join(values).decode("latin-1") for name, values in found.items() if values}


def _reached(url: str, said: Freshness, redirects: Sequence[Freshness]) -> Freshness:
    """Return how long an answer may be cached, with the URL among the validators that it is revalidated with."""
    said = redirected(said, redirects)
    return evolve(said, validators={**said.validators, "url": url}) if said.validators else said
