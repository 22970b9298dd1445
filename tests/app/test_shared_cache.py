"""Several gateways, as real processes, that share one real Redis; a real upstream; and many clients."""

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

import pytest

from fingergw.cache.cached_backend import BACK_OFF_SECONDS
from tests.support import DEADLINE_SECONDS, finger, forked, receive_all, serves, wait_until
from tests.support.forked import Forked
from tests.support.redis_server import RedisServer, needs_redis

pytestmark = needs_redis

NAMES = ("a", "b", "c")
# Redis counts in milliseconds, and a request's time is taken when it has arrived: so much earlier one may seem to come.
TOLERANCE_SECONDS = 0.05
# What a loaded machine may take to hand an answer on, where a test looks how old it is.
SLACK_SECONDS = 2.0
# What a client may have to wait at the most, whatever Redis does, with an upstream that answers at once.
SLOWEST_SECONDS = 3.0
LEFT_OUT, BACK = " is left out until it is back: ", " is back\n"
KEPT = "failed, and what it answered before is kept"
UNKNOWN, FAILED = b"No such user\r\n", b"Internal error in server\r\n"


class Request(NamedTuple):
    """A request to the upstream.

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
                upstream._serve(self)

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
        """Answer no request that comes from now on until the gate that is returned is set."""
        self.gate = threading.Event()
        self._gates.append(self.gate)
        return self.gate

    def of(self, key: str) -> list[Request]:
        """Return the requests for a key."""
        return [request for request in list(self.requests) if request.key == key]

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
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
        """The logs of all gateways that ever belonged to it."""
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
        """Start gateways, and wait until they share; no client may ask meanwhile."""
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
        """Ask all to end, and check that they do, and have logged no errors."""
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
        """Return when everything that was sent to the gateways has reached Redis.

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
    """One query and its answer."""

    key: str
    at: float
    seconds: float
    answer: bytes


class Load:
    """Clients that ask all gateways continuously.

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
    """Return an open gate."""
    gate = threading.Event()
    gate.set()
    return gate


def held_port() -> socket.socket:
    """Return a socket that reserves its port: a server can listen on it, and without one it refuses."""
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    return holder


def pass_by(seconds: float) -> None:
    """Return after some time, while clients go on, or answers become old."""
    ends = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() >= ends, "that moment")


def kept_in(redis: RedisServer) -> list[bytes]:
    """Return the keys of the answers in a Redis."""
    return sorted(redis.command("KEYS", "fingergw:1:*"))


def assert_right(upstream: Upstream, asked: Sequence[Asked], oldest: float) -> None:
    """Fail unless each answer is the upstream's for that key, and was not too old."""
    assert asked
    for one in asked:
        found = re.fullmatch(rb"(\S+) (\d+)\r\n", one.answer)
        assert found, one
        assert found[1].decode() == one.key, one
        assert one.at - upstream.answered[one.key, int(found[2])] <= oldest + SLACK_SECONDS, one


def assert_apart(requests: Sequence[Request], seconds: float) -> None:
    """Fail if two requests came within this time."""
    for first, second in itertools.pairwise(requests):
        assert second.at - first.at >= seconds - TOLERANCE_SECONDS, requests


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """Yield a running upstream."""
    with Upstream() as upstream:
        yield upstream


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """Yield a running Redis."""
    with RedisServer() as redis:
        yield redis


def undisturbed(test: Callable[..., None]) -> Callable[..., None]:
    """Run a test again if the machine was so busy that a gateway found Redis too slow."""

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
    """Let clients ask all gateways at once for a new key, and tell whether upstream was asked once."""
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
    """Run gateways that share, and check that they end without errors."""
    with ExitStack() as stack:
        fleet = Fleet(stack, folder, upstream, redis, **options)
        fleet.join(*names)
        yield fleet
        fleet.stop()


