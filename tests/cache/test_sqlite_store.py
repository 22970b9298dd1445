"""A store in a file: what it finds, its bounds, what it does with damaged and strange files, and how it ends."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import random
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import closing
from hashlib import sha1
from pathlib import Path
from typing import Any, Literal
from unittest import mock

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import capturedLogs
from twisted.trial.unittest import TestCase

from fingergw.cache import sqlite
from fingergw.cache.shares import Owner
from fingergw.cache.sqlite import SqliteStore
from fingergw.cache.sqlite_file import SqliteFile
from fingergw.cache.store import Claim, Found, Store
from tests.support.cache_bench import NOBODY
from tests.support.flooding import ONCALL, floods
from tests.support.processes import ROOT
from tests.support.waiting import DEADLINE_SECONDS, reactor, until

GRANTED = "granted"
ONE, TWO = Owner("people", "192.0.2.1"), Owner("people", "192.0.2.2")
CHILD = """
import os, sys, threading, time
from pathlib import Path
from twisted.internet.defer import Deferred
from twisted.internet.task import react
from fingergw.cache import sqlite
from fingergw.cache.shares import Owner
from fingergw.cache.sqlite_file import SqliteFile

async def main(reactor):
    store = sqlite.SqliteStore(Path(sys.argv[1]), 9, 9999, time.time, reactor)
    try:
        await store.open()
        await store.put("key", b"value", 60, False, Owner("", ""))
    except Exception as error:
        print(type(error).__name__, error)
        return
    print("open")
    if sys.argv[2] == "stuck":
        sqlite.CLOSE_SECONDS = 0.1
        SqliteFile.claim = lambda *_: threading.Event().wait()
        Deferred.fromCoroutine(store.claim("key", "", 6.0, False))
    await store.close()
    print("closed")

if sys.argv[2] == "unprivileged" and os.geteuid() == 0:  # only now: Python itself may be root's alone
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
react(lambda reactor: Deferred.fromCoroutine(main(reactor)))
"""


def threads() -> list[threading.Thread]:
    """Return the threads that stores have."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("PoolThread-sqlite")]


def rows(path: Path) -> list[tuple[str, int]]:
    """Return the keys that are in a file, those written longest ago first, and the bytes of each row."""
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT key, length(key) + length(value) FROM answers ORDER BY id")
        return [(key.decode(errors="surrogatepass"), size) for key, size in found]


