"""The pid file: what it is put in the place of, and what is left of it at the end."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from twisted.logger import capturedLogs, formatEvent

from fingergw.app.pid_file import PidFile
from fingergw.core.errors import FingergwError
from tests.support.commands import is_running
from tests.support.configuration import HELLO, listener
from tests.support.jail import NOBODY
from tests.support.processes import COMMAND, forked, process
from tests.support.sockets import free_port, listens
from tests.support.waiting import wait_until


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a pid file that is not there yet."""
    return tmp_path / "fingergw.pid"


@pytest.fixture
def gone() -> int:
    """Return the number of a process that is gone."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return ended.pid


def made(path: Path) -> PidFile:
    """Return a pid file with this process's number."""
    file = PidFile(path)
    file.create(keeps_folder=True)
    file.write()
    return file


def refused(path: Path) -> str:
    """Return why a pid file cannot be made; nothing may have changed."""
    with pytest.raises(FingergwError) as caught:
        PidFile(path).create(keeps_folder=True)
    return str(caught.value)


def test_its_life(path: Path) -> None:
    """It has the process's number, whoever may read it and nobody else write it, and is gone at the end."""
    before = os.umask(0)
    try:
        file = made(path)
    finally:
        os.umask(before)
    assert path.read_text() == str(os.getpid())
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    file.remove()
    assert not path.exists()
    file.remove()


def test_a_process_that_is_gone(path: Path, gone: int) -> None:
    """A file that nobody holds is replaced, and that is said."""
    path.write_text(f"{gone}\n")
    with capturedLogs() as events:
        made(path).remove()
    assert [formatEvent(event) for event in events] == [f"{path}: was left behind by process {gone}; it is replaced"]


@pytest.mark.parametrize("text", ["", "\n"])
def test_a_file_that_was_emptied(path: Path, text: str) -> None:
    """So is one that was emptied, without a word."""
    path.write_text(text)
    with capturedLogs() as events:
        made(path).remove()
    assert not events


def test_a_number_says_nothing(path: Path) -> None:
    """So is one with the number of a process that runs: in a container its own, elsewhere any that has it by now."""
    for text in (str(os.getpid()), f"{os.getppid()}\n", "1", "9" * 20, f"{os.getppid():020}"):
        path.write_text(text)
        file = made(path)
        assert path.read_text() == str(os.getpid())
        file.remove()


def test_a_gateway_that_is_running(path: Path) -> None:
    """The file that another holds stays, whatever is in it, and the message says what to do."""
    file = made(path)
    for text, who in ((str(os.getpid()), f"process {os.getpid()}, another gateway,"), ("", "another gateway")):
        path.write_text(text)
        assert refused(path) == (
            f"{path}: {who} has it, or is starting; stop that gateway, or name another file in --pidfile"
        )
        assert path.read_text() == text
    file.remove()


@pytest.mark.parametrize("text", ["0", "-1", "root:x:0:0", "9" * 40, "1 2", "\0", "12" + "\n" * 31 + "3", "\u0661"])
def test_what_is_no_pid_file(path: Path, text: str) -> None:
    """What is in the file's place and is none stays, and is not told; above all nothing is sent to such a process."""
    path.write_text(text)
    assert refused(path) == f"{path}: is not a pid file; remove it, or name another file in --pidfile"
    assert path.read_text() == text


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("mkfifo fingergw.pid", "is not a pid file"),
        ("mkdir fingergw.pid", "is not a pid file"),
        ("ln -s other fingergw.pid", "is a symbolic link, which is not followed; name the file itself in --pidfile"),
        ("touch other; ln -s other fingergw.pid", "is a symbolic link"),
        ("ln -s fingergw.pid fingergw.pid", "is a symbolic link"),
        ("ln -s /dev/null fingergw.pid", "is a symbolic link"),
    ],
)
def test_what_is_no_file(path: Path, command: str, why: str) -> None:
    """A link is not followed, and nobody is waited for who might write to a pipe."""
    subprocess.run(["sh", "-c", command], cwd=path.parent, check=True)
    before = {each.name: each.lstat().st_ino for each in path.parent.iterdir()}
    assert why in refused(path)
    assert {each.name: each.lstat().st_ino for each in path.parent.iterdir()} == before


