"""The store in Redis, with a real Redis, and with servers that only look like one."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final
from unittest import mock

import pytest
import trustme
import txredisapi
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import PrivateCertificate
from twisted.internet.task import LoopingCall, deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from fingergw.cache import redis
from fingergw.cache.redis import RedisStore
from fingergw.cache.store import MARK_SECONDS, Claim, Found, Mark, Store
from fingergw.net.trust import authorities, over_tls
from tests.support.cache_bench import NOBODY
from tests.support.redis_server import RedisError, RedisServer, needs_redis
from tests.support.sockets import free_port
from tests.support.waiting import DEADLINE_SECONDS, reactor, until

KEY = "fingergw:key"
LOCK = f"fingergw:lock:{KEY}"
OTHER = "fingergw:other"
MAX_VALUE_BYTES = 1000
LONG = 60.0
GRANTED: Final[Claim] = "granted"
HELD: Final[Claim] = "held"
FAILED: Final[Claim] = "failed"


def sha1(value: bytes) -> str:
    """Return the digest by which a store knows what an asker has."""
    return hashlib.sha1(value).hexdigest()


def started(work: Awaitable[Any]) -> Deferred[Any]:
    """Start what would wait for its result."""
    return Deferred.fromCoroutine(work)  # type: ignore[arg-type]  # all of these are coroutines


async def claim(store: Store, key: str = KEY, *, known: str = "", waited: bool = False) -> Found | Claim:
    """Claim with what most tests leave alone."""
    return await store.claim(key, known, LONG, waited)


async def found(store: Store, key: str = KEY, *, known: str = "") -> bytes:
    """Return the value that a claim finds."""
    result = await claim(store, key, known=known)
    assert isinstance(result, Found), result
    return result.value


class StoreCase(TestCase):
    """Tests with stores that are closed at their end."""

    timeout = 60

    def setUp(self) -> None:
        """Let marks outlast a test."""
        self.patch(redis, "MARK_SECONDS", dict.fromkeys(MARK_SECONDS, LONG))

    def endpoint(self, port: int) -> IStreamClientEndpoint:
        """Return an endpoint to a server of the test."""
        return TCP4ClientEndpoint(reactor, "127.0.0.1", port)

    def store(
        self, port: int, *, database: int = 0, username: str | None = None, password: str | None = None
    ) -> RedisStore:
        """Return a store that is not open yet."""
        store = RedisStore(self.endpoint(port), database, username, password, MAX_VALUE_BYTES, time.monotonic)
        self.addCleanup(store.close)
        return store


@needs_redis
class RedisCase(StoreCase):
    """Tests with a Redis of their own."""

    def server(self, *arguments: str, password: str = "") -> RedisServer:
        """Start a Redis, and have it ended."""
        server = RedisServer(*arguments, password=password)
        self.addCleanup(server.stop)
        return server

    async def opened(self, server: RedisServer, **settings: Any) -> RedisStore:
        """Return an open store."""
        store = self.store(server.port, **settings)
        await store.open()
        return store

    async def several(self, number: int) -> tuple[RedisServer, list[RedisStore]]:
        """Start a Redis, and open several stores in it."""
        server = self.server()
        return server, [await self.opened(server) for _ in range(number)]

    async def alone(self) -> tuple[RedisServer, RedisStore]:
        """Start a Redis, and open a store in it."""
        server, (store,) = await self.several(1)
        return server, store

    async def granted_in_time(self, store: Store, *, known: str = "", waited: bool = False) -> None:
        """Claim until it is granted; fail when that does not come."""
        ends = time.monotonic() + DEADLINE_SECONDS
        while await claim(store, known=known, waited=waited) != GRANTED:
            assert time.monotonic() < ends, "the claim did not come"
            await deferLater(reactor, 0.01)


class ValueTests(RedisCase):
    """What is kept."""

    async def test_found(self) -> None:
        """What one has put is found by all, byte for byte, also that a name is missing."""
        _, (one, other) = await self.several(2)
        values = [b"up\r\nsince Monday", b"", bytes(range(256)), b"12345", b"$3\r\nabc\r\n", b"x" * MAX_VALUE_BYTES]
        for value in values:
            for missing in (False, True):
                await one.put(KEY, value, LONG, missing, NOBODY)
                for store in (one, other):
                    assert await found(store) == value
                await one.drop(KEY)
                assert await claim(one) == GRANTED

    async def test_known(self) -> None:
        """What the asker has already is not found again; it may claim."""
        _, (one, other) = await self.several(2)
        await one.put(KEY, b"old", LONG, missing=False, owner=NOBODY)
        assert await claim(other, known=sha1(b"old")) == GRANTED
        assert await claim(one, known=sha1(b"old")) == HELD
        assert await found(one, known=sha1(b"older")) == b"old"

    async def test_found_however_the_claim_is(self) -> None:
        """A value is found also while another asks upstream, or has failed to."""
        _, (one, other) = await self.several(2)
        await one.put(KEY, b"old", LONG, missing=False, owner=NOBODY)
        assert await claim(one, known=sha1(b"old")) == GRANTED
        assert await found(other) == b"old"
        await one.release(KEY, "failed")
        assert await found(other) == b"old"

    async def test_age(self) -> None:
        """A value's age grows, and is told in seconds; a new value is young again."""
        server, store = await self.alone()
        await store.put(KEY, b"x", LONG, missing=False, owner=NOBODY)
        first = await claim(store)
        assert isinstance(first, Found)
        assert 0 <= first.age < LONG / 2
        assert server.command("PTTL", KEY) <= LONG * 1000
        await until(lambda: server.command("PTTL", KEY) < LONG * 1000 - 50)
        second = await claim(store)
        assert isinstance(second, Found)
        assert 0.05 <= second.age < LONG / 2
        server.command("PEXPIRE", KEY, 20_000)
        third = await claim(store)
        assert isinstance(third, Found)
        assert 40 <= third.age < 50
        await store.put(KEY, b"y", LONG, missing=False, owner=NOBODY)
        fourth = await claim(store)
        assert isinstance(fourth, Found)
        assert fourth.age < 40

    async def test_no_age_below_zero(self) -> None:
        """A value whose time somebody has prolonged is new, not younger than that."""
        server, store = await self.alone()
        await store.put(KEY, b"x", LONG, missing=False, owner=NOBODY)
        server.command("PEXPIRE", KEY, 2 * round(LONG) * 1000)
        assert await claim(store) == Found(b"x", 0)

    async def test_expires(self) -> None:
        """A value is not found when its time is over, however short that is."""
        _, store = await self.alone()
        for seconds in (0.1, 0.00001):
            await store.put(KEY, b"x", seconds, missing=False, owner=NOBODY)
            await self.granted_in_time(store)

    async def test_format(self) -> None:
        """Values are kept in a way that other versions read, and with an end."""
        server, store = await self.alone()
        await store.put(KEY, b"x", 3630.0, missing=False, owner=NOBODY)
        assert server.command("GET", KEY) == b"1 3630000\nx"
        assert 0 < server.command("PTTL", KEY) <= 3_630_000

    async def test_database(self) -> None:
        """A store keeps all in its own database."""
        server = self.server()
        zero, three = await self.opened(server), await self.opened(server, database=3)
        await three.put(KEY, b"x", LONG, missing=False, owner=NOBODY)
        assert await claim(zero) == GRANTED
        assert await found(three) == b"x"
        with pytest.raises(txredisapi.ResponseError, match="DB index"):
            await self.store(server.port, database=1000).open()

    async def test_many_at_once(self) -> None:
        """Of many calls at once, each has its own reply."""
        _, store = await self.alone()
        values = {f"fingergw:{number}": b"%d" % number * 200 for number in range(300)}
        await gatherResults(
            [started(store.put(key, value, LONG, missing=False, owner=NOBODY)) for key, value in values.items()]
        )
        results = await gatherResults([started(found(store, key)) for key in values])
        assert results == list(values.values())


