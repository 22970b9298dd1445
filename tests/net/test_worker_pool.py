"""Workers that convert what may take long, as real processes."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from unittest.mock import patch

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import TestCase

from fingergw.net.workers.conversions import Conversion
from fingergw.net.workers.pool import ConversionError, WorkerPool
from tests.support.waiting import reactor, until, wait_until

MAX_BYTES = 65536
ENDLESS = "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}"


def fill(template: str) -> Conversion:
    """Return the filling of a template."""
    return Conversion("template", MAX_BYTES, template=template, values={"user": "joe"})


def children(pid: int) -> list[int]:
    """Return the processes that a process has forked, and that are at work."""
    try:
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        return []
    return [int(child) for child in found if is_there(int(child))]


def is_there(pid: int) -> bool:
    """Tell whether there is a process that is at work."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


class PoolCase(TestCase):
    """Tests with a pool of its own."""

    def setUp(self) -> None:
        self.pool = WorkerPool(reactor)
        self.addCleanup(lambda: Deferred.fromCoroutine(self.pool.stop()))

    def begun(self) -> int:
        """Start the pool, and return the process that forks the workers."""
        before = set(children(os.getpid()))
        self.pool.start()
        (server,) = set(children(os.getpid())) - before
        return server

    async def refused(self, conversion: Conversion, data: bytes = b"{}", turn: str = "a") -> str:
        """Return why there is no text."""
        try:
            text = await self.pool.convert(turn, conversion, data)
        except ConversionError as error:
            return str(error)
        raise AssertionError(text)


class ConversionTests(PoolCase):
    """What comes of a conversion."""

    async def test_texts(self) -> None:
        """Texts, pages and JSON become answers."""
        convert = partial(self.pool.convert, "a")
        assert await convert(Conversion("text", MAX_BYTES, "latin_1"), b"caf\xe9") == "café"
        assert await convert(Conversion("html", MAX_BYTES), b"<p>caf&eacute;") == "café"
        assert await convert(fill("{{ user }}: {{ n }}"), b'{"n": 1}') == "joe: 1"
        assert await convert(Conversion("text", MAX_BYTES), b"") == ""
        large = os.urandom(500_000).hex()
        assert await convert(Conversion("text", 1_000_000), large.encode()) == large
        deep = b"<div>" * 2000 + b"deep" + b"</div>" * 2000 + b"after"
        assert await convert(Conversion("html", MAX_BYTES), deep) == "deep\nafter"

    async def test_large_after_small(self) -> None:
        """What a small body may take is no limit for the large one that the same worker has next."""
        assert await self.pool.convert("a", Conversion("text", MAX_BYTES), b"x") == "x"
        large = b"x" * (40 << 20)
        assert len(await self.pool.convert("a", Conversion("text", len(large)), large)) == len(large)

    async def test_failures(self) -> None:
        """What is no text has a reason."""
        assert await self.refused(fill("{{ a }}")) == "the template failed: UndefinedError: 'a' is undefined"
        assert await self.refused(fill("{{ a }}"), b"[") == "the body is not JSON, which the template needs"
        assert "too deeply" in await self.refused(Conversion("html", MAX_BYTES), b"<div>" * 9999 + b"x")
        assert await self.refused(Conversion("html", 5), b"<p>too long") == (
            "the text of the body is larger than 5 bytes; raise max_bytes"
        )

    async def test_time(self) -> None:
        """What takes more than a second of processor time is given up, and the next has another worker."""
        assert "1 s of processor time" in await self.refused(fill(ENDLESS))
        for _ in range(3):
            assert await self.pool.convert("a", fill("{{ user }}"), b"{}") == "joe"

    async def test_memory(self) -> None:
        """What takes more memory than a conversion has is given up."""
        for template in ('{{ "#" * n }}', '{{ "x" | center(n) }}', '{{ "%*d" | format(n, 1) }}', "{{ [1] * n }}"):
            assert await self.refused(fill(template), b'{"n": 1000000000}') == (
                "the body takes too much memory to convert"
            ), template

    async def test_numbers(self) -> None:
        """A number that takes for ever to be reckoned is given up."""
        assert "1 s of processor time" in await self.refused(fill("{{ (10 ** e) % 7 }}"), b'{"e": 100000000}')

    async def test_workers_that_have_grown(self) -> None:
        """A worker that has grown large is not used again, so that what one body took is not kept."""
        server = self.begun()
        await self.pool.convert("a", fill("{{ user }}"), b"{}")
        (first,) = children(server)
        await self.pool.convert("a", fill("{{ user }}"), b"{}")
        assert children(server) == [first]
        large = b"x" * (60 << 20)
        await self.pool.convert("a", Conversion("text", len(large)), large)
        await self.pool.convert("a", fill("{{ user }}"), b"{}")
        assert children(server) != [first]


