"""The roles of what gateways share: Redis, HAProxy, Prometheus; what they render is given to these programs."""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trustme
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.trial.unittest import TestCase

from fingergw.cache.redis import RedisStore
from fingergw.cache.shares import Owner
from fingergw.cache.store import Found
from fingergw.net.trust import authorities, over_tls
from tests.support.processes import ROOT
from tests.support.redis_server import needs_redis
from tests.support.sockets import free_port
from tests.support.waiting import DEADLINE_SECONDS, reactor, wait_until

ROLES = ROOT / "ansible" / "roles"
PLAYBOOK = Path(sys.executable).with_name("ansible-playbook")
PASSWORD = "a-\"quoted\"-and-'odd'-one\\"
TEMPLATES = {
    "fingergw_redis": ["fingergw.conf", "fingergw.acl"],
    "fingergw_haproxy": ["haproxy.cfg"],
    "fingergw_prometheus": ["prometheus.yml"],
}
# Gateways of an inventory: one with an address of its own, one with an IPv6 address, one that has only its name.
GATEWAYS = {"gateway-1": {"ansible_host": "192.0.2.1"}, "gateway-2": {"ansible_host": "2001:db8::2"}, "127.0.0.3": {}}

pytestmark = pytest.mark.skipif(not PLAYBOOK.exists(), reason="ansible-core is not installed")


class Issued(NamedTuple):
    authority: trustme.CA
    leaf: trustme.LeafCert


def play(folder: Path, tasks: list[dict[str, Any]], variables: dict[str, Any], *arguments: str) -> str:
    """Run tasks on this machine, as one host beside the inventory's gateways; return what is printed."""
    hosts = {"shared": {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}}
    inventory = {"all": {"hosts": hosts, "children": {"fingergw": {"hosts": GATEWAYS}}}}
    Path(folder, "inventory.json").write_text(json.dumps(inventory))
    Path(folder, "variables.json").write_text(json.dumps(variables))
    Path(folder, "play.json").write_text(json.dumps([{"hosts": "shared", "gather_facts": False, "tasks": tasks}]))
    command = [str(PLAYBOOK), "-i", "inventory.json", "-e", "@variables.json", "play.json", *arguments]
    environment = {**os.environ, "ANSIBLE_ROLES_PATH": str(ROLES), "ANSIBLE_HOME": str(folder), "LC_ALL": "C.UTF-8"}
    ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)
    return ran.stdout + ran.stderr


@pytest.fixture(scope="module")
def issued() -> Issued:
    """Return a certificate for Redis."""
    authority = trustme.CA()
    return Issued(authority, authority.issue_cert("localhost"))


