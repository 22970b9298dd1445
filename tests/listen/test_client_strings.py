"""Clients' endpoint strings: their arguments, and what is wrong with them."""

from __future__ import annotations

import pytest
from twisted.internet.ssl import Certificate, trustRootFromCertificates

from fingergw.core.errors import ListenError
from fingergw.listen.client_strings import parse_client
from fingergw.net.exchange import NoAnswer, exchange
from fingergw.net.resolving import Resolver
from tests.support.certificates import ACCEPTED, OTHER_AUTHORITY, TRUSTED, issue
from tests.support.finger_server import FingerServer, Served, says
from tests.support.gateway import GatewayCase
from tests.support.waiting import reactor

HOST, SERVED = ACCEPTED["a name"]
CLIENT = issue("gateway", issuer=issue("between", issuer=OTHER_AUTHORITY, is_authority=True))


def chain_pem() -> str:
    """Return the client's certificate, and what leads to its authority."""
    return CLIENT.pem + "".join(each.pem for each in CLIENT.chain)


@pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")  # what Twisted itself does
class TlsArgumentTests(GatewayCase):
    """The arguments that Twisted documents for a client's ``tls:``."""

    def setUp(self) -> None:
        self.folder = self.write("trusted", "").with_name("authorities")
        self.folder.mkdir()
        (self.folder / "a.pem").write_text(OTHER_AUTHORITY.pem)
        (self.folder / "b.PEM").write_text(TRUSTED)
        (self.folder / "README").write_text("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n")

    async def asked(self, description: str) -> bytes:
        endpoint, _ = parse_client(description, self.folder.parent, Resolver(reactor), 30)
        return await exchange(endpoint, b"x", max_bytes=99, may_send=lambda _: True)

    def peers(self) -> tuple[FingerServer, list[str]]:
        """Return a server, and where its clients come from."""
        seen: list[str] = []

        def script(served: Served) -> None:
            seen.append(served.wire.getPeer().host)
            served.answer(b"hi")

        return FingerServer(self, script, context=SERVED.context()), seen

    async def test_trust_roots(self) -> None:
        """A folder of authorities, relative to the file, takes the place of the system's."""
        server, _ = self.peers()
        for description in (
            f"tls:{HOST}:{server.port}:trustRoots=authorities",
            f"TLS:host={HOST}:port={server.port}:trustRoots={self.folder}:timeout=5",
            f"tls:{HOST}:{server.port}:5:127.0.0.1:trustRoots=authorities",
        ):
            assert await self.asked(description) == b"hi", description
        for description in (f"tls:{HOST}:{server.port}", rf"t\lS:{HOST}:{server.port}"):
            with pytest.raises(NoAnswer, match="was issued by an authority that is not trusted"):
                await self.asked(description)

    async def test_bind_address(self) -> None:
        """The connection comes from the address that is named."""
        server, seen = self.peers()
        assert await self.asked(f"tls:{HOST}:{server.port}:bindAddress=127.0.0.3:trustRoots=authorities") == b"hi"
        assert seen == ["127.0.0.3"]

    async def test_endpoint(self) -> None:
        """Another endpoint may lead there, and the host is what the certificate must be for."""
        server, seen = self.peers()
        below = rf"tcp\:127.0.0.1\:{server.port}\:bindAddress\=127.0.0.4"
        assert await self.asked(f"tls:{HOST}:79:trustRoots=authorities:endpoint={below}") == b"hi"
        assert seen == ["127.0.0.4"]
        with pytest.raises(NoAnswer, match=r"the certificate is for localhost, not for elsewhere\.example"):
            await self.asked(f"tls:elsewhere.example:79:trustRoots=authorities:endpoint={below}")
        with pytest.raises(ListenError, match="ssl: does not verify the server"):
            await self.asked(rf"tls:{HOST}:79:endpoint=ssl\:{HOST}\:79")

    async def test_certificate(self) -> None:
        """A certificate of the gateway's own is shown with its chain, the key in a file of its own or not."""
        self.write("own.pem", CLIENT.key_pem + chain_pem())
        self.write("c.pem", chain_pem())
        self.write("k.pem", CLIENT.key_pem)
        roots = trustRootFromCertificates([Certificate.loadPEM(OTHER_AUTHORITY.pem.encode())])
        server = FingerServer(self, says(b"hi"), context=SERVED.context(trustRoot=roots))
        start = f"tls:{HOST}:{server.port}:trustRoots=authorities"
        for more in (":certificate=own.pem", ":certificate=c.pem:privateKey=k.pem"):
            assert await self.asked(start + more) == b"hi"
        with pytest.raises(NoAnswer, match="wants a certificate of this side"):
            await self.asked(start)
