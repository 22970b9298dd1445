"""The tables of the configuration but for backends and limits: each with its keys, defaults and sentences."""

from __future__ import annotations

from typing import Literal, TypeAlias

from attrs import Factory

from fingergw.core.addresses import Network
from fingergw.core.breaker import BreakerSettings, OptionalBreaker
from fingergw.core.rules import Limits
from fingergw.core.setting_types import (
    Account,
    Bytes,
    Count,
    FilePath,
    Glob,
    HostName,
    Line,
    Period,
    Regex,
    Seconds,
    SecretFile,
    Store,
    Umask,
    UserName,
)
from fingergw.core.settings import setting, settings

Fallthrough: TypeAlias = Literal["missing", "failed"]


@settings
class Listener:
    """One server endpoint, and who may ask there."""

    endpoint: str = setting(
        'A Twisted server endpoint: "tcp:79", "tcp6:79", "unix:PATH", "ssl:PORT:privateKey=FILE:certKey=FILE", '
        '"tls:FOLDER:PORT", "systemd:domain=INET:name=NAME". Put "haproxy:" before it for clients behind a proxy.'
    )
    name: str = setting(
        "The name of the listener in logs and in the listeners of a route; it must be unique. Default: the endpoint",
        default=Factory(lambda self: self.endpoint, takes_self=True),
    )
    allow: tuple[Network, ...] | None = setting(
        "Networks of the clients that may ask; other connections are closed at once. Default: everyone", default=None
    )
    deny: tuple[Network, ...] = setting("Networks of the clients that may not ask, even if allow has them.", default=())
    trusted_proxies: tuple[Network, ...] = setting(
        "Networks of the proxies that may send a PROXY header; required for a haproxy: endpoint.", default=()
    )
    decoy: bool = setting(
        "true: a honeypot. Every query is answered with no_such_user, and logged in the access log.", default=False
    )
    delay: Period = setting("Seconds that a decoy waits before it answers.", default=0)
    limits: Limits = setting("Limits of this listener; they override those of [limits].", default=Limits())


@settings
class Route:
    """Which queries go to which chain of backends."""

    one_of = ("user", "users", "pattern", "regex", "index")

    backends: tuple[str, ...] = setting(
        "The chain: the names of backends, which are asked in this order until one answers.", nonempty=True
    )
    name: Line = setting("The name of the route in logs and metrics. Default: what it matches", default=Line(""))
    summary: Line = setting("A line about it for the menu, which lists only routes with a summary.", default=Line(""))
    usage: Line = setting(
        "What to ask for, as the menu shows it. Default: the names; for a pattern or regex the name of the route, else "
        "the pattern. A regex is never shown: without usage or name it is not on the menu",
        default=Line(""),
    )
    user: UserName | None = setting("Matches this name.", default=None)
    users: tuple[UserName, ...] | None = setting("Matches these names.", default=None, nonempty=True)
    pattern: Glob | None = setting('Matches whole names by a shell-style pattern, such as "svc-*".', default=None)
    regex: Regex | None = setting(
        "Matches whole names by a regular expression in RE2 syntax; its named groups are placeholders.", default=None
    )
    index: bool = setting("true: matches the empty query.", default=False)
    listeners: tuple[str, ...] | None = setting(
        "The names of the listeners that it applies to. Default: all", default=None, nonempty=True
    )
    clients: tuple[Network, ...] | None = setting(
        "Networks of the clients that it applies to. Default: all that the listener admits", default=None
    )
    fallthrough: tuple[Fallthrough, ...] = setting(
        'The outcomes after which the next backend is asked: "missing" (it does not know the name), "failed".',
        default=("missing", "failed"),
    )

    def __attrs_post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", self.default_name)

    @property
    def default_name(self) -> str:
        """The name of a route without a name of its own: what it matches."""
        return self._names or self.pattern or self.regex or "index"

    @property
    def _names(self) -> str:
        return self.user or ", ".join(self.users or ())

    @property
    def keyword(self) -> str:
        """What the menu shows to ask for; empty if there is nothing but a regex."""
        given_name = "" if self.name == self.default_name else self.name
        return self.usage or self._names or given_name or self.pattern or ""

    @property
    def is_listed(self) -> bool:
        """Whether the menu lists it, for those who may use it."""
        return bool(self.summary and self.keyword and not self.index)


