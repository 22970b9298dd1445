"""The event log: what is written, how often, and with which priority."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.address import HostnameAddress, IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent, Logger, LogLevel, LogPublisher, capturedLogs, globalLogPublisher
from twisted.python.failure import Failure

from fingergw.config.tables import Log
from fingergw.core.errors import FingergwError
from fingergw.core.outcome import Failed
from fingergw.telemetry.event_log import EventLog, log_failed
from tests.support.configuration import HELLO
from tests.support.gateway import GatewayCase
from tests.support.processes import ROOT, process, run
from tests.support.sockets import finger, free_port
from tests.support.twistd_settings import twistd_settings

REASON = "connection refused"


class Case:
    """An event log in a file, a logger that writes to it, and what was written."""

    def __init__(self, folder: Path, level: str = "info", path: str | None = None) -> None:
        self.path = folder / "log"
        self.clock = Clock()
        self.events = EventLog(path or str(self.path), path or str(self.path), None)
        self.events.set_level(level)
        self.events.open(self.clock)
        self.log = Logger("fingergw.test", observer=self.events)

    @property
    def lines(self) -> list[str]:
        """The lines of the file, without their times."""
        return [line.partition(" ")[2] for line in self.path.read_text().splitlines()]

    def fail(self, backend: str, reason: str = REASON) -> None:
        """Log that a backend failed."""
        self.log.error("backend {backend} failed: {why}", backend=backend, why=reason)

    @contextmanager
    def observing(self) -> Iterator[None]:
        """Write what any logger logs."""
        globalLogPublisher.addObserver(self.events)
        try:
            yield
        finally:
            globalLogPublisher.removeObserver(self.events)


def test_line(tmp_path: Path) -> None:
    """A line has the time, the namespace, the level and the message."""
    case = Case(tmp_path)
    case.log.warn("it is {what}", what="late")
    (line,) = case.path.read_text().splitlines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+\d{4} \[fingergw\.test#warn\] it is late", line)


def test_anonymised(tmp_path: Path) -> None:
    """The client that an event is about is not in it, nor a peer that Twisted names; also where it is summarised."""
    case = Case(tmp_path)
    case.events.follow(Log(anonymise=True))
    for number in range(7):
        case.log.info("{text}", text=f"10.1.2.{number} says {number}", client=f"10.1.2.{number}")
    case.log.warn("client: {peer}", peer=str(IPv4Address("TCP", "10.1.2.3", 79)))
    case.log.warn("client: {peer}", peer=IPv6Address("TCP", "2001:db8:1:2::3", 79))
    case.log.warn("upstream: {peer}", peer=HostnameAddress(b"upstream.example", 79))
    case.clock.advance(60)
    case.events.follow(Log(level="warn"))
    case.log.warn("{text}", text="10.1.2.3", client="10.1.2.3")
    case.events.close()
    infos = [line for line in case.lines if "says" in line]
    assert infos == [
        *(f"[fingergw.test#info] 10.1.2.0 says {number}" for number in range(5)),
        "[fingergw.test#info] 2 more of this kind in the last minute, the last: 10.1.2.0 says 6",
    ]
    assert [line.partition("host")[2] for line in case.lines if "client:" in line] == [
        "='10.1.2.0', port=79)",
        "='2001:db8:1::', port=79, flowInfo=0, scopeID=0)",
    ]
    assert any("upstream.example" in line for line in case.lines)
    assert any(line.endswith("10.1.2.3") for line in case.lines)


def test_level(tmp_path: Path) -> None:
    """Events below the level are dropped; the level can change."""
    case = Case(tmp_path, "warn")
    case.log.info("one")
    case.log.warn("two")
    case.events.set_level("debug")
    case.log.debug("three")
    case.events.set_level("error")
    case.log.warn("four")
    assert [line.split()[-1] for line in case.lines] == ["two", "three"]


def test_repeats_are_summed_up(tmp_path: Path) -> None:
    """A thousand equal failures are two lines: the first at once, and after a minute how many more there were."""
    case = Case(tmp_path)
    for _ in range(1000):
        case.fail("rota")
    assert case.lines == [f"[fingergw.test#error] backend rota failed: {REASON}"]
    case.clock.advance(60)
    assert case.lines[1:] == [
        f"[fingergw.test#error] 999 more in the last minute: backend rota failed: {REASON}",
    ]
    times = [line.partition(" ")[0] for line in case.path.read_text().splitlines()]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+\d{4}", each) for each in times), times


class UpstreamTest(GatewayCase):
    async def test_a_thousand_clients_of_an_upstream_that_is_down(self) -> None:
        """A thousand queries to an upstream that is down are five lines in a minute, in which each query is counted."""
        nobody = socket.socket()
        self.addCleanup(nobody.close)
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        backend = f'[backends.web]\ntype = "http"\nurl = "http://127.0.0.1:{nobody.getsockname()[1]}/"\ntimeout = 60\n'
        limits = "max_connections_per_client = 1000\nmax_waiting = 1000\nanswer_timeout = 60"
        gateway = self.start(
            '[[listeners]]\nendpoint = "tcp:0:interface=127.0.0.1:backlog=1000"\n[[routes]]\npattern = "*"\n'
            f'backends = ["web"]\n{backend}[limits]\n{limits}\n[log]\naccess = "off"\n'
        )
        case = Case(self.write("log", "").parent, "warn")
        globalLogPublisher.addObserver(case.events)
        self.addCleanup(globalLogPublisher.removeObserver, case.events)
        answers = [Deferred.fromCoroutine(self.ask(gateway, b"%d\r\n" % number)) for number in range(1000)]
        self.assertEqual({await answer for answer in answers}, {b"Internal error in server\r\n"})
        case.clock.advance(60)
        refused = "backend web failed, asked by route *: Connection refused"
        opened = "backend web is not asked for 5 s, after 3 failures in a row; the last: Connection refused"
        not_asked = refused.replace("Con", "left alone for now, after failures in a row; the last: Con")
        lines = [line.removeprefix("[fingergw.telemetry.event_log#error] ") for line in case.lines]
        counts = [int(line.partition(" ")[0]) for line in lines[3:]]
        more = [f"{count} more in the last minute: {{}}" for count in counts]
        self.assertEqual(lines, [refused, opened, not_asked, more[0].format(refused), more[1].format(not_asked)])
        self.assertEqual(2 + sum(counts), 1000)


def test_what_goes_on_has_a_line_a_minute(tmp_path: Path) -> None:
    """A message that keeps repeating has one line a minute; after a minute without it, it is new again."""
    case = Case(tmp_path)
    for _ in range(180):
        case.fail("rota")
        case.clock.advance(1)
    assert [line.split("]")[1][:9] for line in case.lines] == [" backend ", " 59 more ", " 60 more ", " 60 more "]
    case.clock.advance(120)
    case.fail("rota")
    assert len(case.lines) == 5
    assert case.lines[-1].endswith(f"] backend rota failed: {REASON}")


def test_no_timer_but_for_what_was_counted(tmp_path: Path) -> None:
    """There is a timer only while there is something to summarise."""
    case = Case(tmp_path)
    case.fail("rota")
    assert not case.clock.getDelayedCalls()
    case.fail("rota")
    assert len(case.clock.getDelayedCalls()) == 1
    case.clock.advance(60)
    assert not case.clock.getDelayedCalls()


def test_one_time_more(tmp_path: Path) -> None:
    """Closing the log writes what was held back, and leaves no timer."""
    case = Case(tmp_path)
    case.fail("rota")
    case.fail("rota")
    case.events.close()
    assert case.lines[1:] == [f"[fingergw.test#error] 1 more in the last minute: backend rota failed: {REASON}"]
    assert not case.clock.getDelayedCalls()
    case.fail("rota")
    assert len(case.lines) == 2


def test_each_reason_of_each_backend(tmp_path: Path) -> None:
    """Other reasons and other backends are other messages."""
    case = Case(tmp_path)
    for _ in range(3):
        for number in range(20):
            case.fail(f"backend-{number}")
            case.fail(f"backend-{number}", "status 500")
    assert len(case.lines) == 40


def test_what_outsiders_choose(tmp_path: Path) -> None:
    """Messages that differ only in what outsiders choose are limited to five a minute, and a line for the rest."""
    case = Case(tmp_path)
    for number in range(1000):
        case.log.warn("{client}: closed on: {why}", client=f"::{number}", why="no PROXY header")
    case.fail("rota")
    assert [line.split()[1] for line in case.lines] == ["::0:", "::1:", "::2:", "::3:", "::4:", "backend"]
    case.clock.advance(60)
    assert case.lines[6:] == [
        "[fingergw.test#warn] 995 more of this kind in the last minute, the last: ::999: closed on: no PROXY header"
    ]
    case.clock.advance(60)
    case.log.warn("{client}: closed on: {why}", client="::1000", why="no PROXY header")
    assert len(case.lines) == 8


def test_messages_held_back_take_no_memory(tmp_path: Path) -> None:
    """However many different messages an outsider causes, nothing is kept of those that are not written."""
    case = Case(tmp_path)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(2000):
            case.log.warn("{client}: closed", client=f"{number} {'x' * 500}")
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 100_000


def test_never_more_than_a_hundred(tmp_path: Path) -> None:
    """Warnings and errors are limited to a hundred lines a minute; information does not count towards that."""
    case = Case(tmp_path)
    for number in range(300):
        case.log.info("{program} says: hello", program=f"program {number}")
        case.fail(f"backend {number}")
    assert sum("#error" in line for line in case.lines) == 100
    assert sum("#info" in line for line in case.lines) == 100
    case.clock.advance(60)
    summary = "200 more of other kinds in the last minute, the last:"
    assert case.lines[200:] == [
        f"[fingergw.test#info] {summary} program 299 says: hello",
        f"[fingergw.test#error] {summary} backend backend 299 failed: {REASON}",
    ]


def test_what_is_never_summed_up(tmp_path: Path) -> None:
    """A daemon's access log, which comes as stdout, reloads and debug messages are never throttled."""
    case = Case(tmp_path, "debug")
    queries = Logger("stdout", observer=case.events)
    operation = Logger("fingergw.app.reload", observer=case.events)
    for _ in range(200):
        queries.info("the same query")
        case.log.debug("the same")
        operation.error("{problem}", problem="the same mistake")
    assert len(case.lines) == 600


