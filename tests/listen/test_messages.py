"""The messages about endpoint strings: what is wrong, where, and what to write."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
from pathlib import Path

import pytest
from twisted.internet.protocol import ServerFactory

import fingergw
from fingergw.app.build import check
from fingergw.core.errors import ListenError
from fingergw.listen.binding import BoundService, Socket
from fingergw.listen.endpoint_strings import anchor
from fingergw.listen.endpoints import server
from tests.support.certificates import AUTHORITY, issue
from tests.support.checked import LISTENER, told
from tests.support.configuration import HELLO
from tests.support.processes import run
from tests.support.waiting import reactor

NUMBER = 'expected {} to be a whole number {}, not "{}"; write it like {}'
ESCAPED = "an IPv6 address in an endpoint string needs a backslash before each colon; write '{}', in single quotes"
TYPES = "tcp:79:interface=127.0.0.1, tcp:79, unix:PATH, ssl:PORT:privateKey=FILE:certKey=FILE"
NO_TYPE = "an endpoint begins with its type; write tcp:79:interface=127.0.0.1"
BACKSLASH = "nothing follows the last backslash; write two for a backslash itself"
NO_TYPE_BUT = "an endpoint begins with its type, such as tcp:, not with {}"
INTERFACE = 'expected interface to be an IP address of this machine, not "{}"; write it like {}'
BIND = INTERFACE.replace("interface", "bindAddress", 1)
TOO_LONG = "the path of a unix socket has at most 107 bytes, and this one has {}; name a shorter one"
TWICE = "expected haproxy: once, in lower case, and another endpoint after it, as in haproxy:tcp:79"
TCP, TCP6, UNIX = "tcp:79:interface=127.0.0.1", "tcp6:79", "unix:/run/fingergw/finger.sock:mode=660"
SSL, TLS, SYSTEMD = (
    "ssl:79:privateKey=key.pem:certKey=fullchain.pem",
    "tls:certificates:79",
    "systemd:domain=INET6:name=public",
)


def unknown(kind: str, types: str = TYPES) -> str:
    """Return the message about a type that no endpoint has."""
    return f'unknown endpoint type "{kind}"; write one such as {types}, or install the plug-in for it'


def too_many(kind: str, *names: str) -> str:
    """Return the message about too many parts, without the example at its end."""
    takes = f"which takes {', '.join(names)} in this order"
    return rf"too many parts after {kind}:, {takes}; write a colon within a part as \:; write it like "


SERVERS = {
    # missing
    "tcp": f"expected port after tcp:; write it like {TCP}",
    "tcp6": f"expected port after tcp6:; write it like {TCP6}",
    "unix": f"expected address after unix:; write it like {UNIX}",
    "unix:": f"the path is empty; write it like {UNIX}",
    "ssl": f"expected port after ssl:; write it like {SSL}",
    "ssl:79:privateKey=": f"privateKey is empty; write it like {SSL}",
    "ssl:79:k.pem:certKey=": f"certKey is empty; write it like {SSL}",
    "ssl:79:k.pem:extraCertChain=": f"extraCertChain is empty; write it like {SSL}",
    "ssl:79:k.pem:dhParameters=": f"dhParameters is empty; write it like {SSL}",
    "tls:": f"the path is empty; write it like {TLS}",
    "tls:path=:port=79": f"the path is empty; write it like {TLS}",
    "systemd:INET:name=": f"expected either name= or index=; write it like {SYSTEMD}",
    "tls": f"expected path after tls:; write it like {TLS}",
    "systemd:name=x": f"expected domain after systemd:; write it like {SYSTEMD}",
    "systemd:INET": f"expected either name= or index=; write it like {SYSTEMD}",
    "systemd:INET:index=0:name=x": f"expected either name= or index=; write it like {SYSTEMD}",
    "haproxy:tcp": f"expected port after tcp:; write it like {TCP}",
    # no number, or out of bounds
    "tcp:": NUMBER.format("the port", "from 0 to 65535", "", TCP),
    "tcp:finger": NUMBER.format("the port", "from 0 to 65535", "finger", TCP),
    "tcp:65536": NUMBER.format("the port", "from 0 to 65535", "65536", TCP),
    "tcp:-1": NUMBER.format("the port", "from 0 to 65535", "-1", TCP),
    "tcp:127.0.0.1:79": NUMBER.format("the port", "from 0 to 65535", "127.0.0.1", TCP),
    "tcp:" + "9" * 5000: NUMBER.format("the port", "from 0 to 65535", "9" * 5000, TCP),
    "tcp:79:backlog=many": NUMBER.format("backlog", "from -1 to 2147483647", "many", TCP),
    "tcp:79:backlog=99999999999": NUMBER.format("backlog", "from -1 to 2147483647", "99999999999", TCP),
    "tcp6:79:127.0.0.1": NUMBER.format("backlog", "from -1 to 2147483647", "127.0.0.1", TCP6),
    "ssl:finger": NUMBER.format("the port", "from 0 to 65535", "finger", SSL),
    "tls:certificates:x": NUMBER.format("the port", "from 0 to 65535", "x", TLS),
    "unix:s:mode=rw": NUMBER.format("mode", "in octal from 0 to 7777", "rw", UNIX),
    "unix:s:mode=77777": NUMBER.format("mode", "in octal from 0 to 7777", "77777", UNIX),
    "unix:s:lockfile=yes": NUMBER.format("lockfile", "from 0 to 1", "yes", UNIX),
    "systemd:INET:index=x": NUMBER.format("index", "from 0 to 2147483647", "x", SYSTEMD),
    "tcp:79:backlog=-3": NUMBER.format("backlog", "from -1 to 2147483647", "-3", TCP),
    "unix:s:mode=999": NUMBER.format("mode", "in octal from 0 to 7777", "999", UNIX),
    # no address
    "tcp:79:interface=eth0": INTERFACE.format("eth0", TCP),
    "tcp:79:interface=1": INTERFACE.format("1", TCP),
    "tcp:79:interface=finger.example.org": INTERFACE.format("finger.example.org", TCP),
    r"tcp:79:interface=[\:\:1]": INTERFACE.format("[::1]", TCP),
    r"tcp6:79:interface=\:\:x": INTERFACE.format("::x", TCP6),
    "ssl:79:k.pem:interface=eth0": INTERFACE.format("eth0", SSL),
    "tls:/c:79:interface=eth0": INTERFACE.format("eth0", TLS),
    "haproxy:tcp:79:interface=eth0": INTERFACE.format("eth0", TCP),
    "haproxy:systemd:domain=UNIX:name=x": "a proxy is known by its address, and a unix socket's clients have none; use "
    "domain=INET6",
    # paths
    "unix:none/s": "no folder {0}/none; make it: mkdir -p {0}/none",
    "unix:/no such/folder/s": "no folder /no such/folder; make it: mkdir -p '/no such/folder'",
    "unix:empty": "{0}/empty is a folder, not a socket; name a path in it",
    "unix:c.pem": "{0}/c.pem is a file, not a socket; remove it, or name another path",
    "unix:link": "{0}/link is a symbolic link, not a socket; remove it, or name another path",
    "unix:c.pem/s": "{0}/c.pem/s: Not a directory; name another path",
    "unix:/dev/null": "/dev/null is a special file, not a socket; remove it, or name another path",
    "unix:/" + "s" * 107: TOO_LONG.format(108),
    "unix:/" + "é" * 54: TOO_LONG.format(109),
    # unknown words
    "tcp:79:intreface=::1": f"tcp: has no argument intreface=, only port, interface, backlog; write it like {TCP}",
    "unix:path=s": f"unix: has no argument path=, only address, mode, backlog, lockfile; write it like {UNIX}",
    "systemd:FOO:name=x": f'expected domain to be INET6, INET or UNIX, not "FOO"; write it like {SYSTEMD}',
    "ssl:79:k.pem:sslmethod=TLS": "expected sslmethod to be one of pyOpenSSL's methods, such as TLS_METHOD, "
    f'not "TLS"; write it like {SSL}',
    "ssl:79:k.pem:sslmethod=Context": "expected sslmethod to be one of pyOpenSSL's methods, such as TLS_METHOD, not "
    f'"Context"; write it like {SSL}',
    # twice, and too many
    "tcp:79:port=80": f"port is given twice, by position and as port=; write it like {TCP}",
    "tcp:79:127.0.0.1:50:more": too_many("tcp", "port", "interface", "backlog") + TCP,
    "unix:s:660:5:1:9": too_many("unix", "address", "mode", "backlog", "lockfile") + UNIX,
    "tls:certificates:79:1:2:3": too_many("tls", "path", "port", "backlog", "interface") + TLS,
    # colons
    "tcp:79:interface=::1": ESCAPED.format(r"tcp:79:interface=\:\:1"),
    "tcp:79:interface=[::]": ESCAPED.format(r"tcp:79:interface=\:\:"),
    "tcp:79:::1": ESCAPED.format(r"tcp:79:\:\:1"),
    "tcp6:79:interface=2001:db8::1:backlog=5": ESCAPED.format(r"tcp6:79:interface=2001\:db8\:\:1:backlog=5"),
    "ssl:79:/k.pem:interface=::1": ESCAPED.format(r"ssl:79:/k.pem:interface=\:\:1"),
    "tls:/c:79:interface=::1": ESCAPED.format(r"tls:/c:79:interface=\:\:1"),
    "haproxy:tcp:79:interface=::1": ESCAPED.format(r"haproxy:tcp:79:interface=\:\:1"),
    # backslashes
    "tcp:79\\": BACKSLASH,
    "tcp:79:interface=\\": BACKSLASH,
    "haproxy:tcp:79\\\\\\": BACKSLASH,
    "haproxy:tcp:79\\": BACKSLASH,
    "tcp:79:\\": BACKSLASH,
    "tcp:79:interface=1\\": BACKSLASH,
    "unix:x\\": BACKSLASH,
    "unix:address=x\\": BACKSLASH,
    "ssl:79:k.pem\\": BACKSLASH,
    "systemd:domain=INET:name=x\\": BACKSLASH,
    "tcp\\": BACKSLASH,
    "\\": BACKSLASH,
    "stdio:\\": BACKSLASH,
    # types
    "": NO_TYPE,
    ":79": NO_TYPE,
    "haproxy:": NO_TYPE,
    "tcq:79": unknown("tcq"),
    "79": NO_TYPE,
    "127.0.0.1:79": NO_TYPE,
    "fd:3": unknown("fd"),
    "haproxy": TWICE,
    "haproxy:haproxy:tcp:79": TWICE,
    "HAProxy:tcp:79": TWICE,
    "haproxy:HAPROXY:tcp:79": TWICE,
    "haproxy:" * 1_000 + "tcp:79": TWICE,
    "port=79:tcp": NO_TYPE_BUT.format("port=79"),
    "port=79:haproxy:tcp": NO_TYPE_BUT.format("port=79"),
    "=:tcp:79": NO_TYPE_BUT.format("="),
    # files
    "ssl:79:privateKey=none.pem": "{0}/none.pem: No such file or directory; name a file that exists",
    "ssl:79:privateKey=empty": "{0}/empty: Is a directory; name a PEM file",
    "tls:none:79": "{0}/none: no such folder; name one with certificates and their keys in *.pem files",
    "tls:empty:79": "{0}/empty: has no *.pem file with a certificate and its key",
    "tls:port=79:path=empty": "{0}/empty: has no *.pem file with a certificate and its key",
}
HOST, HOST_TLS, OTHER_UNIX = "tcp:old.example.org:79", "tls:old.example.org:79", "unix:/run/other/finger.sock"
CLIENT_TYPES = "tcp:HOST:79, tls:HOST:79, unix:PATH"
TLS_NAMES = ("host", "port", "timeout", "bindAddress", "certificate", "privateKey", "trustRoots", "endpoint")
CLIENTS = {
    "tcp": f"expected host and port after tcp:; write it like {HOST}",
    "tcp:h": f"expected port after tcp:; write it like {HOST}",
    "tcp::79": f"the host is empty; write it like {HOST}",
    "tcp:a..b:79": f'"a..b" cannot be the name of a host; write it like {HOST}',
    "tcp:bü..cher:79": f'"bü..cher" cannot be the name of a host; write it like {HOST}',
    "tls:bü..cher:79": f'"bü..cher" cannot be the name of a host; write it like {HOST_TLS}',
    "tcp:a b:79": f'"a b" cannot be the name of a host; write it like {HOST}',
    "tcp:1.2.3.400:79": f'"1.2.3.400" cannot be the name of a host; write it like {HOST}',
    "tcp:h:finger": NUMBER.format("the port", "from 1 to 65535", "finger", HOST),
    "tcp:h:0": NUMBER.format("the port", "from 1 to 65535", "0", HOST),
    "tcp:h:79:timeout=soon": NUMBER.format("timeout", "from 0 to 2147483647", "soon", HOST),
    "tcp:h:79:timeout=-1": NUMBER.format("timeout", "from 0 to 2147483647", "-1", HOST),
    "tcp:h:79:5": too_many("tcp", "host", "port") + HOST,
    "tcp:h:79:host=i": f"host is given twice, by position and as host=; write it like {HOST}",
    "tcp:h:79:wait=1": f"tcp: has no argument wait=, only host, port, timeout, bindAddress; write it like {HOST}",
    "tcp:::1:79": ESCAPED.format(r"tcp:\:\:1:79"),
    "tcp:[2001:db8::1]:79": ESCAPED.format(r"tcp:2001\:db8\:\:1:79"),
    "tcp:host=::1:port=79": ESCAPED.format(r"tcp:host=\:\:1:port=79"),
    "unix": f"expected path after unix:; write it like {OTHER_UNIX}",
    "unix:": f"the path is empty; write it like {OTHER_UNIX}",
    "unix:s:5": too_many("unix", "path") + OTHER_UNIX,
    "unix:s:timeout=x": NUMBER.format("timeout", "from 0 to 2147483647", "x", OTHER_UNIX),
    "unix:/x\\": BACKSLASH,
    "unix:/" + "s" * 107: TOO_LONG.format(108),
    "timeout=5:ssl:h:79": NO_TYPE_BUT.format("timeout=5"),
    "unix:s:lockfile=x": NUMBER.format("lockfile", "from 0 to 1", "x", OTHER_UNIX),
    "tls:h": f"expected port after tls:; write it like {HOST_TLS}",
    "tls:h:finger": NUMBER.format("the port", "from 1 to 65535", "finger", HOST_TLS),
    "tls:h:79:timeout=soon": NUMBER.format("timeout", "from 0 to 2147483647", "soon", HOST_TLS),
    "tls:h:79:caFile=c.pem": f"tls: has no argument caFile=, only {', '.join(TLS_NAMES)}; write it like {HOST_TLS}",
    "tls:h:79" + ":5" * 7: too_many("tls", *TLS_NAMES) + HOST_TLS,
    "tls:::1:79": ESCAPED.format(r"tls:\:\:1:79"),
    "tls:a..b:79": f'"a..b" cannot be the name of a host; write it like {HOST_TLS}',
    "tls:h:79:trustRoots=none": "{0}/none: No such file or directory; name a folder that exists",
    "tls:h:79:trustRoots=empty": "{0}/empty: expected a folder with authorities' certificates in *.pem files",
    "tls:h:79:trustRoots=broken": "{0}/broken/a.pem: a certificate in it cannot be parsed; replace the "
    "file with the authority's certificate in PEM form",
    "tls:h:79:trustRoots=c.pem": "{0}/c.pem: Not a directory; trustRoots= takes a folder, not a file",
    "tls:h:79:trustRoots=": f"trustRoots is empty; write it like {HOST_TLS}",
    "tls:h:79:certificate=": f"certificate is empty; write it like {HOST_TLS}",
    "tls:h:79:certificate=c.pem:privateKey=": f"privateKey is empty; write it like {HOST_TLS}",
    "tls:h:79:bindAddress=eth0": BIND.format("eth0", HOST_TLS),
    "tcp:h:79:bindAddress=": BIND.format("", HOST),
    "tls:h:79:certificate=none.pem": "{0}/none.pem: No such file or directory; name a file that exists",
    "tls:h:79:certificate=c.pem": "{0}/c.pem: expected a private key in PEM form",
    "tls:h:79:certificate=c.pem:privateKey=k.pem": "{0}/k.pem: this is not the key of the certificate in {0}/c.pem; "
    "name the key that belongs to it",
    "tls:h:79:privateKey=k.pem": "privateKey= is of no use without its certificate=; name both, or neither; "
    f"write it like {HOST_TLS}",
    r"tls:h:79:endpoint=tcq\:h": unknown("tcq", CLIENT_TYPES),
    "SSL:h:79": "ssl: does not verify the server; write tls:HOST:PORT in its place",
    r"s\sl:h:79": "ssl: does not verify the server; write tls:HOST:PORT in its place",
    "h:79": unknown("h", CLIENT_TYPES),
    "": "an endpoint begins with its type; write tcp:HOST:79",
    "tcp6:h:79": unknown("tcp6", CLIENT_TYPES),
    "haproxy:tcp:h:79": unknown("haproxy", CLIENT_TYPES),
    "tcp:h:79\\": BACKSLASH,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with files that are not what they should be."""
    (tmp_path / "link").symlink_to("nothing")
    for name in ("empty", "broken"):
        (tmp_path / name).mkdir()
    (tmp_path / "broken" / "a.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    (tmp_path / "c.pem").write_text(AUTHORITY.pem)
    (tmp_path / "k.pem").write_text(issue("gateway").key_pem)
    return tmp_path


@pytest.mark.parametrize("endpoint", SERVERS)
def test_servers(folder: Path, endpoint: str) -> None:
    """Each mistake in a listener's endpoint is one problem of that key, in words that say what to write."""
    path = folder / "fingergw.toml"
    proxies = 'trusted_proxies = ["127.0.0.1"]\n' if endpoint.lower().startswith("haproxy") else ""
    path.write_text(f"[[listeners]]\nname = 'l'\nendpoint = '{endpoint}'\n{proxies}")
    ((problem,), _) = check(fingergw.load(path), reactor)
    assert problem.path == ("listeners", 0, "endpoint")
    assert problem.message == SERVERS[endpoint].format(folder)


@pytest.mark.parametrize(
    "endpoint", ["tcp:1079\\", "unix:x\\", "\\", "tcp:79:interface=eth0", "unix:none/s", "unix:c.pem"]
)
def test_admin(folder: Path, endpoint: str) -> None:
    """So is one in the endpoint of the admin pages."""
    path = folder / "fingergw.toml"
    path.write_text(f"{LISTENER}[admin]\nendpoint = '{endpoint}'\n")
    ((problem,), _) = check(fingergw.load(path), reactor)
    assert problem.path == ("admin", "endpoint")
    assert problem.message == SERVERS[endpoint.replace("1079", "79")].format(folder)


def test_start(folder: Path) -> None:
    """A start reports all of them, as ``check`` does, and binds nothing."""
    path = folder / "fingergw.toml"
    endpoints = ("unix:s", "unix:none/s", "unix:empty", "tcp:1:interface=eth0", "tcp:1\\")
    path.write_text("".join(f"[[listeners]]\nendpoint = '{each}'\n" for each in endpoints) + HELLO)
    checked, started = (run([*command, "--config", str(path)]) for command in (["check"], []))
    assert (checked.returncode, started.returncode) == (78, 78)
    assert checked.stderr == started.stderr
    assert [line.split(":")[1] for line in started.stderr.splitlines()[1:]] == ["4", "6", "8", "10"]
    assert not (folder / "s").exists()


def test_unit_that_has_not_run(tmp_path: Path) -> None:
    """A check before the unit's first start only warns of the folder that this makes; a start needs it."""
    path = tmp_path / "fingergw.toml"
    path.write_text(f"[[listeners]]\nname = 'l'\nendpoint = 'unix:/run/no-such-unit/s'\n{HELLO}")
    checked, started = (run([*command, "--config", str(path)]) for command in (["check"], []))
    assert (checked.returncode, started.returncode) == (0, 1)
    warning = f"fingergw: warning: {path}:3: listeners[0].endpoint: no folder /run/no-such-unit now, and without it"
    assert checked.stderr.startswith(warning)
    why = "cannot be bound: No such file or directory; make its folder: mkdir -p /run/no-such-unit\n"
    assert started.stderr.endswith(why)


@pytest.mark.parametrize("endpoint", CLIENTS)
def test_clients(folder: Path, endpoint: str) -> None:
    """Likewise in the endpoint of a host that queries are forwarded to."""
    path = folder / "fingergw.toml"
    path.write_text(f"{LISTENER}[forwarding.allow]\nh = '{endpoint}'\n")
    ((problem,), _) = check(fingergw.load(path), reactor)
    assert problem.path == ("forwarding", "allow", "h")
    assert problem.message == CLIENTS[endpoint].format(folder)


@pytest.mark.parametrize("endpoint", [each for each in SERVERS if ESCAPED.partition(";")[0] in SERVERS[each]])
def test_corrected(folder: Path, endpoint: str) -> None:
    """The corrected endpoint that such a message shows can be put into the file as it is; other mistakes remain."""
    corrected = "'" + SERVERS[endpoint].split("'")[1] + "'"
    path = folder / "fingergw.toml"
    proxies = 'trusted_proxies = ["127.0.0.1"]\n' if endpoint.lower().startswith("haproxy") else ""
    path.write_text(f"[[listeners]]\nendpoint = {corrected}\n{proxies}")
    found = told(path)
    assert not found or ".pem" in found[0] or "*.pem" in found[0]


def test_where(folder: Path) -> None:
    """The file, the line and the key come first."""
    path = folder / "fingergw.toml"
    path.write_text(f"[[listeners]]\nname = 'l'\nendpoint = 'tcp:79:interface=::1'\n{HELLO}")
    assert told(path) == ["3: listeners[0].endpoint: " + ESCAPED.format(r"tcp:79:interface=\:\:1")]


UNBOUND = {
    "tcp:{port}:interface=127.0.0.1": "Address already in use; stop the process that has it (ss -lntp lists them), or "
    "choose another port",
    "tcp:0:interface=192.0.2.1": "Cannot assign requested address; interface= takes an IP address of this machine "
    "(ip address lists them)",
    r"tcp:0:interface=fe80\:\:1%none": "interface= takes an IP address of this machine",
    "unix:{0}/none/s": "No such file or directory; make its folder: mkdir -p {0}/none",
    "unix:{0}/none/s:lockfile=0": "No such file or directory; make its folder: mkdir -p {0}/none",
    "unix:{0}/file": "{0}/file is a file, not a socket; remove it, or name another path",
    "unix:{0}/link": "{0}/link is a symbolic link, not a socket; remove it, or name another path",
    "unix:{0}/busy": "another process answers at {0}/busy; stop it, or name another path",
    "unix:{0}/busy:lockfile=0": "another process answers at {0}/busy; stop it, or name another path",
    "unix:{0}/full": "another process answers at {0}/full; stop it, or name another path",
    "unix:{0}/datagrams": "Protocol wrong type for socket; there is a socket of another kind; name another path",
    "unix:{0}/held": "another process has this socket, as it has locked {0}/held.lock; stop that process, or name "
    "another path",
    "unix:{0}/noted": "{0}/noted.lock is not a socket's lock; remove it, or name another path",
    "systemd:domain=INET:name=x": 'systemd passed no socket by the name "x"; start the .socket unit that has '
    "FileDescriptorName=x",
    "systemd:domain=INET:index=0": "systemd passed no socket with that index; start the .socket unit that has it",
    "onion:79": unknown("onion"),
}


def refused(endpoint: str) -> str:
    """Return why a socket is not bound, and leave none behind."""
    socket_string = server(anchor(endpoint, Path("/"))).socket
    bound = Socket('listener "l"', endpoint, (socket_string, 0), lambda factory: factory)
    service = BoundService(bound, ServerFactory(), reactor)
    with pytest.raises(ListenError) as caught:
        service.privilegedStartService()
    start = f'listener "l" ({endpoint}) cannot be bound: '
    assert str(caught.value).startswith(start)
    return str(caught.value).removeprefix(start)


@pytest.mark.parametrize("endpoint", UNBOUND)
def test_unbound(tmp_path: Path, endpoint: str) -> None:
    """What keeps a good endpoint from being bound is said with what to do about it."""
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "noted.lock").write_text("milk")
    with contextlib.ExitStack() as opened:
        taken = opened.enter_context(socket.create_server(("127.0.0.1", 0)))
        for name, kind, backlog in (("busy", socket.SOCK_STREAM, 9), ("full", socket.SOCK_STREAM, 0)):
            server_socket = opened.enter_context(socket.socket(socket.AF_UNIX, kind))
            server_socket.bind(f"{tmp_path}/{name}")
            server_socket.listen(backlog)
        opened.enter_context(socket.socket(socket.AF_UNIX)).connect(f"{tmp_path}/full")
        opened.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)).bind(f"{tmp_path}/datagrams")
        fcntl.flock(opened.enter_context((tmp_path / "held.lock").open("w")), fcntl.LOCK_EX)
        made = endpoint.format(tmp_path, port=taken.getsockname()[1])
        assert refused(made).endswith(UNBOUND[endpoint].format(tmp_path))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user without rights")
def test_unbound_without_rights(tmp_path: Path) -> None:
    """So are a port that takes root, and a folder that somebody else may write to."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    with contextlib.ExitStack() as back:
        back.callback(os.seteuid, os.geteuid())
        os.seteuid(65534)
        reasons = refused("tcp:79:interface=127.0.0.1"), refused(f"unix:{closed}/s")
    start = os.strerror(errno.EACCES)
    assert reasons == (
        f"{start}; start as root for a port below 1024, or let systemd pass the socket",
        f"{start}; let the user that starts the gateway write to {closed}, or name another path",
    )
