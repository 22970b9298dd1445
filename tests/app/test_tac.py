"""A gateway in somebody else's application: ``make_service``, its children, and what signals do to it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from twisted.logger import capturedLogs

import fingergw
from fingergw.core.errors import ListenError
from fingergw.core.settings import changed
from tests.support.configuration import HELLO, listener
from tests.support.gateway import GatewayCase, port_of
from tests.support.processes import process
from tests.support.reloading import ReloadCase, told
from tests.support.sockets import finger, free_port
from tests.support.waiting import DEADLINE_SECONDS, reactor, until, wait_until

HANDLED = (signal.SIGHUP, signal.SIGUSR1)
TWISTD = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()", "-n", "--pidfile="]
TAC = """
import fingergw
from attrs import evolve
from twisted.application.service import Application
from twisted.internet import reactor

application = Application("fingergw")
for name in ("a", "b"):
    fingergw.make_service(fingergw.load(f"{name}.toml"), reactor).setServiceParent(application)
"""


def write(folder: Path, name: str, port: int, hello: str) -> None:
    """Write one of the application's configurations, which has a unix socket and an access log."""
    text = f'[[listeners]]\nendpoint = "unix:{name}.socket"\n{listener(port)}{HELLO.replace("Hello", hello)}'
    (folder / f"{name}.toml").write_text(f'{text}[log]\naccess = "{name}.log"\n')


@contextlib.contextmanager
def twistd(folder: Path, tac: str, port: int) -> Iterator[subprocess.Popen[str]]:
    """Run an application, and wait until it serves on a port."""
    (folder / "x.tac").write_text(tac)
    with process(["--logfile=twistd.log", "-y", "x.tac"], port=port, cwd=folder, command=TWISTD) as running:
        yield running


def test_services_of_one_application(tmp_path: Path) -> None:
    """On SIGHUP each reads its file again, and on SIGUSR1 opens its log again; at the end no socket is left."""
    ports = {"a": free_port(), "b": free_port()}
    for name, port in ports.items():
        write(tmp_path, name, port, "Hello")
    with twistd(tmp_path, TAC, ports["b"]) as running:
        for name, port in ports.items():
            write(tmp_path, name, port, "Changed")
        running.send_signal(signal.SIGHUP)
        for name, port in ports.items():
            wait_until(lambda port=port: finger(port, b"hello\r\n") == b"Changed\r\n", name)  # type: ignore[misc]
        for name in ports:
            (tmp_path / f"{name}.log").rename(tmp_path / f"{name}.1")
        running.send_signal(signal.SIGUSR1)
        for name in ports:
            wait_until((tmp_path / f"{name}.log").exists, f"the new log {name}")
        wait_until((tmp_path / "twistd.log.1").exists, "that twistd has rotated its own log")
        running.terminate()
        assert running.communicate(timeout=DEADLINE_SECONDS) == ("", "")
    assert running.returncode == -signal.SIGTERM  # as twistd ends
    logged = (tmp_path / "twistd.log.1").read_text() + (tmp_path / "twistd.log").read_text()
    assert logged.count("configuration reloaded") == 2
    assert "Traceback" not in logged
    assert list(tmp_path.glob("*.socket*")) == []


def test_configuration_without_a_file(tmp_path: Path) -> None:
    """What was made by a program cannot be read again: SIGHUP is logged, and changes nothing."""
    port = free_port()
    write(tmp_path, "a", port, "Hello")
    tac = TAC.replace('("a", "b")', '("a",)').replace(
        'fingergw.load(f"{name}.toml")', 'evolve(fingergw.load("a.toml"), source=None)'
    )
    with twistd(tmp_path, tac, port) as running:
        running.send_signal(signal.SIGHUP)
        log = (tmp_path / "twistd.log").read_text
        wait_until(lambda: "SIGHUP: nothing to reload" in log(), "the message")
        assert finger(port, b"hello\r\n") == b"Hello\r\n"


def has_reloaded(service: Any) -> bool:
    """Tell whether a service has been reloaded."""
    return bool(service.reloads["applied"])


