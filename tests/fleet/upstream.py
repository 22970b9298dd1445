"""A web server on a fleet's controller, that says what a test tells it to, and remembers who asked when."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import attrs

from tests.fleet.anchor import NETWORK
from tests.fleet.companion import Companion, serve
from tests.fleet.hosts import Fleet


@attrs.frozen
class Page:
    """What there is at a path.

    :param delay: how long a request for it takes, in seconds.
    """

    body: str
    status: int = 200
    delay: float = 0.0
    type: str = "text/plain; charset=utf-8"


@attrs.frozen
class Request:
    """A request that came.

    :param path: with its query string.
    :param at: when it came, in seconds since 1970.
    :param host: whose it was: an address.
    :param token: what it had to show, if it had something.
    """

    path: str
    at: float
    host: str
    token: str


class Upstream(Companion):
    """The test's side; ``url`` is where the hosts find it.

    :param fleet: whose controller it is on.
    :param pages: what there is, by path (without a query string); 404 for all others.
    :param port: where it listens; the same for all fleets, so that a deployed configuration holds for each.
    """

    def __init__(self, fleet: Fleet, pages: Mapping[str, Page], port: int = 8000) -> None:
        self.url = f"http://{NETWORK}.1:{port}"
        super().__init__(fleet, "tests.fleet.upstream", port)
        self.set(pages)

    def set(self, pages: Mapping[str, Page]) -> None:
        """Add pages, or put them in others' places."""
        self.request({path: attrs.asdict(page) for path, page in pages.items()})

    def requests(self) -> list[Request]:
        """Return the requests that came so far, in their order."""
        return [Request(**each) for each in self.request({})]


class _Server(ThreadingHTTPServer):
    """The process's side."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int) -> None:
        self.pages: dict[str, Page] = {}
        self.requests: list[dict[str, object]] = []
        super().__init__((f"{NETWORK}.1", port), _Handler)

    def answer(self, pages: dict[str, Any]) -> object:
        self.pages.update({path: Page(**page) for path, page in pages.items()})
        return self.requests


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        request = {"path": self.path, "at": time.time(), "host": self.client_address[0], "token": token}
        self.server.requests.append(request)
        page = self.server.pages.get(self.path.partition("?")[0], Page("not found\n", 404))
        time.sleep(page.delay)
        body = page.body.encode()
        self.send_response(page.status)
        self.send_header("Content-Type", page.type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


if __name__ == "__main__":
    server = _Server(json.loads(sys.argv[1]))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    serve(server.answer)
