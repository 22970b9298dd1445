"""What each table and key is for, in a sentence or two: what ``fingergw schema`` tells an editor."""

from __future__ import annotations

from typing import Final

from fingergw.config import model

TABLES: Final[dict[type, str]] = {
    model.Config: "The configuration of fingergw, a finger (RFC 1288) gateway. Durations are in seconds, sizes in "
    "bytes, and relative paths are relative to this file.",
    model.Rate: "So many queries in so many seconds, and so many at once.",
    model.Limits: "What clients may cost.",
    model.Listener: "One server endpoint, and who may ask there.",
    model.Route: "Which queries, and the chain of backends that they go to.",
    model.BackendCache: "How long the backend's answers are kept.",
    model.Person: "A person, for the classic finger layout.",
    model.StaticBackend: "Answers from a map in this file, a map in a file of its own, or one text.",
    model.CommandBackend: "Answers with what a program prints.",
    model.HttpBackend: "Answers with what a URL gives.",
    model.FingerBackend: "Asks another finger server, and answers with what it says.",
    model.MenuBackend: "Lists the keywords with a summary that this client can ask for on this listener.",
    model.Cache: "Where cached answers are kept, and how many.",
    model.Forwarding: "Passes queries such as user@host on to other finger servers. Off unless allow names some.",
    model.Answers: "How names compare, and what clients are told.",
    model.Process: "What the process becomes after binding, before it reads a byte.",
    model.Log: "What is logged, and where.",
    model.Admin: "Where the gateway is watched.",
}

# An editor shows what all types of backends say of a key, and once what they say in the same words.
_BOUNDS: Final = {
    "timeout": "Seconds that an answer may take, waiting for a place included; what takes longer is a failure.",
    "max_bytes": "How long an answer may be; more is a failure.",
    "max_running": "How many answers are got at once; more wait, within the timeout.",
}
_CACHE: Final = {"cache": "How long answers of this backend are kept. Default: not at all"}