class TestSignals(GatewayCase):
    """Handlers of a service in this process."""

    def make(self, name: str = "a.toml") -> Any:
        """Return a service that is not started."""
        return fingergw.make_service(fingergw.load(self.write(name, listener() + HELLO)), reactor)

    async def test_handlers(self) -> None:
        """They are installed from the start of a service to its stop, and are then what they were."""
        before = [signal.getsignal(number) for number in HANDLED]
        service = self.make()
        assert [signal.getsignal(number) for number in HANDLED] == before
        service.startService()
        assert not set(before) & {signal.getsignal(number) for number in HANDLED}
        await service.stopService()
        assert [signal.getsignal(number) for number in HANDLED] == before

    async def test_a_service_that_stops(self) -> None:
        """Of two services the one that goes on is still reloaded, whichever has stopped."""
        before = signal.getsignal(signal.SIGHUP)
        for stopped in (0, 1):
            services = [self.make("a.toml"), self.make("b.toml")]
            for each in services:
                each.startService()
            await services.pop(stopped).stopService()
            os.kill(os.getpid(), signal.SIGHUP)
            await until(partial(has_reloaded, services[0]), "the reload")
            await services[0].stopService()
        assert signal.getsignal(signal.SIGHUP) == before

    async def test_a_start_that_fails(self) -> None:
        """A service that could not be started leaves none."""
        before = [signal.getsignal(number) for number in HANDLED]
        taken = port_of(self.start(listener() + HELLO))
        service = fingergw.make_service(fingergw.load(self.write("b.toml", listener(taken) + HELLO)), reactor)
        while_one_runs = [signal.getsignal(number) for number in HANDLED]
        with pytest.raises(ListenError):
            service.privilegedStartService()
        assert [signal.getsignal(number) for number in HANDLED] == while_one_runs != before

    async def test_no_file(self) -> None:
        """A configuration that was made by a program is not reloaded, and that is logged."""
        config = changed(fingergw.load(self.write("a.toml", listener() + HELLO)), source=None)
        service: Any = fingergw.make_service(config, reactor)
        service.startService()
        with capturedLogs() as logged:
            os.kill(os.getpid(), signal.SIGHUP)
            await until(lambda: told(logged), "the message")
        await service.stopService()
        assert told(logged) == [
            "SIGHUP: nothing to reload, as the configuration was made by a program, not read from a file"
        ]
        assert not service.reloads

    async def test_another_thread(self) -> None:
        """Where Python handles no signals, a service is started without."""
        before = [signal.getsignal(number) for number in HANDLED]
        operation = self.make().operation
        thread = threading.Thread(target=operation.begin)
        thread.start()
        thread.join()
        assert [signal.getsignal(number) for number in HANDLED] == before
        operation.end()


class TestNames(ReloadCase):
    """The children of a service."""

    def names(self, gateway: Any) -> dict[str, int]:
        """Return each child's name, and its port."""
        return {each.name: each.port.getHost().port for each in gateway.listeners}

    async def test_names(self) -> None:
        """A listener's service is found by the listener's name, whatever that is; so are the admin pages."""
        odd = 'a "b" \u00e9/\u4e2d: x'
        text = (
            listener(name="public") + listener(name=odd.replace('"', '\\"')) + '[admin]\nendpoint = "tcp:0"\n' + HELLO
        )
        gateway = self.begin(text)
        for name, each in zip(("public", odd), gateway.listeners, strict=True):
            assert gateway.getServiceNamed(name) is each
            assert each.name == name
        assert gateway.getServiceNamed("admin") is gateway.admin
        with pytest.raises(KeyError):
            gateway.getServiceNamed("private")

    async def test_default_name(self) -> None:
        """Without a name of its own that is its endpoint."""
        gateway = self.begin(listener() + HELLO)
        assert gateway.getServiceNamed("tcp:0:interface=127.0.0.1") is gateway.listeners[0]

    async def test_after_a_reload(self) -> None:
        """After a reload too, where names have gone to other sockets, and some listeners are new or gone."""
        one, two, three = free_port(), free_port(), free_port()
        gateway = self.begin(listener(one, name="a") + listener(two, name="b") + HELLO)
        await self.reload(gateway, listener(two, name="a") + listener(one, name="b") + HELLO)
        assert self.names(gateway) == {"a": two, "b": one}
        await self.reload(gateway, listener(three, name="a") + listener(two, name="c") + HELLO)
        assert self.names(gateway) == {"a": three, "c": two}
        for each in gateway.listeners:
            assert gateway.getServiceNamed(each.name) is each
        with pytest.raises(KeyError):
            gateway.getServiceNamed("b")
        await self.reload(gateway, listener(two, name="c") + '[admin]\nendpoint = "tcp:0"\n' + HELLO)
        assert gateway.getServiceNamed("admin") is gateway.admin is not None
        await self.reload(gateway, listener(two, name="admin") + '[admin]\nendpoint = "tcp:0"\n' + HELLO)
        assert gateway.getServiceNamed("admin") is gateway.listeners[0]
