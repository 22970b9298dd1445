"""The configuration file: what is read from it, every mistake with its line, and writing it again."""

from __future__ import annotations

import os
import re
import select
import threading
import tomllib
from collections.abc import Iterator
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import attrs
import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.testing import MemoryReactorClock

import fingergw
from fingergw.app import build
from fingergw.backends import command, finger, http, menu, static
from fingergw.config import load, load_table, model, read
from fingergw.config import tables as typed_tables
from fingergw.config.lines import line_numbers
from fingergw.config.problems import Problem, to_error
from fingergw.core import admission as typed_admission
from fingergw.core import outcome as typed_outcome
from fingergw.core import rules as typed_rules
from fingergw.core.errors import ConfigError
from fingergw.core.placeholders import Template
from fingergw.core.settings import KeyPath, changed, keys_of
from tests.support import ROOT, wait_until

LISTENER = '[[listeners]]\nendpoint = "tcp:1079"\n'

# Each begins with "--- " and its name. A mistake's message stands as a comment, begun by "#!", on the line it is
# expected to be reported with; the order of messages is the order of lines. A listener is put before each, or after
# it where it begins with a key.
MISTAKES = r"""
--- unknown-table
[limit]  #! limit: unknown table "limit"; did you mean "limits"?
--- unknown-key
[limits]
max_conections = 5  #! limits.max_conections: unknown key "max_conections"; did you mean "max_connections"?
--- unknown-key-nothing-near
[limits]
zebra = 5  #! limits.zebra: unknown key "zebra"; $LIMITS
--- unknown-key-in-item
[[listeners]]
endpoint = "tcp:1"

alow = []  #! listeners[1].alow: unknown key "alow"; did you mean "allow"?
--- unknown-key-of-backend
[backends.x]
type = "menu"
ttl = 5  #! backends.x.ttl: unknown key "ttl"; expected one of: cache
--- unknown-key-of-person
[backends.x]
type = "static"
[backends.x.entries]
nail = { nam = "N" }  #! backends.x.entries.nail.nam: unknown key "nam"; did you mean "name"?
--- unknown-key-hostile
[limits]
"a\u001b\"b" = 1  #! limits."a\x1b\"b": unknown key "a\x1b\"b"; $LIMITS
--- missing-key
[[listeners]]  #! listeners[1]: expected a key "endpoint"
name = "x"
--- missing-argv
[backends.x]  #! backends.x: expected a key "argv"
type = "command"
--- table-for-list
[routes]  #! routes: expected a list of tables, each begun by [[routes]]
user = "x"
--- list-for-table
[[limits]]  #! limits: expected a table, not a list
max_connections = 5
--- number-for-table
limits = 5  #! limits: expected a table, not a whole number
--- number-for-item
routes = [1]  #! routes[0]: expected a table, not a whole number
--- number-for-backends
backends = 5  #! backends: expected a table, not a whole number
--- number-for-backend
backends = { x = 5 }  #! backends.x: expected a table, not a whole number
--- string-for-number
[limits]
max_connections = "5"  #! limits.max_connections: expected a whole number, not a string
--- string-for-duration
[limits]
query_timeout = "5"  #! limits.query_timeout: expected a number, not a string
--- number-for-string
[answers]
busy = 5  #! answers.busy: expected a string, not a whole number
--- bare-string-for-list
[[listeners]]
endpoint = "tcp:1"
allow = "10.0.0.0/8"  #! listeners[1].allow: expected a list, not a string
--- bool-for-int
[limits]
max_connections = true  #! limits.max_connections: expected a whole number, not true or false
--- float-for-int
[limits]
max_connections = 5.0  #! limits.max_connections: expected a whole number, not a number
--- int-for-bool
[answers]
case_sensitive = 1  #! answers.case_sensitive: expected true or false, not a whole number
--- list-for-name
[[listeners]]
endpoint = "tcp:1"
name = ["x"]  #! listeners[1].name: expected a string, not a list
--- date-for-string
[answers]
busy = 2026-11-22  #! answers.busy: expected a string, not a date or time
--- item-of-list
[backends.x]
type = "command"
argv = [
  "a",  # program
  5,  #! backends.x.argv[1]: expected a string, not a whole number
  "{user",  #! backends.x.argv[2]: expected '}' before end of string; $BRACE
]
--- value-of-table
[backends.x]
type = "command"
argv = ["a"]
env = { A = "1", B = 2 }  #! backends.x.env.B: expected a string, not a whole number
--- entry
[backends.x]
type = "static"
entries = { a = 5 }  #! backends.x.entries.a: $PERSON
--- nul
[backends.x]
type = "command"
argv = ["a\u0000"]  #! backends.x.argv[0]: expected a string without NUL
--- size
[limits]
max_query_bytes = 0  #! limits.max_query_bytes: expected 1 or more
--- duration-0
[limits]
query_timeout = 0  #! limits.query_timeout: $SECONDS
--- duration-inf
[limits]
query_timeout = inf  #! limits.query_timeout: $SECONDS
--- duration-nan
[limits]
query_timeout = nan  #! limits.query_timeout: $SECONDS
--- exit-code
[backends.x]
type = "command"
argv = ["a"]
missing_exit_codes = [
  1,
  0,  #! backends.x.missing_exit_codes[1]: expected 1 to 255
  256,  #! backends.x.missing_exit_codes[2]: expected 1 to 255
]
--- status
[backends.x]
type = "http"
url = "http://h/"
missing_statuses = [99]  #! backends.x.missing_statuses[0]: expected 100 to 599
--- choice
[log]
format = "xml"  #! log.format: expected "text" or "json"
--- choice-type
[log]
level = 5  #! log.level: $LEVELS
--- umask
[process]
umask = "028"  #! process.umask: expected a string of octal digits such as "027"
--- umask-number
[process]
umask = 22  #! process.umask: expected a string, not a whole number
--- network
[[listeners]]
endpoint = "tcp:1"
allow = [
  "10.0.0.1/8",  #! listeners[1].allow[0]: $NETWORK 10.0.0.1/8 has host bits set
  "::/0",
  "x",  #! listeners[1].allow[2]: $NETWORK 'x' does not appear to be an IPv4 or IPv6 network
]
--- nothing to match
[[routes]]
users = []  #! routes[0].users: expected at least one
backends = ["b"]
[[routes]]  #! routes[1]: expected something to match in pattern
pattern = ""
backends = ["b"]
[[routes]]
regex = "(?P<user>a)"  #! routes[2].regex: expected another name for the group "user": {user} is the whole name
backends = ["b"]
[[routes]]  #! routes[3]: expected something to match in regex
regex = ""
backends = ["b"]
[backends.b]
type = "menu"
--- variable
[backends.b]
type = "command"
argv = ["true"]
env = { "A=B" = "c" }  #! backends.b.env."A=B": expected the name of an environment variable
--- regex
[[routes]]
regex = "(a"  #! routes[0].regex: expected RE2 syntax: missing ): (a
backends = ["b"]
[backends.b]
type = "menu"
--- user-empty
[[routes]]
user = ""  #! routes[0].user: $NAME
backends = ["b"]
[backends.b]
type = "menu"
--- users
[[routes]]
users = ["a", "b@c", " d"]  #! routes[0].users[1]: $NAME #! routes[0].users[2]: $NAME
backends = ["b"]
[backends.b]
type = "menu"
--- fallthrough
[[routes]]
user = "x"
backends = ["b"]
fallthrough = ["mising"]  #! routes[0].fallthrough[0]: expected "missing" or "failed"
[backends.b]
type = "menu"
--- argv-empty
[backends.x]
type = "command"
argv = []  #! backends.x.argv: expected at least one
--- header-name
[backends.x]
type = "http"
url = "http://h/"
[backends.x.headers]
"a b" = "c"  #! backends.x.headers."a b": expected a header's name such as "Accept"
d = "e\nf"  #! backends.x.headers.d: $HEADER
--- type-missing
[backends.x]  #! backends.x: expected a type, one of: $TYPES
text = "a"
--- type-unknown
[backends.x]
text = "a"
type = "statik"  #! backends.x.type: unknown backend type "statik"; did you mean "static"?
--- type-no-string
[backends.x]
type = ["static"]  #! backends.x.type: expected one of: $TYPES
--- dangling-backend
[[routes]]
user = "x"
backends = ["b", "bb"]  #! routes[0].backends[1]: unknown backend "bb"; did you mean "b"?
[backends.b]
type = "menu"
--- dangling-backend-none
[[routes]]
user = "x"
backends = ["b"]  #! routes[0].backends[0]: unknown backend "b"; expected one of: (there is none)
--- dangling-listener
[[routes]]
user = "x"
listeners = ["tcp:107"]  #! routes[0].listeners[0]: unknown listener "tcp:107"; did you mean "tcp:1079"?
backends = ["b"]
[backends.b]
type = "menu"
--- no-backends
[[routes]]
user = "x"
listeners = []  #! routes[0].listeners: expected at least one
backends = []  #! routes[0].backends: expected at least one
--- duplicate-listener
[[listeners]]
endpoint = "tcp:1"
name = "tcp:1079"  #! listeners[1].name: expected a name of its own; "tcp:1079" is taken already
--- duplicate-endpoint
[[listeners]]
endpoint = "tcp:1079"  #! listeners[1].endpoint: expected a name of its own; "tcp:1079" is taken already
--- duplicate-route
[[routes]]
name = "x"
index = true
backends = ["b"]
[[routes]]
user = "y"
backends = ["b"]
name = "x"  #! routes[1].name: expected a name of its own; "x" is taken already
[backends.b]
type = "menu"
--- no-matcher
[[routes]]  #! routes[0]: $ONE none of them
backends = ["b"]
[backends.b]
type = "menu"
--- no-matcher-index-false
[[routes]]  #! routes[0]: $ONE none of them
index = false
backends = ["b"]
[backends.b]
type = "menu"
--- two-matchers
[[routes]]  #! routes[0]: $ONE user, index
backends = ["b"]
user = "x"
index = true
[backends.b]
type = "menu"
--- two-matchers-and-more
[[routes]]  #! routes[0]: $ONE user, pattern
backends = ["b"]
user = 5  #! routes[0].user: expected a string, not a whole number
pattern = "x"
[backends.b]
type = "menu"
--- static-empty
[backends.x]  #! backends.x: expected exactly one of entries, file, text; found none of them
type = "static"
--- static-both
[backends.x]  #! backends.x: expected exactly one of entries, file, text; found file, text
type = "static"
text = "a"
file = "b"
--- brace
[backends.x]
type = "command"
argv = ["a", "{user"]  #! backends.x.argv[1]: expected '}' before end of string; $BRACE
--- placeholder-form
[backends.x]
type = "http"
url = "http://h/{user!r}"  #! backends.x.url: "{user!r}" is no placeholder; $BRACE
--- placeholder-unset
[backends.x]
type = "command"
argv = ["a", "{user}{team}"]  #! backends.x.argv[1]: $UNSET
--- placeholder-not-by-all
[[routes]]
regex = "(?P<team>a)"
backends = ["x"]
[[routes]]
user = "b"
backends = ["x"]
[backends.x]
type = "http"
url = "http://h/{team}"  #! backends.x.url: $UNSET
--- placeholder-of-a-broken-route
[[routes]]
regex = "(?P<team>a)"
backends = ["x"]
zebra = 1  #! routes[0].zebra: unknown key "zebra"; $ROUTES
[backends.x]
type = "http"
url = "http://h/{team}"
--- placeholder-of-a-broken-list
[[routes]]
regex = "(?P<team>a)"
backends = "x"  #! routes[0].backends: expected a list, not a string
[backends.x]
type = "http"
url = "http://h/{team}"
--- placeholder-program
[backends.x]
type = "command"
argv = ["{user}"]  #! backends.x.argv[0]: expected the program's name, without placeholders
--- decoy-nobody-logs
[[listeners]]
endpoint = "tcp:1"
decoy = true  #! listeners[1].decoy: a decoy is there for the access log, which is off; set log.access
[log]
access = "off"
--- delay-of-no-decoy
[[listeners]]
endpoint = "tcp:1"
delay = 5  #! listeners[1].delay: only a decoy takes its time; remove it, or set decoy = true
--- delay-below-0
[[listeners]]
endpoint = "tcp:1"
decoy = true
delay = -1  #! listeners[1].delay: expected a number of seconds, 0 or more
--- trusted-proxies-of-no-proxied-listener
[[listeners]]
endpoint = "tcp:1"
trusted_proxies = ["10.0.0.0/8"]  #! listeners[1].trusted_proxies: only a haproxy: endpoint takes these; remove them
--- haproxy-that-trusts-nobody
[[listeners]]  #! listeners[1]: expected trusted_proxies, the networks of those who may send a PROXY header
endpoint = "haproxy:tcp:1"
--- haproxy-over-a-unix-socket
[[listeners]]
endpoint = "haproxy:unix:x"  #! listeners[1].endpoint: a proxy is told by its address, which a unix socket has not; $TCP
trusted_proxies = ["10.0.0.0/8"]
--- haproxy-over-tls
[[listeners]]
endpoint = "haproxy:ssl:1"  #! listeners[1].endpoint: a proxy sends its header before TLS begins; $PLAIN
trusted_proxies = ["10.0.0.0/8"]
--- per-client
[limits]
max_connections_per_client = 0  #! limits.max_connections_per_client: expected 1 or more
max_waiting = 0  #! limits.max_waiting: expected 1 or more
--- rate
[[listeners]]
endpoint = "tcp:1"
[listeners.limits.rate]
queries = 0  #! listeners[1].limits.rate.queries: expected 1 or more
per = 0  #! listeners[1].limits.rate.per: $SECONDS
burst = 1.5  #! listeners[1].limits.rate.burst: expected a whole number, not a number
--- rate-in-part
[limits]
rate = { queries = 60, per = 60 }  #! limits.rate: expected a key "burst"
--- finger
[backends.x]
type = "finger"
host = "a b"  #! backends.x.host: $HOST
port = 65536  #! backends.x.port: expected 1 to 65535
[backends.y]
type = "finger"
host = "old.example.org:79"  #! backends.y.host: $HOST
[backends.z]
type = "finger"
host = "..."  #! backends.z.host: $HOST
[backends.six]
type = "finger"
host = "2001:db8::1"
max_running = 0  #! backends.six.max_running: expected 1 or more
--- command-limits
[backends.x]
type = "command"
argv = ["a"]
max_cpu_seconds = 0.5  #! backends.x.max_cpu_seconds: expected a whole number, not a number
max_memory_bytes = 0  #! backends.x.max_memory_bytes: expected 1 or more
max_file_bytes = -1  #! backends.x.max_file_bytes: expected 1 or more
max_processes = 0  #! backends.x.max_processes: expected 1 or more
[backends.y]
type = "command"
argv = ["a"]
max_cpu_seconds = 1000000001  #! backends.y.max_cpu_seconds: expected 1 to 1000000000
max_memory_bytes = 1000000000000001  #! backends.y.max_memory_bytes: expected 1 to 1000000000000000
--- cache
[backends.x]
type = "menu"
[backends.x.cache]
ttl = "5"  #! backends.x.cache.ttl: expected a number, not a string
stale = -1  #! backends.x.cache.stale: expected a number of seconds, 0 or more
negative_ttl = inf  #! backends.x.cache.negative_ttl: expected a number of seconds, 0 or more
max_bytes = 5  #! backends.x.cache.max_bytes: unknown key "max_bytes"; expected one of: negative_ttl, stale, ttl, vary
--- cache-vary
[backends.x]
type = "command"
argv = ["uptime"]
[backends.x.cache]
vary = ["user"]  #! backends.x.cache.vary[0]: expected "client" or "listener" or "verbose"
--- cache-vary-of-another
[backends.x]
type = "menu"
[backends.x.cache]
vary = []  #! backends.x.cache.vary: a backend of type "menu" does not take it; remove it
--- store
[cache]
store = "redis:h"  #! cache.store: $STORE
--- store-unknown
[cache]
store = "memcached://h"  #! cache.store: $STORE
--- store-sqlite-without-a-path
[cache]
store = "sqlite:"  #! cache.store: $STORE
--- store-sqlite-as-a-url
[cache]
store = "sqlite:///cache.db"  #! cache.store: $STORE
--- store-sqlite-in-memory
[cache]
store = "sqlite::memory:"  #! cache.store: $STORE
--- store-redis-without-a-host
[cache]
store = "redis://:6379/0"  #! cache.store: $STORE
--- store-redis-database
[cache]
store = "redis://h/first"  #! cache.store: $STORE
--- store-redis-port
[cache]
store = "redis://h:0"  #! cache.store: $STORE
--- store-redis-ports
[cache]
store = "redis://h:99999"  #! cache.store: $STORE
--- store-redis-query
[cache]
store = "redis://h/0?x"  #! cache.store: $STORE
--- store-redis-password
[cache]
store = "redis://:x@h"  #! cache.store: $PASSWORD
--- store-bounds
[cache]
max_entries = 0  #! cache.max_entries: expected 1 or more
--- forwarding
[forwarding]
max_hops = 0  #! forwarding.max_hops: expected 1 or more
listeners = ["nowhere"]  #! forwarding.listeners[0]: unknown listener "nowhere"; expected one of: tcp:1079
allow = { "h" = 79 }  #! forwarding.allow.h: expected a string, not a whole number
--- forwarding-host
[forwarding.allow]
"a@b" = "tcp:h:79"  #! forwarding.allow."a@b": $HOST
--- admin-at-a-listener
[admin]
endpoint = "tcp:1079"  #! admin.endpoint: expected an endpoint of its own; listeners[0] has this one
--- admin-through-a-proxy
[admin]
endpoint = "haproxy:tcp:1"  #! admin.endpoint: expected one that is asked without a PROXY header; remove haproxy:
--- admin-hosts
[admin]
hosts = [
    "gateway-1.example.org",
    "a b",  #! admin.hosts[1]: $HOST
    "h:9179",  #! admin.hosts[2]: $HOST
    9,  #! admin.hosts[3]: expected a string, not a whole number
    "",  #! admin.hosts[4]: $HOST
    "http://h/",  #! admin.hosts[5]: $HOST
]
--- admin-host-alone
[admin]
hosts = "gateway-1.example.org"  #! admin.hosts: expected a list, not a string
--- many-at-once
[limits]
max_connections = "5"  #! limits.max_connections: expected a whole number, not a string
query_timeout = -1  #! limits.query_timeout: $SECONDS

[[routes]]  #! routes[0]: $ONE user, pattern
user = "x"
pattern = "y"
backends = ["b", "nowhere"]  #! routes[0].backends[1]: unknown backend "nowhere"; expected one of: b, c
listeners = "public"  #! routes[0].listeners: expected a list, not a string

[answer]  #! answer: unknown table "answer"; did you mean "answers"?
busy = "x"

[backends.b]  #! backends.b: expected a key "argv"
type = "command"
timeout = false  #! backends.b.timeout: expected a number, not true or false
max_runing = 1  #! backends.b.max_runing: unknown key "max_runing"; did you mean "max_running"?

[[routes]]
regex = "("  #! routes[1].regex: expected RE2 syntax: missing ): (
backends = ["c"]
name = "same"

[[listeners]]  #! listeners[1]: expected a key "endpoint"
allow = ["10.0.0.1/8"]  #! listeners[1].allow[0]: $NETWORK 10.0.0.1/8 has host bits set
trusted_proxies = ["10.0.0.0/8"]  #! listeners[1].trusted_proxies: only a haproxy: endpoint takes these; remove them

[backends.c]
type = "htpp"  #! backends.c.type: unknown backend type "htpp"; did you mean "http"?

[[routes]]
name = "same"  #! routes[2].name: expected a name of its own; "same" is taken already
index = true
backends = []  #! routes[2].backends: expected at least one

[log]
format = "xml"  #! log.format: expected "text" or "json"

[admin]
endpoint = 9  #! admin.endpoint: expected a string, not a whole number
--- url
[backends.u0]
type = "http"
url = "ftp://h/"  #! backends.u0.url: $URL
[backends.u1]
type = "http"
url = "h/"  #! backends.u1.url: $URL
[backends.u2]
type = "http"
url = "/h"  #! backends.u2.url: $URL
[backends.u3]
type = "http"
url = "http:///x"  #! backends.u3.url: $URL
[backends.u4]
type = "http"
url = "http://{user}.h/"  #! backends.u4.url: $URL
[backends.u5]
type = "http"
url = "http://h:99999/"  #! backends.u5.url: $URL
[backends.u6]
type = "http"
url = "http://h:x/"  #! backends.u6.url: $URL
[backends.u7]
type = "http"
url = "http://a@h/"  #! backends.u7.url: $URL
[backends.u8]
type = "http"
url = "http://[::1/"  #! backends.u8.url: $URL
[backends.u9]
type = "http"
url = "http://h/ü"  #! backends.u9.url: $URL
[backends.u10]
type = "http"
url = "http://h/\n"  #! backends.u10.url: $URL
[backends.u11]
type = "http"
url = "http:// h/"  #! backends.u11.url: $URL
[backends.u12]
type = "http"
url = "http://my_host/"  #! backends.u12.url: $URL
[backends.u13]
type = "http"
url = " http://h/"  #! backends.u13.url: $URL
"""

