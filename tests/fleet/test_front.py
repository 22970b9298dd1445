"""Three gateways behind one address, with one cache, and a Prometheus that watches them; what each failure costs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import attrs
import pytest
import trustme

from tests.fleet.conftest import ANSWERS, PAGES, TOKEN, Deployed, Site
from tests.fleet.hosts import Fleet, Layers
from tests.fleet.load import Load, Lost
from tests.fleet.marks import HOSTS
from tests.fleet.playbook import PLAYBOOKS, Play
from tests.fleet.upstream import Page, Upstream
from tests.support.waiting import wait_until

pytestmark = HOSTS

INVENTORY = Path(__file__).parent / "front"
GATEWAYS = ("gateway-1", "gateway-2", "gateway-3")
FRONT, SHARED = "gateway-4", "gateway-5"
PASSWORD = "a-password-that-only-gateways-know"
SLOW = 9
TTL_SECONDS = 2.0
# A request's time is taken when it has arrived: so much earlier than it was sent the next one may seem to come.
TOLERANCE_SECONDS = 0.05
KEYS = {f"key-{number}": f"the value of {number}" for number in range(4)}


@attrs.frozen
class Front:
    """What became of the runs that set the front up.

    :param arguments: what a run is given so that it knows of it.
    :param first: the run on gateways that serve by themselves, and on two bare hosts.
    :param second: the same again, on the hosts that are new.
    :param layers: the five hosts after them.
    """

    arguments: tuple[str, ...]
    first: Play
    second: Play
    layers: Layers


@pytest.fixture(scope="session")
def front(site: Site, deployed: Deployed, tmp_path_factory: pytest.TempPathFactory) -> Front:
    """Put the front before three gateways that serve already."""
    authority = trustme.CA()
    issued = authority.issue_cert("10.79.0.15")
    folder = tmp_path_factory.mktemp("front")
    variables = folder / "vault.json"
    variables.write_text(
        json.dumps(
            {
                "authority": authority.cert_pem.bytes().decode(),
                "certificate": issued.cert_chain_pems[0].bytes().decode(),
                "vault_redis_key": issued.private_key_pem.bytes().decode(),
                "vault_redis_password": PASSWORD,
            }
        )
    )
    program = Path(sys.executable).with_name("ansible-vault")
    subprocess.run(
        [program, "encrypt", "--vault-password-file", site.password, variables],
        check=True,
        capture_output=True,
        timeout=60,
    )
    arguments = ("-i", str(INVENTORY), "--extra-vars", f"@{variables}")
    for layer in deployed.layers.folders:
        for name in (FRONT, SHARED):
            layer.joinpath(name).mkdir(exist_ok=True)
    with Fleet(deployed.layers, count=5) as fleet, Upstream(fleet, PAGES):
        at_once = {"fingergw_serial": len(GATEWAYS)}
        first = site.play(fleet, *arguments, "--diff", extra_vars=at_once)
        second = site.play(fleet, *arguments, extra_vars=at_once, limit=f"{FRONT},{SHARED}")
        return Front(arguments, first, second, fleet.keep(folder / "layers"))


@pytest.fixture
def fronted(front: Front) -> Iterator[Fleet]:
    """Start five hosts of the test's own: gateways, the front, and what they share."""
    with Fleet(front.layers, count=5) as fleet:
        yield fleet


@pytest.fixture
def asked(fronted: Fleet) -> Iterator[Upstream]:
    """Start what the gateways ask."""
    with Upstream(fronted, PAGES) as upstream:
        yield upstream


@pytest.fixture
def load(fronted: Fleet, asked: Upstream) -> Iterator[Load]:
    """Ask the front for fast, slow and shared answers, from many clients at once."""
    asked.set({f"/shared/{key}": Page(value, delay=0.2) for key, value in KEYS.items()})
    with Load(fronted, {FRONT: ANSWERS | KEYS}, threads={"slow": SLOW}, pause=0.2) as load:
        yield load.wait_for_answers()


def _service(fleet: Fleet, name: str, command: str) -> float:
    """Have systemd do something; return when that was done, in seconds since 1970."""
    return float(fleet.ssh(name, f"systemctl {command} && date +%s.%N"))