def execute(path: Path, *statements: str) -> None:
    """Change a file behind a store's back."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def overwrite(path: Path, filler: bytes) -> None:
    """Damage a file: all but its first page."""
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(4096)
        file.write((filler * size)[: size - 4096])


class StoreCase(TestCase):
    """Tests with a folder of their own, a clock that is set, and nothing left at the end."""

    timeout = 60

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.addCleanup(until, lambda: not threads(), "the end of the stores' threads")
        self.folder = Path(folder.name)
        self.path = self.folder / "answers ?#%.db"
        self.time = 1795335600.25

    def make(self, max_entries: int = 1000, max_bytes: int = 1_000_000, path: Path | None = None) -> SqliteStore:
        """Return a store that is closed at the end."""
        store = SqliteStore(path or self.path, max_entries, max_bytes, lambda: self.time, reactor)
        self.addCleanup(store.close)
        return store

    async def opened(self, max_entries: int = 1000, max_bytes: int = 1_000_000) -> SqliteStore:
        """Return a store that is open, and closed at the end."""
        store = self.make(max_entries, max_bytes)
        await store.open()
        return store

    async def put(
        self, store: Store, *keys: str, value: bytes = b"value", keep_seconds: float = 60.0, owner: Owner = NOBODY
    ) -> None:
        """Keep a value by each of some keys."""
        for key in keys:
            await store.put(key, value, keep_seconds, False, owner)

    async def claim(self, store: Store, key: str = "key", known: str = "") -> Found | Claim:
        """Claim with what a store for one process does not heed."""
        return await store.claim(key, known, 5.0, False)

    async def check_works(self, store: Store) -> None:
        """Keep something and find it."""
        await self.put(store, "works", value=b"It works.")
        self.assertEqual(await self.claim(store, "works"), Found(b"It works.", 0.0))

    def child(self, manner: Literal["unprivileged", "stuck"]) -> str:
        """Open a store in a process of its own, and return what that prints."""
        # what it covers could not be written once it has become nobody
        env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
        done = subprocess.run(
            [sys.executable, "-c", CHILD, str(self.path), manner],
            cwd=ROOT,
            env=env,
            capture_output=True,
            text=True,
            check=False,
            timeout=DEADLINE_SECONDS,
        )
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return done.stdout

    def mount(self) -> None:
        """Have a small file system of its own in the folder."""
        command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(self.folder)]
        if shutil.which("mount") is None or subprocess.run(command, check=False, capture_output=True).returncode:
            self.skipTest("only root can mount, and not within every container")
        self.addCleanup(subprocess.run, ["umount", "--lazy", str(self.folder)], check=True)


class KeepingTests(StoreCase):
    async def test_a_value_is_found_with_its_age(self) -> None:
        """What was put is found again, as old as it is."""
        store = await self.opened()
        self.assertEqual(await self.claim(store), GRANTED)
        await self.put(store, "key", value=b"\0one\xff")
        self.assertEqual(await self.claim(store), Found(b"\0one\xff", 0.0))
        self.time += 12.5
        self.assertEqual(await self.claim(store), Found(b"\0one\xff", 12.5))
        self.assertEqual(await self.claim(store, "another"), GRANTED)

    async def test_a_value_is_replaced(self) -> None:
        """Putting again replaces value, age and end."""
        store = await self.opened()
        await self.put(store, "key", value=b"one", keep_seconds=10.0)
        self.time += 5
        await self.put(store, "key", value=b"", keep_seconds=10.0)
        self.time += 9
        self.assertEqual(await self.claim(store), Found(b"", 9.0))
        self.assertEqual(rows(self.path), [("key", 3)])

    async def test_a_value_expires(self) -> None:
        """It is found until its time is over, and not at its end."""
        store = await self.opened()
        await self.put(store, "key", keep_seconds=10.0)
        self.time += 9.75
        self.assertEqual(await self.claim(store), Found(b"value", 9.75))
        self.time += 0.25
        self.assertEqual(await self.claim(store), GRANTED)

    async def test_a_known_value_is_not_found(self) -> None:
        """Who has the value already may ask upstream; who has another finds it."""
        store = await self.opened()
        await self.put(store, "key")
        self.assertEqual(await self.claim(store, known=sha1(b"value").hexdigest()), GRANTED)
        self.assertEqual(await self.claim(store, known=sha1(b"another").hexdigest()), Found(b"value", 0.0))

    async def test_claims_are_not_kept(self) -> None:
        """Everybody is granted a claim, whether one was released or not."""
        store = await self.opened()
        self.assertEqual(await self.claim(store), GRANTED)
        self.assertEqual(await self.claim(store), GRANTED)
        await store.release("key", "failed")
        self.assertEqual(await self.claim(store), GRANTED)

    async def test_a_clock_that_is_set_back(self) -> None:
        """What was put a little in the future is new, and what is put then is not the first to make room."""
        store = await self.opened(max_entries=2)
        await self.put(store, "a", "b")
        self.time -= 60
        await self.put(store, "c")
        self.assertEqual(await self.claim(store, "a"), GRANTED)
        self.assertEqual(await self.claim(store, "b"), Found(b"value", 0.0))
        self.assertEqual(await self.claim(store, "c"), Found(b"value", 0.0))

    async def test_a_clock_that_was_wrong(self) -> None:
        """Nobody knows how old it is what was put far in the future: it is not found."""
        store = await self.opened()
        await self.put(store, "key")
        self.time -= 61
        self.assertEqual(await self.claim(store), GRANTED)

    async def test_dropping(self) -> None:
        """What is dropped is no longer found; dropping what is not there does no harm."""
        store = await self.opened()
        await self.put(store, "key", "other")
        await store.drop("key")
        await store.drop("key")
        self.assertEqual(await self.claim(store), GRANTED)
        self.assertEqual(rows(self.path), [("other", 10)])

    async def test_missing_is_not_kept(self) -> None:
        """That a name is missing is not kept, and removes what was kept of it."""
        store = await self.opened()
        await self.put(store, "key")
        for key in ("key", "invented"):
            await store.put(key, b"missing", 60.0, True, NOBODY)
            self.assertEqual(await self.claim(store, key), GRANTED)
        self.assertEqual(rows(self.path), [])

    async def test_invented_names_cost_no_write(self) -> None:
        """Neither a missing name nor a drop of what is not there writes to the disk."""
        store = await self.opened()

        def disk() -> list[tuple[int, int, bytes]]:
            files = (self.path, Path(f"{self.path}-wal"))
            return [(file.stat().st_mtime_ns, file.stat().st_size, file.read_bytes()) for file in files]

        before = disk()
        await self.put(store, "key")
        after = disk()
        self.assertNotEqual(after, before)
        for number in range(20):
            await store.put(f"invented{number}", b"missing", 60.0, True, NOBODY)
            await store.drop(f"another{number}")
        self.assertEqual(disk(), after)

    async def test_any_text_is_a_key(self) -> None:
        """Keys are told apart whatever is in them, and their bytes are counted."""
        store = await self.opened()
        keys = ["", "a", "a\0", "a\0b", "A", "a ", "é", "e\u0301", "\ud800", "\udcff", "x" * 1000]
        for key in keys:
            await self.put(store, key, value=ascii(key).encode())
        for key in keys:
            self.assertEqual(await self.claim(store, key), Found(ascii(key).encode(), 0.0))
        sizes = [(key, len(key.encode(errors="surrogatepass")) + len(ascii(key))) for key in keys]
        self.assertEqual(rows(self.path), sizes)

    async def test_values_outlive_the_store(self) -> None:
        """What is kept is found after closing and opening, by the same store and by a new one, and grows older."""
        store = await self.opened()
        await self.put(store, "key")
        await store.close()
        self.time += 3
        await store.open()
        self.assertEqual(await self.claim(store), Found(b"value", 3.0))
        await store.close()
        self.time += 3
        self.assertEqual(await self.claim(await self.opened()), Found(b"value", 6.0))

    async def test_anonymised(self) -> None:
        """A store that anonymises has only networks, and keeps no file that has more; one that does not takes it."""
        store = await self.opened()
        await self.put(store, "key", owner=Owner("b", "192.0.2.9"))
        await store.close()
        clients = {"one": "192.0.2.9", "two": "2001:db8:1:2::/64", "three": "unix"}
        for key, client in clients.items():
            store = SqliteStore(self.path, 1000, 1_000_000, lambda: self.time, reactor, anonymises=True)
            self.addCleanup(store.close)
            await store.open()
            self.assertEqual(await self.claim(store, "key"), "granted")
            await self.put(store, key, owner=Owner("b", client))
            await store.close()
            files = b"".join(path.read_bytes() for path in self.folder.iterdir())
            self.assertNotIn(b"192.0.2.9", files)
            self.assertNotIn(b"2001:db8:1:2", files)
        store = await self.opened()
        for key in clients:
            self.assertEqual(await self.claim(store, key), Found(b"value", 0.0))

    async def test_anonymised_keeps_what_it_had(self) -> None:
        """After a file with whole addresses was emptied, an answer that it had is kept anew."""
        store = await self.opened()
        await self.put(store, "key", owner=Owner("b", "192.0.2.9"))
        await store.close()
        store = SqliteStore(self.path, 1000, 1_000_000, lambda: self.time, reactor, anonymises=True)
        self.addCleanup(store.close)
        await store.open()
        await self.put(store, "key", owner=Owner("b", "192.0.2.9"))
        self.assertEqual(await self.claim(store, "key"), Found(b"value", 0.0))

    async def test_values_outlive_a_kill(self) -> None:
        """What a gateway wrote that did not come to close its store is found."""
        store = await self.opened()
        await self.put(store, "key")
        copy = self.folder / "copy"
        for suffix in ("", "-wal"):
            shutil.copy(f"{self.path}{suffix}", f"{copy}{suffix}")
        other = self.make(path=copy)
        await other.open()
        self.assertEqual(await self.claim(other), Found(b"value", 0.0))

    async def test_rows_that_are_not_as_they_were_written(self) -> None:
        """A row with the wrong types, or a value other than was put, counts as not there, and is overwritten."""
        store = await self.opened()
        changes = {
            "text": "value = 'value'",
            "no UTF-8": "value = CAST(x'ff' AS TEXT)",
            "number": "value = 5",
            "another": "value = x'00'",
            "digest": "digest = 'digest'",
            "no UTF-8 digest": "digest = CAST(x'ff' AS TEXT)",
            "stored": "stored_at = 'yesterday'",
            "stored blob": "stored_at = x'ff'",
            "expires": "expires_at = 'tomorrow'",
            "expires blob": "expires_at = x'ff'",
        }
        await self.put(store, *changes, "sound")
        for key, change in changes.items():
            execute(self.path, f"UPDATE answers SET {change} WHERE key = x'{key.encode().hex()}'")
        for again in (False, True):
            if again:
                await store.close()
                await store.open()
            for key in changes:
                self.assertEqual((key, await self.claim(store, key)), (key, GRANTED))
        self.assertEqual(await self.claim(store, "sound"), Found(b"value", 0.0))
        for key in changes:
            await self.put(store, key)
            self.assertEqual((key, await self.claim(store, key)), (key, Found(b"value", 0.0)))
        self.assertEqual(len(rows(self.path)), len(changes) + 1)


class BoundsTests(StoreCase):
    async def test_entries(self) -> None:
        """Beyond the number of entries, a client's oldest go; to replace one makes it the newest."""
        store = await self.opened(max_entries=3)
        await self.put(store, "a", "b", "c", "a", "d")
        self.assertEqual([key for key, _ in rows(self.path)], ["c", "a", "d"])

    async def test_bytes(self) -> None:
        """Beyond the bytes of keys and values, as many go as it takes, those written longest ago first."""
        store = await self.opened(max_bytes=40)
        await self.put(store, *"abcd", value=b"123456789")
        self.assertEqual([key for key, _ in rows(self.path)], ["a", "b", "c", "d"])
        await self.put(store, "e", value=b"123456789")
        self.assertEqual([key for key, _ in rows(self.path)], ["b", "c", "d", "e"])
        await self.put(store, "f", value=b"1234567890")
        self.assertEqual([key for key, _ in rows(self.path)], ["d", "e", "f"])
        await self.put(store, "g", value=b"1" * 39)
        self.assertEqual(rows(self.path), [("g", 40)])

    async def test_a_flood_by_one_client(self) -> None:
        """Names without end that one client asks for push out each other, and nobody else's, also after a restart."""
        for case, asked in floods(960).items():
            store = await self.opened(max_entries=900)
            for key, owner in asked[:-100]:
                await self.put(store, key, owner=owner)
            await store.close()
            store = await self.opened(max_entries=900)
            for key, owner in asked[-100:]:
                await self.put(store, key, owner=owner)
            self.assertEqual((case, await self.claim(store, ONCALL)), (case, Found(b"value", 0.0)))
            self.assertEqual(len(rows(self.path)), 900)
            await store.close()
            self.path.unlink()

    async def test_a_restart_amid_a_flood(self) -> None:
        """What was written before a restart still counts to who has asked for it."""
        store = await self.opened(max_entries=9)
        for key, owner in (("oncall", TWO), ("a", TWO), ("b", TWO), ("oncall", ONE)):  # which counts to one
            await self.put(store, key, owner=owner)
        await store.close()
        store = await self.opened(max_entries=9)
        await self.put(store, *(f"invented{number}" for number in range(99)), owner=ONE)
        self.assertEqual([key for key, _ in rows(self.path)][:3], ["a", "b", "oncall"])

    async def test_large_values_of_one_client(self) -> None:
        """So it is where it is bytes that there are too few of."""
        store = await self.opened(max_bytes=40)
        await self.put(store, "a", owner=ONE)
        await self.put(store, *"bcdefg", value=b"123456789", owner=TWO)
        self.assertEqual([key for key, _ in rows(self.path)], ["a", "e", "f", "g"])

    async def test_backends_share(self) -> None:
        """Two backends get half each, however many clients ask the one."""
        store = await self.opened(max_entries=10)
        for number in range(20):
            await self.put(store, f"a{number}", owner=Owner("people", f"client {number}"))
        await self.put(store, *(f"b{number}" for number in range(20)), owner=Owner("rota", "client"))
        self.assertEqual(
            [key for key, _ in rows(self.path)], [*(f"a{n}" for n in range(15, 20)), *(f"b{n}" for n in range(15, 20))]
        )

    async def test_another_process_writes(self) -> None:
        """What another process has written, and removed, counts as one's own does."""
        store, other = await self.opened(max_entries=6), await self.opened(max_entries=6)
        await self.put(store, "a1", "a2", owner=ONE)
        await self.put(other, "b1", "b2", "b3", "b4", owner=TWO)
        await self.put(store, "a3", owner=ONE)
        self.assertEqual([key for key, _ in rows(self.path)], ["a1", "a2", "b2", "b3", "b4", "a3"])
        await other.drop("b2")
        await other.drop("b3")
        await self.put(store, "a4", "a5", "a6", owner=ONE)
        self.assertEqual([key for key, _ in rows(self.path)], ["a2", "b4", "a3", "a4", "a5", "a6"])

    async def test_owners_that_are_not_as_they_were_written(self) -> None:
        """Owners that damage has changed are owners, too."""
        store = await self.opened(max_entries=3)
        await self.put(store, *"abc", owner=ONE)
        await store.close()
        execute(
            self.path,
            "UPDATE answers SET client = CAST(x'ff' AS TEXT), other = x'ff' WHERE key = x'61'",
            "UPDATE answers SET backend = 5, client = x'00' WHERE key = x'62'",
        )
        await store.open()
        await self.put(store, *"def", owner=ONE)
        self.assertEqual(len(rows(self.path)), 3)
        self.assertFalse(Path(f"{self.path}.corrupt").exists())

    async def test_a_value_that_can_never_fit(self) -> None:
        """It is not kept, nor is what it replaces, and all others stay."""
        store = await self.opened(max_bytes=40)
        await self.put(store, "a", "b")
        await self.put(store, "b", value=b"1" * 40)
        self.assertEqual(await self.claim(store, "b"), GRANTED)
        self.assertEqual(rows(self.path), [("a", 6)])

    async def test_what_has_expired_goes_first(self) -> None:
        """What has expired makes room before what was written longer ago."""
        store = await self.opened(max_entries=3)
        await self.put(store, "old")
        await self.put(store, "expired", keep_seconds=1.0)
        await self.put(store, "new")
        self.time += 2
        await self.put(store, "newer")
        self.assertEqual([key for key, _ in rows(self.path)], ["old", "new", "newer"])

    async def test_opening_trims(self) -> None:
        """Opening removes what has expired, and what is beyond bounds that have been lowered."""
        store = await self.opened()
        await self.put(store, "expired", keep_seconds=1.0)
        await self.put(store, "a", "b", "c")
        await store.close()
        self.time += 2
        await self.opened()
        self.assertEqual([key for key, _ in rows(self.path)], ["a", "b", "c"])
        await self.opened(max_entries=2)
        self.assertEqual([key for key, _ in rows(self.path)], ["b", "c"])

    async def test_bounds_hold_after_anything(self) -> None:
        """Whatever is put, dropped, expired or reopened, the file has exactly what it should after each step."""
        choose = random.Random(7)
        store = await self.opened(max_entries=12, max_bytes=400)
        model: dict[str, tuple[bytes, float, float]] = {}  # in the order of writing
        evicted = 0

        def forget_expired() -> None:
            for key in [key for key, (_, _, ends) in model.items() if ends <= self.time]:
                del model[key]

        for _ in range(300):
            key = f"key{choose.randrange(20)}"
            action = choose.choice(["put", "put", "put", "put", "drop", "missing", "later", "reopen", "fail"])
            if action == "put":
                value, seconds = choose.randbytes(choose.choice([0, 10, 50, 100, 399])), choose.uniform(0.1, 50)
                await store.put(key, value, seconds, False, NOBODY)
                model.pop(key, None)
                if len(key) + len(value) <= 400:
                    model[key] = (value, self.time, self.time + seconds)
                    forget_expired()
                while len(model) > 12 or sum(len(key) + len(value) for key, (value, _, _) in model.items()) > 400:
                    del model[next(iter(model))]
                    evicted += 1
            elif action == "later":
                self.time += choose.uniform(0, 2)
            elif action == "reopen":
                await store.open()
                forget_expired()
            elif action == "fail":
                with self.assertRaises(sqlite3.IntegrityError):  # after it has removed the key's row
                    await store.put(key, b"value", math.nan, False, NOBODY)
            else:
                await (store.drop(key) if action == "drop" else store.put(key, b"", 5.0, True, NOBODY))
                model.pop(key, None)
            self.assertEqual(rows(self.path), [(key, len(key) + len(value)) for key, (value, _, _) in model.items()])
            for key, (value, since, ends) in model.items():
                found = Found(value, self.time - since) if ends > self.time else GRANTED
                self.assertEqual(await self.claim(store, key), found)
        self.assertGreater(evicted, 30)

    async def test_the_file_does_not_grow_without_end(self) -> None:
        """Pages of what went are used again."""
        store = await self.opened(max_bytes=100_000)
        for number in range(200):
            await self.put(store, f"key{number}", value=random.randbytes(9_000))
        await store.close()
        self.assertGreater(self.path.stat().st_size, 90_000)
        self.assertLess(self.path.stat().st_size, 250_000)


