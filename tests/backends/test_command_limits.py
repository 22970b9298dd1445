"""What a program of the command backend may use of the machine, and what becomes of it and of all that it starts."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import shutil
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import attrs
import pytest

from fingergw.core.outcome import Answered, Failed, Outcome
from fingergw.net.programs import ProgramLimits
from tests.support.commands import LIMITS, CommandCase, is_running
from tests.support.processes import COMMAND, ROOT
from tests.support.sockets import finger, free_port, serves
from tests.support.waiting import until, wait_until

MIB = 1 << 20
# in no passwd, so that no other process is its own
STRANGER = 61235
SHOW_LIMITS = f"""#!{sys.executable} -I
import json, resource, subprocess, sys
names = ["CPU", "AS", "FSIZE", "NPROC", "CORE", "NOFILE"]
print(json.dumps({{name: resource.getrlimit(getattr(resource, "RLIMIT_" + name)) for name in names}}), flush=True)
if sys.argv[1:] == ["with a child"]:
    subprocess.run([__file__])
"""
ALONE = """
import json, os, resource, signal, sys, threading
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from fingergw.backends.command import Command, CommandBackend
from fingergw.core.placeholders import Template
from fingergw.net.programs import ProgramLimits, spawner
from fingergw.core.query import Query

argv = json.loads(sys.argv[1])
limits = ProgramLimits(cpu_seconds=10, memory_bytes=2 << 30, file_bytes=16 << 20, processes=20_000)
exec(sys.argv[2])
settings = Command(argv=tuple(Template(argument) for argument in argv), max_bytes=10000)
backend = CommandBackend(settings, argv[0], reactor, spawner(reactor, limits))

async def ask():
    try:
        said.append(str(await backend.answer(Query("x"))))
    finally:
        reactor.stop()

said = []
stdout = os.dup(1)
exec(sys.argv[3])
reactor.callWhenRunning(lambda: Deferred.fromCoroutine(ask()))
reactor.run()
os.write(stdout, said[0].encode())
"""


def alone(*argv: str, first: str = "", then: str = "", **options: Any) -> str:
    """Ask a backend in a process of its own, that no warning may come from, and return what it prints.

    :param first: code that is run before the backend is made.
    :param then: code that is run before it is asked.
    """
    env = {key: value for key, value in os.environ.items() if not key.startswith("COV")}  # it may become another user
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", ALONE, json.dumps(argv), first, then],
        env={**env, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        **options,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return str(done.stdout)


def told(text: str) -> str:
    """Return what ``alone`` prints for an answer."""
    return str(Answered(text))


def children() -> list[int]:
    """Return the children of this process, zombies included."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if int(path.read_text().rpartition(")")[2].split()[1]) == os.getpid():
                found.append(int(path.parent.name))
    return found


