"""The files that a gateway makes as root, in folders of others: whose they are, and what they never are."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from fingergw.net.identity import Identity
from fingergw.telemetry import log_file
from tests.support.configuration import HELLO
from tests.support.processes import COMMAND, forked, process, run
from tests.support.sockets import finger, free_port, serves
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away, and become another user")

NOBODY = 65534
STRANGER = 61234
AS_NOBODY = Identity(NOBODY, NOBODY, (NOBODY,))
PRECIOUS = "root's own\n"
USER = 'user = "nobody"\ngroup = "nogroup"'


@pytest.fixture
def folder() -> Iterator[Path]:
    """Give a folder of the gateway's user, that anybody may look into; pytest's own are for its user alone."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        path.chmod(0o755)
        os.chown(path, NOBODY, NOBODY)
        yield path


@pytest.fixture
def precious() -> Iterator[Path]:
    """Give a file of root's, on the same file system as the folder."""
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(PRECIOUS)
        file.flush()
        yield Path(file.name)


def arguments(folder: Path, port: int, process: str = USER, rest: str = "") -> list[str]:
    """Write a configuration, and return the arguments that name it."""
    config = folder / "fingergw.toml"
    config.write_text(
        f"[[listeners]]\nendpoint = 'tcp:{port}:interface=127.0.0.1'\n{HELLO}\n[process]\n{process}\n{rest}\n"
    )
    return ["--config", str(config)]


def owner(path: Path) -> tuple[int, int]:
    """Return whose a file is."""
    status = path.lstat()
    return status.st_uid, status.st_gid


@contextmanager
def daemon(
    options: Sequence[str], port: int, pidfile: Path, cwd: Path, command: Sequence[str] | None = None
) -> Iterator[int]:
    """Run a daemon, and give its number; have it stopped at the end."""
    ended = run([*options, "--daemonize"], cwd=cwd, command=command)
    assert ended.returncode == 0, ended.stderr
    wait_until(lambda: serves(port), "the daemon")
    pid = int(pidfile.read_text())
    try:
        yield pid
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the daemon's end")
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_whose_they_are(folder: Path) -> None:
    """In the user's own folder the pid file is root's, and the logs are the user's; at the end the pid file is gone."""
    port = free_port()
    options = arguments(folder, port, rest='[log]\naccess = "access.log"')
    with daemon(options, port, folder / "fingergw.pid", folder):
        assert finger(port, b"hello\r\n") == b"Hello\r\n"
        assert owner(folder / "fingergw.pid") == (0, 0)
        assert stat.S_IMODE((folder / "fingergw.pid").stat().st_mode) == 0o644
        assert owner(folder / "fingergw.log") == owner(folder / "access.log") == (NOBODY, NOBODY)
    assert not (folder / "fingergw.pid").exists()
    assert "Server Shut Down." in (folder / "fingergw.log").read_text()


def test_a_folder_of_roots(folder: Path) -> None:
    """In a folder that only root can write to root makes the log, for the user; the pid file is emptied at the end.

    The next start takes an emptied file for what it is.
    """
    os.chown(folder, 0, 0)
    for _ in range(2):
        port = free_port()
        with daemon(arguments(folder, port), port, folder / "fingergw.pid", folder):
            assert owner(folder / "fingergw.log") == (NOBODY, NOBODY)
        assert (folder / "fingergw.pid").read_bytes() == b""
    assert (folder / "fingergw.log").read_text().count("Server Shut Down.") == 2