def test_one_run_sets_all_up_and_the_same_again_changes_nothing(front: Front) -> None:
    """Gateways, front, cache and Prometheus come from one command, which says nothing of the secrets."""
    hosts = {*GATEWAYS, FRONT, SHARED}
    assert {name for name, recap in front.first.hosts.items() if recap.changed} == hosts
    assert {name: recap.changed for name, recap in front.second.hosts.items()} == {FRONT: 0, SHARED: 0}
    assert [secret for secret in (PASSWORD, TOKEN, "PRIVATE KEY") if secret in front.first.output] == []


def test_clients_behind_the_front_share_one_cache_and_prometheus_sees_it(fronted: Fleet, asked: Upstream) -> None:
    """Logs have the client's own address; what one gateway fetched all have; Redis is for gateways alone."""
    asked.set({"/shared/key-1": Page(KEYS["key-1"])})
    answer = fronted.ssh(SHARED, f"finger oncall@{FRONT}")
    for name in GATEWAYS:
        assert KEYS["key-1"] in fronted.run(["finger", f"key-1@{name}"]).stdout

    assert ANSWERS["oncall"] in answer
    wait_until(lambda: _logged(fronted, "oncall", fronted.addresses[SHARED]), "a line of the access log")
    assert len([request for request in asked.requests() if request.path == "/shared/key-1"]) == 1
    assert _redis(fronted, "ping").strip() == "PONG"
    assert "NOAUTH" in _redis(fronted, "ping", password="")
    assert "WRONGPASS" in _redis(fronted, "ping", password="not-the-password-at-all")
    assert "PONG" not in _redis(fronted, "ping", tls=False)

    wait_until(lambda: _scraped(fronted) == {f"{fronted.addresses[name]}:9179" for name in GATEWAYS}, "a look at all")
    wanted = re.findall(r"- alert: (\w+)", PLAYBOOKS.joinpath("monitoring/alerts.yml").read_text())
    loaded = _prometheus(fronted, "rules?type=alert")["groups"]
    assert {rule["name"] for group in loaded for rule in group["rules"]} == set(wanted)


def test_a_roll_out_behind_the_front_loses_nothing_and_asks_the_upstream_once(
    fronted: Fleet, asked: Upstream, load: Load, front: Front, site: Site
) -> None:
    """One of three restarts; each shared answer is asked for once in its time, by whichever gateway."""
    site.play(
        fronted,
        *front.arguments,
        extra_vars={"fingergw_service_settings": {"MemoryMax": "700M"}},
        limit="gateway-1",
    )
    result = load.stop()

    assert result.lost == []
    times = defaultdict(list)
    for request in asked.requests():
        if request.path.startswith("/shared/"):
            times[request.path].append(request.at)
    assert len(times) == len(KEYS)
    assert min(map(len, times.values())) >= 3
    gaps = [later - earlier for each in times.values() for earlier, later in pairwise(each)]
    assert [gap for gap in gaps if gap < TTL_SECONDS - TOLERANCE_SECONDS] == []


def test_gateways_go_on_without_their_cache(fronted: Fleet, load: Load) -> None:
    """Redis is stopped and started: no query is lost, and gateways share again what they fetch."""
    _service(fronted, SHARED, "stop redis-server")
    load.wait_for_answers(times=10)
    _service(fronted, SHARED, "start redis-server")
    load.wait_for_answers()
    wait_until(lambda: "keys=" in _redis(fronted, "info keyspace"), "an answer that is shared")
    assert load.stop().lost == []


def test_a_reload_of_the_front_loses_nothing_and_a_stop_what_comes_meanwhile(fronted: Fleet, load: Load) -> None:
    """Connections that HAProxy has are kept through a reload; a stop ends them, until it is started again."""
    _service(fronted, FRONT, "reload haproxy")
    load.wait_for_answers()
    _service(fronted, FRONT, "reload haproxy")
    load.wait_for_answers()
    reloaded = load.so_far()
    stopping = time.time()
    _service(fronted, FRONT, "stop haproxy")
    started = _service(fronted, FRONT, "start haproxy")
    load.wait_for_answers()
    result = load.stop()

    assert reloaded.lost == []
    assert result.lost != []
    assert [lost for lost in result.lost if not stopping - 1.5 < lost.at < started] == []


