"""An http upstream that would freeze or fill the gateway."""

from __future__ import annotations

import json
import resource
from pathlib import Path
from typing import Any

from treq.testing import RequestTraversalAgent
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.web.resource import Resource

from fingergw.backends.http import Http, HttpBackend
from fingergw.core.outcome import Answered, Failed, Outcome
from fingergw.core.placeholders import Template
from fingergw.core.query import Query
from fingergw.core.setting_types import Url
from fingergw.net.http.client import Client
from tests.support.http_server import HttpCase, response, says
from tests.support.memory import traced
from tests.support.waiting import until

KIB_64 = 65536


def page(piece: str) -> bytes:
    """Return a page of 64 KiB of the same."""
    return (piece * KIB_64)[:KIB_64].encode()


def resident_bytes() -> int:
    """Return the memory that this process has in use."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


class PageTests(HttpCase):
    """Pages that take long to read."""

    async def test_unclosed_tags(self) -> None:
        """Tags without an end, in numbers, are a page like any other."""
        upstream = self.upstream(says())
        gateway = self.gateway(upstream.url)
        for piece in ("<b><col>", "<i><tr>", "<font><td>", "<nobr><p>", "<a>", "<p><b>"):
            upstream.script = says(response(page(piece)[:-9] + b"> <p>end", "text/html", extra="Connection: close\r\n"))
            outcome = await self.outcome(gateway)
            assert isinstance(outcome, Answered), (piece, outcome)
            assert outcome.text.endswith("end"), piece

    async def test_nested_blocks(self) -> None:
        """What is nested beyond measure is no answer, not even in part."""
        for piece in ("<div>", "<a><table>", "<ul><li>", "<blockquote>"):
            outcome = await self.outcome_of(says(response(page(piece), "text/html")))
            assert outcome == Failed("the elements of the page are nested too deeply"), piece

    async def test_others_are_answered_meanwhile(self) -> None:
        """While a worker is busy with what never ends, other backends' pages are answered, and so is what is known."""
        hostile, honest = self.upstream(says(response(b"{}"))), self.upstream(says(response(b"<p>hi", "text/html")))
        endless = "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}"
        gateway = self.start(
            f"""
            [[listeners]]
            endpoint = "tcp:0:interface=127.0.0.1"
            [[routes]]
            user = "hostile"
            backends = ["hostile"]
            [[routes]]
            user = "honest"
            backends = ["honest"]
            [backends.hostile]
            type = "http"
            url = "{hostile.url}"
            template = "{endless}"
            [backends.honest]
            type = "http"
            url = "{honest.url}"
            """
        )
        asking = [Deferred.fromCoroutine(self.ask(gateway, b"hostile\r\n")) for _ in range(4)]
        await until(lambda: len(hostile.requests) == 4)
        for _ in range(5):
            assert await self.ask(gateway, b"honest\r\n") == b"hi\r\n"
        assert not any(each.called for each in asking[1:])
        for each in asking:
            assert await each == b"Internal error in server\r\n"


class TemplateTests(HttpCase):
    """Templates whose work the upstream chooses."""

    async def test_numbers_of_the_upstreams(self) -> None:
        """What a number of the upstream's makes too large, or endless, has Failed, and costs the gateway nothing."""
        before = resident_bytes()
        for template, body, reason in (
            ('{{ "#" * percent }}', {"percent": 10**9}, "the body takes too much memory to convert"),
            ('{{ "#" * percent }}', {"percent": 70_000}, "the template's text is larger than max_bytes = 65536"),
            ("{{ name|center(n) }}", {"name": "x", "n": 4 * 10**9}, "the body takes too much memory to convert"),
            ("{{ (10 ** e) % 7 }}", {"e": 10**8}, "1 s of processor time"),
            (
                "{% for a in range(n) %}{% for b in range(n) %}{% endfor %}{% endfor %}",
                {"n": 100_000},
                "1 s of processor time",
            ),
        ):
            outcome = await self.outcome_of(
                says(response(json.dumps(body).encode(), "application/json")), template=template
            )
            assert isinstance(outcome, Failed), template
            assert reason in outcome.reason, template
        assert resident_bytes() - before < 32 << 20


