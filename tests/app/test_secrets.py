"""Secrets stay in files that others cannot read: no log, answer, message or repr shows them."""

from __future__ import annotations

import contextlib
import gzip
import shlex
import socket
import socketserver
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli_w
import trustme

import fingergw
from fingergw.app.gateway import Gateway
from fingergw.core.errors import ConfigError
from tests.support.processes import process, run
from tests.support.redis_server import RedisServer, needs_redis
from tests.support.sockets import finger, free_port
from tests.support.waiting import DEADLINE_SECONDS, reactor, wait_until

SENTINEL = "s3nt1nel"
TOKEN = f"{SENTINEL}-token"
HEADERS = {"X-Key": f"{SENTINEL}-header"}
LISTENER = '[[listeners]]\nendpoint = "tcp:0:interface=127.0.0.1"\n'
INTERNAL_ERROR = b"Internal error in server\r\n"
Speak = Callable[[socket.socket], object]


def reply(status: str, body: bytes = b"", *, extra: str = "") -> bytes:
    """Return a whole response with secrets in its head."""
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nX-Reply: {SENTINEL}\r\nSet-Cookie: a={SENTINEL}\r\n"
    return f"{head}{extra}\r\n".encode() + body


def says(data: bytes) -> Speak:
    """Return what answers a request with these bytes, and closes."""
    return lambda client: client.sendall(data)


def moved(where: str) -> Speak:
    """Return what redirects to a URL."""
    return says(reply("302 Found", extra=f"Location: {where}\r\n"))


def reset(client: socket.socket) -> None:
    """Reset the connection."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


GZIP = "Content-Encoding: gzip\r\n"
# What goes wrong, and how: each is a backend whose URL begins with that path.
SPEECHES: dict[str, Speak] = {
    "closed": lambda client: None,
    "reset": reset,
    "no-http": says(f"SSH-2.0-{SENTINEL}\r\n\r\n".encode()),
    "no-status": says(f"HTTP/1.1 {SENTINEL}\r\n\r\n".encode()),
    "no-header": says(f"HTTP/1.1 200 OK\r\n{SENTINEL}\r\n\r\n".encode()),
    "bad-length": says(f"HTTP/1.1 200 OK\r\nContent-Length: {SENTINEL}\r\n\r\n".encode()),
    "bad-chunks": says(f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{SENTINEL}\r\n".encode()),
    "cut-off": says(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"),
    "status-500": says(reply(f"500 {SENTINEL}")),
    "status-401": says(reply("401 Unauthorized", extra=f'WWW-Authenticate: Bearer realm="{SENTINEL}"\r\n')),
    "too-large": says(reply("200 OK", b"x" * 100_000)),
    "head-too-large": says(reply("200 OK", extra=f"X: {SENTINEL}{'x' * 200_000}\r\n")),
    "no-gzip": says(reply("200 OK", SENTINEL.encode(), extra=GZIP)),
    "cut-gzip": says(reply("200 OK", gzip.compress(bytes(range(100)))[:50], extra=GZIP)),
    "no-json": says(reply("200 OK", b"<html>")),
    "no-such-field": says(reply("200 OK", b"{}")),
    "loop": moved(f"/loop/{SENTINEL}?key={SENTINEL}"),
    "elsewhere": moved(f"http://localhost:1/{SENTINEL}?key={SENTINEL}"),
    "to-https": moved(f"https://127.0.0.1/{SENTINEL}?key={SENTINEL}"),
    "to-a-user": moved(f"//{SENTINEL}:{SENTINEL}@127.0.0.1/"),
    "to-no-url": moved(f"http://[{SENTINEL}/"),
    "to-no-place": moved(""),
    "fine": says(reply("200 OK", b'{"name": "a"}')),  # but for what the test does to it
}
FAILING = SPEECHES.keys() - {"fine"}


class Server(socketserver.ThreadingTCPServer):
    """An HTTP server that fails in the way that the path names.

    :param context: for TLS.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Conversation)
        self.context = context
        self.ended = threading.Event()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self.server_address[1])

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore it: clients leave, as they should."""


class _Conversation(socketserver.BaseRequestHandler):
    server: Server

    def handle(self) -> None:
        client = self.request
        if self.server.context is not None:
            client = self.server.context.wrap_socket(client, server_side=True)
        received = b""
        while b"\r\n\r\n" not in received:
            data = client.recv(65536)
            if not data:
                return
            received += data
        kind = received.split(b"/", 2)[1].decode()
        if kind == "silent":
            self.server.ended.wait(DEADLINE_SECONDS)
        else:
            SPEECHES[kind](client)


@contextlib.contextmanager
def serving(context: ssl.SSLContext | None = None) -> Iterator[Server]:
    """Serve in a thread until the end of the block."""
    with Server(context) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.ended.set()
            server.shutdown()
            thread.join()


def backend(base: str, kind: str, **settings: object) -> dict[str, object]:
    """Return the table of an http backend with secrets wherever there can be any."""
    own: dict[str, object] = {
        "type": "http",
        "url": f"{base}/{kind}/{SENTINEL}/{{user}}?key={SENTINEL}&q={{user}}",
        "headers": HEADERS,
        "bearer_token_file": "a.token",
        "header_files": {"X-Secret": "a.header"},
        "max_bytes": 10_000,
        "template": "{{ name }}",
    }
    return own | settings


def write(folder: Path, backends: dict[str, dict[str, object]], **tables: object) -> tuple[Path, int]:
    """Write a configuration in which each backend is asked by its name; return it and the listener's port."""
    port = free_port()
    text = tomli_w.dumps(
        {
            "listeners": [{"endpoint": f"tcp:{port}:interface=127.0.0.1"}],
            "routes": [{"user": name, "backends": [name]} for name in backends],
            "backends": backends,
            "log": {"level": "debug", "access": "access.log"},
            **tables,
        }
    )
    path = folder / "fingergw.toml"
    path.write_text(text)
    secret(folder / "a.token", TOKEN)
    secret(folder / "a.header", f"{SENTINEL} secret")
    return path, port