def test_unforeseen_failures_are_summed_up(tmp_path: Path) -> None:
    """A traceback is written once, and the summary has the exception."""
    case = Case(tmp_path)
    with case.observing():
        for _ in range(3):
            try:
                raise ValueError("no such thing")
            except ValueError as error:
                log_failed("backend {backend} failed: {why}", Failed("it raised", error), "map")
    case.events.close()
    text = case.path.read_text()
    assert text.count("Traceback") == 1
    assert case.lines[-1] == (
        "[fingergw.telemetry.event_log#critical] 2 more in the last minute: "
        "backend map failed: it raised: ValueError: no such thing"
    )


class Hostile:
    """An object that raises whatever is done with it."""

    def __str__(self) -> str:
        raise LookupError("no such codec")

    __repr__ = __format__ = __str__  # type: ignore[assignment]
    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize(
    "event",
    [
        pytest.param({"log_format": "{what}", "what": Hostile()}, id="a value"),
        pytest.param({"log_format": "{backend}", "backend": Hostile()}, id="a value that kinds are told by"),
        pytest.param({"log_format": Hostile()}, id="a format"),
        pytest.param({"log_format": ["a list"]}, id="a format that cannot be a key"),
        pytest.param({"log_format": "{", "x": 1}, id="a format that is none"),
        pytest.param({"log_format": "x", "log_failure": "no failure"}, id="a failure"),
        pytest.param({"log_format": "x", "log_failure": Failure(ValueError(Hostile()))}, id="a failure's words"),
        pytest.param({"log_format": "x", "log_namespace": ["a list"]}, id="a namespace"),
        pytest.param({"log_format": "x", "log_time": "now"}, id="a time"),
        pytest.param({"log_format": "x", "log_level": "info"}, id="a level"),
    ],
)
def test_an_event_that_cannot_be_written(tmp_path: Path, event: LogEvent) -> None:
    """An event that cannot be formatted is mentioned, nothing is raised, and all others are written."""
    case = Case(tmp_path)
    case.log.info("before")
    usual: LogEvent = {"log_level": LogLevel.error, "log_namespace": "fingergw.test", "log_time": 0.0}
    for _ in range(3):
        case.events({**usual, **event})
    case.log.info("after")
    case.events.close()
    lines = [line for line in case.lines if line.startswith("[")]
    assert lines[0].endswith("before")
    assert sum(line.endswith("after") for line in lines) == 1
    assert len(lines) >= 3
    assert sum("cannot be written" in line for line in lines) <= 2  # once, and how often more


