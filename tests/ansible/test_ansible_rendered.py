"""What the role writes for the example's hosts and for odd ones, by its own tasks in one run of real Ansible."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import pytest
import yaml  # type: ignore[import-untyped]
from ansible.parsing.vault import VaultLib, VaultSecret  # type: ignore[import-untyped]

from tests.support.ansible_role import ROLE, ansible, load
from tests.support.processes import COMMAND, run
from tests.support.waiting import DEADLINE_SECONDS

CHECK: Any = load("library/fingergw_check.py")
SECRET = "5ecret-rota-t0ken"
SEALED = {"secret": SECRET, "text": "Not for everyone"}
VAULT_PASSWORD = "a vault's password"
EXAMPLES = ("gateway-1", "gateway-2", "gateway-3")
# Put in the place of what writes: it does so in Ansible's own process, below the folder, whoever runs it.
WRITE = """
from pathlib import Path
from ansible.plugins.action import ActionBase

class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        task = self._task.args
        contents = task["contents"] if "contents" in task else {"": task["content"]}
        for name, text in contents.items():
            place = Path(task["place"], name)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
            place.chmod(int(task.get("mode", "0644"), 8))
        return {"changed": True, "contents": contents}
"""
INVENTORY = f"""
others:
  hosts:
    odd:
      a_port: 79
      fingergw_config:
        listeners:
          - {{ name: public, endpoint: "systemd:domain=INET6:name=public", decoy: true }}
          - {{ name: front, endpoint: "haproxy:systemd:domain=INET6:name=front", trusted_proxies: [192.0.2.10/32] }}
          - {{ name: one.ad-dress, endpoint: "systemd:domain=INET:name=one.ad-dress" }}
        routes:
          - {{ user: text, backends: [text] }}
        backends:
          text:
            type: static
            text: "79"
          old: {{ type: finger, host: localhost, port: "{{{{ a_port }}}}", timeout: 0.5 }}
          braces:
            type: http
            url: "http://localhost/"
            template: !unsafe "{{{{ name }}}} {{% if a %}}é{{% endif %}}"
          entries: {{ type: static, entries: {{ yes-and-no: "no", empty: "", controls: "a\\tb\\u0007\\"\\\\\\n\\n" }} }}
        log: {{}}
        limits: {{ rate: {{ queries: 60, per: 60, burst: 20 }}, answer_timeout: 25.5 }}
      fingergw_config_later:
        listeners:
          - {{ name: public, decoy: "{{{{ a_port == 80 }}}}" }}
        backends:
          sealed: {{ type: static, text: !vault "SEALED text" }}
      fingergw_sockets: {{ public: 79, front: "1079", one.ad-dress: "192.0.2.1:79" }}
      fingergw_service_settings: {{ MemoryMax: 512M, IPAccounting: true, TasksMax: 200 }}
      fingergw_files: {{ lines.txt: "one\\ntwo", table.toml: {{ a: [1, {{ b: 1.5 }}], c: "{{{{ a_port }}}}" }} }}
      fingergw_secrets: {{ rota.token: !vault "SEALED secret" }}
    wrong:
      fingergw_config: {{ listeners: [{{ endpoint: tcp:0, allw: [] }}] }}
      fingergw_secrets: {{ rota.token: {SECRET} }}
    nothing:
      fingergw_config: {{ listeners: [{{ endpoint: tcp:0 }}], backends: {{ rota: {{ timeout: }} }} }}
    misfit:
      fingergw_config: {{ listeners: [{{ endpoint: "systemd:domain=INET6:name=public" }}] }}
      fingergw_files: {{ ../people.toml: "" }}
    mistyped:
      fingergw_keep_releases: many
      fingergw_secrets: {SECRET}
"""


class Rendered(NamedTuple):
    """What came of it.

    :param folder: has a folder for each host, which stands for the host's root.
    :param output: what Ansible printed.
    """

    folder: Path
    output: str

    def unit(self, host: str, name: str) -> str:
        """Return the text of a file in systemd's folder."""
        return self.folder.joinpath(host, "etc/systemd/system", name).read_text()

    def configuration(self, host: str) -> dict[str, Any]:
        """Return a host's configuration."""
        return tomllib.loads(self.folder.joinpath(host, "etc/fingergw/fingergw.toml").read_text())

    def said(self, host: str) -> str:
        """Return what made a host fail, in one line."""
        parts = re.split(r"^(?=(?:fatal|changed|ok|skipping): |TASK |PLAY )", self.output, flags=re.MULTILINE)
        (said,) = (part for part in parts if part.startswith(f"fatal: [{host}]"))
        return " ".join(said.replace("\\n", " ").split())


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Rendered:
    """Have the role's tasks write all files below a folder, for each host of the example and for the others above."""
    folder = tmp_path_factory.mktemp("rendered")
    role = folder / "roles/fingergw"
    for part in ("tasks", "action_plugins"):
        role.joinpath(part).mkdir(parents=True)
    for part in ("defaults", "files", "filter_plugins", "library", "meta", "vars"):
        role.joinpath(part).symlink_to(ROLE / part)
    role.joinpath("action_plugins/write_here.py").write_text(WRITE)
    for entry in ("prepare", "install"):
        role.joinpath(f"tasks/{entry}.yml").symlink_to(ROLE / f"tasks/{entry}.yml")
    role.joinpath("tasks/written.yml").write_text(json.dumps(_tasks(folder)))

    vault = folder / "vault"
    vault.write_text(VAULT_PASSWORD)
    sealing = VaultLib([("default", VaultSecret(VAULT_PASSWORD.encode()))])
    sealed = {name: json.dumps(sealing.encrypt(text).decode()) for name, text in SEALED.items()}
    inventory = folder / "others.yml"
    inventory.write_text(re.sub(r'"SEALED (\w+)"', lambda found: sealed[found[1]], INVENTORY))

    mistyped = {
        "include_role": {"name": "fingergw", "tasks_from": "prepare"},
        "when": "inventory_hostname == 'mistyped'",
    }
    tasks = [mistyped, {"include_role": {"name": "fingergw", "tasks_from": "written"}}]
    playbook = folder / "play.json"
    playbook.write_text(json.dumps([{"hosts": "fingergw:others", "gather_facts": False, "tasks": tasks}]))
    variables = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "__fingergw_chosen": "this",
        "__fingergw_chosen_folder": str(Path(sys.executable).parent.parent),
        "__fingergw_info": {"releases": ["this"], "sockets": []},
    }
    ran = ansible(
        "ansible-playbook",
        "--diff",
        "-vvv",
        "--inventory=inventory/example",
        f"--inventory={inventory}",
        f"--vault-password-file={vault}",
        f"--extra-vars={json.dumps(variables)}",
        playbook,
        home=folder,
    )
    return Rendered(folder, ran.stdout + ran.stderr)


def _tasks(folder: Path) -> list[dict[str, Any]]:
    """Return the role's tasks that write files, in their order, with other places and nothing that takes root."""
    tasks: list[dict[str, Any]] = [
        {**task, "when": f"{task.get('when', True)} and inventory_hostname in ['wrong', 'misfit']"}
        for task in yaml.safe_load((ROLE / "tasks/prepare.yml").read_text())
        if task["name"] in ("See that the variables fit together, and what is there", "Check the configuration")
    ]
    assert len(tasks) == 2
    for step in ("files", "units"):
        for task in yaml.safe_load((ROLE / f"tasks/{step}.yml").read_text()):
            for action, place in (("ansible.builtin.copy", "dest"), ("fingergw_write", "folder")):
                if action in task:
                    kept = {name: task[name] for name in task if name not in ("notify", "register", action)}
                    written = {
                        name: task[action][name] for name in task[action] if name in ("content", "contents", "mode")
                    }
                    written["place"] = f"{folder}/{{{{ inventory_hostname }}}}{task[action][place]}"
                    tasks.append({**kept, "write_here": written})
    assert len(tasks) == 7
    return tasks


def test_all_hosts_come_to_their_end(rendered: Rendered) -> None:
    """Those with mistakes fail, each once, and no other; Ansible warns of nothing."""
    failed = dict(re.findall(r"^(\S+) +: ok=.* failed=(\d)", rendered.output, re.MULTILINE))
    mistaken = dict.fromkeys(("misfit", "mistyped", "nothing", "wrong"), "1")
    assert failed == {**dict.fromkeys((*EXAMPLES, "odd"), "0"), **mistaken}, rendered.output
    assert "WARNING]" not in rendered.output


@pytest.mark.parametrize("host", EXAMPLES)
def test_check_finds_nothing(rendered: Rendered, host: str) -> None:
    """The files of each host of the example are what ``fingergw check`` wants; it does not warn of anything."""
    file = rendered.folder / host / "etc/fingergw/fingergw.toml"
    with mock.patch.dict(os.environ, CHECK.FOLDERS):
        checked = run(["check", "--strict", "--config", str(file)], command=COMMAND)
    assert (checked.returncode, checked.stderr) == (0, ""), checked.stdout + checked.stderr


def test_groups_and_hosts_have_their_own(rendered: Rendered) -> None:
    """Berlin has a canteen, before the route for everything else; Boston's host another text for the rota."""
    berlin, other, boston = (rendered.configuration(host) for host in EXAMPLES)
    assert berlin == other
    assert [route["name"] for route in berlin["routes"]] == ["canteen", "index", "oncall", "help", "people"]
    assert [route["name"] for route in boston["routes"]] == ["index", "oncall", "help", "people"]
    assert "canteen" not in boston["backends"]
    desks = [configuration["backends"]["rota-down"]["text"][-5:] for configuration in (berlin, boston)]
    assert desks == ["1234.", "5678."]
    assert boston["backends"]["rota-down"]["type"] == "static"


def test_values_keep_their_types(rendered: Rendered) -> None:
    """Numbers and booleans do, templated or not; texts that look like them stay texts; braces that are unsafe stay."""
    assert rendered.configuration("odd") == {
        "listeners": [
            {"name": "public", "endpoint": "systemd:domain=INET6:name=public", "decoy": False},
            {
                "name": "front",
                "endpoint": "haproxy:systemd:domain=INET6:name=front",
                "trusted_proxies": ["192.0.2.10/32"],
            },
            {"name": "one.ad-dress", "endpoint": "systemd:domain=INET:name=one.ad-dress"},
        ],
        "routes": [{"user": "text", "backends": ["text"]}],
        "backends": {
            "text": {"type": "static", "text": "79"},
            "old": {"type": "finger", "host": "localhost", "port": 79, "timeout": 0.5},
            "braces": {"type": "http", "url": "http://localhost/", "template": "{{ name }} {% if a %}é{% endif %}"},
            "entries": {
                "type": "static",
                "entries": {"yes-and-no": "no", "empty": "", "controls": 'a\tb\a"\\\n\n'},
            },
            "sealed": {"type": "static", "text": SEALED["text"]},
        },
        "log": {},
        "limits": {"rate": {"queries": 60, "per": 60, "burst": 20}, "answer_timeout": 25.5},
    }


def test_files_and_secrets(rendered: Rendered) -> None:
    """Texts are written to the letter, tables as TOML, secrets for the gateway alone."""
    etc = rendered.folder / "odd/etc/fingergw"
    assert (etc / "lines.txt").read_text() == "one\ntwo"
    assert tomllib.loads((etc / "table.toml").read_text()) == {"a": [1, {"b": 1.5}], "c": 79}
    assert (etc / "secrets/rota.token").read_text() == SECRET
    modes = {name: f"{(etc / name).stat().st_mode & 0o777:o}" for name in ("lines.txt", "secrets/rota.token")}
    assert modes == {"lines.txt": "644", "secrets/rota.token": "400"}


@pytest.mark.parametrize(
    ("host", "says"),
    [
        ("nothing", "backends.rota.timeout is empty: give it a value, or leave it out"),
        ("misfit", "fingergw_sockets has no port for public, which a listener takes"),
        ("misfit", "'../people.toml' in fingergw_files cannot name a file"),
        ("mistyped", "argument 'fingergw_keep_releases' is of type str and we were unable to convert to int"),
        ("mistyped", "argument 'fingergw_secrets' is of type str and we were unable to convert to dict"),
        ("wrong", "The configuration has mistakes, and nothing was changed:"),
        ("wrong", 'fingergw.toml:4: listeners[0].allw: unknown key "allw"; did you mean "allow"?'),
    ],
)
def test_a_mistake_says_what_it_is(rendered: Rendered, host: str, says: str) -> None:
    """A host with a mistake in its variables fails with all of them listed, and has nothing written."""
    assert says in rendered.said(host)
    assert not rendered.folder.joinpath(host).exists()


def test_secrets_are_in_no_output(rendered: Rendered) -> None:
    """Neither those that are written nor those of hosts that fail are, with all that Ansible can print."""
    assert SECRET not in rendered.output
    assert "REDACTED" in rendered.output or "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER" in rendered.output


def test_the_unit_of_public_is_the_one_that_is_shipped(rendered: Rendered) -> None:
    """So are the service and the rule for logrotate, to the letter."""
    for name in ("fingergw-public.socket", "fingergw.service"):
        assert rendered.unit("gateway-1", name) == (ROLE / "files/systemd" / name).read_text()
    rule = rendered.folder / "gateway-1/etc/logrotate.d/fingergw"
    assert rule.read_text() == (ROLE / "files/logrotate").read_text()


def test_each_listener_has_its_own_port(rendered: Rendered) -> None:
    """Sockets differ by name, address and what they are called; the example's host has no settings of its own."""
    for name, address in {"public": "79", "front": "1079", "one.ad-dress": "192.0.2.1:79"}.items():
        unit = rendered.unit("odd", f"fingergw-{name}.socket")
        assert re.findall(r"(?m)^ListenStream=(.*)$", unit) == [address]
        assert re.findall(r"(?m)^FileDescriptorName=(.*)$", unit) == [name]
        assert ("public" in unit) == (name == "public")


def test_settings_come_last_in_the_service(rendered: Rendered) -> None:
    """They win over those of the unit that is shipped, which is otherwise as it was."""
    settings = "# From the inventory.\nTimeoutStopSec=31\nMemoryMax=512M\nIPAccounting=True\nTasksMax=200\n\n"
    unit = rendered.unit("odd", "fingergw.service")
    assert unit.replace(settings, "") == (ROLE / "files/systemd/fingergw.service").read_text()
    assert unit.index("[Service]") < unit.index(settings) < unit.index("[Install]")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_takes_the_units(rendered: Rendered, tmp_path: Path) -> None:
    """It says nothing of the service, its settings and all sockets, as it would of a key that it does not know."""
    units = tmp_path / "units"
    shutil.copytree(rendered.folder / "odd/etc/systemd/system", units)
    service = units / "fingergw.service"
    service.write_text(service.read_text().replace("/opt/fingergw/current/bin/fingergw", "/bin/true"))
    assert _verify(units) == ""

    service.write_text(service.read_text().replace("MemoryMax=", "MemoryMx="))
    assert "MemoryMx" in _verify(units)


def _verify(units: Path) -> str:
    """Return what ``systemd-analyze verify`` says of units."""
    files = sorted(path for path in units.iterdir() if path.is_file())
    command = ["systemd-analyze", "--no-pager", "verify", "--man=no", *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=DEADLINE_SECONDS)
    return done.stdout + done.stderr
