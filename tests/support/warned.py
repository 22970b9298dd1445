"""Configurations that are allowed and cannot be meant, each with the warnings that are expected, and near misses."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.support.contract import LISTENER

# As in tests/support/mistakes.py: a warning stands as a comment, begun by "#!", on the line it is expected with. A row
# without one is a near miss, and must be silent. Where a row has no listener, one is put before it; where it names the
# backend "b" and does not define it, that is put after it.
WARNINGS = r"""
--- same-user
[[routes]]
user = "ada"
backends = ["b"]
[[routes]]
user = "ada"  #! routes[1].user: $SAME_NAME
backends = ["b"]
--- same-user-by-case
[[routes]]
user = "ada"
backends = ["b"]
[[routes]]
name = "other"
user = "ADA"  #! routes[1].user: $SAME_NAME
backends = ["b"]
--- same-user-by-case-where-case-counts
[[routes]]
user = "ada"
backends = ["b"]
[[routes]]
user = "ADA"
backends = ["b"]
[answers]
case_sensitive = true
--- same-user-in-lists
[[routes]]
users = ["ada", "bob"]
backends = ["b"]
[[routes]]
users = [
    "eve",
    "bob",  #! routes[1].users[1]: $SAME_NAME
    "Eve",  #! routes[1].users[2]: this name is in the list already; remove one of the two
]
backends = ["b"]
--- same-user-as-a-pattern-without-wildcards
[[routes]]
pattern = "ada"
backends = ["b"]
[[routes]]
name = "other"
user = "ada"  #! routes[1].user: $SAME_NAME
backends = ["b"]
--- pattern-without-wildcards-after-the-user
[[routes]]
user = "[x]"
backends = ["b"]
[[routes]]
name = "other"
pattern = "[[]x]"  #! routes[1].pattern: $SAME_NAME
backends = ["b"]
--- same-user-for-other-clients
[[routes]]
name = "inside"
user = "ada"
clients = ["10.0.0.0/8"]
backends = ["b"]
[[routes]]
user = "ada"
backends = ["b"]
--- same-user-for-fewer-clients
[[routes]]
user = "ada"
clients = ["10.0.0.0/9", "10.128.0.0/9", "2001:db8::/32"]
backends = ["b"]
[[routes]]
name = "inside"
user = "ada"  #! routes[1].user: $SAME_NAME
clients = ["10.0.0.0/8", "2001:db8:1::/48"]
backends = ["b"]
--- same-user-for-some-other-clients
[[routes]]
user = "ada"
clients = ["10.0.0.0/8"]
backends = ["b"]
[[routes]]
name = "inside"
user = "ada"
clients = ["10.1.0.0/16", "192.0.2.0/24"]
backends = ["b"]
--- same-user-at-other-listeners
[[listeners]]
endpoint = "tcp:1"
name = "one"
[[listeners]]
endpoint = "tcp:2"
name = "two"
[[routes]]
user = "ada"
listeners = ["one"]
backends = ["b"]
[[routes]]
name = "other"
user = "ada"
backends = ["b"]
--- same-user-at-the-same-listeners-in-other-words
[[listeners]]
endpoint = "tcp:1"
name = "one"
[[listeners]]
endpoint = "tcp:2"
name = "two"
[[listeners]]
endpoint = "tcp:3"
name = "trap"
decoy = true
[[routes]]
user = "ada"
listeners = ["two", "one"]
backends = ["b"]
[[routes]]
name = "other"
user = "ada"  #! routes[1].user: $SAME_NAME
backends = ["b"]
--- two-indices
[[routes]]
index = true
backends = ["b"]
[[routes]]
name = "other"
index = true  #! routes[1].index: never matches: routes[0] takes the empty query first, $SAME
backends = ["b"]
--- index-after-everything
[[routes]]
pattern = "*"
backends = ["b"]
[[routes]]
index = true
backends = ["b"]
--- user-after-everything
[[routes]]
pattern = "*"
backends = ["b"]
[[routes]]
user = "ada"  #! routes[1].user: never matches: routes[0] with "*" takes this name first; $PUT
backends = ["b"]
[[routes]]
regex = '[a-z]+-oncall'  #! routes[2].regex: never matches: routes[0] with "*" $ALL; $PUT
backends = ["b"]
--- everything-last
[[routes]]
user = "ada"
backends = ["b"]
[[routes]]
regex = '[a-z]+-oncall'
backends = ["b"]
[[routes]]
pattern = "*"
backends = ["b"]
--- all-by-a-regex
[[routes]]
regex = '(?P<name>.+)'
backends = ["b"]
[[routes]]
user = "ada"  #! routes[1].user: never matches: routes[0] with "(?P<name>.+)" takes this name first; $PUT
backends = ["b"]
[[routes]]
pattern = "svc-*"  #! routes[2].pattern: never matches: routes[0] with "(?P<name>.+)" $ALL; $PUT
backends = ["b"]
--- user-after-a-pattern-and-a-regex
[[routes]]
pattern = "svc-*"
backends = ["b"]
[[routes]]
regex = '[a-z]+-oncall'
backends = ["b"]
[[routes]]
users = [
    "SVC-mail",  #! routes[2].users[0]: never matches: routes[0] with "svc-*" takes this name first; $PUT
    "svcmail",
    "db-oncall",  #! routes[2].users[2]: never matches: routes[1] with "[a-z]+-oncall" takes this name first; $PUT
    "db-oncall-2",
]
backends = ["b"]
--- pattern-within-a-pattern
[[routes]]
pattern = "svc-*"
backends = ["b"]
[[routes]]
pattern = "svc-a*"  #! routes[1].pattern: never matches: routes[0] with "svc-*" $ALL; $PUT
backends = ["b"]
[[routes]]
pattern = "svc-??[0-9]"  #! routes[2].pattern: never matches: routes[0] with "svc-*" $ALL; $PUT
backends = ["b"]
[[routes]]
pattern = "svc*"
backends = ["b"]
--- patterns-that-overlap
[[routes]]
pattern = "svc-a*"
backends = ["b"]
[[routes]]
pattern = "svc-*"
backends = ["b"]
[[routes]]
pattern = "*-svc-a"
backends = ["b"]
[[routes]]
pattern = "sv?-[ab]"
backends = ["b"]
--- equal-patterns
[[routes]]
pattern = "svc-*"
backends = ["b"]
[[routes]]
name = "other"
pattern = "Svc-*"  #! routes[1].pattern: never matches: routes[0] $ALL, $SAME
backends = ["b"]
--- equal-regexes
[[routes]]
regex = '(?P<team>[a-z]+)-oncall'
backends = ["b"]
[[routes]]
name = "other"
regex = '(?P<team>[a-z]+)-oncall'  #! routes[1].regex: never matches: routes[0] $ALL, $SAME
backends = ["b"]
[[routes]]
regex = '(?P<team>[a-z]+)-duty'
backends = ["b"]
--- regexes-that-differ-by-form
[[routes]]
regex = "josé+"
backends = ["b"]
[[routes]]
name = "other"
regex = "josé+"  #! routes[1].regex: never matches: routes[0] $ALL, $SAME
backends = ["b"]
[[routes]]
regex = "jos[é]"
backends = ["b"]
--- clients-that-no-listener-lets-in
[[listeners]]
endpoint = "tcp:1"
allow = ["10.0.0.0/8"]
deny = ["10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16"]
[[routes]]
user = "a"
clients = ["192.0.2.0/24"]  #! routes[0].clients: $NOBODY
backends = ["b"]
[[routes]]
user = "b"
clients = ["10.2.0.0/15"]  #! routes[1].clients: $NOBODY
backends = ["b"]
[[routes]]
user = "c"
clients = ["10.0.0.0/14"]
backends = ["b"]
[[routes]]
user = "d"
clients = ["0.0.0.0/0"]
backends = ["b"]
[[routes]]
user = "e"
clients = []  #! routes[4].clients: an empty list is nobody; name some network, or remove the key for everyone
backends = ["b"]
--- clients-that-another-listener-lets-in
[[listeners]]
endpoint = "tcp:1"
allow = ["10.0.0.0/8"]
name = "inside"
[[listeners]]
endpoint = "tcp:2"
allow = ["192.0.2.0/24"]
[[routes]]
user = "a"
clients = ["192.0.2.0/25"]
backends = ["b"]
[[routes]]
user = "b"
clients = ["192.0.2.0/25"]  #! routes[1].clients: $NOBODY
listeners = ["inside"]
backends = ["b"]
--- clients-of-a-unix-socket
[[listeners]]
endpoint = "unix:x"
allow = ["10.0.0.0/8"]  #! listeners[0].allow: $UNIX_ALLOW
[[routes]]
user = "a"
clients = ["10.0.0.0/8"]  #! routes[0].clients: $UNIX_CLIENTS
backends = ["b"]
--- clients-of-a-passed-unix-socket
[[listeners]]
endpoint = "systemd:index=0:domain=UNIX"
[[routes]]
user = "a"
clients = ["10.0.0.0/8"]  #! routes[0].clients: $UNIX_CLIENTS
backends = ["b"]
--- clients-with-ipv6-where-all-is-ipv4
[[listeners]]
endpoint = "tcp:1"
[[listeners]]
endpoint = "tcp:2:interface=127.0.0.1"
allow = ["2001:db8::/32"]  #! listeners[1].allow: $NOBODY_HERE
[[routes]]
user = "a"
clients = ["2001:db8::/32", "fe80::/10"]  #! routes[0].clients: $IPV4_ALONE
backends = ["b"]
[[routes]]
user = "c"
clients = ["2001:db8::/32", "10.0.0.0/8"]
backends = ["b"]
--- clients-with-ipv6-where-there-may-be-some
[[listeners]]
endpoint = "tcp:1:interface=\\:\\:1"
allow = ["::1"]
[[listeners]]
endpoint = "haproxy:tcp:2"
trusted_proxies = ["10.0.0.1"]
allow = ["2001:db8::/32"]
[[listeners]]
endpoint = "tcp6:3"
allow = ["2001:db8::/32"]
[[routes]]
user = "a"
clients = ["2001:db8::/32"]
backends = ["b"]
--- listener-for-nobody
[[listeners]]
endpoint = "tcp:1"
allow = ["10.0.0.0/8"]
deny = ["10.0.0.0/9", "10.128.0.0/9"]  #! listeners[0].deny: $NOBODY_HERE
[[listeners]]
endpoint = "tcp:2"
allow = []  #! listeners[1].allow: $NOBODY_HERE
--- forwarding-for-nobody
[[listeners]]
endpoint = "tcp:1"
allow = ["10.0.0.0/8"]
[forwarding]
allow = { "old.example.org" = "tcp:old.example.org:79" }
clients = ["192.0.2.0/24"]  #! forwarding.clients: $NOBODY
--- decoy-alone
[[listeners]]
endpoint = "tcp:1"
[[listeners]]
endpoint = "tcp:2"
name = "trap"
decoy = true
[[routes]]
user = "a"
listeners = ["trap"]  #! routes[0].listeners: $DECOYS
backends = ["b"]
[[routes]]
user = "b"
listeners = ["trap", "tcp:1"]
backends = ["b"]
[forwarding]
allow = { "old.example.org" = "tcp:old.example.org:79" }
listeners = ["trap"]  #! forwarding.listeners: $DECOYS
--- unused-backend
[[routes]]
user = "a"
backends = ["b"]
[backends.c]  #! backends.c: no route uses it; name it in the backends of a route, or remove it
type = "static"
text = "x"
--- behind-a-text
[[routes]]
user = "a"
backends = [
    "last",
    "b",  #! routes[0].backends[1]: $BEFORE_ALL
    "c",  #! routes[0].backends[2]: $BEFORE_ALL
]
[backends.last]
type = "static"
text = "x"
[backends.c]
type = "menu"
--- text-last
[[routes]]
user = "a"
backends = ["b", "last"]
[backends.last]
type = "static"
text = "x"
--- behind-a-menu
[[routes]]
user = "a"
summary = "A"
backends = ["menu", "b"]  #! routes[0].backends[1]: is never asked, as "menu" before it always has an answer; $BEFORE
[backends.menu]
type = "menu"
--- behind-a-menu-without-a-regex
[[routes]]
regex = "a+"
summary = "A"
backends = ["menu", "b"]
[backends.menu]
type = "menu"
--- behind-a-menu-that-may-be-empty
[[routes]]
user = "a"
summary = "A"
clients = ["10.0.0.0/8"]
backends = ["menu", "b"]
[backends.menu]
type = "menu"
--- behind-what-never-fails
[[routes]]
user = "a"
backends = ["b", "c"]  #! routes[0].backends[1]: $NEVER_FAILS
fallthrough = ["failed"]
[[routes]]
user = "c"
backends = ["b", "c"]  #! routes[1].backends[1]: $NO_FALLTHROUGH
fallthrough = []
[[routes]]
user = "d"
backends = ["b", "c"]
fallthrough = ["missing"]
[[routes]]
user = "e"
backends = ["web", "b"]
fallthrough = ["failed"]
[backends.c]
type = "static"
entries = { x = "X" }
[backends.web]
type = "http"
url = "http://h/"
--- twice-in-a-chain
[[routes]]
user = "a"
backends = [
    "b",
    "c",
    "b",  #! routes[0].backends[2]: is in this chain already; remove one of the two
]
[backends.c]
type = "static"
entries = { x = "X" }
--- store-without-a-cache
[[routes]]
user = "a"
backends = ["b"]
[cache]
store = "sqlite:cache.db"  #! cache.store: $NO_CACHE
--- store-with-a-cache
[[routes]]
user = "a"
backends = ["b"]
[backends.b]
type = "static"
text = "x"
cache = {}
[cache]
store = "sqlite:cache.db"
--- same-port
[[listeners]]
endpoint = "tcp:4000"
[[listeners]]
endpoint = "tcp:4000:interface=127.0.0.1"  #! listeners[1].endpoint: $PORT
[[listeners]]
endpoint = "haproxy:tcp:4000"  #! listeners[2].endpoint: $PORT
trusted_proxies = ["10.0.0.0/8"]
[[listeners]]
endpoint = 'tcp6:4000:interface=\:\:1'
[[listeners]]
endpoint = "tcp6:4000"  #! listeners[4].endpoint: $PORT_6
[[listeners]]
endpoint = "tcp:4001:interface=127.0.0.1"
[[listeners]]
endpoint = "tcp:4001:interface=127.0.0.2"
[[listeners]]
name = "third"
endpoint = "tcp:4001:interface=127.0.0.1"  #! listeners[7].endpoint: listeners[5] takes port 4001 already, $TWICE
[admin]
endpoint = "tcp:4001"  #! admin.endpoint: listeners[5] takes port 4001 already, $TWICE
--- any-free-port
[[listeners]]
endpoint = "tcp:0"
[[listeners]]
endpoint = "tcp:00"
[[listeners]]
endpoint = "tcp:0:interface=127.0.0.1"
--- same-name-of-a-socket
[[listeners]]
endpoint = "unix:x"
[[listeners]]
endpoint = "unix:./x:mode=600"  #! listeners[1].endpoint: listeners[0] takes path $FOLDER/x already, $TWICE
[[listeners]]
endpoint = "unix:y"
--- the-same-endpoint-by-other-names
[[listeners]]
name = "one"
endpoint = "tcp:4000"
[[listeners]]
name = "two"
endpoint = "tcp:4000"  #! listeners[1].endpoint: $PORT
--- slower-than-the-answer
[[listeners]]
endpoint = "tcp:1"
name = "slow"
[[listeners]]
endpoint = "tcp:2"
limits = { answer_timeout = 4 }
[[listeners]]
endpoint = "tcp:3"
decoy = true
delay = 16  #! listeners[2].delay: 16 is above answer_timeout, which is 15: the decoy never answers; $LOWER
[[listeners]]
endpoint = "tcp:4"
decoy = true
delay = 15
[[routes]]
user = "a"
backends = ["web", "run", "quick", "b"]
[[routes]]
user = "c"
listeners = ["tcp:2"]
backends = ["default"]
[backends.web]
type = "http"
url = "http://h/"
timeout = 20  #! backends.web.timeout: 20 is above answer_timeout, which is 15: $HANGS; $LOWER
[backends.run]
type = "command"
argv = ["true"]
timeout = 15.5  #! backends.run.timeout: 15.5 is above answer_timeout, which is 15: the chain ends before; $LOWER
[backends.quick]
type = "http"
url = "http://h/"
timeout = 15
[backends.default]  #! backends.default.timeout: 5 is above answer_timeout, which is 4: the chain ends before; $LOWER
type = "http"
url = "http://h/"
breaker = false
[forwarding]
allow = { "old.example.org" = "tcp:old.example.org:79" }
timeout = 16  #! forwarding.timeout: 16 is above answer_timeout, which is 15: the client is answered before; $LOWER
--- success-as-missing
[[routes]]
user = "a"
backends = ["web"]
[backends.web]
type = "http"
url = "http://h/"
missing_statuses = [
    404,
    200,  #! backends.web.missing_statuses[1]: 200 is a success, so that no answer with it is ever shown; remove it
    302,
]
--- secrets
[[routes]]
user = "a"
backends = ["web", "run", "b"]
[backends.web]
type = "http"
url = "http://h/?page=1&access_token=abc"  #! backends.web.url: the value of "access_token": $SECRET; $FROM_HEADER
[backends.web.headers]
Accept = "application/json"
Authorization = "Bearer abc"  #! backends.web.headers.Authorization: $SECRET; $HEADER_FILES, $BEARER
X-Api-Key = "abc"  #! backends.web.headers.X-Api-Key: $SECRET; $HEADER_FILES
cookie = "session=abc"  #! backends.web.headers.cookie: $SECRET; $HEADER_FILES
Proxy-Authorization = ""
X-Auth-Key = "abc"  #! backends.web.headers.X-Auth-Key: $SECRET; $HEADER_FILES
X-Token-Type = "jwt"
[backends.run]
type = "command"
argv = [
    "true",
    "--token=abc",  #! backends.run.argv[1]: $ARGUMENT
    "--token=/etc/token",
    "--token={user}",
    "-H",
    "Authorization: Bearer abc",  #! backends.run.argv[5]: $ARGUMENT
    "Token: none",
    "--password",
    "abc",  #! backends.run.argv[8]: $ARGUMENT
    "--password",
    "/etc/token",
    "--token",
    "{user}",
    "--no-password",
    "abc",
    "--secret",
    "--verbose",
    "--password-stdin",
    "abc",
    "--header=Api-Key: abc",  #! backends.run.argv[19]: $ARGUMENT
]
[backends.run.env]
LANG = "C.UTF-8"
DB_PASSWORD = "abc"  #! backends.run.env.DB_PASSWORD: $SECRET; put it into a file that the program reads
SECRET_KEY = "abc"  #! backends.run.env.SECRET_KEY: $SECRET; put it into a file that the program reads
MYSQL_PWD = "abc"  #! backends.run.env.MYSQL_PWD: $SECRET; put it into a file that the program reads
BYPASS = "1"
API_TOKEN = "/etc/token"
API_TOKEN_FILE = "token"
--- no-secrets
[[routes]]
user = "a"
backends = ["web"]
[backends.web]
type = "http"
url = "http://h/?token={user}&key=oncall&page=1"
headers = { Accept = "text/plain", X-Gateway = "finger" }
--- variables-of-the-gateways-own
[[routes]]
user = "a"
backends = ["run"]
[backends.run]
type = "command"
argv = ["true"]
[backends.run.env]
FINGER_USER = "ada"  #! backends.run.env.FINGER_USER: $OWN_VARIABLE
FINGER_COLOUR = "red"
--- placeholders-where-nothing-is-filled-in
[[routes]]
regex = '(?P<team>[a-z]+)-oncall'
backends = ["last"]
[[routes]]
user = "a"
backends = ["people", "web", "run"]
[backends.last]
type = "static"
text = "Nobody of {team} knows {other}"  #! backends.last.text: $UNFILLED {team} $BRACES_OFF
[backends.people]
type = "static"
[backends.people.entries]
ada = "{ user } is in"  #! backends.people.entries.ada: $UNFILLED {user} $BRACES_OFF
bob = "write {name}@example.org"
eve = { plan = "{user}" }
[backends.web]
type = "http"
url = "http://h/{user}"
headers = { X-User = "{user}" }  #! backends.web.headers.X-User: $TO_SERVER
template = "{{ user }} {team}"  #! backends.web.template: $UNFILLED {team} $TWO_BRACES
[backends.run]
type = "command"
argv = ["true", "{user}"]
env = { NAME = "{user}" }  #! backends.run.env.NAME: $TO_PROGRAM
[answers]
no_such_user = "No {user}"  #! answers.no_such_user: $UNFILLED {user} $BRACES_OFF
--- placeholders-that-no-route-sets
[[routes]]
user = "a"
backends = ["people", "last"]
[backends.people]
type = "static"
entries = { a = "write {name}@example.org", b = "{}" }
[backends.last]
type = "static"
text = "Nobody in {team}"  #! backends.last.text: $UNFILLED {team} $BRACES_OFF
--- braces-of-a-template
[[routes]]
user = "a"
backends = ["web"]
[backends.web]
type = "http"
url = "http://h/{user}"
template = "{{user}} {{ user }} {%if user%}{# {user}#}{%endif%} {other} {% raw %}{user}{% endraw %}"
--- braces-that-are-no-placeholders
[[routes]]
user = "a"
backends = ["last"]
[backends.last]
type = "static"
text = "{} { } {a b} {1} {1,2} }{"
--- blank-names
[[listeners]]
endpoint = "tcp:1"
name = " "  #! listeners[0].name: the name is blank; give it one that can be seen in logs
[[routes]]
name = "a "  #! routes[0].name: the name begins or ends with a space; remove that
user = "a"
backends = [" b", "on call"]
[backends." b"]  #! backends." b": the name begins or ends with a space; remove that
type = "static"
entries = {}
[backends."on call"]
type = "static"
text = "x"
--- names-that-cannot-be-seen
[[listeners]]
endpoint = "tcp:1"
name = "\u200b"  #! listeners[0].name: the name is blank; give it one that can be seen in logs
[[routes]]
pattern = "a "  #! routes[0].pattern: never matches: no name begins or ends with a space; remove that
backends = ["b"]
[[routes]]
pattern = " *"  #! routes[1].pattern: never matches: no name begins or ends with a space; remove that
backends = ["b"]
[[routes]]
pattern = "* *"
backends = ["b"]
--- longer-than-a-query
[limits]
max_query_bytes = 8
[[routes]]
user = "abcdefghi"  #! routes[0].user: never matches: it takes 9 bytes, and max_query_bytes is 8; $SHORTEN
backends = ["b"]
[[routes]]
users = [
    "ééééé",  #! routes[1].users[0]: never matches: it takes 10 bytes, and max_query_bytes is 8; $SHORTEN
    "abcdefgh",
]
backends = ["b"]
[[routes]]
pattern = "abcdefgh?*"  #! routes[2].pattern: never matches: it takes 9 bytes, and max_query_bytes is 8; $SHORTEN
backends = ["b"]
[[routes]]
pattern = "abcdefg[!xyz]*"
backends = ["b"]
--- longer-than-a-query-at-one-listener
[[listeners]]
endpoint = "tcp:1"
limits = { max_query_bytes = 8 }
[[listeners]]
endpoint = "tcp:2"
[[routes]]
user = "abcdefghi"
backends = ["b"]
--- patterns-that-look-like-others
[[routes]]
pattern = "[a"  #! routes[0].pattern: $OPEN
backends = ["b"]
[[routes]]
pattern = "[^a]b*"  #! routes[1].pattern: "[^" is no negation here: it matches a ^ too; write "[!", or put the ^ last
backends = ["b"]
[[routes]]
pattern = "[z-a]*"  #! routes[2].pattern: $RANGE
backends = ["b"]
[[routes]]
pattern = 'c\**'  #! routes[3].pattern: a backslash is taken as it is; to match a wildcard itself, write it as in [*]
backends = ["b"]
[[routes]]
pattern = "d{e,f}*"  #! routes[4].pattern: $BRACES
backends = ["b"]
[[routes]]
user = "svc-*"  #! routes[5].user: $MANY pattern = "svc-*"
backends = ["b"]
[[routes]]
pattern = "g[[]?[!a^]{h}*"
backends = ["b"]
--- times-without-effect
[[routes]]
user = "a"
backends = ["one", "two", "three"]
[backends.one]
type = "http"
url = "http://h/"
cache = { stale_if_error = 10 }  #! backends.one.cache.stale_if_error: $BELOW 3600: $ANYWAY
[backends.two]
type = "http"
url = "http://h/"
cache = { stale_while_revalidate = 10, stale_if_error = 5 }  #! backends.two.cache.stale_if_error: $BELOW 10: $ANYWAY
[backends.three]
type = "http"
url = "http://h/"
cache = { stale_while_revalidate = 0, stale_if_error = 0 }
"""

MEANINGS = {
    "$ALL": "takes all that this matches first",
    "$ANYWAY": "for so long the old answer is served anyway, also if the backend fails; lower that, too",
    "$ARGUMENT": "a secret here can be read in this file, and by all users of this machine while the program "
    "runs; put it into a file that the program reads",
    "$BEARER": "or a Bearer token's in bearer_token_file",
    "$BEFORE_ALL": 'is never asked, as "last" before it answers every name; put it before that, or remove it',
    "$BEFORE": "put it before that, or remove it",
    "$BELOW": "has no effect below stale_while_revalidate, which is",
    "$BRACES_OFF": "as it stands; write it without braces",
    "$BRACES": "braces are taken as they are; write a route for each, or a regex such as (a|b)",
    "$DECOYS": "all its listeners are decoys, which answer everything with no_such_user; name another listener",
    "$FROM_HEADER": "if its server takes it in a header, put it into a file, and name that in header_files",
    "$HANGS": "the chain ends before, and its breaker does not count that it hangs",
    "$HEADER_FILES": "put it into a file, and name that in header_files",
    "$IPV4_ALONE": "its listeners take IPv4 alone, and these are IPv6; add a listener with a tcp6: endpoint",
    "$LOWER": "lower it, or raise that",
    "$MANY": "the * is part of the name here; to match many names, write",
    "$NEVER_FAILS": 'is never asked, as "b" before it never fails, and fallthrough has "failed" '
    'alone; add "missing" to that, or remove it',
    "$NOBODY": "none of its listeners lets these clients in; see their allow and deny",
    "$NOBODY_HERE": "nobody may ask here; allow some network, or remove the listener",
    "$NO_CACHE": 'no backend has a cache, so nothing is kept there; write "cache = {}" in the table of one, '
    "or remove this",
    "$NO_FALLTHROUGH": "is never asked, as fallthrough is empty; say there when to ask it, or remove it",
    "$OPEN": 'the "[" is taken as it is, as no "]" follows; close it, or write [[] for a bracket itself',
    "$OWN_VARIABLE": "the gateway sets this variable itself, whatever stands here; remove it",
    "$PORT": "listeners[0] takes port 4000 already, so the gateway cannot start; choose another, or remove "
    "one of the two",
    "$PORT_6": "listeners[0] takes port 4000 already, so the gateway cannot start; a tcp6: endpoint takes "
    "IPv4 too, unless its interface is an address; choose another, or remove one of the two",
    "$PUT": "put this route before that one, or remove it",
    "$RANGE": "never matches: a range in it has its ends in the wrong order; write it like [a-z]",
    "$SAME": "for the same listeners and clients; remove one of the two",
    "$SAME_NAME": "never matches: routes[0] takes this name first, for the same listeners and clients; "
    "remove one of the two",
    "$SECRET": "a secret here can be read by whoever can read this file",
    "$SHORTEN": "raise that, or shorten this",
    "$TO_PROGRAM": "nothing is filled in here: the program gets {user} as it stands; it is filled in in argv",
    "$TO_SERVER": "nothing is filled in here: the server gets {user} as it stands; it is filled in in url",
    "$TWO_BRACES": "as it stands; write {{ }} around it",
    "$TWICE": "so the gateway cannot start; choose another, or remove one of the two",
    "$UNFILLED": "nothing is filled in here: clients get",
    "$UNIX_ALLOW": "has no effect: clients of a unix socket have no addresses; use the mode= of its endpoint",
    "$UNIX_CLIENTS": "clients of a unix socket are in no network, and its listeners have no others; remove the key",
}
_BACKEND = '[backends.b]\ntype = "static"\nentries = { a = "A" }\n'


def rows() -> list[Any]:
    """Return the texts of WARNINGS with the warnings that are expected."""
    found = []
    for row in re.split("^--- ", WARNINGS, flags=re.MULTILINE)[1:]:
        name, _, text = row.partition("\n")
        if "[[listeners]]" not in text:
            text = LISTENER + text
        if re.search(r'backends = \[[^\]]*"b"', text) and "[backends.b]" not in text:
            text += _BACKEND
        messages = []
        for number, line in enumerate(text.splitlines(), 1):
            for message in re.split(" *#! ", line)[1:]:
                meaning = re.sub(r"\$[A-Z_0-9]+", lambda match: MEANINGS.get(match[0], match[0]), message)
                messages.append(f"{number}: {meaning}")
        found.append(pytest.param(text, messages, id=name))
    return found
