"""Queries that a gateway forwards, from its listener to another host and back (RFC 1288 §2.4, §3.2.1)."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.interfaces import IAddress
from twisted.logger import capturedLogs

import fingergw
from fingergw.app.gateway import Gateway
from fingergw.core.errors import ConfigError
from fingergw.listen import reachability
from fingergw.listen.reachability import leads_to
from tests.support.finger_server import FingerServer, Script, breaks_off, hangs, says
from tests.support.gateway import Client, GatewayCase
from tests.support.sockets import free_port
from tests.support.waiting import reactor

DENIED = b"Finger forwarding service denied\r\n"
BROKEN = b"Internal error in server\r\n"
OWN = "expected a plain host name or address, and no loopback"
# what the system takes for this machine
HERE = ["0", "0.0", "00", "0x0", "0.0.0.0", "127.1", "127.0.1", "0177.0.0.1", "0x7f.1", "0x7f000001", "2130706433"]
HERE += ["017700000001", "127.255.0.9", "localhost"]
HERE_6 = ["::1", "::", "0:0:0:0:0:0:0:0", "::ffff:127.0.0.1", "::ffff:0.0.0.0", "::ffff:7f00:9"]
LISTENER = '[[listeners]]\nname = "front"\nendpoint = "tcp:0:interface=127.0.0.1"\n'


class ForwardingCase(GatewayCase):
    def gateway(self, script: Script, settings: str = "") -> Gateway:
        """Start a gateway that forwards to a scripted server as ``old``, and keep that as ``server``."""
        self.server = FingerServer(self, script)
        return self.start(
            LISTENER + f'[forwarding]\nallow = {{ "Old.example" = "tcp:127.0.0.1:{self.server.port}" }}\n' + settings
        )


class ForwardedTests(ForwardingCase):
    async def test_to_the_last_host(self) -> None:
        """A query goes to its last host, without that host in it, with /W, and with its name in lower case."""
        gateway = self.gateway(says(b"hi\n"))
        for query in (b"a@old.example", b"a@OLD.Example.", b"/W a@h1@old.example", b"@old.example", b"/W @old.example"):
            assert await self.ask(gateway, query + b"\r\n") == b"hi\r\n"
        assert self.server.lines == [b"a\r\n", b"a\r\n", b"/W a@h1\r\n", b"\r\n", b"/W\r\n"]

    async def test_output_is_cleaned(self) -> None:
        """The other server's output is cleaned: no terminal sequences, invalid UTF-8 replaced, lines ended by CRLF."""
        gateway = self.gateway(says(b"\x1b[2Jhi\x07\n\xff\x9b \xe2\x80\xaehidden\n"))
        assert await self.ask(gateway, b"a@old.example\r\n") == "hi\r\n\ufffd\ufffd hidden\r\n".encode()

    async def test_unix_path_is_relative_to_the_file(self) -> None:
        """The path of a unix: endpoint is relative to the configuration's folder."""
        folder = self.write("unused", "").parent
        FingerServer(self, says(b"hi\n"), path=str(folder / "f.sock"))
        gateway = self.start(LISTENER + '[forwarding]\nallow = { "h" = "unix:f.sock" }\n')
        assert await self.ask(gateway, b"a@h\r\n") == b"hi\r\n"

    async def test_too_large(self) -> None:
        """An answer of more than max_bytes is a failure, and so is half an answer."""
        gateway = self.gateway(says(b"y" * 2000), "max_bytes = 1000\n")
        with capturedLogs():
            assert await self.ask(gateway, b"a@old.example\r\n") == BROKEN
            self.server.script = breaks_off(b"half")
            assert await self.ask(gateway, b"a@old.example\r\n") == BROKEN

    async def test_too_slow(self) -> None:
        """A server that does not answer within the timeout has failed, and the connection to it is closed."""
        gateway = self.gateway(hangs(b"begin"), "timeout = 0.2\n")
        with capturedLogs() as events:
            assert await self.ask(gateway, b"a@old.example\r\n") == BROKEN
        (event,) = [event for event in events if "why" in event]
        assert (event["backend"], event["route"], event["why"]) == (
            "old.example",
            "forwarding",
            "not done within 0.2 s",
        )

    async def test_logged(self) -> None:
        """The log has the query as it was asked, the host that it went to, and the outcome."""
        log = self.write("log", "")
        gateway = self.gateway(says(b"hi\n"), f'[log]\naccess = "{log}"\nformat = "json"\n')
        await self.ask(gateway, b"/W a@old.example\r\n")
        await self.ask(gateway, b"a@elsewhere\r\n")
        await gateway.stopService()
        entries = [json.loads(line) for line in log.read_text().splitlines()]
        assert [(entry["query"], entry["route"], entry["backend"], entry["outcome"]) for entry in entries] == [
            ("/W a@old.example", "forwarding", "old.example", "answered"),
            ("a@elsewhere", "", "", "forward_denied"),
        ]