MEANINGS = {
    "$UNSET": '"{team}" is no named group in the regex of every route to this backend; name it there, use {user}, '
    "or write {{ and }} for braces",
    "$URL": 'expected a URL such as "https://example.org/{user}", in ASCII, with placeholders after the host only',
    "$LIMITS": "expected one of: answer_timeout, max_answer_bytes, max_connections, max_connections_per_client, "
    "max_query_bytes, max_waiting, query_timeout, rate",
    "$ROUTES": "expected one of: backends, clients, fallthrough, index, listeners, name, pattern, regex, summary, "
    "user, users",
    "$ONE": "expected exactly one of user, users, pattern, regex, index; found",
    "$NAME": "expected a name that can be asked for; the empty query is index = true",
    "$NETWORK": 'expected a network such as "10.0.0.0/8" or "2001:db8::/32":',
    "$BRACE": "write {{ or }} for a brace that is meant as such",
    "$STORE": 'expected "memory", "sqlite:PATH" or "redis://HOST:PORT/DATABASE" (rediss: over TLS)',
    "$PASSWORD": "expected no password in it: put it into a file, and name that in password_file",
    "$HOST": 'expected a host\'s name or address, such as "old.example.org", and no port',
    "$TCP": "use haproxy:tcp:",
    "$PLAIN": "let TLS end at the proxy, and use haproxy:tcp:",
    "$SECONDS": "expected a number of seconds above 0",
    "$PERSON": "expected a text, or a table such as { name, directory, shell, office, phone, project, plan }",
    "$LEVELS": 'expected "debug" or "info" or "warn" or "error" or "critical"',
    "$HEADER": "expected a header's value, without line ends and other controls",
    "$TYPES": "command, finger, http, menu, static",
}