class ClaimTests(RedisCase):
    """Who may ask upstream."""

    async def test_one_of_many(self) -> None:
        """Of several that claim at once, exactly one may ask, each time."""
        _, stores = await self.several(8)
        for number in range(20):
            results = await gatherResults([started(claim(store, f"{KEY}{number}")) for store in stores])
            assert sorted(results) == ["granted"] + ["held"] * 7

    async def test_put_frees(self) -> None:
        """A put gives the claim up, and those that wait find the value."""
        server, (one, other) = await self.several(2)
        assert await claim(one) == GRANTED
        assert await claim(other) == HELD
        await one.put(KEY, b"new", LONG, missing=False, owner=NOBODY)
        assert await found(other) == b"new"
        assert server.command("EXISTS", LOCK) == 0
        assert await claim(other, known=sha1(b"new")) == GRANTED

    async def test_not_shared(self) -> None:
        """Where a drop or a put says so, nobody waits for anybody, until a put says otherwise, or the time is over."""
        server, (one, other) = await self.several(2)
        for giving_up in (one.drop(KEY, "not shared"), one.put(KEY, b"x", LONG, False, NOBODY, "not shared")):
            assert await claim(one, known=sha1(b"x")) == GRANTED
            await giving_up
            for store in (one, other, one):
                assert await claim(store, known=sha1(b"x")) == "not shared"
            await other.put(KEY, b"x", LONG, missing=False, owner=NOBODY)
            assert server.command("EXISTS", LOCK) == 0

    async def test_names_that_look_like_locks(self) -> None:
        """No key, whoever has chosen its end, is another key's lock."""
        _, (one, other) = await self.several(2)
        for key in (f"{KEY}:lock", f"{KEY}:fingergw:lock:{KEY}"):
            assert await claim(one, key) == GRANTED
            await one.put(key, b"value", LONG, missing=False, owner=NOBODY)
            assert await claim(other) == GRANTED
            await other.drop(KEY)

    async def test_clocks_that_part(self) -> None:
        """However far Redis's clock and one's own come apart, a claim is one: it is Redis's that is read again."""
        _, store = await self.alone()
        ahead = store.ahead_ms
        for number, parted in enumerate((-86_400_000, -1000, 1000, 86_400_000)):
            store.ahead_ms = ahead + parted
            assert await claim(store, f"{KEY}{number}") == GRANTED
            assert abs(store.ahead_ms - ahead) < 500

    async def test_a_put_that_comes_late(self) -> None:
        """A value that Redis comes to long after it was sent is as old as it is, and is not kept for longer."""
        server, store = await self.alone()
        store.ahead_ms -= 4000  # as if all had been sent so long ago
        await store.put(KEY, b"old", 10.0, missing=False, owner=NOBODY)
        await store.put(OTHER, b"too old", 3.0, missing=False, owner=NOBODY)
        late = await claim(store)
        assert isinstance(late, Found)
        assert 4.0 <= late.age < 10.0
        assert server.command("PTTL", KEY) <= 6000
        assert server.command("EXISTS", OTHER) == 0

    async def test_a_value_that_is_too_long(self) -> None:
        """What nobody would find is not kept, and what was there goes; the claim is given up."""
        server, store = await self.alone()
        await store.put(KEY, b"short", LONG, missing=False, owner=NOBODY)
        assert await claim(store, known=sha1(b"short")) == GRANTED
        await store.put(KEY, b"x" * (MAX_VALUE_BYTES + 1), LONG, missing=False, owner=NOBODY)
        assert server.command("KEYS", f"{KEY}*") == []

    async def test_drop_frees(self) -> None:
        """A drop gives the claim up, and there is nothing left to find."""
        server, (one, other) = await self.several(2)
        await one.put(KEY, b"old", LONG, missing=False, owner=NOBODY)
        assert await claim(one, known=sha1(b"old")) == GRANTED
        await one.drop(KEY)
        assert server.command("KEYS", f"{KEY}*") == []
        assert await claim(other) == GRANTED

    async def test_release(self) -> None:
        """What is released without a mark is free, waited for or not."""
        _, (one, other) = await self.several(2)
        for waited in (False, True):
            assert await claim(one) == GRANTED
            assert await claim(other, waited=waited) == HELD
            await one.release(KEY, "")
            assert await claim(other, waited=waited) == GRANTED
            await other.release(KEY, "")

    async def test_failed(self) -> None:
        """Those that have waited learn that the asker has failed; the next that comes asks again."""
        _, (one, other, third) = await self.several(3)
        assert await claim(one) == GRANTED
        await one.release(KEY, "failed")
        assert await claim(other, waited=True) == FAILED
        assert await claim(one, waited=True) == FAILED
        assert await claim(third, waited=False) == GRANTED
        assert await claim(other, waited=True) == HELD

    async def test_marks_end(self) -> None:
        """A mark is gone after its time."""
        self.patch(redis, "MARK_SECONDS", dict.fromkeys(MARK_SECONDS, 0.1))
        _, (one, other) = await self.several(2)
        marks: tuple[Mark, ...] = ("failed", "not shared")
        for mark in marks:
            assert await claim(one) == GRANTED
            await one.release(KEY, mark)
            await self.granted_in_time(other, waited=True)
            await other.release(KEY, "")

    async def test_holder_vanishes(self) -> None:
        """A claim whose holder is gone ends by itself."""
        _, (one, other) = await self.several(2)
        assert await one.claim(KEY, "", 0.3, waited=False) == GRANTED
        await one.close()
        await self.granted_in_time(other, waited=True)

    async def test_own(self) -> None:
        """A claim that the same store has left over is granted again, for its whole time."""
        server, (one, other) = await self.several(2)
        assert await one.claim(KEY, "", LONG / 2, waited=False) == GRANTED
        assert await one.claim(KEY, "", LONG, waited=True) == GRANTED
        assert server.command("PTTL", LOCK) > LONG / 2 * 1000
        assert await claim(other) == HELD

    async def test_overtaken(self) -> None:
        """Who has lost its claim to another leaves the other's alone, but may still put what it has."""
        server, (slow, other) = await self.several(2)
        marks: tuple[Mark, ...] = ("", "failed", "not shared")
        late: list[Callable[[], Awaitable[None]]] = [
            *(lambda mark=mark: slow.release(KEY, mark) for mark in marks),
            lambda: slow.drop(KEY),
            lambda: slow.put(KEY, b"late", LONG, missing=False, owner=NOBODY),
        ]
        assert await claim(slow) == GRANTED
        server.command("DEL", LOCK)  # as when its time is over
        assert await claim(other) == GRANTED
        held = server.command("GET", LOCK)
        for call in late:
            await call()
            assert server.command("GET", LOCK) == held
            assert await claim(slow, known=sha1(b"late")) == HELD
        assert await found(other) == b"late"

    async def test_nothing_to_release(self) -> None:
        """Who has lost its claim leaves no mark in its place."""
        server, store = await self.alone()
        assert await claim(store) == GRANTED
        server.command("DEL", LOCK)
        await store.release(KEY, "failed")
        assert server.command("EXISTS", LOCK) == 0


