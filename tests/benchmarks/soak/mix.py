"""What is asked in a soak, and the one answer that each query must get, whatever goes wrong for it."""

from __future__ import annotations

import stat
from pathlib import Path

import trustme
from attrs import frozen

from tests.support.configuration import REFUSALS

LAST_WORD = "Nobody by that name here."
HANG_SECONDS = 0.3
"""The timeout of backends whose upstream hangs."""
STALL_SECONDS = 1.5
"""How long the listener for clients that never read, or never ask, lets them."""
MAX_BODY_BYTES = 8192
DENIED = "127.0.0.66"
"""Who may not ask."""
LONG = "".join(f"Line {number} of an answer that does not fit TCP's first window.\n" for number in range(400))
BULK = "An answer that no socket's buffers hold.\n" * 150_000  # more than tcp_wmem lets them grow to


@frozen
class Kind:
    """A kind of query. Its names are the kind's with a number; what goes wrong upstream for one stands in it.

    :param weight: how often it is asked.
    :param answer: the text, with ``{name}`` in it; nothing for a refusal.
    :param backends: the chain; empty for a query that has no route.
    :param outcome: as the access log has it.
    :param names: how many different ones are asked for.
    :param query: what is sent for a name.
    :param fallthrough: the route's.
    :param summary: the route's.
    :param slow: whether it may take longer than a few milliseconds.
    """

    weight: float
    backends: tuple[str, ...]
    answer: str = ""
    outcome: str = "answered"
    names: int = 50
    query: str = "{name}"
    fallthrough: tuple[str, ...] = ("missing", "failed")
    summary: str = ""
    slow: bool = False

    def expected(self, name: str) -> bytes:
        """Return the bytes that the client must get."""
        text = self.answer if self.outcome == "answered" else REFUSALS[self.outcome]
        text = text.replace("{name}", name)
        return (text if text.endswith("\n") else text + "\n").replace("\n", "\r\n").encode()


def _failing(weight: float, *backends: str, names: int = 50, slow: bool = False) -> Kind:
    return Kind(weight, backends, outcome="internal_error", names=names, slow=slow)


def _missing(weight: float, *backends: str, names: int = 50) -> Kind:
    return Kind(weight, backends, outcome="no_such_user", names=names)


KINDS = {
    "static-short": Kind(100, ("map",), "{name} is well", summary="What stands in the file"),
    "static-long": Kind(1.5, ("map",), LONG + "{name}"),
    "static-nobody": _missing(16, "map", names=1_000_000),
    "static-text": Kind(3, ("map", "word"), LAST_WORD, summary="Somebody, who is not here"),
    "web-ok": Kind(1, ("web",), "page {name}", names=1000),
    "web-html": Kind(0.2, ("web",), "Page\n\n{name}"),
    "web-redirect": Kind(0.2, ("web",), "page web-ok-1"),
    "web-missing": _missing(0.4, "web"),
    "web-error": _failing(0.4, "web"),
    "web-reset": _failing(0.3, "web"),
    "web-cold": _failing(0.2, "web"),
    "web-huge": _failing(0.2, "web"),
    "web-endless": _failing(0.2, "web"),
    "web-bomb": _failing(0.3, "web"),
    "web-malformed": _failing(0.3, "web"),
    "web-slow": Kind(0.3, ("web",), "page {name}", slow=True),
    "web-hang": _failing(0.2, "web_hang", slow=True),
    "web-stall": _failing(0.2, "web_hang", slow=True),
    "json-json": Kind(0.3, ("json",), "{name} is up"),
    "json-ok": _failing(0.2, "json"),
    "kept-ok": Kind(15, ("kept",), "page {name}", names=20, summary="What a server says"),
    "kept-rare": Kind(0.5, ("kept",), "page {name}", names=100_000),
    "kept-missing": _missing(1, "kept", names=20),
    "kept-error": _failing(0.3, "kept"),
    "kept-slow": Kind(1, ("kept",), "page {name}", names=20, slow=True),
    "kept-reset": _failing(0.2, "kept"),
    "kept-hang": _failing(0.3, "kept_hang", names=5, slow=True),
    # few, so that they are asked for too often to be pushed out of the cache
    "flap-flap": Kind(2, ("flapping",), "page {name}", names=4),
    "command-ok": Kind(0.25, ("command",), "command {name}", slow=True),
    "command-missing": Kind(0.1, ("command",), outcome="no_such_user", slow=True),
    "command-failed": _failing(0.1, "command", slow=True),
    "command-much": _failing(0.1, "command", slow=True),
    "command-dead": _failing(0.1, "command", slow=True),
    "command-litter": Kind(0.1, ("command",), "command {name}", slow=True),
    "command-hang": _failing(0.1, "command_hang", slow=True),
    "program-ok": Kind(2, ("program",), "command {name}", names=5, slow=True),
    "peer-ok": Kind(1.5, ("peer",), "finger {name}"),
    "peer-control": Kind(0.3, ("peer",), "bell \ufffd {name}"),
    "peer-empty": _failing(0.2, "peer"),
    "peer-reset": _failing(0.3, "peer"),
    "peer-huge": _failing(0.2, "peer"),
    "peer-hang": _failing(0.2, "peer_hang", slow=True),
    "forward-ok": Kind(0.8, (), "finger {name}", query="{name}@peer.test"),
    "forward-hop": Kind(0.3, (), "finger {name}@far.test", query="{name}@far.test@peer.test"),
    "forward-reset": Kind(0.2, (), outcome="internal_error", query="{name}@peer.test"),
    "forward-denied": Kind(0.4, (), outcome="forward_denied", query="{name}@other.test"),
    "chain-ok": Kind(0.4, ("map", "web", "word"), "page {name}"),
    "chain-missing": Kind(0.3, ("web", "kept", "word"), LAST_WORD),
    "chain-error": Kind(0.2, ("web", "peer_closed", "word"), LAST_WORD, slow=True),
    "chain-hang": Kind(0.1, ("web_hang", "command_hang", "word"), LAST_WORD, slow=True),
    "chain-first": _failing(0.2, "web", "map"),
    "stop-error": Kind(0.2, ("web", "word"), outcome="internal_error", fallthrough=("missing",)),
    "index": Kind(1.5, ("menu",), query=""),
    "control": Kind(0.5, (), outcome="bad_query", query="\a{name}"),
    "over-long": Kind(0.3, (), outcome="bad_query", query="{name}" * 60),
}
STUCK = ("web", "kept", "command", "peer", "forward")
"""What hangs for longer than any client waits; only those who go ask for it."""