def rows() -> list[Any]:
    """Return the texts of MISTAKES with the messages that are expected."""
    found = []
    for row in re.split("^--- ", MISTAKES, flags=re.MULTILINE)[1:]:
        name, _, text = row.partition("\n")
        text = LISTENER + text if text.startswith("[") else text + LISTENER
        messages = []
        for number, line in enumerate(text.splitlines(), 1):
            for message in re.split(" *#! ", line)[1:]:
                meaning = re.sub(r"\$[A-Z]+", lambda match: MEANINGS[match[0]], message)
                messages.append(f"{number}: {meaning}")
        found.append(pytest.param(text, messages, id=name))
    return found


def write(folder: Path, text: str | bytes, name: str = "f.toml") -> Path:
    """Write a file, and return its path."""
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def mistakes(path: Path) -> list[str]:
    """Return what is reported for a file, without the file's name."""
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value) == "\n".join(caught.value.problems)
    assert all(problem.startswith(f"{path}:") for problem in caught.value.problems)
    return [problem.removeprefix(f"{path}:").strip() for problem in caught.value.problems]


@pytest.mark.parametrize(("text", "messages"), rows())
def test_mistakes(tmp_path: Path, text: str, messages: list[str]) -> None:
    """Every mistake is reported, with its line, its key path and what was expected, and nothing else is."""
    assert mistakes(write(tmp_path, text)) == messages


