"""Who the process is when it serves."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from fingergw.core.errors import PrivilegeError
from tests.support.configuration import HELLO
from tests.support.gateway import GatewayCase
from tests.support.privileged import privileged_port, write_process
from tests.support.processes import COMMAND, forked, process, run
from tests.support.sockets import finger, free_port, listens
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change its user")

NOBODY = 65534
# in no passwd; and not this file's own business whether it is in use somewhere
STRANGER = 61234


def identity(pid: int) -> dict[str, list[int]]:
    """Return the user and group numbers of a process: real, effective, saved, filesystem; and its other groups."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    return {key: [int(number) for number in fields[key].split()] for key in ("Uid", "Gid", "Groups")}


def check_becomes(arguments: Sequence[str], port: int, *, user: int, group: int, groups: Sequence[int]) -> None:
    """Run it, and look who it is once it answers."""
    with forked(arguments, port=port) as running:
        assert finger(port, b"hello\r\n") == b"Hello\r\n"
        found = identity(running.pid)
    assert found == {"Uid": [user] * 4, "Gid": [group] * 4, "Groups": list(groups)}


@pytest.mark.parametrize(
    ("settings", "options", "user", "group", "groups"),
    [
        pytest.param('user = "nobody"\ngroup = "nogroup"', [], NOBODY, NOBODY, [NOBODY], id="user and group"),
        pytest.param('user = "nobody"', [], NOBODY, NOBODY, [NOBODY], id="the user's own group"),
        pytest.param(f'user = "{NOBODY}"', [], NOBODY, NOBODY, [NOBODY], id="a number"),
        pytest.param('user = "nobody"\ngroup = "daemon"', [], NOBODY, 1, [1], id="another group"),
        pytest.param('user = "daemon"', ["--uid", "nobody"], NOBODY, NOBODY, [NOBODY], id="--uid wins"),
        pytest.param('user = "nobody"', ["--gid", "daemon"], NOBODY, 1, [1], id="--gid wins"),
        pytest.param("", ["--uid", "nobody"], NOBODY, NOBODY, [NOBODY], id="--uid alone"),
        pytest.param(
            f'user = "{STRANGER}"\ngroup = "nogroup"', [], STRANGER, NOBODY, [NOBODY], id="not in passwd, but its group"
        ),
    ],
)
def test_becomes(tmp_path: Path, settings: str, options: list[str], user: int, group: int, groups: list[int]) -> None:
    """It binds a port that takes root, gives up all of root's users and groups, and serves."""
    port = privileged_port()
    arguments = [*write_process(tmp_path, settings, endpoint=f"tcp:{port}"), *options]
    check_becomes(arguments, port, user=user, group=group, groups=groups)


REFUSED = [
    pytest.param("", "tcp:{}", [], id="nothing said"),
    pytest.param("", r"tcp6:{}:interface=\:\:", [], id="all IPv6 addresses"),
    pytest.param('group = "nogroup"', "tcp:{}", [], id="a group alone"),
    pytest.param("", "tcp:{}", ["--gid", "nogroup"], id="--gid alone"),
]


@pytest.mark.parametrize(("settings", "endpoint", "options"), REFUSED)
def test_root_is_refused(tmp_path: Path, settings: str, endpoint: str, options: list[str]) -> None:
    """As root and reachable from other hosts it does not start, and says what to do."""
    port = free_port()
    ended = run([*write_process(tmp_path, settings, endpoint=endpoint.format(port)), *options])
    assert ended.returncode == 78
    assert ended.stderr == (
        'fingergw: running as root, and other hosts can reach the listener "l": '
        'name an ordinary user in [process] user, or "root" to allow it\n'
    )


def test_refused_leaves_nothing(tmp_path: Path) -> None:
    """When it is refused what was bound before is removed."""
    arguments = write_process(tmp_path, endpoint=f"tcp:{free_port()}")
    config = tmp_path / "fingergw.toml"
    config.write_text('[[listeners]]\nendpoint = "unix:s"\n' + config.read_text())
    assert run(arguments).returncode == 78
    assert [path.name for path in tmp_path.iterdir()] == ["fingergw.toml"]