class FileTests(StoreCase):
    async def check_not_ours(self, *suffixes: str) -> None:
        """See opening refuse a file that is not ours, and what there is stay byte by byte."""
        before = {path: path.read_bytes() for path in self.folder.iterdir()}
        self.assertEqual(set(before), {Path(f"{self.path}{suffix}") for suffix in ("", *suffixes)})
        store = self.make()
        with self.assertRaises(FileExistsError) as raised:
            await store.open()
        expected = f"[Errno {errno.EEXIST}] is not a cache of fingergw; name another file: '{self.path}'"
        self.assertEqual(str(raised.exception), expected)
        self.assertEqual({path: path.read_bytes() for path in self.folder.iterdir()}, before)
        self.path.unlink()
        for suffix in suffixes:
            Path(f"{self.path}{suffix}").unlink()
        await store.open()
        await self.check_works(store)

    async def test_another_programs_database(self) -> None:
        """Another program's database is left alone, also one with a table that is called like ours."""
        execute(self.path, "CREATE TABLE answers (key)", "INSERT INTO answers VALUES ('theirs')")
        await self.check_not_ours()

    async def test_another_programs_id(self) -> None:
        """A database with another program's id is left alone."""
        execute(self.path, "PRAGMA application_id = 77", "PRAGMA user_version = 1")
        await self.check_not_ours()

    async def test_another_programs_database_that_was_not_closed(self) -> None:
        """Nor is what another program left to recover recovered."""
        theirs = self.folder / "theirs"
        with closing(sqlite3.connect(theirs, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("CREATE TABLE t (x)")
            for suffix in ("", "-wal"):
                shutil.copy(f"{theirs}{suffix}", f"{self.path}{suffix}")
        theirs.unlink()
        await self.check_not_ours("-wal")

    async def test_no_database(self) -> None:
        """A file that is no database is left alone."""
        self.path.write_text("[listeners]\n" * 1000)
        await self.check_not_ours()

    async def test_a_short_file(self) -> None:
        """A file that is shorter than a database's header is left alone."""
        self.path.write_bytes(b"SQLite format 3\0")
        await self.check_not_ours()

    async def test_no_plain_file(self) -> None:
        """Where there is a folder or a pipe, or no folder to be in, opening says so, and does not wait."""
        self.path.mkdir()
        os.mkfifo(self.folder / "pipe")
        for path in (self.path, self.folder / "pipe", self.folder / "none" / "file"):
            with self.assertRaises((OSError, sqlite3.Error)):
                await self.make(path=path).open()

    async def test_an_empty_file(self) -> None:
        """An empty file, as is left by a kill at the first moment, becomes ours."""
        self.path.touch()
        await self.check_works(await self.opened())

    async def test_a_link(self) -> None:
        """A link to a file is followed; damaged, the file is moved aside, and not the link."""
        (self.folder / "disk").mkdir()
        file = self.folder / "disk" / "file"
        self.path.symlink_to(file)
        store = await self.opened()
        await self.put(store, *(f"key{number}" for number in range(50)), value=b"x" * 1000)
        await store.close()
        overwrite(file, b"\xff")
        await self.check_works(await self.opened())
        self.assertTrue(self.path.is_symlink())
        self.assertTrue(file.with_name("file.corrupt").exists())

    async def test_another_version(self) -> None:
        """A file of ours with another version's table is emptied, and used."""
        for version in (0, 1, 3):
            store = await self.opened()
            await self.put(store, "key")
            await store.close()
            execute(
                self.path,
                "DROP TABLE answers",
                "CREATE TABLE answers (other)",
                "INSERT INTO answers VALUES (1)",
                f"PRAGMA user_version = {version}",
            )
            await store.open()
            self.assertEqual(rows(self.path), [])
            await self.check_works(store)
            await store.close()
            await store.open()
            self.assertEqual(rows(self.path), [("works", 14)])

    async def test_what_sqlite_is_told(self) -> None:
        """The file has our id and version, and a write-ahead log."""
        await self.opened()
        with closing(sqlite3.connect(self.path)) as connection:
            told = [
                connection.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("application_id", "user_version", "journal_mode")
            ]
        self.assertEqual(told, [0x46677743, 2, "wal"])

    async def test_only_we_may_read_it(self) -> None:
        """The file and its log are our user's alone, whatever the umask."""
        self.addCleanup(os.umask, os.umask(0))
        store = await self.opened()
        await self.put(store, "key")
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in self.folder.iterdir()}
        self.assertEqual(modes, {f"{self.path.name}{suffix}": 0o600 for suffix in ("", "-wal", "-shm")})


STRANGER = 61234  # in no passwd


class OthersTests(StoreCase):
    """Files that other users have written, or could have."""

    async def written(self, *keys: str) -> None:
        """Leave a file in which some keys have values."""
        store = await self.opened()
        await self.put(store, *keys)
        await store.close()

    async def check_left_alone(self, why: str, path: Path | None = None) -> None:
        """See opening refuse it, say why, and leave everything as it was."""

        def found() -> dict[Path, object]:
            statuses = {each: each.lstat() for each in self.folder.iterdir()}
            return {
                each: (status.st_ino, status.st_mode, each.read_bytes() if stat.S_ISREG(status.st_mode) else None)
                for each, status in statuses.items()
            }

        before = found()
        with self.assertRaises(PermissionError) as caught:
            await self.make().open()
        self.assertIn(why, str(caught.exception))
        self.assertEqual(caught.exception.filename, str(path or self.path))
        self.assertEqual(found(), before)

    async def test_modes(self) -> None:
        """A file that others may read or write is left alone; its group may do both. Nothing is lost by a refusal."""
        await self.written("key")
        for mode, why in (
            (0o666, "others can write to it, so its content cannot be trusted; remove it"),
            (0o602, "others can write to it"),
            (0o644, "others can read it; run: chmod o= '"),
        ):
            self.path.chmod(mode)
            await self.check_left_alone(why)
        self.path.chmod(0o660)
        self.assertEqual(await self.claim(await self.opened()), Found(b"value", 0.0))

    async def test_an_empty_file_that_others_may_write(self) -> None:
        """An empty file is ours once others cannot read it, but not where they may have it open to write to it."""
        self.addCleanup(os.umask, os.umask(0o022))
        self.path.touch()
        await self.written("key")
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)
        self.path.write_bytes(b"")
        self.path.chmod(0o666)
        await self.check_left_alone("others can write to it")

    async def test_another_user(self) -> None:
        """A file of another user is left alone."""
        self.need_root()
        await self.written("key")
        os.chown(self.path, STRANGER, 0)
        await self.check_left_alone("belongs to user 61234; remove it, or name another file")

    async def test_files_beside_it(self) -> None:
        """So it is with the files that SQLite would play into it, and with links in their places."""
        await self.written("key")
        for suffix in ("-wal", "-shm", "-journal"):
            beside = Path(f"{self.path}{suffix}")
            beside.write_bytes(b"forged" * 100)
            beside.chmod(0o666)
            await self.check_left_alone("others can write to it", beside)
            beside.unlink()
            beside.symlink_to(self.folder / "elsewhere")
            await self.check_left_alone("is a link; remove it", beside)
            beside.unlink()
        self.assertEqual(await self.claim(await self.opened()), Found(b"value", 0.0))

    async def test_another_users_files_beside_it(self) -> None:
        """So it is where they are another user's."""
        self.need_root()
        await self.written("key")
        for suffix in ("-wal", "-shm", "-journal"):
            beside = Path(f"{self.path}{suffix}")
            beside.write_bytes(b"forged" * 100)
            beside.chmod(0o600)
            os.chown(beside, STRANGER, 0)
            await self.check_left_alone("belongs to user 61234", beside)
            beside.unlink()

    async def test_a_file_that_comes_while_it_is_opened(self) -> None:
        """A file beside it that came in the last moment is refused, too."""
        await self.written("key")
        wal = Path(f"{self.path}-wal")
        connect = sqlite3.connect

        def make_first(*args: Any, **kwargs: Any) -> Any:
            wal.write_bytes(b"forged" * 100)
            wal.chmod(0o666)
            return connect(*args, **kwargs)

        self.patch(sqlite3, "connect", make_first)
        with self.assertRaises(PermissionError) as caught:
            await self.make().open()
        self.assertEqual(caught.exception.filename, str(wal))

    async def test_links(self) -> None:
        """A link that another user made is not followed, also where ours leads to it."""
        self.need_root()
        await self.written("key")
        target = self.path.rename(self.folder / "target")
        before = target.read_bytes()
        self.path.symlink_to("own")
        (self.folder / "own").symlink_to(target)
        self.assertEqual(await self.claim(await self.opened()), Found(b"value", 0.0))
        theirs = self.folder / "own"
        os.chown(theirs, STRANGER, STRANGER, follow_symlinks=False)
        await self.check_left_alone("is a link that belongs to user 61234; remove it, or name another file", theirs)
        self.assertEqual(target.read_bytes(), before)

    async def test_links_in_a_circle(self) -> None:
        """Links that lead to each other are an error."""
        self.path.symlink_to(self.folder / "other")
        (self.folder / "other").symlink_to(self.path)
        with self.assertRaises(OSError):
            await self.make().open()

    async def test_a_folder_for_all(self) -> None:
        """In a folder that all may write to it is used, and once it is said what that means."""
        for mode in (0o777, 0o1777):
            self.folder.chmod(mode)
            store = self.make()
            with capturedLogs() as events:
                for _ in range(2):
                    await store.open()
                    await store.close()
            self.assertEqual([event["path"] for event in events], [self.path])
            self.assertIn("others can write to its folder", str(events[0]["log_format"]))

    def need_root(self) -> None:
        """Skip a test that gives files to another user."""
        if os.geteuid() != 0:
            self.skipTest("only root can give files away")


