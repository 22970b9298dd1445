"""Unix sockets: starts after any end, and files that come and go."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXServerEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol

import fingergw
from fingergw.app.build import check
from fingergw.config import tables
from fingergw.core.errors import ListenError
from fingergw.core.outcome import Answered
from fingergw.core.setting_types import FilePath
from fingergw.listen.bind_errors import reason
from fingergw.listen.client_strings import parse_client
from fingergw.listen.endpoints import parse
from fingergw.listen.unix_sockets import UnixPort
from fingergw.net.resolving import Resolver
from tests.support.configuration import HELLO
from tests.support.fakes import FakeBackend
from tests.support.jail import NOBODY, make_jail
from tests.support.listener import put
from tests.support.processes import COMMAND, forked, process
from tests.support.reloading import ReloadCase
from tests.support.sockets import receive_all
from tests.support.waiting import DEADLINE_SECONDS, in_thread, reactor, until, wait_until

is_root = os.geteuid() == 0
needs_root = pytest.mark.skipif(not is_root, reason="only root can do this")


def write(folder: Path, endpoint: str = "unix:s", more: str = "") -> list[str]:
    """Write a configuration with a listener, and return the arguments that name it."""
    path = folder / "fingergw.toml"
    path.write_text(f"[[listeners]]\nname = 'l'\nendpoint = '{endpoint}'\n{HELLO}\n{more}\n")
    return ["--config", str(path)]


def finger(path: Path, query: bytes = b"hello\r\n") -> bytes:
    """Ask at a unix socket, and return all it says."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(DEADLINE_SECONDS)
        client.connect(str(path))
        client.sendall(query)
        return receive_all(client)


def answers(path: Path) -> bool:
    """Tell whether a gateway answers at a unix socket."""
    with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
        return finger(path) == b"Hello\r\n"
    return False


def refuses(path: Path) -> bool:
    """Tell whether there is a socket that nobody listens at."""
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == errno.ECONNREFUSED