class HeaderTests(HttpCase):
    """Headers that take long to read, or that are remembered."""

    async def test_content_types(self) -> None:
        """A Content-Type that is longer than any is none, folded or not."""
        semicolons = 'text/plain;a="' + ";" * 16_000
        folded = 'text/plain;a="' + "\r\n ".join(";" * 500 for _ in range(100))
        upstream = self.upstream(says())
        gateway = self.gateway(upstream.url)
        for content_type in (semicolons, folded, "text/html;a=" + "\\" * 16_000, "text/html" + "; ;" * 5_000):
            upstream.script = says(response("é".encode(), content_type))
            assert await self.outcome(gateway) == Answered("é"), content_type[:20]
        upstream.script = says(response(b"hi", 'text/plain;a="' + ";" * 60_000))
        assert await self.outcome(gateway) == Failed("broken off: the response is larger than max_bytes allows")

    async def test_charsets_are_not_remembered(self) -> None:
        """A charset that does not exist, another each time, leaves nothing behind."""
        upstream = self.upstream(says())
        gateway = self.gateway(upstream.url)
        grown = []
        for count in range(1000):
            name = f"x{count}{'a' * 14_000}"
            head = f"text/plain; charset={name}" if count % 2 else f"text/plain; charset*={name}''utf-8"
            upstream.script = says(response(b"hi", head))
            assert await self.outcome(gateway) == Answered("hi")
            grown.append(resident_bytes())
        assert grown[-1] - grown[300] < 5 << 20  # all of them would be 10 MB

    async def test_long_names(self) -> None:
        """A header with a name that is longer than any has the response broken off, and is not remembered."""
        upstream = self.upstream(says())
        gateway = self.gateway(upstream.url)
        heads = (
            b"HTTP/1.1 200 OK\r\n%s: x\r\nContent-Length: 2\r\n\r\nhi",
            b"HTTP/1.1 200 OK\r\n%s:\r\n\r\nhi",
            b"HTTP/1.1 100 Continue\r\n%s: x\r\n\r\n" + response(b"hi"),
            *(
                b"HTTP/1.1 " + status + b" Continue\r\n\r\nHTTP/1.1 200 OK\r\n%s: x\r\nContent-Length: 2\r\n\r\nhi"
                for status in (b"100", b"+100", b"0100", b"\t100", b"1_00", b"199")
            ),
        )
        for place, head in enumerate(heads):
            with traced() as held:
                for count in range(20):
                    upstream.script = says(head % (b"X-%d-%d-" % (place, count) + b"a" * 15_000))
                    outcome = await self.outcome(gateway)
                    assert outcome == Failed("broken off: the response is larger than max_bytes allows")
                upstream.connections.clear()
                assert held() < 500_000, head  # Twisted would keep 600 kB of names; the log keeps connections

    async def test_names_of_usual_length(self) -> None:
        """Heads come through whole, in whatever pieces, with the longest of names, folded lines and LFs alone."""
        upstream = self.upstream(says())
        gateway = self.gateway(upstream.url)
        long = "X-" + "a" * 254
        plain = response(
            "é".encode(), "text/plain; charset=latin-1", extra=f"{long}: {'v' * 10_000}\r\n folded:{'x' * 300}\r\n"
        )
        for said in (plain, plain.replace(b"\r\n", b"\n"), b"HTTP/1.1 100 Continue\r\nA: b\r\n\r\n" + plain):
            upstream.script = says(said)
            assert await self.outcome(gateway) == Answered("Ã©")
            upstream.script = says(*(said[place : place + 1] for place in range(200)), said[200:])
            assert await self.outcome(gateway) == Answered("Ã©")
        longer = response(b"hi", extra=f"{long}a: x\r\n")
        upstream.script = says(longer)
        assert await self.outcome(gateway) == Failed("broken off: the response is larger than max_bytes allows")


class OriginTests(HttpCase):
    """Whom redirects lead to."""

    async def test_port_0(self) -> None:
        """Port 0 is not the default port, so a redirect to it leads elsewhere."""

        class Root(Resource):
            isLeaf = True

            def render_GET(self, request: Any) -> bytes:
                if request.path == b"/begin":
                    request.redirect(b"http://same.test:0/final")
                return b"hi"

        agent = RequestTraversalAgent(Root())  # type: ignore[no-untyped-call]
        backend = HttpBackend(
            settings=Http(url=Url(Template("http://same.test/{user}"))),
            reactor=Clock(),
            make_client=lambda _: Client(agent, Clock(), lambda: 0.0, lambda: succeed(None)),
            convert=None,  # type: ignore[arg-type]  # a plain text needs none
            secrets=(),
        )
        outcomes: list[Outcome] = []
        Deferred.fromCoroutine(backend.answer(Query("begin"))).addCallback(outcomes.append)
        agent.flush()  # type: ignore[no-untyped-call]
        assert outcomes == [Failed("HTTP 302, a redirect to another origin: not followed")]