def _menu() -> str:
    rows = [(f"{name}-*", kind.summary) for name, kind in KINDS.items() if kind.summary]
    width = max(len(keyword) for keyword, _ in rows)
    return "\n".join(f"{keyword:<{width}}  {summary}" for keyword, summary in rows)


KINDS["index"] = Kind(KINDS["index"].weight, ("menu",), _menu(), query="")

PROGRAM = """#!/bin/sh
case "$1" in
*-missing-*) exit 1 ;;
*-failed-*) echo oops >&2; exit 2 ;;
*-much-*) exec yes ;;
*-dead-*) kill -9 $$ ;;
*-hang-*) sleep 60; echo late ;;
*-litter-*) sleep 60 & sleep 60 & ;;
esac
echo "command $1"
"""

_CONFIG = """
[[listeners]]
name = "tcp"
endpoint = "tcp:0:interface=127.0.0.1:backlog=1024"
deny = ["{denied}"]
{tcp6}
[[listeners]]
name = "unix"
endpoint = "unix:finger.sock:backlog=1024"
[[listeners]]
name = "tls"
endpoint = "ssl:0:privateKey=key.pem:certKey=chain.pem:interface=127.0.0.1:backlog=1024"
[[listeners]]
name = "proxied"
endpoint = "haproxy:tcp:0:interface=127.0.0.1:backlog=1024"
trusted_proxies = ["127.0.0.0/26"]
[[listeners]]
name = "decoy"
endpoint = "tcp:0:interface=127.0.0.1:backlog=1024"
decoy = true
delay = 0.05
[[listeners]]
name = "tight"
endpoint = "tcp:0:interface=127.0.0.1:backlog=1024"
limits = {{ max_connections_per_client = 2, max_waiting = 1, rate = {{ queries = 200, per = 1, burst = 20 }} }}
[[listeners]]
name = "bulk"
endpoint = "tcp:0:interface=127.0.0.1:backlog=1024"
limits = {{ answer_timeout = {stall}, query_timeout = {stall}, max_answer_bytes = 33554432 }}
{routes}
[[routes]]
user = "bulk"
listeners = ["bulk"]
backends = ["bulk"]

[backends.map]
type = "static"
file = "map.toml"
[backends.word]
type = "static"
text = "{last_word}"
[backends.bulk]
type = "static"
file = "bulk.toml"
[backends.menu]
type = "menu"
{http}
[backends.json]
type = "http"
url = "http://127.0.0.1:{web}/{{user}}"
timeout = 15
template = "{{{{ name }}}} is {{{{ state }}}}"
{commands}
{peers}
[cache]
max_entries = 500
[forwarding]
allow = {{ "peer.test" = "tcp:127.0.0.1:{peer}" }}
breaker = false
timeout = 15
max_bytes = {max_body}
max_running = 64
[limits]
answer_timeout = 20
max_connections_per_client = 1000
[log]
access = "access.log"
format = "json"
"""


