"""The command backend, with real processes that misbehave."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import select
import sys
import termios
import time
import tracemalloc
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import process
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionLost, ProcessDone
from twisted.internet.task import Clock, deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from fingergw.backends.command import Command, CommandBackend
from fingergw.core.errors import ConfigError
from fingergw.core.outcome import Answered, Failed, Missing, Outcome
from fingergw.core.placeholders import Template
from fingergw.core.query import Query
from fingergw.core.setting_types import Argv, Bytes
from fingergw.net.programs import spawner
from tests.support.commands import LIMITS, CommandCase, is_running
from tests.support.fakes import FakeSpawn
from tests.support.in_turn import InTurn
from tests.support.waiting import DEADLINE_SECONDS, reactor, until

PRINT_ARGUMENTS = f"#!{sys.executable} -I\nimport json, sys\nprint(json.dumps(sys.argv[1:]))\n"
INTERNAL_ERROR = b"Internal error in server\r\n"


def unread_bytes(pid: int, descriptor: int) -> int:
    """Return how much a process has written into a pipe that nobody has read yet."""
    pipe = os.open(f"/proc/{pid}/fd/{descriptor}", os.O_WRONLY)
    try:
        return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)
    finally:
        os.close(pipe)


class RecordedSpawn:
    """What starts a program, and has its process at hand."""

    process: Any

    def __call__(self, *arguments: Any) -> Any:
        """Start it."""
        self.process = spawner(reactor, LIMITS)(*arguments)
        return self.process


class WhatIsRunTests(CommandCase):
    """What the program is given, and what it is not."""

    async def test_output_is_the_answer(self) -> None:
        """What the program prints reaches the client."""
        gateway = self.gateway(str(self.script("echo up; echo since Monday")))
        assert await self.ask(gateway, b"x\r\n") == b"up\r\nsince Monday\r\n"

    async def test_program_beside_the_configuration(self) -> None:
        """A program with a slash in its name is found from the configuration's folder."""
        self.script("echo here")
        gateway = self.gateway("./program")
        assert await self.ask(gateway, b"x\r\n") == b"here\r\n"

    def test_program_that_is_not_there(self) -> None:
        """A program that cannot be found, or not be executed, is an error before anything is bound."""
        self.write("data", "")
        for program in ("no-such-program", "./program", "/nonexistent/program", "."):
            with pytest.raises(ConfigError, match=f'no executable file "{re.escape(program)}"'):
                self.gateway(program)
        with pytest.raises(ConfigError, match=r'"\./data" is not executable; run: chmod \+x \S+/data$'):
            self.gateway("./data")
        with pytest.raises(ConfigError, match=r'"\./" is a folder; name a program in it$'):
            self.gateway("./")

    async def test_names_arrive_as_one_argument(self) -> None:
        """A name is one argument, verbatim, whatever it would mean to a shell."""
        backend = self.backend(PRINT_ARGUMENTS, "--", "{user}", max_running=4)
        names = [
            "a;id",
            "$(id)",
            "`id`",
            "a  b",
            "a'b",
            'a"b',
            "*",
            "a\\b",
            "a&b|c>d",
            "~root",
            "é",
            "$HOME",
            "a-b",
            "",
        ]
        for name in names:
            assert await self.asked(backend, name) == Answered(json.dumps(["--", name]) + "\n")

    async def test_names_are_never_options(self) -> None:
        """A name that begins with a dash is Missing, and the program is not run at all."""
        for argument in ("{user}", "{user}{user}", "{user}.txt"):
            backend = self.backend("touch run", argument)
            for name in ("-", "-p", "--help", "-x y"):
                assert await self.asked(backend, name) == Missing()
        assert not (self.script_folder / "run").exists()

    async def test_groups_are_never_options(self) -> None:
        """What a regex's group takes from the name is never an option either."""
        path = self.script("echo run")
        gateway = self.gateway(str(path), "{team}", match={"regex": "x(?P<team>.*)"})
        answers = [await self.ask(gateway, b"x-p\r\n"), await self.ask(gateway, b"xp\r\n")]
        assert answers == [b"No such user\r\n", b"run\r\n"]

    async def test_dash_inside_an_argument(self) -> None:
        """A name that begins with a dash is passed on where the argument does not begin with it."""
        backend = self.backend(PRINT_ARGUMENTS, "--user={user}")
        assert await self.asked(backend, "-x") == Answered('["--user=-x"]\n')

    async def test_environment(self) -> None:
        """The environment is what the configuration gives and the four variables; nothing is inherited."""
        gateway = self.gateway("env", env={"LANG": "C.UTF-8"})
        for query, user, verbose in ((b"joe\r\n", "joe", 0), (b"/W joe\r\n", "joe", 1)):
            answer = await self.ask(gateway, query)
            assert sorted(answer.decode().splitlines()) == [
                "FINGER_CLIENT=127.0.0.1",
                "FINGER_LISTENER=tcp:0:interface=127.0.0.1",
                f"FINGER_USER={user}",
                f"FINGER_VERBOSE={verbose}",
                "LANG=C.UTF-8",
            ]

    async def test_environment_of_the_gateway_wins(self) -> None:
        """The configuration cannot pretend another name than the one asked for."""
        backend = self.backend('printf %s "$FINGER_USER"', env={"FINGER_USER": "root"})
        assert await self.asked(backend, "joe") == Answered("joe")

    async def test_standard_input_is_empty(self) -> None:
        """The program reads an end of file at once."""
        backend = self.backend("cat; echo end")
        assert await self.asked(backend) == Answered("end\n")

    async def test_session_of_its_own(self) -> None:
        """The program leads a session, so that it has no terminal and its children can be found."""
        backend = self.backend(f"#!{sys.executable} -I\nimport os\nprint(os.getsid(0) == os.getpid())\n")
        assert await self.asked(backend) == Answered("True\n")

    async def test_signals_are_not_ignored(self) -> None:
        """What the gateway's runtime ignores, such as SIGPIPE, is not ignored in the program."""
        backend = self.backend("kill -PIPE $$; echo ignored")
        assert await self.asked(backend) == Failed("ended by SIGPIPE")