@pytest.mark.parametrize(
    ("settings", "options", "group"),
    [
        ('user = "root"', [], 0),
        ('user = "0"', [], 0),
        ("", ["--uid", "root"], 0),
        ('user = "root"\ngroup = "nogroup"', [], NOBODY),
    ],
)
def test_root_by_name(tmp_path: Path, settings: str, options: list[str], group: int) -> None:
    """Root that is named stays root, in the group that is named, and is reachable."""
    port = free_port()
    with forked([*write_process(tmp_path, settings, endpoint=f"tcp:{port}"), *options], port=port) as running:
        assert finger(port, b"hello\r\n") == b"Hello\r\n"
        found = identity(running.pid)
    assert (found["Uid"], found["Gid"]) == ([0] * 4, [group] * 4)


def test_root_on_the_loopback(tmp_path: Path) -> None:
    """As root, but not reachable from other hosts, it starts with a warning."""
    port = free_port()
    with forked(write_process(tmp_path, endpoint=f"tcp:{port}:interface=127.0.0.1"), port=port) as running:
        running.terminate()
        out, _ = running.communicate(timeout=20)
    assert 'running as root; name an ordinary user in [process] user, or "root" to allow it' in out


def test_not_in_passwd(tmp_path: Path) -> None:
    """A user number that is not in passwd has no group of its own, so that one has to be named."""
    ended = run(write_process(tmp_path, f'user = "{STRANGER}"', endpoint=f"tcp:{free_port()}"))
    assert ended.returncode == 78
    assert f": process.user: user {STRANGER} is not in passwd, so that it has no group; name one in group, too\n" in (
        ended.stderr
    )


# Python itself may be in a folder of root's own, so that it changes its user only when all is imported.
AS_NOBODY = [
    sys.executable,
    "-c",
    f"""
import os, sys, twisted.internet.reactor
import fingergw.app.build, fingergw.cli.command, fingergw.cli.configuration, fingergw.app.daemon, fingergw.app.reload
os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})
sys.exit(fingergw.cli.main(["--config", "fingergw.toml"]))
""",
]


@pytest.mark.parametrize("settings", ['user = "daemon"', 'group = "daemon"', 'chroot = "/"'])
def test_ordinary_user(tmp_path: Path, settings: str) -> None:
    """An ordinary user that is told to become another is told that this takes root."""
    tmp_path.chmod(0o755)
    write_process(tmp_path, settings, endpoint=f"tcp:{free_port()}")
    ended = subprocess.run(AS_NOBODY, cwd=tmp_path, text=True, capture_output=True, check=False, timeout=60)
    assert ended.returncode == 78
    assert ended.stderr.startswith(
        "fingergw: changing the user, the group or the root needs root: start it as root, "
        "or remove user, group and chroot from [process]\n"
    )


def test_ordinary_user_that_is_the_one(tmp_path: Path) -> None:
    """An ordinary user that is the one in [process] just runs."""
    tmp_path.chmod(0o755)
    port = free_port()
    write_process(tmp_path, 'user = "nobody"\ngroup = "nogroup"', endpoint=f"tcp:{port}")
    running = subprocess.Popen(AS_NOBODY, cwd=tmp_path, stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: running.poll() is not None or listens(port), "the listener")
        assert finger(port, b"hello\r\n") == b"Hello\r\n"
        assert identity(running.pid)["Uid"] == [NOBODY] * 4
    finally:
        running.terminate()
        running.wait(20)


