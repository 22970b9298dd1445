"""``[log] anonymise``: what is logged and kept of a client's address, by a gateway that logs all it can."""

from __future__ import annotations

import re
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.forked import Forked
from tests.support.packages import write_package
from tests.support.processes import forked
from tests.support.sockets import free_port, receive_all
from tests.support.waiting import wait_until

CLIENT, NETWORK = "127.1.2.3", "127.1.2.0"
PROXIED = {"198.51.100.77": "198.51.100.0", "2001:db8:7:8::9": "2001:db8:7::"}
"""Clients that a proxy names, and what is logged of each."""

# A type of backend that says in each way whom it has been asked by.
GOSSIP = """
from fingergw.api import Failed, Missing, Waits, settings
@settings
class Gossip:
    "Talks about clients."
    sees = ("client",)
    waits = Waits(timeout=5, max_running=9)
    def open(self, site):
        return self
    async def answer(self, query):
        if query.user == "raise":
            raise ValueError(f"{query.client} again")
        return Failed(f"nobody for {query.client}", upstream="unreachable" if query.user == "down" else "responded")
    def at_once(self, query):
        return Failed(f"not now, {query.client}") if query.user == "at-once" else None
"""
CONFIG = """
[[listeners]]
name = "direct"
endpoint = "tcp:{port}:interface=127.0.0.1"
[listeners.limits]
rate = {{ queries = 20, per = 1000, burst = 20 }}
[[listeners]]
name = "proxied"
endpoint = "haproxy:tcp:{proxied}:interface=127.0.0.1"
trusted_proxies = ["127.0.0.0/8"]
[[listeners]]
name = "closed"
endpoint = "tcp:{closed}:interface=127.0.0.1"
deny = ["127.1.2.3"]
[[routes]]
name = "gossip"
users = ["raise", "reason", "at-once"]
backends = ["gossip"]
[[routes]]
user = "down"
backends = ["fragile"]
[[routes]]
user = "shout"
backends = ["shout"]
[[routes]]
pattern = "own-*"
backends = ["own"]
[[routes]]
pattern = "*"
backends = ["common"]
[backends.gossip]
type = "gossip"
breaker = false
[backends.fragile]
type = "gossip"
breaker = {{ failures = 1, pause = 1000 }}
[backends.shout]
type = "command"
argv = ["sh", "-c", 'echo "for $FINGER_CLIENT"; echo "$FINGER_CLIENT asks, host $FINGER_CLIENT." >&2']
[backends.own]
type = "command"
argv = ["sh", "-c", 'echo "for $FINGER_CLIENT"']
[backends.own.cache]
ttl = 1000
[backends.common]
type = "command"
argv = ["echo", "the same for all"]
[backends.common.cache]
ttl = 1000
vary = []
[cache]
store = "sqlite:cache.db"
[log]
access = "access.log"
format = "{form}"
level = "debug"
anonymise = {anonymise}
"""


class Running:
    """A gateway in a folder, and what it has written there."""

    def __init__(self, folder: Path, form: str) -> None:
        self.folder, self.form = folder, form
        self.port, self.proxied, self.closed = free_port(), free_port(), free_port()
        self.process: Forked

    def configure(self, anonymise: str) -> None:
        ports = {"port": self.port, "proxied": self.proxied, "closed": self.closed}
        text = CONFIG.format(form=self.form, anonymise=anonymise, **ports)
        (self.folder / "fingergw.toml").write_text(text)

    def reload(self, anonymise: str) -> None:
        """Change the setting while it runs."""
        before = self.log.count("configuration reloaded")
        self.configure(anonymise)
        self.process.send_signal(signal.SIGHUP)
        wait_until(lambda: self.log.count("configuration reloaded") > before, "the reload")

    def ask(self, sent: bytes, port: int | None = None, client: str = CLIENT) -> str:
        """Send something, and return the answer."""
        with socket.create_connection(("127.0.0.1", port or self.port), 20, (client, 0)) as connection:
            connection.sendall(sent)
            return receive_all(connection).decode()

    def ask_all(self) -> None:
        """Do all that makes it write about a client."""
        for name in ("raise", "reason", "at-once", "down", "down"):
            assert self.ask(f"{name}\r\n".encode()) == "Internal error in server\r\n"
        assert self.ask(b"\0\r\n") == "Invalid query\r\n"
        assert self.ask(b"any\r\n") == "the same for all\r\n"
        with suppress(ConnectionError):  # which depends on what comes first
            assert self.ask(b"x\r\n", self.closed) == ""
        for name in ("shout", "shout", "own-1"):  # programs are told it whole
            assert self.ask(f"{name}\r\n".encode()) == f"for {CLIENT}\r\n"
        assert self.ask(b"no header\r\n", self.proxied) == ""
        for client in PROXIED:
            kind = "TCP6" if ":" in client else "TCP4"
            local = "::1" if ":" in client else "127.0.0.1"
            header = f"PROXY {kind} {client} {local} 7 79\r\n".encode()
            assert self.ask(header + b"shout\r\n", self.proxied) == f"for {client}\r\n"
            assert self.ask(header + b"\0\r\n", self.proxied) == "Invalid query\r\n"
        # somebody else is told why the backend is left alone
        assert self.ask(b"down\r\n", client="127.9.9.9") == "Internal error in server\r\n"

    @property
    def log(self) -> str:
        path = self.folder / "log"
        return path.read_text() if path.exists() else ""

    @property
    def access_log(self) -> str:
        return (self.folder / "access.log").read_text()

    @property
    def stored(self) -> bytes:
        """All that is in the cache's file, and in those beside it."""
        return b"".join(path.read_bytes() for path in self.folder.glob("cache.db*"))

    def stop(self) -> None:
        self.process.terminate()
        assert self.process.wait(20) == 0