@settings
class Cache:
    """Where cached answers are kept, and how many of them."""

    store: Store = setting(
        '"memory"; "sqlite:PATH", which survives a restart; or "redis://HOST:PORT/DATABASE" (rediss: for TLS), which '
        "several gateways can share.",
        default="memory",
    )
    max_entries: Count = setting("The most answers of all backends together.", default=10000)
    max_bytes: Bytes = setting("The most bytes of all answers together.", default=67108864)
    password_file: SecretFile | None = setting(
        "A file with the password of the Redis user, which others can neither read nor write.", default=None
    )
    ca_file: FilePath | None = setting(
        "A PEM file of the authorities to trust for rediss:. Default: the system's", default=None
    )


@settings
class Forwarding:
    """Forwards queries such as user@host to other finger servers. Off unless allow names some."""

    allow: dict[HostName, str] = setting(
        "Each host as clients write it, with the Twisted client endpoint that the query is sent to. No other server is "
        "ever contacted.",
        default={},
    )
    local_names: tuple[HostName, ...] = setting(
        "Names and addresses of this gateway. A query for user@one-of-them is a query for user, and @one-of-them the "
        "empty query.",
        default=(),
    )
    listeners: tuple[str, ...] | None = setting(
        "The names of the listeners that forward. Default: all", default=None, nonempty=True
    )
    clients: tuple[Network, ...] | None = setting(
        "Networks of the clients whose queries are forwarded. Default: everyone", default=None
    )
    max_hops: Count = setting("The most hosts in a query: user@a@b has two.", default=3)
    timeout: Seconds = setting("Seconds from the query to the end of the answer.", default=5)
    max_bytes: Bytes = setting("The most bytes of an answer; a longer one is a failure.", default=65536)
    max_running: Count = setting(
        "The most connections to a host at the same time; other queries wait, within the timeout.", default=20
    )
    breaker: OptionalBreaker = setting(
        "When a host is left alone: after a number of failures in a row its queries fail at once, until one that tries "
        "is answered. false: never",
        default=BreakerSettings(),
    )


@settings
class Answers:
    """How names are compared, and the texts that clients get."""

    charset: Literal["utf-8", "ascii"] = setting(
        'The charset of answers; with "ascii", other characters become "?".', default="utf-8"
    )
    case_sensitive: bool = setting("Whether names that differ in case are different.", default=False)
    no_such_user: str = setting("For a name that no backend knows.", default="No such user")
    internal_error: str = setting("If a backend failed. Only the log says why.", default="Internal error in server")
    list_denied: str = setting("For the empty query, if no route answers it.", default="Finger online user list denied")
    forward_denied: str = setting(
        "For a query for another host that is not forwarded.", default="Finger forwarding service denied"
    )
    busy: str = setting("If there are too many queries or connections.", default="Too many queries, try again later")
    bad_query: str = setting("For a line that is not a finger query.", default="Invalid query")


@settings
class Process:
    """What the process becomes after it has bound its listeners, before it reads a byte."""

    user: Account | None = setting("The user to become, by name or number. Default: as started", default=None)
    group: Account | None = setting("The group to become, by name or number. Default: the user's own", default=None)
    chroot: FilePath | None = setting(
        "Change the root to this folder before binding; it must have a /dev/null. Default: none", default=None
    )
    umask: Umask | None = setting('A string of octal digits, such as "027". Default: as started', default=None)


@settings
class Log:
    """What is logged where."""

    access: str = setting('A file for the access log, "-" for standard output, or "off".', default="-")
    format: Literal["text", "json"] = setting(
        'The format of the access log; "json": an object on each line.', default="text"
    )
    level: Literal["debug", "info", "warn", "error", "critical"] = setting(
        "The level of the other log; less important messages are left out.", default="info"
    )
    anonymise: bool = setting(
        "Whether only the network of a client is logged: its IPv4 /24 or IPv6 /48, by the first address.", default=False
    )


@settings
class Admin:
    """Metrics and health of the gateway, over HTTP."""

    endpoint: str | None = setting(
        'The server endpoint for /metrics, /healthz and /readyz, such as "tcp:9179", which is on the loopback '
        "interface unless it names another. Default: none",
        default=None,
    )
    hosts: tuple[HostName, ...] = setting(
        "Names that a request may have in its Host header, besides localhost and IP addresses.", default=()
    )