class TurnTests(PoolCase):
    """Nobody waits for what somebody else sends."""

    async def test_turns(self) -> None:
        """However much of one turn takes long, what is of another is done meanwhile."""
        ended: list[str] = []
        hostile = [self.pool.convert("hostile", fill(ENDLESS), b"{}") for _ in range(4)]
        for each in hostile:
            each.addErrback(lambda failure: ended.append("hostile") if failure.check(ConversionError) else failure)
        for turn in "abc":
            assert await self.pool.convert(turn, fill("{{ user }}"), b"{}") == "joe"
            ended.append(turn)
        assert ended == ["a", "b", "c"]
        for each in hostile[1:]:
            each.addErrback(lambda failure: failure.trap(CancelledError)).cancel()
        await hostile[0]

    async def test_order(self) -> None:
        """Within a turn the first is done first."""
        ended: list[int] = []
        asked = [self.pool.convert("a", fill("{{ user }}"), b"{}") for _ in range(20)]
        for number, each in enumerate(asked):
            each.addCallback(partial(lambda number, _: ended.append(number), number))
        for each in asked:
            await each
        assert ended == list(range(20))

    async def test_cancelled(self) -> None:
        """What nobody waits for any more is not waited for, and what it occupied is free."""
        server = self.begun()
        for _ in range(5):
            asked = [self.pool.convert(turn, fill(ENDLESS), b"{}") for turn in "abc"]
            for each in asked:
                each.addErrback(lambda failure: failure.trap(CancelledError)).cancel()
            assert await self.pool.convert("d", fill("{{ user }}"), b"{}") == "joe"
            assert len(children(server)) <= 2


