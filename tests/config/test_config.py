"""The configuration file: what is read from it, what it leaves out, and what its paths are relative to."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from typing import Any

import attrs
import pytest
from twisted.internet.testing import MemoryReactorClock

import fingergw
from fingergw.app import build
from fingergw.backends import command, finger, http, menu, static
from fingergw.config import load, load_table, model, read
from fingergw.config import tables as typed_tables
from fingergw.core import admission as typed_admission
from fingergw.core import breaker as typed_breaker
from fingergw.core import outcome as typed_outcome
from fingergw.core import rules as typed_rules
from fingergw.core.placeholders import Template
from fingergw.core.settings import changed, keys_of
from fingergw.net.http.charsets import Charset
from tests.support.contract import CONTRACT, LISTENER, write
from tests.support.processes import ROOT

# A file's values have no more than the types that TOML has.
admission: Any = typed_admission
breaker: Any = typed_breaker
outcome: Any = typed_outcome
rules: Any = typed_rules
tables: Any = typed_tables
HTTP: Any = http.Http
COMMAND: Any = command.Command


def test_the_contract(tmp_path: Path) -> None:
    """Every key that the configuration's contract names is read, and comes out as it was meant."""
    path = write(tmp_path, CONTRACT)
    config, problems = read(path)
    assert problems == []
    limits = rules.Limits(
        max_query_bytes=1,
        query_timeout=2.5,
        answer_timeout=3.0,
        max_answer_bytes=4,
        max_connections=5,
        max_connections_per_client=6,
        max_waiting=7,
        rate=admission.Rate(queries=60, per=60.0, burst=20),
    )
    everyone = (ip_network("0.0.0.0/0"), ip_network("::/0"))
    assert config == model.Config(
        listeners=(
            tables.Listener(
                name="public", endpoint="tcp:1079", allow=everyone, deny=(ip_network("192.0.2.0/24"),), limits=limits
            ),
            tables.Listener(endpoint="unix:x", limits=changed(limits, max_query_bytes=9)),
            tables.Listener(endpoint="haproxy:tcp:1", trusted_proxies=(ip_network("10.0.0.0/8"),), limits=limits),
            tables.Listener(endpoint="tcp:2", decoy=True, delay=5.0, limits=limits),
        ),
        routes=(
            tables.Route(
                name="oncall",
                summary="Who",
                usage="ONCALL",
                user="oncall",
                listeners=("public",),
                clients=(ip_network("10.0.0.0/8"), ip_network("10.0.0.0/24")),
                backends=("rota", "people"),
                fallthrough=("missing",),
            ),
            tables.Route(users=("a", "b"), backends=("people",)),
            tables.Route(pattern="svc-*", backends=("services",)),
            tables.Route(regex="(?P<team>[a-z]+)-oncall", backends=("rota",)),
            tables.Route(index=True, backends=("menu",)),
        ),
        backends=backends(tmp_path),
        cache=tables.Cache(
            store="rediss://fg@cache.example.org:6380/1",
            max_entries=1,
            max_bytes=2,
            password_file=tmp_path / "redis.password",
            ca_file=Path("/etc/ca.pem"),
        ),
        limits=limits,
        forwarding=tables.Forwarding(
            allow={"old.example.org": "tcp:old.example.org:79"},
            local_names=("finger.example.org", "192.0.2.1"),
            listeners=("public",),
            clients=(ip_network("10.0.0.0/8"),),
            max_hops=1,
            timeout=2.0,
            max_bytes=3,
            max_running=4,
            breaker=breaker.BreakerSettings(failures=3, pause=1.5),
        ),
        answers=tables.Answers(
            charset="ascii",
            case_sensitive=True,
            no_such_user="1",
            internal_error="2",
            list_denied="3",
            forward_denied="4",
            busy="5",
            bad_query="6",
        ),
        process=tables.Process(user="fingergw", group="fg", chroot=Path("/var/empty"), umask=0o27),
        log=tables.Log(access="access.log", format="json", level="debug", anonymise=True),
        admin=tables.Admin(endpoint="tcp:9179:interface=127.0.0.1", hosts=("gateway-1.example.org",)),
    )
    assert [route.name for route in config.routes] == ["oncall", "a, b", "svc-*", "(?P<team>[a-z]+)-oncall", "index"]


