"""Which files a gateway can still read and use once it has changed its root and its user, and how that is told."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import struct
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from unittest.mock import patch

import pytest
from twisted.internet.testing import MemoryReactorClock

from fingergw import config
from fingergw.app import build
from fingergw.net.root import inside
from tests.support.activation import passing
from tests.support.configuration import HELLO
from tests.support.good_certificates import CERTIFICATE, KEY
from tests.support.jail import NOBODY, make_jail
from tests.support.processes import COMMAND, forked, process, run
from tests.support.sockets import finger, free_port
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change its root")
FILES = {
    "people.toml": 'x = "y"\n',
    "token": "secret\n",
    "key": "secret\n",
    "password": "secret\n",
    "ca.pem": CERTIFICATE.decode(),
    "cert.pem": CERTIFICATE.decode(),
    "key.pem": KEY.decode(),
}
ALL = """
[[listeners]]
endpoint = "ssl:0:privateKey=key.pem:certKey=cert.pem"
[backends.a]
type = "static"
file = "people.toml"
[backends.b]
type = "http"
url = "https://localhost"
bearer_token_file = "token"
header_files = { X-Key = "key" }
ca_file = "ca.pem"
[forwarding]
allow = { "old.example.org" = "tls:localhost:79:certificate=cert.pem:privateKey=key.pem" }
[cache]
store = "rediss://localhost"
password_file = "password"
ca_file = "ca.pem"
"""
AGAIN = "cannot be read again when it changes, or at a reload"
KEYS = {
    ("people.toml", "backends.a.file"),
    ("token", "backends.b.bearer_token_file"),
    ("key", "backends.b.header_files.X-Key"),
    ("ca.pem", "backends.b.ca_file"),
    ("password", "cache.password_file"),
    ("ca.pem", "cache.ca_file"),
    ("key.pem", "listeners[1].endpoint"),
    ("cert.pem", "listeners[1].endpoint"),
    ("key.pem", 'forwarding.allow."old.example.org"'),
    ("cert.pem", 'forwarding.allow."old.example.org"'),
}


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder that any user may enter; pytest's own are for root alone."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        yield Path(made)


def serving(port: int) -> str:
    """Return a configuration that serves on the loopback."""
    return f'[[listeners]]\nendpoint = "tcp:{port}:interface=127.0.0.1"\n{HELLO}'


def write(folder: Path, text: str, *, mode: int = 0o644) -> list[str]:
    """Write a configuration and all files that it may name, and return the arguments that name it."""
    folder.mkdir(exist_ok=True)
    for name, content in {**FILES, "fingergw.toml": text}.items():
        (folder / name).write_text(content)
        (folder / name).chmod(mode & 0o660 if name in ("token", "key", "password") else mode)
        os.chown(folder / name, 0, NOBODY)
    return ["--config", str(folder / "fingergw.toml")]


def warnings(arguments: Sequence[str]) -> dict[tuple[str, str], str]:
    """Return what ``check`` warns cannot be read again, by the file's name and the key, and what it says of each."""
    checked = run(["check", *arguments])
    assert (checked.returncode, checked.stdout.endswith("no mistakes found\n")) == (0, True), checked.stderr
    told = [
        re.fullmatch(r"fingergw: warning: [^:]+:\d+: ([^:]+): (\S+) (.+)", each) for each in checked.stderr.splitlines()
    ]
    return {(Path(match[2]).name, match[1]): match[3] for match in told if match and match[3].startswith(AGAIN)}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/r/a", "/a"),
        ("/r", "/"),
        ("/r/", "/"),
        ("/r/..a", "/..a"),
        ("/r/a/../b", "/b"),
        ("/r/../r/a", "/a"),
        ("/ra", None),
        ("/r/..", None),
        ("/r/../a", None),
        ("/", None),
        ("/a", None),
    ],
)
def test_inside(path: str, found: str | None) -> None:
    """A path below the root's folder has a name inside, and no other has."""
    assert inside(Path(path), Path("/r")) == (None if found is None else Path(found))
    assert inside(Path(path), Path("/")) == Path(os.path.normpath(path))


