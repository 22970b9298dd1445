"""A gateway does all that it can do before it gives up its root or its user also after that."""

from __future__ import annotations

import gzip
import json
import os
import signal
import socket
import ssl
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer
from string import Template
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
import trustme

from fingergw.net.http.charsets import known_codecs
from tests.support.good_certificates import AUTHORITY, CERTIFICATE, GOOD, KEY, leaf
from tests.support.jail import NOBODY, Imports, make_jail
from tests.support.processes import process
from tests.support.sockets import finger, free_port, receive_all
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give up something")

CHARSETS = sorted(known_codecs())
PAGES = {
    "/json": ("application/json", b'{"where": "G\\u00fcntzel", "n": [1, 2]}'),
    "/no-json": ("text/plain", b"{"),
    "/moved": ("text/plain", b""),
    "/packed": ("text/plain", gzip.compress(b"Gr\xc3\xbcn")),
    "/kept": ("text/plain", b"Gr\xc3\xbcn"),
    "/unknown": ("text/plain; charset=no-such-thing", b"Gr\xc3\xbcn"),
    "/odd": ("text/plain; charset*=utf-8''utf-8; x=\"\xfc", b"Gr\xc3\xbcn"),
    "/meta": ("text/html", b'<meta charset="windows-1252"><p>Gr\xfcn &auml; &#x80; <b>x</b><pre>1</pre><table><td>2'),
    "/xhtml": ("application/xhtml+xml; charset=utf-8", b"<p>Gr\xc3\xbcn<svg></svg>"),
}
HEADERS = {
    "/moved": {"Location": "/unknown"},
    "/packed": {"Content-Encoding": "gzip"},
    "/kept": {
        "Cache-Control": "no-cache",
        "ETag": '"x"',
        "Set-Cookie": "a=b; Expires=Fri, 31 Dec 2038 23:59:59 GMT; Path=/",
        "Expires": "Fri, 31 Dec 2038 23:59:59 GMT",
        "Last-Modified": "Friday, 31-Dec-38 23:59:59 GMT",
    },
}


