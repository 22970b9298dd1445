"""The http backend, with a real server on the loopback that misbehaves."""

from __future__ import annotations

import gzip
import json
import tracemalloc
import zlib
from errno import EMFILE
from functools import partial
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import quote

import pytest
import tomli_w
import trustme
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import LoopingCall
from twisted.logger import LogEvent, formatEvent, globalLogPublisher

import fingergw
from fingergw.app.gateway import Gateway
from fingergw.backends import http
from fingergw.backends.http import Http, HttpBackend
from fingergw.core.errors import ConfigError
from fingergw.core.outcome import Answered, Failed, Missing, Outcome
from fingergw.core.placeholders import Template
from fingergw.core.query import Query
from fingergw.core.setting_types import Url
from fingergw.net import late_module, watched
from fingergw.net.http import bounded as bounded_http
from fingergw.net.late_module import LateModule
from tests.support.certificates import UNTRUSTED
from tests.support.http_server import (
    CHUNKED,
    HEAD,
    INTERNAL_ERROR,
    HttpCase,
    RawServer,
    Script,
    Upstream,
    chunk,
    in_turn,
    response,
    says,
    trickle,
)
from tests.support.sockets import free_port
from tests.support.waiting import DEADLINE_SECONDS, reactor, until


class BodyTests(HttpCase):
    """What is made of a body."""

    async def test_text(self) -> None:
        """A plain text reaches the client."""
        gateway = self.gateway(self.upstream(says(response(b"up\nsince Monday"))).url)
        assert await self.ask(gateway, b"x\r\n") == b"up\r\nsince Monday\r\n"

    async def test_charsets(self) -> None:
        """A text is read in its charset, and as UTF-8 where that is no charset; invalid bytes are replaced."""
        cases = [
            ("text/plain", "é".encode(), "é"),
            ("text/plain; charset=utf-8", "é".encode(), "é"),
            ('text/plain; charset="UTF-8"', "é".encode(), "é"),
            ("text/plain; charset=ISO-8859-1", b"\xe9", "é"),
            ("text/plain; charset=windows-1252", b"\x80", "€"),
            ("text/plain; charset=utf-8", b"a\xff", "a\ufffd"),
            ("text/plain; charset=utf-8; charset=latin-1", "é".encode(), "é"),
            ("", "é".encode(), "é"),
            ("application/octet-stream", "é".encode(), "é"),
        ]
        names = ["nope", "punycode", "idna", "undefined", "base64", "rot13", "zlib", "../x", "\\", "*" * 5000]
        names += ["unicode_escape", "unicode-escape", "Unicode-Escape", "raw_unicode_escape", "raw-unicode-escape"]
        cases += [(f"text/plain; charset={name}", r"\x41é".encode(), r"\x41é") for name in names]
        cases += [("text/plain; charset*=us-ascii'en'utf-8%00", "é".encode(), "é")]
        upstream = self.upstream(says())
        gateway = self.gateway(upstream.url)
        for content_type, body, text in cases:
            upstream.script = says(response(body, content_type))
            assert await self.outcome(gateway) == Answered(text), content_type

    async def test_page(self) -> None:
        """An HTML page is answered as its readable text, in its own charset."""
        page = (
            "<!doctype html><html><head><meta charset=windows-1252><title>T</title><style>p {}</style>"
            "<script>alert(1)</script></head><body><h1>Caf\x80</h1><p>one <b>two</b> &amp; three<p>four</body></html>"
        ).encode("latin-1")
        outcome = await self.outcome_of(says(response(page, "text/html")))
        assert isinstance(outcome, Answered)
        lines = [line for line in outcome.text.splitlines() if line.strip()]
        assert lines[-3:] == ["Caf€", "one two & three", "four"]
        for gone in ("<", ">", "alert", "p {}"):
            assert gone not in outcome.text

    async def test_page_in_the_headers_charset(self) -> None:
        """The header's charset wins over the page's own, and one of Python's own is no charset."""
        for charset, body in (("utf-8", "é".encode()), ("iso-8859-1", b"\xe9"), ("punycode", "é".encode("latin-1"))):
            page = b"<meta charset=koi8-r><p>" + body if charset != "punycode" else b"<p>" + body
            outcome = await self.outcome_of(says(response(page, f"text/html; charset={charset}")))
            assert isinstance(outcome, Answered)
            assert outcome.text.strip() == "é"

    async def test_template(self) -> None:
        """A template is filled with the body's fields and the placeholders, which win."""
        cases: list[tuple[str, object, str]] = [
            ("{{ name }} until {{ until.day }}", {"name": "Ann", "until": {"day": "Monday"}}, "Ann until Monday"),
            ("{{ user }}", {"user": "root"}, "joe"),
            ("{{ body.user }}", {"user": "root"}, "root"),
            ("{% for one in body %}{{ one }};{% endfor %}", [1, "b"], "1;b;"),
            ("{{ body }}", "text", "text"),
            ("{{ name | upper }}", {"name": "ann"}, "ANN"),
            ("{{ name }}", {"name": "a\x1b[31mb\x00c\u202e"}, "abc"),
            ("{{ a }}{{ b }}[1m{{ c }}", {"a": "x\x1b", "b": "[31my\x1b]0;", "c": "z\bZ"}, "x[31my[1mZ"),
            ("{{ name }}", {"name": "<b>&"}, "<b>&"),
            ("{{ n or 'nobody' }}{{ t }}", {"n": None, "t": True}, "nobodyTrue"),
            ("{{ name }}", {"name": "\ud800"}, "\ufffd"),
        ]
        for template, body, text in cases:
            script = says(response(json.dumps(body).encode(), "application/json"))
            assert await self.outcome_of(script, "joe", template=template) == Answered(text), template

    async def test_templates_that_fail(self) -> None:
        """What a template cannot be filled with has Failed; so has what would leave its sandbox."""
        cases = [
            ("{{ nmae }}", b'{"name": 1}'),
            ("{{ ''.__class__.__mro__ }}", b"{}"),
            ("{{ ''.__class__ }}", b"{}"),
            ("{{ body.append(1) }}", b"[]"),
            ("{{ 1 // zero }}", b'{"zero": 0}'),
            ("{{ range(10 ** 9) | list }}", b"{}"),
            ("{{ body }}", b"["),
            ("{{ body }}", b'"\xff"'),
            ("{{ body }}", b"[" * 60_000),
            ("{{ body }}", b"[" * 900 + b"]" * 900 + b"x"),
            ("{{ body }}", b"1" * 5000),
        ]
        for template, body in cases:
            outcome = await self.outcome_of(says(response(body, "application/json")), template=template)
            assert isinstance(outcome, Failed), template

    async def test_numbers_that_json_has_not(self) -> None:
        """A body with a bare NaN or Infinity has Failed, even where the template does not use it, and says why."""
        for number in ("NaN", "Infinity", "-Infinity"):
            body = f'{{"name": "Ann", "load": [{number}]}}'.encode()
            gateway = self.gateway(self.upstream(says(response(body, "application/json"))).url, template="{{ name }}")
            assert await self.ask(gateway, b"x\r\n") == INTERNAL_ERROR
            why = f"the body is not JSON, which the template needs: it has {number}"
            assert await self.outcome(gateway) == Failed(why)

    async def test_gzip(self) -> None:
        """A compressed body is asked for and decoded; so is one in zlib's form."""
        for coding, data in (
            ("gzip", gzip.compress(b"text")),
            ("x-gzip", gzip.compress(b"text")),
            ("GZIP", gzip.compress(b"text")),
            ("deflate", zlib.compress(b"text")),
            ("identity", b"text"),
            ("gzip", b""),
        ):
            upstream = self.upstream(says(response(data, extra=f"Content-Encoding: {coding}\r\n")))
            assert await self.outcome(self.gateway(upstream.url)) == (Answered("text") if data else Missing()), coding
            assert b"accept-encoding: gzip" in upstream.requests[0].lower()

    async def test_body_of_just_the_size(self) -> None:
        """A body of max_bytes is an answer, compressed or not."""
        for data, extra in ((b"x" * 1000, ""), (gzip.compress(b"x" * 1000), "Content-Encoding: gzip\r\n")):
            assert await self.outcome_of(says(response(data, extra=extra)), max_bytes=1000) == Answered("x" * 1000)

    async def test_bodies_without_a_length(self) -> None:
        """A chunked body, and one that ends with its connection, are whole."""
        chunked = says(CHUNKED + b"\r\n" + chunk(b"te"), chunk(b"xt") + chunk(b""))
        closed = says(b"HTTP/1.0 200 OK\r\n\r\ntext", close=True)
        for script in (chunked, closed):
            assert await self.outcome_of(script) == Answered("text")