@contextmanager
def running(folder: Path, anonymise: str, form: str = "text") -> Iterator[Running]:
    """Run a gateway that has the package."""
    write_package(folder / "packages", "gossip", GOSSIP, "gossip = gossip:Gossip")
    gateway = Running(folder, form)
    gateway.configure(anonymise)
    arguments = ["--logfile", "log", "--config", "fingergw.toml"]
    with forked(arguments, port=gateway.port, cwd=folder, packages=folder / "packages") as gateway.process:
        yield gateway


def test_nowhere(tmp_path: Path) -> None:
    """No whole address is in the logs or in the cache's file; each place has the network in its stead."""
    with running(tmp_path, "true") as gateway:
        gateway.ask_all()
        wait_until(lambda: NETWORK.encode() in gateway.stored, "the cache's file")
        gateway.stop()
        for client in (CLIENT, *PROXIED):
            assert client not in gateway.log
            assert client not in gateway.access_log
            assert client.encode() not in gateway.stored
        log = re.sub(r"^\S+ \[.*?\] ", "", gateway.log, flags=re.MULTILINE)
    for line in (
        f"backend gossip failed, asked by route gossip: unforeseen ValueError: {NETWORK} again",
        f"backend gossip failed, asked by route gossip: nobody for {NETWORK}",
        f"backend gossip failed, asked by route gossip: not now, {NETWORK}",
        f"backend fragile is not asked for 1000 s, after 1 failures in a row; the last: nobody for {NETWORK}",
        f"sh wrote to standard error: {NETWORK} asks, host {NETWORK}.",
        f"{NETWORK}: invalid query: a control or an invisible character",
        f"{NETWORK}: connection closed: no PROXY header",
        *(f"{network}: invalid query: " for network in PROXIED.values()),
        *(f"sh wrote to standard error: {network} asks, host {network}." for network in PROXIED.values()),
    ):
        assert line in log, line
    assert f"1 more in the last minute: sh wrote to standard error: {NETWORK} asks" in log
    lines = gateway.access_log.splitlines()
    assert {line.split('"')[2].strip() for line in lines} == {NETWORK, "127.9.9.0", *PROXIED.values()}


def test_switch_by_reload(tmp_path: Path) -> None:
    """A reload switches it, either way; then the cache's file is begun anew, as it had the addresses."""
    with running(tmp_path, "false", "json") as gateway:
        gateway.ask_all()
        wait_until(lambda: gateway.stored.count(CLIENT.encode()) > 1, "the cache's file")  # an owner, and a key
        gateway.reload("true")
        wait_until(lambda: "cache.db: emptied, as it had the whole addresses of clients" in gateway.log, "the new file")
        gateway.ask(b"last\r\n")
        wait_until(lambda: '"last"' in gateway.access_log, "the access log")
        before = len(gateway.log), len(gateway.access_log)
        assert gateway.ask(b"shout\r\n") == f"for {CLIENT}\r\n"
        assert gateway.ask(b"own-2\r\n") == f"for {CLIENT}\r\n"
        assert gateway.ask(b"reason\r\n") == "Internal error in server\r\n"
        assert gateway.ask(b"another\r\n") == "the same for all\r\n"
        wait_until(lambda: NETWORK.encode() in gateway.stored, "the cache's file")
        wait_until(lambda: '"another"' in gateway.access_log, "the access log")
        assert CLIENT.encode() not in gateway.stored
        assert CLIENT not in gateway.log[before[0] :]
        assert CLIENT not in gateway.access_log[before[1] :]
        gateway.reload("false")
        gateway.ask(b"shout\r\n")
        wait_until(lambda: f"{CLIENT}" in gateway.access_log[before[1] :], "the access log")
        gateway.stop()


def test_limits_are_of_whole_addresses(tmp_path: Path) -> None:
    """Two clients of a network have a rate each, and one of them may be denied."""
    with running(tmp_path, "true") as gateway:
        answers = [gateway.ask(b"any\r\n") for _ in range(21)]
        assert answers[-2:] == ["the same for all\r\n", "Too many queries, try again later\r\n"]
        assert gateway.ask(b"any\r\n", client="127.1.2.4") == "the same for all\r\n"
        assert gateway.ask(b"any\r\n", gateway.closed, client="127.1.2.4") == "the same for all\r\n"