def descriptors() -> int:
    """Return how many files this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


class LimitsTests(CommandCase):
    """What the kernel holds a program to."""

    def limits(self, **changes: int) -> ProgramLimits:
        """Return the limits of the other tests, changed."""
        return attrs.evolve(LIMITS, **changes)

    async def test_each_is_set(self) -> None:
        """The program has each limit from the start, and so has what it starts."""
        limits = ProgramLimits(cpu_seconds=7, memory_bytes=300 * MIB, file_bytes=5 * MIB, processes=9999, open_files=50)
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        backend = self.backend(SHOW_LIMITS, "with a child", limits=limits)
        outcome = await self.asked(backend)
        assert isinstance(outcome, Answered)
        seen = [json.loads(line) for line in outcome.text.splitlines()]
        assert seen == 2 * [
            {
                "CPU": [7, 8],
                "AS": [300 * MIB] * 2,
                "FSIZE": [5 * MIB] * 2,
                "NPROC": [9999, 9999],
                "CORE": [0, 0],
                "NOFILE": [50, hard],
            }
        ]

    async def test_configured(self) -> None:
        """The limits are those of the configuration, and by default those of its classes."""
        path = str(self.script(SHOW_LIMITS))
        given: dict[str, Any] = {
            "max_cpu_seconds": 3,
            "max_memory_bytes": 200 * MIB,
            "max_file_bytes": MIB,
            "max_processes": 99,
        }
        for settings, expected in ((given, (3, 200 * MIB, MIB, 99)), ({}, (10, 2 << 30, 16 * MIB, 1024))):
            seen = json.loads(await self.ask(self.gateway(path, **settings), b"x\r\n"))
            assert tuple(seen[name][0] for name in ("CPU", "AS", "FSIZE", "NPROC")) == expected
            assert seen["NOFILE"][0] == resource.getrlimit(resource.RLIMIT_NOFILE)[0]

    async def test_processor_time(self) -> None:
        """A program that computes without end is ended, and the reason names the setting."""
        backend = self.backend("while :; do :; done", limits=self.limits(cpu_seconds=1))
        reason = "ended by SIGXCPU: it used more processor time than max_cpu_seconds allows"
        assert await self.asked(backend) == Failed(reason)

    async def test_processor_time_that_is_ignored(self) -> None:
        """A program that does not heed the signal is killed a second later."""
        backend = self.backend("trap '' XCPU; while :; do :; done", limits=self.limits(cpu_seconds=1))
        assert await self.asked(backend) == Failed("ended by SIGKILL")

    async def test_memory(self) -> None:
        """A program gets no more memory than it may have, and what it says to that is in the log."""
        text = f"#!{sys.executable} -I\nprint(len(bytearray({200 * MIB})))\n"
        for memory, outcome in ((400, Answered(f"{200 * MIB}\n")), (150, Failed("exit code 1"))):
            assert await self.asked(self.backend(text, limits=self.limits(memory_bytes=memory * MIB))) == outcome
        assert "MemoryError" in " ".join(self.logged())

    async def test_memory_for_nothing(self) -> None:
        """A program that may not even be loaded has Failed, and not with what the gateway's own code says."""
        backend = self.backend("echo x", limits=self.limits(memory_bytes=MIB))
        outcome = await self.asked(backend)
        assert isinstance(outcome, Failed)
        assert outcome.reason.startswith(("cannot be started: ", "ended by SIG", "exit code 127"))
        assert "Traceback" not in " ".join(self.logged())

    async def test_size_of_a_file(self) -> None:
        """A program that writes too large a file is ended, and the reason names the setting."""
        backend = self.backend("exec head -c 2000000 /dev/zero >file", limits=self.limits(file_bytes=MIB))
        reason = "ended by SIGXFSZ: it wrote a file larger than max_file_bytes allows"
        assert await self.asked(backend) == Failed(reason)
        assert (self.script_folder / "file").stat().st_size == MIB

    async def test_size_of_an_answer(self) -> None:
        """The answer itself is no file: max_bytes alone limits it."""
        backend = self.backend("printf %05000d 0", max_bytes=5000, limits=self.limits(file_bytes=10))
        assert await self.asked(backend) == Answered("0" * 5000)

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user that has no other processes")
    def test_processes(self) -> None:
        """A program can start no more processes than its user may have, the gateway included."""
        answer = alone(
            "/bin/sh",
            "-c",
            "for i in 1 2 3 4; do sleep 5 & echo $i; done 2>&1",
            first="limits = ProgramLimits(cpu_seconds=10, memory_bytes=2 << 30, file_bytes=1, processes=4)",
            then=f"os.setgid({STRANGER}); os.setuid({STRANGER})",
        )
        # the gateway, the shell, and two more
        assert answer == str(Failed("exit code 2"))

    def test_never_raised(self) -> None:
        """What the gateway itself is limited to is no error, and is not raised."""
        lower = {"CPU": 8, "FSIZE": 1000, "NPROC": 10_000, "AS": 900 * MIB, "CORE": 0, "NOFILE": 200}
        answer = alone(
            str(self.script(SHOW_LIMITS)),
            first="limits = ProgramLimits(cpu_seconds=10, memory_bytes=2 << 30, file_bytes=1 << 20, processes=20_000)",
            then="".join(
                f"resource.setrlimit(resource.RLIMIT_{name}, ({limit}, {limit}));" for name, limit in lower.items()
            ),
        )
        assert answer == told(
            json.dumps({name: [lower[name]] * 2 for name in ("CPU", "AS", *list(lower)[1:3], "CORE", "NOFILE")}) + "\n"
        )

    def test_open_files_as_at_the_start(self) -> None:
        """A gateway that raises its own limit of open files does not raise its programs'."""
        answer = alone(
            "/bin/sh",
            "-c",
            "ulimit -Sn; ulimit -Hn",
            first="resource.setrlimit(resource.RLIMIT_NOFILE, (100, 300));"
            "limits = ProgramLimits(cpu_seconds=10, memory_bytes=2 << 30, file_bytes=1 << 20, processes=20_000)",
            then="resource.setrlimit(resource.RLIMIT_NOFILE, (300, 300))",
        )
        assert answer == told("100\n300\n")