@pytest.mark.parametrize("is_hard", [False, True])
@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("fingergw.pid", "is a symbolic link, which is not followed; name the file itself in --pidfile"),
        ("fingergw.log", "is a symbolic link, which is not followed; name the file itself, or remove the link"),
        ("access.log", "is a symbolic link, which is not followed; name the file itself, or remove the link"),
    ],
)
def test_links_to_files_of_roots(folder: Path, precious: Path, name: str, why: str, is_hard: bool) -> None:
    """Whatever the user puts in their places, in the user's own folder, root writes to no file of root's."""
    if is_hard:
        (folder / name).hardlink_to(precious)
        why = (
            'user "nobody": Permission denied; let this user write the file'
            if name == "access.log"
            else "is not a pid file"
            if name == "fingergw.pid"
            else 'Permission denied; let user "nobody" write to the file'
        )
    else:
        (folder / name).symlink_to(precious)
    options = arguments(folder, free_port(), rest='[log]\naccess = "access.log"')
    ended = run([*options, "--pidfile", "fingergw.pid", "--logfile", "fingergw.log"], cwd=folder)
    is_known = name == "access.log"  # before anything is bound
    assert ended.returncode == (78 if is_known else 1)
    assert (f"log.access: {folder}/{name}" if is_known else f"{folder}/{name}: {why}") in ended.stderr
    assert why in ended.stderr
    assert "Traceback" not in ended.stderr
    assert precious.read_text() == PRECIOUS
    if name != "fingergw.pid":
        assert not (folder / "fingergw.pid").exists()


@pytest.mark.parametrize("name", ["fingergw.pid", "fingergw.log"])
def test_links_to_what_is_not_there(folder: Path, name: str) -> None:
    """Nor is a file made where a link leads to none; the daemon's start says why it failed."""
    with tempfile.TemporaryDirectory() as roots:
        (folder / name).symlink_to(Path(roots, "made"))
        ended = run([*arguments(folder, free_port()), "--daemonize"], cwd=folder)
        assert ended.returncode == 1
        assert f"{folder}/{name}: is a symbolic link, which is not followed" in ended.stderr
        assert not list(Path(roots).iterdir())


def test_a_link_while_it_is_running(folder: Path, precious: Path) -> None:
    """A gateway that stays root does not follow a link when it opens its logs anew, or a hard link; it says so."""
    port = free_port()
    options = arguments(folder, port, 'user = "root"', '[log]\naccess = "access.log"')
    with forked([*options, "--logfile", str(folder / "events.log")], port=port) as running:
        (folder / "events.log").rename(folder / "events.1")
        (folder / "access.log").rename(folder / "access.1")
        (folder / "events.log").symlink_to(precious)
        (folder / "access.log").hardlink_to(precious)
        running.send_signal(signal.SIGUSR1)
        said = (folder / "events.1").read_text
        wait_until(lambda: said().count("cannot be reopened") == 2, "both messages")
        assert "is a symbolic link, which is not followed" in said()
        assert "has a second name (a hard link)" in said()
        finger(port, b"hello\r\n")
        running.terminate()
        running.wait(20)
    assert '"hello"' in (folder / "access.1").read_text()
    assert precious.read_text() == PRECIOUS


def test_a_folder_of_another_user(folder: Path) -> None:
    """In a folder where the user may not write, and others than root may, no log is made, and it is said what to do."""
    os.chown(folder, STRANGER, STRANGER)
    ended = run([*arguments(folder, free_port()), "--logfile", "log"], cwd=folder)
    assert ended.returncode == 1
    assert f'{folder}/log: Permission denied; let user "nobody" write to the file' in ended.stderr
    assert f"or let that user make files in {folder}" in ended.stderr
    assert not (folder / "log").exists()


def test_a_folder_below_another_users(folder: Path) -> None:
    """Nor is one made in root's own folder where another user could put a different one in its place."""
    os.chown(folder, STRANGER, STRANGER)
    (folder / "roots").mkdir()
    with pytest.raises(PermissionError):
        log_file.open_log_as(str(folder / "roots" / "log"), AS_NOBODY)
    (folder / "link").symlink_to("roots")
    with pytest.raises(PermissionError):
        log_file.open_log_as(str(folder / "link" / "log"), AS_NOBODY)
    os.chown(folder, 0, 0)
    os.close(log_file.open_log_as(str(folder / "link" / "log"), AS_NOBODY))
    assert owner(folder / "roots" / "log") == (NOBODY, NOBODY)
    for mode in (0o775, 0o777, 0o1777):
        (folder / "roots").chmod(mode)
        (folder / "roots" / "other").symlink_to("log")
        with pytest.raises(OSError, match=r"is a symbolic link|Permission denied"):
            log_file.open_log_as(str(folder / "roots" / "other"), AS_NOBODY)
        (folder / "roots" / "other").unlink()


