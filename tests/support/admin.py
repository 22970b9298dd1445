"""A gateway with an ``[admin]`` endpoint, and HTTP requests to it."""

from __future__ import annotations

from attrs import frozen
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol

from fingergw.app.gateway import Gateway
from tests.support.gateway import Client, GatewayCase
from tests.support.waiting import reactor

ADMIN = '[admin]\nendpoint = "tcp:0:interface=127.0.0.1"\n'


@frozen
class Response:
    """What a server answers.

    :param headers: by their names in lower case.
    :param head: all before the body.
    """

    status: int
    headers: dict[str, str]
    body: bytes
    head: str


def parse_response(data: bytes) -> Response:
    """Parse the one response that a server sent on a connection before it closed it."""
    head, _, body = data.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    if headers.get("transfer-encoding") == "chunked" and body:
        left, body = body, b""
        while True:
            size, _, left = left.partition(b"\r\n")
            if int(size, 16) == 0:
                break
            body, left = body + left[: int(size, 16)], left[int(size, 16) + 2 :]
        assert left == b"\r\n"
    return Response(int(status.split()[1]), headers, body, head.decode())


def samples(text: bytes) -> list[Sample]:
    """Parse a page of metrics as Prometheus does."""
    return [sample for family in text_string_to_metric_families(text.decode()) for sample in family.samples]


def value(text: bytes, name: str, **labels: str) -> float:
    """Return the sum of the series that have these labels; there is one at least."""
    found = [each.value for each in samples(text) if each.name == name and labels.items() <= each.labels.items()]
    assert found, f"no {name} {labels}"
    return sum(found)


class AdminCase(GatewayCase):
    """Tests with a gateway that has an ``[admin]`` endpoint."""

    async def connect_to(self, port: int) -> Client:
        """Connect a client to a port on the loopback; disconnect it at the end of the test."""
        client: Client = await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port), Client())
        self.addCleanup(self._disconnect, client)
        return client

    async def request(self, gateway: Gateway, request: bytes) -> Response:
        """Send a request, and return the answer."""
        assert gateway.admin is not None
        assert gateway.admin.port is not None
        client = await self.connect_to(gateway.admin.port.getHost().port)  # type: ignore[attr-defined]
        assert client.transport is not None
        client.transport.write(request)
        return parse_response(await client.closed)

    async def get(self, gateway: Gateway, path: str, method: str = "GET", accept: str = "") -> Response:
        """Ask for a page."""
        return await self.request(
            gateway, f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\n\r\n".encode()
        )

    async def scrape(self, gateway: Gateway) -> bytes:
        """Return the metrics."""
        return (await self.get(gateway, "/metrics")).body