class TestSharing:
    """One request to upstream for the whole fleet."""

    @undisturbed
    def test_many_at_once(self, tmp_path: Path, upstream: Upstream, redis: RedisServer) -> None:
        """If 150 clients ask three gateways for a key at once, upstream is asked once, and all get its answer."""
        with fleet_of(NAMES, tmp_path, upstream, redis, timeout=15) as fleet:
            gate = upstream.shut()
            clients = fleet.burst("x", 50)
            fleet.settle()
            gate.set()
            assert [receive_all(client) for client in clients] == [b"x 1\r\n"] * 150
            assert len(upstream.requests) == 1

    @undisturbed
    def test_many_names_at_once(self, tmp_path: Path, upstream: Upstream, redis: RedisServer) -> None:
        """If 30 keys are asked for at all gateways at once, upstream is asked once for each."""
        with fleet_of(NAMES, tmp_path, upstream, redis, timeout=15) as fleet:
            gate = upstream.shut()
            keys = [f"k{number}" for number in range(30)]
            clients = [client for key in keys for client in fleet.burst(key, 1)]
            fleet.settle()
            gate.set()
            expected = [f"{key} 1\r\n".encode() for key in keys for _ in NAMES]
            assert [receive_all(client) for client in clients] == expected
            assert len(upstream.requests) == len(keys)

    @undisturbed
    def test_refreshes(self, tmp_path: Path, upstream: Upstream, redis: RedisServer) -> None:
        """Under load at all gateways upstream is asked for each key once per ttl, and no answer is too old."""
        keys = itertools.cycle(f"k{number}" for number in range(5))
        with fleet_of(NAMES, tmp_path, upstream, redis, cache="ttl = 1\nstale = 3") as fleet:
            with Load(fleet, keys.__next__) as load:
                pass_by(4)
            assert_right(upstream, load.asked, 1 + 3)
            counts = Counter(request.key for request in upstream.requests)
            print("requests in 4 ttl:", counts, "queries:", len(load.asked))
            assert len(counts) == 5
            assert all(2 <= count <= 5 for count in counts.values()), counts
            for key in counts:
                assert_apart(upstream.of(key), 1)

    @undisturbed
    def test_unknown_names(self, tmp_path: Path, upstream: Upstream, redis: RedisServer) -> None:
        """Under load at all gateways upstream is asked for an unknown name once per negative_ttl."""
        upstream.status = 404
        with fleet_of(NAMES, tmp_path, upstream, redis, cache="negative_ttl = 1") as fleet:
            with Load(fleet, lambda: "nobody") as load:
                pass_by(3)
            assert {one.answer for one in load.asked} == {UNKNOWN}
            print("requests in 3 negative_ttl:", len(upstream.requests), "queries:", len(load.asked))
            assert 2 <= len(upstream.requests) <= 4
            assert_apart(upstream.requests, 1)

    @pytest.mark.parametrize("said", ["no-store", "no-cache", "max-age=0, must-revalidate"])
    @undisturbed
    def test_what_is_not_shared(self, tmp_path: Path, upstream: Upstream, redis: RedisServer, said: str) -> None:
        """If answers may not be shared, no gateway waits for another's answer."""
        upstream.headers = {"Cache-Control": said}
        with fleet_of(NAMES, tmp_path, upstream, redis) as fleet:
            fleet["a"].ask("x")
            gate = upstream.shut()
            clients = fleet.burst("x", 1)
            wait_until(lambda: len(upstream.requests) == 4, "a request of each gateway, with none answered")
            gate.set()
            assert len({receive_all(client) for client in clients}) == 3

    @undisturbed
    def test_joins_later(self, tmp_path: Path, upstream: Upstream, redis: RedisServer) -> None:
        """A gateway that is started later has the others' answers, even if upstream is gone by then."""
        with fleet_of(NAMES[:2], tmp_path, upstream, redis, cache="ttl = 60\nnegative_ttl = 60") as fleet:
            assert fleet["a"].ask("x") == b"x 1\r\n"
            upstream.status = 404
            assert fleet["b"].ask("nobody") == UNKNOWN
            upstream.stop()
            fleet.join("c")
            assert [fleet["c"].ask(key) for key in ("x", "nobody", "y")] == [b"x 1\r\n", UNKNOWN, FAILED]
            assert [(request.key, request.number) for request in upstream.requests] == [("x", 1), ("nobody", 1)]

    @undisturbed
    def test_killed_while_it_asks(self, tmp_path: Path, upstream: Upstream, redis: RedisServer) -> None:
        """When a gateway is killed while it asks, clients of the others get an answer once its claim has expired."""
        with fleet_of(NAMES, tmp_path, upstream, redis, timeout=1) as fleet:
            upstream.shut()
            begun = time.monotonic()
            with fleet["a"].send("x"):
                wait_until(lambda: upstream.requests, "the request of the first gateway")
                fleet.kill("a")
            upstream.gate = open_gate()
            clients = fleet.burst("x", 10)
            assert {receive_all(client) for client in clients} <= {b"x 2\r\n", b"x 3\r\n"}
            requests = [request.at - begun for request in upstream.requests]
            print("requests after", requests)
            assert len(requests) <= 3  # each of the others gives up by itself
            assert requests[1] >= 1 + 1 - TOLERANCE_SECONDS


