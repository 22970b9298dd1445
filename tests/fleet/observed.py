"""Observations of the gateway on a host."""

from __future__ import annotations

import re
import shlex

import attrs

from tests.fleet.hosts import Fleet

# Logs of the system and ssh, and what Ansible itself keeps for a run, change however little a play does.
_IGNORED = ("/root/.ansible", "/var/log/journal", "/var/log/lastlog", "/var/log/wtmp", "/var/log/btmp")


@attrs.frozen
class Process:
    """The gateway's process.

    :param pid: its main process; 0 if there is none.
    :param restarts: how often systemd started it again by itself.
    :param started: when it was started, in microseconds since the machine was.
    :param reloads: how many configurations came into force after the first.
    """

    pid: int
    restarts: int
    started: int
    reloads: int


def process(fleet: Fleet, name: str) -> Process:
    """Return the gateway's process on a host."""
    shown = properties(fleet, name, "fingergw.service", "MainPID", "NRestarts", "ExecMainStartTimestampMonotonic")
    reloads = re.search(r'(?m)^fingergw_reloads_total\{result="applied"\} (\d+)', metrics(fleet, name))
    assert reloads is not None, f"{name} does not tell its reloads"
    pid, restarts, started = map(int, shown)
    return Process(pid, restarts, started, int(reloads[1]))


def properties(fleet: Fleet, name: str, unit: str, *wanted: str) -> list[str]:
    """Return what systemd has noted of a unit on a host, in the order that is asked for."""
    shown = fleet.ssh(name, f"systemctl show --property={','.join(wanted)} {unit}")
    values = dict(line.split("=", 1) for line in shown.splitlines())
    return [values[each] for each in wanted]


def metrics(fleet: Fleet, name: str) -> str:
    """Return the gateway's metrics on a host."""
    code = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:9179/metrics').read().decode())"
    return fleet.ssh(name, f"python3 -c {shlex.quote(code)}")


def release(fleet: Fleet, name: str) -> str:
    """Return the release that a host has chosen."""
    return fleet.ssh(name, "readlink /opt/fingergw/current").strip().rpartition("/")[2]


def releases(fleet: Fleet, name: str) -> list[str]:
    """Return the releases that are installed on a host."""
    return fleet.ssh(name, "ls /opt/fingergw/releases").split()


def traces(fleet: Fleet, name: str) -> str:
    """Return a list of a host's files with their owners, modes and times, its units, and the ports that are open."""
    pruned = " -o ".join(f"-path {path}" for path in _IGNORED)
    listed = (
        rf"find / /tmp /dev/shm -xdev \( {pruned} \) -prune -o -type d -printf '%p %u %g %m\n'"
        r" -o -printf '%p %u %g %m %l %s %T@\n' | sort"
    )
    units = "systemctl list-units --all --plain --no-legend 'fingergw*'; systemctl list-unit-files --no-legend"
    return fleet.ssh(name, f"{listed}; {units}; ss -Hltn | awk '{{print $4}}' | sort")