class StatusTests(HttpCase):
    """What a status says."""

    async def test_statuses(self) -> None:
        """2xx answers, missing_statuses are Missing, all others fail."""
        cases: list[tuple[str, dict[str, Any], Outcome]] = [
            ("200 OK", {}, Answered("text")),
            ("203 Changed", {}, Answered("text")),
            ("404 Not Found", {}, Missing()),
            ("410 Gone", {}, Missing()),
            ("403 Forbidden", {}, Failed("HTTP 403")),
            ("500 Oops", {}, Failed("HTTP 500")),
            ("304 Not Modified", {}, Failed("HTTP 304")),
            ("400 Bad", {"missing_statuses": [400]}, Missing()),
            ("404 Not Found", {"missing_statuses": [400]}, Failed("HTTP 404")),
            ("302 Found", {"missing_statuses": [302], "follow_redirects": False}, Missing()),
            ("302 Found", {"missing_statuses": [302]}, Missing()),
            ("204 No Content", {"missing_statuses": [204]}, Missing()),
        ]
        for status, settings, outcome in cases:
            script = says(response(b"text", status=status, extra="Location: /login\r\n"))
            assert await self.outcome_of(script, **settings) == outcome, status

    async def test_nothing(self) -> None:
        """A success of which nothing can be seen is no answer, so that the next in the chain is asked."""
        html, template = "text/html", "{% if name %}{{ name }}{% endif %}"
        cases: list[tuple[bytes, dict[str, Any]]] = [
            (b"HTTP/1.1 204 No Content\r\n\r\n", {}),
            (b"HTTP/1.1 204 No Content\r\n\r\n", {"template": template}),
            (response(b"", status="205 Reset Content"), {}),
            (response(b""), {}),
            (response(b"", html), {}),
            (response(b"", "application/json"), {"template": template}),
            (response(b" \n", "application/json"), {"template": template}),
            (response(b" \t\r\n\x0b\x0c\n"), {}),
            (response("\ufeff\u00a0\u200b\u2028".encode()), {}),
            (response(b"\x00\x1b\x07"), {}),
            (response(b"\n" * 65_000 + b" " * 500, extra="X: y\r\n"), {}),
            (response(b"<title>T</title><body><p> &nbsp; <script>x()</script>", html), {}),
            (response(b'{"name": null}', "application/json"), {"template": template}),
            (response(b'{"name": " "}', "application/json"), {"template": template}),
            (response(gzip.compress(b"\n"), extra="Content-Encoding: gzip\r\n"), {}),
        ]
        for raw, settings in cases:
            assert await self.outcome_of(says(raw), **settings) == Missing(), (raw, settings)
        for raw in (response(b"."), response(b"\n\n0\n"), response("\u3042".encode())):
            assert isinstance(await self.outcome_of(says(raw)), Answered), raw

    async def test_interim_responses(self) -> None:
        """What a server says while it works is passed over."""
        script = says(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", response(b"text"))
        assert await self.outcome_of(script) == Answered("text")


class RequestTests(HttpCase):
    """What the server is asked."""

    async def test_placeholders_are_encoded_once(self) -> None:
        """Every character of a name that means something in a URL is percent-encoded, exactly once."""
        upstream = self.upstream(says(response(b"text")))
        gateway = self.gateway(upstream.url + "/a/{user}/b%20c?q={user}&r=%2B")
        names = [
            "a/b?c#d%e é&",
            "a+b",
            "%41",
            "%",
            "a;b=c",
            "..%2f..",
            "a\\b",
            "...",
            "http://x/",
            "a@b:c",
            "'\"<>`{}|",
        ]
        for name in names:
            await self.outcome(gateway, name)
            encoded = quote(name, safe="")
            line = upstream.requests[-1].partition(b"\r\n")[0].decode()
            assert line == f"GET /a/{encoded}/b%20c?q={encoded}&r=%2B HTTP/1.1"

    async def test_url_as_configured(self) -> None:
        """What is in the configured URL reaches the server as it stands, and encoded where it has to be."""
        upstream = self.upstream(says(response(b"text")))
        for configured, sent in (
            ("", "/"),
            ("/", "/"),
            ("/a//b/./c?a=b&a=c;d&e", "/a//b/./c?a=b&a=c;d&e"),
            ("/%ff?%ff", "/%ff?%ff"),
            ("/{{x}}", "/%7Bx%7D"),
            ("/a%20b|c", "/a%20b%7Cc"),
        ):
            assert await self.outcome(self.gateway(upstream.url + configured)) == Answered("text"), configured
            assert upstream.requests[-1].split(b" ")[1].decode() == sent

    async def test_names_that_are_steps_in_a_path(self) -> None:
        """A name that would lead out of the path is Missing, and the server is not asked."""
        upstream = self.upstream(says(response(b"text")))
        gateway = self.gateway(upstream.url + "/a/{user}", match={"pattern": "*"})
        assert [await self.outcome(gateway, name) for name in (".", "..")] == [Missing(), Missing()]
        gateway = self.gateway(upstream.url + "/a/{team}", match={"regex": "x(?P<team>.*)"})
        assert [await self.outcome(gateway, name) for name in ("x.", "x..")] == [Missing(), Missing()]
        assert upstream.requests == []

    async def test_default_headers(self) -> None:
        """A server is told who asks, and nothing about the client."""
        upstream = self.upstream(says(response(b"text")))
        await self.outcome(self.gateway(upstream.url + "/"))
        line, *headers = upstream.requests[0].decode().split("\r\n")
        assert line == "GET / HTTP/1.1"
        assert sorted(headers) == [
            "Accept-Encoding: gzip",
            f"Host: 127.0.0.1:{upstream.port}",
            f"User-Agent: fingergw/{fingergw.__version__}",
        ]

    async def test_configured_headers(self) -> None:
        """The configured headers and the token from its file are sent."""
        self.write("a.token", "s3cret\n").chmod(0o600)
        upstream = self.upstream(says(response(b"text")))
        headers = {"Accept": "application/json", "user-agent": "mine"}
        await self.outcome(self.gateway(upstream.url, headers=headers, bearer_token_file="a.token"))
        sent = upstream.requests[0].decode().split("\r\n")
        assert {"Accept: application/json", "User-Agent: mine", "Authorization: Bearer s3cret"} < set(sent)

    async def test_header_files(self) -> None:
        """Headers whose values are in files are sent, to where a redirect leads too."""
        self.write("auth", "Basic dXNlcjpwYXNz\n").chmod(0o600)
        self.write("key", "k, e; y").chmod(0o640)
        upstream = self.upstream(says(response(b"", status="302 Found", extra="Location: /final\r\n")))
        upstream.script = in_turn(upstream.script, says(response(b"text")))
        files = {"Authorization": "auth", "x-key": "key"}
        gateway = self.gateway(upstream.url, header_files=files, headers={"Accept": "text/plain"})
        assert await self.outcome(gateway) == Answered("text")
        assert len(upstream.requests) == 2
        for request in upstream.requests:
            sent = request.decode().split("\r\n")
            assert {"Authorization: Basic dXNlcjpwYXNz", "X-Key: k, e; y", "Accept: text/plain"} <= set(sent)

    async def test_header_files_that_change(self) -> None:
        """A new value in a file is sent without a reload; one that is no value leaves the old one in use."""
        self.patch(watched, "LOOK_SECONDS", 0.0)
        self.patch(watched, "PATIENCE_SECONDS", DEADLINE_SECONDS)
        self.write("auth", "Basic one").chmod(0o600)
        upstream = self.upstream(says(response(b"text")))
        gateway = self.gateway(upstream.url, header_files={"Authorization": "auth"})
        for content, sent in (("Basic two", b"Basic two"), ("Basic\nthree", b"Basic two"), ("Basic 4", b"Basic 4")):
            self.write("auth", content)
            await self.outcome(gateway)
            assert b"Authorization: " + sent in upstream.requests[-1].split(b"\r\n")

    async def test_cookies_are_not_kept(self) -> None:
        """What a server wants to be told again is not told it, by the next query least of all."""
        upstream = self.upstream(says(response(b"text", extra="Set-Cookie: a=b; Path=/\r\n")))
        gateway = self.gateway(upstream.url)
        for _ in range(2):
            await self.outcome(gateway)
        assert "cookie" not in upstream.requests[1].decode().lower()

    async def test_connections_are_kept(self) -> None:
        """Two queries, one after the other, use one connection."""
        upstream = self.upstream(says(response(b"text")))
        gateway = self.gateway(upstream.url)
        assert [await self.outcome(gateway) for _ in range(2)] == [Answered("text")] * 2
        assert (len(upstream.requests), len(upstream.connections)) == (2, 1)

    async def test_kept_connection_that_was_closed(self) -> None:
        """A server that has closed a kept connection is asked on another."""
        upstream = self.upstream(says(response(b"text"), close=True))
        gateway = self.gateway(upstream.url)
        assert [await self.outcome(gateway) for _ in range(3)] == [Answered("text")] * 3

    async def test_connections_end_with_the_gateway(self) -> None:
        """A gateway that stops closes the connections it kept."""
        upstream = self.upstream(says(response(b"text")))
        gateway = self.gateway(upstream.url)
        await self.outcome(gateway)
        await gateway.stopService()
        await until(lambda: upstream.connections[0].lost.called)


class MisbehaviourTests(HttpCase):
    """Servers that do not do what they should. Whatever they do, no connection to them stays open."""

    async def lost(self, script: Script, *, authority: trustme.CA | None = None, **settings: Any) -> str:
        """Return why a server's answer has Failed, once the server has seen its connection go."""
        upstream = self.upstream(script, authority)
        url = upstream.url
        if authority is not None:
            self.write("ca.pem", authority.cert_pem.bytes().decode())
            settings["ca_file"] = "ca.pem"
            url = url.replace("http:", "https:")
        outcome = await self.outcome(self.gateway(url, **settings))
        await until(lambda: all(connection.lost.called for connection in upstream.connections), "the connection's end")
        assert len(upstream.requests) == 1
        assert isinstance(outcome, Failed)
        return outcome.reason

    async def test_hang(self) -> None:
        """One deadline holds over everything, wherever the server stops or however slowly it goes."""
        for name, script in (
            ("before the headers", says()),
            ("in the headers", says(HEAD)),
            ("after the headers", says(HEAD + b"Content-Length: 100\r\n\r\n")),
            ("in the body", says(HEAD + b"Content-Length: 100\r\n\r\nhalf")),
            ("in a chunk", says(CHUNKED + b"\r\n5\r\nab")),
            ("trickling headers", trickle(HEAD + b"X-Long: ")),
            ("trickling a body", trickle(HEAD + b"Content-Length: 1000\r\n\r\n")),
            ("redirecting slowly", says(response(b"", status="302 Found", extra="Location: /\r\n")[:-4])),
        ):
            assert await self.lost(script, timeout=0.2) == "not done within 0.2 s", name

    @pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")  # what Twisted itself does
    async def test_hang_with_tls(self) -> None:
        """A TLS server that hangs does not keep its connection by not saying goodbye."""
        authority = trustme.CA()
        for script in (says(), says(HEAD + b"Content-Length: 100\r\n\r\nhalf")):
            assert await self.lost(script, authority=authority, timeout=0.3) == "not done within 0.3 s"

    @pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")  # what Twisted itself does
    async def test_endless_headers(self) -> None:
        """A server whose headers do not end is broken off, long before the deadline and a large part of memory."""
        for authority in (None, trustme.CA()):
            reason = await self.lost(says(HEAD + b"X-More: more\r\n" * 200_000), authority=authority, timeout=20)
            assert reason == "broken off: the response is larger than max_bytes allows"

    async def test_hang_before_tls(self) -> None:
        """A server that never begins to speak TLS is given up at the deadline."""
        upstream = self.upstream(says())
        outcome = await self.outcome(self.gateway(upstream.url.replace("http:", "https:"), timeout=0.2))
        assert outcome == Failed("not done within 0.2 s")
        await until(lambda: upstream.connections[0].lost.called)

    async def test_max_running(self) -> None:
        """So many requests run at once; more wait, and begin as these end, well or not."""
        upstream = self.upstream(lambda server, head: None)
        gateway = self.gateway(upstream.url + "/{user}", max_running=2)
        asking = [Deferred.fromCoroutine(self.outcome(gateway, user)) for user in "abcd"]
        for ended in range(4):
            await until(partial(lambda count: len(upstream.requests) == count, min(ended + 2, 4)), "the next request")
            assert [asked.called for asked in asking] == [True] * ended + [False] * (4 - ended)
            if ended:
                upstream.connections[ended].send(response(b"hi", extra="Connection: close\r\n"))
            upstream.connections[ended].close()
            await until(partial(lambda count: asking[count].called, ended), "the end of the request")
        assert [await asked for asked in asking[1:]] == [Answered("hi")] * 3

    async def test_waiting_is_within_the_timeout(self) -> None:
        """The time for which a request has waited counts; if it was not begun by then, its reason says so."""
        upstream = self.upstream(lambda server, head: None)
        gateway = self.gateway(upstream.url + "/{user}", max_running=1, timeout=0.3)
        asking = [Deferred.fromCoroutine(self.outcome(gateway, user)) for user in "ab"]
        late = Failed("not done within 0.3 s")
        assert await asking[0] == late
        not_begun = Failed("not begun within 0.3 s, as max_running = 1 others were running")
        assert await asking[1] in (not_begun, late)  # it may just have begun when the first one ended

    async def test_redirects_share_the_deadline(self) -> None:
        """The time that redirects take counts."""

        def script(server: RawServer, _: bytes) -> None:
            later = response(b"", status="302 Found", extra="Location: /\r\n")
            call = reactor.callLater(0.12, server.send, later)
            server.lost.addBoth(lambda _: call.active() and call.cancel())

        outcome = await self.outcome_of(script, timeout=0.3)
        assert outcome == Failed("not done within 0.3 s")

    async def test_broken_off(self) -> None:
        """A body that ends before its end is not an answer."""
        cases: list[tuple[str, Script]] = [
            ("nothing at all", says(close=True)),
            ("in the headers", says(HEAD, close=True)),
            ("a length", says(HEAD + b"Content-Length: 100\r\n\r\nhalf", close=True)),
            ("chunks", says(CHUNKED + b"\r\n" + chunk(b"half"), close=True)),
        ]
        for name, script in cases:
            reason = await self.lost(script)
            assert reason in ("the other side closed the connection", "the connection was lost"), (name, reason)

    async def test_broken_gzip(self) -> None:
        """A compressed body that is broken, cut off or goes on after its end is not an answer."""
        data = gzip.compress(b"text" * 100)
        gzipped = "Content-Encoding: gzip\r\n"
        for body, reason in (
            (b"text", "the body is not valid gzip, though its header says so"),
            (data[:-8] + bytes(8), "the body is not valid gzip, though its header says so"),
            (data[:-1], "the gzip of the body ends early"),
            (data[:10], "the gzip of the body ends early"),
            (data[:1], "the gzip of the body ends early"),
            (data + b"more", "the body has data after the end of its gzip"),
        ):
            outcome = await self.outcome_of(says(response(body, extra=gzipped)))
            assert outcome == Failed(reason), body

    async def test_codings_not_asked_for(self) -> None:
        """A body in a coding that was not asked for has Failed."""
        for coding in ("br", "zstd", "gzip, gzip", "gzip\r\nContent-Encoding: gzip"):
            head = f"Content-Encoding: {coding}\r\nContent-Length: 100\r\n\r\n".encode()
            assert (
                await self.lost(says(HEAD + head + b"x"))
                == "the server used a content coding that the request did not accept"
            )

    async def test_too_large(self) -> None:
        """A body of more than max_bytes has Failed as soon as that is known."""
        for name, script in (
            ("a length", says(HEAD + b"Content-Length: 100000\r\n\r\n" + b"x" * 1001)),
            ("no length", says(HEAD + b"\r\n" + b"x" * 1001)),
            ("chunks", says(CHUNKED + b"\r\n" + chunk(b"x" * 1000), chunk(b"x"))),
            ("gzip", says(HEAD + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b"x" * 1001)[:-1])),
        ):
            assert await self.lost(script, max_bytes=1000) == "the answer is larger than max_bytes = 1000", name

    async def test_endless(self) -> None:
        """A body without an end costs no more memory than it may."""

        def script(server: RawServer, _: bytes) -> None:
            server.send(HEAD + b"\r\n")
            loop = LoopingCall(server.send, b"x" * 100_000)
            loop.start(0)
            server.lost.addBoth(lambda _: loop.stop())

        assert await self.lost(script, max_bytes=1_000_000) == "the answer is larger than max_bytes = 1000000"

    async def test_gzip_bomb(self) -> None:
        """A small body that becomes a huge one is never decoded further than max_bytes."""
        bomb = gzip.compress(bytes(50_000_000))
        half = len(bomb) // 2
        gzipped = b"Content-Encoding: gzip\r\n"
        many = b"".join(chunk(bomb[start : start + 2000]) for start in range(0, len(bomb), 2000))
        for name, script in (
            ("a length", says(HEAD + gzipped + b"Content-Length: %d\r\n\r\n" % (len(bomb) + 1) + bomb)),
            ("two chunks", says(CHUNKED + gzipped + b"\r\n" + chunk(bomb[:half]) + chunk(bomb[half:]))),
            ("many chunks", says(CHUNKED + gzipped + b"\r\n" + many)),
            ("after its end", says(CHUNKED + gzipped + b"\r\n" + chunk(gzip.compress(b"x")) + chunk(bomb) * 40)),
        ):
            tracemalloc.start()
            try:
                before = tracemalloc.get_traced_memory()[0]
                await self.lost(script)
                grown = tracemalloc.get_traced_memory()[1] - before
            finally:
                tracemalloc.stop()
            assert grown < 6_000_000, name

    async def test_nonsense(self) -> None:
        """What is no HTTP has Failed, and is foreseen."""
        for data in (
            b"SSH-2.0-OpenSSH\r\n\r\n",
            b"HTTP/1.1 abc OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
            b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
            CHUNKED + b"\r\nzz\r\n",
            HEAD + b"X-Long: " + b"x" * 100_000 + b"\r\n\r\n",
        ):
            upstream = self.upstream(says(data, close=True))
            assert isinstance(await self.outcome(self.gateway(upstream.url)), Failed), data