class EndTests(CommandCase):
    """What the program's end says."""

    async def test_exit_codes(self) -> None:
        """0 answers, the codes that are declared are Missing, all others and signals fail."""
        cases: list[tuple[str, Sequence[int], Outcome]] = [
            ("echo x; exit 0", [1], Answered("x\n")),
            ("echo x; exit 1", [1, 44], Missing()),
            ("exit 44", [1, 44], Missing()),
            ("exit 2", [1, 44], Failed("exit code 2")),
            ("exit 1", [], Failed("exit code 1")),
            ("kill -KILL $$", [9, 137], Failed("ended by SIGKILL")),
        ]
        for text, missing, outcome in cases:
            assert await self.asked(self.backend(text, missing_exit_codes=missing)) == outcome, text

    async def test_exit_codes_of_answers(self) -> None:
        """With a code that is declared for that, the output is the answer, as with 0; other codes are as before."""
        cases: list[tuple[str, Outcome]] = [
            ("echo inactive; exit 3", Answered("inactive\n")),
            ("echo failed; exit 255", Answered("failed\n")),
            ("echo up; exit 0", Answered("up\n")),
            ("echo unknown; exit 4", Missing()),
            ("echo broken; exit 2", Failed("exit code 2")),
            ("exit 3", Missing()),
            ("echo x; kill -QUIT $$", Failed("ended by SIGQUIT")),
        ]
        for text, outcome in cases:
            backend = self.backend(text, missing_exit_codes=[4], answer_exit_codes=[3, 255])
            assert await self.asked(backend) == outcome, text

    async def test_exit_code_of_an_answer_reaches_the_client(self) -> None:
        """``answer_exit_codes`` in the file makes what a program prints beside such a code the client's answer."""
        gateway = self.gateway(str(self.script("echo inactive; exit 3")), answer_exit_codes=[3])
        assert await self.ask(gateway, b"nginx\r\n") == b"inactive\r\n"

    async def test_nothing_is_no_answer(self) -> None:
        """A program that exits with 0 and prints nothing that can be seen does not know the name; the chain goes on."""
        for text in (
            "true",
            "echo",
            "printf ' \\n\\t\\r\\n'",
            "printf '\\0\\033\\a'",
            "printf '\\302\\240\\n'",
            "echo x >&2",
        ):
            assert await self.asked(self.backend(text)) == Missing(), text
        route = {"pattern": "*", "backends": ["program", "last"]}
        gateway = self.gateway(str(self.script("echo")), match=route, last="Nobody.")
        assert await self.ask(gateway, b"x\r\n") == b"Nobody.\r\n"

    async def test_programs_that_cannot_run(self) -> None:
        """A program that cannot be executed has Failed, even where its exit code 1 would be Missing."""
        for text, mode in (
            ("#!/bin/sh\n", 0o644),
            ("#!/nonexistent/interpreter\n", 0o755),
            ("\x7fELF is not what this is", 0o755),
            ("#!/bin/sh\n", None),
        ):
            backend = self.backend(text, missing_exit_codes=[1])
            if mode is None:
                Path(backend.backend.executable).unlink()
            else:
                Path(backend.backend.executable).chmod(mode)
            assert isinstance(await self.asked(backend), Failed), text

    async def test_output_that_is_not_utf_8(self) -> None:
        """Bytes that are no UTF-8 are replaced."""
        assert await self.asked(self.backend(r"printf 'a\377b'")) == Answered("a\ufffdb")

    async def test_output_of_just_the_size(self) -> None:
        """As much as max_bytes is an answer, and one byte more is not."""
        for size, outcome in (
            (1000, Answered("x" * 1000)),
            (1001, Failed("killed: its output is larger than max_bytes = 1000")),
        ):
            assert await self.asked(self.backend(f"head -c {size} /dev/zero | tr '\\0' x")) == outcome

    async def test_event_of_another_descriptor(self) -> None:
        """What the reactor tells a pipe of, and was for what had its number before, loses nothing of the output."""
        spawn = RecordedSpawn()
        asked = self.asked(self.backend("while [ ! -e go ]; do sleep 0.01; done; echo all", spawn=spawn))
        reader = spawn.process.pipes[1]
        reactor.removeReader(reader)  # so does a reactor to which a pipe's end is told
        reader.connectionLost(Failure(ConnectionLost()))
        (self.script_folder / "go").touch()
        assert await asked == Answered("all\n")

    async def test_event_of_another_descriptor_with_too_much_output(self) -> None:
        """A pipe that is closed as such an event finds too much in it is not closed once more."""
        spawn = RecordedSpawn()
        asked = self.asked(self.backend("head -c 2000 /dev/zero; exec sleep 60", max_bytes=1000, spawn=spawn))
        reader = spawn.process.pipes[1]
        reactor.removeReader(reader)
        await until(lambda: bool(select.select([reader], [], [], 0)[0]), "the program's output")
        reader.connectionLost(Failure(ConnectionLost()))
        assert await asked == Failed("killed: its output is larger than max_bytes = 1000")
        await until(lambda: not reader.connected, "the end of the pipe")
        await deferLater(reactor, 0)
        assert [event for event in self.events if "log_failure" in event] == []

    async def test_stall_after_the_end(self) -> None:
        """What a program has written is read whole although the gateway comes to it only when its time is over."""
        asked = self.asked(self.backend("head -c 60000 /dev/zero | tr '\\0' y", max_bytes=60000))
        ends = time.monotonic() + DEADLINE_SECONDS
        while len(self.clock.getDelayedCalls()) < 2 and time.monotonic() < ends:  # the reactor does nothing meanwhile
            process.reapAllProcesses()
        self.clock.advance(1)
        assert await asked == Answered("y" * 60000)

    async def test_errors_are_logged(self) -> None:
        """What the program says on stderr goes to the log, escaped, without its last line ends; not to the client."""
        backend = self.backend(r"echo fine; printf 'a\033[31m\nb\r\n\n' >&2")
        assert await self.asked(backend) == Answered("fine\n")
        assert f"{backend.backend.executable} wrote to standard error: a\\x1b[31m\\nb" in self.logged()

    async def test_blank_errors(self) -> None:
        """Line ends alone say nothing."""
        await self.asked(self.backend("echo >&2"))
        assert self.logged() == []

    async def test_errors_are_bounded(self) -> None:
        """Only the first 4096 bytes of stderr are kept."""
        await self.asked(self.backend("head -c 100000 /dev/zero | tr '\\0' e >&2"))
        [line] = [line for line in self.logged() if "wrote to standard error" in line]
        assert line.count("e" * 4096) == 1
        assert "e" * 4097 not in line

    async def test_errors_of_a_killed_program(self) -> None:
        """What a program had said on stderr before its deadline is logged too."""
        asked = self.asked(self.backend("echo waiting for the database >&2; echo $$ >pid; exec sleep 60"))
        pid = await self.pid()
        await until(lambda: unread_bytes(pid, 2) == 0, "the reading of the pipe")
        self.clock.advance(5)
        await asked
        assert "waiting for the database" in " ".join(self.logged())


