"""Several gateways, as real processes, that share one real Redis; a real upstream; and many clients."""

from __future__ import annotations

import itertools
import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from fingergw.cache.cached_backend import RECHECK_SECONDS
from tests.support.gateway_fleet import (
    BACK,
    FAILED,
    KEPT,
    NAMES,
    SLOWEST_SECONDS,
    TOLERANCE_SECONDS,
    UNAVAILABLE,
    UNKNOWN,
    Fleet,
    Load,
    Upstream,
    assert_apart,
    assert_right,
    fleet_of,
    kept_in,
    open_gate,
    pass_by,
    shares,
    undisturbed,
)
from tests.support.redis_server import RedisServer, needs_redis
from tests.support.sockets import receive_all
from tests.support.waiting import wait_until

pytestmark = needs_redis


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

    @pytest.mark.parametrize("said", ["no-store", "no-cache", "max-age=0, must-revalidate", "max-age=0"])
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


class TestOldAnswers:
    """A fleet whose old answers are for failures: ``stale_while_revalidate = 0``."""

    @pytest.mark.parametrize("ttl", [0, 1])
    @undisturbed
    def test_upstream_is_well(self, tmp_path: Path, upstream: Upstream, redis: RedisServer, ttl: float) -> None:
        """After ttl all clients of all gateways get a new answer, although many ask at once."""
        newest = 0
        with fleet_of(NAMES[:2], tmp_path, upstream, redis, cache=f"ttl = {ttl}\nstale_while_revalidate = 0") as fleet:
            for _ in range(3):
                answers = [receive_all(client) for client in fleet.burst("x", 20)]
                numbers = [int(answer.split()[1]) for answer in answers]
                assert min(numbers) > newest
                newest = max(numbers)
                pass_by(ttl + TOLERANCE_SECONDS)

    @pytest.mark.parametrize("how", ["500", "refused", "hangs"])
    @undisturbed
    def test_upstream_fails(self, tmp_path: Path, upstream: Upstream, redis: RedisServer, how: str) -> None:
        """If upstream fails, or takes longer than its timeout, all get the old answer."""
        cache = "ttl = 1\nstale_while_revalidate = 0"
        with fleet_of(NAMES[:2], tmp_path, upstream, redis, cache=cache, timeout=1) as fleet:
            assert {member.ask("x") for member in fleet} == {b"x 1\r\n"}
            pass_by(1 + TOLERANCE_SECONDS)
            if how == "500":
                upstream.status = 500
            elif how == "refused":
                upstream.stop()
            else:
                upstream.shut()
            begun = time.monotonic()
            assert {receive_all(client) for client in fleet.burst("x", 20)} == {b"x 1\r\n"}
            assert how != "hangs" or time.monotonic() - begun >= 1


class TestFailingUpstream:
    """A fleet whose upstream fails."""

    @pytest.mark.parametrize("how", ["500", "refused"])
    @undisturbed
    def test_kept(self, tmp_path: Path, upstream: Upstream, redis: RedisServer, how: str) -> None:
        """All serve cached answers, and newer ones when upstream is well again, also if breakers are open by then."""
        with fleet_of(NAMES, tmp_path, upstream, redis, cache="ttl = 1") as fleet, Load(fleet, lambda: "x") as load:
            wait_until(lambda: len(upstream.requests) >= 2, "a refresh")
            if how == "refused":
                upstream.stop()
                fleet.wait_logged(" is not asked for 5 s", dict.fromkeys(NAMES, 0))
            else:
                upstream.status = 500
            fleet.wait_logged(KEPT, dict.fromkeys(NAMES, 0))
            upstream.status = 200
            if how == "refused":
                upstream.start()
            after, newest = len(load.asked), upstream.of("x")[-1].number
            wait_until(lambda: any(int(one.answer.split()[1]) > newest for one in load.asked[after:]), "a newer answer")
            assert_right(upstream, load.asked, 3600)

    @undisturbed
    def test_refreshes(self, tmp_path: Path, upstream: Upstream, redis: RedisServer) -> None:
        """Each gateway for itself tries to refresh a stale answer, but no more often than once a second."""
        with fleet_of(NAMES, tmp_path, upstream, redis, cache="ttl = 1") as fleet:
            assert fleet["a"].ask("x") == b"x 1\r\n"
            upstream.status = 500
            with Load(fleet, lambda: "x"):
                fleet.wait_logged(KEPT, dict.fromkeys(NAMES, 0))
                pass_by(2 * RECHECK_SECONDS)
            failed = upstream.requests[1:]
            print("requests that failed:", len(failed))
            assert len(failed) > len(NAMES)
            for place in range(len(NAMES)):  # of any four two are of the same gateway
                assert_apart(failed[place :: len(NAMES)], RECHECK_SECONDS)

    @undisturbed
    def test_not_stale_while_refreshed(self, tmp_path: Path, upstream: Upstream, redis: RedisServer) -> None:
        """If upstream says so, an answer that is no longer fresh is served only after a failure, which all share."""
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
            assert [member.ask("x") for member in fleet] == [b"x 1\r\n"] * 3
            # Each asks for itself, unless it comes while the one before it has not told Redis yet that it has failed.
            assert 3 <= len(upstream.requests) <= 5

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
                # on a machine that is too busy it may have been unavailable already
                wait_until(lambda: fleet.logged(UNAVAILABLE) == fleet.logged(BACK), "that all gateways share")
                usual, before = load.slowest, fleet.logged(UNAVAILABLE)
                if how == "frozen":
                    redis.freeze()
                else:
                    redis.kill()
                fleet.wait_logged(UNAVAILABLE, before)
                pass_by(2.5)  # they have tried again
                out, back = fleet.logged(UNAVAILABLE), fleet.logged(BACK)
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
            assert fleet.logged(UNAVAILABLE) == dict.fromkeys(NAMES, 0)

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
            fleet.wait_logged(UNAVAILABLE, dict.fromkeys(NAMES, 0))
            assert [member.ask("x") for member in fleet] == [b"x 1\r\n", b"x 2\r\n", b"x 3\r\n"]
            assert fleet.logged(UNAVAILABLE) == dict.fromkeys(NAMES, 1)
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

    @pytest.mark.parametrize("password", ["battery-staple", None], ids=["wrong", "none"])  # paths are in the log
    def test_wrong(self, tmp_path: Path, upstream: Upstream, password: str | None) -> None:
        """With another password, or none, Redis is not used, all is answered, and no log has a password."""
        store = ""
        if password is not None:
            (tmp_path / "password").write_text(password)
            (tmp_path / "password").chmod(0o600)
            store = f'password_file = "{tmp_path}/password"'
        with RedisServer(password="correct-horse") as redis, ExitStack() as stack:
            fleet = Fleet(stack, tmp_path, upstream, redis, store=store)
            fleet.start("a")
            fleet.wait_logged(UNAVAILABLE, {"a": 0})
            assert fleet["a"].ask("x") == b"x 1\r\n"
            fleet.stop()
            assert not re.search("horse|staple", fleet.logs), fleet.logs
