"""The playbooks as they are in the tree: what Ansible's own checkers say, and that the roles' papers agree."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from tests.support.ansible_role import ANSIBLE, ROLES, ansible
from tests.support.processes import ROOT

ALL_ROLES = sorted(role.name for role in ROLES.iterdir())


def test_lint(tmp_path: Path) -> None:
    """At its strictest profile ansible-lint finds nothing, and nothing is kept from it."""
    linted = ansible("ansible-lint", "--offline", "--nocolor", "--profile", "production", home=tmp_path)
    assert linted.returncode == 0, linted.stdout + linted.stderr
    assert "Passed: 0 failure(s), 0 warning(s)" in linted.stderr

    configurations = (".ansible-lint*", ".yamllint*", ".config/ansible-lint*", ".config/yamllint*")
    assert [path for folder in (ROOT, ANSIBLE) for name in configurations for path in folder.glob(name)] == []
    kept_from = re.compile(r"#\s*noqa|skip_ansible_lint|yamllint disable")
    texts = [path for ending in ("yml", "j2", "cfg") for path in ANSIBLE.rglob(f"*.{ending}")]
    assert [path for path in texts if kept_from.search(path.read_text())] == []


def test_syntax(tmp_path: Path) -> None:
    """Ansible reads all plays with the example's inventory, and warns of nothing."""
    read = ansible("ansible-playbook", "--syntax-check", "site.yml", home=tmp_path)
    assert (read.stdout.strip(), read.stderr, read.returncode) == ("playbook: site.yml", "", 0)


def test_example_inventory(tmp_path: Path) -> None:
    """It has three gateways in two groups, and their variables are those of their groups and their own."""
    listed = ansible("ansible-inventory", "--list", home=tmp_path)
    assert (listed.stderr, listed.returncode) == ("", 0)
    inventory = json.loads(listed.stdout)
    assert sorted(inventory["fingergw"]["children"]) == ["berlin", "boston"]
    assert inventory["berlin"]["hosts"] == ["gateway-1", "gateway-2"]
    assert inventory["boston"]["hosts"] == ["gateway-3"]
    layers = {
        name: {key for key in variables if key.startswith("fingergw_config")}
        for name, variables in inventory["_meta"]["hostvars"].items()
    }
    assert layers == {
        "gateway-1": {"fingergw_config", "fingergw_config_group_berlin"},
        "gateway-2": {"fingergw_config", "fingergw_config_group_berlin"},
        "gateway-3": {"fingergw_config", "fingergw_config_host"},
    }


def test_all_roles_are_looked_at() -> None:
    """The folder has the gateway and the three that stand around it, so that the tests below test something."""
    assert ALL_ROLES == ["fingergw", "fingergw_haproxy", "fingergw_prometheus", "fingergw_redis"]


@pytest.mark.parametrize("role", ALL_ROLES)
def test_defaults_are_those_of_the_specs(role: str) -> None:
    """Each variable that the specs name has the same default in the role, or must be given; there are no others."""
    defaults = yaml.safe_load((ROLES / role / "defaults/main.yml").read_text())
    for entry, options in specs(role).items():
        assert defaults == {name: option["default"] for name, option in options.items() if "default" in option}, entry
        assert all(("default" in option) != option.get("required", False) for option in options.values()), entry
        assert [name for name in options if not name.startswith(f"{role}_")] == [], entry


@pytest.mark.parametrize("role", ALL_ROLES)
def test_defaults_are_explained(role: str) -> None:
    """A comment stands above each default, or above the group of lines that it is in."""
    paragraphs = (ROLES / role / "defaults/main.yml").read_text().split("\n\n")
    unexplained = [
        name
        for paragraph in paragraphs
        for name in re.findall(r"^(\w+):", paragraph, re.MULTILINE)
        if "\n# " not in f"\n{paragraph}".partition(f"\n{name}:")[0]
    ]
    assert unexplained == []


@pytest.mark.parametrize("role", ALL_ROLES)
def test_readme_has_the_specs_as_a_table(role: str) -> None:
    """The README's table of variables is the one below: paste it there when it is not."""
    readme = (ROLES / role / "README.md").read_text()
    found = re.search(r"^\| variable .*\n(\|.*\n)+", readme, re.MULTILINE)
    assert found is not None, f"put this into its README:\n{table(role)}"
    assert found[0] == table(role), f"put this into its README:\n{table(role)}"


def specs(role: str) -> dict[str, dict[str, Any]]:
    """Return the options of a role's entry points."""
    read = yaml.safe_load((ROLES / role / "meta/argument_specs.yml").read_text())["argument_specs"]
    return {entry: spec["options"] for entry, spec in read.items()}


def table(role: str) -> str:
    """Return what a role's README has of its variables."""
    rows = ["| variable | type | default | meaning |", "| --- | --- | --- | --- |"]
    for name, option in specs(role)["main"].items():
        meaning = option["description"].replace("|", "\\|")
        rows.append(f"| `{name}` | {option['type']} | {_default(option)} | {meaning} |")
    return "\n".join(rows) + "\n"


def _default(option: dict[str, Any]) -> str:
    if "default" not in option:
        return "must be given"
    default = option["default"]
    return f"`{default if default and isinstance(default, str) else json.dumps(default)}`"