class ProcessTests(PoolCase):
    """The processes themselves."""

    async def test_stop(self) -> None:
        """When the pool stops, its processes end, busy ones too, and who waits is told."""
        server = self.begun()
        asked = [self.pool.convert(turn, fill(ENDLESS), b"{}") for turn in "abc"]
        await until(lambda: len(children(server)) == 2)
        workers = children(server)
        for each in asked:
            each.addErrback(lambda failure: failure.trap(ConversionError))
        await self.pool.stop()
        for each in asked:
            await each
        assert not is_there(server)
        await until(lambda: not any(map(is_there, workers)))
        before = children(os.getpid())
        assert await self.refused(fill("{{ user }}")) == "the gateway is stopping"
        assert children(os.getpid()) == before

    async def test_killed(self) -> None:
        """Processes that were killed are forked anew."""
        server = self.begun()
        for what in ("worker", "server", "both"):
            assert await self.pool.convert("a", fill("{{ user }}"), b"{}") == "joe"
            gone = {"worker": children(server), "server": [server], "both": [server, *children(server)]}[what]
            for pid in gone:
                os.kill(pid, signal.SIGKILL)
            await until(partial(lambda gone: not any(map(is_there, gone)), gone))
            before = set(children(os.getpid()))
            asked = [self.pool.convert(turn, fill("{{ user }}"), b"{}") for turn in "ab"]
            for each in asked:
                each.addErrback(lambda failure: failure.trap(ConversionError))  # it was with one that is gone
                await each
            server = ({*children(os.getpid())} - before or {server}).pop()

    async def test_signals_for_the_gateway(self) -> None:
        """What a terminal or a service manager sends to all processes ends no worker: the gateway has answers yet."""
        server = self.begun()
        await self.pool.convert("a", fill("{{ user }}"), b"{}")
        workers = children(server)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
            for pid in (server, *workers):
                os.kill(pid, number)
        assert await self.pool.convert("a", fill("{{ user }}"), b"{}") == "joe"
        assert children(server) == workers
        assert os.getsid(server) == server

    async def test_nothing_is_inherited(self) -> None:
        """Workers have none of the gateway's descriptors, and leave no core files."""
        server = self.begun()
        await self.pool.convert("a", fill("{{ user }}"), b"{}")
        for pid in (server, *children(server)):
            found = [fd.readlink().as_posix().partition(":")[0] for fd in Path(f"/proc/{pid}/fd").iterdir()]
            assert sorted(found) == ["pipe", "pipe", "pipe", "socket"]
            assert resource.prlimit(pid, resource.RLIMIT_CORE) == (0, 0)

    async def test_gateways_memory_is_shared(self) -> None:
        """The process that forks the workers copies no more than a fraction of the gateway's memory."""
        held = [[] for _ in range(500_000)]  # type: ignore[var-annotated]
        server = self.begun()
        await self.pool.convert("a", fill("{{ user }}"), b"{}")
        copied = int(Path(f"/proc/{server}/stat").read_text().rpartition(")")[2].split()[7])  # its minor page faults
        assert copied * resource.getpagesize() < sum(map(sys.getsizeof, held)) / 2

    def test_gateway_killed(self) -> None:
        """Workers end when the gateway is killed."""
        program = (
            "import sys\n"
            "from twisted.internet import reactor\n"
            "from fingergw.net.workers.pool import WorkerPool\n"
            "from fingergw.net.workers.conversions import Conversion\n"
            "pool = WorkerPool(reactor)\n"
            "pool.convert('a', Conversion('text', 9), b'x').addCallback(lambda text: print(text, flush=True))\n"
            "reactor.run()\n"
        )
        with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as gateway:
            assert gateway.stdout is not None
            assert gateway.stdout.readline() == b"x\n"
            (server,) = children(gateway.pid)
            (worker,) = children(server)
            gateway.kill()
        wait_until(lambda: not is_there(server) and not is_there(worker))

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the root")
    def test_bare_chroot(self) -> None:
        """In a root with nothing in it, not even /dev/null, a large gateway too has workers, also when forked anew."""
        program = (
            "import os, signal, sys\n"
            "from twisted.internet import defer, reactor, task\n"
            "from fingergw.net.workers.pool import WorkerPool\n"
            "from fingergw.net.workers.conversions import Conversion\n"
            "import fingergw.net.workers.converting\n"  # as before any chroot: nothing can be imported from inside
            "pool = WorkerPool(reactor)\n"
            "os.chroot(sys.argv[1])\n"
            "os.chdir('/')\n"
            "pool.start()\n"
            "async def converted(reactor):\n"
            "    print(await pool.convert('a', Conversion('html', 9), b'<p>x'))\n"
            "    held = [bytearray(1 << 16) for _ in range(3000)]\n"
            "    server, before = pool._server, pool._workers[0]\n"
            "    os.kill(server, signal.SIGKILL)\n"
            "    os.waitid(os.P_PID, server, os.WEXITED | os.WNOWAIT)\n"
            "    before.end()\n"
            "    text = await pool.convert('a', Conversion('html', 99999), b'<p>y' * 9999)\n"
            "    print(text.split() == ['y'] * 9999)\n"
            "    await pool.stop()\n"
            "task.react(lambda reactor: defer.Deferred.fromCoroutine(converted(reactor)))\n"
        )
        Path(folder := self.mktemp()).mkdir()
        ended = subprocess.run([sys.executable, "-c", program, folder], capture_output=True, text=True, timeout=60)
        assert (ended.stdout, ended.stderr) == ("x\nTrue\n", "")

    async def test_no_process_to_be_had(self) -> None:
        """Where there can be no more processes, that is the reason, and it is tried again for the next."""
        with patch(
            "fingergw.net.workers.limited.fork", side_effect=BlockingIOError(11, "Resource temporarily unavailable")
        ):
            reason = await self.refused(fill("{{ user }}"))
        advice = "raise the limits on processes and files"
        assert reason == f"no worker can be started: Resource temporarily unavailable; {advice}"
        assert await self.pool.convert("a", fill("{{ user }}"), b"{}") == "joe"

    async def test_no_descriptors_to_be_had(self) -> None:
        """Where descriptors run out at any step, that is the reason, and all is well once there are some again."""
        for left in range(4):
            self.pool = WorkerPool(reactor)
            self.pool.start()
            with all_descriptors_but(left):
                reasons = [await self.refused(fill("{{ a }}")) for _ in range(2)]
            if left < 3:
                assert (
                    reasons
                    == ["no worker can be started: Too many open files; raise the limits on processes and files"] * 2
                ), left
            for turn in "ab":
                assert await self.pool.convert(turn, fill("{{ user }}"), b"{}") == "joe", left
            await self.pool.stop()


@contextmanager
def all_descriptors_but(left: int) -> Iterator[None]:
    """Have so many files open that there can be no more than a few others."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = max(int(fd.name) for fd in Path("/proc/self/fd").iterdir()) + 8
    taken = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, limits[1]))
    try:
        try:
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            for _ in range(left):
                os.close(taken.pop())
        yield
    finally:
        for fd in taken:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