@pytest.mark.parametrize(("text", "messages"), rows())
def test_what_is_left_of_a_broken_file_can_be_checked(tmp_path: Path, text: str, messages: list[str]) -> None:
    """``fingergw check`` goes on to the files and endpoints that the whole parts name, and places what it finds."""
    config, problems = read(write(tmp_path, text))
    found = build.check(config, MemoryReactorClock())[0]
    assert len(to_error([*problems, *found], config.source).problems) == len(messages) + len(found)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "1: expected at least one [[listeners]]"),
        (b"listeners = []\n", "1: expected at least one [[listeners]]"),
        (b"a = \n", "1: not TOML: invalid value"),
        (b"a = 1\n\n[b\n", "3: not TOML: expected ']' at the end of a table declaration"),
        (b"a = 1\na = 2\n", "2: not TOML: cannot overwrite a value"),
        (b'a = """\nx', "2: not TOML: unterminated string"),
        (b"a = " + b"[" * 10000, "1: expected lists and tables in each other less deeply"),
        (b"a = '\xe9'\n", "1: not UTF-8, which TOML must be; save it as UTF-8"),
    ],
    ids=["empty", "no-listener", "value", "table", "twice", "end", "nested", "latin-1"],
)
def test_mistakes_of_the_whole_file(tmp_path: Path, text: bytes, message: str) -> None:
    """A file that is not TOML is refused with the line; one without a listener too."""
    assert mistakes(write(tmp_path, text)) == [message]