class DamageTests(StoreCase):
    async def fill(self, *, suspect: bool = False) -> SqliteStore:
        """Return a closed store with more than SQLite has in memory.

        :param suspect: whether damage has been met with, as it is sooner or later.
        """
        store = await self.opened(max_bytes=10_000_000)
        self.keys = [f"key{number}" for number in range(40)]
        await self.put(store, *self.keys, value=b"x" * 100_000)
        await store.close()
        store.is_suspect = suspect
        return store

    async def check_begins_anew(self, store: SqliteStore) -> None:
        """See opening move the file aside, as it is, and say so; the new one is empty and works."""
        damaged = self.path.read_bytes()
        aside = Path(f"{self.path}.corrupt")
        with capturedLogs() as events:
            await store.open()
        self.assertEqual([event["path"] for event in events], [self.path])
        self.assertEqual(aside.read_bytes(), damaged)
        self.assertEqual(rows(self.path), [])
        await self.check_works(store)
        await store.close()
        self.assertEqual({path.name for path in self.folder.iterdir()}, {self.path.name, aside.name})
        await store.open()
        self.assertEqual(await self.claim(store, "works"), Found(b"It works.", 0.0))

    async def test_damaged_pages(self) -> None:
        """A file whose pages are damaged is moved aside, once that has shown; an earlier one is replaced."""
        Path(f"{self.path}.corrupt").write_text("earlier")
        for filler in (b"\0", b"\xff", b"garbage"):
            store = await self.fill(suspect=True)
            overwrite(self.path, filler)
            await self.check_begins_anew(store)

    async def test_one_damaged_page(self) -> None:
        """One damaged page in the middle is enough."""
        store = await self.fill(suspect=True)
        with self.path.open("r+b") as file:
            file.seek(4096 * 100)
            file.write(b"\xff" * 4096)
        await self.check_begins_anew(store)

    async def test_a_truncated_file(self) -> None:
        """So is a lost end."""
        store = await self.fill()
        os.truncate(self.path, self.path.stat().st_size // 2 + 77)
        await self.check_begins_anew(store)

    async def test_a_damaged_header(self) -> None:
        """A first page that says little more than whose file it is counts as ours, damaged."""
        for start, end in ((16, 18), (18, 20), (21, 24), (100, 4096)):
            store = await self.fill()
            with self.path.open("r+b") as file:
                file.seek(start)
                file.write(b"\xff" * (end - start))
            await self.check_begins_anew(store)
            await store.close()
            self.path.unlink()

    async def test_a_damaged_schema(self) -> None:
        """So does a table that is not as it was made, be it no text any more."""
        for sound, damage in ((b"digest", b"digesT"), (b"digest", b"(((((("), (b"NOT NULL", b"NOT \xffULL")):
            store = await self.fill()
            self.path.write_bytes(self.path.read_bytes().replace(sound, damage, 1))
            await self.check_begins_anew(store)
            await store.close()
            self.path.unlink()

    async def test_an_index_that_lacks_a_row(self) -> None:
        """So does an index that is not of what is in the table."""
        store = await self.fill(suspect=True)
        with closing(sqlite3.connect(self.path)) as connection:
            (index,) = connection.execute("SELECT * FROM sqlite_master WHERE name = 'expiry'").fetchall()
        writable = "PRAGMA writable_schema = ON"
        execute(self.path, writable, "DELETE FROM sqlite_master WHERE name = 'expiry'")
        execute(self.path, "UPDATE answers SET expires_at = 5e9 WHERE id = 7")
        columns = ", ".join(repr(column) for column in index)
        execute(self.path, writable, f"INSERT INTO sqlite_master VALUES ({columns})")
        await self.check_begins_anew(store)

    async def test_a_key_that_is_there_twice(self) -> None:
        """A file with a row that could not be evicted, as its key is a text that is another's bytes, is moved aside."""
        store = await self.fill()
        columns = "value, digest, stored_at, expires_at, backend, client, other"
        execute(self.path, f"INSERT INTO answers SELECT 999, CAST(key AS TEXT), {columns} FROM answers WHERE id = 7")
        with capturedLogs() as events:
            await store.open()
        self.assertEqual([event["path"] for event in events], [self.path])
        self.assertTrue(Path(f"{self.path}.corrupt").exists())
        self.assertEqual(rows(self.path), [])
        await self.check_works(store)

    async def test_journals_are_not_played_into_the_new_file(self) -> None:
        """What SQLite had left beside a damaged file goes."""
        store = await self.fill(suspect=True)
        overwrite(self.path, b"\xff")
        for suffix in ("-wal", "-shm"):
            Path(f"{self.path}{suffix}").write_bytes(b"left" * 1000)
        await self.check_begins_anew(store)

    async def test_damage_while_open(self) -> None:
        """What is damaged while it is open raises, or is not found; the file is moved aside when it is opened again."""
        store = await self.fill()
        await store.open()
        overwrite(self.path, b"\xff")
        raised = 0
        for key in self.keys:
            try:
                found = await self.claim(store, key)
                self.assertIn(found, [GRANTED, Found(b"x" * 100_000, 0.0)])  # which is still in memory
            except sqlite3.DatabaseError:
                raised += 1
        self.assertGreater(raised, 0)
        with self.assertRaises(sqlite3.DatabaseError):
            await self.put(store, *self.keys)
        await store.close()
        await self.check_begins_anew(store)

    async def test_damage_within_a_value(self) -> None:
        """A value that is not what was put is not found, even if the file is otherwise sound."""
        store = await self.opened()
        await self.put(store, "key", value=b"x" * 1000)
        await store.close()
        self.path.write_bytes(self.path.read_bytes().replace(b"x" * 1000, b"x" * 999 + b"y"))
        await store.open()
        self.assertEqual(await self.claim(store), GRANTED)
        self.assertFalse(Path(f"{self.path}.corrupt").exists())


class DiskTests(StoreCase):
    def test_a_folder_that_may_not_be_written(self) -> None:
        """Where it may not write, opening says so, whether the file is there or not."""
        self.folder.chmod(0o777)
        self.assertEqual(self.child("unprivileged"), "open\nclosed\n")
        self.folder.chmod(0o555)
        self.assertTrue(self.child("unprivileged").startswith("OperationalError "))
        self.folder.chmod(0o777)
        self.path.unlink()
        self.folder.chmod(0o555)
        self.assertTrue(self.child("unprivileged").startswith("PermissionError "))

    def test_a_file_that_may_not_be_written(self) -> None:
        """Where the file may only be read, opening says so, and not only the first put."""
        self.folder.chmod(0o777)
        self.assertEqual(self.child("unprivileged"), "open\nclosed\n")
        self.path.chmod(0o400)
        self.assertEqual(self.child("unprivileged"), "OperationalError attempt to write a readonly database\n")

    async def test_a_read_only_file_system(self) -> None:
        """On a file system that has become read-only, opening raises; once it is writable again, opening works."""
        self.mount()
        store = await self.opened()
        await self.put(store, "key")
        await store.close()
        subprocess.run(["mount", "-o", "remount,ro", str(self.folder)], check=True)
        with self.assertRaises(sqlite3.OperationalError):
            await store.open()
        subprocess.run(["mount", "-o", "remount,rw", str(self.folder)], check=True)
        await store.open()
        self.assertEqual(await self.claim(store), Found(b"value", 0.0))

    def fill_disk(self) -> Path:
        """Leave no room, and return the file that takes it."""
        ballast = self.folder / "ballast"
        with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"\0" * 512)
        return ballast

    async def test_a_full_disk_at_opening(self) -> None:
        """On a full disk opening raises, for a new file and for one that is there; once there is room it works."""
        self.mount()
        store = self.make()
        for value in (b"one", b"two"):
            ballast = self.fill_disk()
            with self.assertRaises((OSError, sqlite3.OperationalError)):
                await store.open()
            ballast.unlink()
            await store.open()
            await self.put(store, "key", value=value)
            await store.close()
        await store.open()
        self.assertEqual(await self.claim(store), Found(b"two", 0.0))

    async def test_a_disk_that_gets_full(self) -> None:
        """Putting on a full disk raises; what was there is found; once there is room, it goes on, within bounds."""
        self.mount()
        store = await self.opened(max_entries=5)
        await self.put(store, *"abc")
        ballast = self.fill_disk()
        with self.assertRaises(sqlite3.OperationalError):
            await self.put(store, "big", value=b"x" * 50_000)
        self.assertEqual(await self.claim(store, "a"), Found(b"value", 0.0))
        self.assertEqual(await self.claim(store, "big"), GRANTED)
        ballast.unlink()
        await self.put(store, *"defg")
        self.assertEqual([key for key, _ in rows(self.path)], list("cdefg"))


