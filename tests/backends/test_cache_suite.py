"""The cases of a public test suite of HTTP caches that can be said of a cache whose clients are finger's.

``cache_tests/suite.json`` is taken from https://github.com/http-tests/cache-tests, whose licence is beside it: of each
case the server's answers, and whether the client's next request is answered by the cache. A client here sends the same
request each time, and gets a text without header fields. So cases are left out that are about other methods, or about
the client's own Cache-Control, conditions, ranges and varying fields; that keep an error or a redirect, which is a
failure here; and that are for browsers or CDNs.
"""

from __future__ import annotations

import json
from email.utils import formatdate
from fnmatch import fnmatch
from http import HTTPStatus
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

from attrs import define

from fingergw.app.parts import open_backend
from fingergw.net.http import client
from tests.support.http_server import INTERNAL_ERROR, HttpCase, RawServer

CASES: list[dict[str, Any]] = json.loads(Path(__file__).with_name("cache_tests").joinpath("suite.json").read_text())
BEGIN = 1_790_000_000.0  # in 2026
PAUSE_SECONDS = 3.0
HEADERS = {"Foo": "1", "Bar": "abc", "Baz": "789", "Abc": "123"}  # the fields that a Vary of the suite names
VALIDATORS = {"etag_validated": ("ETag", "If-None-Match"), "lm_validated": ("Last-Modified", "If-Modified-Since")}
# Cases that are answered otherwise than the suite expects, and why. Each is "optimal" or a question, none "required".
OTHERWISE = {
    "304-*-ETag": "a 304 with another ETag is about another response (RFC 9111 §4.3.4)",
    "age-parse-*parameter": "an Age that is no number is ignored (§5.1)",
    "freshness-max-age-100a": "a max-age that is no number is stale (§4.2.1)",
    "freshness-max-age-a100": "likewise",
    "freshness-max-age-decimal-*": "likewise",
    "freshness-max-age-space-*": "blanks around the = are overlooked",
    "freshness-max-age-two-*": "the smallest of several counts (§4.2.1)",
    "headers-omit-*-no-cache*": "no-cache is obeyed for the whole, whatever fields it names",
    "heuristic-???-cached": "where the server says nothing, the ttl in the configuration counts, which is 0 here",
    "heuristic-delta-*": "likewise",
    "other-heuristic-*": "likewise",
    "pragma-*-heuristic": "likewise",
    "stale-503": "where the server says nothing, the stale in the configuration counts, which is 0 here",
    "stale-close": "likewise",
    "status-200-must-understand": "no-store is obeyed, whatever stands beside it",
}


@define
class Clock:
    """The time of day, and since the start, as all see it."""

    now: float = BEGIN

    def read(self) -> float:
        """Return it."""
        return self.now


@define
class Run:
    """One case: the client's requests one after the other, and the server's answers, each with its number in it."""

    case: dict[str, Any]
    clock: Clock
    number: int = 0
    asked: int = 0
    said: str = ""  # the last status

    @property
    def request(self) -> dict[str, Any]:
        """What the case has for the client's request that is under way."""
        found: dict[str, Any] = self.case["requests"][self.number]
        return found

    def serve(self, server: RawServer, head: bytes) -> None:
        """Answer a request as the suite's own server does."""
        self.asked += 1
        config = self.request
        self.clock.now += config.get("response_pause", 0)
        if config.get("disconnect"):
            server.close()
            return
        for status, *fields in config.get("interim_responses", ()):
            lines = [f"{name}: {value}\r\n" for name, value in (fields[0] if fields else ())]
            server.send(f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n{''.join(lines)}\r\n".encode())
        status, body = config.get("response_status", "200 OK"), f"{self.number}"
        if (validator := VALIDATORS.get(config.get("expected_type", ""))) is not None:
            name, condition = validator
            before = dict(self.case["requests"][self.number - 1]["response_headers"])
            is_same = f"{condition}: {before[name]}" in head.decode().split("\r\n")
            status, body = "304 Not Modified" if is_same else "999 304 Not Generated", ""
        self.said = status[:3]
        lines = [f"{name}: {self.value(name, value)}\r\n" for name, value in config.get("response_headers", ())]
        if self.said in ("204", "304"):
            body = ""
        else:
            lines.append(f"Content-Type: text/plain\r\nContent-Length: {len(body)}\r\n")
        server.send(f"HTTP/1.1 {status}\r\n{''.join(lines)}\r\n{body}".encode())

    def value(self, name: str, value: object) -> object:
        """Return a field's value; a number of seconds from now in the place of a date."""
        if not isinstance(value, int) or name.lower() not in ("date", "expires", "last-modified"):
            return value
        return formatdate(self.clock.now + value, usegmt=True)


class SuiteTests(HttpCase):
    """Each case has a name of its own, on one gateway."""

    timeout = 60

    async def test_all(self) -> None:
        """All hold, but for those that are named above with the reason."""
        clock, runs = Clock(), dict[str, Run]()
        self.patch(client, "time", SimpleNamespace(time=clock.read))
        self.patch(open_backend, "time", SimpleNamespace(monotonic=clock.read))

        def script(server: RawServer, head: bytes) -> None:
            runs[unquote(head.split(b" ")[1].decode()).strip("/").partition("?")[0]].serve(server, head)

        upstream = self.upstream(script)
        cache = {"ttl": 0, "stale": 0, "negative_ttl": 0}
        gateway = self.gateway(upstream.url + "/{user}", headers=HEADERS, cache=cache)
        failed = dict[str, str]()
        for case in CASES:
            run = runs[case["id"].lower()] = Run(case, clock)
            for run.number, request in enumerate(case["requests"]):
                before = run.asked
                name = "?".join([case["id"], *([request["query_arg"]] if "query_arg" in request else ())])
                answer = await self.ask(gateway, name.encode() + b"\r\n")
                found = came_from(run, answer, is_asked=run.asked > before)
                if found != request.get("expected_type", found):
                    failed[case["id"]] = f"{case['name']}: {found} at request {run.number + 1}"
                clock.now += PAUSE_SECONDS if request.get("pause_after") else 0
        otherwise = [case for case in CASES if any(fnmatch(case["id"], each) for each in OTHERWISE)]
        assert failed.keys() == {case["id"] for case in otherwise}, failed
        assert "required" not in {case["kind"] for case in otherwise}


def came_from(run: Run, answer: bytes, *, is_asked: bool) -> str:
    """Return where an answer came from, in the suite's words.

    :param is_asked: whether the server was asked meanwhile, perhaps in the background.
    """
    if answer == INTERNAL_ERROR:
        return "failed" if run.request.get("expected_type") == "failed" else "not_cached"
    if not answer[:1].isdigit():  # Missing
        return "not_cached" if is_asked else "cached"
    if int(answer) == run.number:
        return "not_cached"
    if not is_asked or run.said != "304":
        return "cached"
    validated: str = run.request.get("expected_type", "validated")
    return validated