class KilledTests(CommandCase):
    """Programs that do not end by themselves."""

    async def test_hang(self) -> None:
        """At its deadline a program is killed with its children, and reaped."""
        asked = self.asked(self.backend("sleep 60 & echo $! >child; echo $$ >pid; sleep 60"))
        child, pid = await self.pid("child"), await self.pid()
        self.clock.advance(5)
        assert await asked == Failed("not done within 5 s")
        await until(lambda: not is_running(child) and not Path(f"/proc/{pid}").exists())

    async def test_hang_on_the_wire(self) -> None:
        """The client of a program that hangs learns that something failed, and no more."""
        gateway = self.gateway(str(self.script("echo half an answer; exec sleep 60")), timeout=0.3)
        assert await self.ask(gateway, b"x\r\n") == INTERNAL_ERROR

    async def test_ignored_signals(self) -> None:
        """A program cannot refuse to be killed."""
        asked = self.asked(self.backend("trap '' TERM HUP INT; echo $$ >pid; while :; do sleep 1; done"))
        pid = await self.pid()
        self.clock.advance(5)
        await asked
        await until(lambda: not Path(f"/proc/{pid}").exists())

    async def test_closed_output(self) -> None:
        """A program that closes its output and goes on is waited for until the deadline."""
        asked = self.asked(self.backend("exec >&- 2>&-; echo $$ >pid; exec sleep 60"))
        pid = await self.pid()
        self.clock.advance(4.9)
        assert not asked.called
        self.clock.advance(0.1)
        assert await asked == Failed("not done within 5 s")
        await until(lambda: not Path(f"/proc/{pid}").exists())

    async def test_flood(self) -> None:
        """A program that never stops printing is killed, and what it prints is not kept."""
        backend = self.backend("echo $$ >pid; exec cat /dev/zero", max_bytes=100_000)
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        before = tracemalloc.get_traced_memory()[0]
        assert await self.asked(backend) == Failed("killed: its output is larger than max_bytes = 100000")
        assert tracemalloc.get_traced_memory()[1] - before < 2_000_000
        pid = await self.pid()
        await until(lambda: not Path(f"/proc/{pid}").exists())

    async def test_child_left_behind(self) -> None:
        """A child that holds the output open is killed, and the answer does not wait for any timer."""
        backend = self.backend("sleep 60 & echo $! >child; echo done")
        assert await self.asked(backend) == Answered("done\n")
        child = await self.pid("child")
        await until(lambda: not is_running(child))
        assert self.clock.getDelayedCalls() == []

    async def test_child_in_a_session_of_its_own(self) -> None:
        """A child that has left the session and holds the output open delays the answer by a second at most."""
        backend = self.backend(
            "setsid sh -c 'echo $$ >child; exec sleep 60' & while ! [ -s child ]; do :; done; echo done"
        )
        asked = self.asked(backend)
        child = await self.pid("child")
        await until(lambda: len(self.clock.getDelayedCalls()) > 1 or asked.called, "the program's end")
        await until(lambda: unread_bytes(child, 1) == 0, "the reading of the pipe")
        self.clock.advance(1)
        assert await asked == Answered("done\n")

    async def test_client_gone(self) -> None:
        """When the client leaves, the program is killed and its place is free."""
        path = self.script('[ "$1" = ok ] && echo ok && exit; echo $$ >pid; exec sleep 60')
        gateway = self.gateway(str(path), "{user}", max_running=1)
        client = await self.connect(gateway)
        assert client.transport is not None
        client.transport.write(b"hang\r\n")
        pid = await self.pid()
        client.transport.abortConnection()  # type: ignore[attr-defined]
        await until(lambda: not Path(f"/proc/{pid}").exists())
        assert await self.ask(gateway, b"ok\r\n") == b"ok\r\n"