class GarbageTests(RedisCase):
    """What others have left in Redis."""

    async def test_values(self) -> None:
        """What is no value of a store's is as if it were not there, and is replaced."""
        server, store = await self.alone()
        garbage: list[tuple[str | bytes, ...]] = [
            ("RPUSH", KEY, "1 60000\nx"),
            ("HSET", KEY, "1 60000\nx", "x"),
            ("XADD", KEY, "*", "a", "b"),
            *(
                ("SET", KEY, value)
                for value in (b"", b"x", b"1", b"1 60000", b"1 \nx", b"1 -5\nx", b"1 6e4\nx", b"2 60000\nx", b"\n")
            ),
            ("SET", KEY, b" 1 60000\nx"),
            ("SET", KEY, b"1 " + b"9" * 16 + b"\nx"),
            ("SET", KEY, b"\x00\xff\r\n%"),
        ]
        for command in garbage:
            server.command("FLUSHALL")
            server.command(*command)
            server.command("PEXPIRE", KEY, 30_000)
            assert await claim(store) == GRANTED, command
            await store.put(KEY, b"new", LONG, missing=False, owner=NOBODY)
            assert await found(store) == b"new", command

    async def test_value_without_an_end(self) -> None:
        """A value that would stay for ever is as if it were not there."""
        server, store = await self.alone()
        server.command("SET", KEY, b"1 60000\nx")
        assert await claim(store) == GRANTED
        server.command("PEXPIRE", KEY, 30_000)
        assert await found(store) == b"x"

    async def test_too_long(self) -> None:
        """A value that is longer than it may be is as if it were not there, and is not even sent."""
        server, store = await self.alone()
        header = b"1 60000\n"
        server.command("SET", KEY, header + b"x" * MAX_VALUE_BYTES, "PX", 60_000)
        assert await found(store) == b"x" * MAX_VALUE_BYTES
        for length in (MAX_VALUE_BYTES + 1, 5_000_000):
            server.command("FLUSHALL")
            server.command("SET", KEY, header + b"x" * length, "PX", 60_000)
            before = server.info("total_net_output_bytes")
            assert await claim(store) == GRANTED
            assert server.info("total_net_output_bytes") - before < 100_000

    async def test_locks(self) -> None:
        """What is no claim is as if it were not there: it would else hold for ever."""
        server, store = await self.alone()
        garbage = [
            [("SET", LOCK, "another")],
            [("SET", LOCK, "failed")],
            [("SET", LOCK, "not shared")],
            [("RPUSH", LOCK, "x")],
            [("RPUSH", LOCK, "x"), ("PEXPIRE", LOCK, "30000")],
            [("SADD", LOCK, "x"), ("PEXPIRE", LOCK, "30000")],
        ]
        for commands in garbage:
            server.command("FLUSHALL")
            for command in commands:
                server.command(*command)
            assert await claim(store, waited=True) == GRANTED, commands
            assert server.command("PTTL", LOCK) > 0
            assert await claim(store) == GRANTED, commands

    async def test_giving_up_a_lock_that_is_garbage(self) -> None:
        """What is in the place of the claim that is given up hinders nothing."""
        server, store = await self.alone()
        server.command("RPUSH", LOCK, "x")
        await store.release(KEY, "failed")
        await store.release(KEY, "")
        await store.put(KEY, b"x", LONG, missing=False, owner=NOBODY)
        assert await found(store) == b"x"
        await store.drop(KEY)
        assert server.command("TYPE", LOCK) == b"list"

    async def test_unknown_locks_hold(self) -> None:
        """Any other text that has an end holds, as a later version's may."""
        server, store = await self.alone()
        for text in (b"", b"\xff", b"Failed", b"failed ", b"x" * 5_000_000):
            server.command("SET", LOCK, text, "PX", 30_000)
            before = server.info("total_net_output_bytes")
            assert await claim(store, waited=True) == HELD
            assert server.info("total_net_output_bytes") - before < 100_000