def test_a_log_of_roots_in_roots_folder(folder: Path) -> None:
    """A log that was root's before, in a folder that only root can write to, is gone on with, and stays root's."""
    os.chown(folder, 0, 0)
    log = folder / "log"
    log.write_text("before\n")
    fd = log_file.open_log_as(str(log), AS_NOBODY)
    os.write(fd, b"after\n")
    os.close(fd)
    assert (log.read_text(), owner(log)) == ("before\nafter\n", (0, 0))


def test_umask(folder: Path) -> None:
    """The mask that is asked for holds for the log and the pid file, too."""
    port = free_port()
    options = [*arguments(folder, port, USER + '\numask = "077"'), "--pidfile", "pid", "--logfile", "log"]
    with forked(options, port=port, cwd=folder):
        assert [stat.S_IMODE((folder / name).stat().st_mode) for name in ("pid", "log")] == [0o600, 0o600]


def test_a_second_one(folder: Path) -> None:
    """A second one with the same pid file does not start, and leaves the first one's file."""
    port = free_port()
    options = [*arguments(folder, port), "--pidfile", "pid"]
    with forked(options, port=port, cwd=folder) as running:
        ended = run([*arguments(folder, free_port()), "--pidfile", "pid"], cwd=folder)
        assert ended.returncode == 1
        assert f"{folder}/pid: process {running.pid}, another gateway, has it, or is starting" in ended.stderr
        assert (folder / "pid").read_text() == str(running.pid)


