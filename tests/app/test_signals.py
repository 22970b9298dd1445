"""Signals count from the first instruction: none is lost, and none kills what can handle it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from fingergw.app import signals
from tests.support.commands import is_running
from tests.support.configuration import HELLO, listener
from tests.support.pausing import Paused, paused
from tests.support.processes import COMMAND, ROOT, run
from tests.support.sockets import finger, free_port, serves
from tests.support.waiting import DEADLINE_SECONDS, wait_until

HUP, USR1, TERM, INT = signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM, signal.SIGINT
FIRST, IMPORTS = "import fingergw.cli.command", "import fingergw.app.build"
BINDING = "socket.bind ('127.0.0.1', {port})"  # the unix socket is bound by then
LOG = "events.log"


CONFIGURATION = "import fingergw.cli.configuration"


@pytest.fixture(autouse=True)
def port(tmp_path: Path) -> int:
    """Return the port of a gateway whose configuration is in the test's folder, and which has a unix socket too."""
    port = free_port()
    socket = '[[listeners]]\nendpoint = "unix:socket"\n'
    (tmp_path / "fingergw.toml").write_text(socket + listener(port) + HELLO + '[log]\naccess = "access.log"\n')
    return port


ARGUMENTS = ["--config", "fingergw.toml", "--pidfile", "pid", "--logfile", LOG]


def code(process: subprocess.Popen[str]) -> int:
    """Return the exit code of a process that is about to end; it may print nothing."""
    assert process.communicate(timeout=DEADLINE_SECONDS) == ("", "")
    return process.returncode


def left(folder: Path) -> set[str]:
    """Return the names of what a gateway has left of its own."""
    return {path.name for path in folder.iterdir()} & {"pid", "socket", "socket.lock"}


@pytest.mark.parametrize(
    ("point", "number"),
    [(FIRST, INT), (FIRST, TERM), (IMPORTS, INT), (IMPORTS, TERM), ("os.chdir", TERM), (BINDING, INT)],
)
def test_stop(tmp_path: Path, port: int, point: str, number: signal.Signals) -> None:
    """SIGTERM and SIGINT end a gateway that starts with success, and without a trace."""
    with paused(point.format(port=port), ARGUMENTS, tmp_path) as process:
        process.running.send_signal(number)
        if point != IMPORTS:  # there it ends at once, as there is nothing to remove
            process.go_on()
        assert code(process.running) == 0
    assert left(tmp_path) == set()


@pytest.mark.parametrize("point", [FIRST, IMPORTS, BINDING])
def test_reload_and_reopen(tmp_path: Path, port: int, point: str) -> None:
    """SIGHUP and SIGUSR1 wait until the gateway runs, and then each does once what it is for."""
    log = tmp_path / LOG
    with paused(point.format(port=port), ARGUMENTS, tmp_path) as process:
        if log.exists():
            log.rename(tmp_path / "rotated")
        for number in (HUP, USR1, HUP, USR1):
            process.running.send_signal(number)
        process.go_on()
        wait_until(lambda: log.exists() and "configuration reloaded" in log.read_text(), "the reload")
        assert finger(port, b"hello\r\n") == b"Hello\r\n"
        process.running.terminate()
        assert code(process.running) == 0
    assert log.read_text().count("configuration reloaded") == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a namespace")
@pytest.mark.parametrize("point", [FIRST, BINDING])
def test_first_process_of_a_container(tmp_path: Path, port: int, point: str) -> None:
    """The kernel gives the first process of a container no signal that it does not handle; a gateway handles it."""
    command = ["unshare", "-pf", "--kill-child", "--mount-proc", *COMMAND]
    with paused(point.format(port=port), ARGUMENTS, tmp_path, command) as process:
        assert process.pid == 1
        outside = process.running.pid
        (first,) = Path(f"/proc/{outside}/task/{outside}/children").read_text().split()
        os.kill(int(first), TERM)
        process.go_on()
        assert code(process.running) == 0
    assert left(tmp_path) == set()


