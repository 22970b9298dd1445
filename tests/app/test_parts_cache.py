"""The caches that ``[cache]`` and ``[backends.X.cache]`` are built into."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import trustme
from twisted.internet import reactor

import fingergw
from fingergw.app.build import check
from fingergw.app.gateway import Gateway
from fingergw.cache.cached_backend import CachedBackend
from fingergw.core.query import Query
from tests.support.gateway import GatewayCase, caches
from tests.support.processes import ROOT
from tests.support.redis_server import RedisServer, needs_redis
from tests.support.sockets import free_port
from tests.support.waiting import until

LISTENER = '[[listeners]]\nendpoint = "tcp:0:interface=127.0.0.1"\n'
CACHED = '[backends.x]\ntype = "http"\nurl = "http://192.0.2.1/{user}"\n[backends.x.cache]\n'


def found(folder: Path, text: str) -> list[str]:
    """Return the problems in a cache's table, as key and message."""
    file = folder / "fingergw.toml"
    file.write_text(f"{LISTENER}[cache]\n{text}")
    return [f"{problem.path[-1]}: {problem.message}" for problem in check(fingergw.load(file), reactor)[0]]


def key_of(folder: Path, text: str) -> str:
    """Return the key under which the one cached backend keeps the answer to a query."""
    file = folder / "fingergw.toml"
    file.write_text(LISTENER + text)
    gateway = fingergw.make_service(fingergw.load(file), reactor)
    assert isinstance(gateway, Gateway)
    (cached,) = caches(gateway)
    return cached.key(Query("x"))


@pytest.mark.parametrize("key", ["password_file", "ca_file"])
def test_files_of_a_redis_without_one(tmp_path: Path, key: str) -> None:
    """A file that only a Redis takes is refused beside another store."""
    for store in ("memory", "sqlite:cache.db"):
        assert found(tmp_path, f'store = "{store}"\n{key} = "x"\n') == [
            f"{key}: only a Redis store has a {key}; remove it"
        ]


def test_a_redis_that_is_named_by_halves(tmp_path: Path) -> None:
    """A user without a password, and authorities without TLS, are mistakes: neither would be used."""
    assert found(tmp_path, 'store = "redis://bob@h"\n') == ["store: a user needs a password: name its password_file"]
    (tmp_path / "ca.pem").write_bytes(trustme.CA().cert_pem.bytes())
    assert found(tmp_path, 'store = "redis://h"\nca_file = "ca.pem"\n') == [
        "ca_file: only a rediss: store has a ca_file; remove it, or write rediss:"
    ]


@pytest.mark.parametrize(
    ("key", "content", "message"),
    [
        ("password_file", None, "No such file or directory"),
        ("password_file", "", "expected one password"),
        ("password_file", "one\ntwo\n", "expected one password"),
        ("ca_file", None, "No such file or directory"),
        ("ca_file", "no certificate", "expected one or more certificates in PEM form"),
    ],
)
def test_files_of_a_redis(tmp_path: Path, key: str, content: str | None, message: str) -> None:
    """A file that a Redis needs is read at the start, and a mistake in it is reported."""
    if content is not None:
        (tmp_path / "x").write_text(content)
        (tmp_path / "x").chmod(0o600)
    (problem,) = found(tmp_path, f'store = "rediss://h"\n{key} = "x"\n')
    assert problem.startswith(f"{key}: ")
    assert message in problem


def test_redis_without_its_library(tmp_path: Path) -> None:
    """Without txredisapi a Redis store is a mistake; the message says how to install it."""
    file = tmp_path / "fingergw.toml"
    file.write_text(f'{LISTENER}[cache]\nstore = "redis://h"\n')
    hidden = "import sys; sys.modules['txredisapi'] = None; from fingergw.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", hidden, "check", "--config", str(file)]
    checked = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=False, timeout=60)
    assert checked.returncode == 78
    assert (
        f'{file}:4: cache.store: needs txredisapi, which is not installed: pip install "fingergw[redis]"'
        in checked.stderr
    )


def test_only_what_is_said_to_be_cached_is(tmp_path: Path) -> None:
    """A backend without a cache table is asked each time."""
    file = tmp_path / "fingergw.toml"
    file.write_text(LISTENER + CACHED + '[backends.y]\ntype = "static"\ntext = "y"\n')
    gateway = fingergw.make_service(fingergw.load(file), reactor)
    assert isinstance(gateway, Gateway)
    assert [type(cache) for cache in caches(gateway)] == [CachedBackend]
    assert gateway.parts.store is None


def test_keys_outlive_the_process_and_the_folder(tmp_path: Path) -> None:
    """The keys of one backend are the same in every process, wherever its files are: a fleet shares them."""
    token = 'bearer_token_file = "token"\nheader_files = { K = "token" }\n'
    text = CACHED.replace("[backends.x.cache]", token + "[backends.x.cache]")
    program = "import sys; from pathlib import Path; from tests.app.test_parts_cache import key_of;"
    program += "print(key_of(Path(sys.argv[1]), sys.argv[2]))"
    keys = set()
    for seed in ("1", "2"):
        folder = tmp_path / seed
        folder.mkdir()
        (folder / "token").write_text("t")
        (folder / "token").chmod(0o600)
        environment = {"PYTHONHASHSEED": seed, "PATH": "/usr/bin:/bin"}
        command = [sys.executable, "-c", program, str(folder), text]
        keys.add(subprocess.check_output(command, cwd=ROOT, text=True, env=environment, timeout=60))
    assert len(keys) == 1


