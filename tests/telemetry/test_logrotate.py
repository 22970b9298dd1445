"""Logs that are rotated by Debian's logrotate."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.processes import process
from tests.support.sockets import finger, free_port
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.skipif(shutil.which("logrotate") is None, reason="this machine has no logrotate"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to the user that the gateway becomes"),
]

CONFIG = """
[[listeners]]
name = "local"
endpoint = "tcp:PORT:interface=127.0.0.1"
[[routes]]
pattern = "*"
backends = ["failing"]
[backends.failing]
type = "command"
argv = ["/bin/cat", "--", "/missing-{user}"]
max_running = 2
[log]
access = "access.log"
format = "json"
[process]
user = "nobody"
group = "nogroup"
"""
CONF = """
FOLDER/*.log {
    rotate 9
    create 0640 nobody nogroup
    postrotate
        kill -USR1 PID
    endscript
}
"""


def rotate(folder: Path, conf: Path) -> None:
    """Run logrotate now."""
    state = folder / "state"
    done = subprocess.run(
        ["logrotate", "--force", "--state", str(state), str(conf)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def uses(pid: int) -> set[str]:
    """Return the present paths of the files that a process has open."""
    found = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed since
            found.add(str(link.readlink()))
    return found


@contextmanager
def queries(port: int) -> Iterator[list[str]]:
    """Query one name after another, each once; give the names that were answered."""
    asked: list[str] = []
    is_over = threading.Event()

    def ask() -> None:
        number = 0
        while not is_over.is_set():
            number += 1
            finger(port, f"{number}\r\n".encode())
            asked.append(str(number))

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield asked
    finally:
        is_over.set()
        asking.join()


@pytest.fixture
def folder() -> Iterator[Path]:
    """Give a folder that any user may search; pytest's own are private."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


def test_rotations_under_load(folder: Path) -> None:
    """A gateway that gave up root writes to the files that logrotate creates, and each line exactly once.

    If it cannot, it keeps those it has open, and logs what to do.
    """
    port, logs = free_port(), folder / "logs"
    logs.mkdir()
    (folder / "fingergw.toml").write_text(CONFIG.replace("PORT", str(port)).replace("access.log", "logs/access.log"))
    os.close(os.open(logs / "access.log", os.O_CREAT))
    os.chown(logs / "access.log", 65534, 65534)
    conf = folder / "conf"
    arguments = ["--config", str(folder / "fingergw.toml"), "--logfile", str(logs / "events.log")]
    with process(arguments, port=port) as running:
        conf.write_text(CONF.replace("FOLDER", str(logs)).replace("PID", str(running.pid)))
        conf.chmod(0o644)
        with queries(port) as asked:
            for _ in range(3):
                before = len(asked)
                wait_until(lambda before=before: len(asked) >= before + 20, "some queries")  # type: ignore[misc]
                rotate(folder, conf)
                wait_until(lambda: uses(running.pid) >= {f"{logs}/access.log", f"{logs}/events.log"}, "the new logs")
        for log in logs.glob("*.log"):
            log.rename(log.with_suffix(".moved"))
        os.kill(running.pid, 10)
        advice = 'let user "nobody" write to the file (for logrotate: create 0640 nobody adm)'
        wait_until(lambda: (logs / "events.moved").read_text().count(advice) == 2, "that both cannot be opened")
        finger(port, b"last\r\n")
        running.terminate()
        running.communicate(timeout=20)
    assert running.returncode == 0
    files = [*(logs / f"access.log.{number}" for number in (3, 2, 1)), logs / "access.moved"]
    lines = [[json.loads(line)["query"] for line in file.read_text().splitlines()] for file in files]
    assert all(lines)
    queries_of_clients = [query for file in lines for query in file if query]
    assert queries_of_clients == [*asked, "last"]
    events = [(logs / f"events.log.{number}").read_text() for number in (3, 2, 1)]
    assert "starting up" in events[0]
    assert "Server Shut Down." in (logs / "events.moved").read_text()
    rotated = [f"{name}.log.{number}" for name in ("access", "events") for number in (1, 2, 3)]
    assert {file.name for file in logs.iterdir()} == {*rotated, "access.moved", "events.moved"}
