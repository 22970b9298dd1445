"""A configuration with every key that there is, and what can take the place of its values."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from fingergw.core.settings import KeyPath

LISTENER = '[[listeners]]\nendpoint = "tcp:1079"\n'
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
usage = "ONCALL"
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
login = "nails"
name = "N"
directory = "/home/n"
shell = "/bin/sh"
office = "3.14"
phone = "555"
last_login = "today"
mail = "No mail."
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
header_files = { X-Key = "rota.key" }
timeout = 6
max_bytes = 7
max_running = 8
charset = "koi8-r"
missing_statuses = [404]
template = "{{ name }}"
ca_file = "/etc/ca.pem"
follow_redirects = false
breaker = { failures = 2, pause = 9 }
cache = { ttl = 1, stale = 2, stale_while_revalidate = 0, stale_if_error = 2, negative_ttl = 3 }

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
charset = "windows-1252"
missing_exit_codes = [1]
answer_exit_codes = [3]
env = { LANG = "C.UTF-8" }
breaker = { failures = 4 }
cache = { vary = ["client"] }

[backends.legacy]
type = "finger"
host = "old.example.org"
port = 80
timeout = 6
max_bytes = 7
charset = "Latin-1"
max_running = 8
breaker = false

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
local_names = ["finger.example.org", "192.0.2.1"]
clients = ["10.0.0.0/8"]
max_hops = 1
timeout = 2
max_bytes = 3
max_running = 4
breaker = { pause = 1.5 }

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
anonymise = true

[admin]
endpoint = "tcp:9179:interface=127.0.0.1"
hosts = ["gateway-1.example.org"]
"""


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


def with_a_value_replaced(data: st.DataObject, values: st.SearchStrategy[object]) -> dict[str, Any]:
    """Return a good file in which something else stands in the place of one value."""
    raw = tomllib.loads(CONTRACT)
    path = data.draw(st.sampled_from(sorted(paths(raw), key=repr)))
    inner: Any = raw
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = data.draw(values)
    return raw


def write(folder: Path, text: str | bytes, name: str = "f.toml") -> Path:
    """Write a file, and return its path."""
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path