class LocalNamesTests(ForwardingCase):
    """Queries that name the gateway's own host, as some clients send them."""

    async def test_on_the_wire(self) -> None:
        """user@own-name asks for the user, @own-name for the index; the access log has the line as it came."""
        log = self.write("access.log", "")
        gateway = self.gateway(
            says(b"hi\n"),
            'local_names = ["own.example", "127.0.0.1"]\nlisteners = ["other"]\n'
            '[[listeners]]\nname = "other"\nendpoint = "tcp:0:interface=127.0.0.1"\n'
            '[[routes]]\nuser = "ada"\nbackends = ["ada"]\n[[routes]]\nindex = true\nbackends = ["index"]\n'
            '[backends]\nada = { type = "static", text = "Ada" }\nindex = { type = "static", text = "Index" }\n'
            f'[log]\naccess = "{log}"\nformat = "json"\n',
        )
        asked = [
            (b"ada@own.example", b"Ada\r\n"),
            (b"/W Ada@Own.Example.", b"Ada\r\n"),
            (b"ada@127.0.0.1", b"Ada\r\n"),
            (b"ada@own.example@own.example", b"Ada\r\n"),
            (b"@own.example", b"Index\r\n"),
            (b"bob@own.example", b"No such user\r\n"),
            (b"ada@old.example@own.example", DENIED),  # as this listener forwards nothing
        ]
        for line, answer in asked:
            assert await self.ask(gateway, line + b"\r\n") == answer
        assert await self.ask(gateway, b"ada@old.example@own.example\r\n", 1) == b"hi\r\n"
        assert await self.ask(gateway, b"ada@own.example@old.example\r\n", 1) == DENIED  # it would come back
        assert self.server.lines == [b"ada\r\n"]
        await gateway.stopService()
        logged = [json.loads(line) for line in log.read_text().splitlines()]
        assert [entry["query"].encode() for entry in logged[: len(asked)]] == [line for line, _ in asked]
        assert [entry["route"] for entry in logged[:6]] == ["ada"] * 4 + ["index", ""]


class RefusedTests(ForwardingCase):
    async def test_nobody_else(self) -> None:
        """Other hosts, too many hosts, and this gateway's names and addresses are denied; nothing is sent."""
        gateway = self.gateway(says(b"hi\n"), "max_hops = 2\n")
        chains = ["elsewhere", "old.example@elsewhere", "old.example.evil", "127.0.0.1", "a@b@old.example"]
        chains += [f"{own}@old.example" for own in ("front", "FRONT.", socket.gethostname(), "127.0.0.1", "localhost")]
        for chain in chains:
            assert await self.ask(gateway, f"a@{chain}\r\n".encode()) == DENIED
        assert self.server.connections == []

    async def test_for_some(self) -> None:
        """Only the named listeners forward, and only for the named clients; all others are denied."""
        other = LISTENER.replace("front", "other").replace("127.0.0.1", "127.0.0.2")
        for key, value in (("listeners", "front"), ("clients", "127.0.0.1")):
            gateway = self.gateway(says(b"hi\n"), f'{key} = ["{value}"]\n' + other)
            assert await self.ask(gateway, b"a@old.example\r\n") == b"hi\r\n"
            port = gateway.listeners[1].port
            assert port is not None
            address: Any = port.getHost()
            there = TCP4ClientEndpoint(reactor, address.host, address.port, bindAddress=(address.host, 0))
            client: Client = await connectProtocol(there, Client())
            client.transport.write(b"a@old.example\r\n")  # type: ignore[union-attr]
            assert await client.closed == DENIED

    async def test_off_by_default(self) -> None:
        """Without a host in allow nothing is forwarded."""
        gateway = self.start(LISTENER)
        assert await self.ask(gateway, b"a@localhost\r\n") == DENIED

    async def _round(self, settings: str, query: bytes) -> None:
        port = free_port()
        gateway = self.start(LISTENER.replace("tcp:0", f"tcp:{port}") + settings.replace("PORT", str(port)))
        with capturedLogs() as events:
            assert await self.ask(gateway, query) == BROKEN
        (event,) = [event for event in events if "why" in event]
        assert event["why"] == "its address leads back to this gateway, which would ask itself; correct it"
        ((_, outcome),) = gateway.listeners[0].connections.meter.outcomes
        assert outcome == "internal_error"

    async def test_leads_back(self) -> None:
        """An allowed host, or a finger backend, that turns out to be the gateway itself is not asked."""
        await self._round('[forwarding]\nallow = { "h" = "tcp:127.0.0.1:PORT" }\n', b"a@h\r\n")
        backend = '[[routes]]\nuser = "a"\nbackends = ["b"]\n[backends.b]\ntype = "finger"\nhost = "localhost"\n'
        await self._round(backend + "port = PORT\n", b"a\r\n")

    async def test_leads_back_by_any_name_of_this_machine(self) -> None:
        """Nor is one by any other spelling that the system resolves to this machine."""
        port, port_6 = free_port(), free_port(socket.AF_INET6)
        named = {f"four{place}": (host, port) for place, host in enumerate(HERE)}
        named |= {f"six{place}": (host, port_6) for place, host in enumerate((*HERE, *HERE_6))}
        gateway = self.start(
            '[process]\nuser = "root"\n'
            f'[[listeners]]\nendpoint = "tcp:{port}"\n[[listeners]]\nendpoint = "tcp6:{port_6}"\n'
            + "".join(
                f'[[routes]]\nuser = "{name}"\nbackends = ["{name}"]\n'
                f'[backends.{name}]\ntype = "finger"\nhost = "{host}"\nport = {port}\n'
                for name, (host, port) in named.items()
            )
        )
        for name, (host, _) in named.items():
            with capturedLogs() as events:
                assert await self.ask(gateway, name.encode() + b"\r\n") == BROKEN, host
            (event,) = [event for event in events if "why" in event]
            assert event["why"] == "its address leads back to this gateway, which would ask itself; correct it", host
        assert sum(sum(each.connections.meter.outcomes.values()) for each in gateway.listeners) == len(named)

    async def test_another_at_an_address_of_its_own(self) -> None:
        """A server on the same port of another address of this machine is asked."""
        port = free_port()
        server = FingerServer(self, says(b"hi\n"), port=port)
        self.start(
            f'[[listeners]]\nendpoint = "tcp:{port}:interface=127.0.0.2"\n'
            f'[[routes]]\nuser = "a"\nbackends = ["b"]\n[backends.b]\ntype = "finger"\nhost = "0"\nport = {port}\n'
        )
        there = TCP4ClientEndpoint(reactor, "127.0.0.2", port)
        client: Client = await connectProtocol(there, Client())
        client.transport.write(b"a\r\n")  # type: ignore[union-attr]
        assert await client.closed == b"hi\r\n"
        assert server.lines == [b"a\r\n"]