class AuthTests(RedisCase):
    """Passwords, right and wrong."""

    SECRET = "hunter2-is-secret"

    async def refused(self, server: RedisServer, message: str, **settings: Any) -> None:
        """Check that a store does not open, and does not tell the password."""
        store = self.store(server.port, **settings)
        with pytest.raises(txredisapi.ResponseError, match=message) as refusal:
            await store.open()
        for text in (str(refusal.value), repr(refusal.value), repr(store), str(refusal.value.__cause__)):
            assert not settings.get("password") or settings["password"] not in text
        with pytest.raises(txredisapi.ConnectionError):
            await claim(store)
        await until(lambda: server.info("connected_clients") == 1, "its disconnection")

    async def test_password(self) -> None:
        """With a password for all, a store opens by that one only."""
        server = self.server(password=self.SECRET)
        store = await self.opened(server, password=self.SECRET)
        assert await claim(store) == GRANTED
        await store.close()
        await self.refused(server, "WRONGPASS", password=f"{self.SECRET}!")
        await self.refused(server, "NOAUTH", password=None)
        await self.refused(server, "WRONGPASS", password="")

    async def test_password_that_is_redis_own_word(self) -> None:
        """A password that is in what Redis says hinders nothing."""
        server = self.server(password="SCRIPT")
        store = await self.opened(server, password="SCRIPT")
        server.command("SCRIPT", "FLUSH")
        assert await claim(store) == GRANTED

    async def test_user(self) -> None:
        """With a user, a store opens by its name and password only, and needs no more than its own keys."""
        server = self.server()
        server.command("ACL", "SETUSER", "gateway", "on", f">{self.SECRET}", "~fingergw:*", "-@all", "+@scripting")
        server.command("ACL", "SETUSER", "gateway", "+@string", "+@keyspace", "+select", "+time")
        store = await self.opened(server, username="gateway", password=self.SECRET, database=1)
        await store.put(KEY, b"x", LONG, missing=False, owner=NOBODY)
        assert await found(store) == b"x"
        await store.close()
        await self.refused(server, "WRONGPASS", username="gateway", password=f"{self.SECRET}!")
        await self.refused(server, "WRONGPASS", username="nobody", password=self.SECRET)
        for less in ("-eval", "-set", "resetkeys"):
            server.command("ACL", "SETUSER", "gateway", less)
            await self.refused(server, "NOPERM|permission", username="gateway", password=self.SECRET)

    async def test_no_password_is_asked_for(self) -> None:
        """A password that Redis does not ask for is refused, and not repeated, long or not."""
        await self.refused(self.server(), "without any password", password=self.SECRET)
        server = self.server("--rename-command", "AUTH", "")
        for password in (self.SECRET, self.SECRET * 20, f"{self.SECRET}\r\n\xe9"):
            await self.refused(server, "unknown command", password=password)
            with pytest.raises(txredisapi.ResponseError) as refusal:
                await self.store(server.port, username="x", password=password).open()
            assert self.SECRET not in str(refusal.value)