class SharingTests(StoreCase):
    async def test_two_stores_on_one_file(self) -> None:
        """Two that share a file by mistake find each other's values, and keep the bounds."""
        stores = [await self.opened(max_entries=10), await self.opened(max_entries=10)]
        for number in range(40):
            writer, reader = stores[number % 2], stores[number // 3 % 2]
            await self.put(writer, f"key{number}")
            self.assertEqual(await self.claim(reader, f"key{number}"), Found(b"value", 0.0))
            self.assertLessEqual(len(rows(self.path)), 10)
        self.assertEqual([key for key, _ in rows(self.path)], [f"key{number}" for number in range(30, 40)])

    async def test_two_at_once(self) -> None:
        """They may write at the same time."""
        stores = [await self.opened(), await self.opened()]
        writes = [
            Deferred.fromCoroutine(self.put(store, f"{index} {number}"))
            for number in range(20)
            for index, store in enumerate(stores)
        ]
        for write in writes:
            await write
        self.assertEqual(len(rows(self.path)), 40)

    async def test_another_that_does_not_let_go(self) -> None:
        """While another writes, putting raises before long, and finding works."""
        store = await self.opened()
        await self.put(store, "key")
        with closing(sqlite3.connect(self.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with self.assertRaises(sqlite3.OperationalError) as raised:
                await self.put(store, "another")
            self.assertEqual(raised.exception.sqlite_errorcode, sqlite3.SQLITE_BUSY)
            self.assertEqual(await self.claim(store), Found(b"value", 0.0))
        await self.check_works(store)


class EndTests(StoreCase):
    async def check_not_open(self, store: Store) -> None:
        """See all raise that needs a file."""
        calls: list[Callable[[], Any]] = [
            lambda: store.claim("key", "", 5.0, False),
            lambda: store.put("key", b"value", 5.0, False, NOBODY),
            lambda: store.put("key", b"value", 5.0, True, NOBODY),
            lambda: store.drop("key"),
        ]
        for call in calls:
            with self.assertRaises(sqlite3.ProgrammingError):
                await call()

    async def test_closing(self) -> None:
        """A store can be closed before it is open, and twice; what is asked of it then raises; it opens again."""
        store = self.make()
        await self.check_not_open(store)
        await store.close()
        await store.open()
        await store.close()
        await self.check_not_open(store)
        await store.close()
        await store.open()
        await store.open()
        await self.check_works(store)

    async def test_after_opening_has_failed(self) -> None:
        """A store that could not be opened is as one that is closed."""
        store = self.make(path=self.folder / "none" / "file")
        with self.assertRaises(FileNotFoundError):
            await store.open()
        await until(lambda: not threads(), "the end of the thread")
        await self.check_not_open(store)
        await store.close()
        (self.folder / "none").mkdir()
        await store.open()
        await self.check_works(store)

    async def test_what_is_asked_while_it_opens(self) -> None:
        """What comes before it is open waits for that; if opening fails, so does it."""
        store = self.make()
        opening = Deferred.fromCoroutine(store.open())
        await self.check_works(store)
        await opening
        other = self.make(path=self.folder / "none" / "file")
        opening = Deferred.fromCoroutine(other.open())
        claim = Deferred.fromCoroutine(self.claim(other))
        with self.assertRaises(FileNotFoundError):
            await opening
        with self.assertRaises(sqlite3.ProgrammingError):
            await claim

    async def test_opening_several_times_at_once(self) -> None:
        """Opening while it opens leaves one thread."""
        store = await self.opened()
        for opening in [Deferred.fromCoroutine(store.open()) for _ in range(3)]:
            await opening
        await self.check_works(store)
        await until(lambda: len(threads()) == 1, "the end of the other threads")

    async def test_closing_finishes_what_is_under_way(self) -> None:
        """What was asked before closing is done, opening too."""
        store = self.make()
        opening = Deferred.fromCoroutine(store.open())
        puts = [Deferred.fromCoroutine(self.put(store, f"key{number}")) for number in range(50)]
        closing_ = Deferred.fromCoroutine(store.close())
        self.assertFalse(closing_.called)
        for work in (opening, *puts, closing_):
            await work
        self.assertEqual(len(rows(self.path)), 50)
        self.assertEqual([path.name for path in self.folder.iterdir()], [self.path.name])

    async def test_the_reactor_does_not_wait(self) -> None:
        """All that touches the file is done in one thread, which is neither the reactor's nor of its pool."""
        seen = []

        def watched(work: Callable[..., Any]) -> Callable[..., Any]:
            def noting(*args: Any) -> Any:
                seen.append(threading.current_thread())
                return work(*args)

            return noting

        for name in ("open", "close", "claim", "put", "drop"):
            self.patch(SqliteFile, name, watched(getattr(SqliteFile, name)))
        store = await self.opened()
        await self.check_works(store)
        await store.drop("works")
        await store.close()
        self.assertEqual(len(seen), 5)
        self.assertEqual(len(set(seen)), 1)
        self.assertTrue(seen[0].name.startswith("PoolThread-sqlite"))
        self.assertTrue(seen[0].daemon)

    async def test_a_disk_that_hangs(self) -> None:
        """Closing does not wait for ever, and says so; it can be opened again; all is let go once the disk is back."""
        back = threading.Event()
        self.addCleanup(back.set)
        self.patch(sqlite, "CLOSE_SECONDS", 0.05)
        store = await self.opened()
        with mock.patch.object(SqliteFile, "claim", side_effect=lambda *_: back.wait()):
            stuck = Deferred.fromCoroutine(store.claim("key", "", 6.0, False))
        last = Deferred.fromCoroutine(self.put(store, "last"))
        with capturedLogs() as events:
            await store.close()
        self.assertEqual(
            [event["log_format"] for event in events], ["{path}: not closed within {seconds:g} s; its disk may hang"]
        )
        self.assertFalse(stuck.called)
        await self.check_not_open(store)
        await store.open()
        await self.check_works(store)
        self.assertEqual(len(threads()), 2)
        back.set()
        await stuck
        await last
        await until(lambda: len(threads()) == 1, "the end of the thread that was stuck")
        self.assertEqual(await self.claim(store, "last"), Found(b"value", 0.0))

    async def test_opening_that_is_given_up(self) -> None:
        """Who gives up opening does not wait; what opens after all is closed."""
        back = threading.Event()
        self.addCleanup(back.set)
        work = SqliteFile.open
        self.patch(SqliteFile, "open", lambda file, *args: back.wait() and work(file, *args))
        store = self.make()
        opening = Deferred.fromCoroutine(store.open())
        opening.cancel()
        with self.assertRaises(CancelledError):
            await opening
        await self.check_not_open(store)
        self.assertFalse(self.path.exists())
        back.set()
        await until(lambda: not threads(), "the end of the thread")
        self.assertEqual([path.name for path in self.folder.iterdir()], [self.path.name])  # closing removes the log

    async def test_a_disk_that_hangs_time_and_again(self) -> None:
        """However often it is tried, two threads hang with the disk and no more; when that is back, it opens."""
        back = threading.Event()
        self.addCleanup(back.set)
        work = SqliteFile.open
        self.patch(SqliteFile, "open", lambda file, *args: back.wait() and work(file, *args))
        store = self.make()
        for _ in range(2):
            opening = Deferred.fromCoroutine(store.open())
            opening.cancel()
            with self.assertRaises(CancelledError):
                await opening
        with self.assertRaisesRegex(OSError, "the disk hangs"):
            await store.open()
        self.assertEqual(len(threads()), 2)
        back.set()
        await until(lambda: not threads(), "the end of the threads")
        await store.open()
        await self.check_works(store)

    async def test_a_thread_that_is_not_waited_for_still_counts(self) -> None:
        """Who gives up closing does not end the thread that hangs: it counts until it ends by itself."""
        back = threading.Event()
        self.addCleanup(back.set)
        self.patch(sqlite, "CLOSE_SECONDS", 0.01)
        self.patch(SqliteFile, "claim", lambda *_: back.wait())
        store = await self.opened()
        claim = Deferred.fromCoroutine(store.claim("key", "", 6.0, False))
        with capturedLogs():
            await store.close()
        self.assertEqual(store.hung, 1)
        back.set()
        await until(lambda: not store.hung, "the end of the thread")
        await claim

    def test_a_disk_that_hangs_for_ever(self) -> None:
        """A process with a store that is stuck ends all the same."""
        self.assertEqual(self.child("stuck"), "open\nclosed\n")
