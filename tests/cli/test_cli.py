"""The command line, as real processes."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import fingergw
from fingergw.cli import main
from fingergw.cli.finger_client import Target, parse_target
from tests.support.configuration import HELLO, LISTENER
from tests.support.forked import Forked
from tests.support.processes import COMMAND, ROOT, forked, process, run
from tests.support.sockets import finger, free_port, listens, receive_all, serves
from tests.support.transports import on_both_transports
from tests.support.waiting import DEADLINE_SECONDS, wait_until

FULL = "fingergw: standard output: No space left on device; redirect it to a disk with free space\n"
# waits until the test lets it go on
WAITING = """
[[routes]]
user = "wait"
backends = ["wait"]
[backends.wait]
type = "command"
argv = ["sh", "-c", "touch begun; while [ ! -e go ]; do sleep 0.02; done; echo late"]
timeout = 15
"""

IN_USE = "Address already in use; stop the process that has it (ss -lntp lists them), or choose another port"


def write(folder: Path, port: int, text: str = HELLO, more: str = "") -> str:
    """Write a configuration with one listener on a port of the loopback."""
    path = folder / "fingergw.toml"
    path.write_text(f'[[listeners]]\nname = "local"\nendpoint = "tcp:{port}:interface=127.0.0.1"\n{more}\n{text}')
    return str(path)


def stop(running: subprocess.Popen[str] | Forked, how: signal.Signals = signal.SIGTERM) -> tuple[int, str, str]:
    """Send a signal, and return the exit code, the output and the errors."""
    running.send_signal(how)
    out, err = running.communicate(timeout=20)
    assert running.returncode is not None
    return running.returncode, out, err


class TestRun:
    """``fingergw`` in the foreground."""

    def test_serves_until_told_to_stop(self, tmp_path: Path) -> None:
        """It answers, logs queries and messages to its output, and exits with 0 on SIGTERM."""
        port = free_port()
        with process(["--config", write(tmp_path, port)], port=port) as running:
            assert finger(port, b"hello\r\n") == b"Hello\r\n"
            code, out, err = stop(running)
        assert (code, err) == (0, "")
        assert '"local" 127.0.0.1 "hello" "hello" "map" answered 7' in out

    def test_interrupt(self, tmp_path: Path) -> None:
        """SIGINT ends it likewise."""
        port = free_port()
        with forked(["--config", write(tmp_path, port)], port=port) as running:
            assert stop(running, signal.SIGINT)[0] == 0

    def test_paths_are_relative_to_the_file(self, tmp_path: Path) -> None:
        """The access log is beside the configuration, wherever the process was started."""
        port = free_port()
        config = write(tmp_path, port, HELLO, '[log]\naccess = "access.log"')
        with forked(["--config", config], port=port, cwd=Path("/")) as running:
            finger(port, b"hello\r\n")
            stop(running)
        assert "answered" in (tmp_path / "access.log").read_text()

    @on_both_transports
    def test_answer_in_flight(self, tmp_path: Path) -> None:
        """SIGTERM lets an answer under way finish, refuses new clients, and exits with 0."""
        port = free_port()
        with (
            forked(["--config", write(tmp_path, port, WAITING)], port=port, cwd=tmp_path) as running,
            socket.create_connection(("127.0.0.1", port), timeout=20) as client,
        ):
            client.sendall(b"wait\r\n")
            wait_until((tmp_path / "begun").exists, "the command")
            running.terminate()
            wait_until(lambda: not listens(port), "the end of the listener")
            (tmp_path / "go").touch()
            assert receive_all(client) == b"late\r\n"
            running.communicate(timeout=20)
            assert running.returncode == 0

    @on_both_transports
    def test_stop_is_bounded(self, tmp_path: Path) -> None:
        """SIGTERM waits no longer than answer_timeout, and a second one changes nothing."""
        port = free_port()
        config = write(tmp_path, port, WAITING, "[limits]\nanswer_timeout = 1")
        with (
            forked(["--config", config], port=port, cwd=tmp_path) as running,
            socket.create_connection(("127.0.0.1", port), timeout=20) as client,
        ):
            client.sendall(b"wait\r\n")
            wait_until((tmp_path / "begun").exists, "the command")
            running.terminate()
            wait_until(lambda: not listens(port), "the end of the listener")
            code, out, _ = stop(running)
            assert receive_all(client) == b"Internal error in server\r\n"
        assert code == 0
        assert "Traceback" not in out

    def test_bind_conflict(self, tmp_path: Path) -> None:
        """A port that is taken ends it with 1, and the message names the listener."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            ended = run(["--config", write(tmp_path, port)])
        assert ended.returncode == 1
        assert ended.stderr == (
            f'fingergw: listener "local" (tcp:{port}:interface=127.0.0.1) cannot be bound: {IN_USE}\n'
        )

    def test_bind_conflict_leaves_nothing(self, tmp_path: Path) -> None:
        """The listeners that were bound before the one that failed are closed, the unix socket's file included."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            first = '[[listeners]]\nendpoint = "unix:s"'
            config = write(tmp_path, taken.getsockname()[1])
            Path(config).write_text(f"{first}\n{Path(config).read_text()}")
            assert run(["--config", config]).returncode == 1
        assert not (tmp_path / "s").exists()

    def test_unusable_access_log(self, tmp_path: Path) -> None:
        """An access log that cannot be opened ends it with 1, and the message names the file."""
        os.mkfifo(tmp_path / "access.log")
        ended = run(["--config", write(tmp_path, free_port(), HELLO, '[log]\naccess = "access.log"')])
        assert (ended.returncode, ended.stderr) == (
            1,
            (
                f"fingergw: access log {tmp_path}/access.log: No such device or address; "
                "start the program that reads it first\n"
            ),
        )

    def test_mistakes(self, tmp_path: Path) -> None:
        """With mistakes in the file it exits with 78, shows them all, and binds nothing."""
        config = write(tmp_path, free_port(), HELLO, "alow = []")
        text = '[[listeners]]\nendpoint = "unix:s"\n' + Path(config).read_text()
        Path(config).write_text(text.replace('["map"]', '["mop"]'))
        ended = run(["--config", config])
        assert ended.returncode == 78
        assert ended.stderr.startswith("fingergw: 2 mistakes:\n")
        assert f'{config}:6: listeners[1].alow: unknown key "alow"; did you mean "allow"?' in ended.stderr
        assert f'{config}:10: routes[0].backends[0]: unknown backend "mop"; did you mean "map"?' in ended.stderr
        assert not (tmp_path / "s").exists()

    def test_mistakes_about_this_machine(self, tmp_path: Path) -> None:
        """Files and users that are not there are shown all at once, too."""
        more = '[process]\nuser = "no-such-user-here"\n[backends.b]\ntype = "static"\nfile = "none.toml"'
        ended = run(["--config", write(tmp_path, free_port(), HELLO, more)])
        assert ended.returncode == 78
        assert 'process.user: no user "no-such-user-here" on this machine' in ended.stderr
        assert "none.toml: cannot be read" in ended.stderr

    def test_level(self, tmp_path: Path) -> None:
        """[log] level keeps less important messages out of the log, but no queries."""
        port = free_port()
        config = write(tmp_path, port, HELLO, '[log]\nlevel = "error"')
        with forked(["--config", config], port=port) as running:
            finger(port, b"hello\r\n")
            out = stop(running)[1]
        (line,) = [line for line in out.splitlines() if '"hello"' in line]
        assert out == line + "\n"

    def test_reactor(self, tmp_path: Path) -> None:
        """--reactor selects one of Twisted's other reactors."""
        port = free_port()
        with process(["--reactor", "poll", "--config", write(tmp_path, port)], port=port) as running:
            assert finger(port, b"hello\r\n") == b"Hello\r\n"
            code, out, _ = stop(running)
        assert code == 0
        assert "PollReactor" in out

    def test_idle(self, tmp_path: Path) -> None:
        """Once its clients are gone it uses no CPU at all."""
        port = free_port()

        def cpu_nanoseconds() -> int:
            return int(Path(f"/proc/{running.pid}/schedstat").read_text().split()[0])

        def pass_time(seconds: float) -> None:
            ends = time.monotonic() + seconds
            wait_until(lambda: time.monotonic() > ends)

        if not Path("/proc/self/schedstat").exists():
            pytest.skip("this kernel does not say how long a process has run")
        with process(["--config", write(tmp_path, port, HELLO, '[log]\naccess = "off"')], port=port) as running:
            for _ in range(10):
                finger(port, b"hello\r\n")
            pass_time(3)  # the timer that watches over connections looks once more
            before = cpu_nanoseconds()
            pass_time(2)
            assert cpu_nanoseconds() == before