class TestFailingUpstream:
    """A fleet whose upstream fails."""

    @pytest.mark.parametrize("how", ["500", "refused"])
    @undisturbed
    def test_kept(self, tmp_path: Path, upstream: Upstream, redis: RedisServer, how: str) -> None:
        """All serve cached answers, and together ask upstream once per back-off."""
        with fleet_of(NAMES, tmp_path, upstream, redis, cache="ttl = 1") as fleet, Load(fleet, lambda: "x") as load:
            wait_until(lambda: len(upstream.requests) >= 2, "a refresh")
            if how == "refused":
                upstream.stop()
            else:
                upstream.status = 500
            pass_by(BACK_OFF_SECONDS + 2)
            attempts = sum(fleet.logged(KEPT).values())
            print("attempts in 7 s:", attempts)
            assert 1 <= attempts <= 2
            failed = [request for request in upstream.requests if request.status == 500]
            if how == "500":
                assert attempts <= len(failed) <= attempts + 1  # one may be under way
                assert_apart(failed, BACK_OFF_SECONDS)
            upstream.status = 200
            if how == "refused":
                upstream.start()
            after, newest = len(load.asked), upstream.of("x")[-1].number
            wait_until(lambda: any(int(one.answer.split()[1]) > newest for one in load.asked[after:]), "a newer answer")
            assert_right(upstream, load.asked, 3600)

    @undisturbed
    def test_not_stale_while_refreshed(self, tmp_path: Path, upstream: Upstream, redis: RedisServer) -> None:
        """If upstream says so, an answer that is no longer fresh is served only after a failure, by all gateways."""
        upstream.headers = {"Cache-Control": "max-age=2, stale-while-revalidate=0, stale-if-error=600"}
        with fleet_of(NAMES, tmp_path, upstream, redis, timeout=15) as fleet:
            assert {member.ask("x") for member in fleet} == {b"x 1\r\n"}
            pass_by(2)
            upstream.status, gate = 500, upstream.shut()
            clients = fleet.burst("x", 20)
            fleet.settle()
            gate.set()
            assert {receive_all(client) for client in clients} == {b"x 1\r\n"}
            assert len(upstream.requests) == 2
            assert {member.ask("x") for member in fleet} == {b"x 1\r\n"}
            assert len(upstream.requests) == 2

    @undisturbed
    def test_nothing_kept(self, tmp_path: Path, upstream: Upstream, redis: RedisServer) -> None:
        """Without a cached answer all clients share one failure, and the next client's query asks upstream again."""
        upstream.status = 500
        with fleet_of(NAMES, tmp_path, upstream, redis, timeout=15) as fleet:
            gate = upstream.shut()
            clients = fleet.burst("x", 20)
            fleet.settle()
            gate.set()
            assert {receive_all(client) for client in clients} == {FAILED}
            assert len(upstream.requests) == 1
            upstream.status = 200
            assert fleet["b"].ask("x") == b"x 2\r\n"


