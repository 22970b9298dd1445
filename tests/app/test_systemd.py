"""What systemd is told, the sockets that it passes, and the units that are shipped."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from fingergw.app.systemd import ServiceManager
from tests.support.activation import passing
from tests.support.configuration import HELLO
from tests.support.processes import COMMAND, ROOT, process
from tests.support.sockets import finger, free_port, receive_all
from tests.support.transports import on_both_transports
from tests.support.waiting import DEADLINE_SECONDS, wait_until

UNITS = ROOT / "ansible/roles/fingergw/files/systemd"
INSTALLED = "/opt/fingergw/current/bin/fingergw"


class Manager:
    """A service manager's socket.

    :param address: what it is called in ``NOTIFY_SOCKET``: a path, or ``@`` and an abstract name.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.settimeout(DEADLINE_SECONDS)
        self.socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)

    def read(self) -> dict[str, str]:
        """Wait for a message, and return it."""
        return dict(line.split("=", 1) for line in self.socket.recv(4096).decode().split("\n"))

    def read_until(self, key: str) -> dict[str, str]:
        """Wait for a message that has a key, and return it."""
        ends = time.monotonic() + DEADLINE_SECONDS
        while key not in (message := self.read()):
            assert time.monotonic() < ends, f"no {key}"
        return message

    def is_quiet(self, seconds: float) -> bool:
        """Tell whether there is no message for a while."""
        self.socket.settimeout(seconds)
        try:
            self.socket.recv(4096)
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(DEADLINE_SECONDS)
        return False

    def waiting(self) -> list[bytes]:
        """Return the messages that there are, without waiting."""
        messages = []
        self.socket.setblocking(False)
        try:
            while True:
                messages.append(self.socket.recv(4096))
        except BlockingIOError:
            self.socket.settimeout(DEADLINE_SECONDS)
            return messages


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    """Return a service manager that listens at a path."""
    listening = Manager(str(tmp_path / "notify"))
    with listening.socket:
        yield listening


@contextmanager
def told(**environ: str) -> Iterator[ServiceManager]:
    """Return what tells the service manager that an environment names."""
    telling = ServiceManager.from_environment(environ)
    try:
        yield telling
    finally:
        telling.stop()
        if telling.connection is not None:
            telling.connection.close()