class TestDaemon:
    """``fingergw --daemonize``."""

    @contextmanager
    def _daemon(self, folder: Path, *options: str, config: str) -> Iterator[int]:
        pidfile = folder / "pid"
        ended = run(["--config", config, "--daemonize", "--pidfile", str(pidfile), *options])
        try:
            assert ended.returncode == 0, ended.stderr
            yield int(pidfile.read_text())
        finally:
            if pidfile.exists():
                os.kill(int(pidfile.read_text()), signal.SIGTERM)
                wait_until(lambda: not pidfile.exists(), "the end of the daemon")

    def test_lifecycle(self, tmp_path: Path) -> None:
        """It serves once the command has returned, logs to its file, and on SIGTERM removes its pidfile."""
        port = free_port()
        log = tmp_path / "log"
        with self._daemon(tmp_path, "--logfile", str(log), "--rundir", "/", config=write(tmp_path, port)) as pid:
            assert finger(port, b"hello\r\n") == b"Hello\r\n"
            assert Path(f"/proc/{pid}/cwd").readlink() == Path("/")
            os.kill(pid, signal.SIGTERM)
            wait_until(lambda: not (tmp_path / "pid").exists(), "the removal of the pidfile")
        assert log.read_text().splitlines()[0].endswith(f" with {tmp_path}/fingergw.toml")
        assert '"hello" "map" answered 7' in log.read_text()
        assert "Traceback" not in log.read_text()
        assert not listens(port)

    def test_access_log_has_no_level(self, tmp_path: Path) -> None:
        """A daemon logs queries whatever the level of the event log."""
        port = free_port()
        log = tmp_path / "log"
        config = write(tmp_path, port, HELLO, '[log]\nlevel = "error"')
        with self._daemon(tmp_path, "--logfile", str(log), config=config) as pid:
            assert finger(port, b"hello\r\n") == b"Hello\r\n"
            os.kill(pid, signal.SIGTERM)
            wait_until(lambda: not (tmp_path / "pid").exists(), "the removal of the pidfile")
        assert '"hello" "map" answered 7' in log.read_text()

    def test_default_files(self, tmp_path: Path) -> None:
        """By default its files are fingergw.pid and fingergw.log in the folder where it was started."""
        port = free_port()
        ended = run(["--config", write(tmp_path, port), "--daemonize"], cwd=tmp_path, command=COMMAND)
        assert ended.returncode == 0, ended.stderr
        wait_until(lambda: serves(port), "the listener")
        pidfile = tmp_path / "fingergw.pid"
        os.kill(int(pidfile.read_text()), signal.SIGTERM)
        wait_until(lambda: not pidfile.exists(), "the removal of the pidfile")
        assert (tmp_path / "fingergw.log").exists()

    def test_closed_streams(self, tmp_path: Path) -> None:
        """It starts where it was given no standard streams: nothing that it needs gets their numbers."""
        port, pidfile = free_port(), tmp_path / "pid"
        command = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *COMMAND]
        arguments = ["--config", write(tmp_path, port), "--daemonize", "--pidfile", str(pidfile)]
        assert run(arguments, cwd=tmp_path, command=command).returncode == 0
        pid = int(pidfile.read_text())
        assert finger(port, b"hello\r\n") == b"Hello\r\n"
        assert {Path(f"/proc/{pid}/fd/{number}").readlink() for number in range(3)} == {Path("/dev/null")}
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not pidfile.exists(), "the end of the daemon")

    def test_stop_with_an_answer_in_flight(self, tmp_path: Path) -> None:
        """A daemon, too, finishes the answers under way."""
        port = free_port()
        config = write(tmp_path, port, WAITING)
        with (
            self._daemon(tmp_path, "--logfile", str(tmp_path / "log"), "--rundir", str(tmp_path), config=config) as pid,
            socket.create_connection(("127.0.0.1", port), timeout=20) as client,
        ):
            client.sendall(b"wait\r\n")
            wait_until((tmp_path / "begun").exists, "the command")
            os.kill(pid, signal.SIGTERM)
            wait_until(lambda: not listens(port), "the end of the listener")
            (tmp_path / "go").touch()
            assert receive_all(client) == b"late\r\n"

    def test_bind_conflict(self, tmp_path: Path) -> None:
        """A daemon that cannot bind is reported by the command, which exits with 1; so does its log."""
        log, pidfile = tmp_path / "log", tmp_path / "pid"
        with socket.create_server(("127.0.0.1", 0)) as taken:
            config = write(tmp_path, taken.getsockname()[1])
            ended = run(["--config", config, "--daemonize", "--pidfile", str(pidfile), "--logfile", str(log)])
        assert ended.returncode == 1
        assert ended.stderr.startswith('fingergw: the daemon did not start: listener "local" (tcp:')
        assert ended.stderr.endswith(f"cannot be bound: {IN_USE}; for more see its log: {log}\n")
        wait_until(lambda: 'listener "local"' in log.read_text(), "the message")
        assert "cannot be bound: Address already in use" in log.read_text()
        assert not pidfile.exists()

    @pytest.mark.parametrize(
        ("endpoint", "more", "options", "code"),
        [
            ("tcp:{taken}:interface=127.0.0.1", "name = '" + "\u00e9" * 5000 + "'", [], 1),
            ("tcp:{taken}:interface=127.0.0.1", "", ["--logfile", "none/log"], 1),
            ("tcp:{taken}:interface=127.0.0.1", "", ["--pidfile", "none/pid"], 1),
            ("tcp:{taken}:interface=127.0.0.1", "", ["--rundir", "none"], 1),
            ("tcp:0:interface=127.0.0.1", '[log]\naccess = "fifo"', [], 1),
            pytest.param(
                *("tcp:0", "", [], 78), marks=pytest.mark.skipif(os.geteuid() != 0, reason="only root is refused")
            ),
        ],
        ids=["long", "log", "pid file", "folder", "access log", "root"],
    )
    def test_what_stops_a_start(self, tmp_path: Path, endpoint: str, more: str, options: list[str], code: int) -> None:
        """The command prints why a daemon does not start, whole and once, as in the foreground, with the same code."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            text = f'[[listeners]]\nendpoint = "{endpoint.format(taken=taken.getsockname()[1])}"\n{more}\n'
            (tmp_path / "fingergw.toml").write_text(text)
            os.mkfifo(tmp_path / "fifo")  # nobody reads it, so it cannot be opened
            arguments = ["--config", "fingergw.toml", "--logfile", "log", "--pidfile", "pid", *options]
            foreground = run(arguments, cwd=tmp_path)
            daemon = run([*arguments, "--daemonize"], cwd=tmp_path)
        assert foreground.returncode == daemon.returncode == code
        assert foreground.stderr.startswith("fingergw: ")
        assert foreground.stderr.count("\n") == 1
        why = foreground.stderr.removeprefix("fingergw: ").strip()
        advice = "; for more see its log: log" if (tmp_path / "log").exists() else ""
        assert daemon.stderr == f"fingergw: the daemon did not start: {why}{advice}\n"
        assert not (tmp_path / "pid").exists()

    def test_mistakes(self, tmp_path: Path) -> None:
        """Mistakes in the file are shown where the command was given, before anything forks."""
        ended = run(["--config", write(tmp_path, 0, "nonsense = 1"), "--daemonize"], cwd=tmp_path)
        assert ended.returncode == 78
        assert "nonsense" in ended.stderr
        assert {path.name for path in tmp_path.iterdir()} == {"fingergw.toml"}


class TestCheck:
    """``fingergw check``."""

    def test_default(self, tmp_path: Path) -> None:
        """The configuration that comes with it has no mistakes, and checking it leaves nothing behind."""
        ended = run(["check"], cwd=tmp_path)
        assert (ended.returncode, ended.stderr) == (0, "")
        assert ended.stdout.endswith("fingergw.toml: no mistakes found\n")
        assert list(tmp_path.iterdir()) == []

    def test_all_mistakes(self, tmp_path: Path) -> None:
        """Every mistake is reported at once, in the order of lines, and with its key."""
        config = write(
            tmp_path,
            79,
            """