class PlacesTests(CommandCase):
    """How many run at once."""

    async def test_more_wait(self) -> None:
        """One more than max_running waits until another has ended."""
        backend = self.backend('touch "began-$1"; while ! [ -e go ]; do sleep 0.01; done; echo "$1"', "{user}")
        first, second = self.asked(backend, "a"), self.asked(backend, "b")
        await until((self.script_folder / "began-a").exists)
        assert not (self.script_folder / "began-b").exists()
        self.write("go", "")
        assert await first == Answered("a\n")
        self.clock.advance(0)
        assert await second == Answered("b\n")

    async def test_waiting_is_within_the_timeout(self) -> None:
        """One that waits for a place has Failed at its deadline, without having been run, which its reason says."""
        backend = self.backend('echo $$ >pid; touch "began-$1"; exec sleep 60', "{user}")
        asked = [self.asked(backend, "a"), self.asked(backend, "b")]
        await self.pid()
        self.clock.advance(5)
        not_begun = Failed("not begun within 5 s, as max_running = 1 others were running")
        assert [await one for one in asked] == [Failed("not done within 5 s"), not_begun]
        assert not (self.script_folder / "began-b").exists()

    async def test_what_needs_no_place(self) -> None:
        """A name that is no program's to answer, and a program that is gone, are told at once while others wait."""
        backend = self.backend("echo $$ >pid; exec sleep 60", "{user}")
        askings = [self.asked(backend, "a"), self.asked(backend, "b")]
        await self.pid()
        assert self.successResultOf(self.asked(backend, "-x")) == Missing()
        path = Path(backend.backend.executable)
        path.unlink()
        assert self.successResultOf(self.asked(backend, "c")) == Failed(
            f"{path} is missing or not executable; install it, or let the gateway's user run it"
        )
        for asking in askings:
            self.assertNoResult(asking)
            asking.cancel()
            self.failureResultOf(asking, CancelledError)

    async def test_place_is_given_back(self) -> None:
        """However a run ends, the next one finds its place."""
        for text in ("exit 3", "kill -KILL $$", "cat /dev/zero", "#!/nonexistent\n", "echo $$ >pid; exec sleep 60"):
            backend = self.backend(text)
            asked = self.asked(backend)
            if "pid" in text:
                await self.pid()
                self.clock.advance(5)
            assert isinstance(await asked, Failed), text
            self.script("echo ok")
            again = self.asked(backend)
            await until(partial(self._turned, again))
            assert await again == Answered("ok\n"), text

    def _turned(self, asked: Deferred[Outcome]) -> bool:
        """Let who waits have its turn; tell whether a query is answered."""
        self.clock.advance(0)
        return asked.called