def test_a_gateway_that_lost_its_power_takes_what_it_was_answering_and_no_more(
    fronted: Fleet, asked: Upstream, load: Load
) -> None:
    """New queries go to the other gateways at once; it is asked again once it has booted."""
    wait_until(lambda: _is_answering_slowly(asked, fronted.addresses["gateway-2"]), "a query on its way")
    fronted.partition("gateway-2")
    gone = time.time()
    fronted.kill("gateway-2")
    load.wait_for_answers(times=5)
    fronted.start("gateway-2")
    log = "cat /var/log/fingergw/access.log | wc -l"
    before = int(fronted.ssh("gateway-2", log))
    wait_until(lambda: int(fronted.ssh("gateway-2", log)) > before + 10, "queries for the one that is back")
    result = load.stop()

    assert _asked_after(result.lost, gone) == []
    assert result.lost != []
    assert len(result.lost) <= SLOW + 2 * len(ANSWERS | KEYS)


@pytest.mark.usefixtures("asked")
def test_what_is_not_wanted_any_more_is_removed(fronted: Fleet, front: Front, site: Site) -> None:
    """Absent front, cache and Prometheus leave nothing of theirs; gateways go on by themselves."""
    roles = ("fingergw_redis", "fingergw_haproxy", "fingergw_prometheus")
    absent = {f"{role}_state": "absent" for role in roles}
    site.play(fronted, *front.arguments, extra_vars=absent, limit=f"{FRONT},{SHARED}")

    for name, port in ((FRONT, 79), (SHARED, 6379), (SHARED, 9090)):
        assert fronted.ssh(name, f"ss -Hltn sport = :{port}") == ""
    folders = "/etc/haproxy /etc/redis /etc/prometheus /var/lib/prometheus /var/lib/redis"
    left = f"ls -d {folders} 2>/dev/null; find /etc/systemd -name '*fingergw*'"
    assert [fronted.ssh(name, left) for name in (FRONT, SHARED)] == ["", ""]
    assert ANSWERS["oncall"] in fronted.run(["finger", "oncall@gateway-1"]).stdout


def _logged(fleet: Fleet, *words: str) -> list[str]:
    """Return the lines of all gateways' access logs that have some words."""
    lines = [line for name in GATEWAYS for line in fleet.ssh(name, "cat /var/log/fingergw/access.log").splitlines()]
    return [line for line in lines if all(word in line for word in words)]


def _is_answering_slowly(upstream: Upstream, address: str) -> bool:
    """Return whether a gateway has just asked for an answer that takes a second."""
    just = time.time() - 0.4
    return any(each.path == "/slow" and each.host == address and each.at > just for each in upstream.requests())


def _asked_after(lost: list[Lost], moment: float) -> list[Lost]:
    return [each for each in lost if each.at > moment]


def _scraped(fleet: Fleet) -> set[str]:
    """Return the addresses of the gateways that Prometheus has just seen."""
    targets = _prometheus(fleet, "targets?state=active")["activeTargets"]
    up = [target["labels"] for target in targets if target["health"] == "up"]
    return {labels["instance"] for labels in up if labels["job"] == "fingergw"}


def _prometheus(fleet: Fleet, path: str) -> Any:
    """Return what Prometheus says; it talks to its own host alone."""
    script = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1]).read().decode())"
    return json.loads(fleet.ssh(SHARED, f"python3 -c '{script}' 'http://127.0.0.1:9090/api/v1/{path}'"))["data"]


def _redis(fleet: Fleet, command: str, *, password: str = PASSWORD, tls: bool = True) -> str:
    """Return what Redis says to somebody on its own host."""
    options = ("--tls --insecure" if tls else "") + (" --user fingergw" if password else "")
    host = fleet.addresses[SHARED]
    environment = f"REDISCLI_AUTH={password} " if password else ""
    return fleet.ssh(SHARED, f"{environment}redis-cli -h {host} {options} {command} 2>&1", check=False)