[[listeners]]
endpoint = "tcp:finger"
[[listeners]]
endpoint = "ssl:79:privateKey=key.pem"
[[routes]]
user = "hello"
backends = ["command", "file", "token", "template", "ca"]
[backends.command]
type = "command"
argv = ["/nonexistent/program"]
[backends.file]
type = "static"
file = "people.toml"
[backends.token]
type = "http"
url = "http://127.0.0.1/"
bearer_token_file = "token"
[backends.template]
type = "http"
url = "http://127.0.0.1/"
template = "{{ name"
[backends.ca]
type = "http"
url = "https://127.0.0.1/"
ca_file = "ca.pem"
[process]
user = "no-such-user-here"
group = "no-such-group-here"
""",
            'alow = ["10.0.0.0/8"]',
        )
        (tmp_path / "ca.pem").write_text("nothing")
        ended = run(["check", "--config", config])
        assert ended.returncode == 78
        lines = ended.stderr.splitlines()
        assert lines[0] == f"fingergw: {len(lines) - 1} mistakes:"
        found = [line.removeprefix(f"{config}:") for line in lines[1:]]
        expected = [
            "4: listeners[0].alow: unknown key",
            "7: listeners[1].endpoint: expected the port to be a whole number",
            f"9: listeners[2].endpoint: {tmp_path}/key.pem: No such file or directory; name a file that exists",
            '15: backends.command.argv[0]: no executable file "/nonexistent/program"; install it, or correct the path',
            f"18: backends.file.file: {tmp_path}/people.toml: cannot be read: No such file or directory; create it",
            f"22: backends.token.bearer_token_file: {tmp_path}/token: No such file or directory; create it",
            "26: backends.template.template: ",
            f"30: backends.ca.ca_file: {tmp_path}/ca.pem: expected one or more certificates",
            '32: process.user: no user "no-such-user-here" on this machine',
            '33: process.group: no group "no-such-group-here" on this machine',
        ]
        assert [line for line, start in zip(found, expected, strict=True) if not line.startswith(start)] == []

    def test_base_dir(self, tmp_path: Path) -> None:
        """--base-dir takes the place of the file's folder, for a file that is not installed yet."""
        config = write(tmp_path, 79, '[backends.b]\ntype = "static"\nfile = "people.toml"')
        assert run(["check", "--config", config]).returncode == 78
        (tmp_path / "target").mkdir()
        (tmp_path / "target" / "people.toml").write_text('a = "A"')
        assert run(["check", "--config", config, "--base-dir", str(tmp_path / "target")]).returncode == 0

    def test_no_file(self, tmp_path: Path) -> None:
        """A missing file is a mistake in the configuration, too."""
        ended = run(["check", "--config", str(tmp_path / "none")])
        path = tmp_path / "none"
        advice = f"to create one to start from, run: fingergw init {path}"
        why = f"fingergw: 1 mistake:\n{path}: cannot be read: No such file or directory; {advice}\n"
        assert (ended.returncode, ended.stderr) == (78, why)

    def test_port_in_use(self, tmp_path: Path) -> None:
        """It binds nothing, so that it can check the file of a gateway that is running."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            assert run(["check", "--config", write(tmp_path, taken.getsockname()[1])]).returncode == 0


@contextmanager
def server(answer: bytes, family: socket.AddressFamily = socket.AF_INET) -> Iterator[tuple[int, list[bytes]]]:
    """Run a finger server that answers one client, and records the query."""
    asked: list[bytes] = []

    def serve() -> None:
        client, _ = listening.accept()
        with client:
            asked.append(client.recv(65536))
            client.sendall(answer)

    with socket.create_server(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0), family=family) as listening:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listening.getsockname()[1], asked
        thread.join(20)


class TestQuery:
    """``fingergw query``."""

    @pytest.mark.parametrize(
        ("arguments", "line"),
        [
            (["moshez@{}"], b"moshez\r\n"),
            (["@{}"], b"\r\n"),
            (["-l", "moshez@{}"], b"/W moshez\r\n"),
            (["-l", "@{}"], b"/W\r\n"),
            (["moshez@other.example@{}"], b"moshez@other.example\r\n"),
        ],
    )
    def test_line(self, arguments: list[str], line: bytes) -> None:
        """The query is one line, as RFC 1288 has it."""
        with server(b"Happy\r\n") as (port, asked):
            ended = run(["query", *(argument.format(f"127.0.0.1:{port}") for argument in arguments)])
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, "Happy\n", "")
        assert asked == [line]

    @pytest.mark.parametrize(
        ("text", "target"),
        [
            ("", Target("localhost", 79, "")),
            ("moshez", Target("localhost", 79, "moshez")),
            ("moshez@h", Target("h", 79, "moshez")),
            ("@h:1079", Target("h", 1079, "")),
            ("a@b@c:7", Target("c", 7, "a@b")),
            ("@::1", Target("::1", 79, "")),
            ("@[::1]", Target("::1", 79, "")),
            ("@[::1]:7", Target("::1", 7, "")),
        ],
    )
    def test_target(self, text: str, target: Target) -> None:
        """The last host is asked, at port 79 of this machine unless told otherwise."""
        assert parse_target(text) == target

    def test_ipv6(self) -> None:
        """A host may be an IPv6 address in brackets."""
        with server(b"Six\r\n", socket.AF_INET6) as (port, _):
            assert run(["query", f"@[::1]:{port}"]).stdout == "Six\n"

    def test_output_is_filtered(self) -> None:
        """Nothing that could harm the terminal is printed (RFC 1288 §3.3)."""
        with server(b"\x1b]0;gotcha\x07re\x1b[31md\tzo\xc3\xab \xff\xc2\x9b\r\nend") as (port, _):
            assert run(["query", f"@127.0.0.1:{port}"]).stdout == "red\tzoë \ufffd\nend"

    def test_refused(self) -> None:
        """A server that is not there ends it with 1, and a message of one line."""
        port = free_port()
        ended = run(["query", f"@127.0.0.1:{port}"])
        assert (ended.returncode, ended.stdout) == (1, "")
        assert ended.stderr.startswith(f"fingergw: 127.0.0.1, port {port}: ")
        assert ended.stderr.count("\n") == 1

    def test_timeout(self) -> None:
        """A server that says nothing ends it with 1 when the time is up."""
        with socket.create_server(("127.0.0.1", 0)) as silent:
            port = silent.getsockname()[1]
            ended = run(["query", "--timeout", "0.5", f"@127.0.0.1:{port}"])
        assert ended.returncode == 1
        assert ended.stderr == f"fingergw: 127.0.0.1, port {port}: no answer within 0.5 s\n"

    def test_reset(self) -> None:
        """A connection that is reset before an answer ends it with 1."""
        with socket.create_server(("127.0.0.1", 0)) as listening:
            port = listening.getsockname()[1]
            asking = subprocess.Popen(
                [*COMMAND, "query", f"@127.0.0.1:{port}"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
            client, _ = listening.accept()
            client.recv(1)
            client.close()  # with something unread
            out, err = asking.communicate(timeout=20)
        assert (asking.returncode, out) == (1, b"")
        assert b"Traceback" not in err

    def test_full_output(self) -> None:
        """A full disk ends it with 1, without a traceback."""
        with server(b"hi\r\n") as (port, _), Path("/dev/full").open("w") as full:
            ended = subprocess.run(
                [*COMMAND, "query", f"@127.0.0.1:{port}"],
                cwd=ROOT,
                text=True,
                check=False,
                stdout=full,
                stderr=subprocess.PIPE,
            )
        assert (ended.returncode, ended.stderr) == (1, FULL)

    @pytest.mark.parametrize("target", ["a@h:finger", "a@h:0", "a@h:65536", "a\r\nb@h", "\udcff@h"])
    def test_wrong_target(self, target: str, capfd: pytest.CaptureFixture[str]) -> None:
        """A malformed target is wrong usage, and no server is contacted."""
        assert main(["query", target]) == 2
        assert "try fingergw query --help" in capfd.readouterr().err


@pytest.mark.parametrize("option", ["--rundir", "--pidfile", "--logfile"])
def test_folder_that_is_not_there(tmp_path: Path, option: str) -> None:
    """A folder that does not exist is named, without a traceback."""
    ended = run(["--config", write(tmp_path, free_port()), option, "/not/there"], cwd=tmp_path)
    assert ended.returncode == 1
    assert "/not" in ended.stderr
    assert re.search(r"No such file or directory; create (it|its folder) \(mkdir -p\), or name another\n", ended.stderr)
    assert "Traceback" not in ended.stderr


class TestUsage:
    """Options, and what is wrong with a command line."""

    def test_version(self) -> None:
        """--version prints the version."""
        ended = run(["--version"])
        assert (ended.returncode, ended.stdout) == (0, f"fingergw {fingergw.__version__}\n")

    def test_help(self) -> None:
        """--help names the commands and the options of the contract."""
        ended = run(["--help"])
        assert ended.returncode == 0
        twistd = ["pidfile", "rundir", "chroot", "logfile", "syslog", "prefix", "uid", "gid", "umask", "reactor"]
        options = ["config", "daemonize", *twistd]
        assert [option for option in options if f"--{option}" not in ended.stdout] == []
        assert "positional" not in ended.stdout
        assert [command for command in ("check", "query", "init") if f"\n    {command} " not in ended.stdout] == []

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--nonsense"], "--nonsense"),
            (["nonsense"], 'unknown command "nonsense"; expected one of check, explain'),
            (["chekc"], 'did you mean "check"?'),
            (["--nonsense", "check"], "--nonsense"),
            (["check", "--nonsense"], "--nonsense"),
            (["check", "a.toml"], 'unexpected argument "a.toml"; to name the configuration, write --config FILE'),
            (["--", "schema", "--", "-x"], 'unexpected argument "-x"'),
            (["check", "--config"], "--config: expected a value"),
            (["--daemonize=yes"], "--daemonize: takes no value, but was given 'yes'"),
            (["--uid", "-1"], '--uid: expected the name of a user, or a number from 0 to 4294967294, not "-1"'),
            (["--gid", "99999999999"], "--gid: expected the name of a group, or a number from 0 to 4294967294"),
            (["--umask", "10000"], '--umask: expected octal digits such as 027, not "10000"'),
            (["--umask", "9"], '--umask: expected octal digits such as 027, not "9"'),
            (["--uid", "no-such-user-here"], 'no user "no-such-user-here" on this machine'),
            (["--reactor", "nonsense"], '--reactor: "nonsense" cannot be used here; fingergw --help-reactors prints'),
            (
                ["query", "--timeout", "-1"],
                '--timeout: expected a finite number of seconds above 0, such as 20, not "-1"',
            ),
        ],
    )
    def test_wrong_usage(self, arguments: list[str], message: str, capfd: pytest.CaptureFixture[str]) -> None:
        """Wrong usage gives the exit code 2, and says what is wrong."""
        assert main(arguments) == 2
        assert message in capfd.readouterr().err

    def test_wrong_usage_of_the_process(self) -> None:
        """The process exits with that code, and shows no traceback."""
        ended = run(["--nonsense"], command=COMMAND)
        assert ended.returncode == 2
        assert "Traceback" not in ended.stderr


HEAVY = {
    "fingergw.app.admin",
    "fingergw.net.workers.converting",
    "inscriptis",
    "jinja2",
    "lxml",
    "prometheus_client",
    "re2",
    "sqlite3",
    "tree_sitter",
    "txredisapi",
}
"""What takes time and memory, and neither the packaged configuration nor one with a static map uses."""
HTTP_CLIENT = {"fingergw.net.http.client", "hyperlink", "treq", "twisted.web"}
HTTP = {"fingergw.backends.http", *HTTP_CLIENT}
WARNINGS = {"fingergw.app.parts.warnings", "fingergw.config.warnings"}
OTHER_TYPES = {"fingergw.backends.command", "fingergw.backends.finger"}
TLS = {"fingergw.listen.certificates"}


@pytest.mark.parametrize(
    ("arguments", "module", "others"),
    [
        (["--help"], "command", {"twisted.internet", "fingergw.config", "importlib.metadata"}),
        (["check", "--version"], "check", {"fingergw.backends.static"}),
        (["init"], "init", {"twisted.internet.reactor", "fingergw.app.build"}),
        (["query", "@127.0.0.1:9"], "finger_client", {"fingergw.app.build", "fingergw.config", *HEAVY, *HTTP}),
        (["check", "--config", "hello.toml"], "check", {*HEAVY, *HTTP, *OTHER_TYPES, *TLS}),
        (["check", "--config", "shipped.toml"], "check", {*HEAVY, *HTTP_CLIENT, *TLS, "fingergw.backends.finger"}),
        (["explain", "--config", "hello.toml", "x"], "explain", {*HEAVY - {"tree_sitter"}, *HTTP, *OTHER_TYPES, *TLS}),
        (["--config", "hello.toml"], "command", {*HEAVY, *HTTP, *OTHER_TYPES, *TLS, *WARNINGS, "difflib"}),
        (["--config", "shipped.toml"], "command", {*HEAVY, *HTTP_CLIENT, *TLS, *WARNINGS, "fingergw.backends.finger"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_imports(tmp_path: Path, arguments: list[str], module: str, others: set[str]) -> None:
    """A command, and the gateway, starts fast and stays small, as it imports only what it and its file need."""
    (tmp_path / "hello.toml").write_text(LISTENER + HELLO)
    (tmp_path / "shipped.toml").write_text((ROOT / "fingergw.toml").read_text().replace("tcp:1079", "tcp:0"))
    code = "import atexit, sys; show = lambda: print(*sys.modules, file=sys.__stderr__)\n"
    if module == "command" and "--help" not in arguments:
        code += "from twisted.internet import reactor; reactor.callWhenRunning(lambda: [show(), reactor.stop()])\n"
    else:
        code += "atexit.register(show)\n"
    code += f"from fingergw.cli import main; main({arguments})"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    imported = set(done.stderr.splitlines()[-1].split())
    assert f"fingergw.cli.{module}" in imported, done.stderr
    assert imported & others == set()


def run_until(folder: Path, config: str, begin: str, condition: str) -> None:
    """Run a gateway in a process of its own until a condition holds there; fail at the deadline.

    :param begin: code that runs first of all.
    """
    (folder / "fingergw.toml").write_text(config)
    code = (
        f"{begin}\n"
        "from twisted.internet import reactor; from fingergw.cli import main\n"
        "def look():\n"
        f"    reactor.stop() if {condition} else reactor.callLater(0.05, look)\n"
        "reactor.callWhenRunning(look)\n"
        "main()"
    )
    subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, timeout=60, check=True)


def test_what_is_imported_once_it_runs(tmp_path: Path) -> None:
    """What a start leaves out is imported without any query: its disk may hang when there is one."""
    config = (ROOT / "fingergw.toml").read_text().replace("tcp:1079", "tcp:0")
    run_until(tmp_path, config, f"import sys; wanted = {HTTP_CLIENT | WARNINGS}", "wanted.issubset(sys.modules)")


def test_garbage(tmp_path: Path) -> None:
    """A command of its own process is not held up by searches for garbage among imports, but has them after that."""
    (tmp_path / "fingergw.toml").write_text(LISTENER + HELLO)
    code = (
        "import gc, sys; from fingergw.app import build; from fingergw.cli import main; begun = gc.isenabled()\n"
        "checked = build.check\n"
        "build.check = lambda *given, **named: print(begun, gc.isenabled(), gc.get_freeze_count() > 0) or "
        "checked(*given, **named)\n"
        "main()"
    )
    for arguments in (["check"], ["-c", "fingergw.toml", "check"]):
        command = [sys.executable, "-c", code, *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
        assert done.stdout.startswith("True True True\n"), done.stderr


def test_garbage_of_a_gateway(tmp_path: Path) -> None:
    """A gateway searches all that there is for garbage again, once it has begun to serve."""
    run_until(tmp_path, LISTENER + HELLO, "import gc; begun = gc.get_threshold()", "gc.get_threshold() == begun")


class TestOutput:
    """What commands print, and what they do where it cannot be printed."""

    COMMANDS = (["check"], ["config"], ["explain", "moshez"], ["schema"], ["completion", "bash"], ["init", "a.toml"])

    @pytest.mark.parametrize("arguments", COMMANDS, ids=lambda arguments: arguments[0])
    def test_nobody_takes_it(
        self,
        arguments: list[str],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        """A full disk ends it with 1 and a message, a reader that has gone with 1 and none."""
        monkeypatch.chdir(tmp_path)
        with Path("/dev/full").open("w") as full:
            monkeypatch.setattr(sys, "stdout", full)
            assert main(arguments) == 1
        assert capfd.readouterr().err == FULL
        Path("a.toml").unlink(missing_ok=True)
        reading, writing = os.pipe()
        os.close(reading)
        with os.fdopen(writing, "w") as gone:
            monkeypatch.setattr(sys, "stdout", gone)
            assert main(arguments) == 1
        assert capfd.readouterr().err == ""

    def test_nobody_takes_the_reactors(self) -> None:
        """So do the names of the reactors, which Twisted prints."""
        with Path("/dev/full").open("w") as full:
            ended = subprocess.run(
                [*COMMAND, "--help-reactors"], cwd=ROOT, text=True, check=False, stdout=full, stderr=subprocess.PIPE
            )
        assert (ended.returncode, ended.stderr) == (1, FULL)

    @pytest.mark.parametrize("command", ["check", "config"])
    def test_odd_path(self, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A path that is not UTF-8 is printed as it is."""
        folder = tmp_path / os.fsdecode(b"\xff")
        folder.mkdir()
        (folder / "people.toml").write_text("")
        path = folder / "fingergw.toml"
        more = '[backends.people]\ntype = "static"\nfile = "people.toml"\n'
        path.write_text('[[listeners]]\nendpoint = "tcp:1079"\n' + more)
        with (tmp_path / "printed").open("w") as printed:
            monkeypatch.setattr(sys, "stdout", printed)
            assert main([command, "--config", str(path)]) == 0
        assert os.fsencode(folder) in (tmp_path / "printed").read_bytes()


