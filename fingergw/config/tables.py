"""The tables of the configuration, but for backends and limits: each with its keys, defaults and sentences."""

from __future__ import annotations

from typing import Literal, TypeAlias

from attrs import Factory

from fingergw.core.addresses import Network
from fingergw.core.rules import Limits
from fingergw.core.setting_types import (
    Bytes,
    Count,
    FilePath,
    Glob,
    HostName,
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
        '"tls:FOLDER:PORT", "systemd:domain=INET:name=NAME"; with "haproxy:" before it for clients that come through a '
        "proxy."
    )
    name: str = setting(
        "In logs, and for a route's listeners; no two alike. Default: the endpoint",
        default=Factory(lambda self: self.endpoint, takes_self=True),
    )
    allow: tuple[Network, ...] | None = setting(
        "Networks whose clients may ask; others are closed at once. Default: everyone", default=None
    )
    deny: tuple[Network, ...] = setting("Networks whose clients may not ask; wins over allow.", default=())
    trusted_proxies: tuple[Network, ...] = setting(
        "Networks of the proxies whose PROXY header is believed; a haproxy: endpoint needs them.", default=()
    )
    decoy: bool = setting(
        "A honey-pot: whatever is asked, the answer is no_such_user, and the access log has the query.", default=False
    )
    delay: Period = setting("Seconds that a decoy takes to answer.", default=0)
    limits: Limits = setting("This listener's own limits, over those of [limits].", default=Limits())


@settings
class Route:
    """Which queries, and the chain of backends that they go to."""

    one_of = ("user", "users", "pattern", "regex", "index")

    backends: tuple[str, ...] = setting(
        "The chain: backends by name, asked in this order until one answers.", nonempty=True
    )
    name: str = setting("In logs and metrics. Default: what it matches", default="")
    summary: str = setting("What the menu says of it; the menu lists only routes that have one.", default="")
    user: UserName | None = setting("Matches this name.", default=None)
    users: tuple[UserName, ...] | None = setting("Matches these names.", default=None, nonempty=True)
    pattern: Glob | None = setting(
        'Matches names by a shell-style pattern over the whole name, such as "svc-*".', default=None
    )
    regex: Regex | None = setting(
        "Matches whole names by a regular expression in RE2 syntax; its named groups are placeholders.", default=None
    )
    index: bool = setting("true: matches the empty query.", default=False)
    listeners: tuple[str, ...] | None = setting(
        "The listeners where it holds, by name. Default: all", default=None, nonempty=True
    )
    clients: tuple[Network, ...] | None = setting(
        "Networks of the clients it holds for. Default: everyone the listener lets in", default=None
    )
    fallthrough: tuple[Fallthrough, ...] = setting(
        'After which outcomes the next backend is asked: "missing" (it does not know the name), "failed".',
        default=("missing", "failed"),
    )

    def __attrs_post_init__(self) -> None:
        given = [key for key in self.one_of if getattr(self, key) not in (None, False)]
        if len(given) == 1 and not (self.keyword or self.index):
            raise ValueError(f"expected something to match in {given[0]}")
        if not self.name:
            object.__setattr__(self, "name", self.default_name)

    @property
    def default_name(self) -> str:
        """The name of a route that is given none: the match itself."""
        return self.keyword or "index"

    @property
    def keyword(self) -> str:
        """What one asks for to get here, as the file writes it; empty for the index."""
        return self.user or ", ".join(self.users or ()) or self.pattern or self.regex or ""


@settings
class Cache:
    """Where cached answers are kept, and how many."""

    store: Store = setting(
        '"memory"; "sqlite:PATH", which survives a restart; or "redis://HOST:PORT/DATABASE" (rediss: over TLS), which '
        "gateways share.",
        default="memory",
    )
    max_entries: Count = setting("Answers of all backends together.", default=10000)
    max_bytes: Bytes = setting("Bytes of all answers together.", default=67108864)
    password_file: SecretFile | None = setting(
        "A file with the Redis user's password, which others can neither read nor write.", default=None
    )
    ca_file: FilePath | None = setting(
        "PEM file of the authorities to trust for rediss:. Default: the system's", default=None
    )


@settings
class Forwarding:
    """Passes queries such as user@host on to other finger servers. Off unless allow names some."""

    allow: dict[HostName, str] = setting(
        "Each host as clients write it, and the Twisted client endpoint that such a query is sent to; nobody else is "
        "ever contacted.",
        default={},
    )
    listeners: tuple[str, ...] | None = setting(
        "The listeners where it is done, by name. Default: all", default=None, nonempty=True
    )
    clients: tuple[Network, ...] | None = setting(
        "Networks of the clients it is done for. Default: everyone", default=None
    )
    max_hops: Count = setting("Hosts in a query: user@a@b has two.", default=3)
    timeout: Seconds = setting("Seconds from the query to the end of the answer.", default=5)
    max_bytes: Bytes = setting("Of the answer; more is a failure.", default=65536)
    max_running: Count = setting("Connections at once to each host; more queries wait, within the timeout.", default=20)


@settings
class Answers:
    """How names compare, and what clients are told."""

    charset: Literal["utf-8", "ascii"] = setting('With "ascii" what is not ASCII becomes "?".', default="utf-8")
    case_sensitive: bool = setting("Whether names that differ by case are different names.", default=False)
    no_such_user: str = setting("When nobody knows the name.", default="No such user")
    internal_error: str = setting(
        "When a backend failed. Why goes to the log alone.", default="Internal error in server"
    )
    list_denied: str = setting(
        "To the empty query, where no route answers it.", default="Finger online user list denied"
    )
    forward_denied: str = setting(
        "To a query for another host, where that is not allowed.", default="Finger forwarding service denied"
    )
    busy: str = setting("When there are too many queries or connections.", default="Too many queries, try again later")
    bad_query: str = setting("To what is no finger query.", default="Invalid query")


@settings
class Process:
    """What the process becomes after binding, before it reads a byte."""

    user: str | None = setting("The user to become, by name or number. Default: as started", default=None)
    group: str | None = setting("The group to become, by name or number. Default: the user's own", default=None)
    chroot: FilePath | None = setting(
        "Change the root to this folder before binding; it needs a /dev/null. Default: none", default=None
    )
    umask: Umask | None = setting('A string of octal digits, such as "027". Default: as started', default=None)


@settings
class Log:
    """What is logged, and where."""

    access: str = setting('A file for the access log, "-" for standard output, or "off".', default="-")
    format: Literal["text", "json"] = setting('Of the access log; "json": an object a line.', default="text")
    level: Literal["debug", "info", "warn", "error", "critical"] = setting(
        "Of the other log: what is less important is left out.", default="info"
    )


@settings
class Admin:
    """Where the gateway is watched."""

    endpoint: str | None = setting(
        'The server endpoint for /metrics, /healthz and /readyz, such as "tcp:9179", which is on the loopback unless '
        "an interface is named. Default: none",
        default=None,
    )
    hosts: tuple[HostName, ...] = setting(
        "Names by which it may be asked for there, beside localhost and addresses.", default=()
    )