def secret(path: Path, text: str, mode: int = 0o600) -> Path:
    """Write a file for a secret."""
    path.write_text(text)
    path.chmod(mode)
    return path


def told(
    folder: Path, path: Path, port: int, names: list[str], *, until: str = "", command: list[str] | None = None
) -> str:
    """Ask a gateway in a process of its own for each name, which fails; return all that it prints and logs.

    :param until: what is waited for in its log.
    :param command: what runs the gateway instead of ``fingergw``.
    """
    log = folder / "log"
    with process(["--config", str(path), "--logfile", str(log)], port=port, command=command) as running:
        for name in names:
            assert finger(port, f"{name}\r\n".encode()) == INTERNAL_ERROR, name
        wait_until(lambda: until in log.read_text(), until)
        running.terminate()
        out, err = running.communicate(timeout=20)
        assert running.returncode == 0
    return "".join((log.read_text(), out, err, (folder / "access.log").read_text()))


def test_whatever_an_upstream_does(tmp_path: Path) -> None:
    """However a request fails, it is logged, and nothing shows the token, a header, or any part of a URL."""
    authority, other = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    contexts = []
    for issuer, name in ((other, "localhost"), (authority, "elsewhere.example")):
        contexts.append(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        issuer.issue_cert(name).configure_cert(contexts[-1])
    with serving() as plain, serving(contexts[0]) as untrusted, serving(contexts[1]) as misnamed:
        base = f"http://127.0.0.1:{plain.port}"
        backends = {kind: backend(base, kind) for kind in sorted(FAILING)}
        backends |= {
            "silent": backend(base, "silent", timeout=0.3),
            "refused": backend(f"http://127.0.0.1:{free_port()}", "x"),
            "unresolved": backend("http://nowhere.invalid", "x", timeout=3),
            "untrusted": backend(f"https://localhost:{untrusted.port}", "x", ca_file="ca.pem"),
            "misnamed": backend(f"https://localhost:{misnamed.port}", "x", ca_file="ca.pem"),
            "no-tls": backend(f"https://127.0.0.1:{plain.port}", "x", timeout=1),
            "cached": backend(base, "status-500", cache={"ttl": 1}),
        }
        path, port = write(tmp_path, backends)
        said = told(tmp_path, path, port, list(backends))
    assert [name for name in backends if f"backend {name} failed" not in said] == []
    assert "Traceback" not in said
    assert SENTINEL not in said


# Each crashes as a library might that has a mistake, where the URL's path says so.
CRASHES = f"""
import sys
from fingergw.net.http import client
from fingergw.net.http.request import HTTPClient

def request(self, url, get=HTTPClient.get, **options):
    path = url.to_text()
    if "/plain/" in path:
        raise LookupError("{SENTINEL}", url, options)
    if "/chained/" in path:
        try:
            raise LookupError(path, options)
        except LookupError as error:
            error.add_note(path)
            raise LookupError(path) from error
    if "/system/" in path:
        raise PermissionError(13, "{SENTINEL}", path)
    return get(self, url, **options)

async def body(response, *arguments):
    raise LookupError(response.request.absoluteURI, response.request.headers)

HTTPClient.get, client.read = request, body
from fingergw.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_what_nobody_foresaw(tmp_path: Path) -> None:
    """An unexpected exception is logged with its name and place, not its text, which could hold the URL."""
    names = {"plain": "LookupError", "chained": "LookupError", "system": "PermissionError", "fine": "LookupError"}
    with serving() as server:
        base = f"http://127.0.0.1:{server.port}"
        backends = {kind: backend(base, kind) for kind in names} | {"cached": backend(base, "fine", cache={})}
        path, port = write(tmp_path, backends)
        said = told(tmp_path, path, port, list(backends), command=[sys.executable, "-c", CRASHES])
    for kind, name in {**names, "cached": "LookupError"}.items():
        assert f"backend {kind} failed, asked by route {kind}: unforeseen {name}\n" in said
    assert said.count("net/http/client.py") >= len(backends)
    assert SENTINEL not in said


def echo(client: socket.socket) -> None:
    """Repeat as an error what a Redis client says."""
    with client, contextlib.suppress(ConnectionError):  # it leaves at that
        while data := client.recv(65536):
            client.sendall(b"-ERR " + data.replace(b"\r\n", b" ") + b"\r\n")


@needs_redis
class TestRedis:
    """A Redis's password."""

    def said(self, folder: Path, port: int) -> str:
        """Return all that a gateway prints and logs whose Redis does not accept it."""
        secret(folder / "password", f"{SENTINEL}-password\n")
        store = {"store": f"redis://127.0.0.1:{port}", "password_file": "password"}
        backends = {"web": backend(f"http://127.0.0.1:{free_port()}", "x", cache={})}
        path, own_port = write(folder, backends, cache=store)
        return told(folder, path, own_port, ["web"], until="is unavailable")

    def test_wrong(self, tmp_path: Path) -> None:
        """A password that Redis refuses is not logged."""
        with RedisServer(password="another") as redis:
            assert SENTINEL not in self.said(tmp_path, redis.port)

    def test_none_asked_for(self, tmp_path: Path) -> None:
        """Nor is a password that Redis does not ask for."""
        with RedisServer() as redis:
            assert SENTINEL not in self.said(tmp_path, redis.port)

    def test_repeated(self, tmp_path: Path) -> None:
        """Nor is a password that Redis repeats in an error."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            thread = threading.Thread(target=lambda: echo(server.accept()[0]), daemon=True)
            thread.start()
            said = self.said(tmp_path, server.getsockname()[1])
        assert "ERR" in said
        assert SENTINEL not in said


def with_secret(folder: Path, key: str, name: str) -> Path:
    """Write a configuration that names a file for a secret."""
    path = folder / "fingergw.toml"
    if key != "password_file":
        path.write_text(f'{LISTENER}[backends.web]\ntype = "http"\nurl = "http://127.0.0.1/"\n{key} = "{name}"\n')
    else:
        path.write_text(f'{LISTENER}[cache]\nstore = "redis://127.0.0.1"\n{key} = "{name}"\n')
    return path


def problems(path: Path) -> list[str]:
    """Return what is wrong on this machine with a configuration, without its place in the file."""
    try:
        fingergw.make_service(fingergw.load(path), reactor)
    except ConfigError as error:
        return [problem.partition(": ")[2] for problem in error.problems]
    return []


# a key of the table, and what is wrong with it
WRONG: dict[str, dict[str, object]] = {
    "timeout": {"timeout": f"{SENTINEL}"},
    "max_bytes": {"max_bytes": -1},
    "unknown": {"tiemout": SENTINEL, SENTINEL.upper(): 1},
    "header-control": {"headers": {"X-Key": f"{SENTINEL}\r\nX: y"}},
    "header-type": {"headers": {"X-Key": [SENTINEL]}},
    "header-name": {"headers": {"X Key": SENTINEL}},
    "headers-type": {"headers": f"X-Key: {SENTINEL}"},
    "url-placeholder": {"url": f"http://x/{{nobody}}?key={SENTINEL}"},
    "url-brace": {"url": f"http://x/{{?key={SENTINEL}"},
    "url-scheme": {"url": f"ftp://x/?key={SENTINEL}"},
    "url-port": {"url": f"http://x:99999/?key={SENTINEL}"},
    "url-user": {"url": f"http://a:{SENTINEL}@x/"},
    "url-host": {"url": f"http://[{SENTINEL}/?key={SENTINEL}"},
    "url-text": {"url": f"http://x/?key={SENTINEL}\u00e9"},
    "url-type": {"url": [f"http://x/?key={SENTINEL}"]},
    "template": {"template": "{{ name"},
    "token-nowhere": {"bearer_token_file": "nowhere"},
    "header-nowhere": {"header_files": {"X-Secret": "nowhere"}},
    "header-file-type": {"header_files": {"X-Secret": [SENTINEL]}},
    "header-file-name": {"header_files": {"X Secret": "a.header"}},
    "header-files-type": {"header_files": "a.header"},
    "header-in-both": {"headers": {"x-secret": SENTINEL}},
    "token-in-both": {"header_files": {"authorization": "a.header"}},
    "token-in-headers": {"headers": {"AUTHORIZATION": SENTINEL}},
    "token-type": {"bearer_token_file": [SENTINEL]},
    "token-twice": {"headers": {"Authorization": f"Bearer {SENTINEL}"}, "timeout": 0},
    "statuses": {"missing_statuses": [SENTINEL]},
    "ca": {"ca_file": "a.token"},
}


@pytest.mark.parametrize("settings", WRONG.values(), ids=WRONG)
def test_mistakes_in_the_file(tmp_path: Path, settings: dict[str, object]) -> None:
    """A message has the key and what was expected, never a header's value or a URL."""
    path, _ = write(tmp_path, {"web": backend("http://127.0.0.1", "x", **settings)})
    found = problems(path)
    assert found
    assert all(problem.startswith("backends.web") for problem in found)
    assert SENTINEL not in "".join(found)


@pytest.mark.parametrize("line", ['headers = { X = "s3nt1nel', 'url = "http://x/?s3nt1nel" x', 'url = "s3nt1nel\\q"'])
def test_what_is_not_toml(tmp_path: Path, line: str) -> None:
    """For a file that is not TOML the message has the line's number, not its text."""
    path = tmp_path / "fingergw.toml"
    path.write_text(f'{LISTENER}[backends.web]\ntype = "http"\n{line}\n')
    with pytest.raises(ConfigError) as caught:
        fingergw.load(path)
    assert str(caught.value).startswith(f"{path}:5: not TOML")
    assert SENTINEL not in str(caught.value)


def test_a_password_in_the_stores_address(tmp_path: Path) -> None:
    """A password in the configuration is refused, and not repeated."""
    path, _ = write(tmp_path, {}, cache={"store": f"redis://fg:{SENTINEL}@127.0.0.1"})
    [problem] = problems(path)
    assert "password_file" in problem
    assert SENTINEL not in problem


KEYS = {
    "bearer_token_file": "backends.web.bearer_token_file",
    "header_files.X-Secret": "backends.web.header_files.X-Secret",
    "password_file": "cache.password_file",
}


@pytest.mark.parametrize("key", KEYS)
class TestFiles:
    """Files of secrets."""

    @pytest.mark.parametrize("mode", [0o600, 0o400, 0o640, 0o660, 0o440, 0o601])
    def test_of_its_own(self, tmp_path: Path, key: str, mode: int) -> None:
        """A file that only its owner and group can read is accepted."""
        secret(tmp_path / "a", SENTINEL, mode)
        assert problems(with_secret(tmp_path, key, "a")) == []

    @pytest.mark.parametrize(
        ("mode", "can"), [(0o644, "read"), (0o604, "read"), (0o666, "read"), (0o602, "write"), (0o607, "read")]
    )
    def test_of_others(self, tmp_path: Path, key: str, mode: int, can: str) -> None:
        """A file that others can read or write is a mistake; the command in the message corrects it."""
        file = secret(tmp_path / "my token", SENTINEL, mode)
        path = with_secret(tmp_path, key, file.name)
        [problem] = problems(path)
        advice = f"chmod o= {shlex.quote(str(file))}"
        assert problem == f"{KEYS[key]}: others can {can} it; run: {advice}"
        subprocess.run(advice, shell=True, check=True)
        assert problems(path) == []

    def test_link(self, tmp_path: Path, key: str) -> None:
        """The mode of the file that a link leads to counts."""
        (tmp_path / "link").symlink_to(secret(tmp_path / "a", SENTINEL, 0o644))
        path = with_secret(tmp_path, key, "link")
        assert len(problems(path)) == 1
        (tmp_path / "a").chmod(0o600)
        assert problems(path) == []

    def test_check_and_start(self, tmp_path: Path, key: str) -> None:
        """``fingergw check`` says so, and the gateway does not start."""
        file = secret(tmp_path / "a", SENTINEL, 0o644)
        path = with_secret(tmp_path, key, "a")
        for command in (["check", "--config", str(path)], ["--config", str(path)]):
            ended = run(command)
            assert ended.returncode == 78
            assert f"{KEYS[key]}: others can read it; run: chmod o= {file}\n" in ended.stderr
            assert SENTINEL not in ended.stdout + ended.stderr

    @pytest.mark.parametrize(
        ("content", "expected"),
        [
            (b"", "expected one "),
            (f"{SENTINEL}\n{SENTINEL}".encode(), "expected one "),
            (f"{SENTINEL}\xe9".encode(), "expected one "),
            (f"{SENTINEL}\x1b".encode(), "expected one "),
            (f"{SENTINEL}\xe9".encode("latin-1"), "expected one "),
        ],
        ids=["empty", "two-lines", "not-ascii", "control", "not-utf8"],
    )
    def test_content(self, tmp_path: Path, key: str, content: bytes, expected: str) -> None:
        """A file without one secret is a mistake, beside that others can read it; no message shows its content."""
        (tmp_path / "a").write_bytes(content)
        (tmp_path / "a").chmod(0o644)
        path = with_secret(tmp_path, key, "a")
        open_to_others, wrong = problems(path)
        assert "others can read it" in open_to_others
        assert expected in wrong
        assert SENTINEL not in open_to_others + wrong

    def test_folder(self, tmp_path: Path, key: str) -> None:
        """A folder is a mistake."""
        (tmp_path / "a").mkdir()
        [problem] = problems(with_secret(tmp_path, key, "a"))
        assert problem.endswith("Is a directory; name a file in it")


def test_views_of_what_has_secrets(tmp_path: Path) -> None:
    """The repr of each part shows neither a token, nor a password, nor a header."""
    secret(tmp_path / "password", f"{SENTINEL}-password")
    settings = backend("http://127.0.0.1", "x", url="http://127.0.0.1/")
    path, _ = write(
        tmp_path,
        {"web": settings, "cached": {**settings, "cache": {}}},
        cache={"store": "redis://127.0.0.1", "password_file": "password"},
    )
    gateway = fingergw.make_service(fingergw.load(path), reactor)
    assert isinstance(gateway, Gateway)
    assert gateway.parts.store is not None
    views = [gateway, gateway.parts.store, gateway.parts.store.store]
    for each in gateway.parts.backends.values():
        views += [each, each.entry, each.backend, each.site, each.checked]
    views += [gateway.listeners[0].listener, gateway.listeners[0].rules, gateway.listeners[0].rules.router]
    for view in views:
        assert SENTINEL not in repr(view) + str(view), type(view)