class BeginTests(CommandCase):
    """What happens between the gateway's fork and the program's first instruction."""

    async def test_signals(self) -> None:
        """The program has no signal blocked or ignored, whatever the gateway has, which keeps its own."""
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
        self.addCleanup(signal.pthread_sigmask, signal.SIG_SETMASK, blocked)
        self.addCleanup(signal.signal, signal.SIGUSR2, signal.signal(signal.SIGUSR2, signal.SIG_IGN))
        outcome = await self.asked(self.backend("exec grep -E '^Sig(Blk|Ign)' /proc/self/status"))
        assert isinstance(outcome, Answered)
        # the C library has some of its own, which are nobody else's business
        mask = sum(1 << number - 1 for number in signal.valid_signals())
        seen = {name: int(bits, 16) & mask for name, bits in (line.split(":") for line in outcome.text.splitlines())}
        assert seen == {"SigBlk": 0, "SigIgn": 0}
        assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == {*blocked, signal.SIGUSR1}

    async def test_signal_before_the_program(self) -> None:
        """A signal that comes between fork and exec is for the program: the gateway's own way with it is not taken."""
        caught: list[int] = []
        before = signal.signal(signal.SIGUSR1, lambda number, _: caught.append(number))
        self.addCleanup(signal.signal, signal.SIGUSR1, before)
        fork = os.fork

        def signalled() -> int:
            pid = fork()
            if pid == 0:
                os.kill(os.getpid(), signal.SIGUSR1)
            return pid

        self.patch(os, "fork", signalled)
        assert await self.asked(self.backend("echo run")) == Failed("ended by SIGUSR1")
        assert caught == []

    async def test_reasons(self) -> None:
        """What keeps a program from being started is the reason, and the log has no more of it."""
        cases: list[tuple[str, dict[str, str], str]] = [
            ("#!/nonexistent/interpreter\n", {}, "No such file or directory"),
            ("\x7fELF is not what this is", {}, "Exec format error"),
            ("exit 0", {"A": "nul\0"}, "embedded null byte"),
            ("exit 0", {"A=B": "x"}, "illegal environment variable name"),
            ("exit 0", {"A": "x" * 200_000}, "Argument list too long"),
        ]
        for text, env, reason in cases:
            backend = self.backend(text, "secret", env=env, missing_exit_codes=[1, 126, 127])
            assert await self.asked(backend) == Failed(f"cannot be started: {reason}")
        assert self.logged() == []

    async def test_unforeseen_error(self) -> None:
        """What nobody foresaw between fork and exec is told as all else is, and the log has no traceback."""

        def fail() -> None:
            raise RuntimeError("unforeseen")

        limits: Any = Impostor(fail)
        backend = self.backend("echo run", "secret", limits=limits, missing_exit_codes=[1, 126, 127])
        assert await self.asked(backend) == Failed("cannot be started: unforeseen")
        assert self.logged() == []

    async def test_program_that_says_the_same(self) -> None:
        """A program cannot pretend not to have been started: it does not have what that is told through."""
        backend = self.backend("echo refused >&3; exit 127")
        assert await self.asked(backend) == Failed("exit code 127")

    async def test_descriptors(self) -> None:
        """The program has its three standard files, whatever the gateway has open: sockets, what is inheritable."""
        for end in os.pipe():
            os.set_inheritable(end, True)
            self.addCleanup(os.close, end)
        # the last is the one that lists the folder
        assert await self.ask(self.gateway("ls", "/proc/self/fd"), b"x\r\n") == b"0\r\n1\r\n2\r\n3\r\n"

    def test_gateway_without_standard_files(self) -> None:
        """The program has its three standard files even where the gateway was started without."""
        answer = alone("/bin/ls", "/proc/self/fd", then="os.close(0); os.close(1); os.close(2)")
        assert answer == told("0\n1\n2\n3\n")

    def test_terminal(self) -> None:
        """A gateway on a terminal gives none to its programs."""
        answer = alone(
            "/bin/sh",
            "-c",
            "(: </dev/tty) 2>/dev/null || echo none",
            then="import fcntl, termios; terminal = os.openpty(); os.setsid();"
            "fcntl.ioctl(terminal[1], termios.TIOCSCTTY, 0); os.close(os.open('/dev/tty', os.O_RDWR))",
        )
        assert answer == told("none\n")

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can change its root")
    def test_chroot(self) -> None:
        """In a chroot with nothing but /dev/null, the program and its libraries, it is started as anywhere else."""
        root = self.write("unused", "").parent / "root"
        for file in ["/bin/sh", *re.findall(r"/\S+", subprocess.check_output(["ldd", "/bin/sh"], text=True))]:
            (root / file[1:]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, root / file[1:])
        (root / "dev").mkdir()
        os.mknod(root / "dev/null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        answer = alone(
            "/bin/sh",
            "-c",
            'ulimit -t; for i in 0 1 2 3 4 5 6 7 8 9; do (eval ": <&$i") 2>/dev/null && printf $i; done; :',
            then=f"[os.set_inheritable(end, True) for end in os.pipe()]; os.chroot('{root}'); os.chdir('/')",
        )
        assert answer == told("10\n012")

    def test_threads(self) -> None:
        """Threads beside the fork cause no warning, and keep no program from being started."""
        answer = alone("/bin/echo", "run", then="threading.Thread(target=threading.Event().wait, daemon=True).start()")
        assert answer == told("run\n")