class TurnTests(HttpCase):
    """What comes in very many small parts is no work for one turn of the reactor."""

    async def most_in_a_turn(self, authority: trustme.CA | None = None) -> int:
        """Return how many of 20,000 chunks are read, at most, before others have their turn."""
        counts, turns = [0], LoopingCall(lambda: counts.append(0))
        body: Any = bounded_http.Body
        received = body.dataReceived

        def count(to: Any, data: bytes) -> None:
            counts[-1] += 1
            received(to, data)

        self.patch(body, "dataReceived", count)
        upstream = self.upstream(says(CHUNKED + b"\r\n" + chunk(b"x") * 20_000 + b"0\r\n\r\n"), authority)
        settings: dict[str, Any] = {"url": upstream.url}
        if authority is not None:
            self.write("ca.pem", authority.cert_pem.bytes().decode())
            settings = {"url": upstream.url.replace("http:", "https:"), "ca_file": "ca.pem"}
        gateway = self.gateway(**settings)
        turns.start(0)
        try:
            answer = await self.outcome(gateway)
        finally:
            turns.stop()
        assert answer == Answered("x" * 20_000, freshness=answer.freshness)  # type: ignore[union-attr]
        assert sum(counts) == 20_000
        return max(counts)

    async def test_small_chunks(self) -> None:
        """A body in chunks of a byte is read 8 KiB at a time."""
        assert await self.most_in_a_turn() <= 8192 // 6 + 1

    @pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")
    async def test_small_chunks_over_tls(self) -> None:
        """Over TLS 8 KiB may end a record of 16 KiB that had begun before, and no more than that."""
        assert await self.most_in_a_turn(trustme.CA()) <= (16384 + 8192) // 6 + 1

    async def test_many_lines(self) -> None:
        """A head of more than 500 lines, in whatever parts, is too large: each line takes time and memory."""
        interim = b"HTTP/1.1 103 Early Hints\r\n\r\n"
        for lines, is_refused in (
            (b"A:\r\n" * 490, False),
            (b"A:\r\n" * 510, True),
            (b"A: b\r\n" + b" c\r\n" * 510, True),
        ):
            outcome = await self.outcome_of(says(HEAD + lines + b"Content-Length: 1\r\n\r\nx"))
            assert isinstance(outcome, Failed) == is_refused, lines[:10]
        for count, is_refused in ((100, False), (300, True)):
            outcome = await self.outcome_of(says(interim * count + HEAD + b"Content-Length: 1\r\n\r\nx"))
            assert isinstance(outcome, Failed) == is_refused, count

    async def test_trailers(self) -> None:
        """Trailers of a chunked body are read, and are too large above 4 KiB, in whatever pieces they come."""
        body = b"\r\n" + chunk(b"x" * 9) + b"0;a=b\r\n"
        folded = HEAD + b"Transfer-Encoding:\r\n chunked\r\n"
        for trailers, is_refused in ((b"A: b\r\n" * 600, False), (b"A: b\r\n" * 700, True), (b"A:\r\n" * 15_000, True)):
            whole = body + trailers + b"\r\n"
            for pieces in (
                [CHUNKED + whole],
                [folded + whole],
                [CHUNKED + whole[:2], *(bytes([byte]) for byte in whole[2:40]), whole[40:]],
            ):
                outcome = await self.outcome_of(says(*pieces))
                assert isinstance(outcome, Failed) == is_refused, (pieces[0][-20:], len(trailers))

    async def test_body_like_trailers(self) -> None:
        """What is in a chunk is no trailer, however it looks."""
        text = b"0\r\n" + b"A: b\r\n" * 2000
        for script in (says(CHUNKED + b"\r\n" + chunk(text) + chunk(text) + b"0\r\n\r\n"), says(response(text))):
            assert isinstance(await self.outcome_of(script), Answered)

    async def test_cookies(self) -> None:
        """Cookies, which nobody would send back, are not even looked at: that takes long."""
        seen: list[Any] = []
        self.patch(DefaultCookiePolicy, "set_ok", lambda *arguments: seen.append(arguments))
        for name in ("Set-Cookie", "Set-Cookie2"):
            assert await self.outcome_of(says(response(b"Hello", extra=f"{name}: a=b; Version=1\r\n")))
        assert seen == []