class TroubleTests(RedisCase):
    """A Redis that does not work as it should."""

    async def test_not_open(self) -> None:
        """What is not open fails, and may be closed any number of times."""
        server = self.server()
        store = self.store(server.port)
        for _ in range(2):
            await store.close()
            for call in (
                claim(store),
                store.put(KEY, b"", LONG, False, NOBODY),
                store.drop(KEY),
                store.release(KEY, ""),
            ):
                with pytest.raises(txredisapi.ConnectionError, match="not open"):
                    await call
        await store.open()
        assert await claim(store) == GRANTED
        connection = store.connection
        assert connection is not None
        await store.close()
        assert connection.lost.called
        with pytest.raises(txredisapi.ConnectionError, match="not open"):
            await claim(store)
        await until(lambda: server.info("connected_clients") == 1, "its disconnection")

    async def test_open_twice(self) -> None:
        """A store that is opened again leaves no connection behind."""
        server, store = await self.alone()
        await store.open()
        assert await claim(store) == GRANTED
        await until(lambda: server.info("connected_clients") == 2, "the end of the first connection")

    async def test_nothing_there(self) -> None:
        """Where nothing listens, a store does not open."""
        store = self.store(free_port())
        with pytest.raises(Refused):
            await store.open()

    async def test_replica(self) -> None:
        """A Redis that has become a replica takes nothing, and does not open."""
        server, store = await self.alone()
        server.command("REPLICAOF", "127.0.0.1", "1")
        for call in (
            store.put(KEY, b"x", LONG, missing=False, owner=NOBODY),
            claim(store),
            self.store(server.port).open(),
        ):
            with pytest.raises(txredisapi.ResponseError, match="READONLY"):
                await call
        server.command("REPLICAOF", "NO", "ONE")
        assert await claim(store) == GRANTED

    async def test_full(self) -> None:
        """A Redis that is full takes nothing, and does not open; what is there is still found."""
        server, store = await self.alone()
        await store.put(KEY, b"x", LONG, missing=False, owner=NOBODY)
        server.command("CONFIG", "SET", "maxmemory-policy", "noeviction")
        server.command("CONFIG", "SET", "maxmemory", 1)
        for call in (
            store.put(OTHER, b"x", LONG, missing=False, owner=NOBODY),
            claim(store, OTHER),
            self.store(server.port).open(),
        ):
            with pytest.raises(txredisapi.ResponseError, match="OOM"):
                await call
        assert await found(store) == b"x"
        server.command("CONFIG", "SET", "maxmemory", 0)
        assert await claim(store, OTHER) == GRANTED

    async def test_too_many_clients(self) -> None:
        """A Redis that takes no more connections says so without being asked, and the store does not open."""
        server = self.server("--maxclients", "2")
        stores = [self.store(server.port) for _ in range(3)]
        await stores[0].open()
        await stores[1].open()
        with pytest.raises(txredisapi.RedisError):
            await stores[2].open()

    async def test_frozen(self) -> None:
        """A frozen Redis holds neither a call nor an opening once it is closed; thawed, it is opened again."""
        server, store = await self.alone()
        assert await claim(store) == GRANTED
        server.freeze()
        calls = [started(claim(store)), started(store.put(KEY, b"x" * 10_000_000, LONG, missing=False, owner=NOBODY))]
        opening = started(self.store(server.port).open())
        before = time.monotonic()
        await store.close()
        assert time.monotonic() - before < 5
        for call in calls:
            with pytest.raises(txredisapi.ConnectionError, match="closed"):
                await call
        opening.cancel()
        with pytest.raises((CancelledError, ConnectingCancelledError)):
            await opening
        reopening = started(store.open())
        assert not reopening.called
        server.thaw()
        await reopening
        assert await claim(store) == GRANTED
        await until(lambda: server.info("connected_clients") == 2, "the end of the cancelled opening")

    async def test_killed(self) -> None:
        """When Redis dies, what waits fails, and what comes after; restarted, it is opened again."""
        server, store = await self.alone()
        await store.put(KEY, b"x", LONG, missing=False, owner=NOBODY)
        server.freeze()
        calls = [started(claim(store)), started(store.drop(OTHER))]
        server.kill()
        for call in calls:
            with pytest.raises(txredisapi.ConnectionError):
                await call
        with pytest.raises(txredisapi.ConnectionError):
            await claim(store)
        with pytest.raises(Refused):
            await store.open()
        server.restart()
        await store.open()
        assert await claim(store) == GRANTED
        await store.put(KEY, b"x", LONG, missing=False, owner=NOBODY)
        assert await found(store) == b"x"

    async def test_killed_while_idle(self) -> None:
        """When Redis dies while nothing is asked, the next call fails at once."""
        server, store = await self.alone()
        server.kill()
        connection = store.connection
        assert connection is not None
        await until(lambda: connection.lost.called)
        with pytest.raises(txredisapi.ConnectionError):
            await claim(store)

    async def test_scripts_forgotten(self) -> None:
        """A Redis that has forgotten its scripts is told them again, also by several calls at once."""
        server, store = await self.alone()
        for _ in range(2):
            server.command("SCRIPT", "FLUSH")
            await gatherResults(
                [
                    started(store.put(f"fingergw:{number}", b"%d" % number, LONG, missing=False, owner=NOBODY))
                    for number in range(9)
                ]
            )
            results = await gatherResults([started(found(store, f"fingergw:{number}")) for number in range(9)])
            assert results == [b"%d" % number for number in range(9)]

    async def test_busy(self) -> None:
        """While a script of somebody else's holds Redis, calls fail; after it, they do not."""
        server = self.server("--lua-time-limit", "1")
        store, other = await self.opened(server), await self.opened(server)
        assert other.connection is not None
        running = other.connection.eval("while true do end")
        await until(lambda: self.busy(server), "the script")
        with pytest.raises(txredisapi.ResponseError, match="BUSY"):
            await claim(store)
        server.command("SCRIPT", "KILL")
        with pytest.raises(txredisapi.ResponseError):
            await running
        assert await claim(store) == GRANTED

    @staticmethod
    def busy(server: RedisServer) -> bool:
        """Tell whether a script holds Redis."""
        try:
            server.command("PING")
        except RedisError as error:
            return "BUSY" in str(error)
        return False


