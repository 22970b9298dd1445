"""Clients that mean harm, on real sockets, against a gateway in a process of its own."""

from __future__ import annotations

import contextlib
import itertools
import random
import select
import signal
import socket
import ssl
import struct
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address
from pathlib import Path

import pytest
import trustme

from tests.support.certificates import client_hello
from tests.support.sockets import drop, free_port, many, push, receive_all, rest, wait_closed
from tests.support.target import (
    ATTACKER,
    BIG_BYTES,
    BUSY_WIRE,
    DENIED,
    HELLO_WIRE,
    HONEST,
    LATE_SECONDS,
    MIB,
    NOBODY_WIRE,
    SLACK_BYTES,
    Figures,
    Note,
    Target,
    configuration,
    served_all_along,
    target,
)
from tests.support.transports import on_both_transports
from tests.support.waiting import DEADLINE_SECONDS, wait_until

# An honest client has no more time than hostile ones, on a machine that is busy with other tests.
UNHURRIED = "query_timeout = 10\n"


@on_both_transports
class TestSlowClients:
    """Clients that take their time."""

    def test_slow_loris(self, tmp_path: Path, record_property: Note) -> None:
        """Two hundred clients that send a byte now and then are closed on in time, counted from connecting."""
        port = free_port()
        with target(tmp_path, configuration(port), port) as gateway, served_all_along(gateway) as service:
            figures = Figures(gateway, record_property)
            with contextlib.ExitStack() as stack:
                connected: dict[socket.socket, float] = {}
                for _ in range(200):
                    began = time.monotonic()
                    connected[stack.enter_context(gateway.connect())] = began
                taken: dict[socket.socket, float] = {}
                while len(taken) < len(connected):
                    for client, began in connected.items():
                        if client not in taken and not _is_open(client):
                            taken[client] = time.monotonic() - began
                    assert time.monotonic() - began < LATE_SECONDS
                    time.sleep(0.1)
            record_property("closed after", f"{min(taken.values()):.2f} to {max(taken.values()):.2f} s")
            assert min(taken.values()) >= 1
            figures.settle()
            wait_until(lambda: gateway.outcomes()["timeout"] == 200, "200 timeouts in the access log")
        record_property("slowest honest answer", f"{service.slowest:.3f} s of {service.asked}")

    def test_half_close(self, tmp_path: Path) -> None:
        """A client that half-closes after its query, or in the place of its end, is answered; before it, let go."""
        port = free_port()
        with target(tmp_path, configuration(port), port) as gateway:
            for query, answer in ((b"hello\r\n", HELLO_WIRE), (b"big\r\n", None), (b"", b""), (b"hello", HELLO_WIRE)):
                with gateway.connect() as client:
                    client.sendall(query)
                    client.shutdown(socket.SHUT_WR)
                    received = receive_all(client)
                assert len(received) == BIG_BYTES + 2 if answer is None else received == answer
            wait_until(lambda: len(gateway.access) == 3, "a line in the access log for each query")
            assert gateway.outcomes()["answered"] == 3

    def test_reset_while_a_backend_works(self, tmp_path: Path, record_property: Note) -> None:
        """When clients reset, what works for them is ended at once, and all they held is given back."""
        port = free_port()
        more = SLOW_COMMAND + "max_running = 8\n"
        text = configuration(port, limits=UNHURRIED, more=more)
        with target(tmp_path, text, port) as gateway, served_all_along(gateway):
            figures = Figures(gateway, record_property)
            for _ in range(3):
                clients = [gateway.connect() for _ in range(20)]
                for client in clients:
                    client.sendall(b"slow\r\n")
                wait_until(lambda: gateway.children == 8, "8 programs")
                for client in clients:
                    drop(client)
                wait_until(lambda: gateway.children == 0, "the end of the programs")
            wait_until(lambda: gateway.outcomes()["gone"] == 60, "60 gone clients in the access log")
            figures.settle()

    def test_reset_while_an_answer_is_sent(self, tmp_path: Path, record_property: Note) -> None:
        """Clients that reset in the middle of a big answer cost nothing but its making."""
        port = free_port()
        text = configuration(port, limits=UNHURRIED)
        with target(tmp_path, text, port) as gateway, served_all_along(gateway):
            gateway.ask(b"big\r\n")
            figures = Figures(gateway, record_property)
            for _ in range(60):
                client = gateway.connect(receive_buffer=4096)
                client.sendall(b"big\r\n")
                assert client.recv(1000)
                drop(client)
            figures.settle(SLACK_BYTES + 2 * BIG_BYTES)

    def test_client_that_never_reads(self, tmp_path: Path, record_property: Note) -> None:
        """Fifty clients that ask for a big answer and do not read it are gone at the deadline, with their memory."""
        port, number = free_port(), 50
        text = configuration(port, limits=UNHURRIED + "answer_timeout = 3")
        with target(tmp_path, text, port) as gateway, served_all_along(gateway) as service:
            figures = Figures(gateway, record_property)
            for _ in range(2):
                with many(gateway.connect(receive_buffer=4096) for _ in range(number)) as clients:
                    for client in clients:
                        client.sendall(b"big\r\n")
                    wait_closed(clients, DEADLINE_SECONDS)
                wait_until(lambda: gateway.descriptors < 20, "the end of all connections")
            figures.settle(SLACK_BYTES + number // 4 * BIG_BYTES)  # the C library may keep some of it for a while
            # what is sent and what is to be sent may both be there for a moment, for one connection at a time
            assert gateway.peak_memory - figures.memory < (number + 4) * BIG_BYTES + SLACK_BYTES
        record_property("slowest honest answer", f"{service.slowest:.3f} s of {service.asked}")


SLOW_COMMAND = """
[[routes]]
user = "slow"
backends = ["sleep"]
[backends.sleep]
type = "command"
argv = ["/bin/sleep", "60"]
timeout = 60
"""


def _is_open(client: socket.socket) -> bool:
    """Send a byte, and tell whether the connection still stands."""
    try:
        client.send(b"x")
        client.settimeout(0.0)
        return client.recv(1) != b""
    except BlockingIOError:
        return True
    except ConnectionError:
        return False


@on_both_transports
class TestFloods:
    """More of everything than there should be."""

    def test_ten_thousand_connections(self, tmp_path: Path, record_property: Note) -> None:
        """Ten thousand connections, dropped in every way, leave nothing behind, and others are served meanwhile."""
        port = free_port()
        with target(tmp_path, configuration(port), port) as gateway, served_all_along(gateway) as service:
            _open_and_drop(gateway, 1000)  # what the first need, of pools and of tables, stays
            wait_until(lambda: gateway.descriptors < 20, "the end of all connections")
            figures = Figures(gateway, record_property)
            _open_and_drop(gateway, 10_000)
            figures.settle(4 * MIB)
        record_property("slowest honest answer", f"{service.slowest:.3f} s of {service.asked}")

    @pytest.mark.parametrize("start", [b"", b"hello\r\n", b"\xff\xfa"], ids=["line", "after-a-query", "telnet"])
    def test_endless(self, start: bytes, tmp_path: Path, record_property: Note) -> None:
        """Of a gigabyte, in one line or behind one, no more is taken than sockets hold; then it is closed."""
        port = free_port()
        with target(tmp_path, configuration(port), port) as gateway, served_all_along(gateway):
            figures = Figures(gateway, record_property)
            client, sent = gateway.connect(), 0
            with client, contextlib.suppress(ConnectionError):
                client.sendall(start)
                while sent < 1 << 30:
                    sent += client.send(b"x" * 65536)
            record_property("taken", sent)
            assert sent < 16 * MIB
            figures.settle(8 * MIB)
            assert gateway.peak_memory - figures.memory < 16 * MIB

    def test_connections_of_one_client(self, tmp_path: Path, record_property: Note) -> None:
        """Of one address's connections only so many are taken; the rest are told so, and others are served."""
        port = free_port()
        limits = "max_connections = 100\nmax_connections_per_client = 20\nquery_timeout = 20"
        with target(tmp_path, configuration(port, limits=limits), port) as gateway:
            with served_all_along(gateway) as service, many(gateway.connect() for _ in range(20)) as clients:
                wait_until(lambda: gateway.descriptors > 20, "20 connections")
                figures = Figures(gateway, record_property)
                for _ in range(16):
                    with many(gateway.connect() for _ in range(30)) as refused:
                        assert {rest(client) for client in refused} == {BUSY_WIRE}
                clients[0].sendall(b"hello\r\n")
                assert rest(clients[0]) == HELLO_WIRE
                wait_until(lambda: gateway.outcomes()["busy"] == 480, "480 times busy in the access log")
            record_property("descriptors with 20 inside", figures.descriptors)
            wait_until(lambda: gateway.ask(b"hello\r\n") == HELLO_WIRE, "a place for the same address")
        record_property("slowest honest answer", f"{service.slowest:.3f} s of {service.asked}")

    def test_burst_of_one_client(self, tmp_path: Path) -> None:
        """Connections that are refused to one client take no place from another, however many come at a time."""
        port = free_port()
        limits = "max_connections = 100\nmax_connections_per_client = 20\nquery_timeout = 20"
        with (
            target(tmp_path, configuration(port, limits=limits), port) as gateway,
            many(_connect_at_once(gateway, 1000)) as clients,
            gateway.connect(HONEST) as honest,
        ):
            honest.sendall(b"hello\r\n")
            gateway.running.send_signal(signal.SIGCONT)
            assert rest(honest) == HELLO_WIRE
            assert {rest(client) for client in clients[20:]} <= {BUSY_WIRE, b""}

    def test_queue_of_connections(self, tmp_path: Path) -> None:
        """A burst of connections finds room to wait in: who finds none tries again after a second, and then three."""
        port = free_port()
        text = configuration(port, endpoint=f"tcp:{port}:interface=127.0.0.1")
        with target(tmp_path, text, port) as gateway:
            try:
                with many(_connect_at_once(gateway, 300)):
                    pass
            finally:
                gateway.running.send_signal(signal.SIGCONT)

    def test_connections_of_many_clients(self, tmp_path: Path, record_property: Note) -> None:
        """Beyond the limit for all together everyone is told so; when the flood is timed out, all are served again."""
        port = free_port()
        limits = "max_connections = 100\nmax_connections_per_client = 20\nquery_timeout = 3"
        with target(tmp_path, configuration(port, limits=limits), port) as gateway:
            figures = Figures(gateway, record_property)
            sources = [str(IPv4Address("127.0.1.1") + number) for number in range(100)]
            with many(gateway.connect(source) for source in sources * 5) as clients:
                latest = gateway.connect(HONEST)
                push(latest, b"hello\r\n")
                assert rest(latest) in (BUSY_WIRE, b"")
                told = Counter(rest(client) for client in clients)
            assert set(told) == {BUSY_WIRE, b""}
            # twice too many may be closed on without a word
            assert told[b""] >= 100
            assert told[BUSY_WIRE] >= 100
            figures.settle()
            wait_until(lambda: gateway.outcomes()["timeout"] == 100, "100 timeouts in the access log")
            assert gateway.outcomes()["busy"] == 401

    def test_rate(self, tmp_path: Path) -> None:
        """A client over its rate is told so, and no other client is."""
        port = free_port()
        limits = "rate = { queries = 1, per = 3600, burst = 3 }"
        with target(tmp_path, configuration(port, limits=limits), port) as gateway:
            said = [gateway.ask(b"hello\r\n") for _ in range(10)]
            assert said == [HELLO_WIRE] * 3 + [BUSY_WIRE] * 7
            assert gateway.ask(b"a" * 600 + b"\r\n") == BUSY_WIRE  # nonsense is no way around it
            assert gateway.ask(b"hello\r\n", DENIED) == HELLO_WIRE
            wait_until(lambda: gateway.outcomes()["busy"] == 8, "8 times busy in the access log")

    def test_slow_names(self, tmp_path: Path, record_property: Note) -> None:
        """When so many wait for a backend as may, more are told so; what is known at once is answered on and on."""
        port = free_port()
        with socket.create_server(("127.0.0.1", 0), backlog=512) as silent:
            more = SLOW_URL.format(port=silent.getsockname()[1])
            text = configuration(port, limits="max_waiting = 20\nanswer_timeout = 60", more=more)
            with target(tmp_path, text, port) as gateway, served_all_along(gateway) as service:
                figures = Figures(gateway, record_property)
                clients = list(_ask_all(gateway, b"slow\r\n", 80))
                assert {rest(client) for client in clients[20:]} == {BUSY_WIRE}
                for client in clients[:20]:  # a mere close could be one of a side alone: it would still wait
                    drop(client)
                wait_until(lambda: gateway.outcomes()["gone"] == 20, "the end of those that waited")
                clients = list(_ask_all(gateway, b"slow\r\n", 21))  # their places are free again
                assert rest(clients[20]) == BUSY_WIRE
                assert not select.select(clients[:20], [], [], 0.1)[0]
                for client in clients[:20]:
                    drop(client)
                figures.settle()
        record_property("slowest honest answer", f"{service.slowest:.3f} s of {service.asked}")

    def test_slow_names_of_one_client(self, tmp_path: Path) -> None:
        """A client that holds all places where queries wait gives one up for each of another's, the newest first."""
        port = free_port()
        with socket.create_server(("127.0.0.1", 0), backlog=512) as silent:
            more = SLOW_URL.format(port=silent.getsockname()[1]) + PROGRAM
            text = configuration(port, limits="max_waiting = 10\nanswer_timeout = 60", more=more)
            with target(tmp_path, text, port) as gateway:
                mine = list(_ask_all(gateway, b"slow\r\n", 11))
                assert rest(mine[10]) == BUSY_WIRE  # all before it have their places
                assert [gateway.ask(b"program\r\n", f"127.0.0.{number}") for number in (2, 3, 4)] == [b"here\r\n"] * 3
                assert rest(mine[9]) == BUSY_WIRE
                others = list(_ask_all(gateway, b"slow\r\n", 8, HONEST))
                assert {rest(client) for client in (*mine[5:9], *others[5:])} == {BUSY_WIRE}
                left = [*mine[:5], *others[:5]]
                assert not select.select(left, [], [], 0.1)[0]
                for client in left:
                    drop(client)
                wait_until(lambda: gateway.outcomes()["gone"] == 10, "the end of those that waited")
                busy = [(entry["client"], entry["query"]) for entry in gateway.access if entry["outcome"] == "busy"]
                assert sorted(busy) == [(ATTACKER, "slow")] * 6 + [(HONEST, "slow")] * 3


PROGRAM = """
[[routes]]
user = "program"
backends = ["program"]
[backends.program]
type = "command"
argv = ["/bin/echo", "here"]
"""

SLOW_URL = """
[[routes]]
user = "slow"
backends = ["silent"]
[backends.silent]
type = "http"
url = "http://127.0.0.1:{port}/"
timeout = 60
"""


def _connect_at_once(gateway: Target, number: int) -> Iterator[socket.socket]:
    """Stop a gateway, and connect so many clients, which it will find all at once."""
    gateway.running.send_signal(signal.SIGSTOP)
    for _ in range(number):
        # The kernel answers for it, as long as there is room: at once on the loopback, after a second at the earliest
        # where there was none.
        yield gateway.connect(seconds=0.9)


def _ask_all(gateway: Target, query: bytes, number: int, source: str = ATTACKER) -> Iterator[socket.socket]:
    for _ in range(number):
        client = gateway.connect(source)
        client.sendall(query)
        yield client


def _open_and_drop(gateway: Target, number: int) -> None:
    """Connect so many clients, a hundred at a time, and drop them: closed or reset, silent or in the middle."""
    ends = itertools.cycle((socket.socket.close, drop))
    starts = itertools.cycle((b"", b"hel", b"hello\r\n"))
    for _ in range(number // 100):
        clients = [gateway.connect() for _ in range(100)]
        for client, start in zip(clients, starts, strict=False):
            client.sendall(start)
        for client, end in zip(clients, ends, strict=False):
            end(client)


_RANDOM = random.Random(1288)
GARBAGE = {
    "random": _RANDOM.randbytes(100 * 1024),
    "random-lines": b"".join(_RANDOM.randbytes(20) + b"\r\n" for _ in range(5000)),
    "nuls": bytes(100 * 1024),
    "line-ends": b"\r\n" * 50_000,
    "returns": b"\r" * 100_000,
    "ats": b"@" * 400 + b"\r\n",
    "hosts": b"x" + b"@h" * 200 + b"\r\n",
    "telnet-will": b"\xff\xfb\x01" * 30_000,
    "telnet-storm": b"".join(b"\xff" + bytes([_RANDOM.randrange(256)]) for _ in range(50_000)),
    "telnet-unended": b"\xff\xfa" + b"\xff\xff" * 50_000,
    "telnet-query": b"\xff\xfd\x03\xff\xfb\x18hello\xff\xf1\r\n" + b"\xff\xf4\xff\xfd\x06" * 1000,
    "http": b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: x\r\n\r\n" * 200,
    "http2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(1000),
    "tls": client_hello(),
    "ssh": b"SSH-2.0-OpenSSH_9.6\r\n" + _RANDOM.randbytes(1500),
    "smtp": b"EHLO x\r\nMAIL FROM:<>\r\n" * 1000,
    "shell": b"|/bin/sh;$(reboot)`id`\r\n" * 100,
    "proxy": b"PROXY TCP4 10.0.0.1 10.0.0.2 1 79\r\nhello\r\n",
    "queries": b"hello\r\n" * 10_000,
}


@on_both_transports
def test_garbage(tmp_path: Path, record_property: Note) -> None:
    """Whatever is sent, and however much of it, there is one answer of one line or none, and then the end."""
    port = free_port()
    answers = {*(b"", HELLO_WIRE, NOBODY_WIRE), b"Invalid query\r\n", b"Finger forwarding service denied\r\n"}
    answers.add(b"Finger online user list denied\r\n")
    with target(tmp_path, configuration(port), port) as gateway, served_all_along(gateway):
        figures = Figures(gateway, record_property)
        answered = 0
        for name, garbage in GARBAGE.items():
            for pieces in (garbage,), (garbage[:7], garbage[7:]), (garbage[:600], garbage[600:]):
                client = gateway.connect()
                for piece in pieces:
                    push(client, piece)
                answer = rest(client)
                answered += bool(answer)
                assert answer in answers, name
        assert answered > len(GARBAGE)
        figures.settle()


class TestTls:
    """Clients that do not get as far as to speak."""

    @staticmethod
    def _configuration(folder: Path, port: int, limits: str) -> tuple[str, ssl.SSLContext]:
        authority = trustme.CA()
        authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
        trusting = ssl.create_default_context()
        authority.configure_trust(trusting)
        endpoint = f"ssl:{port}:privateKey=server.pem:interface=127.0.0.1:backlog=4096"
        return configuration(port, f'deny = ["{DENIED}"]', limits, endpoint=endpoint), trusting

    @staticmethod
    def _hello(gateway: Target, trusting: ssl.SSLContext, source: str = HONEST) -> bytes:
        with trusting.wrap_socket(gateway.connect(source), server_hostname="localhost") as client:
            client.sendall(b"hello\r\n")
            return receive_all(client)

    @pytest.mark.parametrize("source", [ATTACKER, DENIED], ids=["allowed", "denied"])
    def test_handshake_without_end(self, source: str, tmp_path: Path, record_property: Note) -> None:
        """Clients that never begin the handshake, or stop in it, are gone at the deadline, the denied at once."""
        port = free_port()
        text, trusting = self._configuration(tmp_path, port, "max_connections = 100\nmax_connections_per_client = 60")
        hello = client_hello()
        with target(tmp_path, text, port, hello=lambda gateway: self._hello(gateway, trusting)) as gateway:
            assert self._hello(gateway, trusting) == HELLO_WIRE
            figures = Figures(gateway, record_property)
            starts = itertools.cycle((b"", hello[:1], hello[: len(hello) // 2], hello))
            with contextlib.ExitStack() as clients:
                inside = []
                for start in itertools.islice(starts, 60):
                    with contextlib.suppress(ConnectionResetError):  # so soon after connecting
                        client = clients.enter_context(gateway.connect(source))
                        push(client, start)
                        inside.append(client)
                wait_closed(inside, LATE_SECONDS)
                # those that are gone hold nothing here, though they may hold their own side
                figures.settle()
                outcome = "denied" if source == DENIED else "timeout"
                wait_until(lambda: gateway.outcomes()[outcome] == 60, f"60 times {outcome} in the access log")

    def test_too_many(self, tmp_path: Path, record_property: Note) -> None:
        """Clients beyond the limit that wait in the handshake are soon gone, and the places are free again."""
        port = free_port()
        text, trusting = self._configuration(tmp_path, port, "max_connections = 10\nmax_connections_per_client = 5")
        with target(tmp_path, text, port, hello=lambda gateway: self._hello(gateway, trusting)) as gateway:
            assert self._hello(gateway, trusting) == HELLO_WIRE
            figures = Figures(gateway, record_property)
            with many(gateway.connect(f"127.0.1.{number % 50 + 1}") for number in range(200)) as clients:
                wait_closed(clients, LATE_SECONDS)
                figures.settle()
                assert self._hello(gateway, trusting) == HELLO_WIRE

    def test_handshake_a_byte_at_a_time(self, tmp_path: Path) -> None:
        """A handshake sent by single bytes is no way to stay longer."""
        port = free_port()
        text, trusting = self._configuration(tmp_path, port, "")
        with target(tmp_path, text, port, hello=lambda gateway: self._hello(gateway, trusting)) as gateway:
            began = time.monotonic()
            with gateway.connect() as client, contextlib.suppress(ConnectionError):
                for byte in client_hello() * 100:
                    client.send(bytes([byte]))
                    time.sleep(0.02)
                    assert time.monotonic() - began < LATE_SECONDS
            assert time.monotonic() - began > 0.5


TRUSTED = "127.0.0.9"


@on_both_transports
class TestProxied:
    """Connections to a listener that is only for proxies."""

    @staticmethod
    def _configuration(port: int, limits: str = "") -> str:
        rules = f'trusted_proxies = ["{TRUSTED}/32"]\ndeny = ["10.9.0.0/16"]'
        endpoint = f"haproxy:tcp:{port}:interface=127.0.0.1:backlog=4096"
        return configuration(port, rules, limits, endpoint=endpoint)

    @staticmethod
    def _hello(gateway: Target, client: str = "10.0.0.1") -> bytes:
        return gateway.ask(b"PROXY TCP4 %s 10.0.0.2 40000 79\r\nhello\r\n" % client.encode(), TRUSTED)

    def test_header_that_never_comes(self, tmp_path: Path, record_property: Note) -> None:
        """A proxy that sends no header, half of one, or one by single bytes is closed on at the deadline."""
        port = free_port()
        starts = (b"", b"PRO", b"PROXY TCP4 10.0.0.1 10.0.0.2 40000 79\r", _v2(b"")[:12], _v2(b"")[:20])
        with target(tmp_path, self._configuration(port), port, hello=self._hello) as gateway:
            figures = Figures(gateway, record_property)
            began = time.monotonic()
            with many(gateway.connect(TRUSTED) for _ in range(50)) as clients:
                for client, start in zip(clients, itertools.cycle(starts), strict=False):
                    push(client, start)
                assert {rest(client) for client in clients} == {b""}
                assert time.monotonic() - began >= 1
            with gateway.connect(TRUSTED) as client, contextlib.suppress(ConnectionError):
                for byte in b"PROXY TCP4 10.0.0.1 10.0.0.2 40000 79\r\nhello\r\n":
                    client.send(bytes([byte]))
                    time.sleep(0.05)
                client.settimeout(LATE_SECONDS)
                assert client.recv(1) == b""
            figures.settle()
            wait_until(lambda: gateway.outcomes()["timeout"] == 51, "51 timeouts in the access log")
            assert {entry["client"] for entry in gateway.access if entry["outcome"] == "timeout"} == {TRUSTED}

    def test_no_header(self, tmp_path: Path) -> None:
        """A proxy that sends something else is closed on at once, without an answer."""
        port = free_port()
        nonsense = [each for each in GARBAGE.values() if not each.startswith(b"PROXY")]
        nonsense += [b"PROXY TCP4 10.0.0.1\r\nhello\r\n", b"PROXY " + b"x" * 200, _v2(b"")[:12] + b"\x31\x11\x00\x0c"]
        noise = ["connection closed:"] * len(nonsense)
        with target(tmp_path, self._configuration(port), port, hello=self._hello, noise=noise) as gateway:
            for each in nonsense:
                client = gateway.connect(TRUSTED)
                push(client, each)
                assert rest(client) == b""
            number = len(nonsense)
            wait_until(lambda: gateway.outcomes()["bad_proxy_header"] == number, f"{number} in the access log")

    def test_untrusted(self, tmp_path: Path, record_property: Note) -> None:
        """A client that is not a proxy is disconnected at once, whatever it sends, and logged with its real address."""
        port = free_port()
        with target(tmp_path, self._configuration(port), port, hello=self._hello) as gateway:
            figures = Figures(gateway, record_property)
            for start in (b"", b"hello\r\n", b"PROXY TCP4 10.0.0.1 10.0.0.2 1 79\r\nhello\r\n", _v2(b"hello\r\n")) * 25:
                client = gateway.connect(ATTACKER)
                push(client, start)
                assert rest(client) == b""
            figures.settle()
            # one came from the test's start
            wait_until(lambda: gateway.outcomes()["untrusted_proxy"] >= 101, "101 in the access log")
            assert {entry["client"] for entry in gateway.access} == {ATTACKER}

    def test_address(self, tmp_path: Path) -> None:
        """The address in the header counts: in the access log, for deny, and for what one client may have."""
        port = free_port()
        text = self._configuration(port, "max_connections_per_client = 2\nquery_timeout = 20")
        with target(tmp_path, text, port, hello=self._hello) as gateway:
            assert self._hello(gateway) == HELLO_WIRE
            assert gateway.ask(_v2(b"hello\r\n"), TRUSTED) == HELLO_WIRE
            assert self._hello(gateway, "10.9.0.1") == b""
            header = b"PROXY TCP4 10.0.0.7 10.0.0.2 40000 79\r\n"
            with many(gateway.connect(TRUSTED) for _ in range(3)) as clients:
                for client in clients:
                    client.sendall(header)
                assert _first_told(clients) == BUSY_WIRE
                assert self._hello(gateway) == HELLO_WIRE
            wait_until(lambda: len(gateway.access) >= 5, "5 lines in the access log")
            told = [(entry["client"], entry["outcome"]) for entry in gateway.access if entry["client"] != ATTACKER]
            assert told == [
                ("10.0.0.1", "answered"),
                ("10.0.0.66", "answered"),
                ("10.9.0.1", "denied"),
                ("10.0.0.7", "busy"),
                ("10.0.0.1", "answered"),
            ]


def _v2(query: bytes) -> bytes:
    """Return a query behind a header of version 2, for a client at 10.0.0.66."""
    addresses = bytes([10, 0, 0, 66, 10, 0, 0, 2]) + struct.pack("!HH", 40000, 79)
    return b"\r\n\r\n\x00\r\nQUIT\n\x21\x11" + struct.pack("!H", len(addresses)) + addresses + query


def _first_told(clients: Sequence[socket.socket]) -> bytes:
    """Return what the first client is told that is told anything."""
    readable = select.select(clients, [], [], DEADLINE_SECONDS)[0]
    assert len(readable) == 1
    return rest(readable[0])


@on_both_transports
def test_decoy(tmp_path: Path, record_property: Note) -> None:
    """A decoy that takes its time holds a connection for each who asks, and nothing else; it ends at once."""
    port, number = free_port(), 500
    text = configuration(port, "decoy = true\ndelay = 300")
    with target(tmp_path, text, port, is_ended=True) as gateway:
        figures = Figures(gateway, record_property)
        threads = gateway.threads
        with many(_ask_all(gateway, b"root\r\n", number)) as clients:
            wait_until(lambda: gateway.descriptors > number, "all connections")
            record_property("KiB each", f"{(gateway.memory - figures.memory) / number / 1024:.1f}")
            assert gateway.memory - figures.memory < number * 16 * 1024
            assert (gateway.threads, gateway.children) == (threads, 0)
            assert not select.select(clients, [], [], 0.5)[0]
            began = time.monotonic()
            gateway.running.send_signal(signal.SIGTERM)
            assert {rest(client) for client in clients} == {NOBODY_WIRE}
            assert gateway.running.wait(DEADLINE_SECONDS) == 0
            record_property("seconds to end", f"{time.monotonic() - began:.2f}")
            assert time.monotonic() - began < LATE_SECONDS
        assert gateway.outcomes()["no_such_user"] == number