def write(folder: Path, *, web: int, peer: int, closed: int, has_ipv6: bool) -> tuple[Path, trustme.CA]:
    """Write a gateway's configuration and all that it names.

    :param web: the port of the HTTP server that does as the names say.
    :param peer: the port of the finger server that does.
    :param closed: a port where nothing listens.
    :return: the configuration, and who issued the TLS listener's certificate.
    """
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(folder / "chain.pem")
    program = folder / "program"
    program.write_text(PROGRAM)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    texts = {
        f"{kind}-{number}": KINDS[kind].answer.replace("{name}", f"{kind}-{number}")
        for kind in ("static-short", "static-long")
        for number in range(KINDS[kind].names)
    }
    (folder / "map.toml").write_text("".join(f"{name} = {_literal(text)}\n" for name, text in texts.items()))
    (folder / "bulk.toml").write_text(f"bulk = {_literal(BULK)}\n")
    tcp6 = '[[listeners]]\nname = "tcp6"\nendpoint = "tcp6:0:interface=\\\\:\\\\:1:backlog=1024"'
    config = folder / "fingergw.toml"
    config.write_text(
        _CONFIG.format(
            denied=DENIED,
            tcp6=tcp6 if has_ipv6 else "",
            stall=STALL_SECONDS,
            routes="\n".join(_routes()),
            last_word=LAST_WORD,
            http="\n".join(_http(web)),
            web=web,
            commands="\n".join(_commands(folder)),
            peers="\n".join(_peers(peer, closed)),
            peer=peer,
            max_body=MAX_BODY_BYTES,
        )
    )
    return config, authority


def _literal(text: str) -> str:
    """Return a text as TOML has it, without escapes, which take Python's reader very long."""
    return f"'''\n{text}'''"


def _routes() -> list[str]:
    chains = {name: kind for name, kind in KINDS.items() if kind.backends}
    lines = []
    for name, kind in chains.items():
        match = f'pattern = "{name}-*"' if kind.query else "index = true"
        summary = f'summary = "{kind.summary}"' if kind.summary else ""
        lines += ["[[routes]]", match, f"backends = {list(kind.backends)}", f"fallthrough = {list(kind.fallthrough)}"]
        lines.append(summary)
    for name in STUCK:
        if name != "forward":
            lines += ["[[routes]]", f'pattern = "{name}-stuck-*"', f'backends = ["{name}_stuck"]']
    return lines


def _http(port: int) -> list[str]:
    kept = "{ ttl = 5, stale = 0, negative_ttl = 1 }"
    lines = []
    for name, seconds, cache in (
        ("web", 15, ""),
        ("web_hang", HANG_SECONDS, ""),
        ("web_stuck", 60, ""),
        ("kept", 15, kept),
        ("kept_hang", HANG_SECONDS, kept),
        ("kept_stuck", 60, kept),
        ("flapping", 15, "{ ttl = 0.2, stale = 3600 }"),
    ):
        lines += [f"[backends.{name}]", 'type = "http"', f'url = "http://127.0.0.1:{port}/{{user}}"']
        lines += [f"timeout = {seconds}", f"max_bytes = {MAX_BODY_BYTES}", f"cache = {cache}" if cache else ""]
        lines.append(_breaker(name))
    return lines


def _breaker(backend: str) -> str:
    # How a query fails is in its name, so that many failures in a row do not mean that the server is down.
    return "breaker = false" if backend in ("web", "kept", "peer") else ""


def _commands(folder: Path) -> list[str]:
    lines = []
    for name, seconds, cache in (
        ("command", 15, ""),
        ("command_hang", HANG_SECONDS, ""),
        ("command_stuck", 60, ""),
        ("program", 15, "cache = { ttl = 5, stale = 60, vary = [] }"),
    ):
        lines += [f"[backends.{name}]", 'type = "command"', 'argv = ["./program", "{user}"]', f"timeout = {seconds}"]
        lines += [f"max_bytes = {MAX_BODY_BYTES}", "max_running = 16", "missing_exit_codes = [1]", cache]
        lines.insert(-1, f'env = {{ PATH = "/usr/bin:/bin", SOAK = "{folder}" }}')
    return lines


def _peers(port: int, closed: int) -> list[str]:
    lines = []
    for name, at, seconds in (
        ("peer", port, 15.0),
        ("peer_hang", port, HANG_SECONDS),
        ("peer_stuck", port, 60.0),
        ("peer_closed", closed, 15.0),
    ):
        lines += [f"[backends.{name}]", 'type = "finger"', 'host = "127.0.0.1"', f"port = {at}", f"timeout = {seconds}"]
        lines += [f"max_bytes = {MAX_BODY_BYTES}", "max_running = 64", _breaker(name)]
    return lines