class TestFailingRedis:
    """A Redis that fails, of which clients notice nothing."""

    @pytest.mark.parametrize("how", ["frozen", "killed"])
    def test_under_load(self, tmp_path: Path, upstream: Upstream, redis: RedisServer, how: str) -> None:
        """No query is lost, slow or answered wrongly; each gateway logs the outage once, and then shares again."""
        numbers = itertools.count()

        def key() -> str:
            number = next(numbers)
            return f"k{number % 100}" if number % 10 else f"new{number // 30}"

        with fleet_of(NAMES, tmp_path, upstream, redis, cache="ttl = 1\nstale = 2") as fleet:
            with Load(fleet, key) as load:
                pass_by(1)
                # on a machine that is too busy it may have been left out already
                wait_until(lambda: fleet.logged(LEFT_OUT) == fleet.logged(BACK), "that all gateways share")
                usual, before = load.slowest, fleet.logged(LEFT_OUT)
                if how == "frozen":
                    redis.freeze()
                else:
                    redis.kill()
                fleet.wait_logged(LEFT_OUT, before)
                pass_by(2.5)  # they have tried again
                out, back = fleet.logged(LEFT_OUT), fleet.logged(BACK)
                if how == "frozen":
                    redis.thaw()
                else:
                    redis.restart()
                fleet.wait_logged(BACK, back)
                pass_by(1)
            print(f"{how}: slowest before {usual:.3f} s, in all {load.slowest:.3f} s, of {len(load.asked)} queries")
            assert_right(upstream, load.asked, 1 + 2)
            assert load.slowest < SLOWEST_SECONDS
            assert out == {name: count + 1 for name, count in before.items()}
            wait_until(lambda: shares(fleet, upstream), "that all gateways share")

    def test_asked_for_while_frozen(self, tmp_path: Path, upstream: Upstream, redis: RedisServer) -> None:
        """A client that asks once Redis is back does not wait for a claim from while it was frozen."""
        with fleet_of(NAMES[:2], tmp_path, upstream, redis) as fleet:
            redis.freeze()
            assert fleet["a"].ask("x") == b"x 1\r\n"
            redis.thaw()
            wait_until(lambda: fleet["a"].logged(BACK), "that all gateways share")
            begun = time.monotonic()
            assert fleet["b"].ask("x") in (b"x 1\r\n", b"x 2\r\n")
            seconds = time.monotonic() - begun
            print(f"asked for while frozen: {seconds:.3f} s")
            assert seconds < SLOWEST_SECONDS

    def test_put_while_frozen(self, tmp_path: Path, upstream: Upstream, redis: RedisServer) -> None:
        """An answer that is stored while Redis is frozen ages meanwhile, so that a later client gets a new one."""
        with fleet_of(NAMES[:2], tmp_path, upstream, redis, cache="ttl = 2\nstale = 0") as fleet:
            gate = upstream.shut()
            with fleet["a"].send("x") as client:
                wait_until(lambda: upstream.requests, "the request")
                redis.freeze()
                gate.set()
                assert receive_all(client) == b"x 1\r\n"
            pass_by(4)
            redis.thaw()
            assert fleet["b"].ask("x") == b"x 2\r\n"

    @undisturbed
    def test_garbage(self, tmp_path: Path, upstream: Upstream, redis: RedisServer) -> None:
        """Garbage at the gateways' keys in Redis is replaced, and all answers are right."""
        garbage: list[tuple[str | bytes, ...]] = [
            ("SET", b"\x00\xff\x80random\r\n"),
            ("SET", b""),
            ("SET", b"1 60000\n\xff\xfe\x00"),
            ("SET", b"2 60000\n{}"),
            ("SET", b'1 60000\n{"version": 2, "text": "no"}'),
            ("SET", b'1 60000\n{"version": 1, "text": "no"}'),
            ("SET", b"1 60000\n" + b"[" * 100_000),
            ("SET", b"1 " + b"9" * 400 + b"\n{}"),
            ("RPUSH", b"x"),
            ("SADD", b"x"),
            ("HSET", b"x", b"y"),
            ("ZADD", b"1", b"x"),
            ("XADD", b"*", b"x", b"y"),
        ]
        keys = [f"x{number}" for number in range(2 * len(garbage))]
        with fleet_of(NAMES, tmp_path, upstream, redis) as fleet:
            assert [fleet["a"].ask(key) for key in keys] == [f"{key} 1\r\n".encode() for key in keys]
            wait_until(lambda: len(kept_in(redis)) == len(keys), "the answers in Redis")
            used = kept_in(redis)
            for place, (key, (command, *values)) in enumerate(zip(used, garbage * 2, strict=True)):
                for taken in (key, b"fingergw:lock:" + key):
                    redis.command("DEL", taken)
                    redis.command(command, taken, *values)
                if place >= len(garbage):  # as if it were one that a gateway has put
                    redis.command("PEXPIRE", key, 30_000)
            for name, number in (("b", 2), ("a", 1), ("c", 2)):
                assert [fleet[name].ask(key) for key in keys] == [f"{key} {number}\r\n".encode() for key in keys]
                fleet.settle()
            assert len(upstream.requests) == 2 * len(keys)
            assert fleet.logged(LEFT_OUT) == dict.fromkeys(NAMES, 0)

    @pytest.mark.parametrize("how", ["frozen", "killed"])
    def test_first_query_without(self, tmp_path: Path, upstream: Upstream, redis: RedisServer, how: str) -> None:
        """The first query of a gateway that has just been started is answered, whatever Redis does."""
        if how == "frozen":
            redis.freeze()
        else:
            redis.kill()
        with ExitStack() as stack:
            fleet = Fleet(stack, tmp_path, upstream, redis)
            fleet.start("a")
            assert fleet["a"].ask("x") == b"x 1\r\n"
            fleet.stop()

    def test_comes_later(self, tmp_path: Path, upstream: Upstream, redis: RedisServer) -> None:
        """Without Redis gateways start and answer; when it starts, they share."""
        redis.kill()
        with ExitStack() as stack:
            fleet = Fleet(stack, tmp_path, upstream, redis)
            fleet.start(*NAMES)
            fleet.wait_logged(LEFT_OUT, dict.fromkeys(NAMES, 0))
            assert [member.ask("x") for member in fleet] == [b"x 1\r\n", b"x 2\r\n", b"x 3\r\n"]
            assert fleet.logged(LEFT_OUT) == dict.fromkeys(NAMES, 1)
            redis.restart()
            fleet.wait_logged(BACK, dict.fromkeys(NAMES, 0))
            wait_until(lambda: shares(fleet, upstream), "that all gateways share")
            fleet.stop()


