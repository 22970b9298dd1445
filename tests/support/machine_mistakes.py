"""Configurations that name what this machine does not have, or not as it should be, each with the expected messages.

The form is that of :mod:`tests.support.mistakes`; $HERE is the folder of the configuration and of the files here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.mistakes import expected, texts

FILES: dict[str, str | bytes] = {
    "prog": "#!/bin/sh\n",
    "token": "sesame\n",
    "exposed": "sesame\n",
    "two": "sesame\nsesame\n",
    "blank": " \n\n",
    "latin": b"# fine\nn = 'x\xe9'\n",
    "secret-latin": b"\nsesam\xe9\n",
    "no.pem": "no certificate\n",
    "names.toml": "Ada = 'x'\n\nada = 'y'\n",
    "kinds.toml": "b = 5\n",
    "odd.toml": "a = 'x'\n'a@b' = 'x'\n",
    "cr.toml": "a = 'x' # y\rb = 'y'\n",
    "broken.toml": "a = 'x'\nb = \n",
}
"""The files in the folder; those that hold one secret are nobody else's to read, but for ``exposed``."""

MISTAKES = r"""
--- program
[backends.a]
type = "command"
argv = ["./nowhere"]  #! backends.a.argv[0]: no executable file "./nowhere"; install it, or correct the path
[backends.b]
type = "command"
argv = ["no-such-program"]  #! backends.b.argv[0]: $PATH
[backends.c]
type = "command"
argv = ["./prog"]  #! backends.c.argv[0]: "./prog" is not executable; run: chmod +x $HERE/prog
[backends.d]
type = "command"
argv = ["/usr"]  #! backends.d.argv[0]: "/usr" is a folder; name a program in it
--- template
[backends.a]
type = "http"
url = "http://h/"
template = "{{"  #! backends.a.template: $JINJA unexpected 'end of template' (its line 1)
[backends.b]
type = "http"
url = "http://h/"
template = "{{ a | nofilter }}"  #! backends.b.template: $JINJA No filter named 'nofilter'. (its line 1)
[backends.c]
type = "http"
url = "http://h/"
template = "{% for x %}"  #! backends.c.template: $JINJA $TOKENS
[backends.d]
type = "http"
url = "http://h/"
template = "{{ a is notest }}"  #! backends.d.template: $JINJA No test named 'notest'. (its line 1)
[backends.e]
type = "http"
url = "http://h/"
template = "{% if a %}x"  #! backends.e.template: $JINJA $UNCLOSED (its line 1)
--- secrets
[backends.a]
type = "http"
url = "http://h/"
bearer_token_file = "nowhere"  #! backends.a.bearer_token_file: $HERE/nowhere: $GONE
[backends.b]
type = "http"
url = "http://h/"
bearer_token_file = "exposed"  #! backends.b.bearer_token_file: others can read it; run: chmod o= $HERE/exposed
[backends.c]
type = "http"
url = "http://h/"
bearer_token_file = "two"  #! backends.c.bearer_token_file: $HERE/two:2: $TOKEN
[backends.d]
type = "http"
url = "http://h/"
bearer_token_file = "blank"  #! backends.d.bearer_token_file: $HERE/blank: $TOKEN
[backends.e]
type = "http"
url = "http://h/"
bearer_token_file = "."  #! backends.e.bearer_token_file: $HERE: $FOLDER
[backends.f]
type = "http"
url = "http://h/"
bearer_token_file = "secret-latin"  #! backends.f.bearer_token_file: $HERE/secret-latin:2: $TOKEN
--- authorities
[backends.a]
type = "http"
url = "https://h/"
ca_file = "nowhere"  #! backends.a.ca_file: $HERE/nowhere: $GONE
[backends.b]
type = "http"
url = "https://h/"
ca_file = "no.pem"  #! backends.b.ca_file: $HERE/no.pem: $CERTIFICATES
[backends.c]
type = "http"
url = "https://h/"
ca_file = "latin"  #! backends.c.ca_file: $HERE/latin:2: not UTF-8; save it as UTF-8
--- maps
[backends.a]
type = "static"
file = "nowhere"  #! backends.a.file: $HERE/nowhere: cannot be read: $GONE
[backends.b]
type = "static"
file = "latin"  #! backends.b.file: $HERE/latin:2: not UTF-8, which TOML requires; save the file as UTF-8
[backends.c]
type = "static"
file = "names.toml"  #! backends.c.file: $HERE/names.toml:3: ada: this name $TWICE
[backends.d]
type = "static"
file = "odd.toml"  #! backends.d.file: $HERE/odd.toml:2: "a@b": $ASKED
[backends.e]
type = "static"
file = "cr.toml"  #! backends.e.file: $HERE/cr.toml:1: $RETURN (column 12)
[backends.f]
type = "static"
file = "broken.toml"  #! backends.f.file: $HERE/broken.toml:2: $VALUE (column 5)
[backends.g]
type = "static"
file = "."  #! backends.g.file: $HERE: cannot be read: $FOLDER
[backends.h]
type = "static"
[backends.h.entries]
Ada = "x"
ada = "y"  #! backends.h.entries.ada: this name $TWICE
[backends.i]
type = "static"
file = "kinds.toml"  #! backends.i.file: $HERE/kinds.toml:1: b: $PERSON
--- process
[process]
user = "nobody-of-that-name"  #! process.user: no user "nobody-of-that-name" $HOST
group = "no-group-of-that-name"  #! process.group: no group "no-group-of-that-name" $HOST
chroot = "nowhere"  #! process.chroot: no folder $HERE/nowhere; make it: mkdir -p $HERE/nowhere
--- chroot
[process]
chroot = "$HERE"  #! process.chroot: $NULL
--- store
[cache]
password_file = "token"  #! cache.password_file: only a Redis store has a password_file; remove it
ca_file = "no.pem"  #! cache.ca_file: only a Redis store has a ca_file; remove it
--- store-redis
[cache]
store = "redis://someone@h"  #! cache.store: a user needs a password: name its password_file
ca_file = "no.pem"  #! cache.ca_file: $HERE/no.pem: $CERTIFICATES  #! cache.ca_file: $REDISS
--- store-password
[cache]
store = "rediss://h"
password_file = "exposed"  #! cache.password_file: others can read it; run: chmod o= $HERE/exposed
ca_file = "nowhere"  #! cache.ca_file: $HERE/nowhere: $GONE
--- store-beside-files
[cache]
store = "memcached"  #! cache.store: $STORE
password_file = "two"  #! cache.password_file: $HERE/two:2: $PASSWORD
ca_file = "no.pem"  #! cache.ca_file: $HERE/no.pem: $CERTIFICATES
--- forwarding
[forwarding.allow]
localhost = "tcp:h:79"  #! forwarding.allow.localhost: expected a plain host name or address, and no loopback
"127.0.0.1" = "tcp:h:79"  #! forwarding.allow."127.0.0.1": expected a plain host name or address, and no loopback
a = "tcp:h:79"
A = "tcp:h:79"  #! forwarding.allow.A: this host $TWICE
b = "ssl:h:79"  #! forwarding.allow.b: ssl: does not verify the server; write tls:HOST:PORT in its place
c = "tpc:h:79"  #! forwarding.allow.c: unknown endpoint type "tpc"; $CLIENTS
d = "tcp:h"  #! forwarding.allow.d: expected port after tcp:; $CLIENT
e = "tcp:h:0"  #! forwarding.allow.e: $PORT 1 to 65535, not "0"; $CLIENT
f = "tcp::79"  #! forwarding.allow.f: the host is empty; $CLIENT
g = "tls:h:79:certificate=nowhere"  #! forwarding.allow.g: $HERE/nowhere: $NOWHERE
h = "unix:"  #! forwarding.allow.h: the path is empty; write it like unix:/run/other/finger.sock
--- endpoints
[[listeners]]
endpoint = "tpc:79"  #! listeners[1].endpoint: unknown endpoint type "tpc"; $SERVERS
[[listeners]]
endpoint = "79"  #! listeners[2].endpoint: an endpoint begins with its type; write tcp:79:interface=127.0.0.1
[[listeners]]
endpoint = "tcp:finger"  #! listeners[3].endpoint: $PORT 0 to 65535, not "finger"; $TCP
[[listeners]]
endpoint = "tcp:79:intreface=x"  #! listeners[4].endpoint: tcp: has no argument intreface=, $ARGUMENTS
[[listeners]]
endpoint = "unix:"  #! listeners[5].endpoint: the path is empty; write it like unix:/run/fingergw/finger.sock:mode=660
[[listeners]]
endpoint = "tcp:79:mode=rw:x:y:z"  #! listeners[6].endpoint: tcp: has no argument mode=, $ARGUMENTS
[[listeners]]
endpoint = "ssl:79:privateKey=nowhere"  #! listeners[7].endpoint: $HERE/nowhere: $NOWHERE
[[listeners]]
endpoint = "ssl:79:privateKey=no.pem"  #! listeners[8].endpoint: $HERE/no.pem: $CERTIFICATES
[[listeners]]
endpoint = "tls:nowhere:79"  #! listeners[9].endpoint: $HERE/nowhere: $PEMS
[[listeners]]
endpoint = "systemd:domain=INET"  #! listeners[10].endpoint: $EITHER
[[listeners]]
endpoint = "haproxy:haproxy:tcp:1"  #! listeners[11].endpoint: $PROXY
trusted_proxies = ["10.0.0.0/8"]
--- admin
[admin]
endpoint = "tcp:finger"  #! admin.endpoint: $PORT 0 to 65535, not "finger"; $TCP
"""


