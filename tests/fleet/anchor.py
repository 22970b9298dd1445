"""What runs inside a fleet's private namespaces: process 1, and for each host the process that starts it.

Run as root by :mod:`tests.fleet.space` and :mod:`tests.fleet.hosts`: ``python -m tests.fleet.anchor hold CGROUP`` and
``python -m tests.fleet.anchor host JSON``.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

NETWORK = "10.79.0"
CGROUPS = Path("/sys/fs/cgroup")
ROOTS = Path("/run/fleet")
REBOOT = 133  # systemd-nspawn's exit status when the host asked for one


def hold(cgroup: str) -> None:
    """Prepare the namespaces, say so on the standard output, and end all that is in them when the standard input does.

    :param cgroup: the name of the control group to make, and to remove at the end.
    """
    _do("mount -t tmpfs -o mode=755 tmpfs /run")
    # where there are cgroups of version 1 too, the hosts are not to see them
    subprocess.run(["umount", "--recursive", str(CGROUPS)], check=False)
    _do(f"mount -t cgroup2 cgroup2 {CGROUPS}")
    for folder in (CGROUPS / cgroup, ROOTS, Path("/run/netns")):
        folder.mkdir()
    _do("ip link set lo up")
    _do("ip link add bridge type bridge")
    _do(f"ip address add {NETWORK}.1/24 dev bridge")
    _do("ip link set bridge up")
    print("ready", flush=True)
    sys.stdin.buffer.read()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody else waits for those
    os.kill(-1, signal.SIGKILL)
    for folder in sorted((CGROUPS / cgroup).rglob("*/"), reverse=True):
        _remove(folder)
    _remove(CGROUPS / cgroup)


def host(name: str, index: int, cgroup: str, lower: list[str]) -> None:
    """Boot a host, and boot it again as often as it asks for that, until it is off.

    :param name: what it is called.
    :param index: its number, from 1 up.
    :param cgroup: the fleet's control group.
    :param lower: the folders that its root begins with, the newest first.
    """
    own = CGROUPS / cgroup / name
    own.mkdir(exist_ok=True)
    (own / "cgroup.procs").write_text(str(os.getpid()))
    root = _root(ROOTS / name, lower)
    (root / "etc/hostname").write_text(f"{name}\n")
    (root / "etc/hosts").write_text(Path("/etc/hosts").read_text())
    # The kernel removes those of a host that was killed a while after it.
    for leftover in (["link", "delete", f"v-{name}"], ["netns", "delete", name]):
        subprocess.run(["ip", *leftover], check=False, stderr=subprocess.DEVNULL)
    _do(f"ip netns add {name}")
    _do(f"ip link add v-{name} type veth peer name eth0 netns {name}")
    _do(f"ip link set v-{name} master bridge up")
    _do(f"ip -n {name} link set lo up")
    _do(f"ip -n {name} address add {NETWORK}.{10 + index}/24 dev eth0")
    _do(f"ip -n {name} link set eth0 address 02:00:00:00:00:{10 + index:02x} up")  # the same at each start
    command = ["systemd-nspawn", "--quiet", "--boot", "--keep-unit", "--register=no", "--console=pipe"]
    command += [f"--machine={name}", f"--directory={root}", f"--uuid={uuid.uuid5(uuid.NAMESPACE_DNS, name)}"]
    command += [f"--network-namespace-path=/run/netns/{name}", "--resolv-conf=off", "--timezone=off"]
    command += ["--link-journal=no"]
    command += ["--system-call-filter=bpf", "--capability=CAP_BPF,CAP_NET_ADMIN"]  # for IPAddressDeny=
    while subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode == REBOOT:
        pass


def _root(folder: Path, lower: list[str]) -> Path:
    root = folder / "root"
    if not folder.exists():
        folder.mkdir()
        for needed in (folder / "upper", folder / "work", root):
            needed.mkdir()
        options = f"lowerdir={':'.join(lower)},upperdir={folder}/upper,workdir={folder}/work"
        _do(f"mount -t overlay -o {options} overlay {root}")
    return root


def _remove(cgroup: Path) -> None:
    """Remove a control group as soon as what was in it is gone."""
    ends = time.monotonic() + 10
    while True:
        try:
            return cgroup.rmdir()
        except OSError:
            if time.monotonic() > ends:
                raise
            time.sleep(0.005)


def _do(command: str) -> None:
    subprocess.run(command.split(" "), check=True)


def _main() -> None:
    what, argument = sys.argv[1:]
    if what == "hold":
        return hold(argument)
    arguments: Any = json.loads(argument)
    return host(**arguments)


if __name__ == "__main__":
    _main()