OUTSIDE = """
[[listeners]]
endpoint = "unix:/outside/socket"
[backends.a]
type = "command"
argv = ["/bin/sh"]
[backends.b]
type = "command"
argv = ["sh"]
[forwarding]
allow = { "old.example.org" = "unix:/outside/other" }
[cache]
store = "sqlite:/outside/cache.db"
[log]
access = "/outside/access.log"
[admin]
endpoint = "unix:/outside/admin"
"""


@pytest.mark.parametrize("command", [["check"], []])
def test_what_cannot_work_outside(folder: Path, command: list[str]) -> None:
    """A socket, program, log or database that is outside of the chroot is a mistake, and so is no chroot."""
    text = serving(0) + OUTSIDE + f'[process]\nchroot = "{folder}/root"\n'
    first = len(serving(0).splitlines())
    arguments = [*command, *write(folder, text)]
    no_root = run(arguments)
    assert f"process.chroot: no folder {folder}/root; make it: mkdir -p {folder}/root\n" in no_root.stderr
    assert "outside of the chroot" not in no_root.stderr  # which may be misspelt
    make_jail(folder / "root")
    refused = run(arguments)
    assert (no_root.returncode, refused.returncode) == (78, 78)
    advice = f": it is outside of the chroot {folder}/root; put it below that"
    mistakes = [line for line in refused.stderr.splitlines() if "warning" not in line]
    assert mistakes == [
        "fingergw: 7 mistakes:",
        *(
            f"{folder}/fingergw.toml:{first + line}: {key}: {what}"
            for line, key, what in (
                (3, "listeners[1].endpoint", "/outside/socket" + advice),
                (6, "backends.a.argv[0]", "/bin/sh" + advice),
                (9, "backends.b.argv[0]", 'no executable file "sh" on the PATH; install it, or write its path'),
                (11, 'forwarding.allow."old.example.org"', "/outside/other" + advice),
                (13, "cache.store", "/outside/cache.db" + advice),
                (15, "log.access", "/outside/access.log" + advice),
                (17, "admin.endpoint", "/outside/admin" + advice),
            )
        ),
    ]


def test_what_cannot_be_read_again_outside(folder: Path) -> None:
    """Files outside of the chroot are read at the start; that they cannot be again is a warning for each key."""
    arguments = write(folder, serving(0) + ALL + f'[process]\nchroot = "{folder}/root"\n')
    make_jail(folder / "root")
    found = warnings(arguments)
    assert found.keys() == KEYS | {("fingergw.toml", "process.chroot")}
    assert set(found.values()) == {f"{AGAIN}: it is outside of the chroot {folder}/root; put it below that"}


@pytest.mark.parametrize("chroot", ["", 'chroot = "."'])
def test_what_the_user_cannot_read_again(folder: Path, chroot: str) -> None:
    """What root alone can read is a warning for each key; what the user's group can read is none."""
    make_jail(folder)
    text = serving(0) + ALL + f'[process]\nuser = "nobody"\n{chroot}\n'
    found = warnings(write(folder, text, mode=0o600))
    own = "process.chroot" if chroot else "process.user"
    assert found.keys() == KEYS | {("fingergw.toml", own)}
    advice = "see to it that the gateway's group can read it, and enter its folder"
    assert set(found.values()) == {f'{AGAIN}: user "nobody": Permission denied; {advice}'}
    assert warnings(write(folder, text, mode=0o640)) == {}


def test_options_win(folder: Path) -> None:
    """Whoever runs it as another user, or in another root, than the file says is warned of what that can read."""
    make_jail(folder)
    port = free_port()
    arguments = write(folder, serving(port) + '[process]\nuser = "root"\n', mode=0o640)
    os.chown(folder / "fingergw.toml", 0, 0)
    assert warnings(arguments) == {}
    with process([*arguments, "--uid", "nobody"], port=port) as running:
        running.terminate()
        out, _ = running.communicate(timeout=20)
    assert "[fingergw.app.reload#warn]" in out
    assert f"process.user: {folder}/fingergw.toml {AGAIN}" in out