def test_a_link_to_its_folder(tmp_path: Path) -> None:
    """Links before the path's last part are the operator's way to it."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    file = made(tmp_path / "link" / "pid")
    assert (tmp_path / "folder" / "pid").read_text() == str(os.getpid())
    file.remove()
    assert not (tmp_path / "folder" / "pid").exists()


def test_another_name_of_a_file(path: Path, gone: int) -> None:
    """A file that has another name keeps what is in it, and only this name."""
    other = path.with_name("other")
    other.write_text(str(gone))
    path.hardlink_to(other)
    made(path)
    assert other.read_text() == str(gone)
    assert not path.samefile(other)


def test_another_in_its_place(path: Path) -> None:
    """At the end another's file in its place stays, and its own is emptied, wherever it is."""
    file, moved = made(path), path.with_name("moved")
    path.rename(moved)
    path.write_text("1")
    file.remove()
    assert (path.read_text(), moved.read_text()) == ("1", "")


def test_a_folder_that_is_not_kept(path: Path) -> None:
    """Where its folder may not be kept it is emptied, and made anew the next time."""
    file = PidFile(path)
    file.create(keeps_folder=False)
    file.write()
    file.remove()
    assert path.read_bytes() == b""
    made(path).remove()


def test_no_folder(tmp_path: Path) -> None:
    """A folder that is not there is named."""
    with pytest.raises(FileNotFoundError) as caught:
        PidFile(tmp_path / "none" / "pid").create(keeps_folder=True)
    assert str(caught.value.filename) == str(tmp_path / "none")


def test_a_file_system_without_locks(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing can be locked, that is said, with the file."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OSError, match="cannot be locked: No locks available") as caught:
        PidFile(path).create(keeps_folder=True)
    assert caught.value.filename == str(path)


def test_a_full_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no space for the number, that is said with the file."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", refuse)
        with pytest.raises(OSError, match="No space left on device") as caught:
            made(path)
    assert caught.value.filename == str(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can leave another user's file")
def test_another_users_file() -> None:
    """One that another user has left where this user may not remove it is named, with what cannot be done."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "pid"
        path.parent.chmod(0o1777)
        path.write_text("1")
        os.seteuid(NOBODY)
        try:
            with pytest.raises(
                PermissionError, match="was left behind, and cannot be removed: Operation not"
            ) as caught:
                PidFile(path).create(keeps_folder=True)
        finally:
            os.seteuid(0)
    assert caught.value.filename == str(path)


def test_another_start(path: Path, gone: int) -> None:
    """Of two starts at the same moment one has the file, though it is not written to yet, and the other is refused."""
    for text in (None, "", str(gone)):
        if text is not None:
            path.write_text(text)
        file = PidFile(path)
        file.create(keeps_folder=True)
        assert "another gateway has it, or is starting" in refused(path)
        file.write()
        assert path.read_text() == str(os.getpid())
        file.remove()


def test_another_start_replaces_the_stale_file(path: Path, gone: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two starts that have read the same stale file, the one that locks it second leaves the new one alone."""
    path.write_text(str(gone))
    lock, first = fcntl.flock, []

    def lock_second(fd: int, operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", lock)
        first.append(made(path))
        lock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", lock_second)
    assert "another gateway has it" in refused(path)
    assert path.read_text() == str(os.getpid())
    first[0].remove()


def gateway(folder: Path, port: int, more: str = HELLO) -> list[str]:
    """Write a configuration, and return the arguments of a gateway with a pid file."""
    config = folder / "fingergw.toml"
    config.write_text(listener(port) + more)
    return ["--config", str(config), "--pidfile", str(folder / "fingergw.pid")]


def test_a_start_after_a_kill(path: Path) -> None:
    """A gateway that was killed stops no other, though a program of its own still runs, and has its number not free."""
    program = f"""
[[routes]]
user = "slow"
backends = ["slow"]
[backends.slow]
type = "command"
argv = ["sh", "-c", "echo $$ > {path}.program; exec sleep 60"]
"""
    port, written = free_port(), Path(f"{path}.program")
    arguments = gateway(path.parent, port, program)
    with forked(arguments, port=port) as first, socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"slow\r\n")
        wait_until(lambda: written.exists() and written.read_text(), "the program")
        os.kill(first.pid, signal.SIGKILL)
        wait_until(lambda: first.poll() is not None, "the gateway's end")
    try:
        assert is_running(int(written.read_text()))
        path.write_text(written.read_text())  # as if it had the gateway's number by now
        with forked(arguments, port=port) as second:
            assert path.read_text() == str(second.pid)
    finally:
        os.kill(int(written.read_text()), signal.SIGKILL)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a namespace")
def test_a_restart_in_a_container(path: Path) -> None:
    """In a container, where each start has the number 1, a gateway starts again after it was killed."""
    command = ["unshare", "-pf", "--kill-child", "--mount-proc", *COMMAND]
    for _ in range(2):
        port = free_port()
        with process(gateway(path.parent, port), port=port, command=command) as running:
            assert path.read_text() == "1"
            running.kill()
            wait_until(lambda port=port: not listens(port), "the gateway's end")  # type: ignore[misc]