def test_unreadable_files(tmp_path: Path) -> None:
    """A file that is not there, or is a folder, is refused by name."""
    advice = r"; to have one to start from, run: fingergw init \S+/none\.toml"
    for function, more in (load, advice), (partial(load_table, kind=static.Entries), ""):
        with pytest.raises(ConfigError, match=rf"none\.toml: cannot be read: No such file or directory{more}$"):
            function(tmp_path / "none.toml")
        with pytest.raises(ConfigError, match=r"cannot be read: Is a directory$"):
            function(tmp_path)


def test_a_pipe_in_the_place_of_a_file(tmp_path: Path) -> None:
    """A pipe is no file of entries, and one that nobody writes to no configuration: neither is waited for."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match=r"cannot be read: not a regular file; name one$"):
        load_table(tmp_path / "pipe", static.Entries)
    with pytest.raises(ConfigError, match=r"cannot be read: not a regular file; name one$"):
        load(Path("/dev/zero"))
    assert mistakes(tmp_path / "pipe") == ["1: expected at least one [[listeners]]"]


def test_a_configuration_from_another_program() -> None:
    """A configuration may come through a pipe, as a shell's ``<(...)`` does, and as slowly as its writer likes."""
    read_end, write_end = os.pipe()

    def write_slowly() -> None:
        os.write(write_end, LISTENER[:20].encode())
        wait_until(lambda: not select.select([read_end], [], [], 0)[0], "what reads the first part")
        os.write(write_end, LISTENER[20:].encode())
        os.close(write_end)

    writer = threading.Thread(target=write_slowly)
    writer.start()
    try:
        assert load(f"/dev/fd/{read_end}").listeners[0].name == "tcp:1079"
    finally:
        writer.join()
        os.close(read_end)


