"""Logs on a disk that hangs: nothing waits for it, and no line is lost while there is room for it."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from twisted.internet.task import deferLater
from twisted.logger import LogEvent, capturedLogs, formatEvent, globalLogPublisher

from fingergw.telemetry import log_output
from fingergw.telemetry.log_output import Output
from tests.support.configuration import one_backend
from tests.support.hung_disk import HungDisk
from tests.support.processes import process
from tests.support.reloading import ReloadCase
from tests.support.sockets import finger, free_port
from tests.support.waiting import DEADLINE_SECONDS, reactor, until, wait_until

TROUBLE = "{}: its disk does not respond; find out what it waits for. Until then 1 MiB of lines is kept, and further "


class HungCase(ReloadCase):
    """Tests with a disk that can hang, in this process."""

    def setUp(self) -> None:
        self.folder = self.write("switch", "").with_name("disk")
        self.folder.mkdir()
        self.path = self.folder / "log"
        self.disk = HungDisk(self.folder, self.folder.with_name("switch"))
        self.disk.respond()
        self.disk.patch(self.patch)
        self.addCleanup(self.disk.respond)

    async def hang(self, output: Output, lines: bytes = b"first\n") -> None:
        """Have the disk hang while it is given lines."""
        before = self.disk.began
        self.disk.hang()
        output.write(lines)
        await until(lambda: self.disk.began > before, "a thread that waits")

    async def output(self) -> Output:
        """Return an open file on it, which is closed at the end."""
        await deferLater(reactor, 0)  # so that the reactor runs
        output = Output(str(self.path), "the log", reactor)
        output.open()
        self.addCleanup(output.close)
        return output

    async def written(self, *lines: str) -> None:
        """Wait until the file has these lines."""
        await until(lambda: self.path.read_text().splitlines() == list(lines), f"the lines {lines}")


class OutputTests(HungCase):
    """Lines that are written to such a disk."""

    async def test_lines_wait_for_it(self) -> None:
        """Lines wait for the disk while the reactor does not; then they are written in their order."""
        output = await self.output()
        await self.hang(output)
        for number in range(1000):
            output.write(b"%d\n" % number)
        assert self.path.read_text() == ""
        self.disk.respond()
        await self.written("first", *map(str, range(1000)))
        assert output.lost == 0

    async def test_it_is_told(self) -> None:
        """That it hangs is logged once, after a while or if lines are lost; and when it is over, how many were."""
        self.patch(log_output, "MAX_WAITING_BYTES", 100)
        output = await self.output()
        with capturedLogs() as events:
            await self.hang(output)
            output.write(b"x" * 89 + b"\n")
            assert not events
            output.write(b"second\n")
            output.write(b"third\n")
            assert output.lost == 2
            self.disk.respond()
            await self.written("first", "x" * 89)
            await self.hang(output)
            self.patch(log_output, "HUNG_SECONDS", -1.0)
            output.write(b"late\n")
            output.write(b"later\n")
            self.disk.respond()
            await self.written("first", "x" * 89, "first", "late", "later")
        trouble = TROUBLE.format("the log") + "lines are lost"
        assert messages(events) == [
            trouble,
            "the log: can be written again; lines lost: 2",
            trouble,
            "the log: can be written again; lines lost: 0",
        ]

    async def test_a_line_that_was_partly_written(self) -> None:
        """A line that a full disk took a part of is completed, before what came while it hung."""
        output = await self.output()
        write, parts = os.write, [4]
        self.patch(os, "write", lambda fd, data: write(fd, data[: parts.pop()] if parts and len(data) > 5 else data))
        await self.hang(output, b"a long line\n")
        output.write(b"two\n")
        self.disk.respond()
        await self.written("a long line", "two")

    async def test_rotation(self) -> None:
        """Of lines that wait while the file is renamed and reopened none is lost or torn, and all keep their order."""
        output, old = await self.output(), self.path.with_name("log.1")
        await self.hang(output)
        output.write(b"second\n")
        self.path.rename(old)
        output.reopen()
        output.reopen()
        output.write(b"third\n")
        self.disk.respond()
        await until(self.path.exists, "the next file")
        output.write(b"last\n")
        await until(lambda: "last" in self.path.read_text(), "the last line")
        assert (old.read_text() + self.path.read_text()).split() == ["first", "second", "third", "last"]
        assert old.read_text().startswith("first\n")
        assert output.lost == 0

    async def test_rotation_of_a_log_that_is_told_of_itself(self) -> None:
        """A log that can be written again as it is reopened says so in its next file, by an open descriptor."""
        output, write, is_full = await self.output(), os.write, [True]
        told, refused = list[str](), list[OSError]()

        def may_write(fd: int, data: bytes) -> int:
            if is_full and bytes(data).startswith(b"first"):
                raise OSError(errno.ENOSPC, "No space left on device")
            try:
                return write(fd, data)
            except OSError as error:
                refused.append(error)
                raise

        def observe(event: LogEvent) -> None:
            if event["log_namespace"] == log_output.__name__:
                told.append(formatEvent(event))
                output.write(f"{told[-1]}\n".encode())

        self.patch(os, "write", may_write)
        observer: Any = observe
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        output.write(b"first\n")
        await until(lambda: told, "that it cannot be written")
        is_full.clear()
        self.path.rename(self.path.with_name("log.1"))
        output.reopen()
        await until(self.path.exists, "the next file")
        await self.written("the log: can be written again; lines lost: 0")
        assert refused == []

    async def test_without_a_thread(self) -> None:
        """If no thread can be started, lines are written at once, as before the reactor runs."""
        self.patch(threading.Thread, "start", mock.Mock(side_effect=RuntimeError("can't start new thread")))
        output = await self.output()
        output.write(b"first\n")
        assert self.path.read_text() == "first\n"

    async def test_close(self) -> None:
        """Closing writes what waits if the disk responds within a second."""
        output = await self.output()
        await self.hang(output)
        output.write(b"second\n")
        closed = output.close()
        assert not closed.called
        self.disk.respond()
        await closed
        assert self.path.read_text() == "first\nsecond\n"
        assert output.lost == 0

    async def test_close_while_it_hangs(self) -> None:
        """Closing waits no longer than that; what was not written is lost, and the file is closed some time later."""
        self.patch(log_output, "CLOSE_SECONDS", 0.05)
        output = await self.output()
        await self.hang(output)
        output.write(b"second\n")
        with capturedLogs() as events:
            await output.close()
        assert messages(events) == ["the log: lines lost: 2"]
        assert open_files(self.folder) == [str(self.path)]
        with pytest.raises(OSError, match="its disk does not respond"):
            output.open()
        self.disk.respond()
        await until(lambda: not open_files(self.folder), "its end")
        await until(lambda: "log" not in [each.name for each in threading.enumerate()], "the end of its thread")

    async def test_close_without_a_reactor(self) -> None:
        """Where the reactor runs no more, as in the last moments of a process, the same can be waited for."""
        for responds in (True, False):
            self.patch(log_output, "CLOSE_SECONDS", DEADLINE_SECONDS if responds else 0.05)
            output = await self.output()
            await self.hang(output)
            closed = output.close()
            if responds:
                self.disk.respond()
            output.wait_until_closed()
            assert closed.called
            assert output.lost == (0 if responds else 1)


class GatewayTests(HungCase):
    """A gateway whose access log is there."""

    async def test_reload(self) -> None:
        """A reload may leave such a disk, and is refused if it would have to wait for one; queries are answered."""
        self.patch(log_output, "HUNG_SECONDS", 0.2)
        path = self.path
        gateway = self.begin(configured("disk/log"))
        self.disk.hang()
        assert await self.ask(gateway, b"one\r\n") == b"Hello\r\n"
        await until(lambda: self.disk.began, "a thread that waits")
        assert await self.ask(gateway, b"two\r\n") == b"Hello\r\n"
        told = await self.reload(gateway, configured("disk/other"))
        why = f"access log {self.folder}/other: its disk does not respond; the previous configuration stays active"
        assert why in told
        await self.reload(gateway, configured("elsewhere"))
        assert gateway.last_reload_applied
        assert await self.ask(gateway, b"three\r\n") == b"Hello\r\n"
        await until(lambda: '"three"' in path.parent.with_name("elsewhere").read_text(), "the line")
        self.disk.respond()
        await gateway.stopService()
        assert [line.split('"')[3] for line in path.read_text().splitlines()] == ["one", "two"]
        await until(lambda: not open_files(self.folder), "the end of all files")


def configured(log: Path | str, port: int = 0) -> str:
    """Return a configuration that answers Hello, with this access log."""
    return one_backend('type = "static"\ntext = "Hello"', port=port) + f'[log]\naccess = "{log}"\n'


def messages(events: Any) -> list[str]:
    """Return what was logged."""
    logged: list[LogEvent] = list(events)
    return [formatEvent(event) for event in logged]


def open_files(folder: Path) -> list[str]:
    """Return the files of a folder that this process has open."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # that of the folder itself
            found.append(link.readlink())
    return [str(path) for path in found if path.parent == folder]