def test_keys_of_what_may_answer_otherwise(tmp_path: Path) -> None:
    """A backend with another upstream, other inputs or other times in its cache has other keys."""
    usual = key_of(tmp_path, CACHED)
    assert key_of(tmp_path, CACHED.replace("type =", "timeout = 3\ntype =")) == usual
    assert key_of(tmp_path, CACHED + "ttl = 5\nstale = 0\n") != usual
    assert key_of(tmp_path, CACHED + "stale_while_revalidate = 0\n") != usual
    assert key_of(tmp_path, CACHED + "stale_if_error = 0\n") != usual
    assert key_of(tmp_path, CACHED.replace("192.0.2.1", "192.0.2.2")) != usual
    assert key_of(tmp_path, CACHED.replace("backends.x", "backends.y")) != usual
    command = '[backends.x]\ntype = "command"\nargv = ["sh"]\n[backends.x.cache]\n'
    assert key_of(tmp_path, command) != key_of(tmp_path, f"{command}vary = []\n")
    static = '[backends.x]\ntype = "static"\nfile = "map.toml"\n[backends.x.cache]\n'
    keys = set()
    for text in ("one", "two"):
        (tmp_path / "map.toml").write_text(f'a = "{text}"\n')
        keys.add(key_of(tmp_path, static))
    for value in ("one", "two"):
        secret = tmp_path / value
        secret.write_text(value)
        secret.chmod(0o600)
        keys.add(
            key_of(
                tmp_path,
                CACHED.replace("[backends.x.cache]", f'header_files = {{ K = "{value}" }}\n[backends.x.cache]'),
            )
        )
    menu = '[backends.x]\ntype = "menu"\n[backends.x.cache]\n'
    route = '[[routes]]\nuser = "a"\nsummary = "A"\nbackends = ["x"]\n'
    keys |= {key_of(tmp_path, menu), key_of(tmp_path, route + menu)}
    assert len(keys) == 6


@needs_redis
class TlsTests(GatewayCase):
    async def test_a_user_of_a_redis_over_tls(self) -> None:
        """An answer is kept in a Redis that is reached over TLS, by a user with a password."""
        authority = trustme.CA()
        certificate = authority.issue_cert("localhost")
        files = {
            "tls-ca-cert-file": authority.cert_pem.bytes(),
            "tls-cert-file": certificate.cert_chain_pems[0].bytes(),
            "tls-key-file": certificate.private_key_pem.bytes(),
        }
        arguments = ["--tls-auth-clients", "no"]
        for name, data in files.items():
            arguments += [f"--{name}", str(self.write(name, data.decode()))]
        tls_port = free_port()
        server = RedisServer("--tls-port", str(tls_port), *arguments)
        self.addCleanup(server.stop)
        server.command("ACL", "SETUSER", "fg", "on", ">secret", "~fingergw:*", "+@all")
        self.write("password", "secret\n").chmod(0o600)
        gateway = self.start(
            f"""
            {LISTENER}
            [[routes]]
            user = "x"
            backends = ["x"]
            [backends.x]
            type = "static"
            text = "kept"
            cache = {{}}
            [cache]
            store = "rediss://fg@localhost:{tls_port}/1"
            password_file = "password"
            ca_file = "tls-ca-cert-file"
            """
        )
        self.assertEqual(await self.ask(gateway, b"x\r\n"), b"kept\r\n")
        keys = "redis.call('SELECT', 1) return redis.call('KEYS', 'fingergw:1:x:*')"
        await until(lambda: server.command("EVAL", keys, 0), "a key in the second database")
        assert gateway.parts.store is not None
        self.assertEqual((gateway.parts.store.is_open, gateway.parts.store.failures), (True, 0))


class Many(GatewayCase):
    """As many backends as routes."""

    async def test_keywords(self) -> None:
        """The keywords are collected once for all menus: there may be very many of both."""
        gateway = self.start(f'{LISTENER}[backends]\na = {{ type = "menu" }}\nb = {{ type = "menu" }}\n')
        a, b = (backend.site.keywords() for backend in gateway.parts.backends.values())
        self.assertIs(a, b)


class SameForAllNames(GatewayCase):
    """Backends whose answer does not depend on what was asked."""

    async def test_kept_once(self) -> None:
        """A menu, and one text for any name, are cached once, whatever names are asked for."""
        for backend in ('type = "menu"', 'type = "static"\ntext = "x"'):
            gateway = self.start(
                f'{LISTENER}[[routes]]\npattern = "*"\nsummary = "all"\nbackends = ["b"]\n'
                f"[backends.b]\n{backend}\n[backends.b.cache]\n"
            )
            self.assertEqual(await self.ask(gateway, b"one\r\n"), await self.ask(gateway, b"two\r\n"))
            self.assertEqual(gateway.parts.memory.entries, 1, backend)

    async def test_a_map(self) -> None:
        """A map's answers are cached by name."""
        gateway = self.start(
            f'{LISTENER}[[routes]]\npattern = "*"\nbackends = ["b"]\n[backends.b]\ntype = "static"\n'
            'entries = { one = "1", two = "2" }\n[backends.b.cache]\n'
        )
        self.assertEqual(await self.ask(gateway, b"one\r\n"), b"1\r\n")
        self.assertEqual(await self.ask(gateway, b"two\r\n"), b"2\r\n")
        self.assertEqual(gateway.parts.memory.entries, 2)