@pytest.mark.parametrize(
    ("point", "arguments", "number", "expected"),
    [
        (FIRST, ["check", "-c", "fingergw.toml"], INT, 130),
        (CONFIGURATION, ["check", "-c", "fingergw.toml"], INT, 130),
        (CONFIGURATION, ["explain", "-c", "fingergw.toml", "--ask", "hello"], INT, 130),
        (CONFIGURATION, ["check", "-c", "fingergw.toml"], HUP, -HUP),
        ("import fingergw.cli.finger_client", ["query", "@localhost"], INT, 130),
        ("import fingergw.cli.finger_client", ["query", "@localhost"], TERM, -TERM),
        (FIRST, ["query", "@localhost"], TERM, -TERM),
    ],
)
def test_other_commands(
    tmp_path: Path, point: str, arguments: list[str], number: signal.Signals, expected: int
) -> None:
    """SIGINT ends any other command with 130 and without a word, also while it imports; the rest is as ever."""
    with paused(point, arguments, tmp_path) as process:
        process.running.send_signal(number)
        process.go_on()
        assert code(process.running) == expected


def test_python_m(tmp_path: Path) -> None:
    """The installed command handles signals from the first as ``python -m fingergw`` does."""
    command = [sys.executable, str(Path(sys.executable).with_name("fingergw"))]
    with paused(FIRST, ARGUMENTS, tmp_path, command) as process:
        process.running.send_signal(HUP)
        process.running.send_signal(TERM)
        process.go_on()
        assert code(process.running) == 0


class TestLibrary:
    """``fingergw`` that is imported, and the handlers that it shares out."""

    def test_import(self) -> None:
        """Importing it, its command line too, installs no handlers, and imports next to nothing."""
        program = (
            "import signal, sys; before = set(sys.modules), [*map(signal.getsignal, signal.valid_signals())]\n"
            "import fingergw.cli\n"
            "assert [*map(signal.getsignal, signal.valid_signals())] == before[1]\n"
            "print(*sorted(set(sys.modules) - before[0] - {'__future__'}))\n"
            "import fingergw.app.build, fingergw.app.reload, fingergw.app.daemon, fingergw.app.tap\n"
            "assert [*map(signal.getsignal, signal.valid_signals())] == before[1]"
        )
        ended = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (ended.stdout, ended.stderr) == ("fingergw fingergw.cli\n", "")

    @pytest.fixture(autouse=True)
    def _clean(self) -> Iterator[None]:
        before = signal.getsignal(USR1)
        yield
        signals.forget()
        assert signal.getsignal(USR1) == before

    def test_held(self) -> None:
        """What is held is acted on once, as soon as it is released; what nobody waits for any more is dropped."""
        acted: list[str] = []
        signals.hold(USR1)
        signal.raise_signal(USR1)
        signals.add(lambda: acted.append("a"), USR1)
        signals.add(lambda: acted.append("b"), USR1)
        signal.raise_signal(USR1)
        assert acted == []
        signals.release()
        assert acted == ["a", "b"]
        signals.hold(USR1)
        signal.raise_signal(USR1)
        signals.drop(USR1)
        signals.release()
        assert acted == ["a", "b"]

    def test_removed_in_any_order(self) -> None:
        """Those that act may leave in any order; the earlier handler, which is called too, is there after the last."""
        acted: list[str] = []
        acts = [lambda: acted.append("first"), lambda: acted.append("second")]
        before = signal.signal(USR1, lambda *_: acted.append("earlier"))
        try:
            own = signal.getsignal(USR1)
            for act in acts:
                signals.add(act, USR1)
            signal.raise_signal(USR1)
            signals.remove(acts[0], USR1)
            signal.raise_signal(USR1)
            signals.remove(acts[1], USR1)
            assert signal.getsignal(USR1) is own
        finally:
            signal.signal(USR1, before)
        assert acted == ["first", "second", "earlier", "second", "earlier"]

    def test_another_thread(self) -> None:
        """In another thread, where Python allows no handler, nothing happens."""
        raised: list[BaseException] = []

        def act() -> None:
            try:
                signals.hold()
                signals.add(print, USR1)
                signals.release()
                signals.remove(print, USR1)
            except BaseException as error:
                raised.append(error)

        before = signal.getsignal(USR1)
        thread = threading.Thread(target=act)
        thread.start()
        thread.join()
        assert raised == []
        assert signal.getsignal(USR1) == before