class CancelTests(RedisCase):
    """Clients that leave while Redis is asked."""

    async def test_replies_keep_in_step(self) -> None:
        """What is cancelled has its reply thrown away; all others have their own."""
        server, store = await self.alone()
        for number in range(6):
            await store.put(f"fingergw:{number}", b"%d" % number, LONG, missing=False, owner=NOBODY)
        for flush in (False, True):
            if flush:
                server.command("SCRIPT", "FLUSH")
            server.freeze()
            calls = [started(found(store, f"fingergw:{number}")) for number in range(6)]
            for cancelled in (calls[0], calls[3], calls[5]):
                cancelled.cancel()
                with pytest.raises(CancelledError):
                    await cancelled
            later = started(found(store, "fingergw:0"))
            server.thaw()
            assert [await calls[number] for number in (1, 2, 4)] == [b"1", b"2", b"4"]
            assert await later == b"0"

    async def test_cancelled_error(self) -> None:
        """What is cancelled may fail later, unheard."""
        server, store = await self.alone()
        server.command("CONFIG", "SET", "maxmemory", 1)
        server.freeze()
        call = started(claim(store))
        call.cancel()
        with pytest.raises(CancelledError):
            await call
        after = started(store.drop(KEY))
        server.thaw()
        await after

    async def test_cancelled_then_closed(self) -> None:
        """What is cancelled is not told of the connection's end."""
        server, store = await self.alone()
        server.freeze()
        call = started(claim(store))
        call.cancel()
        with pytest.raises(CancelledError):
            await call
        await store.close()

    async def test_cancelled_claim(self) -> None:
        """A claim that was granted to nobody is granted to the same store again."""
        server, (one, other) = await self.several(2)
        server.freeze()
        call = started(claim(one))
        call.cancel()
        with pytest.raises(CancelledError):
            await call
        server.thaw()
        await until(lambda: server.command("EXISTS", LOCK))
        assert await claim(other) == HELD
        assert await claim(one) == GRANTED

    async def test_cancelled_opening(self) -> None:
        """An opening that is cancelled leaves no connection, and the store may be opened then."""
        server = self.server()
        store = self.store(server.port)
        server.freeze()
        for _ in range(2):
            opening = started(store.open())
            await until(lambda: store.connection is not None and store.connection.connected, "a connection")
            opening.cancel()
            with pytest.raises(CancelledError):
                await opening
        connecting = started(self.store(server.port).open())
        connecting.cancel()
        with pytest.raises(ConnectingCancelledError):
            await connecting
        server.thaw()
        await store.open()
        assert await claim(store) == GRANTED
        await until(lambda: server.info("connected_clients") == 2, "the end of what was cancelled")


class Impostor(Protocol):
    """One connection to a server that says what the test wants.

    :param replies: what is said to SELECT, and for each script that it is told to run, one after another.
    """

    def __init__(self, replies: list[bytes]) -> None:
        self.replies = replies
        self.lost: Deferred[None] = Deferred()
        self.received = b""
        self._said = 0

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        asked = self.received.count(b"\r\nEVAL") + self.received.count(b"\r\nSELECT")
        while self._said < min(len(self.replies), asked):
            self._said += 1
            self.say(self.replies[self._said - 1])

    def say(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)

    def flood(self, data: bytes) -> None:
        """Say something for ever."""
        assert self.transport is not None
        loop = LoopingCall(self.say, data)
        loop.start(0)
        self.lost.addBoth(lambda _: loop.stop())

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.callback(None)