@pytest.fixture(scope="module")
def rendered(issued: Issued, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the roles' templates, with their defaults, into a folder."""
    folder = tmp_path_factory.mktemp("rendered")
    variables = {
        "fingergw_prometheus_alertmanagers": ["localhost:9093"],
        "fingergw_redis_password": PASSWORD,
        "fingergw_redis_bind": ["127.0.0.1"],
        "fingergw_redis_port": free_port(),
        "fingergw_redis_tls_certificate": issued.leaf.cert_chain_pems[0].bytes().decode(),
        "fingergw_redis_tls_key": issued.leaf.private_key_pem.bytes().decode(),
        "__fingergw_prometheus_rules": str(ROOT / "ansible" / "monitoring" / "alerts.yml"),
    }
    load = [ROLES / role / kind / "main.yml" for role in TEMPLATES for kind in ("defaults", "vars")]
    files = [ROLES / role / "templates" / f"{name}.j2" for role, names in TEMPLATES.items() for name in names]
    texts = ", ".join(f"'{file.stem}': lookup('ansible.builtin.template', '{file}')" for file in files)
    content = f"{{{{ {{{texts}}} | to_json }}}}"
    tasks: list[dict[str, Any]] = [{"ansible.builtin.include_vars": str(file)} for file in load]
    printed = play(folder, [*tasks, {"ansible.builtin.copy": {"content": content, "dest": f"{folder}/all"}}], variables)
    assert "failed=0" in printed, printed
    for name, text in json.loads((folder / "all").read_text()).items():
        (folder / name).write_text(text)
    issued.leaf.private_key_and_cert_chain_pem.write_to_path(str(folder / "fingergw.pem"))
    return folder


@pytest.mark.skipif(shutil.which("haproxy") is None, reason="haproxy is not installed")
def test_haproxy_takes_its_configuration(rendered: Path) -> None:
    """HAProxy finds no mistake in the configuration for an inventory's gateways, whatever their addresses look like."""
    text = (rendered / "haproxy.cfg").read_text()
    assert "server gateway-1 192.0.2.1:1079 check port 9179" in text
    assert "server gateway-2 2001:db8::2:1079 check port 9179" in text
    checked = subprocess.run(["haproxy", "-c", "-f", "haproxy.cfg"], cwd=rendered, capture_output=True, text=True)
    assert (checked.returncode, "WARNING" in checked.stderr) == (0, False), checked.stdout + checked.stderr


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_prometheus_takes_its_configuration(rendered: Path) -> None:
    """Promtool finds no mistake in the configuration with its rules, and IPv6 addresses are in brackets."""
    text = (rendered / "prometheus.yml").read_text()
    assert '["192.0.2.1:9179", "[2001:db8::2]:9179", "127.0.0.3:9179"]' in text
    checked = subprocess.run(
        ["promtool", "check", "config", "prometheus.yml"], cwd=rendered, capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize(
    ("variables", "refusal"),
    [
        ({"fingergw_redis_bind": ["127.0.0.1", "192.0.2.1"]}, "without TLS"),
        ({"fingergw_redis_password": "short"}, "16 printable"),
    ],
)
def test_redis_in_the_open_is_refused(variables: dict[str, Any], refusal: str, tmp_path: Path) -> None:
    """An address off the loopback without TLS, or a password to guess, ends the play before anything is installed."""
    role = {"ansible.builtin.include_role": {"name": "fingergw_redis"}}
    printed = play(tmp_path, [role], {"fingergw_redis_password": PASSWORD, **variables}, "--check")
    assert "failed=1" in printed, printed
    assert (refusal in " ".join(printed.split()), PASSWORD in printed, "Install" in printed) == (True, False, False)


@needs_redis
class RedisRole(TestCase):
    """A real Redis that reads what the role writes, and the gateway's own store."""

    timeout = 60

    @pytest.fixture(autouse=True)
    def redis(self, issued: Issued, rendered: Path, tmp_path: Path) -> Iterator[None]:
        """Start Redis with TLS on the loopback."""
        self.authority = issued.authority
        text = (rendered / "fingergw.conf").read_text()
        self.port = int(text.partition("tls-port ")[2].split()[0])
        configuration = tmp_path / "fingergw.conf"
        configuration.write_text(text.replace("/etc/redis", str(rendered)).replace("/var/lib/redis", str(tmp_path)))
        with (tmp_path / "log").open("wb") as log:
            server = subprocess.Popen(["redis-server", str(configuration)], stdout=log)
        try:
            wait_until(lambda: server.poll() is not None or self._listens(), "Redis")
            assert server.poll() is None, (tmp_path / "log").read_text()
            yield
        finally:
            server.kill()
            server.wait()

    def _listens(self) -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", self.port)) == 0

    def _say(self, words: bytes) -> bytes:
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        with (
            socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE_SECONDS) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as client,
        ):
            client.sendall(words)
            return client.recv(1000)

    async def test_store(self) -> None:
        """The gateway's store keeps and finds values as the user fingergw, who may do nothing else."""
        trust = authorities(self.authority.cert_pem.bytes())
        endpoint = over_tls(TCP4ClientEndpoint(reactor, "127.0.0.1", self.port), "localhost", trust)
        store = RedisStore(endpoint, 0, "fingergw", PASSWORD, 1000, time.monotonic)
        self.addCleanup(lambda: started(store.close()))
        await store.open()
        assert await store.claim("fingergw:1:key", "", 60.0, waited=False) == "granted"
        await store.put("fingergw:1:key", b"value", 60.0, missing=False, owner=Owner("", ""))
        found = await store.claim("fingergw:1:key", "", 60.0, waited=False)
        assert isinstance(found, Found)
        assert found.value == b"value"
        await store.drop("fingergw:1:key")

    def test_others(self) -> None:
        """Without the password nothing can be asked; with it other keys and administration are refused."""
        assert self._say(b"PING\r\n").startswith(b"-NOAUTH")
        quoted = json.dumps(PASSWORD).encode()
        for words in (b"SET other 1", b"FLUSHALL", b"CONFIG GET *", b"KEYS *"):
            replies = self._say(b"AUTH fingergw " + quoted + b"\r\n" + words + b"\r\n")
            assert replies.startswith(b"+OK\r\n-NOPERM"), (words, replies)


def started(work: Awaitable[Any]) -> Deferred[Any]:
    """Start what would wait for its result."""
    return Deferred.fromCoroutine(work)  # type: ignore[arg-type]  # all of these are coroutines
