"""A client that gets URLs, follows redirects, and revalidates what it got before.

It is large, with all that it imports, so it is imported once queries are answered.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from attrs import evolve, frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.web.client import HTTPConnectionPool
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IResponse

from fingergw.core.http_caching import FIELDS, conditions, freshness, redirected, revalidated
from fingergw.core.outcome import Failed, Freshness, Outcome, Unchanged
from fingergw.net.http.bounded import BodyError, Undecoded, bounded_agent, discard, read
from fingergw.net.http.request import UPSTREAM_ERRORS, follow, get, header, reason, upstream
from fingergw.net.resolving import Resolver

_MAX_REDIRECTS = 5


@frozen(eq=False, repr=False)
class Response:
    """A response whose body has not been read: read it, or discard it.

    :param content_type: the header field; empty without one.
    """

    status: int
    content_type: str
    _encoding: bytes
    _response: IResponse

    async def read(self, max_bytes: int) -> bytes:
        """Read the body and decode its content coding.

        :raises BodyError: it is larger, or cannot be decoded.
        """
        return await read(self._response, self._encoding, max_bytes)

    def discard(self) -> None:
        """Leave the body unread."""
        discard(self._response)


@frozen(eq=False, repr=False)
class Client:
    """Get URLs.

    :param agent: makes the requests; it verifies TLS.
    :param clock: for treq.
    :param now: the time of day in seconds since 1970, to compare with upstream's dates.
    :param close: closes idle connections.
    """

    agent: IAgent
    clock: Any
    now: Callable[[], float]
    close: Callable[[], Deferred[object]]

    async def get(
        self,
        url: str,
        validators: Mapping[str, str],
        *,
        headers: Callable[[], Iterable[tuple[str, str]]],
        followed: Collection[int],
        outcome: Callable[[Response], Awaitable[Outcome]],
    ) -> Outcome | Unchanged:
        """Get a URL.

        :param validators: of the cached answer, as its freshness has them; empty without one.
        :param headers: returns the header fields of a request.
        :param followed: the statuses that redirect.
        :param outcome: returns what a response with any other status means; it may raise BodyError.
        :return: that, with how long it may be cached; Unchanged if the cached answer still holds (RFC 9110 §13); Failed
            if there is no response.
        """
        redirects: list[Freshness] = []
        try:
            for _ in range(_MAX_REDIRECTS + 1):
                is_conditional = validators.get("url") == url
                agent, sent_at = Undecoded(self.agent), self.now()
                fields = _request_fields(headers(), conditions(validators) if is_conditional else {})
                response = await get(agent, url, fields, self.clock)
                received_at, control = self.now(), _caching_fields(response)
                age = {"received_at": received_at, "delay": max(0.0, received_at - sent_at)}
                if response.code == 304 and is_conditional:
                    discard(response)
                    said = revalidated(validators, control, **age)
                    if said is not None:
                        return Unchanged(_reached(url, said, redirects))
                    validators = {}  # it is about another response; get the whole
                    continue
                said = freshness(control, **age)
                if response.code not in followed:
                    content_type = header(response, b"content-type")
                    meant = await outcome(Response(response.code, content_type, agent.encoding, response))
                    if isinstance(meant, Failed):
                        return meant
                    return evolve(meant, freshness=_reached(url, said, redirects))
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
        except BodyError as error:
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


def client_of(
    reactor: Any, resolver: Resolver, trust: Callable[[], Any], *, connect_seconds: float, max_bytes: int
) -> Client:
    """Return a client.

    :param trust: returns whom to trust for TLS.
    :param connect_seconds: how long connecting may take.
    :param max_bytes: the largest body that is received.
    """
    pool = HTTPConnectionPool(reactor)
    agent = bounded_agent(resolver, trust, pool, timeout=connect_seconds, max_bytes=max_bytes)
    return Client(agent, reactor, time.time, pool.closeCachedConnections)


def _request_fields(given: Iterable[tuple[str, str]], conditional: Mapping[str, str]) -> Headers:
    fields = Headers()
    for name, value in given:
        fields.setRawHeaders(name, [value])
    for name, value in conditional.items():
        fields.setRawHeaders(name.encode(), [value.encode("latin-1", "replace")])
    return fields


def _caching_fields(response: IResponse) -> dict[str, str]:
    """Return the header fields that control caching."""
    found = {name: response.headers.getRawHeaders(name.encode()) for name in FIELDS}
    return {name: b", ".join(values).decode("latin-1") for name, values in found.items() if values}


def _reached(url: str, said: Freshness, redirects: Sequence[Freshness]) -> Freshness:
    """Return how long an answer may be cached, with the URL among the validators that it is revalidated with."""
    said = redirected(said, redirects)
    return evolve(said, validators={**said.validators, "url": url}) if said.validators else said