def backends(base: Path) -> dict[str, model.Backend]:
    """Return what the contract has for backends."""
    nail = static.Person(
        login="nails",
        name="N",
        directory="/home/n",
        shell="/bin/sh",
        office="3.14",
        phone="555",
        last_login="today",
        mail="No mail.",
        project="P",
        plan="Hit.",
    )
    entries: Any = {"moshez": "Happy", "nail": nail}
    people: Any = base / "people.toml"
    host: Any = {"host": "old.example.org", "port": 80, "max_bytes": 7, "charset": Charset("Latin-1")}
    return {
        "people": model.Backend("static", static.Static(entries=entries)),
        "filed": model.Backend("static", static.Static(file=people)),
        "text": model.Backend("static", static.Static(text="Nobody.")),
        "rota": model.Backend(
            "http",
            HTTP(
                url=Template("https://rota.example.org/api/{user}"),
                headers={"Accept": "application/json"},
                bearer_token_file=base / "rota.token",
                header_files={"X-Key": base / "rota.key"},
                max_bytes=7,
                charset=Charset("koi8-r"),
                missing_statuses=(404,),
                template="{{ name }}",
                ca_file=Path("/etc/ca.pem"),
                follow_redirects=False,
            ),
            outcome.BackendCache(ttl=1.0, stale=2.0, stale_while_revalidate=0.0, stale_if_error=2.0, negative_ttl=3.0),
            timeout=6.0,
            max_running=8,
            breaker=breaker.BreakerSettings(failures=2, pause=9.0),
        ),
        "services": model.Backend(
            "command",
            COMMAND(
                argv=(Template("/bin/echo"), Template("--"), Template("{user}")),
                max_bytes=7,
                max_cpu_seconds=9,
                max_memory_bytes=10,
                max_file_bytes=11,
                max_processes=12,
                charset=Charset("windows-1252"),
                missing_exit_codes=(1,),
                answer_exit_codes=(3,),
                env={"LANG": "C.UTF-8"},
            ),
            outcome.VaryingCache(vary=("client",)),
            timeout=6.0,
            max_running=8,
            breaker=breaker.BreakerSettings(failures=4, pause=5),
        ),
        "legacy": model.Backend("finger", finger.Finger(**host), timeout=6.0, max_running=8, breaker=False),
        "menu": model.Backend("menu", menu.Menu()),
    }


def test_defaults(tmp_path: Path) -> None:
    """What a file leaves out is as the contract says."""
    config: Any = load(write(tmp_path, LISTENER + LEAST))
    assert attrs.asdict(config, filter=lambda attribute, _: attribute.name not in ("source", "routes", "backends")) == {
        "listeners": (
            {
                "endpoint": "tcp:1079",
                "name": "tcp:1079",
                "allow": None,
                "deny": (),
                "trusted_proxies": (),
                "decoy": False,
                "delay": 0,
                "limits": LIMITS,
            },
        ),
        "cache": {
            "store": "memory",
            "max_entries": 10000,
            "max_bytes": 67108864,
            "password_file": None,
            "ca_file": None,
        },
        "limits": LIMITS,
        "forwarding": {
            "allow": {},
            "local_names": (),
            "listeners": None,
            "clients": None,
            "max_hops": 3,
            "timeout": 5,
            "max_bytes": 65536,
            "max_running": 20,
            "breaker": BREAKER,
        },
        "answers": {
            "charset": "utf-8",
            "case_sensitive": False,
            "no_such_user": "No such user",
            "internal_error": "Internal error in server",
            "list_denied": "Finger online user list denied",
            "forward_denied": "Finger forwarding service denied",
            "busy": "Too many queries, try again later",
            "bad_query": "Invalid query",
        },
        "process": {"user": None, "group": None, "chroot": None, "umask": None},
        "log": {"access": "-", "format": "text", "level": "info", "anonymise": False},
        "admin": {"endpoint": None, "hosts": ()},
    }
    assert {name: said(backend) for name, backend in config.backends.items()} == BACKENDS
    (route,) = config.routes
    assert (route.fallthrough, route.listeners, route.clients) == (("missing", "failed"), None, None)


def said(backend: model.Backend) -> dict[str, object]:
    """Return all that a backend's table says, by default too."""
    cls: Any = type(backend.settings)
    own = {key.name: getattr(backend.settings, key.name) for key in keys_of(cls)}
    cache: Any = backend.cache
    limits: Any = backend.breaker
    return {
        **own,
        "timeout": backend.timeout,
        "max_running": backend.max_running,
        "breaker": limits and attrs.asdict(limits),
        "cache": None if cache is None else attrs.asdict(cache),
    }