@pytest.mark.parametrize("settings", ["", 'user = "nobody"', 'user = "nobody"\ngroup = "nogroup"'])
def test_chroot(tmp_path: Path, settings: str) -> None:
    """In a root of its own, with nothing in it but /dev/null, it serves what it has read before."""
    root = tmp_path / "root"
    (root / "dev").mkdir(parents=True)
    os.mknod(root / "dev" / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    port = free_port()
    arguments = write_process(tmp_path, f'chroot = "{root}"\n{settings}', endpoint=f"tcp:{port}:interface=127.0.0.1")
    with process(arguments, port=port) as running:
        assert finger(port, b"hello\r\n") == b"Hello\r\n"
        assert finger(port, b"a@b\r\n") == b"Finger forwarding service denied\r\n"
        assert Path(f"/proc/{running.pid}/root").readlink() == root
        assert identity(running.pid)["Uid"] == [NOBODY if settings else 0] * 4
        running.terminate()
        out, _ = running.communicate(timeout=20)
    assert running.returncode == 0
    assert "Traceback" not in out


@pytest.mark.parametrize(
    ("settings", "options", "mode"),
    [('umask = "027"', [], 0o640), ('umask = "077"', [], 0o600), ('umask = "077"', ["--umask", "022"], 0o644)],
)
def test_umask(tmp_path: Path, settings: str, options: list[str], mode: int) -> None:
    """Files are created as the mask says; --umask wins."""
    port = free_port()
    arguments = write_process(
        tmp_path, settings + '\n[log]\naccess = "access.log"', endpoint=f"tcp:{port}:interface=127.0.0.1"
    )
    with forked([*arguments, *options], port=port):
        finger(port, b"hello\r\n")
        assert stat.S_IMODE((tmp_path / "access.log").stat().st_mode) == mode


class ApplicationTests(GatewayCase):
    """A gateway that something else than ``fingergw`` runs."""

    async def test_root(self) -> None:
        """Under twistd [process] has no effect, so that a gateway that is still root refuses to serve."""
        with pytest.raises(PrivilegeError, match="start it by fingergw, or give the Application the uid and gid"):
            self.start(f'[[listeners]]\nendpoint = "tcp:0"\n{HELLO}\n[process]\nuser = "nobody"\n')


def test_daemon(tmp_path: Path) -> None:
    """A daemon gives up root, too, and can still be stopped."""
    port = privileged_port()
    tmp_path.chmod(0o755)
    pidfile = tmp_path / "pid"
    arguments = write_process(tmp_path, 'user = "nobody"\ngroup = "nogroup"', endpoint=f"tcp:{port}")
    ended = run([*arguments, "--daemonize", "--pidfile", str(pidfile), "--logfile", str(tmp_path / "log")])
    assert ended.returncode == 0, ended.stderr
    pid = int(pidfile.read_text())
    try:
        found = identity(pid)
        assert finger(port, b"hello\r\n") == b"Hello\r\n"
    finally:
        os.kill(pid, 15)
        wait_until(lambda: not listens(port), "the end of the daemon")
    assert found == {"Uid": [NOBODY] * 4, "Gid": [NOBODY] * 4, "Groups": [NOBODY]}
    # it listens no more before its log is complete
    wait_until(lambda: '"hello" "map" answered 7' in (tmp_path / "log").read_text(), "the query's line")


def test_no_more_processes(tmp_path: Path) -> None:
    """Where its user can have no more processes, all is served that takes none, and the log says what does not work."""
    port = free_port()
    text = f'user = "{STRANGER}"\ngroup = "{STRANGER}"\n[backends.h]\ntype = "http"\nurl = "http://127.0.0.1:9/"\n'
    arguments = write_process(tmp_path, text, endpoint=f"tcp:{port}:interface=127.0.0.1")
    with process(arguments, port=port, command=["prlimit", "--nproc=1:1", *COMMAND]) as running:
        assert finger(port, b"hello\r\n") == b"Hello\r\n"
        running.terminate()
        out, error = running.communicate(timeout=20)
    assert running.returncode == 0
    why = "HTML pages and templates fail until a worker process can be started: Resource temporarily"
    assert why in out + error
    assert "Traceback" not in out + error