TAC = """
import fingergw; from twisted.application.service import Application; from twisted.internet import reactor
application = Application("fingergw")
fingergw.make_service(fingergw.load("fingergw.toml"), reactor).setServiceParent(application)
"""


def test_tac(tmp_path: Path) -> None:
    """A .tac of three lines serves under twistd."""
    port = free_port()
    write(tmp_path, port)
    (tmp_path / "x.tac").write_text(TAC)
    twistd = Path(sys.executable).with_name("twistd")
    arguments = [sys.executable, str(twistd), "-ny", "x.tac", "--pidfile="]
    running = subprocess.Popen(arguments, cwd=tmp_path, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        wait_until(lambda: running.poll() is not None or listens(port), "the listener")
        assert finger(port, b"hello\r\n") == b"Hello\r\n"
    finally:
        running.terminate()
        out = running.communicate(timeout=20)[0]
    loading, first, *_ = out.splitlines()
    assert loading.endswith("Loading x.tac...")  # by twistd
    assert first.endswith(f"] fingergw {fingergw.__version__} with {tmp_path}/fingergw.toml")


BROKEN = """
import sys

from fingergw.app.gateway import Gateway
from fingergw.cli import main

def fail(self):
    raise RuntimeError("boom")

Gateway.startService = fail
sys.exit(main())
"""


@pytest.mark.parametrize("options", [[], ["--daemonize"]], ids=["foreground", "daemon"])
def test_unforeseen_failure(tmp_path: Path, options: list[str]) -> None:
    """A start that fails for a reason that nobody has foreseen ends too, with a traceback in the log."""
    arguments = ["--config", write(tmp_path, free_port()), "--logfile", "log", "--pidfile", "pid", *options]
    ended = run(arguments, cwd=tmp_path, command=[sys.executable, "-c", BROKEN])
    assert ended.returncode == 1
    assert ("the daemon did not start: unforeseen RuntimeError: boom" in ended.stderr) == bool(options)
    assert "Traceback" in (tmp_path / "log").read_text()
    assert not (tmp_path / "pid").exists()


LATE = """
import errno, sys

from fingergw.cli import main
from fingergw.listen import binding

class Late:  # an endpoint that takes its time, as that of a plug-in may
    def listen(self, factory):
        from twisted.internet import reactor, task
        return task.deferLater(reactor, 0.05, self.fail)

    def fail(self):
        raise OSError(errno.EADDRINUSE, "Address already in use")

binding.parse = lambda *_: Late()
sys.exit(main())
"""


def test_a_daemon_that_cannot_bind_later(tmp_path: Path) -> None:
    """A daemon has started when all is bound, also with an endpoint that is not bound at once."""
    arguments = ["--config", write(tmp_path, free_port()), "--logfile", "log", "--pidfile", "pid", "--daemonize"]
    ended = run(arguments, cwd=tmp_path, command=[sys.executable, "-c", LATE])
    assert ended.returncode == 1
    assert ended.stderr.startswith('fingergw: the daemon did not start: listener "local" (tcp:')
    assert f"cannot be bound: {IN_USE}; for more see its log: log\n" in ended.stderr
    wait_until(lambda: not (tmp_path / "pid").exists(), "the end of the daemon")


SET_BACK = """
import sys, time
from pathlib import Path

time_of_day, flag = time.time, Path(sys.argv.pop(1))
time.time = lambda: time_of_day() - 3600 * flag.exists()
from fingergw.cli import main

sys.exit(main())
"""


def test_clock_that_is_set_back(tmp_path: Path) -> None:
    """Deadlines come although the time of day is set back by an hour while the gateway runs."""
    port, flag = free_port(), tmp_path / "set back"
    write(tmp_path, port, more="[limits]\nquery_timeout = 0.5\n")
    arguments = [sys.executable, "-c", SET_BACK, str(flag), "--config", "fingergw.toml"]
    with subprocess.Popen(arguments, cwd=tmp_path, stdout=subprocess.DEVNULL) as running:
        try:
            wait_until(lambda: running.poll() is not None or listens(port), "the listener")
            with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_SECONDS) as silent:
                assert finger(port, b"hello\r\n") == b"Hello\r\n"  # so the other has been seen
                flag.touch()
                assert silent.recv(1) == b""
        finally:
            running.kill()


def test_installed_command() -> None:
    """The installed command does what ``python -m fingergw`` does."""
    command = Path(sys.executable).with_name("fingergw")
    ended = subprocess.run([command, "--version"], text=True, capture_output=True, check=False, cwd=ROOT)
    assert ended.stdout == run(["--version"], command=COMMAND).stdout
    assert COMMAND[0] == sys.executable
