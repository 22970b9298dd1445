"""Backends that get a URL."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from attrs import define
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

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
from fingergw.core.text import is_blank
from fingergw.core.version import __version__
from fingergw.net.http.charsets import UTF_8, content_type, decode
from fingergw.net.late_module import LateModule
from fingergw.net.resolving import connect_seconds
from fingergw.net.watched import Watched

if TYPE_CHECKING:
    from fingergw.net.http.client import Client, Response

_log = Logger()
_CLIENT: Final = LateModule("fingergw.net.http.client")
_USER_AGENT = f"fingergw/{__version__}"
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
        options = {"connect_seconds": connect_seconds(site.timeout), "max_bytes": self.max_bytes}
        trust = site.trust("ca_file")
        secrets = [(name, "", file) for name, file in site.files("header_files").items()]
        if self.bearer_token_file is not None:
            secrets.append(("Authorization", "Bearer ", site.file("bearer_token_file")))

        def make_client(module: Any) -> Client:
            client: Client = module.client_of(site.reactor, site.resolver, trust, **options)
            return client

        _import_once_running(site.reactor)
        return HttpBackend(self, site.reactor, make_client, site.converter(), secrets)


@define(eq=False, repr=False)
class HttpBackend:
    """Get a URL and answer with its content.

    :param settings: its table.
    :param reactor: for threads.
    :param make_client: makes a client with the module that has it.
    :param convert: converts a body to text in a worker.
    :param secrets: the names of headers, what their values begin with, and the files with the rest.
    """

    settings: Http
    reactor: Any
    make_client: Callable[[Any], Client]
    convert: Convert
    secrets: Sequence[tuple[str, str, Watched[str]]]
    _client: Client | None = None

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
        if self._client is None:
            try:
                module = await _CLIENT.get(self.reactor)
            except (ImportError, OSError) as error:
                return Failed(_why(error), upstream="unknown")
            self._client = self._client or self.make_client(module)
        values, settings = query.placeholders, self.settings
        return await self._client.get(
            settings.url.fill(values, partial(quote, safe="")),
            validators,
            headers=self._headers,
            followed=_REDIRECTS.difference(settings.missing_statuses) if settings.follow_redirects else (),
            outcome=partial(self._outcome, values),
        )

    def close(self) -> Deferred[object] | None:
        """Close idle connections."""
        return None if self._client is None else self._client.close()

    def _headers(self) -> Iterable[tuple[str, str]]:
        yield "User-Agent", _USER_AGENT
        yield from self.settings.headers.items()
        for name, begin, file in self.secrets:
            yield name, begin + file.current()

    async def _outcome(self, values: Mapping[str, str], response: Response) -> Outcome:
        settings = self.settings
        if response.status in settings.missing_statuses:
            response.discard()
            return Missing()
        if not 200 <= response.status < 300:
            response.discard()
            return Failed(f"HTTP {response.status}")
        data = await response.read(settings.max_bytes)
        if not data.strip():  # as with 204; there is nothing for a template either
            return Missing()
        try:
            text = await self._text(data, response.content_type, values)
        except ConversionError as error:
            return Failed(str(error))
        return Missing() if is_blank(text) else Answered(text)

    async def _text(self, data: bytes, type_header: str, values: Mapping[str, str]) -> str:
        settings = self.settings
        said, default = content_type(type_header), settings.charset.codec
        if settings.template is not None:
            conversion = Conversion(
                "template", settings.max_bytes, said.codec, default, template=settings.template, values=values
            )
        elif said.is_html or len(data) > _SMALL_BYTES:
            # A text can be larger in UTF-8 than in its charset.
            conversion = Conversion("html" if said.is_html else "text", 4 * settings.max_bytes, said.codec, default)
        else:
            return decode(data, said.codec or default)
        return await self.convert(conversion, data)


@cache
def _import_once_running(reactor: Any) -> None:
    """Import the client while queries are answered, and before the disk that it is on can hang."""
    reactor.callWhenRunning(lambda: _CLIENT.get(reactor).addErrback(_not_imported))


def _not_imported(failure: Failure) -> None:
    _log.error("backends fail that get a URL: {why}", why=_why(failure.value))


def _why(error: object) -> str:
    return f"the HTTP client cannot be imported: {error}"
