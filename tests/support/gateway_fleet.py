"""Several gateways, as real processes, that share one real Redis; a real upstream; and clients that ask them."""

from __future__ import annotations

import functools
import itertools
import re
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple, Self

from tests.support.forked import Forked
from tests.support.processes import forked
from tests.support.redis_server import RedisServer
from tests.support.sockets import finger, receive_all, serves
from tests.support.waiting import DEADLINE_SECONDS, wait_until

NAMES = ("a", "b", "c")
# Redis counts in milliseconds, and a request's time is taken when it has arrived: so much earlier one may seem to come.
TOLERANCE_SECONDS = 0.05
# What a loaded machine may take to hand an answer on, where a test looks how old it is.
SLACK_SECONDS = 2.0
# What a client may have to wait at the most, whatever Redis does, with an upstream that answers at once.
SLOWEST_SECONDS = 3.0
UNAVAILABLE, BACK = " is unavailable: ", " is back\n"
KEPT = "failed, so its cached answer stays in use"
UNKNOWN, FAILED = b"No such user\r\n", b"Internal error in server\r\n"


class Request(NamedTuple):
    """A request that the upstream was sent.

    :param number: how many there were for this key by then.
    :param status: of the response.
    :param at: when it came.
    """

    key: str
    number: int
    status: int
    at: float


