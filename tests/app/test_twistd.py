"""``twistd fingergw``."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.support.configuration import HELLO
from tests.support.processes import ROOT, process
from tests.support.sockets import finger, free_port
from tests.support.waiting import wait_until

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
