"""Files that a gateway's answers come from, or that it needs to ask, changed while it runs: no reload is needed."""

from __future__ import annotations

import time

import pytest
import trustme
from twisted.internet.task import deferLater
from twisted.logger import formatEvent

import fingergw
from fingergw.app.gateway import Gateway
from fingergw.core.errors import ConfigError
from fingergw.core.outcome import Answered, Failed
from fingergw.core.query import Query
from tests.support.data_files import STATIC, AtOnce
from tests.support.gateway import GatewayCase, caches
from tests.support.http_server import HttpCase, Upstream, response, says
from tests.support.waiting import DEADLINE_SECONDS, reactor


class StaticTests(AtOnce):
    """A map in a file of its own."""

    async def test_changed(self) -> None:
        """A name that is added, changed or removed is so from the next query on."""
        self.write("people.toml", 'moshez = "Happy"\nnail = "Sharp"')
        gateway = self.start(STATIC)
        assert await self.ask(gateway, b"moshez\r\n") == b"Happy\r\n"
        self.write("people.toml", 'moshez = "Away"\nnew = { name = "New" }')
        assert await self.ask(gateway, b"moshez\r\n") == b"Away\r\n"
        assert await self.ask(gateway, b"nail\r\n") == b"No such user\r\n"
        assert b"Name: New" in await self.ask(gateway, b"new\r\n")

    async def test_mistakes(self) -> None:
        """With mistakes in it the old map goes on; all are reported as ``check`` prints them, once."""
        path = self.write("people.toml", 'moshez = "Happy"')
        gateway = self.start(STATIC)
        self.write("people.toml", 'moshez = "Away"\na = 1\nb = { naem = "B" }\n')
        for _ in range(3):
            assert await self.ask(gateway, b"moshez\r\n") == b"Happy\r\n"
        with self.assertRaises(ConfigError) as caught:
            fingergw.make_service(fingergw.load(path.with_name("fingergw.toml")), reactor)
        printed = [line.partition("backends.people.file: ")[2] for line in str(caught.exception).split("\n")]
        assert len(printed) == 2
        assert self.lines == [
            "backends.people.file: the previous content of its file stays in use: " + "; ".join(printed)
        ]

    async def test_same_name_twice(self) -> None:
        """A name that is there twice, but for case, is a mistake like any other."""
        self.write("people.toml", 'moshez = "Happy"')
        gateway = self.start(STATIC)
        self.write("people.toml", 'moshez = "Away"\nMosheZ = "Away"')
        assert await self.ask(gateway, b"moshez\r\n") == b"Happy\r\n"
        (line,) = self.lines
        assert line.endswith(
            "people.toml:2: MosheZ: this name is defined twice, differing only by case; remove one of the two"
        )

    async def test_kept_answers(self) -> None:
        """What the cache keeps is told apart by what is in the file when the gateway starts."""
        keys = []
        for text in ("One", "Two", "One"):
            self.write("people.toml", f'moshez = "{text}"')
            gateway = fingergw.make_service(
                fingergw.load(self.write("fingergw.toml", STATIC + "[backends.people.cache]\nttl = 5\n")), reactor
            )
            assert isinstance(gateway, Gateway)
            (cached,) = caches(gateway)
            keys.append(cached.key(Query("moshez")))
        assert keys[0] == keys[2] != keys[1]

    async def test_kept_answers_of_a_changed_file(self) -> None:
        """What the cache keeps is what is in the file now: with another file nothing that was said before is served."""
        self.write("people.toml", 'moshez = "Happy"')
        gateway = self.start(STATIC + "[backends.people.cache]\nttl = 100\nnegative_ttl = 100\n")
        counts = gateway.parts.meters["people"].cache
        for text, moshez, nail in (
            ('moshez = "Happy"', b"Happy\r\n", b"No such user\r\n"),
            ('moshez = "Away"\nnail = "Sharp"', b"Away\r\n", b"Sharp\r\n"),
            ('moshez = "Happy"', b"Happy\r\n", b"No such user\r\n"),
        ):
            self.write("people.toml", text)
            for _ in range(2):
                assert await self.ask(gateway, b"moshez\r\n") == moshez
                assert await self.ask(gateway, b"nail\r\n") == nail
        assert counts == {"absent": 4, "fresh": 8}