class Pages(BaseHTTPRequestHandler):
    """A web server with a page in each charset, and some others."""

    def do_GET(self) -> None:
        found = PAGES.get(self.path)
        if found is None:
            kind, _, charset = self.path[1:].partition("-")
            if charset not in CHARSETS:
                self.send_error(404)
                return
            found = f"text/{kind}; charset={charset}", "Gr\u00fcn".encode(charset, "replace")
        self.send_response(302 if self.path == "/moved" else 304 if "If-None-Match" in self.headers else 200)
        for name, value in HEADERS.get(self.path, {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", found[0])
        self.send_header("Content-Length", str(len(found[1])))
        self.end_headers()
        self.wfile.write(found[1])

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Finger(BaseRequestHandler):
    """A finger server that speaks Latin-1."""

    def handle(self) -> None:
        self.request.recv(512)
        self.request.sendall(b"Gr\xfcn\r\n")
        if isinstance(self.request, ssl.SSLSocket):
            self.request.unwrap()


@contextmanager
def served(handler: type[BaseRequestHandler], issued: trustme.LeafCert | None = None) -> Iterator[int]:
    """Serve in threads, over TLS with a certificate, and tell the port."""
    server = (ThreadingHTTPServer if handler is Pages else ThreadingTCPServer)(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    if issued is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        issued.configure_cert(context)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield server.socket.getsockname()[1]
    finally:
        server.shutdown()
        server.server_close()


PORTS = ("main", "denied", "slow", "decoy", "proxied", "tls", "admin", "more")
CONFIG = """
[[listeners]]
name = "main"
endpoint = "tcp:$main:interface=127.0.0.1"
[[listeners]]
endpoint = "tcp:$denied:interface=127.0.0.1"
deny = ["127.0.0.0/8"]
[[listeners]]
name = "slow"
endpoint = "tcp:$slow:interface=127.0.0.1"
limits = { rate = { queries = 1, per = 1000, burst = 2 }, query_timeout = 0.2, answer_timeout = 0.2 }
[[listeners]]
endpoint = "tcp:$decoy:interface=127.0.0.1"
decoy = true
[[listeners]]
name = "proxied"
endpoint = "haproxy:tcp:$proxied:interface=127.0.0.1"
trusted_proxies = ["127.0.0.1"]
[[listeners]]
endpoint = "ssl:$tls:interface=127.0.0.1:privateKey=k.pem:certKey=c.pem"
[[listeners]]
name = "socket"
endpoint = "unix:../log/socket"
[[routes]]
index = true
listeners = ["main"]
backends = ["menu"]
[[routes]]
user = "text"
summary = "Words"
backends = ["text"]
[[routes]]
user = "file"
backends = ["file"]
[[routes]]
user = "command"
backends = ["command"]
[[routes]]
user = "sleeps"
backends = ["sleeps"]
[[routes]]
user = "fails"
backends = ["fails"]
[[routes]]
user = "finger"
backends = ["finger"]
[[routes]]
user = "nowhere"
backends = ["nowhere"]
[[routes]]
user = "resolved"
backends = ["resolved"]
[[routes]]
user = "https"
backends = ["https"]
[[routes]]
user = "json-fails"
backends = ["undefined"]
[[routes]]
user = "moshez"
backends = ["text"]
[[routes]]
regex = '(?P<page>json|no-json)'
backends = ["template"]
[[routes]]
pattern = "*"
backends = ["web"]
[backends.menu]
type = "menu"
[backends.text]
type = "static"
entries = { text = "Gr\u00fcn", moshez = { name = "M", plan = "P" } }
[backends.file]
type = "static"
file = "people.toml"
[backends.command]
type = "command"
argv = ["../bin/sh", "-c", '[ "$1" = command ] && echo Gr\u00fcn && echo gr\u00fcn >&2', "sh", "{user}"]
[backends.command.cache]
ttl = 0
[backends.sleeps]
type = "command"
argv = ["sh", "-c", "while :; do :; done"]
[backends.fails]
type = "command"
argv = ["sh", "-c", "echo gr\u00fcn >&2; exit 1"]
[backends.finger]
type = "finger"
host = "127.0.0.1"
port = $finger
[backends.nowhere]
type = "http"
url = "https://127.0.0.1:$main/"
[backends.resolved]
type = "finger"
host = "localhost"
port = $finger
[backends.web]
type = "http"
url = "http://127.0.0.1:$web/{user}"
bearer_token_file = "token"
header_files = { X-Key = "token" }
[backends.https]
type = "http"
url = "https://localhost:$https/kept"
[backends.https.cache]
ttl = 0
[backends.undefined]
type = "http"
url = "http://127.0.0.1:$web/json"
template = "{{ nothing }}"
[backends.template]
type = "http"
url = "http://127.0.0.1:$web/{page}"
template = "{{ where | upper | wordwrap(3) }} {{ n | tojson }} {{ '<b>x' | striptags }}"
[cache]
store = "sqlite:../log/cache.db"
[forwarding.allow]
"old.example.org" = "tcp:127.0.0.1:$finger"
"new.example.org" = "tls:localhost:$finger_tls"
"socket" = "unix:../log/socket"
[log]
access = "../log/access.log"
format = "$form"
level = "debug"
[admin]
endpoint = "tcp:$admin"
[process]
user = "nobody"
$chroot
"""
MORE = """
[[listeners]]
name = "more"
endpoint = "tcp:$more:interface=127.0.0.1"
[[routes]]
pattern = "*"
backends = ["text"]
[backends.text]
type = "static"
text = "Reloaded"
[cache]
store = "redis://127.0.0.1:1/0"
[admin]
endpoint = "tcp:$admin"
[log]
access = "../log/access.log"
format = "$form"
[forwarding]
allow = { "new.example.org" = "tls:localhost:$finger_tls" }
[process]
user = "nobody"
$chroot
"""
MISTAKES = [
    "[[listeners]]\nname = [",
    "\udcff",
    MORE + '[limits]\nmax_query_byte = 7\n[backends.x]\ntype = "command"\nargv = ["no-such", "{user"]\n',
    MORE + "[[routes]]\nregex = '('\nbackends = ['nix']\n[[routes]]\nwhen = 1\n",
    MORE + "[backends.x]\ntype = 'http'\nurl = 'nothing'\ntemplate = '{{'\nca_file = 'no-such'\n",
    MORE + "[backends.x]\ntype = 'static'\nfile = 'broken.toml'\n[backends.y]\ntype = 'static'\nfile = '/etc/passwd'\n",
    MORE + "[[listeners]]\nendpoint = 'ssl:1:privateKey=broken.toml'\n[[listeners]]\nendpoint = 'nix:1'\n",
]


class Case:
    """A gateway, and what it was asked."""

    def __init__(self, folder: Path, form: str, *, chroot: bool, ports: dict[str, int]) -> None:
        self.folder, self.form, self.ports = folder, form, {**ports, **{name: free_port() for name in PORTS}}
        self.asked = 0
        make_jail(folder, "/bin/sh")
        for name in ("etc", "log"):
            (folder / name).mkdir()
        os.chown(folder / "log", NOBODY, NOBODY)
        self.chroot = f'chroot = "{folder}"' if chroot else ""
        self.write("hosts", "127.0.0.1 localhost\n")  # what resolves names is inside
        self.write("people.toml", 'file = "Gr\u00fcn"')
        self.write("broken.toml", "x = [")
        self.write("token", "abc", mode=0o600)
        self.write("k.pem", KEY.decode(), mode=0o600)
        self.write("c.pem", CERTIFICATE.decode())
        self.configure(CONFIG)

    def write(self, name: str, text: str, mode: int = 0o644) -> Path:
        """Write a file that the user can read."""
        path = self.folder / "etc" / name
        path.write_text(text, "utf-8", "surrogateescape")
        path.chmod(mode)
        os.chown(path, NOBODY, NOBODY)
        return path

    def configure(self, text: str) -> None:
        """Write the configuration."""
        values = {**self.ports, "chroot": self.chroot, "form": self.form}
        self.config = self.write("fingergw.toml", Template(text).safe_substitute(values))

    def ask(self, query: str, port: str = "main") -> str:
        """Ask for something, which will be in the access log."""
        self.asked += 1
        return finger(self.ports[port], query.encode() + b"\r\n").decode()

    def lines(self) -> list[str]:
        """Return the lines of all access logs."""
        return "".join(each.read_text() for each in sorted((self.folder / "log").glob("access.log*"))).splitlines()

    def log(self) -> str:
        """Return the other log, old ones too."""
        return "".join(each.read_text() for each in sorted((self.folder / "log").glob("event.log*"), reverse=True))


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder that any user may enter; pytest's own are for root alone."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        yield Path(made)


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("given_up", ["chroot", "library"])
def test_all_goes_on(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given_up: str, form: str) -> None:
    """In a chroot, or as a user that cannot read Python's library, each backend, refusal and signal is as before."""
    imports = Imports(tmp_path, is_hidden=given_up == "library")
    trusted = (tmp_path if given_up == "chroot" else folder) / "trusted.pem"  # which is what a user can read elsewhere
    AUTHORITY.cert_pem.write_to_path(str(trusted))
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    secure = AUTHORITY.issue_cert("localhost")
    with served(Pages) as web, served(Pages, secure) as tls, served(Finger) as own, served(Finger, secure) as own_tls:
        ports = {"web": web, "https": tls, "finger": own, "finger_tls": own_tls}
        case = Case(folder, form, chroot=given_up == "chroot", ports=ports)
        with process(
            ["--config", str(case.config), "--logfile", str(folder / "log" / "event.log")],
            port=case.ports["main"],
            cwd=folder,
            command=imports.command,
            pass_fds=[imports.fd],
        ) as running:
            os.chown(folder / "log" / "event.log", NOBODY, NOBODY)
            backends(case)
            refusals(case)
            connections(case)
            changes(case)
            for number in (1, 2):
                for name in ("access.log", "event.log"):
                    (folder / "log" / name).rename(folder / "log" / f"{name}.{number}")
                running.send_signal(signal.SIGUSR1)
                wait_until((folder / "log" / "access.log").exists, "a new access log")
                wait_until((folder / "log" / "event.log").exists, "a new log")
                assert case.ask("text") == "Gr\u00fcn\r\n"
            for mistake in MISTAKES:
                refused = case.log().count("stays active")
                case.configure(mistake)
                running.send_signal(signal.SIGHUP)
                wait_until(lambda: case.log().count("stays active") > refused, "the refusal")  # noqa: B023
                assert case.ask("text") == "Gr\u00fcn\r\n"
            case.config.unlink()
            running.send_signal(signal.SIGHUP)
            wait_until(lambda: "cannot be read: No such file or directory" in case.log(), "the refusal")
            assert "fingergw init" not in case.log()
            case.configure(MORE)
            running.send_signal(signal.SIGHUP)
            wait_until(lambda: "configuration reloaded" in case.log(), "the reload")
            assert case.ask("text", "more") == "Reloaded\r\n"
            wait_until(lambda: len(case.lines()) >= case.asked, f"{case.asked} lines")
            running.terminate()
            assert running.wait(20) == 0
    assert imports.found() == []
    assert "Traceback" not in case.log()
    if form == "json":
        assert all(json.loads(line)["outcome"] for line in case.lines())


def backends(case: Case) -> None:
    """Ask each backend."""
    assert case.ask("") == "text  Words\r\n"
    for name in ("text", "file", "command", "command"):
        assert case.ask(name) == "Gr\u00fcn\r\n"
    assert "Plan:" in case.ask("moshez")
    for name in ("finger", "resolved", "x@old.example.org", "x@new.example.org"):
        assert case.ask(name) == "Gr\ufffdn\r\n"
    assert case.ask("json") == "G\u00dcN\r\nTZE\r\nL [1, 2] x\r\n"
    for page in ("unknown", "odd", "moved", "packed", "https", "https"):
        assert case.ask(page) == "Gr\u00fcn\r\n"
    for page in ("meta", "xhtml"):
        assert case.ask(page).startswith("Gr\u00fcn")
    for charset in CHARSETS:
        assert case.ask(f"plain-{charset}").startswith("Gr")
        assert case.ask(f"html-{charset}") != "Internal error in server\r\n"


def refusals(case: Case) -> None:
    """Be refused for each reason."""
    for name in ("fails", "nowhere", "no-json", "json-fails"):
        assert case.ask(name) == "Internal error in server\r\n"
    assert case.ask("missing") == "No such user\r\n"
    for host in ("example.net", "gr\u00fcn.example.net", "xn--grn-hoa.example.net", "127.0.0.1", "[::1]"):
        assert case.ask(f"user@{host}") == "Finger forwarding service denied\r\n"
    assert case.ask("gr\u00fcn\x1b\x00\u202e") == "Invalid query\r\n"
    assert case.ask("x" * 600) == "Invalid query\r\n"
    assert case.ask("x", "decoy") == "No such user\r\n"
    assert case.ask("x", "denied") == ""
    assert case.ask("", "slow") == "Finger online user list denied\r\n"
    assert case.ask("sleeps", "slow") == "Internal error in server\r\n"
    assert case.ask("text", "slow") == "Too many queries, try again later\r\n"


def connections(case: Case) -> None:
    """Come in every other way that there is."""
    for header in ("PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n", "PROXY UNKNOWN\r\n", "PROXY nonsense\r\n"):
        answer = case.ask(f"{header}text", "proxied")
        assert answer == ("" if "nonsense" in header else "Gr\u00fcn\r\n")
    with socket.create_connection(("127.0.0.1", case.ports["slow"])) as idle:
        case.asked += 1
        assert receive_all(idle) == b""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(case.folder / "log" / "socket"))
        client.sendall(b"text\r\n")
        assert receive_all(client) == b"Gr\xc3\xbcn\r\n"
        case.asked += 1
    assert handshake(case) == leaf(GOOD)
    for path, kind in (
        ("metrics", "*/*"),
        ("metrics", "application/openmetrics-text"),
        ("healthz", "*/*"),
        ("readyz", ""),
    ):
        with urlopen(Request(f"http://127.0.0.1:{case.ports['admin']}/{path}", headers={"Accept": kind})) as page:
            assert page.read()
    with pytest.raises(HTTPError):
        urlopen(f"http://127.0.0.1:{case.ports['admin']}/%ff?=%ff")


def handshake(case: Case) -> bytes:
    """Return the certificate that a client of TLS gets, which asks for something, too."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with context.wrap_socket(socket.create_connection(("127.0.0.1", case.ports["tls"]))) as client:
        found = client.getpeercert(binary_form=True)
        client.sendall(b"text\r\n")
        assert client.recv(100) == b"Gr\xc3\xbcn\r\n"
        case.asked += 1
    assert found is not None
    return found


def changes(case: Case) -> None:
    """Change each file that is read again, to what can be used and to what cannot."""
    case.write("people.toml", 'file = "Ge\u00e4ndert"')
    wait_until(lambda: case.ask("file") == "Ge\u00e4ndert\r\n", "the new map")
    case.write("people.toml", "file = [")
    wait_until(lambda: case.ask("file") and "stays in use" in case.log(), "the mistake")
    case.write("people.toml", "file = 1")
    wait_until(lambda: case.ask("file") and case.log().count("stays in use") == 2, "the other mistake")
    case.write("token", "\xfc", mode=0o600)
    wait_until(lambda: case.ask("unknown") and "expected one token in it" in case.log(), "the mistake")
    case.write("token", "abcd", mode=0o600)
    issued = AUTHORITY.issue_cert("renewed.example.org")
    case.write("k.pem", issued.private_key_pem.bytes().decode(), mode=0o600)
    wait_until(lambda: handshake(case) and "stay in use" in case.log(), "the mismatch")
    case.write("c.pem", issued.cert_chain_pems[0].bytes().decode())
    wait_until(lambda: handshake(case) == leaf(issued), "the new certificate")