class TestMessages:
    """What is sent, and that nothing is where nobody asked."""

    def test_environment_is_taken(self, manager: Manager) -> None:
        """What a service manager says of itself is taken out of the environment, and no child gets it."""
        environ = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "3", "WATCHDOG_PID": "1", "HOME": "/"}
        telling = ServiceManager.from_environment(environ)
        assert environ == {"HOME": "/"}
        assert telling.connection is not None
        with telling.connection as own:
            assert not own.get_inheritable()

    def test_states(self, manager: Manager) -> None:
        """Each state is one message; ready also says how things stand, as it ends a reload too."""
        with told(NOTIFY_SOCKET=manager.address) as telling:
            telling.ready("serving 3 listeners")
            telling.stopping()
        assert manager.read() == {"READY": "1", "STATUS": "serving 3 listeners"}
        assert manager.read()["STOPPING"] == "1"

    def test_abstract_name(self) -> None:
        """A name in the abstract namespace works as well as a path."""
        listening = Manager(f"@fingergw-{os.getpid()}-{time.monotonic_ns()}")
        with listening.socket, told(NOTIFY_SOCKET=listening.address) as telling:
            telling.ready("here")
            assert listening.read() == {"READY": "1", "STATUS": "here"}

    def test_reloading_has_its_time(self, manager: Manager) -> None:
        """A reload has the time of its beginning by the monotonic clock, in microseconds, as sd_notify(3) asks."""
        with told(NOTIFY_SOCKET=manager.address) as telling:
            before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
            telling.reloading()
            after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        message = manager.read()
        assert message["RELOADING"] == "1"
        assert before <= int(message["MONOTONIC_USEC"]) <= after

    def test_status_is_one_line(self, manager: Manager) -> None:
        """A status can bring in no other message, nor a terminal's controls, and is never too long to be read."""
        with told(NOTIFY_SOCKET=manager.address) as telling:
            telling.ready("a\nSTOPPING=1\x1b[2J é\udcff" + 9999 * "x")
        received = manager.socket.recv(65536)
        assert received.startswith("READY=1\nSTATUS=a\\nSTOPPING=1\\x1b[2J é\\xff".encode())
        assert len(received) < 1000

    def test_works_after_a_chroot(self, manager: Manager) -> None:
        """It was connected at the beginning, so nothing has to be found any more, in a chroot or elsewhere."""
        with told(NOTIFY_SOCKET=manager.address) as telling:
            Path(manager.address).unlink()
            telling.ready("here")
        assert manager.read()["READY"] == "1"

    def test_nobody_asked(self) -> None:
        """Without a service manager all of it does nothing, and no timer runs."""
        clock = Clock()
        with told(WATCHDOG_USEC="3000000") as telling:
            telling.watch(clock)
            telling.ready("here")
            telling.reloading()
            telling.stopping()
        assert clock.getDelayedCalls() == []

    def test_manager_is_gone(self, manager: Manager) -> None:
        """That nobody listens any more is no error."""
        with told(NOTIFY_SOCKET=manager.address) as telling:
            manager.socket.close()
            telling.ready("here")
            telling.stopping()

    @pytest.mark.parametrize("address", ["/nowhere/notify", "@nobody-there", "/" + 200 * "x", "vsock:2:1234"])
    def test_manager_was_never_there(self, address: str) -> None:
        """That nobody listens from the beginning is said once, and is no error either."""
        with capturedLogs() as logs, told(NOTIFY_SOCKET=address, WATCHDOG_USEC="3000000") as telling:
            telling.ready("here")
        assert [event["log_format"][:13] for event in logs] == ["NOTIFY_SOCKET"]
        assert telling.watchdog_seconds is None

    def test_manager_is_busy(self, manager: Manager) -> None:
        """A state waits for one who reads late; a sign of life does not, as the next one comes."""
        with told(NOTIFY_SOCKET=manager.address, WATCHDOG_USEC="3000000") as telling:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
                other.setblocking(False)
                other.connect(manager.address)
                with suppress(BlockingIOError):
                    while True:
                        other.send(b"X=1")
            began = time.monotonic()
            telling.watch(Clock())
            assert time.monotonic() - began < 0.5
            reading = threading.Timer(0.1, manager.read_until, ["READY"])
            reading.start()
            telling.ready("here")
            reading.join()
        assert manager.waiting() == []