OPENING = [b"+OK\r\n", b"+granted\r\n", b"+done\r\n"]  # what a store is told while it opens
GARBAGE = {
    "http": b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n",
    "tls": b"\x15\x03\x01\x00\x02\x02\x28\r\n",
    "bytes": bytes(range(256)) * 10 + b"\r\n",
    "not UTF-8": b"+\xff\r\n",
    "error not UTF-8": b"-ERR \xff\r\n",
    "long line": b"x" * 100_000,
    "long status": b"+" + b"x" * 100_000 + b"\r\n",
    "empty line": b"\r\n",
    "line feed": b"+done\n\r\n",
    "bulk of 10 GB": b"$10000000000\r\nx",
    "bulk too long": b"$1100\r\nx",
    "digits without end": b"$" + b"0" * 10_000 + b"1\r\nx",
    "no bulk": b"$-1\r\n",
    "negative bulk": b"$-5\r\nxxxxx\r\n",
    "bulk without length": b"$\r\n",
    "bulk length no number": b"$x\r\n",
    "bulk length not ASCII": "$²\r\n".encode(),
    "bulk that is no reply": b"$2\r\nxy\r\n",
    "bulk longer than it says": b"$2\r\nxyz\r\n",
    "age not a number": b"$5\r\n1e3\nx\r\n",
    "list": b"*2\r\n+granted\r\n+granted\r\n",
    "long list": b"*1000000000\r\n",
    "deep list": b"*1\r\n" * 5000,
    "empty list": b"*0\r\n",
    "no list": b"*-1\r\n",
    "list without length": b"*x\r\n",
    "number": b":1\r\n",
    "no number": b":x\r\n",
    "null": b"_\r\n",
    "map": b"%1\r\n+a\r\n+b\r\n",
    "push": b">1\r\n+a\r\n",
    "another status": b"+OK\r\n",
    "no status": b"+\r\n",
    "queued": b"+QUEUED\r\n",
}