def test_a_problem_without_a_file() -> None:
    """What is wrong in a configuration made in Python is reported by its key path alone."""
    error = to_error([Problem(("listeners", 0, "endpoint"), "no"), Problem(("backends", "a.b"), "nor")], None)
    assert error.problems == ("listeners[0].endpoint: no", 'backends."a.b": nor')


# A file's values have no more than the types that TOML has.
admission: Any = typed_admission
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
            listeners=("public",),
            clients=(ip_network("10.0.0.0/8"),),
            max_hops=1,
            timeout=2.0,
            max_bytes=3,
            max_running=4,
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
        log=tables.Log(access="access.log", format="json", level="debug"),
        admin=tables.Admin(endpoint="tcp:9179:interface=127.0.0.1", hosts=("gateway-1.example.org",)),
    )
    assert [route.name for route in config.routes] == ["oncall", "a, b", "svc-*", "(?P<team>[a-z]+)-oncall", "index"]


def backends(base: Path) -> dict[str, model.Backend]:
    """Return what the contract has for backends."""
    nail = static.Person(
        name="N", directory="/home/n", shell="/bin/sh", office="3.14", phone="555", project="P", plan="Hit."
    )
    entries: Any = {"moshez": "Happy", "nail": nail}
    people: Any = base / "people.toml"
    host: Any = {"host": "old.example.org", "port": 80, "max_bytes": 7}
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
                max_bytes=7,
                missing_statuses=(404,),
                template="{{ name }}",
                ca_file=Path("/etc/ca.pem"),
                follow_redirects=False,
            ),
            outcome.BackendCache(ttl=1.0, stale=0.0, negative_ttl=3.0),
            timeout=6.0,
            max_running=8,
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
                missing_exit_codes=(1,),
                env={"LANG": "C.UTF-8"},
            ),
            outcome.BackendCache(vary=("client",)),
            timeout=6.0,
            max_running=8,
        ),
        "legacy": model.Backend("finger", finger.Finger(**host), timeout=6.0, max_running=8),
        "menu": model.Backend("menu", menu.Menu()),
    }