class TestWatchdog:
    """Signs of life, where they are asked for."""

    def test_three_in_the_time(self, manager: Manager) -> None:
        """A sign of life comes at once and then three times in the time that systemd gives, until the end."""
        clock = Clock()
        with told(NOTIFY_SOCKET=manager.address, WATCHDOG_USEC="3000000", WATCHDOG_PID=str(os.getpid())) as telling:
            telling.watch(clock)
            telling.watch(clock)
            assert manager.waiting() == [b"WATCHDOG=1"]
            clock.advance(0.99)
            assert manager.waiting() == []
            clock.pump([0.02, 1.0, 1.0])
            assert manager.waiting() == [b"WATCHDOG=1"] * 3
            telling.stop()
            clock.advance(10)
            assert manager.waiting() == []

    @pytest.mark.parametrize(
        "settings",
        [
            pytest.param({}, id="not asked for"),
            pytest.param({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, id="asked of another process"),
            pytest.param({"WATCHDOG_USEC": "0"}, id="none"),
            pytest.param({"WATCHDOG_USEC": "-1"}, id="nonsense"),
        ],
    )
    def test_none(self, manager: Manager, settings: dict[str, str]) -> None:
        """Where systemd does not ask this process for signs of life no timer runs."""
        clock = Clock()
        with told(NOTIFY_SOCKET=manager.address, **settings) as telling:
            telling.watch(clock)
        assert clock.getDelayedCalls() == []
        assert manager.waiting() == []


def write(folder: Path, *endpoints: str, more: str = "") -> list[str]:
    """Write a configuration with some listeners, and return the arguments that name it."""
    path = folder / "fingergw.toml"
    listeners = "".join(
        f'[[listeners]]\nname = "l{place}"\nendpoint = "{each}"\n' for place, each in enumerate(endpoints)
    )
    path.write_text(listeners + HELLO + more)
    return ["--config", str(path)]


def test_a_life(tmp_path: Path, manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    """The service manager is told when clients are served, that the event loop turns, of reloads, and of the end."""
    port = free_port()
    arguments = write(tmp_path, f"tcp:{port}:interface=127.0.0.1")
    monkeypatch.setenv("NOTIFY_SOCKET", manager.address)
    monkeypatch.setenv("WATCHDOG_USEC", "600000")
    with process(arguments) as running:
        # it may have said that it lives before; not that it is ready
        assert manager.read_until("READY") == {"READY": "1", "STATUS": "serving 1 listener"}
        assert finger(port, b"hello\r\n") == b"Hello\r\n"
        for _ in range(3):
            manager.read_until("WATCHDOG")

        running.send_signal(signal.SIGSTOP)
        wait_until(lambda: Path(f"/proc/{running.pid}/stat").read_text().split()[2] == "T", "the halt")
        manager.waiting()
        assert manager.is_quiet(0.6)
        running.send_signal(signal.SIGCONT)
        manager.read_until("WATCHDOG")

        write(tmp_path, f"tcp:{port}:interface=127.0.0.1", f"tcp:{free_port()}:interface=127.0.0.1")
        running.send_signal(signal.SIGHUP)
        assert int(manager.read_until("RELOADING")["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
        assert manager.read_until("READY")["STATUS"].startswith("serving 2 listeners")

        running.send_signal(signal.SIGTERM)
        assert manager.read_until("STOPPING")["STOPPING"] == "1"
        assert running.wait(DEADLINE_SECONDS) == 0


# The new process alone knows its number. The descriptors move out of the way first, as they may have each other's.
@pytest.mark.skipif(shutil.which("systemd-socket-activate") is None, reason="systemd is not installed")
def test_socket_activation(tmp_path: Path) -> None:
    """Each listener gets the socket of its name, whatever their order, from systemd's own tool."""
    ports = {"v4": free_port(), "v6": free_port(socket.AF_INET6)}
    arguments = write(
        tmp_path,
        "systemd:domain=INET6:name=v6",
        "systemd:domain=INET:name=v4",
        more='[[routes]]\nuser = "who"\nbackends = ["who"]\n[backends.who]\ntype = "command"\n'
        'argv = ["sh", "-c", "echo $FINGER_LISTENER"]\n',
    )
    activating = subprocess.Popen(
        [
            *("systemd-socket-activate", "--fdname=v4:v6", f"--setenv=PYTHONPATH={ROOT}"),
            *("-l", f"127.0.0.1:{ports['v4']}", "-l", f"[::1]:{ports['v6']}", *COMMAND, *arguments),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert activating.stderr is not None
    try:
        # it says so when it listens
        assert [("Listening on" in activating.stderr.readline()) for _ in ports] == [True, True]
        for host, port, name in (("::1", ports["v6"], b"l0\r\n"), ("127.0.0.1", ports["v4"], b"l1\r\n")):
            with socket.create_connection((host, port), timeout=DEADLINE_SECONDS) as client:
                client.sendall(b"who\r\n")
                assert receive_all(client) == name
    finally:
        activating.kill()
        activating.communicate()


UNTAKEN = (
    'systemd passed the socket "old", and no listener uses it, so that its clients would wait for ever: add a listener '
    'with endpoint = "systemd:domain=INET6:name=old", or disable its .socket unit and restart the gateway'
)
TWICE = (
    'systemd passed two sockets by the name "l0", and a listener gets only one of them: put each ListenStream= into a '
    ".socket file of its own, with its own FileDescriptorName="
)


@pytest.mark.parametrize("options", [[], ["--daemonize", "--logfile", "events"]], ids=["foreground", "daemon"])
@pytest.mark.parametrize(
    ("names", "endpoint", "expected"),
    [
        (["old"], "unix:s", UNTAKEN),
        (["l0", "l0"], "systemd:domain=INET:name=l0", TWICE),
        ([""], "systemd:domain=INET:index=0", "sockets were passed without a name for each in LISTEN_FDNAMES"),
    ],
    ids=["no listener", "two of one name", "no name"],
)
def test_untaken_socket(
    tmp_path: Path, names: list[str], endpoint: str, expected: str, options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A socket that no listener takes is refused by name, before a client is served: its own would wait for ever."""
    monkeypatch.chdir(tmp_path)
    arguments = [*write(tmp_path, endpoint), *options]
    with ExitStack() as stack, (tmp_path / "log").open("w") as log:
        sockets = [(name, stack.enter_context(socket.create_server(("127.0.0.1", 0)))) for name in names]
        running = stack.enter_context(passing(sockets, arguments, log=log.fileno()))
        assert running.wait(DEADLINE_SECONDS) == 1
    assert f"fingergw: {'the daemon did not start: ' if options else ''}{expected}" in (tmp_path / "log").read_text()
    assert not (tmp_path / "s").exists()


def test_sockets_all_taken(tmp_path: Path) -> None:
    """Sockets are taken by listeners, by name or index, and by the admin pages."""
    more = '[admin]\nendpoint = "systemd:domain=INET:name=admin"\n'
    arguments = write(tmp_path, "systemd:domain=INET:index=1", "systemd:domain=INET:name=a", more=more)
    with ExitStack() as stack:
        sockets = {name: stack.enter_context(socket.create_server(("127.0.0.1", 0))) for name in ("a", "b", "admin")}
        stack.enter_context(passing(sockets, arguments))
        ports = [sockets[name].getsockname()[1] for name in sockets]
        assert [finger(port, b"hello\r\n") for port in ports[:2]] == [b"Hello\r\n"] * 2
        assert b" 200 OK" in finger(ports[2], b"GET /healthz HTTP/1.0\r\n\r\n")


@on_both_transports
def test_reload_keeps_passed_sockets(tmp_path: Path) -> None:
    """A reload that would leave a passed socket without a listener is refused; clients are answered as before."""
    both = ("systemd:domain=INET:name=a", "systemd:domain=INET:name=b")
    arguments = write(tmp_path, *both)
    log = tmp_path / "log"
    with ExitStack() as stack:
        sockets = {name: stack.enter_context(socket.create_server(("127.0.0.1", 0))) for name in "ab"}
        ports = [each.getsockname()[1] for each in sockets.values()]
        running = stack.enter_context(passing(sockets, arguments, log=stack.enter_context(log.open("w")).fileno()))
        assert [finger(port, b"hello\r\n") for port in ports] == [b"Hello\r\n"] * 2
        write(tmp_path, both[0])
        running.send_signal(signal.SIGHUP)
        wait_until(lambda: "the previous configuration stays active" in log.read_text(), "the end of the reload")
        assert 'systemd passed the socket "b", and no listener uses it' in log.read_text()
        assert [finger(port, b"hello\r\n") for port in ports] == [b"Hello\r\n"] * 2
        write(tmp_path, *reversed(both))
        running.send_signal(signal.SIGHUP)
        wait_until(lambda: "configuration reloaded" in log.read_text(), "the reload")
        assert [finger(port, b"hello\r\n") for port in ports] == [b"Hello\r\n"] * 2


SLOW = """
[[routes]]
user = "slow"
backends = ["slow"]
[backends.slow]
type = "command"
argv = ["sh", "-c", "sleep 1; echo done"]
max_running = 50
[limits]
max_connections_per_client = 200
"""


@on_both_transports
def test_restart_loses_nothing(tmp_path: Path) -> None:
    """Restarts lose no query, also none that takes a second.

    One gateway answers what it was asked before it ends, and what comes meanwhile waits in the socket for the next.
    """
    arguments = write(tmp_path, "systemd:domain=INET:name=public", more=SLOW)
    answers = {b"hello": b"Hello\r\n", b"slow": b"done\r\n"}
    results: Counter[tuple[bytes, str]] = Counter()
    is_over = threading.Event()
    ending = ExitStack()
    ending.callback(is_over.set)

    def ask(port: int, query: bytes) -> None:
        while not is_over.wait(0.02):
            try:
                answer = finger(port, query + b"\r\n")
                results[query, "right" if answer == answers[query] else repr(answer)] += 1
            except OSError as error:
                results[query, repr(error)] += 1

    def is_right(query: bytes, times: int) -> bool:
        return results[query, "right"] >= times

    with ThreadPoolExecutor(9) as clients, socket.create_server(("127.0.0.1", 0), backlog=4096) as listening, ending:
        port = listening.getsockname()[1]
        asked = [clients.submit(ask, port, query) for query in (b"hello", *[b"slow"] * 8)]
        for is_last in (False, False, False, True):
            enough = results[b"hello", "right"] + 20
            with passing({"public": listening}, arguments) as running:
                wait_until(partial(is_right, b"hello", enough), "answers")
                if is_last:
                    is_over.set()
                    wait(asked, DEADLINE_SECONDS)
                under_way = results[b"slow", "right"]
                running.send_signal(signal.SIGTERM)
                assert running.wait(DEADLINE_SECONDS) == 0
            if not is_last:
                wait_until(partial(is_right, b"slow", under_way + 1), "an answer to what was asked before the end")
    assert set(results) == {(b"hello", "right"), (b"slow", "right")}


def systemd_analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run ``systemd-analyze``, which takes no systemd that runs."""
    command = ["systemd-analyze", "--no-pager", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=DEADLINE_SECONDS)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
class TestUnits:
    """The units that are shipped."""

    def test_verify(self, tmp_path: Path) -> None:
        """Nothing is said about them, as would be about a key that systemd does not know."""
        units = [tmp_path / unit.name for unit in UNITS.iterdir()]
        for unit in units:
            unit.write_text((UNITS / unit.name).read_text().replace(INSTALLED, "/bin/true"))
        assert {unit.name for unit in units} >= {"fingergw.service", "fingergw-public.socket"}
        found = systemd_analyze("verify", "--man=no", *units)
        assert (found.stdout, found.stderr, found.returncode) == ("", "", 0)

        misspelt = units[0]
        misspelt.write_text(misspelt.read_text() + "\n[Unit]\nDescriptoin=x\n")
        assert "Descriptoin" in systemd_analyze("verify", "--man=no", *units).stderr

    def test_security(self) -> None:
        """The sandbox is as tight as promised: an exposure of 1.5 at the most."""
        found = systemd_analyze("security", "--offline=true", "--threshold=15", UNITS / "fingergw.service")
        assert found.returncode == 0, found.stdout

    def test_sockets_are_named_after_listeners(self) -> None:
        """A socket is passed under the name that its file has too, to the one service."""
        for unit in UNITS.glob("*.socket"):
            name = unit.stem.removeprefix("fingergw-")
            lines = unit.read_text().splitlines()
            assert {f"FileDescriptorName={name}", "Service=fingergw.service"} <= set(lines)
            assert sum(line.startswith("ListenStream=") for line in lines) == 1