class ImpostorTests(StoreCase):
    """Servers that are not Redis. That Twisted logs no traceback is for trial to find."""

    def serve(self, replies: list[bytes], context: Any = None) -> int:
        """Start a server, with TLS if there is a context; return its port."""
        self.connections: list[Impostor] = []

        def build(_: object) -> Impostor:
            self.connections.append(Impostor(replies))
            return self.connections[-1]

        factory = Factory()
        factory.buildProtocol = build  # type: ignore[method-assign, assignment]
        if context is None:
            port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        else:
            port = reactor.listenSSL(0, factory, context, interface="127.0.0.1")
        self.addCleanup(self.gone, self.connections)
        self.addCleanup(port.stopListening)
        return int(port.getHost().port)

    @staticmethod
    def asked(server: Impostor, scripts: int) -> bool:
        """Tell whether a connection has been told to run as many scripts."""
        return server.received.count(b"\r\nEVAL") == scripts

    @staticmethod
    async def gone(connections: list[Impostor]) -> None:
        """Wait until a server's connections are gone: the stores are closed, or have failed."""
        await until(lambda: all(connection.lost.called for connection in connections), "the end of the connections")

    async def test_opening(self) -> None:
        """A server that is not Redis ends an opening, and is left."""
        for what, said in {**GARBAGE, "error": b"-ERR no\r\n"}.items():
            store = self.store(self.serve([b"+OK\r\n", said]))
            with pytest.raises(txredisapi.RedisError):
                await store.open()
            await self.gone(self.connections)
            with pytest.raises(txredisapi.ConnectionError):
                await claim(store)
            assert len(self.connections) == 1, what

    async def test_opening_with_password(self) -> None:
        """A server that is not Redis ends an opening also before a script is run; the password is not told."""
        for said in (b"HTTP/1.1 400 secret\r\n\r\n", b"\xff\r\n", b"-ERR secret?\r\n"):
            store = self.store(self.serve([]), password="secret")
            opening = started(store.open())
            await until(lambda: self.connections and b"AUTH" in self.connections[0].received)
            self.connections[0].say(said)
            with pytest.raises(txredisapi.RedisError) as refusal:
                await opening
            assert "secret" not in str(refusal.value)
            await self.gone(self.connections)

    async def test_calls(self) -> None:
        """A server that talks nonsense later has all calls failed, and is left."""
        for what, said in GARBAGE.items():
            store = self.store(self.serve([*OPENING, said]))
            await store.open()
            calls = [started(claim(store)), started(claim(store, OTHER)), started(store.drop(KEY))]
            for call in calls:
                with pytest.raises(txredisapi.RedisError):
                    await call
            await self.gone(self.connections)
            with pytest.raises(txredisapi.ConnectionError):
                await claim(store)
            await store.close()
            assert len(self.connections) == 1, what

    async def test_nonsense_for_a_change(self) -> None:
        """A reply that is due to another call is nonsense, too, and the server is left."""
        for said in (b"+granted\r\n", b"$3\r\n1\nx\r\n"):
            store = self.store(self.serve([*OPENING, said]))
            await store.open()
            calls = [started(store.put(KEY, b"x", LONG, missing=False, owner=NOBODY)), started(claim(store))]
            for call in calls:
                with pytest.raises(txredisapi.RedisError):
                    await call
            await self.gone(self.connections)

    async def test_floods(self) -> None:
        """A server that never ends is left: so what is kept of it has bounds."""
        for data in (b"x" * 65536, b"+done\r\n" * 5000, b"\r\n" * 5000, b"$900\r\n", b"*1\r\n" * 50, b"$3\r\nabc\r\n"):
            store = self.store(self.serve(OPENING))
            await store.open()
            call = started(claim(store))
            self.connections[0].flood(data)
            with pytest.raises(txredisapi.RedisError):
                await call
            await self.gone(self.connections)

    async def test_rest_of_a_flood(self) -> None:
        """What comes in one read with the nonsense for which a server is left is not looked at: that takes long."""
        for line in (b"\r\n", b"+done\r\n", b"-ERR\r\n", b":1\r\n", b"*1\r\n", b"$-1\r\n", b"$1\r\nx\r\n"):
            store = self.store(self.serve(OPENING))
            await store.open()
            connection: Any = store.connection
            looked_at: list[str] = []
            received = type(connection).lineReceived

            def look(to: Any, line: str, received: Any = received, looked_at: list[str] = looked_at) -> object:
                looked_at.append(line)
                return received(to, line)

            with mock.patch.object(type(connection), "lineReceived", look):
                connection.dataReceived(line * 9000)
                await self.gone(self.connections)
            assert len(looked_at) == 1, line

    async def test_reads_nothing(self) -> None:
        """A server that talks nonsense is left at once also while it reads nothing."""
        store = self.store(self.serve(OPENING))
        await store.open()
        server = self.connections[0]
        assert server.transport is not None
        server.transport.pauseProducing()  # type: ignore[attr-defined]
        call = started(store.put(KEY, b"x" * 30_000_000, LONG, missing=False, owner=NOBODY))
        server.say(b"x" * 100_000)
        with pytest.raises(txredisapi.ConnectionError, match="a line has no end"):
            await call
        server.transport.resumeProducing()  # type: ignore[attr-defined]
        await self.gone(self.connections)

    async def test_not_asked(self) -> None:
        """A server that says something without being asked is left, and the next call fails."""
        for said in (b"+granted\r\n", b"-ERR\r\n", b"$3\r\n1\nx\r\n", b"hello\r\n"):
            store = self.store(self.serve(OPENING))
            await store.open()
            self.connections[0].say(said)
            await self.gone(self.connections)
            with pytest.raises(txredisapi.ConnectionError):
                await claim(store)

    async def test_pieces(self) -> None:
        """Replies are read however they are cut, and several at once."""
        store = self.store(self.serve(OPENING))
        await store.open()
        connection = store.connection
        assert connection is not None
        said = b"$10\r\n1500\nab\r\nc\r\n+held\r\n$2\r\n0\n\r\n-OOM no\r\n$4\r\n10\nx\r\n"
        whole = range(len(said) + 1)
        for cuts in (*([position] for position in whole), whole):
            calls = [started(claim(store, f"{KEY}{number}")) for number in range(5)]
            for start, end in zip([0, *cuts], [*cuts, len(said)], strict=True):
                connection.dataReceived(said[start:end])
            error = calls.pop(3)
            with pytest.raises(txredisapi.ResponseError, match="OOM no"):
                await error
            assert [await call for call in calls] == [Found(b"ab\r\nc", 1.5), HELD, Found(b"", 0), Found(b"x", 0.01)]
            await deferLater(reactor, 0)  # the last reply has continued this test from within dataReceived

    async def test_unfinished(self) -> None:
        """A reply that does not come to its end is over when the store is closed; so is one that does not begin."""
        for said in (b"", b"$10\r\n0\nabc", b"+gran", b"$1", b"+granted\r"):
            store = self.store(self.serve([*OPENING, said]))
            await store.open()
            call = started(claim(store))
            server = self.connections[0]
            await until(partial(self.asked, server, 3), "the call")
            assert not call.called
            await store.close()
            with pytest.raises(txredisapi.ConnectionError, match="closed"):
                await call
            await self.gone(self.connections)

    async def test_closing(self) -> None:
        """A server that hangs up has all calls failed."""
        store = self.store(self.serve(OPENING))
        await store.open()
        calls = [started(claim(store)), started(claim(store, OTHER))]
        assert self.connections[0].transport is not None
        self.connections[0].transport.loseConnection()
        for call in calls:
            with pytest.raises(txredisapi.ConnectionError, match="the other side closed the connection"):
                await call

    async def test_messages(self) -> None:
        """An error's text is fit for a log, whatever the server says."""
        for said in (b"-ERR \x1b[31m\x07 \xe2\x80\xae" + b"y" * 10_000, b"HTTP \x1b[31m" + b"y" * 10_000):
            store = self.store(self.serve([said + b"\r\n"]))
            with pytest.raises(txredisapi.RedisError) as refusal:
                await store.open()
            assert str(refusal.value).isprintable()
            assert 10 < len(str(refusal.value)) < 300

    @pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")  # what Twisted itself does
    async def test_tls(self) -> None:
        """Over TLS, a silent server holds nothing either, and one that is not trusted is told so."""
        authority, another = trustme.CA(), trustme.CA()
        pem = authority.issue_cert("localhost").private_key_and_cert_chain_pem.bytes()
        port = self.serve(OPENING, PrivateCertificate.loadPEM(pem).options())

        def store(trusted: trustme.CA) -> RedisStore:
            endpoint = over_tls(self.endpoint(port), "localhost", authorities(trusted.cert_pem.bytes()))
            return RedisStore(endpoint, 0, None, None, MAX_VALUE_BYTES, time.monotonic)

        good = store(authority)
        await good.open()
        call = started(claim(good))
        await good.close()
        with pytest.raises(txredisapi.ConnectionError, match="closed"):
            await call
        with pytest.raises(
            txredisapi.ConnectionError,
            match=r"^TLS: the certificate of localhost was issued by",
        ):
            await store(another).open()
