"""A fleet of hosts: start, kill, cut off, keep, and ask them by ssh."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import attrs

from tests.fleet.anchor import CGROUPS, NETWORK, ROOTS
from tests.fleet.base import base
from tests.fleet.space import Space

DEADLINE_SECONDS = 60.0
SSH_OPTIONS = (
    *("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"),
    *("-o", "ConnectTimeout=5", "-o", "ServerAliveInterval=2", "-o", "ServerAliveCountMax=2"),
)


def missing() -> str:
    """Say what this machine lacks for hosts; nothing if it has all."""
    if os.geteuid() != 0:
        return "hosts need root"
    commands = ("systemd-nspawn", "mmdebstrap", "ssh", "ssh-keygen", "ip", "unshare", "nsenter")
    lacking = [command for command in commands if shutil.which(command) is None]
    return f"hosts need {', '.join(lacking)}" if lacking else ""


@attrs.frozen
class Layers:
    """The changed files of hosts that were shut down, to start other hosts from.

    :param folders: each has a folder for each host; the newest is first.
    """

    folders: tuple[Path, ...] = ()


def _until(condition: Callable[[], object], what: str) -> None:
    ends = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < ends, f"{what} did not come within {DEADLINE_SECONDS:g} s"
        time.sleep(0.05)


class Fleet:
    """Hosts ``gateway-1`` and so on, with systemd, at 10.79.0.11 and so on, without a way out of their network.

    :param layers: what they start from, if not from a fresh Debian.
    :param count: how many there are.
    :param folder: where its files are; a temporary one if it is not given.
    """

    def __init__(self, layers: Layers | None = None, count: int = 3, folder: Path | None = None) -> None:
        self.layers = layers or Layers()
        self.addresses = {f"gateway-{index}": f"{NETWORK}.{10 + index}" for index in range(1, count + 1)}
        self.base = base()
        self.folder = folder or Path(tempfile.mkdtemp(prefix="fingergw-fleet-"))
        self.folder.mkdir(exist_ok=True)
        self.space: Space
        self._starters: list[subprocess.Popen[bytes]] = []

    @classmethod
    def attach(cls, folder: Path) -> Self:
        """Return a fleet that another process has started with this folder."""
        state: Any = json.loads((folder / "fleet.json").read_text())
        fleet = cls(Layers(tuple(map(Path, state["layers"]))), len(state["addresses"]), folder)
        fleet.space = Space(state["pid"], state["cgroup"])
        return fleet

    def __enter__(self) -> Self:
        self.space = Space.open(self.folder / "space.log")
        try:
            state = {"pid": self.space.pid, "cgroup": self.space.cgroup, "addresses": self.addresses}
            state["layers"] = list(map(str, self.layers.folders))
            (self.folder / "fleet.json").write_text(json.dumps(state))
            self._write_inventory()
            self._write_names()
            for name in self.addresses:
                self._start(name)
            for name in self.addresses:
                self._wait_running(name)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill all hosts at once, and remove their files."""
        self.space.close()
        for starter in self._starters:
            starter.communicate()
        shutil.rmtree(self.folder)

    @property
    def inventory(self) -> Path:
        """Return the inventory that tells how each host is reached."""
        return self.folder / "inventory.json"

    def run(self, argv: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command on the controller; see :meth:`Space.run`."""
        return self.space.run(argv, **options)

    def ssh_command(self, name: str, command: str) -> list[str]:
        """Return the command line, on the controller, that runs a shell command on a host."""
        return ["ssh", "-i", str(self.base / "id"), *SSH_OPTIONS, f"root@{self.addresses[name]}", command]

    def ssh(self, name: str, command: str, *, check: bool = True, timeout: float = 60) -> str:
        """Run a shell command on a host.

        :param timeout: how long it may take, in seconds.
        :return: what it printed.
        :raises AssertionError: if it fails and ``check`` is true.
        """
        return self.run(self.ssh_command(name, command), check=check, timeout=timeout).stdout

    def kill(self, name: str) -> None:
        """Cut a host's power: its connections are not closed, and its memory is lost."""
        self.partition(name)
        self.run(["sh", "-c", f"echo 1 > {self._cgroup(name)}/cgroup.kill"])
        self._wait_off(name)
        self.run(["ip", "netns", "delete", name])

    def start(self, name: str) -> None:
        """Start a host that is off, with the disk that it had; return when it runs."""
        self._start(name)
        self._wait_running(name)

    def reboot(self, name: str) -> None:
        """Reboot a host, as its root user would; return when it runs again."""
        boot = self._boot(name)
        assert boot, f"{name} cannot be reached"
        self.ssh(name, "systemctl reboot", check=False)
        _until(lambda: self._boot(name) not in ("", boot), f"a reboot of {name}")
        self._wait_running(name)

    def partition(self, name: str) -> None:
        """Cut a host off from all others and from the controller."""
        self.run(["ip", "link", "set", f"v-{name}", "down"])

    def heal(self, name: str) -> None:
        """Connect a host again."""
        self.run(["ip", "link", "set", f"v-{name}", "up"])

    def keep(self, folder: Path) -> Layers:
        """Shut all hosts down, and keep the changes on their disks.

        :param folder: where to; it is made.
        :return: what to start other fleets from.
        """
        for name in self.addresses:
            self.ssh(name, "systemctl poweroff", check=False)
        folder.mkdir()
        for name in self.addresses:
            self._wait_off(name)
            self.run(["cp", "--archive", str(ROOTS / name / "upper"), str(folder / name)])
        return Layers((folder, *self.layers.folders))

    def _cgroup(self, name: str) -> Path:
        return CGROUPS / self.space.cgroup / name

    def _start(self, name: str) -> None:
        arguments = {
            "name": name,
            "index": list(self.addresses).index(name) + 1,
            "cgroup": self.space.cgroup,
            "lower": [*(str(folder / name) for folder in self.layers.folders), str(self.base / "root")],
        }
        command = [sys.executable, "-m", "tests.fleet.anchor", "host", json.dumps(arguments)]
        with self._console(name).open("ab") as console:
            self._starters.append(self.space.start(command, output=console, errors=console))

    def _console(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def _boot(self, name: str) -> str:
        return self.ssh(name, "cat /proc/sys/kernel/random/boot_id", check=False)

    def _wait_running(self, name: str) -> None:
        state = ""

        def is_up() -> bool:
            nonlocal state
            state = self.ssh(name, "systemctl is-system-running --wait", check=False).strip()
            return state in ("running", "degraded")

        try:
            _until(is_up, f"{name} running")
        except AssertionError as error:
            console = self._console(name).read_text(errors="replace")
            raise AssertionError(f"{error}; its console ends with:\n{console[-2000:]}") from None
        if state == "degraded":
            raise AssertionError(f"{name} runs, but failed are:\n{self.ssh(name, 'systemctl --failed --plain')}")

    def _wait_off(self, name: str) -> None:
        events = ["cat", str(self._cgroup(name) / "cgroup.events")]
        _until(lambda: "populated 0" in self.run(events).stdout, f"{name} off")

    def _write_names(self) -> None:
        """Let the controller and the hosts find each other by name."""
        lines = ["127.0.0.1 localhost", "::1 localhost", f"{NETWORK}.1 controller"]
        lines += [f"{address} {name}" for name, address in self.addresses.items()]
        names = self.folder / "hosts"
        names.write_text("".join(f"{line}\n" for line in lines))
        self.run(["mount", "--bind", str(names), "/etc/hosts"])

    def _write_inventory(self) -> None:
        hosts: Mapping[str, object] = {name: {"ansible_host": address} for name, address in self.addresses.items()}
        known = {
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(self.base / "id"),
            "ansible_ssh_common_args": "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR",
        }
        self.inventory.write_text(json.dumps({"all": {"hosts": hosts, "vars": known}}))