LEAST = """
[[routes]]
index = true
backends = ["c"]
[backends.c]
type = "command"
argv = ["a"]
[backends.h]
type = "http"
url = "http://h/"
[backends.f]
type = "finger"
host = "h"
[backends.m]
type = "menu"
cache = {}
[backends.s]
type = "static"
text = "x"
"""
BREAKER = {"failures": 3, "pause": 5}
BACKENDS = {
    "c": {
        "argv": (Template("a"),),
        "timeout": 5,
        "max_bytes": 65536,
        "max_running": 4,
        "max_cpu_seconds": 10,
        "max_memory_bytes": 2 << 30,
        "max_file_bytes": 16 << 20,
        "max_processes": 1024,
        "charset": Charset("utf-8"),
        "missing_exit_codes": (),
        "answer_exit_codes": (),
        "env": {},
        "breaker": False,
        "cache": None,
    },
    "h": {
        "url": Template("http://h/"),
        "headers": {},
        "bearer_token_file": None,
        "header_files": {},
        "timeout": 5,
        "max_bytes": 65536,
        "max_running": 100,
        "charset": Charset("utf-8"),
        "missing_statuses": (404, 410),
        "template": None,
        "ca_file": None,
        "follow_redirects": True,
        "breaker": BREAKER,
        "cache": None,
    },
    "f": {
        "host": "h",
        "port": 79,
        "timeout": 5,
        "max_bytes": 65536,
        "charset": Charset("utf-8"),
        "max_running": 20,
        "breaker": BREAKER,
        "cache": None,
    },
    "m": {
        "timeout": None,
        "max_running": None,
        "breaker": False,
        "cache": {"ttl": 30, "stale": 3600, "stale_while_revalidate": None, "stale_if_error": None, "negative_ttl": 10},
    },
    "s": {
        "entries": None,
        "file": None,
        "text": "x",
        "timeout": None,
        "max_running": None,
        "breaker": False,
        "cache": None,
    },
}
LIMITS = {
    "max_query_bytes": 512,
    "query_timeout": 10,
    "answer_timeout": 15,
    "max_answer_bytes": 65536,
    "max_connections": 1000,
    "max_connections_per_client": 20,
    "max_waiting": 500,
    "rate": None,
}


def test_a_listeners_limits_win(tmp_path: Path) -> None:
    """A listener's own limits are laid over the global ones, also where they say what the default is."""
    text = "[limits]\nmax_connections = 5\nmax_query_bytes = 100\n" + LISTENER + "limits.max_connections = 1000\n"
    config = load(write(tmp_path, text))
    assert config.listeners[0].limits == rules.Limits(max_query_bytes=100)
    assert config.limits.max_connections == 5


def test_a_configuration_can_be_changed_in_python(tmp_path: Path) -> None:
    """What was loaded and then changed can still be made a service of."""
    config = load(write(tmp_path, LISTENER))
    more = changed(config, listeners=(*config.listeners, tables.Listener(endpoint="tcp:2")))
    assert build.check(more, MemoryReactorClock())[0] == []


def test_a_secret_header_is_not_shown() -> None:
    """Headers may hold what nobody should read in a log."""
    assert "sesame" not in repr(HTTP(url=Template("http://h/"), headers={"Cookie": "sesame"}))


@pytest.mark.parametrize("base", [None, "elsewhere"])
def test_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: str | None) -> None:
    """Relative paths are relative to the file's folder, or to another that is named; they come out absolute."""
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path, LISTENER + '[backends.x]\ntype = "static"\nfile = "a/b.toml"\n')
    config = load(path.name, base=base)
    folder = tmp_path / (base or "")
    assert config.backends["x"].settings.file == folder / "a/b.toml"
    assert config.source is not None
    assert config.source.base == folder


def test_the_shipped_file() -> None:
    """The shipped file is the embedded default, and has no mistakes."""
    shipped, embedded = ROOT / "fingergw.toml", Path(fingergw.__file__).parent / "fingergw.toml"
    assert shipped.read_bytes() == embedded.read_bytes()
    assert [listener.name for listener in load(shipped).listeners] == ["local", "socket"]


def test_entries_in_a_file_of_their_own(tmp_path: Path) -> None:
    """A static backend's map is the same in a file of its own."""
    path = write(tmp_path, 'moshez = "Happy"\n[nail]\nname = "N"\n')
    assert load_table(path, static.Entries) == {"moshez": "Happy", "nail": static.Person(name="N")}