@pytest.mark.parametrize("path", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_standard_output_by_its_name(folder: Path, path: str) -> None:
    """Logs can go to /dev/stdout, as in containers: also to a pipe that the user may not open, and after SIGUSR1."""
    port = free_port()
    options = arguments(folder, port, rest=f'[log]\naccess = "{path}"')
    with process([*options, "--logfile", path], port=port) as running:
        finger(port, b"hello\r\n")
        running.send_signal(signal.SIGUSR1)
        assert finger(port, b"later\r\n") == b"No such user\r\n"
        running.terminate()
        out, err = running.communicate(timeout=20)
    assert (running.returncode, err) == (0, "")
    assert '"hello"' in out
    assert '"later"' in out
    assert "starting up" in out
    assert "cannot be opened" not in out


def test_standard_error_by_its_name(folder: Path) -> None:
    """So they can to /dev/stderr, and to nowhere."""
    port = free_port()
    options = arguments(folder, port, rest='[log]\naccess = "/dev/stderr"')
    with process([*options, "--logfile", "/dev/null"], port=port) as running:
        finger(port, b"hello\r\n")
        running.terminate()
        out, err = running.communicate(timeout=20)
    assert out == ""
    assert '"hello" "hello" "map" answered 7' in err


def test_another_process_standard_output(folder: Path) -> None:
    """A log can be another process's descriptor in /proc, as containers have it for their first one."""
    with (folder / "out").open("w") as out, subprocess.Popen(["sleep", "60"], stdout=out) as other:
        try:
            os.close(log_file.open_log(f"/proc/{other.pid}/fd/1"))
        finally:
            other.kill()


def test_an_identity_that_is_borrowed() -> None:
    """While an identity is borrowed no more can be done than it may, and then all is as before."""

    def current() -> tuple[tuple[int, int, int], tuple[int, int, int], list[int]]:
        return os.getresuid(), os.getresgid(), os.getgroups()

    before = current()
    with suppress(PermissionError), AS_NOBODY.borrowed():
        while_borrowed = os.geteuid(), os.getegid(), os.getgroups()
        Path("/etc/shadow").read_text()
        pytest.fail("root's file was read")
    assert while_borrowed == (NOBODY, NOBODY, [NOBODY])
    assert current() == before
    with Identity().borrowed():
        assert current() == before


@pytest.fixture
def root(folder: Path) -> Path:
    """Give a folder that can be a root: it has a /dev/null."""
    path = folder / "root"
    (path / "dev").mkdir(parents=True)
    os.mknod(path / "dev" / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    return path


@pytest.mark.parametrize("user", ["", USER])
def test_a_daemon_in_a_chroot(folder: Path, root: Path, user: str) -> None:
    """With a chroot the default pid file and log are where it was started, outside; at the end the first is empty.

    It has no way out of its root: of the outside it has these two files open, and no folder.
    """
    os.chown(folder, 0, 0)
    for _ in range(2):
        port = free_port()
        options = arguments(folder, port, f'{user}\nchroot = "{root}"')
        with daemon(options, port, folder / "fingergw.pid", folder, COMMAND) as pid:
            assert finger(port, b"hello\r\n") == b"Hello\r\n"
            assert Path(f"/proc/{pid}/root").readlink() == root
            found = [link.stat() for link in Path(f"/proc/{pid}/fd").iterdir() if link.exists()]
            assert not any(stat.S_ISDIR(status.st_mode) for status in found)
            os.kill(pid, signal.SIGUSR1)
            log = (folder / "fingergw.log").read_text
            wait_until(lambda log=log: "outside of the chroot" in log(), "what SIGUSR1 comes to")  # type: ignore[misc]
        assert (folder / "fingergw.pid").read_bytes() == b""
        assert '"hello" "hello" "map" answered 7' in log()
        assert "Traceback" not in log()
    assert sorted(str(path.relative_to(root)) for path in root.rglob("*")) == ["dev", "dev/null"]


def test_files_in_a_chroot(folder: Path, root: Path) -> None:
    """A pid file and a log that are named within the new root are there; the log is found again after a rotation."""
    (root / "var").mkdir()
    os.chown(root / "var", NOBODY, NOBODY)
    port = free_port()
    pidfile, log = root / "var" / "pid", root / "var" / "log"
    options = arguments(folder, port, f'{USER}\nchroot = "{root}"')
    with daemon([*options, "--pidfile", str(pidfile), "--logfile", str(log)], port, pidfile, folder, COMMAND) as pid:
        log.rename(root / "var" / "log.1")
        os.kill(pid, signal.SIGUSR1)
        wait_until(log.exists, "the new log")
    assert pidfile.read_bytes() == b""
    assert "Server Shut Down." in log.read_text()


def test_a_name_that_takes_a_codec(folder: Path, root: Path) -> None:
    """In a chroot, where Python can load nothing more, one odd query costs no other its line in the access log."""
    (root / "log").mkdir()
    os.chown(root / "log", NOBODY, NOBODY)
    port = free_port()
    options = arguments(folder, port, f'{USER}\nchroot = "{root}"', f'[log]\naccess = "{root}/log/access"')
    with process(options, port=port, command=COMMAND) as running:
        for number in range(42):
            finger(port, b"before%d\r\n" % number)
            if number == 20:
                finger(port, "gr\xfcn\r\n".encode())
        running.terminate()
        running.communicate(timeout=20)
    lines = (root / "log" / "access").read_text()
    assert [f'"before{number}"' in lines for number in range(42)] == [True] * 42
    shutil.rmtree(root)


def test_a_port_that_is_taken(folder: Path, root: Path) -> None:
    """A start that fails in a chroot leaves no number behind."""
    port = free_port()
    with forked(arguments(folder, port), port=port):
        options = arguments(folder, port, f'{USER}\nchroot = "{root}"')
        ended = run([*options, "--pidfile", "pid"], cwd=folder)
    assert ended.returncode == 1
    assert "Address already in use" in ended.stderr
    assert (folder / "pid").read_bytes() == b""
