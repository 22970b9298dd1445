"""``twistd fingergw``."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.configuration import HELLO
from tests.support.pausing import paused
from tests.support.processes import ROOT, process, run
from tests.support.sockets import finger, free_port, serves
from tests.support.waiting import DEADLINE_SECONDS, wait_until

TWISTD = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()", "-n", "--pidfile="]


def configuration(port: int, hello: str = "Hello", more: str = "") -> str:
    """Return a configuration that says something for a name."""
    return (
        f'[[listeners]]\nendpoint = "tcp:{port}:interface=127.0.0.1"\n{HELLO.replace("Hello", hello)}'
        f'[log]\naccess = "access.log"\n{more}'
    )


def test_serves(tmp_path: Path) -> None:
    """It serves what a file says, reads it again on SIGHUP, and reopens its access log on SIGUSR1."""
    port = free_port()
    path, access = tmp_path / "fingergw.toml", tmp_path / "access.log"
    path.write_text(configuration(port))
    with process(["fingergw", "--config", "fingergw.toml"], port=port, cwd=tmp_path, command=TWISTD) as running:
        assert finger(port, b"hello\r\n") == b"Hello\r\n"
        path.write_text(configuration(port, "Changed"))
        running.send_signal(signal.SIGHUP)
        wait_until(lambda: finger(port, b"hello\r\n") == b"Changed\r\n", "the new configuration")
        access.rename(tmp_path / "access.log.1")
        running.send_signal(signal.SIGUSR1)
        wait_until(access.exists, "the new access log")
        running.terminate()
        assert running.wait(20) == -signal.SIGTERM  # twistd ends by the signal that it was sent


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1])
def test_signals_while_it_starts(tmp_path: Path, number: signal.Signals) -> None:
    """Once the plug-in is called SIGHUP and SIGUSR1 wait, and SIGTERM ends it as later."""
    port = free_port()
    (tmp_path / "fingergw.toml").write_text(configuration(port))
    with paused("import fingergw.app.build", ["fingergw"], tmp_path, TWISTD) as process:
        process.running.send_signal(number)
        process.go_on()
        wait_until(lambda: serves(port) or process.running.poll() is not None, "the listener")
        out = _until_reloaded(process.running) if number == signal.SIGHUP else ""
        process.running.terminate()
        rest, err = process.running.communicate(timeout=DEADLINE_SECONDS)
        out += rest
    assert process.running.returncode == -signal.SIGTERM
    assert out.count("configuration reloaded") == (number == signal.SIGHUP)
    assert "Traceback" not in out + err


def _until_reloaded(running: subprocess.Popen[str]) -> str:
    """Read what a gateway prints until it has reloaded its configuration, or ends."""
    assert running.stdout is not None
    out = ""
    while "configuration reloaded" not in out and (line := running.stdout.readline()):
        out += line
    return out


def test_stop_while_it_starts(tmp_path: Path) -> None:
    """SIGTERM waits too, and nothing is left behind."""
    (tmp_path / "fingergw.toml").write_text('[[listeners]]\nendpoint = "unix:socket"\n')
    with paused("socket.bind", ["fingergw"], tmp_path, TWISTD) as process:
        process.running.terminate()
        process.go_on()
        process.running.communicate(timeout=DEADLINE_SECONDS)
    assert process.running.returncode == -signal.SIGTERM
    assert not list(tmp_path.glob("socket*"))


@pytest.mark.parametrize(
    ("endpoint", "code", "why"),
    [
        ("tcp:{port}:interface=127.0.0.1", 1, "cannot be bound: Address already in use; stop the process that has it"),
        pytest.param(
            "tcp:0",
            78,
            "running as root, and other hosts can reach the listener",
            marks=pytest.mark.skipif(os.geteuid() != 0, reason="only root is refused"),
        ),
    ],
)
def test_refused(tmp_path: Path, endpoint: str, code: int, why: str) -> None:
    """A start that is refused is explained as by ``fingergw``, with its exit code and without a traceback."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        endpoint = endpoint.format(port=taken.getsockname()[1])
        (tmp_path / "fingergw.toml").write_text(f'[[listeners]]\nname = "a"\nendpoint = "{endpoint}"\n')
        ended = run(["fingergw"], cwd=tmp_path, command=TWISTD)
    assert ended.returncode == code
    assert ended.stderr.startswith("fingergw: ")
    assert why in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert "Traceback" not in ended.stdout


def test_a_daemon_that_is_refused(tmp_path: Path) -> None:
    """Twistd prints what it can of why its daemon does not start; its log has the rest, without a traceback too."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (tmp_path / "fingergw.toml").write_text(f'[[listeners]]\nendpoint = "tcp:{port}:interface=127.0.0.1"\n')
        ended = run(["--pidfile=", "fingergw"], cwd=tmp_path, command=TWISTD[:3])
    assert ended.returncode == 1
    assert f"tcp:{port}" in ended.stderr
    log = (tmp_path / "twistd.log").read_text
    wait_until(lambda: "cannot be bound: Address already in use; stop the process that has it" in log(), "the reason")
    assert "Traceback" not in log()


def test_mistakes(tmp_path: Path) -> None:
    """All mistakes of a file are told, with an exit code of their own."""
    more = '[cache]\nttl = 1\n[backends.c]\ntype = "command"\nargv = ["no-such"]\n'
    (tmp_path / "fingergw.toml").write_text(configuration(79, more=more))
    ended = subprocess.run(
        [*TWISTD, "fingergw"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 78
    assert "fingergw: 2 mistakes:\nfingergw.toml:" in ended.stderr
    assert 'no executable file "no-such" on the PATH' in ended.stderr
    assert 'cache.ttl: unknown key "ttl"' in ended.stderr