class PromptnessTests(GatewayCase):
    """How soon a change is seen, by the clock on the wall."""

    async def test_static_file(self) -> None:
        """A file that is replaced is in use a second later or two, and half a file never is."""
        path = self.write("people.toml", 'moshez = "old"')
        gateway = self.start(STATIC)
        path.write_text("")  # as a program has it that truncates first
        answers = [await self.ask(gateway, b"moshez\r\n")]
        path.write_text('moshez = "new"')
        ends = time.monotonic() + DEADLINE_SECONDS
        while answers[-1] != b"new\r\n" and time.monotonic() < ends:
            answers.append(await self.ask(gateway, b"moshez\r\n"))
            await deferLater(reactor, 0.05)
        assert set(answers) == {b"old\r\n", b"new\r\n"}


class HttpTests(AtOnce, HttpCase):
    """What an http backend reads from files."""

    async def _authorization(self, gateway: Gateway, upstream: Upstream) -> bytes:
        assert await self.ask(gateway, b"x\r\n") == b"fine\r\n"
        (line,) = [line for line in upstream.requests[-1].split(b"\r\n") if line.startswith(b"Authorization:")]
        return line

    async def test_token(self) -> None:
        """A rotated token is used from the next request on; one that others may read is not, and the old one is."""
        path = self.write("a.token", "s3cret-first")
        path.chmod(0o600)
        upstream = self.upstream(says(response(b"fine")))
        gateway = self.gateway(upstream.url, bearer_token_file="a.token")
        assert await self._authorization(gateway, upstream) == b"Authorization: Bearer s3cret-first"
        self.write("a.token", "s3cret-second\n")
        assert await self._authorization(gateway, upstream) == b"Authorization: Bearer s3cret-second"
        assert self.lines == []
        path.chmod(0o644)
        assert await self._authorization(gateway, upstream) == b"Authorization: Bearer s3cret-second"
        self.write("a.token", "s3cret-third")
        assert await self._authorization(gateway, upstream) == b"Authorization: Bearer s3cret-second"
        prefix = "backends.web.bearer_token_file: the previous content of its file stays in use: "
        assert self.lines == [f"{prefix}others can read it; run: chmod o= {path}"] * 2
        path.chmod(0o600)
        assert await self._authorization(gateway, upstream) == b"Authorization: Bearer s3cret-third"
        self.write("a.token", "two words\nand more")
        assert await self._authorization(gateway, upstream) == b"Authorization: Bearer s3cret-third"
        assert self.lines[2:] == [f"{prefix}{path}:2: expected one token in it, in one line of printable ASCII"]
        assert not any("s3cret" in formatEvent(event) for event in self.events)

    # what Twisted itself does with pyOpenSSL
    @pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")
    @pytest.mark.filterwarnings("ignore:X509[.]get:DeprecationWarning")
    async def test_authorities(self) -> None:
        """Authorities that are changed hold for the next connection; with mistakes in them the old ones do."""
        old, new = trustme.CA(), trustme.CA()
        upstream = self.upstream(says(response(b"fine"), close=True), new)
        self.write("ca.pem", old.cert_pem.bytes().decode())
        gateway = self.gateway(upstream.url.replace("http:", "https:"), ca_file="ca.pem")
        assert isinstance(await self.outcome(gateway), Failed)
        self.write("ca.pem", new.cert_pem.bytes().decode())
        assert await self.outcome(gateway) == Answered("fine")
        self.write("ca.pem", "no PEM")
        assert await self.outcome(gateway) == Answered("fine")
        assert len(self.lines) == 1