def test_an_event_that_cannot_be_escaped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If escaping raises, the message's format is written, without values that an outsider may have chosen."""
    case = Case(tmp_path)

    def escape(text: str, kept: str) -> str:
        assert kept == "\n\t"
        if text.isascii():
            return text
        raise LookupError("unknown encoding: unicode_escape")

    monkeypatch.setattr("fingergw.telemetry.event_log.printable", escape)
    for number in range(3):
        case.log.warn("{client}: said {what}", client="::1", what=f"gr\xfcn {number}")
        case.log.warn("{client}: said {what}", client="::1", what=f"plain {number}")
    case.clock.advance(60)
    text = "a message cannot be written, as it raised LookupError; its format is '{client}: said {what}'"
    assert case.lines == [
        f"[fingergw.telemetry.event_log#error] {text}",
        "[fingergw.test#warn] ::1: said plain 0",
        "[fingergw.test#warn] ::1: said plain 1",
        "[fingergw.telemetry.event_log#error] 2 more in the last minute: " + text,
        "[fingergw.test#warn] 1 more of this kind in the last minute, the last: ::1: said plain 2",
    ]


def test_what_twisted_thinks_of_it(tmp_path: Path) -> None:
    """Twisted's publisher never sees the log raise, and so never disables it."""
    case = Case(tmp_path)
    seen: list[LogEvent] = []
    publisher = LogPublisher(case.events, seen.append)  # type: ignore[arg-type]
    publisher({"log_level": LogLevel.error, "log_namespace": "fingergw.test", "log_format": ["a list"]})
    assert len(seen) == 1


