"""The first deploy, an identical second run, the deployed hosts, and the uninstall."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator

import pytest

from tests.fleet.conftest import ANSWERS, PAGES, TOKEN, Deployed, Site
from tests.fleet.hosts import Fleet
from tests.fleet.marks import HOSTS
from tests.fleet.observed import properties, traces
from tests.fleet.upstream import Upstream

pytestmark = HOSTS
UNIT = "fingergw.service"
SOCKET = "fingergw-public.socket"


@pytest.fixture(scope="module")
def standing(deployed: Deployed) -> Iterator[Fleet]:
    """Start three hosts that have the gateway, for tests that leave them as they are."""
    with Fleet(deployed.layers) as fleet:
        yield fleet


def _finger(fleet: Fleet, asking: str, query: str) -> str:
    """Return what Debian's finger prints on a host."""
    return fleet.ssh(asking, f"finger {query}").strip()


def _changed(output: str) -> list[str]:
    """Return the tasks and handlers of a run that have changed something, in their order."""
    tasks = re.split(r"^(?:TASK|RUNNING HANDLER) \[(?:fingergw : )?(.*)\] \*+$", output, flags=re.MULTILINE)
    return [name for name, told in zip(tasks[1::2], tasks[2::2], strict=True) if "\nchanged: " in told]


def test_check_mode_tells_what_a_bare_host_would_get(deployed: Deployed) -> None:
    """It ends well, and shows the files with their texts, the release and what would be put in force."""
    told = deployed.checked.output

    assert {host.failed for host in deployed.checked.hosts.values()} == {0}
    assert all(host.changed > 10 for host in deployed.checked.hosts.values())
    assert '+url = "http://10.79.0.1:8000/oncall"' in told
    assert '+moshez = "Happy and well"' in told
    assert "+ExecStart=/opt/fingergw/current/bin/fingergw" in told
    assert "+ListenStream=79" in told
    assert re.search(r"TASK \[fingergw : Make a virtual environment\] \**\nchanged: ", told)


def test_check_mode_leaves_nothing_on_a_bare_host(deployed: Deployed) -> None:
    """The host's files, users, units and open ports are what they were."""
    before, after = deployed.bare

    assert after == before


def test_the_same_run_again_changes_nothing(deployed: Deployed) -> None:
    """No task says that it has changed something, and the gateways were neither reloaded nor started anew."""
    before, after = deployed.processes

    assert {name: host.changed for name, host in deployed.second.hosts.items()} == dict.fromkeys(before, 0)
    assert after == before


def test_finger_on_one_host_asks_another(standing: Fleet) -> None:
    """Debian's finger is answered on port 79: people, upstreams, and what a group and a host have of their own."""
    with Upstream(standing, PAGES):
        answers = {query: _finger(standing, "gateway-2", f"{query}@gateway-1") for query in ANSWERS}
        of_berlin = {name: _finger(standing, "gateway-2", f"canteen@{name}") for name in ("gateway-1", "gateway-3")}
    # with the upstream gone, and nothing kept on these hosts
    down = {name: _finger(standing, "gateway-1", f"oncall@{name}") for name in ("gateway-2", "gateway-3")}

    assert answers == ANSWERS
    assert of_berlin["gateway-1"] == "Soup. It is always soup."
    assert "Soup" not in of_berlin["gateway-3"]
    assert "Ring the front desk, 1234" in down["gateway-2"]
    assert "Ring the desk in Boston, 5678" in down["gateway-3"]


def test_values_arrive_with_their_types(standing: Fleet) -> None:
    """Numbers, booleans and lists of the inventory are those of the file."""
    written = tomllib.loads(standing.ssh("gateway-1", "cat /etc/fingergw/fingergw.toml"))

    limits = written["listeners"][0]["limits"]
    index = next(route for route in written["routes"] if route["name"] == "index")
    assert (limits["max_connections_per_client"], limits["rate"]["burst"]) == (900, 100000)
    assert (index["index"], index["backends"]) == (True, ["menu"])
    assert written["backends"]["rota"]["template"] == "{{ name }} is on call until {{ until }}"