@attrs.frozen
class Impostor:
    """Limits that do something else when they are imposed."""

    impose: Any


class LeftTests(CommandCase):
    """What is left of programs, whatever their fate."""

    async def test_many_children(self) -> None:
        """A program with many children is gone with all of them at its deadline."""
        asked = self.asked(
            self.backend("for i in $(seq 50); do sleep 60 & echo $! >>children; done; echo $$ >pid; wait")
        )
        pid = await self.pid()
        pids = [pid, *map(int, (self.script_folder / "children").read_text().split())]
        assert sum(map(is_running, pids)) == 51
        self.clock.advance(5)
        assert await asked == Failed("not done within 5 s")
        await until(lambda: not any(map(is_running, pids)), "their end")

    async def test_nothing(self) -> None:
        """After fifty runs of different fates there is no zombie, no descriptor and no timer more than before."""
        fates: list[tuple[str, Outcome]] = [
            ("echo ok", Answered("ok\n")),
            ("exit 1", Failed("exit code 1")),
            ("echo $$ >pid; exec sleep 60", Failed("not done within 5 s")),
            ("exec cat /dev/zero", Failed("killed: its output is larger than max_bytes = 1000")),
            ("#!/nonexistent/interpreter\n", Failed("cannot be started: No such file or directory")),
        ]
        await self.asked(self.backend("echo the first run has the reactor open what it needs"))
        before = len(children()), descriptors(), threading.active_count()
        for _ in range(10):
            for text, outcome in fates:
                asked = self.asked(self.backend(text))
                if "pid" in text:
                    await self.pid()
                    (self.script_folder / "pid").unlink()
                    self.clock.advance(5)
                assert await asked == outcome
        await until(lambda: (len(children()), descriptors()) == before[:2], "the end of them")
        assert threading.active_count() == before[2]
        assert self.clock.getDelayedCalls() == []


def zombies_of(pid: int) -> int:
    """Count the children of a process that are dead and not cleared away."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return sum(Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] == "Z" for child in children)


@pytest.mark.skipif(os.geteuid() != 0, reason="making a process the first of a namespace takes root")
def test_orphans_of_a_container(tmp_path: Path) -> None:
    """As the first process of a container the gateway clears away what killed programs have left behind."""
    port = free_port()
    file = tmp_path / "fingergw.toml"
    file.write_text(
        f'[[listeners]]\nendpoint = "tcp:{port}:interface=127.0.0.1"\n'
        '[[routes]]\nuser = "litter"\nbackends = ["litter"]\n[[routes]]\nuser = "clean"\nbackends = ["clean"]\n'
        '[backends.litter]\ntype = "command"\nargv = ["sh", "-c", "sleep 100 & sleep 100 & echo done"]\n'
        '[backends.clean]\ntype = "command"\nargv = ["echo", "clean"]\n'
    )
    command = ["unshare", "--pid", "--fork", "--kill-child", *COMMAND, "--config", str(file)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=env) as running:
        try:
            wait_until(lambda: serves(port), "the gateway")
            first = int(Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text())
            for _ in range(5):
                assert finger(port, b"litter\r\n") == b"done\r\n"

            def is_clean() -> bool:
                assert finger(port, b"clean\r\n") == b"clean\r\n"
                return not zombies_of(first)

            wait_until(is_clean, "the end of all zombies")
        finally:
            running.kill()