SCRIPT = """
import sys
from pathlib import Path
from tests.support.hung_disk import HungDisk
HungDisk(Path(sys.argv[1]), Path(sys.argv[2])).patch()
from fingergw.cli import main
sys.exit(main(sys.argv[3:]))
"""


def test_a_process(tmp_path: Path) -> None:
    """A gateway with both logs there answers, takes signals, and loses no line; and ends, though it hangs again."""
    port, folder = free_port(), tmp_path / "disk"
    folder.mkdir()
    disk = HungDisk(folder, tmp_path / "switch")
    log, events = folder / "access.log", folder / "events.log"
    (tmp_path / "fingergw.toml").write_text(configured(log, port))
    command = [sys.executable, "-c", SCRIPT, str(folder), str(disk.switch)]
    arguments = ["--config", str(tmp_path / "fingergw.toml")]
    with events.open("ab") as stdout, process(arguments, port=port, command=command, stdout=stdout) as running:
        assert finger(port, b"before\r\n") == b"Hello\r\n"
        wait_until(lambda: '"before"' in log.read_text(), "the first line")
        disk.hang()
        for number in range(20):
            assert finger(port, b"%d\r\n" % number) == b"Hello\r\n"
        running.send_signal(signal.SIGHUP)
        running.send_signal(signal.SIGUSR1)
        assert finger(port, b"after\r\n") == b"Hello\r\n"
        disk.respond()
        wait_until(lambda: '"after"' in log.read_text(), "the last line")
        wait_until(lambda: "configuration reloaded" in events.read_text(), "the reload")
        lines = [line.split('"')[3] for line in log.read_text().splitlines()]
        assert [line for line in lines if line] == ["before", *map(str, range(20)), "after"]
        disk.hang()
        assert finger(port, b"lost\r\n") == b"Hello\r\n"
        running.terminate()
        assert running.wait(DEADLINE_SECONDS) == 0
    disk.respond()
