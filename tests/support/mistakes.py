"""Configurations with mistakes, each with the messages that are expected."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest

from tests.support.contract import LISTENER

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
--- breaker-of-a-type-that-waits-for-nobody
[backends.x]
type = "menu"
breaker = false  #! backends.x.breaker: unknown key "breaker"; expected one of: cache
[backends.y]
type = "static"
text = "x"
[backends.y.breaker]  #! backends.y.breaker: unknown key "breaker"; expected one of: cache, entries, file, text
--- breaker-kind
[backends.a]
type = "http"
url = "http://h/"
breaker = true  #! backends.a.breaker: $BREAKER
[backends.b]
type = "finger"
host = "h"
breaker = 3  #! backends.b.breaker: $BREAKER
[backends.c]
type = "command"
argv = ["a"]
breaker = "false"  #! backends.c.breaker: $BREAKER
[backends.d]
type = "finger"
host = "h"
breaker = []  #! backends.d.breaker: $BREAKER
[backends.e]
type = "finger"
host = "h"
breaker = 0  #! backends.e.breaker: $BREAKER
--- breaker-values
[backends.a]
type = "http"
url = "http://h/"
breaker = { failures = 0 }  #! backends.a.breaker.failures: $AT_LEAST 1
[backends.b]
type = "finger"
host = "h"
[backends.b.breaker]
failures = 1001  #! backends.b.breaker.failures: expected a number of at most 1000
pause = 0  #! backends.b.breaker.pause: $SECONDS
[backends.c]
type = "command"
argv = ["a"]
breaker.failures = "3"  #! backends.c.breaker.failures: expected a whole number, $UNQUOTED
breaker.paus = 3  #! backends.c.breaker.paus: unknown key "paus"; did you mean "pause"?
[backends.d]
type = "finger"
host = "h"
[backends.d.breaker]
failures = false  #! backends.d.breaker.failures: expected a whole number, not a boolean
pause = 1000000000  #! backends.d.breaker.pause: $SECONDS
--- breaker-of-hosts
[forwarding]
breaker = true  #! forwarding.breaker: $BREAKER
--- breaker-of-hosts-values
[forwarding.breaker]
failures = 0  #! forwarding.breaker.failures: $AT_LEAST 1
pause = -1  #! forwarding.breaker.pause: $SECONDS
seconds = 5  #! forwarding.breaker.seconds: unknown key "seconds"; expected one of: failures, pause
--- unknown-key-of-person
[backends.x]
type = "static"
[backends.x.entries]
nail = { nam = "N" }  #! backends.x.entries.nail.nam: unknown key "nam"; did you mean "name"?
--- unknown-key-hostile
[limits]
"a\u001b\"b" = 1  #! limits."a\x1b\"b": unknown key "a\x1b\"b"; $LIMITS
--- missing-key
[[listeners]]  #! listeners[1]: missing key "endpoint"
name = "x"
--- missing-argv
[backends.x]  #! backends.x: missing key "argv"
type = "command"
--- table-for-list
[routes]  #! routes: expected a list of tables; begin each with [[routes]]
user = "x"
--- list-for-table
[[limits]]  #! limits: expected a table, not a list; write [limits] $ABOVE
max_connections = 5
--- number-for-table
limits = 5  #! limits: expected a table, not a whole number; write [limits] $ABOVE
--- number-for-item
routes = [1]  #! routes[0]: expected a table, not a whole number; write [[routes]] above its keys
--- number-for-backends
backends = 5  #! backends: expected a table, not a whole number; write [backends] $ABOVE
--- number-for-backend
backends = { x = 5 }  #! backends.x: expected a table, not a whole number; write [backends.x] $ABOVE
--- string-for-number
[limits]
max_connections = "5"  #! limits.max_connections: expected a whole number, $UNQUOTED
--- string-for-duration
[limits]
query_timeout = "5"  #! limits.query_timeout: expected a number, $UNQUOTED
--- number-for-string
[answers]
busy = 5  #! answers.busy: $QUOTES
--- bare-string-for-list
[[listeners]]
endpoint = "tcp:1"
allow = "10.0.0.0/8"  #! listeners[1].allow: $BRACKETS
--- bool-for-int
[limits]
max_connections = true  #! limits.max_connections: expected a whole number, not a boolean
--- float-for-int
[limits]
max_connections = 5.0  #! limits.max_connections: $DECIMAL
--- int-for-bool
[answers]
case_sensitive = 1  #! answers.case_sensitive: expected true or false, not a whole number
--- list-for-name
[[listeners]]
endpoint = "tcp:1"
name = ["x"]  #! listeners[1].name: expected a string, not a list
--- date-for-string
[answers]
busy = 2026-11-22  #! answers.busy: expected a string, not a date or time; put it in quotes
--- item-of-list
[backends.x]
type = "command"
argv = [
  "a",  # program
  5,  #! backends.x.argv[1]: $QUOTES
  "{user",  #! backends.x.argv[2]: $BRACE
]
--- value-of-table
[backends.x]
type = "command"
argv = ["a"]
env = { A = "1", B = 2 }  #! backends.x.env.B: $QUOTES
--- entry
[backends.x]
type = "static"
entries = { a = 5 }  #! backends.x.entries.a: $PERSON
--- nul
[backends.x]
type = "command"
argv = ["a\u0000"]  #! backends.x.argv[0]: expected a string without the character NUL
--- size
[limits]
max_query_bytes = 0  #! limits.max_query_bytes: $AT_LEAST 1
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
  0,  #! backends.x.missing_exit_codes[1]: expected a number from 1 to 255
  256,  #! backends.x.missing_exit_codes[2]: expected a number from 1 to 255
]
--- exit-code-of-two-meanings
[backends.x]
type = "command"
argv = ["a"]
missing_exit_codes = [1, 3]
answer_exit_codes = [
  2,
  3,  #! backends.x.answer_exit_codes[1]: missing_exit_codes has 3, too; remove it from one of the two
]
--- answer-exit-code-0
[backends.x]
type = "command"
argv = ["a"]
answer_exit_codes = [0]  #! backends.x.answer_exit_codes[0]: expected a number from 1 to 255
--- charset
[backends.a]
type = "http"
url = "http://h/"
charset = "latn1"  #! backends.a.charset: "latn1" $CHARSET
[backends.b]
type = "finger"
host = "h"
charset = "idna"  #! backends.b.charset: "idna" $CHARSET
[backends.c]
type = "command"
argv = ["a"]
charset = "rot13"  #! backends.c.charset: "rot13" $CHARSET
[backends.d]
type = "finger"
host = "h"
charset = ""  #! backends.d.charset: "" $CHARSET
[backends.e]
type = "finger"
host = "h"
charset = 8859  #! backends.e.charset: $QUOTES
[backends.f]
type = "static"
text = "x"
charset = "utf-8"  #! backends.f.charset: unknown key "charset"; expected one of: cache, entries, file, text
--- date-of-a-login
[backends.x]
type = "static"
[backends.x.entries.nail]
last_login = 2004-03-31T18:32:00  #! backends.x.entries.nail.last_login: $DATE
--- lines-of-the-menu
[[routes]]
user = "a"
summary = "One\nTwo"  #! routes[0].summary: $LINE
usage = "a\u001b[1m"  #! routes[0].usage: $LINE
backends = ["b"]
[[routes]]
pattern = "a\r*"  #! routes[1].pattern: $LINE
summary = "x\ty"  #! routes[1].summary: $LINE
backends = ["b"]
[[routes]]
name = "a\nb"  #! routes[2].name: $LINE
regex = "a+"
summary = "a\u0085x"  #! routes[2].summary: $LINE
usage = "\u202ea"  #! routes[2].usage: $LINE
backends = ["b"]
[[routes]]
user = "b"
summary = "\u2028"  #! routes[3].summary: $LINE
usage = 5  #! routes[3].usage: $QUOTES
backends = ["b"]
[[routes]]
user = "ü"
summary = "日本語 für é 👩‍💻"
usage = "Ü ..."
backends = ["b"]
[backends.b]
type = "menu"
--- status
[backends.x]
type = "http"
url = "http://h/"
missing_statuses = [99]  #! backends.x.missing_statuses[0]: expected a number from 100 to 599
--- choice
[log]
format = "xml"  #! log.format: expected "text" or "json"
--- choice-type
[log]
level = 5  #! log.level: $LEVELS
--- switch-type
[log]
anonymise = "true"  #! log.anonymise: expected true or false, not a string; remove the quotes
--- umask
[process]
umask = "028"  #! process.umask: $UMASK
--- umask-number
[process]
umask = 22  #! process.umask: $UMASK
--- network
[[listeners]]
endpoint = "tcp:1"
allow = [
  "10.0.0.1/8",  #! listeners[1].allow[0]: $ADDRESS
  "::/0",
  "x",  #! listeners[1].allow[2]: $NETWORK
]
--- nothing to match
[[routes]]
users = []  #! routes[0].users: $EMPTY
backends = ["b"]
[[routes]]
pattern = ""  #! routes[1].pattern: expected a pattern of 1 to 1000 characters, not 0
backends = ["b"]
[[routes]]
regex = "(?P<user>a)"  #! routes[2].regex: $RENAME
backends = ["b"]
[[routes]]
regex = ""  #! routes[3].regex: expected a pattern of 1 to 3000 characters, not 0
backends = ["b"]
[backends.b]
type = "menu"
--- variable
[backends.b]
type = "command"
argv = ["true"]
env = { "A=B" = "c" }  #! backends.b.env."A=B": expected a variable name without "=" or control characters
--- regex
[[routes]]
regex = "(a"  #! routes[0].regex: not RE2 syntax at "(a": missing )
backends = ["b"]
[backends.b]
type = "menu"
--- regex-look-ahead
[[routes]]
regex = "a(?=b)"  #! routes[0].regex: $LOOK_AHEAD
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
argv = []  #! backends.x.argv: $EMPTY
--- header-name
[backends.x]
type = "http"
url = "http://h/"
[backends.x.headers]
"a b" = "c"  #! backends.x.headers."a b": expected a header name such as "Accept"
d = "e\nf"  #! backends.x.headers.d: $HEADER
--- type-missing
[backends.x]  #! backends.x: missing key "type"; expected one of: $TYPES
text = "a"
--- type-unknown
[backends.x]
text = "a"
type = "statik"  #! backends.x.type: unknown backend type "statik"; did you mean "static"?
--- type-no-string
[backends.x]
type = ["static"]  #! backends.x.type: expected a string, one of: $TYPES
--- dangling-backend
[[routes]]
user = "x"
backends = ["b", "bb"]  #! routes[0].backends[1]: unknown backend "bb"; did you mean "b"?
[backends.b]
type = "menu"
--- dangling-backend-none
[[routes]]
user = "x"
backends = ["b"]  #! routes[0].backends[0]: unknown backend "b"; there is none in this file
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
listeners = []  #! routes[0].listeners: $EMPTY
backends = []  #! routes[0].backends: $EMPTY
--- duplicate-listener
[[listeners]]
endpoint = "tcp:1"
name = "tcp:1079"  #! listeners[1].name: listeners[0] has the name "tcp:1079" $ALREADY
--- duplicate-endpoint
[[listeners]]
endpoint = "tcp:1079"  #! listeners[1].endpoint: $SAME_ENDPOINT
--- duplicate-endpoint-of-a-name
[[listeners]]
name = "tcp:1"
endpoint = "tcp:2"
[[listeners]]
endpoint = "tcp:1"  #! listeners[2].endpoint: listeners[1] has the name "tcp:1" $ALREADY
--- duplicate-route
[[routes]]
name = "x"
index = true
backends = ["b"]
[[routes]]
user = "y"
backends = ["b"]
name = "x"  #! routes[1].name: routes[0] has the name "x" $ALREADY
[backends.b]
type = "menu"
--- no-matcher
[[routes]]  #! routes[0]: $ONE none
backends = ["b"]
[backends.b]
type = "menu"
--- no-matcher-index-false
[[routes]]  #! routes[0]: $ONE none
index = false
backends = ["b"]
[backends.b]
type = "menu"
--- two-matchers
[[routes]]  #! routes[0]: $ONE user and index
backends = ["b"]
user = "x"
index = true
[backends.b]
type = "menu"
--- two-matchers-and-more
[[routes]]  #! routes[0]: $ONE user and pattern
backends = ["b"]
user = 5  #! routes[0].user: $QUOTES
pattern = "x"
[backends.b]
type = "menu"
--- static-empty
[backends.x]  #! backends.x: expected exactly one of the keys entries, file, text; found none
type = "static"
--- static-both
[backends.x]  #! backends.x: expected exactly one of the keys entries, file, text; found file and text
type = "static"
text = "a"
file = "b"
--- brace
[backends.x]
type = "command"
argv = ["a", "{user"]  #! backends.x.argv[1]: $BRACE
--- placeholder-form
[backends.x]
type = "http"
url = "http://h/{user!r}"  #! backends.x.url: "{user!r}" $PLACEHOLDER
--- placeholder-filter
[backends.x]
type = "http"
url = "http://h/{user:lower}/{user:upper}"  #! backends.x.url: "{user:lower}" is not a placeholder: $FILTER
[backends.y]
type = "command"
argv = ["a", "{user:UPPER}"]  #! backends.y.argv[1]: "{user:UPPER}" is not a placeholder: $FILTER
[backends.z]
type = "command"
argv = ["a", "{user!r:upper}"]  #! backends.z.argv[1]: "{user!r:upper}" $PLACEHOLDER
--- placeholder-filter-of-what-is-unset
[backends.x]
type = "command"
argv = ["a", "{team:upper}"]  #! backends.x.argv[1]: $NO_ROUTE
--- placeholder-unset
[backends.x]
type = "command"
argv = ["a", "{user}{team}"]  #! backends.x.argv[1]: $NO_ROUTE
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
backends = "x"  #! routes[0].backends: $BRACKETS
[backends.x]
type = "http"
url = "http://h/{team}"
--- placeholder-program
[backends.x]
type = "command"
argv = ["{user}"]  #! backends.x.argv[0]: $PROGRAM
--- decoy-nobody-logs
[[listeners]]
endpoint = "tcp:1"
decoy = true  #! listeners[1].decoy: a decoy needs the access log, which is off; set log.access to a file
[log]
access = "off"
--- delay-of-no-decoy
[[listeners]]
endpoint = "tcp:1"
delay = 5  #! listeners[1].delay: only a decoy has a delay; remove it, or set decoy = true
--- delay-below-0
[[listeners]]
endpoint = "tcp:1"
decoy = true
delay = -1  #! listeners[1].delay: $PERIOD
--- trusted-proxies-of-no-proxied-listener
[[listeners]]
endpoint = "tcp:1"
trusted_proxies = ["10.0.0.0/8"]  #! listeners[1].trusted_proxies: $NO_HAPROXY
--- haproxy-that-trusts-nobody
[[listeners]]  #! listeners[1]: $TRUSTED
endpoint = "haproxy:tcp:1"
--- haproxy-that-trusts-an-empty-list
[[listeners]]
endpoint = "haproxy:tcp:1"
trusted_proxies = []  #! listeners[1].trusted_proxies: $NO_PROXIES
--- haproxy-over-a-unix-socket
[[listeners]]
endpoint = "haproxy:unix:x"  #! listeners[1].endpoint: $UNIX
trusted_proxies = ["10.0.0.0/8"]
--- haproxy-over-tls
[[listeners]]
endpoint = "haproxy:ssl:1"  #! listeners[1].endpoint: $PLAIN
trusted_proxies = ["10.0.0.0/8"]
--- per-client
[limits]
max_connections_per_client = 0  #! limits.max_connections_per_client: $AT_LEAST 1
max_waiting = 0  #! limits.max_waiting: $AT_LEAST 1
--- rate
[[listeners]]
endpoint = "tcp:1"
[listeners.limits.rate]
queries = 0  #! listeners[1].limits.rate.queries: $AT_LEAST 1
per = 0  #! listeners[1].limits.rate.per: $SECONDS
burst = 1.5  #! listeners[1].limits.rate.burst: $DECIMAL
--- rate-in-part
[limits]
rate = { queries = 60, per = 60 }  #! limits.rate: missing key "burst"
--- finger
[backends.x]
type = "finger"
host = "a b"  #! backends.x.host: $HOST
port = 65536  #! backends.x.port: expected a number from 1 to 65535
[backends.y]
type = "finger"
host = "old.example.org:79"  #! backends.y.host: $HOST
[backends.z]
type = "finger"
host = "..."  #! backends.z.host: $HOST
[backends.label]
type = "finger"
host = "a..b"  #! backends.label.host: $HOST
[backends.number]
type = "finger"
host = "1.2.3.400"  #! backends.number.host: $HOST
[backends.zone]
type = "finger"
host = "fe80::1%eth0"  #! backends.zone.host: $HOST
[backends.six]
type = "finger"
host = "2001:db8::1"
max_running = 0  #! backends.six.max_running: $AT_LEAST 1
--- command-limits
[backends.x]
type = "command"
argv = ["a"]
max_cpu_seconds = 0.5  #! backends.x.max_cpu_seconds: $DECIMAL
max_memory_bytes = 0  #! backends.x.max_memory_bytes: $AT_LEAST 1
max_file_bytes = -1  #! backends.x.max_file_bytes: $AT_LEAST 1
max_processes = 0  #! backends.x.max_processes: $AT_LEAST 1
[backends.y]
type = "command"
argv = ["a"]
max_cpu_seconds = 1000000001  #! backends.y.max_cpu_seconds: expected a number from 1 to 1000000000
max_memory_bytes = 1000000000000001  #! backends.y.max_memory_bytes: expected a number from 1 to 1000000000000000
--- cache
[backends.x]
type = "menu"
[backends.x.cache]
ttl = "5"  #! backends.x.cache.ttl: expected a number, $UNQUOTED
stale = -1  #! backends.x.cache.stale: $PERIOD
negative_ttl = inf  #! backends.x.cache.negative_ttl: $PERIOD
max_bytes = 5  #! backends.x.cache.max_bytes: unknown key "max_bytes"; expected one of: $CACHE
--- cache-parts-of-stale
[backends.x]
type = "menu"
[backends.x.cache]
stale_while_revalidate = 60.5  #! backends.x.cache.stale_while_revalidate: $MOST 60; $RAISE stale_while_revalidate
stale = 60
stale_if_error = 61  #! backends.x.cache.stale_if_error: $MOST 60; $RAISE stale_if_error
[backends.y]
type = "menu"
cache = { stale = 0, stale_if_error = 0.1 }  #! backends.y.cache.stale_if_error: $MOST 0; $RAISE stale_if_error
[backends.z]
type = "menu"
cache = { stale = 0.5, stale_if_error = 0.5, stale_while_revalidate = 0 }
--- cache-parts-of-stale-by-default
[backends.x]
type = "menu"
cache = { stale_if_error = 7200 }  #! backends.x.cache.stale_if_error: $MOST 3600; $RAISE stale_if_error
--- cache-parts-of-stale-beside-mistakes
[backends.x]
type = "command"
argv = ["a"]
timeout = 0  #! backends.x.timeout: $SECONDS
cache = { vary = [], stale_if_error = 7200 }  #! backends.x.cache.stale_if_error: $MOST 3600; $RAISE stale_if_error
--- cache-vary
[backends.x]
type = "command"
argv = ["uptime"]
[backends.x.cache]
vary = ["user"]  #! backends.x.cache.vary[0]: expected "client", "listener" or "verbose"
--- cache-vary-of-another
[backends.x]
type = "menu"
[backends.x.cache]
vary = []  #! backends.x.cache.vary: unknown key "vary"; expected one of: $CACHE
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
store = "sqlite:///cache.db"  #! cache.store: $SQLITE
--- store-sqlite-in-memory
[cache]
store = "sqlite::memory:"  #! cache.store: $STORE
--- store-redis-without-a-host
[cache]
store = "redis://:6379/0"  #! cache.store: $REDIS
--- store-redis-database
[cache]
store = "redis://h/first"  #! cache.store: $REDIS
--- store-redis-port
[cache]
store = "redis://h:0"  #! cache.store: $REDIS
--- store-redis-ports
[cache]
store = "redis://h:99999"  #! cache.store: $REDIS
--- store-redis-port-in-letters
[cache]
store = "redis://h:8a/0"  #! cache.store: $REDIS
--- store-redis-blank
[cache]
store = "rediss://my cache"  #! cache.store: $REDIS
--- store-redis-empty-label
[cache]
store = "redis://a..b"  #! cache.store: $REDIS
--- store-redis-number
[cache]
store = "redis://1.2.3.400:6379"  #! cache.store: $REDIS
--- store-redis-bracket
[cache]
store = "redis://[::1:6379"  #! cache.store: $REDIS
--- store-redis-query
[cache]
store = "redis://h/0?x"  #! cache.store: $REDIS
--- store-redis-password
[cache]
store = "redis://:x@h"  #! cache.store: $PASSWORD
--- store-bounds
[cache]
max_entries = 0  #! cache.max_entries: $AT_LEAST 1
--- forwarding
[forwarding]
max_hops = 0  #! forwarding.max_hops: $AT_LEAST 1
listeners = ["nowhere"]  #! forwarding.listeners[0]: unknown listener "nowhere"; expected one of: tcp:1079
allow = { "h" = 79 }  #! forwarding.allow.h: $QUOTES
--- local-names
[forwarding]
allow = { "Old.example" = "tcp:h:79", "192.0.2.1" = "tcp:h:79", "2001:DB8::1" = "tcp:h:79" }
local_names = [
  "own.example",
  "old.example.",  #! forwarding.local_names[1]: $LOCAL
  "a@b",  #! forwarding.local_names[2]: $HOST
  "::ffff:192.0.2.1",  #! forwarding.local_names[3]: $LOCAL
  "2001:db8:0::1",  #! forwarding.local_names[4]: $LOCAL
  1,  #! forwarding.local_names[5]: $QUOTES
]
--- local-names-kind
[forwarding]
local_names = "own.example"  #! forwarding.local_names: $BRACKETS
--- forwarding-host
[forwarding.allow]
"a@b" = "tcp:h:79"  #! forwarding.allow."a@b": $HOST
--- admin-at-a-listener
[admin]
endpoint = "tcp:1079"  #! admin.endpoint: listeners[0] has this endpoint already; choose another
--- admin-through-a-proxy
[admin]
endpoint = "haproxy:tcp:1"  #! admin.endpoint: the admin pages take no PROXY header; remove haproxy:
--- admin-hosts
[admin]
hosts = [
    "gateway-1.example.org",
    "a b",  #! admin.hosts[1]: $HOST
    "h:9179",  #! admin.hosts[2]: $HOST
    9,  #! admin.hosts[3]: $QUOTES
    "",  #! admin.hosts[4]: $HOST
    "http://h/",  #! admin.hosts[5]: $HOST
]
--- admin-host-alone
[admin]
hosts = "gateway-1.example.org"  #! admin.hosts: $BRACKETS
--- misspelt-tables
[[listener]]  #! listener: unknown table "listener"; did you mean "listeners"?
endpoint = "tcp:2"
[[route]]  #! route: unknown table "route"; did you mean "routes"?
user = "a"
[proces]  #! proces: unknown table "proces"; did you mean "process"?
user = "a"
[zebra]  #! zebra: unknown table "zebra"; expected one of: $TABLES
--- misspelt-backends
[[routes]]
user = "x"
backends = ["b"]
[backend.b]  #! backend: unknown table "backend"; did you mean "backends"?
type = "menu"
--- misspelt-required
[[listeners]]
endpont = "tcp:2"  #! listeners[1].endpont: unknown key "endpont"; did you mean "endpoint"?
[[routes]]
usr = "x"  #! routes[0].usr: unknown key "usr"; did you mean "user"?
backends = ["b"]
[[routes]]
user = "y"
backend = ["b"]  #! routes[1].backend: unknown key "backend"; did you mean "backends"?
[backends.b]
type = "http"
urll = "http://h/"  #! backends.b.urll: unknown key "urll"; did you mean "url"?
template = 5  #! backends.b.template: $QUOTES
--- misspelt-decoy
[[listeners]]
endpoint = "tcp:3"
decoi = true  #! listeners[1].decoi: unknown key "decoi"; did you mean "decoy"?
delay = 5
[[listeners]]
endpoint = "haproxy:tcp:4"
trusted_proxie = ["10.0.0.0/8"]  #! listeners[2].trusted_proxie: $PROXIE
--- wrong-decoy
[[listeners]]
endpoint = "tcp:5"
decoy = "yes"  #! listeners[1].decoy: expected true or false, not a string; remove the quotes
delay = 5
--- wrong-proxies
[[listeners]]
endpoint = "haproxy:tcp:6"
trusted_proxies = ""  #! listeners[1].trusted_proxies: $BRACKETS
--- listener-types
[[listeners]]
endpoint = 79  #! listeners[1].endpoint: $QUOTES
deny = ["10.0.0.0/33"]  #! listeners[1].deny[0]: $NETWORK
limits = 5  #! listeners[1].limits: expected a table, not a whole number; write $LIMIT_FORM
--- listener-allow-table
[[listeners]]
endpoint = "tcp:7"
allow = { a = "10.0.0.0/8" }  #! listeners[1].allow: expected a list, not a table; write ["NETWORK"]
deny = 10.0  #! listeners[1].deny: expected a list, not a decimal number; write ["NETWORK"]
--- listener-limits
[[listeners]]
endpoint = "tcp:8"
[listeners.limits]
query_timeout = "5"  #! listeners[1].limits.query_timeout: expected a number, $UNQUOTED
max_waitng = 5  #! listeners[1].limits.max_waitng: unknown key "max_waitng"; did you mean "max_waiting"?
rate = 60  #! listeners[1].limits.rate: expected a table, not a whole number; write $RATE
--- rate-number
[limits]
rate = 60  #! limits.rate: expected a table, not a whole number; write $RATE
--- rate-list
[limits]
rate = [60, 60]  #! limits.rate: expected a table, not a list; write $RATE
--- rate-text
[limits]
rate = { queries = 6, per = 6, burst = 0, brst = 1 }  #! limits.rate.burst: $AT_LEAST 1 #! limits.rate.brst: $BURST
--- limits-bounds
[limits]
max_answer_bytes = 1e3  #! limits.max_answer_bytes: $DECIMAL
answer_timeout = 1000000000  #! limits.answer_timeout: $SECONDS
max_connections = 1000000001  #! limits.max_connections: expected a number from 1 to 1000000000
--- route-types
[[routes]]
user = "x"
backends = ["b"]
summary = true  #! routes[0].summary: expected a string, not a boolean
name = 5  #! routes[0].name: $QUOTES
clients = ["10.0.0.0/8", 5]  #! routes[0].clients[1]: $QUOTES
listeners = "tcp:1079"  #! routes[0].listeners: $BRACKETS
fallthrough = "missing"  #! routes[0].fallthrough: $BRACKETS
[backends.b]
type = "menu"
--- route-matchers
[[routes]]
index = "true"  #! routes[0].index: expected true or false, not a string; remove the quotes
backends = ["b"]
[[routes]]
pattern = ["a*"]  #! routes[1].pattern: expected a string, not a list
backends = ["b"]
[[routes]]
users = "a"  #! routes[2].users: $BRACKETS
backends = ["b"]
[[routes]]
regex = "a**"  #! routes[3].regex: not RE2 syntax at "**": a repetition cannot be repeated
backends = ["b"]
[[routes]]
regex = '(a)\1'  #! routes[4].regex: not RE2 syntax at "\1": RE2 has no such escape and no back-references
backends = ["b"]
[[routes]]
regex = "[b-a]"  #! routes[5].regex: not RE2 syntax at "b-a": there is no such range or class of characters
backends = ["b"]
[[routes]]
regex = "(?P<a-b>x)"  #! routes[6].regex: not RE2 syntax at "(?P<a-b>": $GROUP
backends = ["b"]
[[routes]]
regex = "*a"  #! routes[7].regex: not RE2 syntax at "*": there is nothing to repeat
backends = ["b"]
[[routes]]
regex = "a{1001}"  #! routes[8].regex: not RE2 syntax at "{1001}": it repeats more than 1000 times
backends = ["b"]
[backends.b]
type = "menu"
--- route-without-backends
[[routes]]  #! routes[0]: missing key "backends"
user = "x"
--- route-names
[[routes]]
users = [
    "/W",  #! routes[0].users[0]: $NAME
    "a  b",  #! routes[0].users[1]: $NAME
    "a\tb",  #! routes[0].users[2]: $NAME
    "a@b",  #! routes[0].users[3]: $NAME
]
backends = ["b"]
[backends.b]
type = "menu"
--- entries
[backends.x]
type = "static"
[backends.x.entries]
"" = "x"  #! backends.x.entries."": $ASKED
"a\u0001b" = "x"  #! backends.x.entries."a\x01b": $ASKED
"a@b" = "x"  #! backends.x.entries."a@b": $ASKED
" a" = "x"  #! backends.x.entries." a": $ASKED
"a  b" = "x"  #! backends.x.entries."a  b": $ASKED
"/W" = { plan = 5 }  #! backends.x.entries."/W": $ASKED #! backends.x.entries."/W".plan: $QUOTES
"é b" = "x"
--- entries-list
[backends.x]
type = "static"
entries = ["a"]  #! backends.x.entries: expected a table, not a list; write { NAME = $PERSON_FORM }
--- entries-person
[backends.x]
type = "static"
[backends.x.entries.a]
name = 5  #! backends.x.entries.a.name: $QUOTES
office = 3.14  #! backends.x.entries.a.office: expected a string, not a decimal number; put it in quotes
phone = [1]  #! backends.x.entries.a.phone: expected a string, not a list
plan = 1979-05-27  #! backends.x.entries.a.plan: expected a string, not a date or time; put it in quotes
shell = "a\u0000"  #! backends.x.entries.a.shell: expected a string without the character NUL
--- static-types
[backends.x]
type = "static"
text = ["a"]  #! backends.x.text: expected a string, not a list
[backends.y]
type = "static"
file = 5  #! backends.y.file: $QUOTES
[backends.z]  #! backends.z: expected exactly one of the keys entries, file, text; found entries and text
type = "static"
entries = {}
text = 5  #! backends.z.text: $QUOTES
--- command-types
[backends.x]
type = "command"
argv = "uptime"  #! backends.x.argv: $BRACKETS
env = ["A=1"]  #! backends.x.env: expected a table, not a list; write { NAME = "TEXT" }
missing_exit_codes = 1  #! backends.x.missing_exit_codes: expected a list, not a whole number; put it in brackets
[backends.y]
type = "command"
argv = { program = "a" }  #! backends.y.argv: expected a list, not a table; write ["TEXT"]
max_running = 1.0  #! backends.y.max_running: $DECIMAL
timeout = inf  #! backends.y.timeout: $SECONDS
cache = 30  #! backends.y.cache: expected a table, not a whole number; write $CACHE_FORM
--- command-cache-vary
[backends.x]
type = "command"
argv = ["a"]
cache = { vary = "client", ttl = -1 }  #! backends.x.cache.ttl: $PERIOD #! backends.x.cache.vary: $BRACKETS
--- command-env
[backends.x]
type = "command"
argv = ["a"]
[backends.x.env]
"" = "a"  #! backends.x.env."": expected a variable name without "=" or control characters
A = true  #! backends.x.env.A: expected a string, not a boolean
B = "a\u0000"  #! backends.x.env.B: expected a string without the character NUL
--- http-types
[backends.x]
type = "http"
url = ["http://h/"]  #! backends.x.url: expected a string, not a list
headers = "Accept: text/plain"  #! backends.x.headers: expected a table, not a string; write { NAME = "TEXT" }
missing_statuses = [
    404,
    "410",  #! backends.x.missing_statuses[1]: expected a whole number, $UNQUOTED
    600,  #! backends.x.missing_statuses[2]: expected a number from 100 to 599
]
follow_redirects = "no"  #! backends.x.follow_redirects: expected true or false, not a string; remove the quotes
bearer_token_file = ["a"]  #! backends.x.bearer_token_file: expected a string, not a list
ca_file = true  #! backends.x.ca_file: expected a string, not a boolean
max_bytes = "64k"  #! backends.x.max_bytes: expected a whole number, $UNQUOTED
--- http-placeholders
[backends.x]
type = "http"
url = "http://h/{}"  #! backends.x.url: "{}" $PLACEHOLDER
[backends.y]
type = "http"
url = "http://h/{user!r}"  #! backends.y.url: "{user!r}" $PLACEHOLDER
[backends.z]
type = "http"
url = "http://h/}"  #! backends.z.url: $BRACE
--- finger-missing
[backends.x]  #! backends.x: missing key "host"
type = "finger"
port = "79"  #! backends.x.port: expected a whole number, $UNQUOTED
max_bytes = 0  #! backends.x.max_bytes: $AT_LEAST 1
--- type-unknown-beside-what-all-have
[backends.x]
type = "statik"  #! backends.x.type: unknown backend type "statik"; did you mean "static"?
timeout = -1  #! backends.x.timeout: $SECONDS
max_running = 0  #! backends.x.max_running: $AT_LEAST 1
breaker = { failures = 0 }  #! backends.x.breaker.failures: $AT_LEAST 1
[backends.x.cache]
ttl = -1  #! backends.x.cache.ttl: $PERIOD
stale = 5
stale_if_error = 6  #! backends.x.cache.stale_if_error: $MOST 5; $RAISE stale_if_error
--- type-unknown-nothing-near
[backends.x]
type = "ldap"  #! backends.x.type: unknown backend type "ldap"; expected one of: $TYPES
--- list-of-backends
[[backends]]  #! backends: expected a table, not a list; write [backends] $ABOVE
type = "menu"
--- cache-types
[cache]
store = ["memory"]  #! cache.store: expected a string, not a list
max_bytes = "64M"  #! cache.max_bytes: expected a whole number, $UNQUOTED
password_file = 5  #! cache.password_file: $QUOTES
ca_file = []  #! cache.ca_file: expected a string, not a list
--- forwarding-types
[forwarding]
allow = ["old.example.org"]  #! forwarding.allow: expected a table, not a list; write { "HOST" = "TEXT" }
listeners = []  #! forwarding.listeners: $EMPTY
clients = "10.0.0.0/8"  #! forwarding.clients: $BRACKETS
timeout = 0  #! forwarding.timeout: $SECONDS
max_bytes = 0  #! forwarding.max_bytes: $AT_LEAST 1
max_running = true  #! forwarding.max_running: expected a whole number, not a boolean
--- forwarding-hosts
[forwarding.allow]
"" = "tcp:h:79"  #! forwarding.allow."": $HOST
"a b" = "tcp:h:79"  #! forwarding.allow."a b": $HOST
"a/W" = "tcp:h:79"  #! forwarding.allow."a/W": $HOST
" a" = "tcp:h:79"  #! forwarding.allow." a": $HOST
h = ["tcp:h:79"]  #! forwarding.allow.h: expected a string, not a list
--- answers-types
[answers]
charset = "latin-1"  #! answers.charset: expected "utf-8" or "ascii"
case_sensitive = "no"  #! answers.case_sensitive: expected true or false, not a string; remove the quotes
no_such_user = false  #! answers.no_such_user: expected a string, not a boolean
bad_qury = "x"  #! answers.bad_qury: unknown key "bad_qury"; did you mean "bad_query"?
internal_error = "a\u0000"  #! answers.internal_error: expected a string without the character NUL
--- process-types
[process]
user = -1  #! process.user: $AT_LEAST 0
group = 4294967295  #! process.group: expected a number from 0 to 4294967294
chroot = true  #! process.chroot: expected a string, not a boolean
umask = "01777"  #! process.umask: $UMASK
--- process-kinds
[process]
user = 1.5  #! process.user: expected a string, not a decimal number; put it in quotes
group = ["a"]  #! process.group: expected a string, not a list
umask = 0o27  #! process.umask: $UMASK
--- log-types
[log]
access = false  #! log.access: expected a string, not a boolean
format = "JSON"  #! log.format: expected "text" or "json"
level = "warning"  #! log.level: $LEVELS
--- admin-types
[admin]
endpoint = ["tcp:9179"]  #! admin.endpoint: expected a string, not a list
port = 9179  #! admin.port: unknown key "port"; expected one of: endpoint, hosts
--- one-matcher-of-three
[[routes]]  #! routes[0]: $ONE user and pattern and regex
user = "x"
pattern = "x"
regex = "x"
backends = ["b"]
[backends.b]
type = "menu"
--- duplicates-of-three
[[listeners]]
endpoint = "tcp:9"
name = "same"
[[listeners]]
endpoint = "tcp:10"
name = "same"  #! listeners[2].name: listeners[1] has the name "same" $ALREADY
allow = ["x"]  #! listeners[2].allow[0]: $NETWORK
[[listeners]]
endpoint = "tcp:11"
name = "same"  #! listeners[3].name: listeners[1] has the name "same" $ALREADY
--- many-at-once
[limits]
max_connections = "5"  #! limits.max_connections: expected a whole number, $UNQUOTED
query_timeout = -1  #! limits.query_timeout: $SECONDS

[[routes]]  #! routes[0]: $ONE user and pattern
user = "x"
pattern = "y"
backends = ["b", "nowhere"]  #! routes[0].backends[1]: unknown backend "nowhere"; expected one of: b, c
listeners = "public"  #! routes[0].listeners: $BRACKETS

[answer]  #! answer: unknown table "answer"; did you mean "answers"?
busy = "x"

[backends.b]  #! backends.b: missing key "argv"
type = "command"
timeout = false  #! backends.b.timeout: expected a number, not a boolean
max_runing = 1  #! backends.b.max_runing: unknown key "max_runing"; did you mean "max_running"?

[[routes]]
regex = "("  #! routes[1].regex: not RE2 syntax at "(": missing )
backends = ["c"]
name = "same"

[[listeners]]  #! listeners[1]: missing key "endpoint"
allow = ["10.0.0.1/8"]  #! listeners[1].allow[0]: $ADDRESS
trusted_proxies = ["10.0.0.0/8"]

[backends.c]
type = "htpp"  #! backends.c.type: unknown backend type "htpp"; did you mean "http"?

[[routes]]
name = "same"  #! routes[2].name: routes[1] has the name "same" $ALREADY
index = true
backends = []  #! routes[2].backends: $EMPTY

[log]
format = "xml"  #! log.format: expected "text" or "json"

[admin]
endpoint = 9  #! admin.endpoint: $QUOTES
--- headers-twice
[backends.x]
type = "http"
url = "http://h/"
headers = { Accept = "a", accept = "b", X-Key = "c" }  #! backends.x.headers.accept: $HEADER_TWICE
[backends.x.header_files]
x-key = "key"  #! backends.x.header_files.x-key: $HEADER_TWICE
Authorization = "auth"
authorization = "auth"  #! backends.x.header_files.authorization: $HEADER_TWICE
[backends.y]
type = "http"
url = "http://h/"
bearer_token_file = "token"
headers = { AUTHORIZATION = "a" }  #! backends.y.headers.AUTHORIZATION: $HEADER_TWICE
header_files = { Authorization = "auth" }  #! backends.y.header_files.Authorization: $HEADER_TWICE
--- headers-of-a-body
[backends.x]
type = "http"
url = "http://h/"
[backends.x.headers]
Content-Length = "5"  #! backends.x.headers.Content-Length: $BODY
transfer-encoding = "chunked"  #! backends.x.headers.transfer-encoding: $BODY
--- header-files
[backends.x]
type = "http"
url = "http://h/"
[backends.x.header_files]
"X Key" = "key"  #! backends.x.header_files."X Key": expected a header name such as "Accept"
X-Other = 5  #! backends.x.header_files.X-Other: $QUOTES
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
url = "http://h/ü"  #! backends.u9.url: $ASCII
[backends.u10]
type = "http"
url = "http://h/\n"  #! backends.u10.url: $BLANKS
[backends.u11]
type = "http"
url = "http:// h/"  #! backends.u11.url: $BLANKS
[backends.u12]
type = "http"
url = " http://h/"  #! backends.u12.url: $BLANKS
[backends.u13]
type = "http"
url = 'http://my app/'  #! backends.u13.url: $BLANKS
[backends.u14]
type = "http"
url = "http://h/a b"  #! backends.u14.url: $BLANKS
[backends.u15]
type = "http"
url = "http://h/\t"  #! backends.u15.url: $BLANKS
[backends.u16]
type = "http"
url = "http://h/#top"  #! backends.u16.url: $FRAGMENT
[backends.u17]
type = "http"
url = "http://h/{user}#{user}"  #! backends.u17.url: $FRAGMENT
[backends.u18]
type = "http"
url = "http://bücher.example/"  #! backends.u18.url: $ASCII
[backends.u19]
type = "http"
url = "http://h:0/"  #! backends.u19.url: $URL
[backends.u20]
type = "http"
url = "http://h:+80/"  #! backends.u20.url: $URL
[backends.u21]
type = "http"
url = "http://h:8a/"  #! backends.u21.url: $URL
[backends.u22]
type = "http"
url = "http://h:-1"  #! backends.u22.url: $URL
[backends.u23]
type = "http"
url = "http://@h/"  #! backends.u23.url: $URL
[backends.u24]
type = "http"
url = "http://u:p@h/"  #! backends.u24.url: $URL
[backends.u25]
type = "http"
url = "http://"  #! backends.u25.url: $URL
[backends.u26]
type = "http"
url = "http://:80/"  #! backends.u26.url: $URL
[backends.u27]
type = "http"
url = "http:h/"  #! backends.u27.url: $URL
[backends.u28]
type = "http"
url = "http:/h/"  #! backends.u28.url: $URL
[backends.u29]
type = "http"
url = 'http:\\h'  #! backends.u29.url: $URL
[backends.u30]
type = "http"
url = 'http://h\x'  #! backends.u30.url: $URL
[backends.u31]
type = "http"
url = "http://%68/"  #! backends.u31.url: $URL
[backends.u32]
type = "http"
url = "http://h../"  #! backends.u32.url: $URL
[backends.u33]
type = "http"
url = "http://.h/"  #! backends.u33.url: $URL
[backends.u34]
type = "http"
url = "http://a..b/"  #! backends.u34.url: $URL
[backends.u35]
type = "http"
url = "http://./"  #! backends.u35.url: $URL
[backends.u36]
type = "http"
url = "http://300.1.1.1/"  #! backends.u36.url: $URL
[backends.u37]
type = "http"
url = "http://1.2.3.4.5/"  #! backends.u37.url: $URL
[backends.u38]
type = "http"
url = "http://1.2.3.4./"  #! backends.u38.url: $URL
[backends.u39]
type = "http"
url = "http://::1/"  #! backends.u39.url: $URL
[backends.u40]
type = "http"
url = "http://[]/"  #! backends.u40.url: $URL
[backends.u41]
type = "http"
url = "http://[::1]x/"  #! backends.u41.url: $URL
[backends.u42]
type = "http"
url = "http://[1.2.3.4]/"  #! backends.u42.url: $URL
[backends.u43]
type = "http"
url = "http://[h]/"  #! backends.u43.url: $URL
[backends.u44]
type = "http"
url = "http://[::1%25eth0]/"  #! backends.u44.url: $URL
[backends.u45]
type = "http"
url = "http://[::g]/"  #! backends.u45.url: $URL
[backends.u46]
type = "http"
url = "http://h,i/"  #! backends.u46.url: $URL
[backends.u47]
type = "http"
url = "http://xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx/"  #! backends.u47.url: $URL
"""