MEANINGS: dict[str, str] = {
    "$ARGUMENTS": "only port, interface, backlog; write it like tcp:79:interface=127.0.0.1",
    "$ASKED": "expected a name that clients can ask for: it has no @, /W or control characters, no space at its "
    "start or end, and no two in a row; for the empty query, write a route with index = true",
    "$CERTIFICATES": "expected one or more certificates in PEM form",
    "$CLIENT": "write it like tcp:old.example.org:79",
    "$CLIENTS": "write one such as tcp:HOST:79, tls:HOST:79, unix:PATH, or install the plug-in for it",
    "$EITHER": "expected either name= or index=; write it like systemd:domain=INET6:name=public",
    "$FOLDER": "Is a directory; name a file in it",
    "$GONE": "No such file or directory; create it, or name another file",
    "$HOST": "on this machine; create it, or name another",
    "$JINJA": "expected a Jinja2 template:",
    "$NOWHERE": "No such file or directory; name a file that exists",
    "$NULL": "the folder has no /dev/null, which listeners and programs need; run: mkdir -p $HERE/dev && mknod -m "
    "666 $HERE/dev/null c 1 3",
    "$PASSWORD": "expected one password in it, in one line of printable ASCII",
    "$PATH": 'no executable file "no-such-program" on the PATH; install it, or write its path',
    "$PEMS": "no such folder; name one with certificates and their keys in *.pem files",
    "$PERSON": "expected a string, or a table with any of the keys login, name, directory, shell, office, phone, "
    "last_login, mail, project, plan",
    "$PORT": "expected the port to be a whole number from",
    "$PROXY": "expected haproxy: once, in lower case, and another endpoint after it, as in haproxy:tcp:79",
    "$REDISS": "only a rediss: store has a ca_file; remove it, or write rediss:",
    "$RETURN": "not TOML: a carriage return that does not end the line, as no line feed follows it; remove it; in a "
    "string, write \\r",
    "$SERVERS": "write one such as tcp:79:interface=127.0.0.1, tcp:79, unix:PATH, "
    "ssl:PORT:privateKey=FILE:certKey=FILE, or install the plug-in for it",
    "$STORE": 'expected "memory", "sqlite:PATH" or "redis://HOST:PORT/DATABASE" (rediss: for TLS)',
    "$TCP": "write it like tcp:79:interface=127.0.0.1",
    "$TOKEN": "expected one token in it, in one line of printable ASCII",
    "$TOKENS": "expected token 'in', got 'end of statement block' (its line 1)",
    "$TWICE": "is defined twice, differing only by case; remove one of the two",
    "$UNCLOSED": "Unexpected end of template. Jinja was looking for the following tags: 'elif' or 'else' or 'endif'. "
    "The innermost block that needs to be closed is 'if'.",
    "$VALUE": 'not TOML: expected a value: a "string" in quotes, a number, true, false, a date, a [list] or a { '
    "table }",
}


def prepare(folder: Path) -> None:
    """Write the files."""
    for name, content in FILES.items():
        path = folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        path.chmod(0o644 if name in ("exposed", "prog") else 0o600)


def rows() -> list[Any]:
    """Return the texts of MISTAKES with the messages that are expected."""
    return [pytest.param(text, expected(text, MEANINGS), id=name) for name, text in texts(MISTAKES).items()]
