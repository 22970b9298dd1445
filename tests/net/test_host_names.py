"""Names of hosts as containers and search lists have them, in each place where a configuration names a host."""

from __future__ import annotations

from functools import partial
from socket import AF_INET, SOCK_STREAM, gaierror
from typing import Any

import pytest

from fingergw.app import environment
from fingergw.net.resolving import Resolver
from tests.support.admin import ADMIN, AdminCase
from tests.support.certificates import AUTHORITY, issue, names
from tests.support.finger_server import FingerServer, hangs, says
from tests.support.http_server import response
from tests.support.waiting import until

HOSTS = ("my_app", "_my.app_1.example", "final.example.", "xn--bcher-kva.example", "UPPER")
LISTENER = '[[listeners]]\nendpoint = "tcp:0:interface=127.0.0.1"\n[log]\naccess = "off"\n'
ROUTE = '[[routes]]\npattern = "*"\nbackends = ["x"]\n'


def look_up(host: bytes | str, *_: object) -> list[Any]:
    """Know the hosts of these tests alone, as a resolver does."""
    name = host.decode() if isinstance(host, bytes) else host.encode("idna").decode()
    if name.lower() not in map(str.lower, HOSTS):
        raise gaierror
    return [(AF_INET, SOCK_STREAM, 6, "", ("127.0.0.1", 0))]


@pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")  # what Twisted itself does
class HostNameTests(AdminCase):
    """Hosts that only a resolver knows."""

    def setUp(self) -> None:
        self.patch(environment, "Resolver", partial(Resolver, look_up=look_up))
        self.write("ca.pem", AUTHORITY.pem)

    @staticmethod
    def tls(host: str) -> Any:
        """Return what serves a certificate for a host, which has no final dot there."""
        return issue("x", names(host.removesuffix(".")), issuer=AUTHORITY).context()

    async def answered(self, text: str, name: bytes = b"x") -> None:
        """See that a gateway gets an answer with a configuration."""
        gateway = self.start(LISTENER + text)
        assert await self.ask(gateway, name + b"\r\n") == b"text\r\n", text
        await gateway.stopService()

    async def test_http(self) -> None:
        """The url of an http backend, with and without TLS."""
        for host in HOSTS:
            for scheme, context in (("http", None), ("https", self.tls(host))):
                answer = says(response(b"text", extra="Connection: close\r\n"))
                server = FingerServer(self, answer, context=context)
                url = f"{scheme}://{host}:{server.port}/"
                await self.answered(f'{ROUTE}[backends.x]\ntype = "http"\nurl = "{url}"\nca_file = "ca.pem"\n')
                assert f"Host: {host}:{server.port}\r\n".lower().encode() in b"".join(server.lines).lower()

    async def test_finger(self) -> None:
        """The host of a finger backend."""
        for host in HOSTS:
            port = FingerServer(self, says(b"text\r\n")).port
            await self.answered(f'{ROUTE}[backends.x]\ntype = "finger"\nhost = "{host}"\nport = {port}\n')

    async def test_forwarding(self) -> None:
        """A host that queries are forwarded to, as clients write it and in its endpoint, with and without TLS."""
        for host in HOSTS:
            for kind, context in (("tcp", None), ("tls", self.tls(host))):
                port = FingerServer(self, says(b"text\r\n"), context=context).port
                roots = ":trustRoots=." if context else ""
                allow = f"[forwarding.allow]\n'{host}' = '{kind}:{host}:{port}{roots}'\n"
                await self.answered(allow, b"x@" + host.encode())

    async def test_other_letters(self) -> None:
        """An endpoint's host may have other letters than ASCII; a certificate has it in its xn-- form."""
        for kind, context in (("tcp", None), ("tls", self.tls("xn--bcher-kva.example"))):
            port = FingerServer(self, says(b"text\r\n"), context=context).port
            roots = ":trustRoots=." if context else ""
            await self.answered(f"[forwarding.allow]\nbooks = '{kind}:bücher.example:{port}{roots}'\n", b"x@books")

    async def test_redis(self) -> None:
        """The address of a Redis store, with and without TLS."""
        self.write("password", "sesame").chmod(0o600)
        for host in HOSTS:
            for scheme, context in (("redis", None), ("rediss", self.tls(host))):
                server = FingerServer(self, hangs(), context=context)
                gateway = self.start(
                    f'{LISTENER}[cache]\nstore = "{scheme}://{host}:{server.port}/0"\npassword_file = "password"\n'
                    + ('ca_file = "ca.pem"\n' if context else "")
                )
                await until(lambda server=server: b"sesame" in b"".join(server.lines), host)  # type: ignore[misc]
                await gateway.stopService()

    async def test_admin(self) -> None:
        """A name that the admin pages are served under."""
        for host in HOSTS:
            gateway = self.start(LISTENER + ADMIN + f'hosts = ["{host}"]\n')
            request = f"GET /healthz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
            assert (await self.request(gateway, request)).status == 200, host
            await gateway.stopService()

    async def test_empty_port(self) -> None:
        """An empty port in a url is the default one (RFC 3986 §3.2.3), also in a redirect's."""
        asked: list[tuple[str, int]] = []
        endpoint = Resolver.endpoint

        def noted(resolver: Resolver, host: str, port: int, **rest: Any) -> Any:
            asked.append((host, port))
            return endpoint(resolver, host, server.port, **rest)

        self.patch(Resolver, "endpoint", noted)
        redirect = response(b"", status="302 Found", extra="Location: http://my_app:/final\r\nConnection: close\r\n")
        final = response(b"text", extra="Connection: close\r\n")
        server = FingerServer(self, lambda served: served.answer(final if b"/final" in served.received else redirect))
        await self.answered(f'{ROUTE}[backends.x]\ntype = "http"\nurl = "http://my_app:/begin"\n')
        assert asked == [("my_app", 80)] * 2
        assert [line.split(b"\r\n")[0] for line in server.lines] == [b"GET /begin HTTP/1.1", b"GET /final HTTP/1.1"]
        assert all(b"Host: my_app\r\n" in line for line in server.lines)
