"""Hosts for tests: fresh ones, and ones that have the gateway already."""

from __future__ import annotations

import fcntl
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs
import pytest

from tests.fleet.hosts import Fleet, Layers
from tests.fleet.observed import Process, process, traces
from tests.fleet.playbook import EXAMPLE, Play, RunningPlay, start_play
from tests.fleet.upstream import Page, Upstream
from tests.fleet.wheels import built

TOKEN = "a-token-of-the-rota-that-nobody-may-read"
INVENTORIES = (EXAMPLE, Path(__file__).parent / "inventory")
PAGES = {
    "/oncall": Page('{"name": "Ada", "until": "Friday"}', type="application/json"),
    "/slow": Page("slow done", delay=1.0),
}
# What the gateways answer, by query.
ANSWERS = {"moshez": "Happy and well", "oncall": "Ada is on call until Friday", "slow": "slow done"}


@attrs.frozen
class Site:
    """How the tests run ``site.yml``: with the example's inventory, the tests' own, and secrets from a vault.

    :param folder: has the encrypted variables, the file of the vault's password, and the controller's releases.
    :param package: what is deployed, if not the checkout: its wheel saves each run the time to build one.
    """

    folder: Path
    package: Path | None

    @property
    def password(self) -> Path:
        """Return the file of the vault's password."""
        return self.folder / "password"

    def start(
        self, fleet: Fleet, *arguments: str, extra_vars: Mapping[str, object] | None = None, limit: str = ""
    ) -> RunningPlay:
        """Start a run on a fleet."""
        return start_play(
            fleet,
            "site.yml",
            *("--vault-password-file", str(self.password), "--extra-vars", f"@{self.folder}/vault.yml"),
            *arguments,
            inventory=INVENTORIES,
            extra_vars={
                "fingergw_cache_folder": str(self.folder / "cache"),
                **({"fingergw_package": str(self.package)} if self.package else {}),
                **(extra_vars or {}),
            },
            limit=limit,
        )

    def play(
        self,
        fleet: Fleet,
        *arguments: str,
        extra_vars: Mapping[str, object] | None = None,
        limit: str = "",
        check: bool = True,
    ) -> Play:
        """Run it to its end."""
        return self.start(fleet, *arguments, extra_vars=extra_vars, limit=limit).wait(check=check)


@attrs.frozen
class Deployed:
    """The results of the first runs on three bare hosts, in order, and the hosts as they were afterwards.

    :param checked: of ``--check --diff`` on the first of them.
    :param first: of the deploy, with ``--diff``.
    :param second: of the same again, with all that Ansible can print.
    :param bare: what was on the first host, before and after check mode.
    :param processes: the gateways, before and after the last of them.
    :param layers: hosts that have the gateway.
    """

    checked: Play
    first: Play
    second: Play
    bare: tuple[str, str]
    processes: tuple[dict[str, Process], dict[str, Process]]
    layers: Layers


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Encrypt the secrets, as an operator does, and build the release."""
    folder = tmp_path_factory.mktemp("site")
    vault, password = folder / "vault.yml", folder / "password"
    vault.write_text(f"vault_rota_token: {TOKEN}\n")
    password.write_text("not a secret of anybody's\n")
    program = Path(sys.executable).with_name("ansible-vault")
    subprocess.run(
        [program, "encrypt", "--vault-password-file", password, vault], check=True, capture_output=True, timeout=60
    )
    return Site(folder, built(folder / "built"))


@pytest.fixture(scope="session")
def deployed(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Deployed:
    """Deploy the gateway to three bare hosts, once for all workers of a run of the tests."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "deployed"
    result = folder / "result"
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not result.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a worker whose deploy failed
            folder.mkdir()
            result.write_bytes(pickle.dumps(_deploy(site, folder / "layers")))
    found: Deployed = pickle.loads(result.read_bytes())
    return found


def _deploy(site: Site, layers: Path) -> Deployed:
    at_once = {"fingergw_serial": 3}  # that hosts take turns is for the tests of changes
    with Fleet() as fleet, Upstream(fleet, PAGES):
        bare = traces(fleet, "gateway-1")
        checked = site.play(fleet, "--check", "--diff", limit="gateway-1")
        after = traces(fleet, "gateway-1")
        first = attrs.evolve(site, package=None).play(fleet, "--diff", extra_vars=at_once)
        processes = {name: process(fleet, name) for name in fleet.addresses}
        second = site.play(fleet, "--diff", "-vvv", extra_vars=at_once)
        return Deployed(
            checked=checked,
            first=first,
            second=second,
            bare=(bare, after),
            processes=(processes, {name: process(fleet, name) for name in fleet.addresses}),
            layers=fleet.keep(layers),
        )


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    """Start three fresh hosts of the test's own."""
    with Fleet() as fleet:
        yield fleet


@pytest.fixture
def gateways(deployed: Deployed) -> Iterator[Fleet]:
    """Start three hosts of the test's own that have the gateway."""
    with Fleet(deployed.layers) as fleet:
        yield fleet


@pytest.fixture
def upstream(gateways: Fleet) -> Iterator[Upstream]:
    """Start what the gateways ask."""
    with Upstream(gateways, PAGES) as upstream:
        yield upstream