def test_other_threads(tmp_path: Path) -> None:
    """An event from another thread is written in the reactor's thread."""
    case = Case(tmp_path)
    calls: list[Any] = []
    case.clock.callFromThread = lambda *call: calls.append(call)  # type: ignore[attr-defined]
    thread = threading.Thread(target=case.fail, args=("rota",))
    thread.start()
    thread.join()
    assert case.lines == []
    for call, *arguments in calls:
        call(*arguments)
    assert len(case.lines) == 1


def test_reopen(tmp_path: Path) -> None:
    """Reopening after a rename writes to a new file; if that fails, each attempt is logged."""
    case = Case(tmp_path)
    case.log.info("one")
    case.path.rename(tmp_path / "log.1")
    case.events.reopen()
    case.log.info("two")
    assert [line.split()[-1] for line in case.lines] == ["two"]
    assert (tmp_path / "log.1").read_text().endswith("one\n")
    moved = tmp_path.with_name("moved")
    tmp_path.rename(moved)
    with case.observing():
        case.events.reopen()
        case.events.reopen()
    assert (moved / "log").read_text().count("cannot be reopened") == 2
    case.events.close()


def test_file_in_a_chroot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file inside the chroot is reopened by its path there; one outside cannot be, which is logged."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    found = twistd_settings(chroot=str(tmp_path), logfile=str(tmp_path / "logs" / "log")).event_log
    assert (found.path, found.later_path) == (str(tmp_path / "logs" / "log"), "/logs/log")
    (tmp_path / "root").mkdir()
    found = twistd_settings(chroot=str(tmp_path / "root"), logfile=str(tmp_path / "log")).event_log
    assert found.later_path is None
    found.open(Clock())
    with capturedLogs() as events:
        found.reopen()
    found.close()
    assert "outside of the chroot" in events[0]["log_format"]


def test_a_daemon_has_no_standard_output() -> None:
    """A daemon that is told to log to standard output is refused."""
    with pytest.raises(FingergwError, match="name a file in --logfile"):
        twistd_settings(daemonize=True, logfile="-")