CONTRACT = r"""
[[listeners]]
name = "public"
endpoint = "tcp:1079"
allow = ["0.0.0.0/0", "::/0"]
deny = ["192.0.2.0/24"]
trusted_proxies = []
decoy = false

[[listeners]]
endpoint = "unix:x"
[listeners.limits]
max_query_bytes = 9

[[listeners]]
endpoint = "haproxy:tcp:1"
trusted_proxies = ["10.0.0.0/8"]

[[listeners]]
endpoint = "tcp:2"
decoy = true
delay = 5

[[routes]]
name = "oncall"
summary = "Who"
user = "oncall"
listeners = ["public"]
clients = ["10.0.0.0/8", "::ffff:10.0.0.0/120"]
backends = ["rota", "people"]
fallthrough = ["missing"]

[[routes]]
users = ["a", "b"]
backends = ["people"]

[[routes]]
pattern = "svc-*"
backends = ["services"]

[[routes]]
regex = '(?P<team>[a-z]+)-oncall'
backends = ["rota"]

[[routes]]
index = true
backends = ["menu"]

[backends.people]
type = "static"
[backends.people.entries]
moshez = "Happy"
[backends.people.entries.nail]
name = "N"
directory = "/home/n"
shell = "/bin/sh"
office = "3.14"
phone = "555"
project = "P"
plan = "Hit."

[backends.filed]
type = "static"
file = "people.toml"

[backends.text]
type = "static"
text = "Nobody."

[backends.rota]
type = "http"
url = "https://rota.example.org/api/{user}"
headers = { Accept = "application/json" }
bearer_token_file = "rota.token"
timeout = 6
max_bytes = 7
max_running = 8
missing_statuses = [404]
template = "{{ name }}"
ca_file = "/etc/ca.pem"
follow_redirects = false
cache = { ttl = 1, stale = 0, negative_ttl = 3 }

[backends.services]
type = "command"
argv = ["/bin/echo", "--", "{user}"]
timeout = 6
max_bytes = 7
max_running = 8
max_cpu_seconds = 9
max_memory_bytes = 10
max_file_bytes = 11
max_processes = 12
missing_exit_codes = [1]
env = { LANG = "C.UTF-8" }
cache = { vary = ["client"] }

[backends.legacy]
type = "finger"
host = "old.example.org"
port = 80
timeout = 6
max_bytes = 7
max_running = 8

[backends.menu]
type = "menu"

[cache]
store = "rediss://fg@cache.example.org:6380/1"
max_entries = 1
max_bytes = 2
password_file = "redis.password"
ca_file = "/etc/ca.pem"

[limits]
max_query_bytes = 1
query_timeout = 2.5
answer_timeout = 3
max_answer_bytes = 4
max_connections = 5
max_connections_per_client = 6
max_waiting = 7
rate = { queries = 60, per = 60, burst = 20 }

[forwarding]
allow = { "old.example.org" = "tcp:old.example.org:79" }
listeners = ["public"]
clients = ["10.0.0.0/8"]
max_hops = 1
timeout = 2
max_bytes = 3
max_running = 4

[answers]
charset = "ascii"
case_sensitive = true
no_such_user = "1"
internal_error = "2"
list_denied = "3"
forward_denied = "4"
busy = "5"
bad_query = "6"

[process]
user = "fingergw"
group = "fg"
chroot = "/var/empty"
umask = "027"

[log]
access = "access.log"
format = "json"
level = "debug"

[admin]
endpoint = "tcp:9179:interface=127.0.0.1"
hosts = ["gateway-1.example.org"]
"""


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
            "listeners": None,
            "clients": None,
            "max_hops": 3,
            "timeout": 5,
            "max_bytes": 65536,
            "max_running": 20,
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
        "log": {"access": "-", "format": "text", "level": "info"},
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
    return {
        **own,
        "timeout": backend.timeout,
        "max_running": backend.max_running,
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
        "missing_exit_codes": (),
        "env": {},
        "cache": None,
    },
    "h": {
        "url": Template("http://h/"),
        "headers": {},
        "bearer_token_file": None,
        "timeout": 5,
        "max_bytes": 65536,
        "max_running": 100,
        "missing_statuses": (404, 410),
        "template": None,
        "ca_file": None,
        "follow_redirects": True,
        "cache": None,
    },
    "f": {"host": "h", "port": 79, "timeout": 5, "max_bytes": 65536, "max_running": 20, "cache": None},
    "m": {
        "timeout": None,
        "max_running": None,
        "cache": {"ttl": 30, "stale": 3600, "negative_ttl": 10, "vary": ("client", "listener", "verbose")},
    },
    "s": {"entries": None, "file": None, "text": "x", "timeout": None, "max_running": None, "cache": None},
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
    """The shipped file is the embedded default, and has nothing to mend."""
    shipped, embedded = ROOT / "fingergw.toml", Path(fingergw.__file__).parent / "fingergw.toml"
    assert shipped.read_bytes() == embedded.read_bytes()
    assert [listener.name for listener in load(shipped).listeners] == ["local", "socket"]