class FakeProcessTests(TestCase):
    """What no real process can be made to do at a given moment."""

    def setUp(self) -> None:
        self.clock = Clock()

    def backend(self, spawn: Any) -> InTurn[CommandBackend]:
        """Return a backend with one place and five seconds."""
        settings = Command(argv=Argv((Template("true"),)), max_bytes=Bytes(10))
        return InTurn(CommandBackend(settings, "/bin/true", self.clock, spawn), 5, 1, self.clock)

    def asked(self, backend: InTurn[CommandBackend]) -> Deferred[Outcome]:
        """Begin to ask."""
        return backend.asked(Query("x"))

    def test_system_refuses(self) -> None:
        """A system that can start no process is a Failed with its reason, and the place is given back."""
        backend = self.backend(FakeSpawn(error=OSError(errno.EAGAIN, "Resource temporarily unavailable")))
        for _ in range(3):
            outcome = self.successResultOf(self.asked(backend))
            assert outcome == Failed("cannot be started: Resource temporarily unavailable")
            self.clock.advance(0)

    def test_nothing_is_started(self) -> None:
        """What keeps this machine from starting it, or from passing its arguments on, says nothing of the program."""
        for error in (OSError(errno.EMFILE, "Too many open files"), UnicodeEncodeError("ascii", "é", 0, 1, "no")):
            backend = self.backend(FakeSpawn(error=error))
            outcome = self.successResultOf(self.asked(backend))
            assert isinstance(outcome, Failed)
            assert outcome.upstream == "unknown"

    def test_system_refuses_many(self) -> None:
        """Where many wait, and the system starts none of them for a moment, no place is lost, and nobody's answer."""
        spawn = FakeSpawn()
        backend = self.backend(spawn)
        askings = [self.asked(backend) for _ in range(500)]
        spawn.error = OSError(errno.EAGAIN, "Resource temporarily unavailable")
        spawn.processes[0].end()
        self.clock.pump([0] * 500)
        refused = Failed("cannot be started: Resource temporarily unavailable")
        assert [self.successResultOf(asked) for asked in askings[1:]] == [refused] * 499
        spawn.error = None
        self.asked(backend)
        assert len(spawn.processes) == 2

    def test_unforeseen_error(self) -> None:
        """Whatever else goes wrong at the start, the place is given back."""
        backend = self.backend(FakeSpawn(error=RuntimeError("unforeseen")))
        for _ in range(3):
            self.failureResultOf(self.asked(backend)).trap(RuntimeError)
            self.clock.advance(0)

    def test_kill_that_is_not_permitted(self) -> None:
        """A program that has become another user's cannot be killed, but its pipes are closed."""
        spawn = FakeSpawn()
        asked = self.asked(self.backend(spawn))
        process = spawn.processes[0]
        process.refuses = True
        self.clock.advance(5)
        assert self.successResultOf(asked) == Failed("not done within 5 s")
        assert process.closed

    def test_deadline(self) -> None:
        """The program is killed at its deadline, and not before."""
        spawn = FakeSpawn()
        asked = self.asked(self.backend(spawn))
        [process] = spawn.processes
        self.clock.advance(4.999)
        assert (process.signals, process.closed) == ([], False)
        self.clock.advance(0.001)
        assert (process.signals, process.closed) == (["KILL"], True)
        assert self.successResultOf(asked) == Failed("not done within 5 s")

    def test_end_after_the_deadline(self) -> None:
        """The place is free when the killed program is gone, and not before; who asked for it has not waited."""
        spawn = FakeSpawn()
        backend = self.backend(spawn)
        killed = self.asked(backend)
        self.clock.advance(5)
        assert self.successResultOf(killed) == Failed("not done within 5 s")
        waiting = self.asked(backend)
        self.clock.advance(4)
        assert len(spawn.processes) == 1
        spawn.processes[0].end(code=None, signal=9)
        self.clock.advance(0)
        spawn.processes[1].protocol.childDataReceived(1, b"ok")
        spawn.processes[1].end()
        assert self.successResultOf(waiting) == Answered("ok")

    def test_end_after_being_cancelled(self) -> None:
        """A client that leaves has the program killed; its end afterwards frees its place, and disturbs nothing."""
        spawn = FakeSpawn()
        backend = self.backend(spawn)
        asked = self.asked(backend)
        asked.cancel()
        self.failureResultOf(asked).trap(CancelledError)
        [process] = spawn.processes
        assert process.signals == ["KILL"]
        next_one = self.asked(backend)
        self.clock.advance(1)
        assert len(spawn.processes) == 1
        process.end(code=None, signal=9)
        self.clock.advance(0)
        spawn.processes[1].end()
        assert self.successResultOf(next_one) == Missing()
        assert self.clock.getDelayedCalls() == []

    def test_number_of_a_process_that_is_gone(self) -> None:
        """Once the program has exited its number is signalled no more: it may be another's by then."""
        killed: list[int] = []
        self.patch(os, "killpg", lambda pid, _: killed.append(pid))
        spawn = FakeSpawn(pid=42)
        asked = self.asked(self.backend(spawn))
        spawn.processes[0].protocol.processExited(Failure(ProcessDone(0)))
        assert killed == [42]
        asked.cancel()
        self.failureResultOf(asked).trap(CancelledError)
        spawn.processes[0].end()
        assert killed == [42]

    def test_no_timer_is_left(self) -> None:
        """An answer leaves no timer behind."""
        spawn = FakeSpawn()
        asked = self.asked(self.backend(spawn))
        spawn.processes[0].end()
        self.successResultOf(asked)
        assert self.clock.getDelayedCalls() == []

    def test_nothing_is_read_after_too_much(self) -> None:
        """What arrives after too much output is thrown away."""
        spawn = FakeSpawn()
        asked = self.asked(self.backend(spawn))
        [process] = spawn.processes
        for _ in range(3):
            process.protocol.childDataReceived(1, b"x" * 11)
        assert process.closed
        process.end(code=None, signal=9)
        assert self.successResultOf(asked) == Failed("killed: its output is larger than max_bytes = 10")