MEANINGS = {
    "$ASCII": "expected a URL in ASCII: a host with other letters in its xn-- form, the rest in % form",
    "$BODY": "a GET request has no body, and a server would wait for it; remove the header",
    "$BLANKS": "expected a URL without spaces and control characters; write a space in it as %20",
    "$HEADER_TWICE": "this header is given twice, in headers, header_files or by bearer_token_file; remove one of "
    "the two",
    "$FRAGMENT": "remove the # and what follows it, which is never sent to a server; a # itself is %23",
    "$ABOVE": "above its keys, in single brackets",
    "$ADDRESS": '"10.0.0.1/8" is an address within a network; write "10.0.0.0/8" for the network, or "10.0.0.1" for '
    "the address alone",
    "$ALREADY": "already; give this one a name of its own",
    "$AT_LEAST": "expected a number of at least",
    "$ASKED": "expected a name that clients can ask for: it has no @, /W or control characters, no space at its "
    "start or end, and no two in a row; for the empty query, write a route with index = true",
    "$BRACE": "unmatched { or }; write a placeholder as {user}, and a literal brace as {{ or }}",
    "$BRACKETS": "expected a list, not a string; put it in brackets",
    "$CACHE": "negative_ttl, stale, stale_if_error, stale_while_revalidate, ttl",
    "$CHARSET": 'is not a known charset; write one such as "utf-8", "windows-1252", "iso-8859-15" or "koi8-r"',
    "$DATE": "expected a string, not a date or time; put it in quotes",
    "$FILTER": "the only filter is :upper; write a placeholder as {user}, and a literal brace as {{ or }}",
    "$BURST": 'unknown key "brst"; did you mean "burst"?',
    "$CACHE_FORM": "{ ttl = SECONDS, stale = SECONDS, stale_while_revalidate = SECONDS, stale_if_error = SECONDS, "
    'negative_ttl = SECONDS, vary = ["client"] }',
    "$LIMIT_FORM": "{ max_query_bytes = NUMBER, query_timeout = SECONDS, answer_timeout = SECONDS, max_answer_bytes = "
    "NUMBER, max_connections = NUMBER, max_connections_per_client = NUMBER, max_waiting = NUMBER, "
    "rate = { queries = NUMBER, per = SECONDS, burst = NUMBER } }",
    "$PERSON_FORM": '{ login = "TEXT", name = "TEXT", directory = "TEXT", shell = "TEXT", office = "TEXT", '
    'phone = "TEXT", last_login = "TEXT", mail = "TEXT" }',
    "$PROXIE": 'unknown key "trusted_proxie"; did you mean "trusted_proxies"?',
    "$RATE": "{ queries = NUMBER, per = SECONDS, burst = NUMBER }",
    "$TABLES": "admin, answers, backends, cache, forwarding, limits, listeners, log, process, routes",
    "$BREAKER": "expected false, or a table such as { failures = NUMBER, pause = SECONDS }",
    "$DECIMAL": "expected a whole number, not a decimal number",
    "$LOCAL": "forwarding.allow has this host too; remove one of the two",
    "$EMPTY": "expected a list of at least one item",
    "$GROUP": "the name of a group has letters, digits and _ only",
    "$HEADER": "expected a header value without line ends or control characters",
    "$HOST": 'expected a host name or IP address without a port, such as "old.example.org"',
    "$LEVELS": 'expected "debug", "info", "warn", "error" or "critical"',
    "$LOOK_AHEAD": 'not RE2 syntax at "(?=": RE2 has no look-ahead or look-behind, nor other groups of this form',
    "$LINE": "expected one line of text, without tabs and other control characters",
    "$LIMITS": "expected one of: answer_timeout, max_answer_bytes, max_connections, max_connections_per_client, "
    "max_query_bytes, max_waiting, query_timeout, rate",
    "$MOST": "expected at most stale, which is",
    "$NAME": "expected a name that clients can ask for: it has no @, /W or control characters, no space at its "
    "start or end, and no two in a row; for the empty query, write index = true",
    "$NETWORK": 'expected a network such as "10.0.0.0/8" or "2001:db8::/32"',
    "$NO_HAPROXY": "only a haproxy: endpoint has trusted proxies; remove this key, or put haproxy: before the endpoint",
    "$NO_PROXIES": 'expected at least one network in "trusted_proxies", of the proxies that connect here',
    "$NO_ROUTE": "no route leads to this backend, so nothing sets {team}",
    "$ONE": "expected exactly one of the keys user, users, pattern, regex, index; found",
    "$PASSWORD": "expected an address without a password; put the password into a file, and name that in password_file",
    "$PERIOD": "expected a finite number of seconds, 0 or more and below 1000000000",
    "$PERSON": "expected a string, or a table with any of the keys login, name, directory, shell, office, phone, "
    "last_login, mail, project, plan",
    "$PLACEHOLDER": "is not a placeholder; write a placeholder as {user}, and a literal brace as {{ or }}",
    "$PLAIN": "haproxy: cannot be combined with TLS here; let the proxy end TLS, and write haproxy:tcp:",
    "$PROGRAM": "expected a program without placeholders; only its arguments may have some",
    "$QUOTES": "expected a string, not a whole number; put it in quotes",
    "$RAISE": "raise stale, or lower",
    "$REDIS": 'expected "redis://HOST:PORT/DATABASE"; PORT is 1 to 65535, DATABASE a number, and nothing follows it',
    "$RENAME": 'rename the group "user": {user} is always the whole name that was asked for',
    "$ROUTES": "expected one of: backends, clients, fallthrough, index, listeners, name, pattern, regex, summary, "
    "usage, user, users",
    "$SAME_ENDPOINT": "listeners[0] has this endpoint already; choose another, or remove one of the two",
    "$SECONDS": "expected a finite number of seconds, above 0 and below 1000000000",
    "$SQLITE": "write the path right after sqlite:, as in sqlite:/var/lib/fingergw/cache.db",
    "$STORE": 'expected "memory", "sqlite:PATH" or "redis://HOST:PORT/DATABASE" (rediss: for TLS)',
    "$TRUSTED": 'missing key "trusted_proxies"; a haproxy: endpoint needs the networks of its proxies',
    "$TYPES": "command, finger, http, menu, static",
    "$UMASK": 'expected a string of up to four octal digits, in quotes, such as "027"',
    "$UNIX": "a proxy is known by its address, and a unix socket's clients have none; use haproxy:tcp:",
    "$UNQUOTED": "not a string; write only the number, without quotes",
    "$UNSET": "{team} is not set by every route to this backend; add (?P<team>...) to each route's regex, or write "
    "{{team}} for the text itself",
    "$URL": 'expected an http or https URL in ASCII such as "https://example.org/{user}", with no user name '
    "or placeholder in its host, and a port from 1 to 65535 if any",
}


def texts(table: str = MISTAKES) -> dict[str, str]:
    """Return the texts of a table by their names, each with a listener, and messages as comments."""
    found = {}
    for row in re.split("^--- ", table, flags=re.MULTILINE)[1:]:
        name, _, text = row.partition("\n")
        found[name] = LISTENER + text if text.startswith("[") else text + LISTENER
    return found


def spelt_out(text: str, meanings: Mapping[str, str] = MEANINGS) -> str:
    """Return a text with whole messages."""
    return re.sub(r"\$[A-Z_]+", lambda match: meanings.get(match[0], match[0]), text)


def expected(text: str, meanings: Mapping[str, str] = MEANINGS) -> list[str]:
    """Return the messages that stand as comments in a text, each with its line."""
    lines = enumerate(spelt_out(text, meanings).splitlines(), 1)
    return [f"{number}: {message}" for number, line in lines for message in re.split(" *#! ", line)[1:]]


def rows() -> list[Any]:
    """Return the texts of MISTAKES with the messages that are expected."""
    return [pytest.param(text, expected(text), id=name) for name, text in texts().items()]