class TestDaemon:
    """``fingergw --daemonize``: what comes while the daemon starts."""

    ARGUMENTS: ClassVar = [*ARGUMENTS, "--daemonize"]

    def started(self, process: Paused, folder: Path) -> None:
        """Let it go on, and stop what must have started."""
        process.go_on()
        assert code(process.running) == 0
        pid = int((folder / "pid").read_text())
        wait_until(lambda: "configuration reloaded" in (folder / LOG).read_text(), "the reload")
        os.kill(pid, TERM)
        wait_until(lambda: not is_running(pid), "the end of the daemon")
        assert left(folder) == set()

    @pytest.mark.parametrize("point", [FIRST, "os.fork", BINDING])
    def test_reload(self, tmp_path: Path, port: int, point: str) -> None:
        """SIGHUP and SIGUSR1 wait, whether they are sent to the process that was started or to the daemon."""
        with paused(point.format(port=port), self.ARGUMENTS, tmp_path) as process:
            for number in (HUP, USR1):
                process.running.send_signal(number)
                os.kill(process.pid, number)
            self.started(process, tmp_path)

    @pytest.mark.parametrize(("whom", "number"), [("launcher", INT), ("launcher", TERM), ("daemon", TERM)])
    def test_stop(self, tmp_path: Path, port: int, number: signal.Signals, whom: str) -> None:
        """SIGTERM and SIGINT end it, wherever they are sent, and the command says so and exits with 1."""
        with paused(BINDING.format(port=port), self.ARGUMENTS, tmp_path) as process:
            daemon = process.pid
            pid = daemon if whom == "daemon" else process.running.pid
            before = sleeps(pid)
            os.kill(pid, number)
            wait_until(lambda: sleeps(pid) > before, "that it has been handled")
            process.go_on()
            out, err = process.running.communicate(timeout=DEADLINE_SECONDS)
        assert (process.running.returncode, out) == (1, "")
        assert err == f"fingergw: the daemon did not start: {number.name} told it to stop while it started\n"
        wait_until(lambda: not is_running(daemon), "the end of the daemon")
        assert left(tmp_path) == set()

    @pytest.mark.parametrize(("point", "number"), [("os.chdir", signal.SIGSEGV), (BINDING, signal.SIGKILL)])
    def test_killed(self, tmp_path: Path, port: int, point: str, number: signal.Signals) -> None:
        """A daemon that is killed while it starts is reported."""
        with paused(point.format(port=port), self.ARGUMENTS, tmp_path) as process:
            os.kill(process.pid, number)
            out, err = process.running.communicate(timeout=DEADLINE_SECONDS)
        assert (process.running.returncode, out) == (1, "")
        why = "the daemon did not start: it ended while it started, perhaps as it was killed; for more see its log: "
        assert err == f"fingergw: {why}{LOG}\n"

    @pytest.mark.parametrize(("options", "expected"), [([], 0), (["--rundir", "none"], 1)])
    def test_launcher_is_told_too_late(self, tmp_path: Path, port: int, options: list[str], expected: int) -> None:
        """Signals that come once it is known how the start went change nothing about what the command returns."""
        late = (
            "import atexit, signal, sys; from fingergw.cli import main;"
            "[atexit.register(signal.raise_signal, getattr(signal, name)) for name in sys.argv.pop(1).split()];"
            "sys.exit(main())"
        )
        command = [sys.executable, "-c", late, "SIGHUP SIGUSR1 SIGTERM SIGINT"]
        ended = run([*self.ARGUMENTS, *options], command=command, cwd=tmp_path)
        if not expected:
            pid = int((tmp_path / "pid").read_text())
            os.kill(pid, TERM)
            wait_until(lambda: not is_running(pid), "the end of the daemon")
        assert (ended.returncode, ended.stdout) == (expected, "")
        assert left(tmp_path) == set()

    def test_launcher_is_killed(self, tmp_path: Path, port: int) -> None:
        """A daemon whose launcher is killed starts all the same."""
        with paused(BINDING.format(port=port), self.ARGUMENTS, tmp_path) as process:
            daemon = process.pid
            process.running.kill()
            process.running.wait()
            process.go_on()
            wait_until(lambda: serves(port), "the gateway")
            os.kill(daemon, TERM)
            wait_until(lambda: not is_running(daemon), "the end of the daemon")
        assert left(tmp_path) == set()


def sleeps(pid: int) -> int:
    """Return how often a process has begun to sleep; a signal wakes it, and is handled before the next time."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])