def test_entries_in_a_file_of_their_own(tmp_path: Path) -> None:
    """A static backend's map is the same in a file of its own."""
    path = write(tmp_path, 'moshez = "Happy"\n[nail]\nname = "N"\n')
    assert load_table(path, static.Entries) == {"moshez": "Happy", "nail": static.Person(name="N")}


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ('a = "x"\nb = 5\n[c]\nnam = "x"\n', [f"2: b: {MEANINGS['$PERSON']}", '4: c.nam: unknown key "nam"; did you']),
        ("a = \n", ["1: not TOML: invalid value"]),
    ],
    ids=["types", "syntax"],
)
def test_mistakes_in_entries(tmp_path: Path, text: str, messages: list[str]) -> None:
    """A mistake in a file of entries is reported with that file's name and line."""
    path = write(tmp_path, text, "people.toml")
    with pytest.raises(ConfigError) as caught:
        load_table(path, static.Entries)
    for problem, message in zip(caught.value.problems, messages, strict=True):
        assert problem.startswith(f"{path}:{message}")


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("a = 1\n\n# c\nb = 2 # c\n", {("a",): 1, ("b",): 4}),
        ("a.b.c = 1\na.b.d = 2\n", {("a",): 1, ("a", "b"): 1, ("a", "b", "c"): 1, ("a", "b", "d"): 2}),
        ('"a.b"."c d"=1\n', {("a.b",): 1, ("a.b", "c d"): 1}),
        ("'a' . \"\\u0062\" = 1\n", {("a",): 1, ("a", "b"): 1}),
        ("[a]\nb = 1\n[a.c]\nd = 1\n", {("a",): 1, ("a", "b"): 2, ("a", "c"): 3, ("a", "c", "d"): 4}),
        ("[a.c]\nd = 1\n[a]\nb = 1\n", {("a",): 3, ("a", "c"): 1, ("a", "c", "d"): 2, ("a", "b"): 4}),
        (
            "a = { b = 1, c.d = { e = 2 } }\n",
            {("a",): 1, ("a", "b"): 1, ("a", "c"): 1, ("a", "c", "d"): 1, ("a", "c", "d", "e"): 1},
        ),
        (
            "a = [\n  1, # one\n\n  [2,\n  3],\n  { b = 4 },\n]\n",
            {("a",): 1, ("a", 0): 2, ("a", 1): 4, ("a", 1, 0): 4, ("a", 1, 1): 5, ("a", 2): 6, ("a", 2, "b"): 6},
        ),
        ('a = """\nx = 1\n[y]\n"""\nb = 1\n', {("a",): 1, ("b",): 5}),
        (
            "[[a]]\nb = 1\n[a.c]\nd = 1\n[[a.e]]\nf = 1\n[[a.e]]\n[[a]]\nb = 2\n[[a.e]]\nf.g = 3\n",
            {
                ("a",): 1,
                ("a", 0): 1,
                ("a", 0, "b"): 2,
                ("a", 0, "c"): 3,
                ("a", 0, "c", "d"): 4,
                ("a", 0, "e"): 5,
                ("a", 0, "e", 0): 5,
                ("a", 0, "e", 0, "f"): 6,
                ("a", 0, "e", 1): 7,
                ("a", 1): 8,
                ("a", 1, "b"): 9,
                ("a", 1, "e"): 10,
                ("a", 1, "e", 0): 10,
                ("a", 1, "e", 0, "f"): 11,
                ("a", 1, "e", 0, "f", "g"): 11,
            },
        ),
        ("[x.y]\n[[x.z]]\nk = 1\n", {("x",): 1, ("x", "y"): 1, ("x", "z"): 2, ("x", "z", 0): 2, ("x", "z", 0, "k"): 3}),
    ],
    ids=["plain", "dotted", "quoted", "spaced", "tables", "late", "inline", "arrays", "multi-line", "nested", "mixed"],
)
def test_line_numbers(text: str, lines: dict[KeyPath, int]) -> None:
    """Every key, table and list item is known with its line."""
    assert line_numbers(text) == lines


KEYS = st.text(st.characters(exclude_categories=["Cs"]), max_size=3) | st.sampled_from(["a", "b", "a.b", '"', "#", ""])
VALUES = st.recursive(
    st.booleans() | st.integers() | st.floats(allow_nan=False) | KEYS | st.datetimes() | st.dates() | st.times(),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(KEYS, values, max_size=3),
    max_leaves=12,
)


def paths(value: object, path: KeyPath = ()) -> Iterator[KeyPath]:
    """Return the path of every key and list item in a value."""
    pairs: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        yield (*path, key)
        yield from paths(inner, (*path, key))


@given(raw=st.dictionaries(KEYS, VALUES, max_size=5), multiline=st.booleans())
def test_no_key_is_without_a_line(raw: dict[str, object], *, multiline: bool) -> None:
    """In any TOML, each key and list item that tomllib finds has a line, and no other has."""
    text = tomli_w.dumps(raw, multiline_strings=multiline)
    assert set(line_numbers(text)) == set(paths(tomllib.loads(text)))


def with_a_value_replaced(data: st.DataObject, values: st.SearchStrategy[object]) -> dict[str, Any]:
    """Return a good file in which something else stands in the place of one value."""
    raw = tomllib.loads(CONTRACT)
    path = data.draw(st.sampled_from(sorted(paths(raw), key=repr)))
    inner: Any = raw
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = data.draw(values)
    return raw


@given(data=st.data())
def test_any_replaced_value_is_reported_or_taken(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Whatever stands in place of any value of a good file, reading and checking it never crashes."""
    raw = with_a_value_replaced(
        data, VALUES | st.sampled_from(["{user}", "{", "tcp:1", "systemd:", "static", "http", "a\0b"])
    )
    file = write(tmp_path_factory.getbasetemp(), tomli_w.dumps(raw), "any.toml")
    config, problems = read(file)
    to_error([*problems, *build.check(config, MemoryReactorClock())[0]], config.source)