class RedirectTests(HttpCase):
    """Redirects lead nowhere but to the same server."""

    def redirecting(self, location: str, status: str = "302 Found") -> Upstream:
        """Start a server that sends everything but /final on to a location."""
        upstream = self.upstream(says())

        def script(server: RawServer, head: bytes) -> None:
            if head.startswith(b"GET /final"):
                server.send(response(b"text"))
            else:
                where = location.replace("PORT", str(upstream.port))
                server.send(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nLocation: {where}\r\n\r\n".encode("latin-1"))

        upstream.script = script
        return upstream

    async def test_same_origin(self) -> None:
        """A redirect to the same scheme, host and port is followed, with the headers and on the same connection."""
        self.write("a.token", "s3cret").chmod(0o600)
        for location in (
            "/final",
            "final?a=b",
            "http://127.0.0.1:PORT/final",
            "//127.0.0.1:PORT/final",
            "/x/../final",
            "/final?a b",
        ):
            upstream = self.redirecting(location)
            gateway = self.gateway(upstream.url + "/begin", bearer_token_file="a.token")
            assert await self.outcome(gateway) == Answered("text"), location
            assert [b"Bearer s3cret" in request for request in upstream.requests] == [True, True]
            assert len(upstream.connections) == 1

    async def test_what_is_asked_for(self) -> None:
        """A Location is a reference (RFC 3986 §4.1); what a URL cannot have is sent percent-encoded, byte by byte."""
        for location, asked in (
            ("/\xc3\xa9nd", "/%C3%A9nd"),  # é in UTF-8
            ("/\xe9nd", "/%E9nd"),  # and in latin-1
            ("/%C3%A9nd", "/%C3%A9nd"),
            ("/a b", "/a%20b"),
            ('/"<>^`{|}', "/%22%3C%3E%5E%60%7B%7C%7D"),
            ("/\\evil.example/", "/%5Cevil.example/"),
            ("\\\\evil.example/", "/one/%5C%5Cevil.example/"),
            ("?q", "/one/begin?q"),
            ("../final", "/final"),
            ("../../../final", "/final"),
            ("./final", "/one/final"),
            ("final;a=b", "/one/final;a=b"),
            ("/final#top", "/final"),
            ("/final?q#top", "/final?q"),
            ("/~a@b:c!$&'()*+,=", "/~a@b:c!$&'()*+,="),
            ("//127.0.0.1:PORT/x", "/x"),
            ("HTTP://127.0.0.1:PORT/x", "/x"),
        ):
            upstream = self.redirecting(location)
            upstream.script = in_turn(upstream.script, says(response(b"text")))
            assert await self.outcome(self.gateway(upstream.url + "/one/begin")) == Answered("text"), location
            assert [head.split(b" ")[1].decode() for head in upstream.requests] == ["/one/begin", asked], location

    async def test_statuses(self) -> None:
        """All of HTTP's redirects are followed."""
        for status in (301, 302, 303, 307, 308):
            upstream = self.redirecting("/final", f"{status} Elsewhere")
            assert await self.outcome(self.gateway(upstream.url + "/begin")) == Answered("text"), status

    async def test_other_origins(self) -> None:
        """A redirect to anywhere else has Failed, and nobody else gets a request."""
        other = self.upstream(says(response(b"text")))
        for location in (
            f"http://127.0.0.1:{other.port}/final",
            f"//127.0.0.1:{other.port}/final",
            f"http://localhost:{other.port}/final",
            "http://localhost:PORT/final",
            "https://127.0.0.1:PORT/final",
            "ftp://127.0.0.1:PORT/final",
            "file:///etc/passwd",
            "data:text/plain,text",
            "http://127.0.0.1/final",
            "http://127.0.0.1:99999/final",
            "http://127.0.0.1:x/final",
            "http://127.0.0.1:-1/final",
            "http://[::1/final",
            "http://[::1]:PORT/final",
            "http://[127.0.0.1]:PORT/final",
            "//127.0.0.1:PORT\xe9/final",
            "//b\xc3\xbccher.example/final",
            "http://ann:pw@127.0.0.1:PORT/final",
            f"http://127.0.0.1:PORT@localhost:{other.port}/final",
            f"http://localhost:{other.port}\\@127.0.0.1:PORT/final",
            f"http://127.0.0.1:PORT\\@localhost:{other.port}/final",
        ):
            upstream = self.redirecting(location)
            outcome = await self.outcome(self.gateway(upstream.url + "/begin"))
            assert outcome == Failed("HTTP 302, a redirect to another origin: not followed"), location
            assert len(upstream.requests) == 1, location
        assert other.connections == []

    async def test_nowhere(self) -> None:
        """A redirect that does not say where to has Failed."""
        upstream = self.upstream(says(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n"))
        assert await self.outcome(self.gateway(upstream.url)) == Failed(
            "HTTP 302, a redirect without a Location header"
        )
        assert len(upstream.requests) == 1
        empty = self.redirecting("")
        assert await self.outcome(self.gateway(empty.url)) == Failed("HTTP 302, a redirect without a Location header")

    async def test_loop(self) -> None:
        """Redirects in a circle end after a few."""
        upstream = self.redirecting("/again")
        assert await self.outcome(self.gateway(upstream.url + "/begin")) == Failed("more than 5 redirects")
        assert len(upstream.requests) == 6

    async def test_not_followed(self) -> None:
        """With follow_redirects = false a redirect has Failed."""
        upstream = self.redirecting("/final")
        outcome = await self.outcome(self.gateway(upstream.url + "/begin", follow_redirects=False))
        assert outcome == Failed("HTTP 302")
        assert len(upstream.requests) == 1

    async def test_bodies_of_redirects(self) -> None:
        """A redirect's own body is not waited for."""
        upstream = self.upstream(says())
        upstream.script = lambda server, head: server.send(
            response(b"text")
            if b"/final" in head
            else b"HTTP/1.1 302 Found\r\nLocation: /final\r\nContent-Length: 100\r\n\r\nhalf"
        )
        assert await self.outcome(self.gateway(upstream.url)) == Answered("text")
        await until(lambda: upstream.connections[0].lost.called)


@pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")  # what Twisted itself does
class ConnectionTests(HttpCase):
    """Connections that do not come about, and certificates."""

    async def test_refused(self) -> None:
        """A server that is not there has Failed."""
        outcome = await self.outcome(self.gateway(f"http://127.0.0.1:{free_port()}/"))
        assert outcome == Failed("Connection refused")

    async def test_unknown_host(self) -> None:
        """A host that does not exist has Failed, at the deadline at the latest."""
        outcome = await self.outcome(self.gateway("http://nobody.invalid/", timeout=2))
        assert outcome in (
            Failed("the host has no address; check its name, and the name server"),
            Failed("not done within 2 s"),
        )

    async def test_ipv6(self) -> None:
        """A server may be named by its IPv6 address; its redirects are followed as any other's."""
        upstream = self.upstream(says())
        upstream.script = lambda server, head: server.send(
            response(b"text") if b"/final" in head else response(b"", status="302 Found", extra="Location: /final\r\n")
        )
        port = reactor.listenTCP(0, upstream.factory, interface="::1")
        self.addCleanup(port.stopListening)
        gateway = self.gateway(f"http://[::1]:{port.getHost().port}/begin")
        assert await self.outcome(gateway) == Answered("text")
        assert f"Host: [::1]:{port.getHost().port}".encode() in upstream.requests[0]

    async def ask_tls(self, name: str, *trusted: trustme.CA) -> tuple[Outcome, Upstream]:
        """Ask a TLS server that has a certificate for a name."""
        authority = trusted[-1] if trusted else trustme.CA()
        self.write("ca.pem", "".join(one.cert_pem.bytes().decode() for one in trusted))
        upstream = self.upstream(says(response(b"text")), authority, name)
        settings: dict[str, Any] = {"ca_file": "ca.pem"} if trusted else {}
        outcome = await self.outcome(self.gateway(upstream.url.replace("http:", "https:"), **settings))
        return outcome, upstream

    async def test_trusted(self) -> None:
        """A server whose authority is in ca_file is asked; the file may hold several."""
        first, second = trustme.CA(), trustme.CA()
        for trusted in ((first,), (second, first)):
            assert (await self.ask_tls("127.0.0.1", *trusted))[0] == Answered("text")

    async def test_not_trusted(self) -> None:
        """A server whose authority is unknown has Failed, and is not asked anything."""
        outcome, upstream = await self.ask_tls("127.0.0.1")
        assert outcome == Failed(UNTRUSTED)
        assert upstream.requests == []

    async def test_other_authority(self) -> None:
        """With ca_file no authority but those in it is trusted."""
        self.write("ca.pem", trustme.CA().cert_pem.bytes().decode())
        upstream = self.upstream(says(response(b"text")), trustme.CA())
        outcome = await self.outcome(self.gateway(upstream.url.replace("http:", "https:"), ca_file="ca.pem"))
        assert outcome == Failed(UNTRUSTED)
        assert upstream.requests == []

    async def test_wrong_name(self) -> None:
        """A server with another's certificate has Failed, and is not asked anything."""
        outcome, upstream = await self.ask_tls("example.org", trustme.CA())
        assert isinstance(outcome, Failed)
        assert upstream.requests == []

    def test_unusable_settings(self) -> None:
        """Each file and template that cannot be used is reported once, by its key."""
        self.write("bad.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
        self.write("empty", "").chmod(0o600)
        self.write("two", "a\nb").chmod(0o600)
        for key, name, expected in (
            ("ca_file", "bad.pem", "expected one or more certificates in PEM form"),
            ("ca_file", "empty", "expected one or more certificates in PEM form"),
            ("ca_file", "nowhere", "No such file or directory"),
            ("bearer_token_file", "two", "expected one token in it"),
            ("bearer_token_file", "empty", "expected one token in it"),
            ("bearer_token_file", "nowhere", "No such file or directory"),
            ("template", "{{ name", "expected a Jinja2 template"),
            ("template", "{{ name | no_such_filter }}", "expected a Jinja2 template"),
            ("template", "{{ " + "(" * 1000 + " }}", "expected a Jinja2 template that is nested less deeply"),
        ):
            settings: dict[str, Any] = {key: name}
            path = self.write("fingergw.toml", self.configuration("http://127.0.0.1/", **settings))
            with pytest.raises(ConfigError) as caught:
                fingergw.make_service(fingergw.load(path), reactor)
            [problem] = caught.value.problems
            assert expected in str(problem), problem
            assert key in str(problem), problem


class DepartureTests(HttpCase):
    """Queries that end before their answer."""

    def chain(self, first: Upstream, second: Upstream, **limits: object) -> Gateway:
        """Start a gateway with two URLs in a chain."""
        return self.start(
            tomli_w.dumps(
                {
                    "listeners": [{"endpoint": "tcp:0:interface=127.0.0.1"}],
                    "routes": [{"backends": ["first", "second"], "pattern": "*"}],
                    "backends": {
                        "first": {"type": "http", "url": first.url},
                        "second": {"type": "http", "url": second.url},
                    },
                    "limits": limits,
                    "log": {"access": "off"},
                }
            )
        )

    async def test_client_gone(self) -> None:
        """When the client leaves, the request is broken off, and the next backend is not asked."""
        for script in (says(), says(HEAD + b"Content-Length: 100\r\n\r\nhalf")):
            first, second = self.upstream(script), self.upstream(says(response(b"text")))
            client = await self.connect(self.chain(first, second))
            assert client.transport is not None
            client.transport.write(b"x\r\n")
            await until(partial(len, first.requests))
            client.transport.abortConnection()  # type: ignore[attr-defined]
            await first.connections[0].lost
            await client.closed
            assert second.connections == []

    async def test_answer_timeout(self) -> None:
        """The listener's answer_timeout ends it too, and the next backend is not asked."""
        first, second = self.upstream(says()), self.upstream(says(response(b"text")))
        gateway = self.chain(first, second, answer_timeout=0.3)
        assert await self.ask(gateway, b"x\r\n") == INTERNAL_ERROR
        await until(lambda: first.connections[0].lost.called)
        assert second.connections == []

    async def test_nothing(self) -> None:
        """A server that has nothing to say is followed by the next in the chain; at its end nobody is known."""
        empty, blank = self.upstream(says(b"HTTP/1.1 204 No Content\r\n\r\n")), self.upstream(says(response(b"\n")))
        full = self.upstream(says(response(b"second")))
        assert await self.ask(self.chain(empty, full), b"x\r\n") == b"second\r\n"
        assert await self.ask(self.chain(empty, blank), b"x\r\n") == b"No such user\r\n"

    async def test_fallback(self) -> None:
        """After a failure the next backend in the chain answers."""
        first, second = self.upstream(says(close=True)), self.upstream(says(response(b"text")))
        assert await self.ask(self.chain(first, second), b"x\r\n") == b"text\r\n"


class ClientTests(HttpCase):
    """The client, which is imported at the first query."""

    async def test_first_queries(self) -> None:
        """Queries that come together before there is a client share one, and closing closes it."""
        said: list[str] = []

        class Fake:
            async def get(self, url: str, _validators: object, **_options: object) -> Outcome:
                said.append(url)
                return Answered("hi")

            def close(self) -> None:
                said.append("closed")

        def make(_module: object) -> Any:
            said.append("made")
            return Fake()

        settings = Http(url=Url(Template("http://h/{user}")))
        backend = HttpBackend(settings, reactor, make, None, ())  # type: ignore[arg-type]  # a plain text needs none
        assert backend.close() is None
        outcomes = await gatherResults(Deferred.fromCoroutine(backend.answer(Query(name))) for name in "ab")
        assert outcomes == [Answered("hi")] * 2
        backend.close()
        assert said == ["made", "http://h/a", "http://h/b", "closed"]

    async def test_it_cannot_be_imported(self) -> None:
        """A query fails, and tells why, while it cannot be imported, and the next one tries again."""
        self.patch(http, "_CLIENT", LateModule("fingergw.net.http.client"))
        gateway = self.gateway(self.upstream(says(response(b"up"))).url)
        error = OSError(EMFILE, "Too many open files", "client.py")
        with patch.object(late_module, "import_module", side_effect=error):
            failed = await self.outcome(gateway)
        why = "the HTTP client cannot be imported: [Errno 24] Too many open files: 'client.py'"
        assert failed == Failed(why, upstream="unknown")
        assert await self.outcome(gateway) == Answered("up")


class SecretTests(HttpCase):
    """What must not be told."""

    def setUp(self) -> None:
        self.events: list[LogEvent] = []
        observer: Any = self.events.append
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    async def test_log(self) -> None:
        """Whatever fails, neither the log nor the client is told the URL's query, a header or the token."""
        self.write("a.token", "s3cret-token").chmod(0o600)
        for script in (
            says(close=True),
            says(),
            says(response(b"x", status="500 Oops")),
            says(response(b"x" * 2000)),
            says(response(b"", status="302 Found", extra="Location: http://localhost/?s3cret-place\r\n")),
            says(b"SSH\r\n\r\n"),
        ):
            upstream = self.upstream(script)
            gateway = self.gateway(
                upstream.url + "/?key=s3cret-key",
                headers={"X-Key": "s3cret-header"},
                bearer_token_file="a.token",
                timeout=0.3,
                max_bytes=1000,
            )
            assert await self.ask(gateway, b"x\r\n") == INTERNAL_ERROR
        logged = "\n".join(formatEvent(event) for event in self.events)
        assert logged.count("backend web failed") == 6
        assert "s3cret" not in logged

    def test_representations(self) -> None:
        """A traceback's or debugger's view of the backend does not show the headers."""
        self.write("a.token", "s3cret-token").chmod(0o600)
        path: Path = self.write("fingergw.toml", self.configuration("http://x/", bearer_token_file="a.token"))
        gateway = fingergw.make_service(fingergw.load(path), reactor)
        assert isinstance(gateway, Gateway)
        assert "s3cret" not in repr(gateway.listeners[0].rules.router)