class TestPassword:
    """A Redis that asks for a password."""

    def test_right(self, tmp_path: Path, upstream: Upstream) -> None:
        """With the password gateways share, and no log has it."""
        (tmp_path / "password").write_text("correct-horse\n")
        (tmp_path / "password").chmod(0o600)
        store = f'password_file = "{tmp_path}/password"'
        with (
            RedisServer(password="correct-horse") as redis,
            fleet_of(NAMES, tmp_path, upstream, redis, store=store) as fleet,
        ):
            wait_until(lambda: shares(fleet, upstream), "that all gateways share")
            assert "horse" not in fleet.logs

    @pytest.mark.parametrize("password", ["battery-staple", None])
    def test_wrong(self, tmp_path: Path, upstream: Upstream, password: str | None) -> None:
        """With a wrong password, or none, Redis is left out, queries are answered, and no log has a password."""
        store = ""
        if password is not None:
            (tmp_path / "password").write_text(password)
            (tmp_path / "password").chmod(0o600)
            store = f'password_file = "{tmp_path}/password"'
        with RedisServer(password="correct-horse") as redis, ExitStack() as stack:
            fleet = Fleet(stack, tmp_path, upstream, redis, store=store)
            fleet.start("a")
            fleet.wait_logged(LEFT_OUT, {"a": 0})
            assert fleet["a"].ask("x") == b"x 1\r\n"
            fleet.stop()
            assert not re.search("horse|staple", fleet.logs), fleet.logs
