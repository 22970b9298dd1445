"""What is lost when a host, a process, the network or the controller fails, and how all of it comes back."""

from __future__ import annotations

import time
from collections.abc import Mapping

import pytest

from tests.fleet.conftest import ANSWERS, Site
from tests.fleet.hosts import Fleet
from tests.fleet.load import Load, Result
from tests.fleet.marks import HOSTS
from tests.fleet.observed import process
from tests.fleet.upstream import Upstream

pytestmark = HOSTS

ALL = ("gateway-1", "gateway-2", "gateway-3")
OTHERS = ("gateway-1", "gateway-3")
# A slow query takes a second: so many of a host's are under way whatever happens.
SLOW = 5
# What a roll-out changes: the answer, by a reload, and the service, by a restart.
CHANGE: Mapping[str, object] = {
    "fingergw_config_zz": {"backends": {"changed": {"type": "static", "text": "It has changed"}}}
    | {"routes": [{"name": "changed", "user": "changed", "backends": ["changed"]}]},
    "fingergw_service_settings": {"MemoryMax": "700M"},
}
CONFIGURATION = "cat /etc/fingergw/fingergw.toml"


def _ask_all(fleet: Fleet, pause: float = 0.1) -> Load:
    return Load(fleet, dict.fromkeys(ALL, ANSWERS), threads={"slow": SLOW}, pause=pause).wait_for_answers()


def _lost(result: Result, *names: str) -> list[str]:
    """Return what was lost of some hosts."""
    return [f"{lost.target} {lost.query} {lost.got}" for lost in result.lost if lost.target in names]


def _slow_requests(upstream: Upstream, fleet: Fleet, name: str) -> int:
    """Return how many of the slow queries came so far that a host asked the upstream for each of them."""
    return sum(request.path == "/slow" and request.host == fleet.addresses[name] for request in upstream.requests())


@pytest.mark.usefixtures("upstream")
def test_a_host_that_lost_its_power_serves_again_once_it_has_booted(gateways: Fleet) -> None:
    """What it was asked before is lost, and what is asked while it is off; other hosts lose nothing."""
    before = process(gateways, "gateway-2")
    with _ask_all(gateways) as load:
        gateways.kill("gateway-2")
        load.wait_for_answers(*OTHERS)
        gateways.start("gateway-2")
        load.wait_for_answers("gateway-2")
        back = time.time()
        load.wait_for_answers()
        result = load.stop()

    assert _lost(result, *OTHERS) == []
    assert process(gateways, "gateway-2") != before
    assert [lost for lost in result.lost if lost.at > back] == []


def test_a_reboot_first_answers_what_was_asked(gateways: Fleet, upstream: Upstream) -> None:
    """Each query that the gateway has taken is answered before it stops; those that come until it is back are lost."""
    with _ask_all(gateways) as load:
        began = time.time()
        gateways.reboot("gateway-2")
        load.wait_for_answers("gateway-2")
        back = time.time()
        load.wait_for_answers()
        result = load.stop()
        asked = _slow_requests(upstream, gateways, "gateway-2")

    assert _lost(result, *OTHERS) == []
    assert [lost for lost in result.lost if not began < lost.at < back] == []
    assert result.count("gateway-2", "slow") == asked


@pytest.mark.usefixtures("upstream")
def test_a_process_that_was_killed_is_back_by_itself(gateways: Fleet) -> None:
    """What it was answering is lost; what comes before it is back waits in the socket."""
    with _ask_all(gateways) as load:
        command = "systemctl kill --kill-whom=main --signal=KILL fingergw.service && date +%s.%N"
        killed = float(gateways.ssh("gateway-2", command))
        load.wait_for_answers()
        result = load.stop()

    assert _lost(result, *OTHERS) == []
    assert 0 < len(result.lost) <= SLOW + 4
    assert [lost for lost in result.lost if lost.at > killed] == []


@pytest.mark.usefixtures("upstream")
def test_a_roll_out_that_was_broken_off_is_finished_by_the_same_command(gateways: Fleet, site: Site) -> None:
    """The controller is killed, then a host is cut off: what was written comes into force with a later run alone."""
    limit = "gateway-2,gateway-3"
    with _ask_all(gateways, pause=0.3) as load:
        killed = site.start(gateways, extra_vars=CHANGE, limit="gateway-2")
        killed.wait_for("TASK [fingergw : Switch to the release]")  # its files are written, and not in force yet
        killed.kill()
        assert "It has changed" in gateways.ssh("gateway-2", CONFIGURATION)
        assert "No such user" in gateways.run(["finger", "changed@gateway-2"]).stdout
        assert load.so_far().lost == []

        running = site.start(gateways, extra_vars=CHANGE, limit=limit).wait_for("TASK [fingergw : Write the service")
        gateways.partition("gateway-2")
        cut = time.monotonic()
        cut_off = running.wait(check=False)
        took = time.monotonic() - cut
        assert took < 60, cut_off.output
        assert (cut_off.returncode != 0, cut_off.hosts["gateway-2"].unreachable) == (True, 1), cut_off.output
        assert "It has changed" not in gateways.ssh("gateway-3", CONFIGURATION)

        gateways.heal("gateway-2")
        load.wait_for_answers("gateway-2")
        back = time.time()
        assert "No such user" in gateways.run(["finger", "changed@gateway-2"]).stdout
        site.play(gateways, extra_vars=CHANGE, limit=limit)
        result = load.stop()

    for name in ("gateway-2", "gateway-3"):
        assert "It has changed" in gateways.run(["finger", f"changed@{name}"]).stdout
        assert gateways.ssh(name, "systemctl show --property=MemoryMax --value fingergw").strip() == str(700 * 2**20)
    assert _lost(result, *OTHERS) == []
    assert [lost for lost in result.lost if lost.at > back] == []