def test_the_journal(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """In the systemd journal each line, those of a traceback too, has a priority and no time."""
    status = os.fstat(1)
    monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
    case = Case(tmp_path, "debug", "-")
    for level in LogLevel.iterconstants():
        case.log.emit(level, "hello")
    case.log.failure("it failed", Failure(ValueError("two\nlines")))
    case.events.close()
    lines = capfd.readouterr().out.splitlines()
    assert lines[:5] == [
        "<7>[fingergw.test#debug] hello",
        "<6>[fingergw.test#info] hello",
        "<4>[fingergw.test#warn] hello",
        "<3>[fingergw.test#error] hello",
        "<2>[fingergw.test#critical] hello",
    ]
    assert lines[5] == "<2>[fingergw.test#critical] it failed"
    assert len(lines) > 7
    assert all(line.startswith("<2>\t") for line in lines[6:])


def test_a_start_that_fails(tmp_path: Path) -> None:
    """Why a gateway could not start is in its log file too, also in the foreground."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = tmp_path / "fingergw.toml"
        config.write_text(f'[[listeners]]\nendpoint = "tcp:{taken.getsockname()[1]}:interface=127.0.0.1"\n{HELLO}')
        ended = run(["--config", str(config), "--logfile", str(tmp_path / "log")])
    assert ended.returncode == 1
    why = ended.stderr.strip().removeprefix("fingergw: ")
    assert "cannot be bound: Address already in use" in why
    assert f"[fingergw.app.daemon#critical] {why}\n" in (tmp_path / "log").read_text()


CLOSED = """
import sys
from twisted.internet.task import Clock
from twisted.logger import Logger
from fingergw.telemetry.event_log import EventLog, log_failed
with open(sys.argv[1], "w") as file:
    assert file.fileno() == 1
    events = EventLog("-", "-", None)
    events.open(Clock())
    Logger("fingergw.test", observer=events).error("hello")
    events.close()
"""


def test_a_standard_output_that_is_closed(tmp_path: Path) -> None:
    """If standard output is closed, nothing is logged, and not to the file that got its number."""
    path = tmp_path / "data"
    command = ["sh", "-c", 'exec "$0" -c "$1" "$2" >&-', sys.executable, CLOSED, str(path)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=60)
    assert path.read_text() == ""


SYSLOG = """
import socket
from twisted.internet.task import Clock
from twisted.logger import Logger, LogLevel
from tests.support.twistd_settings import twistd_settings
server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
server.bind("/dev/log")
events = twistd_settings(syslog=True).event_log
events.set_level("debug")
events.open(Clock())
log = Logger("fingergw.test", observer=events)
for level in LogLevel.iterconstants():
    log.emit(level, "hello")
log.error("two\\nlines")
for _ in range(7):
    print(server.recv(4096).rstrip(b"\\0").decode())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can put a socket of its own in syslog's place")
def test_syslog() -> None:
    """In syslog each line has the priority of its level."""
    devices = "mount -t tmpfs none /dev && mknod /dev/null c 1 3 && mknod /dev/urandom c 1 9"
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", f'{devices} && exec "$0" -c "$1"', sys.executable, SYSLOG],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    found = re.findall(r"^<(\d+)>\w{3} [ \d]\d [\d:]{8} fingergw: \[(.*)\] (.*)$", done.stdout, re.MULTILINE)
    user = 1 << 3  # the facility
    assert found == [
        (str(user + 7), "-", "hello"),
        (str(user + 6), "-", "hello"),
        (str(user + 4), "-", "hello"),
        (str(user + 3), "-", "hello"),
        (str(user + 2), "-", "hello"),
        (str(user + 3), "-", "two"),
        (str(user + 3), "-", "\tlines"),
    ], done.stderr


def test_a_standard_output_that_is_not_read(tmp_path: Path) -> None:
    """A gateway whose standard output nobody reads still answers, and its lines can be read later."""
    port = free_port()
    config = tmp_path / "fingergw.toml"
    config.write_text(f'[[listeners]]\nendpoint = "tcp:{port}:interface=127.0.0.1"\n{HELLO}[log]\nlevel = "debug"\n')
    with process(["--config", str(config)], port=port) as running:
        for _ in range(40):
            finger(port, b"\x1b" * 500 + b"\r\n")  # some 5,000 bytes in both logs
        assert finger(port, b"hello\r\n") == b"Hello\r\n"
        running.send_signal(signal.SIGTERM)
        out, _ = running.communicate(timeout=20)
    assert running.returncode == 0
    assert out.count("bad_query") == 40
    assert out.count("invalid query") == 40
    assert '"hello"' in out
    assert "Server Shut Down." in out
