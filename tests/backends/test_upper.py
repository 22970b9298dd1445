"""Placeholders in upper case, where names are lower case, on real sockets and in real processes."""

from __future__ import annotations

from tests.support.commands import CommandCase
from tests.support.http_server import HttpCase, response, says

METAR: dict[str, object] = {"regex": "(?P<station>[a-z]{4})-metar"}


class HttpTests(HttpCase):
    """In URLs."""

    async def test_group(self) -> None:
        """A regex's group is put into the URL in upper case, and beside it as it is."""
        upstream = self.upstream(says(response(b"KJFK 121251Z")))
        gateway = self.gateway(f"{upstream.url}/{{station:upper}}.TXT?q={{station}}", match=METAR)
        assert await self.ask(gateway, b"kjfk-metar\r\n") == b"KJFK 121251Z\r\n"
        assert upstream.requests[0].startswith(b"GET /KJFK.TXT?q=kjfk HTTP/1.1\r\n")

    async def test_encoding_comes_last(self) -> None:
        """The name is in upper case before it is percent-encoded, and dots do not change the path."""
        upstream = self.upstream(says(response(b"yes")))
        gateway = self.gateway(f"{upstream.url}/{{user:upper}}/x")
        assert await self.ask(gateway, "zoë/b\r\n".encode()) == b"yes\r\n"
        assert upstream.requests[0].startswith(b"GET /ZO%C3%8B%2FB/x HTTP/1.1\r\n")
        assert await self.ask(gateway, b"..\r\n") == b"No such user\r\n"
        assert len(upstream.requests) == 1

    async def test_cache(self) -> None:
        """However a client writes the name, it is one answer in the cache; another name is another."""
        upstream = self.upstream(says(response(b"yes")))
        gateway = self.gateway(f"{upstream.url}/{{station:upper}}.TXT", match=METAR, cache={"ttl": 60})
        for line in (b"kjfk-metar\r\n", b"KJFK-Metar\r\n", b"klax-metar\r\n"):
            assert await self.ask(gateway, line) == b"yes\r\n"
        assert [head.split()[1] for head in upstream.requests] == [b"/KJFK.TXT", b"/KLAX.TXT"]

    async def test_template(self) -> None:
        """A Jinja2 template has its own filter for it, and the placeholder as it is."""
        upstream = self.upstream(says(response(b"{}", "application/json")))
        url = f"{upstream.url}/{{station:upper}}.TXT"
        gateway = self.gateway(url, match=METAR, template="{{ station }} {{ station|upper }}")
        assert await self.ask(gateway, b"kjfk-metar\r\n") == b"kjfk KJFK\r\n"


class CommandTests(CommandCase):
    """In arguments."""

    async def test_argument(self) -> None:
        """A name is an argument in upper case; one that would be an option is still Missing."""
        gateway = self.gateway("printf", "%s|%s", "{user:upper}", "x{user}-{user:upper}")
        assert await self.ask(gateway, b"Zo\xc3\xab\r\n") == "ZOË|xzoë-ZOË\r\n".encode()
        assert await self.ask(gateway, b"-v\r\n") == b"No such user\r\n"
