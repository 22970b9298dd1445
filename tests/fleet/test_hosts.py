"""The hosts themselves, without what is deployed on them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fleet.hosts import Fleet
from tests.fleet.load import Load
from tests.fleet.marks import HOSTS
from tests.fleet.playbook import start_play
from tests.fleet.upstream import Page, Upstream
from tests.support.processes import ROOT
from tests.support.waiting import wait_until

pytestmark = HOSTS

# Answers "Hello NAME", after a quarter of a second if the name is slow.
SERVER = """
import socketserver, time
class Answer(socketserver.StreamRequestHandler):
    def handle(self):
        name = self.rfile.readline().decode().strip()
        time.sleep(0.25 if name == "slow" else 0)
        self.wfile.write(b"Hello " + name.encode() + b"\\r\\n")
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
Server(("", 79), Answer).serve_forever()
"""
FROM_THERE = "exec 3<>/dev/tcp/{}/22 && head -c 7 <&3"


@pytest.fixture(scope="module")
def shared() -> Iterator[Fleet]:
    """Start three hosts for tests that leave them as they are."""
    with Fleet() as fleet:
        yield fleet


def _serve(fleet: Fleet, name: str) -> None:
    fleet.ssh(name, f"cat > /root/server.py <<'END'\n{SERVER}\nEND")
    fleet.ssh(name, "systemd-run --quiet --unit=answers python3 /root/server.py")
    wait_until(lambda: fleet.ssh(name, "ss -Hltn sport = :79"), "the server")


def _stop(fleet: Fleet, name: str) -> None:
    fleet.ssh(name, "systemctl stop answers")


def _reaches(fleet: Fleet, name: str, other: str) -> bool:
    return fleet.ssh(name, f"timeout 1 bash -c '{FROM_THERE.format(other)}'", check=False) == "SSH-2.0"


def _traces(cgroup: str) -> list[str]:
    """Return what there is of a fleet on the machine: its control groups, and processes that name it."""
    found = [
        str(path)
        for path in map(Path, (f"/sys/fs/cgroup/{cgroup}", f"/sys/fs/cgroup/unified/{cgroup}"))
        if path.exists()
    ]
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if cgroup.encode() in command.read_bytes():
                found.append(str(command))
        except OSError:  # it has just ended
            continue
    return found


def test_three_hosts_of_their_own_reach_each_other_and_nobody_else(shared: Fleet) -> None:
    """Three hosts differ in name and machine-id, reach each other by name, and have no way out."""
    told = {name: shared.ssh(name, "hostname; cat /etc/machine-id").split() for name in shared.addresses}

    assert [name for name, _ in told.values()] == ["gateway-1", "gateway-2", "gateway-3"]
    assert len({machine for _, machine in told.values()}) == 3
    assert _reaches(shared, "gateway-1", "gateway-3")
    assert shared.ssh("gateway-1", "ip route show default") == ""


def test_a_reboot_boots_the_same_disk(shared: Fleet) -> None:
    """A reboot is one: what is in memory is gone, and what is on the disk is there."""
    shared.ssh("gateway-1", "echo kept > /root/disk; echo lost > /run/memory")

    shared.reboot("gateway-1")

    assert (
        shared.ssh("gateway-1", "cat /root/disk; ls /run/memory 2>&1 | cut -d: -f3")
        == "kept\n No such file or directory\n"
    )


def test_a_host_without_power_says_nothing_and_starts_with_its_disk(shared: Fleet) -> None:
    """A host that is killed leaves its peers without a word, and has its disk when it is started."""
    shared.ssh("gateway-2", "echo kept > /root/disk")

    shared.kill("gateway-2")

    assert not _reaches(shared, "gateway-1", "gateway-2")
    shared.start("gateway-2")
    assert shared.ssh("gateway-2", "cat /root/disk") == "kept\n"


def test_a_host_cut_off_goes_on_alone_and_comes_back(shared: Fleet) -> None:
    """A partition reaches all ways, stops nothing on the host, and heals."""
    boot = shared.ssh("gateway-3", "cat /proc/sys/kernel/random/boot_id")

    shared.partition("gateway-3")
    cut = _reaches(shared, "gateway-1", "gateway-3")
    shared.heal("gateway-3")

    assert not cut
    assert _reaches(shared, "gateway-1", "gateway-3")
    assert shared.ssh("gateway-3", "cat /proc/sys/kernel/random/boot_id") == boot


def test_packages_are_installed_without_a_network(shared: Fleet) -> None:
    """What the fleet's shared parts need is in the host's own folder, with all that it depends on."""
    shared.ssh("gateway-1", "apt-get update && apt-get --yes install liblua5.3-0")

    planned = shared.ssh(
        "gateway-1", "apt-get --simulate --no-install-recommends install haproxy redis-server prometheus"
    )

    assert {"haproxy", "redis-server", "prometheus"} <= set(re.findall(r"^Inst (\S+)", planned, re.MULTILINE))
    assert shared.ssh("gateway-1", "ls /usr/lib/*/liblua5.3.so.0")


def test_a_play_is_cut_off_in_the_middle(shared: Fleet, tmp_path: Path) -> None:
    """A play in the background is waited for by what it prints; a host that goes away meanwhile is unreachable."""
    playbook = tmp_path / "playbook.yml"
    playbook.write_text(
        "[{hosts: all, gather_facts: false, tasks:"
        " [{ansible.builtin.command: sleep 9, when: inventory_hostname == 'gateway-3'}]}]"
    )

    running = start_play(shared, playbook, inventory=[]).wait_for("skipping: [gateway-2]")
    shared.partition("gateway-3")
    done = running.wait(check=False)
    shared.heal("gateway-3")

    assert done.hosts["gateway-3"].unreachable == 1
    assert done.hosts["gateway-2"].skipped == 1


def test_load_tells_each_lost_query(shared: Fleet) -> None:
    """What was answered is counted by target, query and answer; what was not is told with what came instead."""
    _serve(shared, "gateway-1")
    _serve(shared, "gateway-2")
    asks: dict[str, dict[str, str | tuple[str, ...]]] = {
        "gateway-1": {"ada": ("Hello ada", "Hello others"), "slow": "Hello slow"},
        "gateway-2": {"ada": "Hello somebody else"},
    }
    with Load(shared, asks, threads={"slow": 8}) as load:
        load.wait_for_answers("gateway-1")
        before = load.so_far()
        _stop(shared, "gateway-1")
        wait_until(
            lambda: {lost.query for lost in load.so_far().lost if "refused" in lost.got} == {"ada", "slow"},
            "refused queries of both kinds",
        )
        after = load.stop()
    _stop(shared, "gateway-2")

    assert {lost.got for lost in before.lost} == {r"'Hello ada\r\n'"}
    assert {(lost.target, lost.query) for lost in before.lost} == {("gateway-2", "ada")}
    assert {lost.query for lost in after.lost if lost.target == "gateway-1"} == {"ada", "slow"}
    assert set(after.answered) == {("gateway-1", "ada", "Hello ada"), ("gateway-1", "slow", "Hello slow")}
    assert after.longest["gateway-1", "slow"] >= 0.25


def test_the_upstream_remembers_who_asked(shared: Fleet) -> None:
    """The web server on the controller serves what it is told to, and lists the requests."""
    fetch = "python3 -c \"import urllib.request as u; print(u.urlopen('{}').read().decode())\""
    with Upstream(shared, {"/rota": Page("Ada")}) as upstream:
        first = shared.ssh("gateway-1", fetch.format(f"{upstream.url}/rota"))
        upstream.set({"/rota": Page("Grace", delay=0.2)})
        second = shared.ssh("gateway-2", fetch.format(f"{upstream.url}/rota?week=2"))
        requests = upstream.requests()

    assert (first, second) == ("Ada\n", "Grace\n")
    assert [(each.path, each.host) for each in requests] == [("/rota", "10.79.0.11"), ("/rota?week=2", "10.79.0.12")]
    assert requests[0].at < requests[1].at


def test_layers_keep_what_was_made_and_what_was_removed(tmp_path: Path) -> None:
    """Hosts start from what others had on their disks when they were kept, and change nothing of that."""
    with Fleet(count=2) as fleet:
        fleet.ssh("gateway-1", "echo one > /root/file; rm -r /srv/packages")
        kept = fleet.keep(tmp_path / "layers")
    with Fleet(kept, count=2) as fleet:
        assert fleet.ssh("gateway-1", "cat /root/file; ls /srv; rm /root/file") == "one\n"
        assert fleet.ssh("gateway-2", "ls /root /srv") == "/root:\n\n/srv:\npackages\n"

    assert (tmp_path / "layers/gateway-1/root/file").read_text() == "one\n"


def test_nothing_is_left_of_a_fleet() -> None:
    """A fleet that is closed leaves no process, control group or file."""
    with Fleet(count=1) as fleet:
        cgroup, folder = fleet.space.cgroup, fleet.folder
        assert _traces(cgroup)

    assert not _traces(cgroup)
    assert not folder.exists()


def test_a_fleet_ends_with_who_started_it(tmp_path: Path) -> None:
    """However a test run ends, its hosts do too."""
    command = [sys.executable, "-m", "tests.fleet", "--fleet", str(tmp_path / "fleet"), "up", "--hold", "1"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        cgroup = re.findall(r'"cgroup": "(.*?)"', (tmp_path / "fleet/fleet.json").read_text())[0]
        assert _traces(cgroup)
        os.kill(holder.pid, signal.SIGKILL)

    wait_until(lambda: not _traces(cgroup), "the end of the hosts")