KEYS: Final[dict[type, dict[str, str]]] = {
    model.Config: {
        "listeners": "Where to listen; at least one.",
        "routes": "Which queries go where. They are tried in this order, and the first that matches wins.",
        "backends": "Where answers come from, by the name that routes have for it.",
        "cache": TABLES[model.Cache],
        "limits": "What clients may cost, on each listener by itself.",
        "forwarding": TABLES[model.Forwarding],
        "answers": TABLES[model.Answers],
        "process": TABLES[model.Process],
        "log": TABLES[model.Log],
        "admin": TABLES[model.Admin],
    },
    model.Rate: {
        "queries": "How many queries a client may send within per.",
        "per": "So many seconds.",
        "burst": "How many it may send at once.",
    },
    model.Limits: {
        "max_query_bytes": "How long the query line may be.",
        "query_timeout": "Seconds to receive the query line.",
        "answer_timeout": "Seconds from the query line to the last byte of the answer. A chain of backends that is not "
        "done by then is given up, so let each of them have less.",
        "max_answer_bytes": "An answer is cut to this.",
        "max_connections": "Connections at once, for each listener; more are told that it is busy.",
        "max_connections_per_client": "Connections at once of one client, which is an IPv4 address or an IPv6 /64.",
        "max_waiting": "Queries that wait for a backend at once; more are told that it is busy.",
        "rate": "How often one client may ask; more is told that it is busy. Default: as often as it likes",
    },
    model.Listener: {
        "endpoint": 'A Twisted server endpoint: "tcp:79", "tcp6:79", "unix:PATH", '
        '"ssl:PORT:privateKey=FILE:certKey=FILE", "tls:FOLDER:PORT", "systemd:domain=INET:name=NAME"; with "haproxy:" '
        "before it for clients that come through a proxy.",
        "name": "In logs, and for a route's listeners; no two alike. Default: the endpoint",
        "allow": "Networks whose clients may ask; others are closed at once. Default: everyone",
        "deny": "Networks whose clients may not ask; wins over allow.",
        "trusted_proxies": "Networks of the proxies whose PROXY header is believed; a haproxy: endpoint needs them.",
        "decoy": "A honey-pot: whatever is asked, the answer is no_such_user, and the access log has the query.",
        "delay": "Seconds that a decoy takes to answer.",
        "limits": "This listener's own limits, over those of [limits].",
    },
    model.Route: {
        "backends": "The chain: backends by name, asked in this order until one answers.",
        "name": "In logs and metrics. Default: what it matches",
        "summary": "What the menu says of it; the menu lists only routes that have one.",
        "user": "Matches this name.",
        "users": "Matches these names.",
        "pattern": 'Matches names by a shell-style pattern over the whole name, such as "svc-*".',
        "regex": "Matches whole names by a regular expression in RE2 syntax; its named groups are placeholders.",
        "index": "true: matches the empty query.",
        "listeners": "The listeners where it holds, by name. Default: all",
        "clients": "Networks of the clients it holds for. Default: everyone the listener lets in",
        "fallthrough": 'After which outcomes the next backend is asked: "missing" (it does not know the name), '
        '"failed".',
    },
    model.BackendCache: {
        "ttl": "Seconds for which an answer is fresh: given at once, without asking the backend. What an HTTP server "
        "says itself wins.",
        "stale": "Seconds after that for which it is given and refreshed in the background, or given because the "
        "backend fails. 0: never",
        "negative_ttl": "Seconds for which a name that the backend does not know is not asked for again.",
        "vary": "What the command is told of a query beside the name, and has answers of its own for. []: one answer "
        "for all who ask.",
    },
    model.Person: {
        "name": "The full name.",
        "directory": "The home folder.",
        "shell": "The login shell.",
        "office": "The office.",
        "phone": "The telephone number.",
        "project": "What they work on, in a line.",
        "plan": "What they are up to, in as many lines as they like.",
    },
    model.StaticBackend: {
        "entries": "Each name and its text, or a table for the classic finger layout.",
        "file": "A TOML file of such entries.",
        "text": "One answer for any name: a chain's last word.",
        **_CACHE,
    },
    model.CommandBackend: {
        "argv": "The program and its arguments; there is no shell. {user} and a regex's groups are put in place.",
        **_BOUNDS,
        "max_cpu_seconds": "Of processor time, for the program and for each that it starts.",
        "max_memory_bytes": "Of address space, for the program and for each that it starts.",
        "max_file_bytes": "The size of a file that it writes.",
        "max_processes": "With so many processes and threads its user can start no more.",
        "missing_exit_codes": "Exit codes that say that it does not know the name; others than these and 0 are "
        "failures.",
        "env": "Its whole environment, with FINGER_USER, FINGER_VERBOSE, FINGER_CLIENT and FINGER_LISTENER.",
        **_CACHE,
    },
    model.HttpBackend: {
        "url": "An http or https URL. {user} and a regex's groups are put in place after the host, percent-encoded.",
        "headers": "Sent along. Secrets have no place here: see bearer_token_file.",
        "bearer_token_file": "A file with a token for the Authorization header, which others can neither read nor "
        "write.",
        **_BOUNDS,
        "missing_statuses": "Statuses that say that the server does not know the name. Any other 2xx is an answer, "
        "anything else a failure.",
        "template": "A Jinja2 template, given the keys of the JSON body, the whole of it as body, and the "
        "placeholders. Default: the body is the answer",
        "ca_file": "PEM file of the authorities to trust. Default: the system's",
        "follow_redirects": "Follow redirects to the same scheme, host and port.",
        **_CACHE,
    },
    model.FingerBackend: {
        "host": "The server's name or address.",
        "port": "Its port.",
        **_BOUNDS,
        **_CACHE,
    },
    model.MenuBackend: _CACHE,
    model.Cache: {
        "store": '"memory"; "sqlite:PATH", which survives a restart; or "redis://HOST:PORT/DATABASE" (rediss: over '
        "TLS), which gateways share.",
        "max_entries": "Answers of all backends together.",
        "max_bytes": "Bytes of all answers together.",
        "password_file": "A file with the Redis user's password, which others can neither read nor write.",
        "ca_file": "PEM file of the authorities to trust for rediss:. Default: the system's",
    },
    model.Forwarding: {
        "allow": "Each host as clients write it, and the Twisted client endpoint that such a query is sent to; nobody "
        "else is ever contacted.",
        "listeners": "The listeners where it is done, by name. Default: all",
        "clients": "Networks of the clients it is done for. Default: everyone",
        "max_hops": "Hosts in a query: user@a@b has two.",
        "timeout": "Seconds from the query to the end of the answer.",
        "max_bytes": "Of the answer; more is a failure.",
        "max_running": "Connections at once to each host; more queries wait, within the timeout.",
    },
    model.Answers: {
        "charset": 'With "ascii" what is not ASCII becomes "?".',
        "case_sensitive": "Whether names that differ by case are different names.",
        "no_such_user": "When nobody knows the name.",
        "internal_error": "When a backend failed. Why goes to the log alone.",
        "list_denied": "To the empty query, where no route answers it.",
        "forward_denied": "To a query for another host, where that is not allowed.",
        "busy": "When there are too many queries or connections.",
        "bad_query": "To what is no finger query.",
    },
    model.Process: {
        "user": "The user to become, by name or number. Default: as started",
        "group": "The group to become, by name or number. Default: the user's own",
        "chroot": "Change the root to this folder before binding; it needs a /dev/null. Default: none",
        "umask": 'A string of octal digits, such as "027". Default: as started',
    },
    model.Log: {
        "access": 'A file for the access log, "-" for standard output, or "off".',
        "format": 'Of the access log; "json": an object a line.',
        "level": "Of the other log: what is less important is left out.",
    },
    model.Admin: {
        "endpoint": 'The server endpoint for /metrics, /healthz and /readyz, such as "tcp:9179", which is on the '
        "loopback unless an interface is named. Default: none",
        "hosts": "Names by which it may be asked for there, beside localhost and addresses.",
    },
}
