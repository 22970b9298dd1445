"""Changes of all kinds under load: each takes only what it must, and no query is lost."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.fleet.conftest import ANSWERS, Site
from tests.fleet.hosts import Fleet
from tests.fleet.load import Load, Lost, Result
from tests.fleet.marks import HOSTS
from tests.fleet.observed import process, properties, release, releases
from tests.fleet.playbook import Play
from tests.fleet.releases import ANSWERS_NOTHING, CRASHES, install_bad, source_tree
from tests.fleet.upstream import Upstream

pytestmark = [*HOSTS, pytest.mark.usefixtures("upstream")]
UNIT = "fingergw.service"
FAST, SLOW = "moshez", "slow"
AT_ONCE = {"fingergw_serial": 3}  # where what one host goes through is not for the others to wait for
HAPPY, HAPPIER = ANSWERS[FAST], f"{ANSWERS[FAST]} indeed"


@contextmanager
def _asked(fleet: Fleet, *others: str) -> Iterator[Load]:
    """Ask all hosts all the while, fast queries and slow ones, on port 79 and on other ports."""
    expected: Mapping[str, str | tuple[str, ...]] = {FAST: (HAPPY, HAPPIER), SLOW: ANSWERS[SLOW]}
    with Load(fleet, dict.fromkeys((*fleet.addresses, *others), expected), threads={SLOW: 4}, pause=0.3) as load:
        yield load.wait_for_answers()


def _told(event: str, result: Result, *plays: Play) -> list[Lost]:
    """Print the cost of a change, and return the queries that it lost."""
    seconds = " + ".join(f"{play.seconds:.1f}" for play in plays)
    counts = {query: result.count(query=query) for query in (FAST, SLOW)}
    lost = dict(Counter((each.target, each.query) for each in result.lost))
    longest = {
        query: max(result.longest[name, query] for name, asked in result.longest if asked == query) for query in counts
    }
    print(f"{event}: {seconds} s, answered {counts}, lost {lost}, longest {longest}")
    return result.lost


def _inventory(folder: Path, variables: Mapping[str, Mapping[str, object]]) -> tuple[str, str]:
    """Return the arguments that lay variables of single hosts over those there are."""
    path = folder / "hosts.json"
    path.write_text(json.dumps({"fingergw": {"hosts": variables}}))
    return "-i", str(path)


def test_a_change_takes_no_more_than_it_must(gateways: Fleet, upstream: Upstream, site: Site, tmp_path: Path) -> None:
    """Data are read again, configuration and secrets are reloaded; nothing is started anew and no query is lost."""
    changes = _inventory(
        tmp_path,
        {
            "gateway-1": {"fingergw_files": {"people.toml": {FAST: HAPPIER}}},
            "gateway-2": {"fingergw_config_other": {"backends": {"canteen": {"text": "Stew."}}}},
            "gateway-3": {"fingergw_secrets": {"rota.token": "another-token"}},
        },
    )
    before = {name: process(gateways, name) for name in gateways.addresses}
    with _asked(gateways) as load:
        play = site.play(gateways, *changes, extra_vars=AT_ONCE)
        after = {name: process(gateways, name) for name in gateways.addresses}
        answered = load.wait_for_answers().stop()
    oncall = gateways.ssh("gateway-1", "finger oncall@gateway-3").strip()
    tokens = {request.token for request in upstream.requests() if request.path == "/oncall"}

    assert not _told("data, configuration, secret", answered, play)
    assert {name: after[name].pid for name in after} == {name: before[name].pid for name in before}
    assert {name: after[name].reloads for name in after} == {"gateway-1": 0, "gateway-2": 1, "gateway-3": 1}
    assert answered.count("gateway-1", FAST, HAPPIER) > 0
    assert gateways.ssh("gateway-1", "finger canteen@gateway-2").strip() == "Stew."
    assert (oncall, tokens) == (ANSWERS["oncall"], {"another-token"})


def test_an_upgrade_and_the_way_back_lose_nothing(gateways: Fleet, site: Site, tmp_path: Path) -> None:
    """A host restarts with the new release, and keeps the one before, to go back to by its name, and none older."""
    old = release(gateways, "gateway-1")
    older = "/opt/fingergw/releases/0.0.9-00000000"
    gateways.ssh("gateway-1", f"mkdir {older} && touch {older}/complete")
    later = {"fingergw_package": str(source_tree(tmp_path / "0.2.0", "0.2.0"))}
    with _asked(gateways) as load:
        up = site.play(gateways, extra_vars=later, limit="gateway-1")
        version = gateways.ssh("gateway-1", "/opt/fingergw/current/bin/fingergw --version")
        kept = releases(gateways, "gateway-1")
        back = site.play(gateways, extra_vars={"fingergw_release": old}, limit="gateway-1")
        answered = load.wait_for_answers().stop()

    assert not _told("upgrade, back", answered, up, back)
    assert version == "fingergw 0.2.0\n"
    assert (len(kept), old in kept, release(gateways, "gateway-1")) == (2, True, old)


def test_a_bad_configuration_of_one_host_stops_the_run_before_it_changes_anything(
    gateways: Fleet, site: Site, tmp_path: Path
) -> None:
    """The run fails with all that check finds, and no task has changed anything on any host."""
    mistakes = {"colour": "red", "routes": [{"name": "canteen", "user": "canteen", "backends": ["kitchen"]}]}
    changes = _inventory(tmp_path, {"gateway-3": {"fingergw_config_other": mistakes}})
    before = {name: process(gateways, name) for name in gateways.addresses}

    play = site.play(gateways, *changes, check=False)

    assert play.returncode != 0
    assert (play.hosts["gateway-3"].failed, {host.changed for host in play.hosts.values()}) == (1, {0})
    assert "colour" in play.output
    assert "kitchen" in play.output
    assert "Roll out" not in play.output
    assert {name: process(gateways, name) for name in gateways.addresses} == before


@pytest.mark.parametrize("changes", [CRASHES, ANSWERS_NOTHING], ids=["crashes", "answers wrongly"])
def test_a_bad_release_stops_at_the_first_host(
    gateways: Fleet, site: Site, changes: Mapping[str, tuple[str, str]], request: pytest.FixtureRequest
) -> None:
    """The first host serves again what it did, with its release and configuration; the others are untouched."""
    hosts = ("gateway-1", "gateway-2")
    (bad,) = {install_bad(gateways, name, changes) for name in hosts}
    variables = {
        "fingergw_release": bad,
        "fingergw_config_other": {"backends": {"canteen": {"type": "static", "text": "Stew."}}},
        "fingergw_ready_timeout": 2,
    }
    old = release(gateways, "gateway-1")
    configuration = gateways.ssh("gateway-1", "cat /etc/fingergw/fingergw.toml")
    before = process(gateways, "gateway-2")
    with _asked(gateways) as load:
        play = site.play(gateways, extra_vars=variables, limit=",".join(hosts), check=False)
        answered = load.wait_for_answers().stop()
    lost = _told(f"bad release that {request.node.callspec.id}", answered, play)

    assert play.returncode != 0
    assert {name: host.failed for name, host in play.hosts.items()} == {"gateway-1": 1, "gateway-2": 0}
    assert "serves again what it did before" in play.output
    assert (release(gateways, "gateway-1"), release(gateways, "gateway-2")) == (old, old)
    assert gateways.ssh("gateway-1", "cat /etc/fingergw/fingergw.toml") == configuration
    assert gateways.ssh("gateway-1", f"systemctl is-active {UNIT}") == "active\n"
    assert process(gateways, "gateway-2") == before
    # a release that does not start has nobody wait for longer than it takes to go back; one that answers is heard
    wrongly = set() if changes is CRASHES else {("gateway-1", FAST)}
    assert {(each.target, each.query) for each in lost} == wrongly


def test_ports_and_settings_come_change_and_go(gateways: Fleet, site: Site, tmp_path: Path) -> None:
    """Ports are opened, moved and closed, and what takes a restart gets one; port 79 loses nothing meanwhile."""
    more = {"name": "more", "endpoint": "systemd:domain=INET6:name=more"}
    other = {"name": "other", "endpoint": "systemd:domain=INET6:name=other"}
    own = {"name": "own", "endpoint": "tcp:1079"}
    opened = _inventory(
        tmp_path,
        {
            "gateway-1": {
                "fingergw_sockets_o": {"more": 1079, "other": 3079},
                "fingergw_config_o": {"listeners": [more, other]},
            },
            "gateway-2": {
                "fingergw_service_settings": {"MemoryMax": "512M"},
                "fingergw_config_o": {"limits": {"answer_timeout": 60}, "listeners": [own]},
            },
        },
    )
    both: dict[str, Any] = {"extra_vars": AT_ONCE, "limit": "gateway-1,gateway-2"}
    with _asked(gateways) as load:
        opening = site.play(gateways, *opened, **both)
        open_ports = [_ports(gateways, name) for name in ("gateway-1", "gateway-2")]
        set_up = properties(gateways, "gateway-2", UNIT, "MemoryMax", "TimeoutStopUSec")
        moved = _inventory(
            tmp_path,
            {
                "gateway-1": {"fingergw_sockets_o": {"more": 2079}, "fingergw_config_o": {"listeners": [more]}},
                "gateway-2": {"fingergw_config_o": {"listeners": [{**own, "endpoint": "tcp:1079:backlog=77"}]}},
            },
        )
        moving = site.play(gateways, *moved, **both)
        moved_ports = [_ports(gateways, name) for name in ("gateway-1", "gateway-2")]
        unset = properties(gateways, "gateway-2", UNIT, "MemoryMax", "TimeoutStopUSec")
        answered = load.wait_for_answers().stop()

    assert not _told("ports opened, moved and closed, settings", answered, opening, moving)
    assert open_ports == [{"79", "1079", "3079"}, {"79", "1079"}]
    assert set_up == [str(512 * 2**20), "1min 5s"]
    assert moved_ports == [{"79", "2079"}, {"79", "1079"}]
    assert unset == ["infinity", "30s"]
    left = "ls /etc/systemd/system | grep fingergw-other; systemctl is-active fingergw-other.socket"
    assert gateways.ssh("gateway-1", left, check=False) == "inactive\n"
    assert gateways.ssh("gateway-2", "ss -Hltn 'sport = :1079'").split()[2] == "77"
    with Load(gateways, {"gateway-1:2079": {FAST: HAPPY}}) as load:
        load.wait_for_answers()


def _ports(fleet: Fleet, name: str) -> set[str]:
    """Return the ports that the gateway has on a host, but the one for its operator."""
    listening = fleet.ssh(name, "ss -Hltnp | grep fingergw")
    return set(re.findall(r":(\d+) ", listening)) - {"9179"}