def test_who_is_not_in_passwd(folder: Path) -> None:
    """A user that is in no passwd is asked about, too, with the group that is named."""
    text = serving(0) + '[process]\nuser = "61234"\ngroup = "nogroup"\n'
    assert warnings(write(folder, text, mode=0o600)).keys() == {("fingergw.toml", "process.user")}
    assert warnings(write(folder, text, mode=0o640)) == {}


def test_a_folder_that_cannot_be_entered(folder: Path) -> None:
    """A file that all may read is as good as closed where its folder is."""
    arguments = write(folder / "etc", serving(0) + '[process]\nuser = "nobody"\n')
    assert warnings(arguments) == {}
    (folder / "etc").chmod(0o700)
    assert warnings(arguments).keys() == {("fingergw.toml", "process.user")}


def acl(*entries: tuple[int, int, int]) -> bytes:
    """Return an access control list as the kernel has it: tag, rights, number (acl(5))."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *each) for each in entries)


def test_access_control_list(folder: Path) -> None:
    """What a list lets the user read can be read, whatever the mode says."""
    arguments = write(folder, serving(0) + '[process]\nuser = "nobody"\n', mode=0o600)
    assert warnings(arguments).keys() == {("fingergw.toml", "process.user")}
    nobody = 0xFFFFFFFF
    entries = ((1, 6, nobody), (2, 4, NOBODY), (4, 0, nobody), (16, 4, nobody), (32, 0, nobody))
    os.setxattr(folder / "fingergw.toml", "system.posix_acl_access", acl(*entries))
    assert warnings(arguments) == {}


def test_a_link_out_of_the_chroot(folder: Path) -> None:
    """A link inside that leads out is followed at the start, and not after that, so that it is warned of."""
    make_jail(folder / "root")
    (folder / "people.toml").write_text('x = "y"\n')
    (folder / "root" / "map.toml").symlink_to(folder / "people.toml")
    text = f'[backends.a]\ntype = "static"\nfile = "map.toml"\n[process]\nchroot = "{folder}/root"\n'
    found = warnings(write(folder / "root", serving(0) + text))
    why = "in the chroot: No such file or directory; put the file itself there, as no link can lead out of a chroot"
    assert found == {("map.toml", "backends.a.file"): f"{AGAIN}: {why}"}


def test_no_null_device(folder: Path) -> None:
    """A chroot without /dev/null is a mistake, as nothing can be bound there, and is said with what makes one."""
    arguments = write(folder, serving(0) + '[process]\nchroot = "."\n')
    make = f"mkdir -p {folder}/dev && mknod -m 666 {folder}/dev/null c 1 3"
    for command in (["check", *arguments], arguments):
        refused = run(command)
        assert refused.returncode == 78
        assert (
            f"process.chroot: the folder has no /dev/null, which listeners and programs need; run: {make}\n"
            in refused.stderr
        )
    os.system(make)
    assert run(["check", *arguments]).stderr == ""


@pytest.mark.parametrize("closed", ["chroot", "above"])
def test_chroot_that_cannot_be_looked_into(folder: Path, closed: str) -> None:
    """Who may not look into a chroot is told what else is wrong, and nothing of that."""
    chroot = folder / "above" / "chroot"
    chroot.mkdir(parents=True)
    (folder / "above" if closed == "above" else chroot).chmod(0o700)
    write(folder, serving(0) + f'[process]\nchroot = "{chroot}"\n')
    checked = as_nobody(folder / "fingergw.toml")
    assert checked == []


def test_no_more_processes(folder: Path) -> None:
    """Where there can be no more processes, what another user can read is not known, and nothing is said of it."""
    write(folder, serving(0) + '[process]\nuser = "nobody"\n', mode=0o600)
    configuration, _ = config.read(folder / "fingergw.toml")
    with patch("os.fork", side_effect=BlockingIOError(11, "Resource temporarily unavailable")):
        assert build.check(configuration, MemoryReactorClock(), configuration.process) == ([], [])
    assert build.check(configuration, MemoryReactorClock(), configuration.process)[1] != []


def as_nobody(path: Path) -> list[str]:
    """Return what a process that is nobody finds wrong with a configuration."""
    end, their_end = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            configuration, found = config.read(path)
            found += build.check(configuration, MemoryReactorClock(), configuration.process)[0]
            os.write(their_end, "\n".join(each.message for each in found).encode())
        except BaseException as error:
            os.write(their_end, repr(error).encode())
        finally:
            os._exit(0)
    os.close(their_end)
    with os.fdopen(end) as told:
        lines = told.read().splitlines()
    os.waitpid(pid, 0)
    return lines


def reload(path: Path, port: int, pid: int, log: Path | None = None) -> None:
    """Make a mistake that is logged, with its line; then change what a gateway answers, and wait for it."""
    good = path.read_text()
    if log is not None:
        path.write_text(good + "[limits]\nmax_query_byte = 1\n")
        os.kill(pid, signal.SIGHUP)
        wait_until(lambda: "stays active" in log.read_text(), "the refusal")
        line = len(good.splitlines()) + 2
        assert f'{path}:{line}: limits.max_query_byte: unknown key "max_query_byte"' in log.read_text()
    path.write_text(good.replace('"Hello"', '"Changed"'))
    os.kill(pid, signal.SIGHUP)
    wait_until(lambda: finger(port, b"hello\r\n") == b"Changed\r\n", "the new configuration")


TWISTD = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()", "-n", "--pidfile="]


@pytest.mark.parametrize("options", [["--chroot", "root"], ["--chroot", "root", "--uid", "nobody"]])
def test_reload_under_options(folder: Path, options: list[str]) -> None:
    """A chroot on the command line, which may be relative, is as good as one in the file, of twistd as well."""
    root = make_jail(folder / "root")
    port = free_port()
    log = folder / "log"
    for command, name in ((COMMAND, []), (TWISTD, ["fingergw"])):
        write(root, serving(port))
        arguments = [*options, "--logfile", "log", *name, "--config", "root/fingergw.toml"]
        with process(arguments, port=port, cwd=folder, command=command) as running:
            reload(root / "fingergw.toml", port, running.pid, log)
        log.unlink()


def test_reload_that_brings_types(folder: Path) -> None:
    """In a chroot, where nothing can be imported, a reload may bring types of backends, and metrics, that are new."""
    root = make_jail(folder / "root")
    (root / "bin").mkdir()
    shutil.copy("/usr/bin/true", root / "bin" / "program")
    port = free_port()
    write(root, serving(port))
    arguments = ["--chroot", "root", "--logfile", "log", "--config", "root/fingergw.toml"]
    with process(arguments, port=port, cwd=folder) as running:
        path, log = root / "fingergw.toml", folder / "log"
        more = (
            '[backends.web]\ntype = "http"\nurl = "http://127.0.0.1:1/"\n'
            '[backends.other]\ntype = "finger"\nhost = "127.0.0.1"\n[backends.menu]\ntype = "menu"\n'
            f'[backends.program]\ntype = "command"\nargv = ["{root}/bin/program"]\n'
            '[admin]\nendpoint = "tcp:0:interface=127.0.0.1"\n'
        )
        path.write_text(path.read_text() + more)
        running.send_signal(signal.SIGHUP)
        ends = ("configuration reloaded", "stays active", "the reload failed")
        wait_until(lambda: any(end in log.read_text() for end in ends), "the reload")
        assert "configuration reloaded" in log.read_text(), log.read_text()


def test_reload_of_a_daemon(folder: Path) -> None:
    """A daemon in a chroot reloads, too."""
    root = make_jail(folder / "root")
    port = free_port()
    arguments = write(root, serving(port) + f'[process]\nuser = "nobody"\nchroot = "{root}"\n')
    pids = [folder / "pid", root / folder.relative_to("/") / "pid"]  # a pid file's name may be meant inside
    pids[1].parent.mkdir(parents=True)
    options = ["--daemonize", "--pidfile", str(pids[0]), "--logfile", str(folder / "log")]
    started = run([*arguments, *options], command=COMMAND)
    assert started.returncode == 0, started.stderr
    pid = next(int(each.read_text()) for each in pids if each.exists())
    try:
        wait_until(lambda: finger(port, b"hello\r\n") == b"Hello\r\n", "the listener")
        reload(root / "fingergw.toml", port, pid)
    finally:
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the end of the daemon")


def test_configuration_outside(folder: Path) -> None:
    """A configuration outside of the chroot serves, with a warning, and cannot be reloaded, which is said."""
    root = make_jail(folder / "root")
    port = free_port()
    arguments = write(folder, serving(port) + f'[process]\nchroot = "{root}"\n')
    log = folder / "log"
    with forked([*arguments, "--logfile", str(log)], port=port) as running:
        warning = f"process.chroot: {folder}/fingergw.toml {AGAIN}"
        assert warning in log.read_text()
        running.send_signal(signal.SIGHUP)
        wait_until(lambda: "stays active" in log.read_text(), "the refusal")
        why = f"cannot be read: it is outside of the chroot {root}, which the root is now; put it below that"
        assert f"{folder}/fingergw.toml: {why}" in log.read_text()
        assert "fingergw init" not in log.read_text()
        assert finger(port, b"hello\r\n") == b"Hello\r\n"


def test_nothing_is_read_anew_for_the_change_alone(folder: Path) -> None:
    """That the root has changed is no change of a file: one that cannot be read again makes no noise for that."""
    root = make_jail(folder / "root")
    port = free_port()
    text = '[backends.m]\ntype = "static"\nfile = "../people.toml"\n[[routes]]\npattern = "*"\nbackends = ["m"]\n'
    text += '[backends.n]\ntype = "static"\nfile = "people.toml"\n[[routes]]\nuser = "x"\nbackends = ["n"]\n'
    process_table = f'[process]\nchroot = "{root}"\nuser = "nobody"\n'
    write(folder, "")
    arguments = write(root, serving(port).replace("[[routes]]", text + "[[routes]]") + process_table)
    (root / "people.toml").chmod(0o600)
    log = folder / "log"
    with process([*arguments, "--logfile", str(log)], port=port):
        until = time.monotonic() + 2.5  # two looks, a second apart
        while time.monotonic() < until:
            assert finger(port, b"x\r\n") == b"y\r\n"
        assert "stays in use" not in log.read_text()


def test_socket_of_systemd(folder: Path) -> None:
    """A socket that systemd passed is found in a chroot, at a reload, too."""
    root = make_jail(folder / "root")
    text = '[[listeners]]\nendpoint = "systemd:domain=INET:name=s"\n' + HELLO
    arguments = write(root, f'{text}[process]\nuser = "nobody"\nchroot = "."\n')
    with socket.create_server(("127.0.0.1", 0)) as passed, passing({"s": passed}, arguments) as running:
        port = passed.getsockname()[1]
        assert finger(port, b"hello\r\n") == b"Hello\r\n"
        reload(root / "fingergw.toml", port, running.pid)


@pytest.mark.parametrize("access", ["/dev/stdout", "-", "off"])
def test_standard_output(folder: Path, access: str) -> None:
    """An access log that is no file of its own needs no place in the chroot."""
    root = make_jail(folder / "root")
    port = free_port()
    arguments = write(root, serving(port) + f'[log]\naccess = "{access}"\n[process]\nchroot = "."\n')
    with process(arguments, port=port) as running:
        assert finger(port, b"hello\r\n") == b"Hello\r\n"
        running.terminate()
        out, _ = running.communicate(timeout=20)
    assert ('"hello" "hello" "map" answered' in out) == (access != "off")


def test_explain_is_outside(folder: Path) -> None:
    """``explain --ask`` changes no root: it runs programs and reads files where the file says they are."""
    root = make_jail(folder / "root", "/bin/sh")
    shutil.copy("/bin/echo", root / "bin/only-here")
    text = (
        '[[listeners]]\nendpoint = "tcp:0"\n[[routes]]\nuser = "x"\nbackends = ["c"]\n[backends.c]\ntype = "command"\n'
    )
    arguments = write(root, text + 'argv = ["bin/only-here", "ran"]\n[process]\nchroot = "."\n')
    explained = run(["explain", "--ask", *arguments, "x"])
    assert explained.returncode == 0
    assert "ran\n" in explained.stdout