class BackendTests(GatewayCase):
    async def test_finger_backend(self) -> None:
        """A route may go to another finger server, cached or not, with a fallback."""
        server = FingerServer(self, says(b"hi\n"))
        gateway = self.start(
            LISTENER + '[[routes]]\nusers = ["a", "b"]\nbackends = ["other", "last"]\n'
            '[[routes]]\nindex = true\nbackends = ["other"]\n'
            f'[backends.other]\ntype = "finger"\nhost = "127.0.0.1"\nport = {server.port}\ncache = {{ ttl = 60 }}\n'
            '[backends.last]\ntype = "static"\ntext = "gone"\n'
        )
        for query in (b"a\r\n", b"A\r\n", b"/W a\r\n", b"\r\n"):
            assert await self.ask(gateway, query) == b"hi\r\n"
        assert server.lines == [b"a\r\n", b"/W a\r\n", b"\r\n"]
        server.script = breaks_off()
        with capturedLogs():
            assert await self.ask(gateway, b"b\r\n") == b"gone\r\n"


@pytest.mark.parametrize(
    ("allow", "message"),
    [
        ('"h" = "ssl:h:79"', "ssl: does not verify the server; write tls:HOST:PORT in its place"),
        ('"127.0.0.1" = "tcp:h:79"', OWN),
        ('"LOCALHOST" = "tcp:h:79"', OWN),
        (
            '"h" = "tcp:h:79", "H." = "tcp:h:79"',
            "this host is defined twice, differing only by case; remove one of the two",
        ),
    ],
)
def test_mistakes(allow: str, message: str, tmp_path: Path) -> None:
    """An invalid client endpoint string, and a host that is given twice, are mistakes."""
    file = tmp_path / "fingergw.toml"
    file.write_text(LISTENER + f"[forwarding]\nallow = {{ {allow} }}\n")
    with pytest.raises(ConfigError) as caught:
        fingergw.make_service(fingergw.load(file), reactor)
    (problem,) = caught.value.problems
    assert problem.partition(": ")[2].partition(": ")[2] == message


def tcp(host: str, port: int = 79) -> IPv4Address | IPv6Address:
    """Return an address."""
    return (IPv6Address if ":" in host else IPv4Address)("TCP", host, port)