def test_the_secret_is_in_its_file_alone(standing: Fleet, deployed: Deployed) -> None:
    """It is in no output of Ansible, however much it tells, no log, no process, and no file that others can read."""
    # what looks for it has it from a file, not to find itself
    standing.run(standing.ssh_command("gateway-1", "cat > /run/token"), text=TOKEN)
    look = "grep --count --text --fixed-strings --file=/run/token"
    files = standing.ssh("gateway-1", "grep -rlsFf /run/token /etc /opt /root /srv /tmp /usr/local /var", check=False)
    journal = standing.ssh("gateway-1", f"journalctl | {look}", check=False)
    processes = standing.ssh("gateway-1", f"cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline | {look}", check=False)

    assert sorted(files.split()) == ["/etc/fingergw/secrets/rota.token", "/opt/fingergw/kept/state.tar"]
    assert standing.ssh("gateway-1", "stat --format='%a %U' /etc/fingergw/secrets/rota.token") == "400 fingergw\n"
    assert standing.ssh("gateway-1", "stat --format='%a %U' /opt/fingergw/kept") == "700 root\n"
    assert (journal, processes) == ("0\n", "0\n")
    assert TOKEN not in deployed.checked.output + deployed.first.output + deployed.second.output


def test_the_gateway_has_no_privileges(standing: Fleet) -> None:
    """It runs as a user of its own without a capability, sandboxed to 1.1 of systemd's points, and has port 79."""
    (pid,) = properties(standing, "gateway-1", UNIT, "MainPID")
    status = dict(re.findall(r"^(\w+):\s+(\S+)", standing.ssh("gateway-1", f"cat /proc/{pid}/status"), re.MULTILINE))
    analysed = standing.ssh("gateway-1", f"systemd-analyze security {UNIT}")
    exposure = re.search(r"Overall exposure level for fingergw.service: (\d+\.\d+)", analysed)

    assert standing.ssh("gateway-1", f"ps -o user= -p {pid}") == "fingergw\n"
    assert (status["CapEff"], status["CapBnd"], status["NoNewPrivs"]) == ("0" * 16, "0" * 16, "1")
    assert exposure is not None
    assert float(exposure[1]) <= 1.1
    assert f"pid={pid}," in standing.ssh("gateway-1", "ss -Hltnp 'sport = :79'")


def test_the_gateway_starts_with_the_machine(standing: Fleet) -> None:
    """Service and port are enabled and active after this boot, and nothing of the host has failed."""
    assert standing.ssh("gateway-1", f"systemctl is-enabled {UNIT} {SOCKET}").split() == ["enabled", "enabled"]
    assert standing.ssh("gateway-1", f"systemctl is-active {UNIT} {SOCKET}").split() == ["active", "active"]
    assert standing.ssh("gateway-1", "systemctl is-system-running") == "running\n"


def test_check_mode_shows_the_one_change_and_makes_none(standing: Fleet, site: Site) -> None:
    """On a host that serves, a changed variable shows as its line in the diff and the reload that it takes."""
    before = traces(standing, "gateway-1")
    variables = {"fingergw_config_other": {"backends": {"canteen": {"text": "Stew."}}}}

    checked = site.play(standing, "--check", "--diff", extra_vars=variables, limit="gateway-1")

    lines = re.findall(r"^[-+](?![-+]).*$", checked.output, re.MULTILINE)
    assert lines == ['-text = "Soup. It is always soup."', '+text = "Stew."']
    assert _changed(checked.output) == [
        "Write its configuration",
        "Make good a reload that an earlier run did not come to",
        "Reload fingergw",
    ]
    assert traces(standing, "gateway-1") == before


def test_nothing_is_left_of_it(gateways: Fleet, site: Site) -> None:
    """An uninstall removes all that the role has made, and once more changes nothing."""
    absent = {"fingergw_state": "absent"}

    removed = site.play(gateways, extra_vars=absent, limit="gateway-1")
    left = traces(gateways, "gateway-1")
    again = site.play(gateways, extra_vars=absent, limit="gateway-1")

    assert removed.hosts["gateway-1"].changed > 0
    assert "fingergw" not in left
    assert "*:79" not in left
    assert "fingergw" not in gateways.ssh("gateway-1", "getent passwd; getent group")
    assert again.hosts["gateway-1"].changed == 0