def stale(path: Path) -> Path:
    """Leave a socket as a process that is killed leaves it."""
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
        left.listen()
    return path


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """Return a folder that everybody can enter."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@contextlib.contextmanager
def serving(arguments: list[str], path: Path) -> Iterator[Any]:
    """Run a gateway, and wait until it answers at a socket."""
    with forked(arguments) as running:
        wait_until(lambda: answers(path) or running.poll() is not None, "an answer")
        assert running.poll() is None, running.communicate()
        yield running


def refusal(arguments: list[str]) -> str:
    """Return what a gateway says that does not start."""
    with forked(arguments) as running:
        _, said = running.communicate(DEADLINE_SECONDS)
        assert running.poll() == 1, said
        return said


class TestStarts:
    """A gateway starts whatever the one before has left, and beside no other."""

    def test_stop_leaves_nothing(self, tmp_path: Path) -> None:
        """A gateway that is told to stop removes its socket and the lock."""
        arguments = write(tmp_path)
        with serving(arguments, tmp_path / "s") as running:
            lock = (tmp_path / "s.lock").stat()
            assert (stat.S_IMODE(lock.st_mode), lock.st_size) == (0o600, 0)
            running.terminate()
            assert running.wait(DEADLINE_SECONDS) == 0
        assert [path.name for path in tmp_path.iterdir()] == ["fingergw.toml"]

    @pytest.mark.parametrize("endpoint", ["unix:s", "unix:s:lockfile=0", "unix:s:mode=000"])
    def test_killed(self, tmp_path: Path, endpoint: str) -> None:
        """After SIGKILL the next start takes over the socket, with a lock and without."""
        if endpoint.endswith("000") and not is_root:
            pytest.skip("only root can connect to it")
        arguments = write(tmp_path, endpoint)
        for _ in range(2):
            with serving(arguments, tmp_path / "s") as running:
                assert (tmp_path / "s.lock").exists() is ("lockfile" not in endpoint)
                running.kill()
                running.wait(DEADLINE_SECONDS)
            assert refuses(tmp_path / "s")

    @needs_root
    def test_killed_in_a_container(self, tmp_path: Path) -> None:
        """In a container too, where every gateway is process 1."""
        arguments = write(tmp_path, more=f'[log]\naccess = "{tmp_path}/log"')
        container = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", *COMMAND]
        for _ in range(2):
            with process(arguments, command=container) as running:
                wait_until(lambda: answers(tmp_path / "s") or running.poll() is not None, "an answer")
                assert running.poll() is None, running.communicate()
            wait_until(lambda: refuses(tmp_path / "s"), "its end")

    @pytest.mark.parametrize("number", [1, os.getpid()], ids=["init", "a stranger"])
    def test_lock_of_earlier_versions(self, tmp_path: Path, number: int) -> None:
        """A link to a number, which another process may have by now, holds nothing; a clean stop removes it, too."""
        (tmp_path / "s.lock").symlink_to(str(number))
        arguments = write(tmp_path)
        with serving(arguments, stale(tmp_path / "s")) as running:
            assert not (tmp_path / "s.lock").is_symlink()
            running.terminate()
            running.wait(DEADLINE_SECONDS)
        assert not (tmp_path / "s.lock").exists()

    def test_earlier_version_at_work(self, tmp_path: Path) -> None:
        """An earlier version that answers keeps its socket and its link."""
        (tmp_path / "s.lock").symlink_to("1")
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(tmp_path / "s"))
            other.listen()
            assert f"another process answers at {tmp_path}/s; stop it" in refusal(write(tmp_path))
            assert (tmp_path / "s.lock").is_symlink()
            assert not refuses(tmp_path / "s")

    def test_beside_another(self, tmp_path: Path) -> None:
        """A second gateway with the same socket does not start, and takes nothing from the first."""
        with serving(write(tmp_path), tmp_path / "s"):
            held = f"another process has this socket, as it has locked {tmp_path}/s.lock"
            assert held in refusal(write(tmp_path))
            answered = f"another process answers at {tmp_path}/s"
            assert answered in refusal(write(tmp_path, "unix:s:lockfile=0"))
            (tmp_path / "s.lock").unlink()
            assert answered in refusal(write(tmp_path))
            assert answers(tmp_path / "s")

    @pytest.mark.parametrize(
        "command",
        ["ln -s other s.lock", "ln -s s.lock s.lock", "mkdir s.lock", "mkfifo s.lock", "echo x > s.lock", "socket"],
    )
    def test_no_lock(self, tmp_path: Path, command: str) -> None:
        """What is in the lock's place and is none is named, left as it is, and not followed."""
        lock = tmp_path / "s.lock"
        if command == "socket":
            stale(lock)
        else:
            subprocess.run(["sh", "-c", command], cwd=tmp_path, check=True)
        before = lock.lstat().st_ino
        assert f"{lock} is not a socket's lock; remove it, or name another path" in refusal(write(tmp_path))
        assert lock.lstat().st_ino == before
        assert {path.name for path in tmp_path.iterdir()} == {"fingergw.toml", "s.lock"}

    def test_link_in_its_place(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Who has the folder cannot have the mode of another file changed, by a link in place of the new socket."""
        victim = tmp_path / "victim"
        victim.touch(mode=0o600)

        class Swapped(socket.socket):
            """A socket that somebody replaces at once."""

            def bind(self, address: Any) -> None:
                super().bind(address)
                Path(address).unlink()
                Path(address).symlink_to(victim)

        monkeypatch.setattr(UnixPort, "createInternetSocket", lambda _: Swapped(socket.AF_UNIX))
        ports: list[Any] = []
        parse(f"unix:{tmp_path}/s:mode=666", reactor).listen(Factory()).addCallback(ports.append)
        ports[0].connectionLost()
        assert stat.S_IMODE(victim.stat().st_mode) == 0o600

    @pytest.mark.parametrize("mode", ["777", "666", "640", "000"])
    def test_mode(self, tmp_path: Path, mode: str) -> None:
        """The file has the mode of the endpoint, whatever the mask, which stays."""
        ports: list[Any] = []
        before = os.umask(0o027)
        try:
            parse(f"unix:{tmp_path}/s:mode={mode}", reactor).listen(Factory()).addCallback(ports.append)
            assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == int(mode, 8)
            ports[0].connectionLost()
        finally:
            assert os.umask(before) == 0o027

    def test_at_once(self, tmp_path: Path) -> None:
        """Of gateways that start at the same time, over what one has left, exactly one gets the socket."""
        arguments = write(tmp_path)
        stale(tmp_path / "s")
        (tmp_path / "s.lock").touch()
        with contextlib.ExitStack() as stack:
            starting = [stack.enter_context(forked(arguments)) for _ in range(4)]
            wait_until(lambda: sum(each.poll() is None for each in starting) == 1, "the end of the others")
            wait_until(lambda: answers(tmp_path / "s"), "an answer")
            assert sorted(each.poll() or 0 for each in starting) == [0, 1, 1, 1]

    def test_daemon(self, tmp_path: Path) -> None:
        """A daemon holds its socket though the process that started it is gone, and leaves it when it is killed."""
        arguments = write(tmp_path)
        for name in ("first", "second"):
            pid_file = tmp_path / name
            more = ["--daemonize", "--pidfile", str(pid_file), "--logfile", str(tmp_path / "log")]
            with forked([*arguments, *more]) as running:
                assert running.wait(DEADLINE_SECONDS) == 0
            number = int(pid_file.read_text())
            try:
                assert answers(tmp_path / "s")
                assert "another process has this socket" in refusal(arguments)
            finally:
                os.kill(number, signal.SIGKILL)
            wait_until(lambda: refuses(tmp_path / "s"), "its end")

    def test_children(self, tmp_path: Path) -> None:
        """What a gateway that is killed has started, and lives on, holds nothing."""
        backends = (
            '[[routes]]\nuser = "slow"\nbackends = ["slow"]\n[backends.slow]\ntype = "command"\n'
            f'argv = ["{shutil.which("sh")}", "-c", "echo $$ > program; exec sleep 60"]\n'
            '[[routes]]\nuser = "web"\nbackends = ["web"]\n[backends.web]\ntype = "http"\nurl = "http://127.0.0.1:9/"\n'
            'template = "{{ x }}"\n'
        )
        arguments = write(tmp_path, more=backends)
        with (
            contextlib.chdir(tmp_path),
            serving(arguments, tmp_path / "s") as running,
            socket.socket(socket.AF_UNIX) as client,
        ):
            client.connect(str(tmp_path / "s"))
            client.sendall(b"slow\r\n")
            wait_until(lambda: (tmp_path / "program").exists() and (tmp_path / "program").read_text(), "the program")
            number = int((tmp_path / "program").read_text())
            try:
                os.kill(running.pid, signal.SIGSTOP)  # so that nothing ends by itself
                running.kill()
                running.wait(DEADLINE_SECONDS)
                with serving(arguments, tmp_path / "s"):
                    pass
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)

    @needs_root
    def test_without_rights(self, public_folder: Path) -> None:
        """A gateway that may not write to the folder any more leaves its files, and the next start replaces them."""
        arguments = write(public_folder, more=f'[process]\nuser = "{NOBODY}"\ngroup = "{NOBODY}"')
        for _ in range(2):
            with serving(arguments, public_folder / "s") as running:
                running.terminate()
                said, _ = running.communicate(DEADLINE_SECONDS)
                assert running.poll() == 0
            assert "its socket is left behind, and the next start replaces it: Permission denied" in said
            assert refuses(public_folder / "s")
            assert (public_folder / "s.lock").exists()

    @needs_root
    def test_deleted_without_rights(self, public_folder: Path) -> None:
        """Such a gateway cannot make a file anew that is gone: the reload is refused with why, and a restart can."""
        arguments = write(public_folder, more=f'[process]\nuser = "{NOBODY}"\ngroup = "{NOBODY}"')
        log = public_folder / "log"
        with serving([*arguments, "--logfile", str(log)], public_folder / "s") as running:
            for gone in ("s", "s.lock"):
                (public_folder / gone).unlink()
            running.send_signal(signal.SIGHUP)
            wait_until(lambda: "stays active" in log.read_text(), "the end of the reload")
            said = log.read_text()
            assert f"Permission denied; let the user that starts the gateway write to {public_folder}" in said
        with serving(arguments, public_folder / "s"):
            pass

    @needs_root
    def test_lock_of_another_user(self, public_folder: Path) -> None:
        """A lock that root has left is replaced by the user who has the folder, if nobody answers."""
        endpoint = parse(f"unix:{public_folder}/s", reactor)
        (public_folder / "s.lock").touch(mode=0o600)
        stale(public_folder / "s").chmod(0o666)
        os.chown(public_folder, NOBODY, NOBODY)
        with contextlib.ExitStack() as back:
            back.callback(os.seteuid, 0)
            os.seteuid(NOBODY)
            ports: list[Any] = []
            endpoint.listen(Factory()).addCallback(ports.append)
            (port,) = ports
            assert (public_folder / "s.lock").stat().st_uid == NOBODY
            port.connectionLost()
        assert list(public_folder.iterdir()) == []

    @needs_root
    @pytest.mark.parametrize("left", ["s", "s.lock"])
    def test_sticky_folder(self, public_folder: Path, left: str) -> None:
        """In a folder where nobody may remove another user's files, the message says which is to be removed."""
        public_folder.chmod(0o1777)
        endpoint = parse(f"unix:{public_folder}/s", reactor)
        if left == "s":
            stale(public_folder / "s").chmod(0o666)
        else:
            (public_folder / "s.lock").touch(mode=0o600)
        failed: list[Any] = []
        with contextlib.ExitStack() as back:
            back.callback(os.seteuid, 0)
            os.seteuid(NOBODY)
            endpoint.listen(Factory()).addErrback(failed.append)
        why = reason(failed[0].value, f"unix:{public_folder}/s", [])
        remove = f"have its owner or root remove {public_folder}/{left}, or name another path"
        assert why == f"Operation not permitted; {remove}"
        assert {path.name for path in public_folder.iterdir()} == {left}

    @needs_root
    def test_in_a_chroot(self, tmp_path: Path) -> None:
        """In a chroot a start takes over what is left there, likewise."""
        jail = make_jail(tmp_path / "jail")
        arguments = [*write(jail), "--chroot", str(jail), "--uid", "root", "--gid", "root"]
        for _ in range(2):
            with serving(arguments, jail / "s") as running:
                running.kill()
                running.wait(DEADLINE_SECONDS)
        with serving(arguments, jail / "s"):
            assert f"another process has this socket, as it has locked {jail}/s.lock" in refusal(arguments)


def config(endpoint: str = "unix:s", more: str = "") -> str:
    """Return a configuration with a listener."""
    process = '[process]\nuser = "root"\n'  # no warning about that
    return f"[[listeners]]\nname = 'l'\nendpoint = '{endpoint}'\n{more}\n{HELLO}{process}"


class ReloadTests(ReloadCase):
    """What a reload does to unix sockets."""

    def at(self, name: str = "s") -> Path:
        return self.write("x", "").with_name(name)

    async def finger(self, name: str = "s", query: bytes = b"hello\r\n") -> bytes:
        return await in_thread(lambda: finger(self.at(name), query))

    async def test_there_and_back(self) -> None:
        """A listener moves to another path and back, and leaves nothing behind."""
        gateway = self.begin(config())
        for name, other in (("t", "s"), ("s", "t"), ("t", "s")):
            assert await self.reload(gateway, config(f"unix:{name}")) == ["configuration reloaded"]
            assert await self.finger(name) == b"Hello\r\n"
            await until(lambda other=other: not self.at(other).exists(), "the end of the old socket")  # type: ignore[misc]
            assert not self.at(f"{other}.lock").exists()

    async def test_deleted(self) -> None:
        """A socket's file that is gone, alone or with its lock, is made anew as it was."""
        gateway = self.begin(config("unix:s:mode=640"))
        for gone in (["s"], ["s", "s.lock"], ["s.lock"]):
            for name in gone:
                self.at(name).unlink()
            logged = await self.reload(gateway, config("unix:s:mode=640"))
            restored = ['listener "l": its socket\'s file was gone, and has been made anew']
            assert logged == [*(restored if "s" in gone else []), "configuration reloaded"]
            assert await self.finger() == b"Hello\r\n"
            assert stat.S_IMODE(self.at().stat().st_mode) == 0o640
            if "s" in gone:
                assert self.at("s.lock").exists()
        await gateway.stopService()
        assert not self.at().exists()

    async def test_replaced(self) -> None:
        """So is one in whose place somebody has put a socket and has gone; a stop does not remove another's."""
        gateway = self.begin(config())
        self.at().unlink()
        stale(self.at())
        assert len(await self.reload(gateway, config())) == 2
        assert await self.finger() == b"Hello\r\n"
        self.at().unlink()
        stale(self.at())
        await gateway.stopService()
        assert self.at().is_socket()

    async def test_taken(self) -> None:
        """Where somebody answers, or a file is, in its place, the reload is refused, and nothing is taken from them."""
        gateway = self.begin(config())
        self.at().unlink()
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(self.at()))
            other.listen()
            logged = await self.reload(gateway, config())
            assert f"cannot be bound: another process answers at {self.at()}; stop it" in logged[0]
            assert not refuses(self.at())
        self.at().unlink()
        self.at().write_text("mine")
        logged = await self.reload(gateway, config())
        assert f"{self.at()} is a file, not a socket" in logged[0]
        assert self.at().read_text() == "mine"

    async def test_no_connection_is_lost(self) -> None:
        """Who is connected, or waits in the old socket's queue, is answered though the file is made anew."""
        gateway = self.begin(config())
        backend = FakeBackend(Deferred())
        put(gateway, backend)
        asking = await self.connect(gateway)
        assert asking.transport is not None
        asking.transport.write(b"x\r\n")
        await until(lambda: backend.queries, "the query")
        with contextlib.ExitStack() as queued:
            clients = [queued.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(300)]
            port: Any = gateway.listeners[0].port
            port.stopReading()  # as if all of it happened in one turn of the reactor
            for client in clients:
                client.connect(str(self.at()))
                client.sendall(b"x\r\n")
            self.at().unlink()
            gateway.listeners[0].restore()
            late, backend.says = backend.says, Answered("queued")
            late.callback(Answered("late"))
            assert await asking.closed == b"late\r\n"
            assert await self.finger(query=b"x\r\n") == b"queued\r\n"
            received = await in_thread(lambda: b"".join(map(receive_all, clients)))
        assert received == b"queued\r\n" * 300

    async def test_none_comes_too_late(self) -> None:
        """Once a listener is told to stop, its file is gone: who connects is not accepted only to be reset."""
        gateway = self.begin(config())
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(self.at()))
            client.sendall(b"hello\r\n")
            stopping = gateway.listeners[0].stopService()
            assert not self.at().exists()
            assert await in_thread(lambda: receive_all(client)) == b"Hello\r\n"
            await stopping

    async def test_admin(self) -> None:
        """The socket of the admin pages is made anew likewise."""
        admin = "[admin]\nendpoint = 'unix:a'\n"
        gateway = self.begin(config() + admin)
        self.at("a").unlink()
        assert len(await self.reload(gateway, config() + admin)) == 2
        assert b" 200 OK" in await self.finger("a", b"GET /healthz HTTP/1.0\r\n\r\n")

    async def test_own_socket(self) -> None:
        """A listener that wants the path which another still has is refused by name."""
        gateway = self.begin(config())
        logged = await self.reload(gateway, config("unix:s:mode=600"))
        assert 'cannot be bound: listener "l" has this path; name another for one of the two' in logged[0]
        assert "a restart can bind what needs root, or what another listener still uses" in logged[0]
        assert await self.finger() == b"Hello\r\n"