@pytest.mark.parametrize(
    ("peer", "own", "bound", "expected"),
    [
        (tcp("127.0.0.1"), tcp("127.0.0.1", 5), tcp("127.0.0.1"), True),
        (tcp("127.0.0.1", 80), tcp("127.0.0.1", 5), tcp("127.0.0.1"), False),
        (tcp("127.0.0.1"), tcp("127.0.0.1", 5), tcp("0.0.0.0"), True),
        (tcp("192.0.2.1"), tcp("192.0.2.1", 5), tcp("0.0.0.0"), True),
        (tcp("192.0.2.1"), tcp("192.0.2.1", 5), tcp("::"), True),
        (tcp("2001:db8::1"), tcp("2001:db8:0::1", 5), tcp("::"), True),
        (tcp("192.0.2.1"), tcp("192.0.2.2", 5), tcp("0.0.0.0"), False),
        (tcp("127.0.1.1"), tcp("127.0.0.1", 5), tcp("0.0.0.0"), True),
        (tcp("127.0.1.1"), tcp("127.0.0.1", 5), tcp("127.0.0.1"), False),
        (tcp("192.0.2.1"), tcp("192.0.2.1", 5), tcp("127.0.0.1"), False),
        (tcp("192.0.2.1"), tcp("192.0.2.2", 5), tcp("192.0.2.1"), True),
        (tcp("::ffff:192.0.2.1"), tcp("192.0.2.1", 5), tcp("192.0.2.1"), True),
        (tcp("0.0.0.0"), tcp("127.0.0.1", 5), tcp("0.0.0.0"), True),
        (tcp("0.0.0.0"), tcp("127.0.0.1", 5), tcp("127.0.0.1"), True),
        (tcp("0.0.0.0"), tcp("127.0.0.1", 5), tcp("192.0.2.1"), False),
        (tcp("0.0.0.0"), tcp("127.0.0.1", 5), tcp("::"), True),
        (tcp("::"), tcp("::1", 5), tcp("::"), True),
        (tcp("::"), tcp("::1", 5), tcp("::1"), True),
        (tcp("::ffff:0.0.0.0"), tcp("::ffff:127.0.0.1", 5), tcp("127.0.0.1"), True),
        (tcp("127.9.9.9"), tcp("127.9.9.9", 5), tcp("::"), True),
        (tcp("2002:7f00:1::"), tcp("2001:db8::1", 5), tcp("0.0.0.0"), True),
        (tcp("64:ff9b::7f00:1"), tcp("2001:db8::1", 5), tcp("::"), True),
        (tcp("64:ff9b::c000:201"), tcp("2001:db8::1", 5), tcp("192.0.2.1"), True),
        (tcp("64:ff9b::c000:202"), tcp("2001:db8::1", 5), tcp("192.0.2.1"), False),
        (tcp("64:ff9b::c000:202"), tcp("2001:db8::1", 5), tcp("::"), False),
        (tcp("fe80::1%lo"), tcp("fe80::1", 5), tcp("::"), True),
        (tcp("fe80::1"), tcp("fe80::1%lo", 5), tcp("::"), True),
        (tcp("fe80::1%lo"), tcp("fe80::2%lo", 5), tcp("fe80::1"), True),
        (tcp("192.0.2.1"), tcp("192.0.2.1", 5), tcp("systemd"), False),
        (UNIXAddress("/run/f"), UNIXAddress(None), UNIXAddress("/run/f"), True),
        (UNIXAddress("/run/g"), UNIXAddress(None), UNIXAddress("/run/f"), False),
        (UNIXAddress("/run/g"), UNIXAddress(None), tcp("127.0.0.1"), False),
        (tcp("127.0.0.1"), tcp("127.0.0.1", 5), UNIXAddress("/run/f"), False),
    ],
)
def test_leads_to(
    peer: IAddress, own: IAddress, bound: IAddress, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection leads to a listener if its other end is an address that this is bound to, on this machine."""
    monkeypatch.setattr(reachability, "can_bind", lambda _: False)  # whatever this machine has
    assert leads_to(peer, own, bound) is expected


def test_leads_to_any_own_address() -> None:
    """A listener on all addresses is also at those that the kernel would not connect from."""
    with socket.socket(type=socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no address beside its loopback")
        own = probe.getsockname()[0]
    assert leads_to(tcp(own), tcp("127.0.0.1", 5), tcp("0.0.0.0"))
    assert leads_to(tcp(f"::ffff:{own}"), tcp("::1", 5), tcp("::"))
    assert leads_to(tcp(f"64:ff9b::{own}"), tcp("::1", 5), tcp("::"))
    assert not leads_to(tcp(own), tcp("127.0.0.1", 5), tcp("127.0.0.1"))


def test_where_anything_can_be_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the kernel binds sockets to foreign addresses, these still do not count as this machine's."""
    monkeypatch.setattr(reachability, "can_bind", lambda _: True)
    assert not leads_to(tcp("192.0.2.1"), tcp("192.0.2.2", 5), tcp("0.0.0.0"))