class Upstream:
    """An HTTP server that answers with the key it is asked for, and how often it has been.

    :param requests: all there were.
    :param answered: when a key's answer of that number was sent.
    :param status: of its responses.
    :param headers: of its responses.
    :param gate: a request that comes is answered when this, as it is then, is set.
    """

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.answered: dict[tuple[str, int], float] = {}
        self.status = 200
        self.headers: dict[str, str] = {}
        self.gate = open_gate()
        self._gates = [self.gate]
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._server: ThreadingHTTPServer | None = None
        self._holder = held_port()
        self.port: int = self._holder.getsockname()[1]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        for gate in self._gates:
            gate.set()
        self.stop()
        self._holder.close()

    def start(self) -> None:
        """Listen, always on the same port."""
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                upstream.serve(self)

            def log_message(self, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            request_queue_size = 1024

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # who asked is gone, as some test wants

        self._server = Server(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Refuse connections."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()

    def shut(self) -> threading.Event:
        """Answer nothing that comes from now on until the gate that is returned is set."""
        self.gate = threading.Event()
        self._gates.append(self.gate)
        return self.gate

    def of(self, key: str) -> list[Request]:
        """Return the requests for a key."""
        return [request for request in list(self.requests) if request.key == key]

    def serve(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer a request, once its gate is open."""
        key = handler.path[1:]
        with self._lock:
            self._counts[key] += 1
            number, status, gate = self._counts[key], self.status, self.gate
            self.requests.append(Request(key, number, status, time.monotonic()))
        gate.wait()
        body = f"{key} {number}".encode()
        self.answered[key, number] = time.monotonic()
        handler.send_response_only(status)  # without a Date, whose whole seconds would count as age
        for name, value in {**self.headers, "Content-Length": str(len(body))}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)


class Member(NamedTuple):
    """One gateway of a fleet."""

    name: str
    port: int
    log: Path
    running: Forked

    def ask(self, key: str) -> bytes:
        """Ask, and wait for the answer."""
        return finger(self.port, f"{key}\r\n".encode())

    def send(self, key: str) -> socket.socket:
        """Ask, without waiting for the answer."""
        client = socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE_SECONDS)
        client.sendall(f"{key}\r\n".encode())
        return client

    def logged(self, what: str) -> int:
        """Return how often it has logged a text."""
        return self.log.read_text().count(what)


class Fleet:
    """Gateways that share a Redis and an upstream, each with a configuration and a log of its own.

    :param cache: the keys of ``[backends.up.cache]``.
    :param store: more keys of ``[cache]``.
    :param timeout: the backend's.
    """

    def __init__(
        self,
        stack: ExitStack,
        folder: Path,
        upstream: Upstream,
        redis: RedisServer,
        *,
        cache: str = "ttl = 60",
        store: str = "",
        timeout: float = 5,
    ) -> None:
        self._stack = stack
        self._folder = folder
        self.redis = redis
        self._members: dict[str, Member] = {}
        self._text = f"""
            [[routes]]
            user = "ping"
            backends = ["ping"]
            [[routes]]
            pattern = "*"
            backends = ["up"]
            [backends.ping]
            type = "static"
            text = "pong"
            [backends.up]
            type = "http"
            url = "http://127.0.0.1:{upstream.port}/{{user}}"
            timeout = {timeout}
            [backends.up.cache]
            {cache}
            [cache]
            store = "redis://127.0.0.1:{redis.port}"
            {store}
            [log]
            access = "off"
            level = "debug"
            """

    def __iter__(self) -> Iterator[Member]:
        return iter(self._members.values())

    def __getitem__(self, name: str) -> Member:
        return self._members[name]

    @property
    def logs(self) -> str:
        """What all that ever belonged to it have logged."""
        return "".join(log.read_text() for log in sorted(self._folder.glob("*.log")))

    def start(self, *names: str) -> None:
        """Start gateways, and wait until they serve."""
        for name in names:
            holder = self._stack.enter_context(held_port())
            port = holder.getsockname()[1]
            folder = self._folder / name
            folder.mkdir(exist_ok=True)
            config, log = folder / "fingergw.toml", self._folder / f"{name}.log"
            config.write_text(
                f'[[listeners]]\nendpoint = "tcp:{port}:interface=127.0.0.1"\n'
                f"limits = {{ max_connections_per_client = 1000 }}\n{self._text}"
            )
            arguments = ["--config", str(config), "--logfile", str(log)]
            running = self._stack.enter_context(forked(arguments, cwd=folder))
            self._members[name] = Member(name, port, log, running)
        for member in map(self.__getitem__, names):
            wait_until(lambda: serves(member.port) or member.running.poll() is not None, "a gateway")  # noqa: B023
            assert member.running.poll() is None, member.running.communicate()

    def join(self, *names: str) -> None:
        """Start gateways, and wait until they share; that nobody may ask meanwhile."""
        before = self.evals()
        self.start(*names)
        wait_until(lambda: self.evals() >= before + 2 * len(names), "the gateways' probes of Redis")
        self.settle()

    def kill(self, name: str) -> None:
        """End a gateway at once."""
        member = self._members.pop(name)
        member.running.kill()
        member.running.wait()

    def stop(self) -> None:
        """Ask all to end, and see that they do, and have never said what they should not."""
        for member in self:
            member.running.send_signal(signal.SIGTERM)
        for member in self:
            out, err = member.running.communicate(timeout=DEADLINE_SECONDS)
            assert (member.running.returncode, out, err) == (0, "", "")
        assert not re.search("Traceback|Unhandled|CRITICAL", self.logs), self.logs

    def evals(self) -> int:
        """Return how often Redis was asked by a gateway."""
        calls: list[bytes] = re.findall(
            rb"cmdstat_eval(?:sha)?:calls=(\d+)", self.redis.command("INFO", "commandstats")
        )
        return sum(map(int, calls))

    def settle(self) -> None:
        """Return when all that was sent to the gateways has had its way into Redis.

        They have a single thread, and read what came first before they accept what comes next; and so has Redis.
        """
        for _ in range(2):
            for member in self:
                assert member.ask("ping") == b"pong\r\n"
        for _ in range(2):
            self.redis.command("PING")

    def logged(self, what: str) -> dict[str, int]:
        """Return how often each gateway has logged a text."""
        return {member.name: member.logged(what) for member in self}

    def wait_logged(self, what: str, before: dict[str, int]) -> None:
        """Wait until each gateway has logged a text once more."""
        wait_until(lambda: all(n > before[name] for name, n in self.logged(what).items()), f"{what!r} in all logs")

    def burst(self, key: str, each: int) -> list[socket.socket]:
        """Let many clients ask each gateway, without waiting for answers."""
        return [self._stack.enter_context(member.send(key)) for _ in range(each) for member in self]


class Asked(NamedTuple):
    """One query, and what became of it."""

    key: str
    at: float
    seconds: float
    answer: bytes


class Load:
    """Clients that ask all gateways on and on.

    :param key: what to ask for next.
    """

    def __init__(self, fleet: Fleet, key: Callable[[], str], each: int = 2) -> None:
        self.asked: list[Asked] = []
        self._key = key
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(member,), daemon=True) for member in fleet for _ in range(each)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @property
    def slowest(self) -> float:
        return max(one.seconds for one in list(self.asked))

    def _run(self, member: Member) -> None:
        while not self._stop.wait(0.02):
            key, at = self._key(), time.monotonic()
            try:
                answer = member.ask(key)
            except OSError as error:
                answer = f"{type(error).__name__} at {member.name}".encode()
            self.asked.append(Asked(key, at, time.monotonic() - at, answer))


def open_gate() -> threading.Event:
    """Return a gate that keeps nobody waiting."""
    gate = threading.Event()
    gate.set()
    return gate


def held_port() -> socket.socket:
    """Return a socket whose port nobody else is given, but that a server can listen on; without one it refuses."""
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    return holder


def pass_by(seconds: float) -> None:
    """Return after some time, in which clients go on, or something gets old."""
    ends = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() >= ends, "that moment")


def kept_in(redis: RedisServer) -> list[bytes]:
    """Return the keys of the answers in a Redis."""
    return sorted(redis.command("KEYS", "fingergw:1:*"))


def assert_right(upstream: Upstream, asked: Sequence[Asked], oldest: float) -> None:
    """Fail unless each answer is upstream's to what was asked for, and was not too old then."""
    assert asked
    for one in asked:
        found = re.fullmatch(rb"(\S+) (\d+)\r\n", one.answer)
        assert found, one
        assert found[1].decode() == one.key, one
        assert one.at - upstream.answered[one.key, int(found[2])] <= oldest + SLACK_SECONDS, one


def assert_apart(requests: Sequence[Request], seconds: float) -> None:
    """Fail if two requests came closer to each other."""
    for first, second in itertools.pairwise(requests):
        assert second.at - first.at >= seconds - TOLERANCE_SECONDS, requests


def undisturbed(test: Callable[..., None]) -> Callable[..., None]:
    """Run a test again, on its own, where the machine was so busy that a gateway found Redis too slow."""

    @functools.wraps(test)
    def run(self: object, tmp_path: Path, upstream: Upstream, redis: RedisServer, **parameters: object) -> None:
        for attempt in range(3):
            folder = tmp_path / str(attempt)
            folder.mkdir()
            try:
                with Upstream() if attempt else nullcontext(upstream) as fresh:
                    return test(self, folder, fresh, redis, **parameters)
            except AssertionError:
                if attempt == 2 or not any("no answer within" in log.read_text() for log in folder.glob("*.log")):
                    raise
            redis.restart()
        raise AssertionError("not reached")

    return run


def shares(fleet: Fleet, upstream: Upstream) -> bool:
    """Let clients ask all gateways at once for what is new, and tell whether upstream was asked once."""
    key = f"together{len(upstream.requests)}"
    gate = upstream.shut()
    clients = fleet.burst(key, 5)
    fleet.settle()
    gate.set()
    answers = {receive_all(client) for client in clients}
    assert all(answer.startswith(key.encode() + b" ") for answer in answers), answers
    return len(upstream.of(key)) == 1


@contextmanager
def fleet_of(
    names: Sequence[str], folder: Path, upstream: Upstream, redis: RedisServer, **options: Any
) -> Iterator[Fleet]:
    """Run gateways that share, and see that they end well."""
    with ExitStack() as stack:
        fleet = Fleet(stack, folder, upstream, redis, **options)
        fleet.join(*names)
        yield fleet
        fleet.stop()