class LockedClientTests(ReloadCase):
    """The client's ``lockfile=1``: a socket that nobody has locked is not asked."""

    def client(self, lockfile: int = 1) -> IStreamClientEndpoint:
        folder = self.write("x", "").parent
        return parse_client(f"unix:s:lockfile={lockfile}", folder, Resolver(reactor), 5)[0]

    async def connected(self) -> bool:
        try:
            protocol: Any = await self.client().connect(Factory.forProtocol(Protocol))
        except Exception:
            return False
        protocol.transport.abortConnection()
        return True

    async def test_gateway(self) -> None:
        """A gateway has locked its own; without its lock, or after its end, it is not asked."""
        self.begin(config())
        assert await self.connected()
        self.write("x", "").with_name("s.lock").unlink()
        assert not await self.connected()

    async def test_others(self) -> None:
        """Other Twisted servers lock in their way."""
        path = self.write("x", "").with_name("s")
        server = UNIXServerEndpoint(reactor, str(path), wantPID=True)
        port: Any = await server.listen(Factory.forProtocol(Protocol))
        assert await self.connected()
        await port.stopListening()
        stale(path)
        assert not await self.connected()
        path.with_name("s.lock").touch()
        assert not await self.connected()


def test_length(tmp_path: Path) -> None:
    """A path is measured as it will be bound, in bytes: a relative one with its folder, one in a chroot as there."""
    jail = tmp_path / ("j" * 100)
    jail.mkdir()
    for folder, chroot, fits in ((jail, None, False), (jail, jail, True), (tmp_path, None, True)):
        configuration = fingergw.load(Path(write(folder)[1]))
        problems, _ = check(configuration, reactor, tables.Process(chroot=None if chroot is None else FilePath(chroot)))
        too_long = [each for each in problems if "of a unix socket has at most 107 bytes" in each.message]
        assert [each.path for each in too_long] == ([] if fits else [("listeners", 0, "endpoint")])
    with pytest.raises(ListenError, match="at most 107 bytes, and this one has 108"):
        parse_client("unix:/" + "s" * 107, tmp_path, Resolver(reactor), 5)
    parse_client("unix:/" + "s" * 106, tmp_path, Resolver(reactor), 5)
