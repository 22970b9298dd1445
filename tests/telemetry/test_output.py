"""Escaping in the event log: nothing can harm a terminal, or pass for another line."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import LogEvent, Logger, LogLevel, LogPublisher
from twisted.python import syslog
from twisted.python.failure import Failure

from fingergw.telemetry import event_log
from tests.support.processes import process, run
from tests.support.sockets import finger, free_port, serves
from tests.support.twistd_settings import twistd_settings
from tests.support.waiting import wait_until

# What a static backend raises here: a terminal's title, CSI as C1, an override, DEL, a surrogate, and a forged line.
HOSTILE = "\x1b]0;owned\x07\x9b1m\u202e\x7f\ud800\r\n2026-11-22T08:20:00+0000 [-] forged\r"
SCRIPT = f"""
import sys
from fingergw.backends.static import Static, StaticBackend
def at_once(query):
    raise ValueError({HOSTILE!a})
Static.open = lambda self, site: StaticBackend(at_once)
from fingergw.cli import main
sys.exit(main(sys.argv[1:]))
"""
CRASHING = [sys.executable, "-c", SCRIPT]
CONFIG = """
[[listeners]]
name = "local"
endpoint = "tcp:PORT:interface=127.0.0.1"
[[routes]]
user = "crash"
backends = ["map"]
[[routes]]
user = "noise"
backends = ["noise"]
[backends.map]
type = "static"
entries = {}
[backends.noise]
type = "command"
argv = ["sh", "-c", "printf '\\\\033[31m\\\\233\\\\177\\\\r\\\\nforged\\\\n' >&2; exit 1"]
[log]
level = "debug"
"""


def gateway(folder: Path) -> tuple[list[str], int]:
    """Write the configuration of a gateway with a hostile backend; return its arguments and port."""
    port = free_port()
    path = folder / "fingergw.toml"
    path.write_text(CONFIG.replace("PORT", str(port)))
    return ["--config", str(path)], port


def provoke(port: int) -> None:
    """Send the queries that make the gateway log what others wrote."""
    assert finger(port, b"crash\r\n") == b"Internal error in server\r\n"
    assert finger(port, b"noise\r\n") == b"Internal error in server\r\n"
    assert finger(port, b"mo\x1b[2Jshez\x9b\r\n") == b"Invalid query\r\n"


def check(log: str) -> None:
    """Check that a log has all of it, escaped except for line ends and indents."""
    assert "Traceback (most recent call last):" in log
    assert r"\x1b]0;owned\x07\u009b1m\u202e\x7f\ud800\r" in log
    assert r"\x1b[31m" in log
    assert r"mo\x1b[2Jshez" in log
    assert log.replace("\n", "").replace("\t", "").isprintable(), ascii(log)
    assert all(re.match(r"\t|\d{4}-\d\d-\d\dT\d\d:", line) for line in log.splitlines())
    assert [line for line in log.splitlines() if "[-] forged" in line and not line.startswith("\t")] == []


def test_terminal(tmp_path: Path) -> None:
    """What a backend's error, a command or a client says is escaped on a terminal, tracebacks included."""
    arguments, port = gateway(tmp_path)
    with process(arguments, port=port, command=CRASHING) as running:
        provoke(port)
        running.terminate()
        out, err = running.communicate(timeout=20)
    assert err == ""
    check(out)


def test_daemons_file(tmp_path: Path) -> None:
    """It is escaped in a daemon's log file too, which has the queries as well."""
    arguments, port = gateway(tmp_path)
    log, pidfile = tmp_path / "log", tmp_path / "pid"
    ended = run(
        [*arguments, "--daemonize", "--pidfile", str(pidfile), "--logfile", str(log)],
        command=CRASHING,
    )
    assert ended.returncode == 0, ended.stderr
    try:
        wait_until(lambda: serves(port), "the daemon")
        provoke(port)
        wait_until(lambda: "bad_query" in log.read_text(), "the queries in the log")
    finally:
        subprocess.run(["kill", pidfile.read_text()], check=True)
        wait_until(lambda: not pidfile.exists(), "the daemon's end")
    check(log.read_text())


def observed(monkeypatch: pytest.MonkeyPatch) -> tuple[Logger, list[str]]:
    """Return a logger to syslog, as a daemon has it, and the list of lines that come out."""
    lines: list[str] = []
    monkeypatch.setattr(syslog.SyslogObserver, "openlog", lambda *_: None)
    monkeypatch.setattr(syslog.SyslogObserver, "syslog", lambda _self, _priority, line: lines.append(line))
    observer = twistd_settings(daemonize=True, syslog=True).event_log
    observer.open(Clock())
    return Logger("fingergw.test", observer=LogPublisher(observer)), lines


def test_syslog(monkeypatch: pytest.MonkeyPatch) -> None:
    """Syslog gets everything, line by line, escaped, tracebacks included."""
    log, lines = observed(monkeypatch)
    log.info("{what} \x1b", what=HOSTILE)
    log.failure("it failed", Failure(ValueError(HOSTILE)), LogLevel.error)
    log.debug("too little to tell")
    assert r"\x1b]0;owned\x07\u009b1m\u202e\x7f\ud800\r" in lines[0]
    assert lines[1].startswith("[-] \t2026-11-22T08:20:00+0000 [-] forged")
    assert lines[2] == "[-] it failed"
    assert any("ValueError" in line for line in lines[3:])
    assert all(line.replace("\t", "").isprintable() for line in lines)


@given(st.text(st.characters(exclude_categories=()) | st.sampled_from("\x1b\x7f\x9b\r\n\t\u202e\ud800{}"), max_size=40))
def test_any_text(text: str) -> None:
    """Any text in an event's format, fields or failure is written escaped."""
    events: list[LogEvent] = []
    observer: Any = events.append
    log = Logger("fingergw.test", observer=observer)
    log.info("{text}", text=text)
    log.failure("{text}", Failure(ValueError(text)), text=text)
    log.emit(LogLevel.warn, text)
    assert len(events) == 3
    for event in events:
        assert event_log.text_of(event).replace("\n", "").replace("\t", "").isprintable()
