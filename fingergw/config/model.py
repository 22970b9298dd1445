"""The configuration as frozen classes, one a table; names, types and defaults are the file's own."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal, NewType, TypeAlias, TypeVar

from attrs import Factory, field, frozen

from fingergw.core.addresses import Network

T = TypeVar("T")

Seconds = NewType("Seconds", float)
"""A duration above 0."""
Period = NewType("Period", float)
"""A duration of 0 or more."""
Bytes = NewType("Bytes", int)
"""A size above 0."""
Count = NewType("Count", int)
"""A number above 0."""
Port = NewType("Port", int)
"""A TCP port, 1 to 65535."""
ExitCode = NewType("ExitCode", int)
"""What a process exits with when it failed, 1 to 255."""
Status = NewType("Status", int)
"""An HTTP status, 100 to 599."""
FilePath = NewType("FilePath", Path)
"""A file; in the configuration it may be relative to the configuration file."""
Umask = NewType("Umask", int)
"""A file creation mask; in the configuration a string of octal digits."""
Glob = NewType("Glob", str)
"""A shell-style pattern."""
Regex = NewType("Regex", str)
"""A pattern in RE2 syntax."""
Argument = NewType("Argument", str)
"""A text with placeholders."""
Url = NewType("Url", str)
"""An http or https URL with placeholders after the host."""
HeaderName = NewType("HeaderName", str)
"""A header's name (RFC 9110 §5.1)."""
HeaderValue = NewType("HeaderValue", str)
"""A header's value, in one line."""
Variable = NewType("Variable", str)
"""The name of an environment variable."""
HostName = NewType("HostName", str)
"""A host's name or address, as a query can have it."""
Store = NewType("Store", str)
"""Where cached answers are kept."""
UserName = NewType("UserName", str)
"""A name as a query can have it."""

MATCHES = ("user", "users", "pattern", "regex", "index")
"""What a route can match by."""
CONTENTS = ("entries", "file", "text")
"""Where a static backend can have its answers."""

Told: TypeAlias = Literal["client", "listener", "verbose"]
Fallthrough: TypeAlias = Literal["missing", "failed"]


def expected_one(keys: Iterable[str], given: Iterable[str]) -> str:
    """Return the message for a table that must have one of some keys, and has none or several."""
    return f"expected exactly one of {', '.join(keys)}; found {', '.join(given) or 'none of them'}"


@frozen
class Rate:
    """``rate = { queries, per, burst }``: so many queries in so many seconds, and so many at once."""

    queries: Count
    per: Seconds
    burst: Count


@frozen
class Limits:
    """``[limits]``, and ``[listeners.limits]`` over it."""

    max_query_bytes: Bytes = Bytes(512)
    query_timeout: Seconds = Seconds(10)
    answer_timeout: Seconds = Seconds(15)
    max_answer_bytes: Bytes = Bytes(65536)
    max_connections: Count = Count(1000)
    max_connections_per_client: Count = Count(20)
    max_waiting: Count = Count(500)
    rate: Rate | None = None


@frozen
class Listener:
    """``[[listeners]]``: one server endpoint, and who may ask there.

    :param limits: the listener's own limits, over those of ``[limits]``.
    """

    endpoint: str
    name: str = field(default=Factory(lambda self: self.endpoint, takes_self=True))
    allow: tuple[Network, ...] | None = None
    deny: tuple[Network, ...] = ()
    trusted_proxies: tuple[Network, ...] = ()
    decoy: bool = False
    delay: Period = Period(0)
    limits: Limits = Limits()


@frozen
class Route:
    """``[[routes]]``: which queries, and the chain of backends they go to."""

    backends: tuple[str, ...]
    name: str = ""
    summary: str = ""
    user: UserName | None = None
    users: tuple[UserName, ...] | None = None
    pattern: Glob | None = None
    regex: Regex | None = None
    index: bool = False
    listeners: tuple[str, ...] | None = None
    clients: tuple[Network, ...] | None = None
    fallthrough: tuple[Fallthrough, ...] = ("missing", "failed")

    def __attrs_post_init__(self) -> None:
        given = [key for key in MATCHES if getattr(self, key) not in (None, False)]
        if len(given) != 1:
            raise ValueError(expected_one(MATCHES, given))
        if not (self.keyword or self.index):
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


@frozen
class BackendCache:
    """``[backends.X.cache]``: how long answers are kept.

    :param vary: what of a query, beside the name, the backend is told, and has answers of their own for.
    """

    ttl: Period = Period(30)
    stale: Period = Period(3600)
    negative_ttl: Period = Period(10)
    vary: tuple[Told, ...] = ("client", "listener", "verbose")


@frozen
class Person:
    """An entry of a static backend that is given as a table, for the classic finger layout."""

    name: str = ""
    directory: str = ""
    shell: str = ""
    office: str = ""
    phone: str = ""
    project: str = ""
    plan: str = ""


Entries: TypeAlias = dict[str, str | Person]


@frozen
class StaticBackend:
    """``type = "static"``: a map in the file, a map in a file of its own, or one text."""

    entries: Entries | None = None
    file: FilePath | None = None
    text: str | None = None
    cache: BackendCache | None = None

    def __attrs_post_init__(self) -> None:
        given = [key for key in CONTENTS if getattr(self, key) is not None]
        if len(given) != 1:
            raise ValueError(expected_one(CONTENTS, given))


@frozen
class CommandBackend:
    """``type = "command"``: what a program prints."""

    argv: tuple[Argument, ...]
    timeout: Seconds = Seconds(5)
    max_bytes: Bytes = Bytes(65536)
    max_running: Count = Count(4)
    max_cpu_seconds: Count = Count(10)
    max_memory_bytes: Bytes = Bytes(2 << 30)
    max_file_bytes: Bytes = Bytes(16 << 20)
    max_processes: Count = Count(1024)
    missing_exit_codes: tuple[ExitCode, ...] = ()
    env: dict[Variable, str] = Factory(dict)
    cache: BackendCache | None = None

    def __attrs_post_init__(self) -> None:
        if not self.argv:
            raise ValueError("expected argv to name at least the program")


@frozen
class HttpBackend:
    """``type = "http"``: what a URL gives."""

    url: Url
    headers: dict[HeaderName, HeaderValue] = field(factory=dict, repr=False)
    bearer_token_file: FilePath | None = None
    timeout: Seconds = Seconds(5)
    max_bytes: Bytes = Bytes(65536)
    max_running: Count = Count(100)
    missing_statuses: tuple[Status, ...] = (Status(404), Status(410))
    template: str | None = None
    ca_file: FilePath | None = None
    follow_redirects: bool = True
    cache: BackendCache | None = None


@frozen
class FingerBackend:
    """``type = "finger"``: what another finger server says."""

    host: HostName
    port: Port = Port(79)
    timeout: Seconds = Seconds(5)
    max_bytes: Bytes = Bytes(65536)
    max_running: Count = Count(20)
    cache: BackendCache | None = None


@frozen
class MenuBackend:
    """``type = "menu"``: the keywords one can ask for."""

    cache: BackendCache | None = None


Backend: TypeAlias = StaticBackend | CommandBackend | HttpBackend | FingerBackend | MenuBackend

BACKEND_TYPES: dict[str, type[Backend]] = {
    "static": StaticBackend,
    "command": CommandBackend,
    "http": HttpBackend,
    "finger": FingerBackend,
    "menu": MenuBackend,
}


@frozen
class Cache:
    """``[cache]``: where cached answers are kept, and how many."""

    store: Store = Store("memory")
    max_entries: Count = Count(10000)
    max_bytes: Bytes = Bytes(67108864)
    password_file: FilePath | None = None
    ca_file: FilePath | None = None


@frozen
class Forwarding:
    """``[forwarding]``: the hosts that ``user@host`` queries may reach."""

    allow: dict[HostName, str] = Factory(dict)
    listeners: tuple[str, ...] | None = None
    clients: tuple[Network, ...] | None = None
    max_hops: Count = Count(3)
    timeout: Seconds = Seconds(5)
    max_bytes: Bytes = Bytes(65536)
    max_running: Count = Count(20)


@frozen
class Answers:
    """``[answers]``: how names compare, and what clients are told."""

    charset: Literal["utf-8", "ascii"] = "utf-8"
    case_sensitive: bool = False
    no_such_user: str = "No such user"
    internal_error: str = "Internal error in server"
    list_denied: str = "Finger online user list denied"
    forward_denied: str = "Finger forwarding service denied"
    busy: str = "Too many queries, try again later"
    bad_query: str = "Invalid query"


@frozen
class Process:
    """``[process]``: what the process becomes after binding and before it reads a byte."""

    user: str | None = None
    group: str | None = None
    chroot: FilePath | None = None
    umask: Umask | None = None


@frozen
class Log:
    """``[log]``: what is logged, and where."""

    access: str = "-"
    format: Literal["text", "json"] = "text"
    level: Literal["debug", "info", "warn", "error", "critical"] = "info"


@frozen
class Admin:
    """``[admin]``: where the gateway is watched."""

    endpoint: str | None = None
    hosts: tuple[HostName, ...] = ()


@frozen
class Source:
    """Where a configuration was read from, so that a mistake found later can still be shown with its line.

    :param path: the file as the operator named it.
    :param base: the folder that relative paths are relative to.
    :param text: what stands in it.
    :param listeners: the place in the file of each of the configuration's listeners. A configuration that
        was read although parts of it have mistakes is without these parts.
    :param routes: likewise.
    """

    path: Path
    base: Path
    text: str = field(repr=False)
    listeners: tuple[int, ...] = field(default=(), repr=False)
    routes: tuple[int, ...] = field(default=(), repr=False)


@frozen
class Config:
    """The whole file.

    :param source: where it came from; None for one that was made in Python.
    """

    listeners: tuple[Listener, ...]
    routes: tuple[Route, ...] = ()
    backends: dict[str, Backend] = Factory(dict)
    cache: Cache = Cache()
    limits: Limits = Limits()
    forwarding: Forwarding = Forwarding()
    answers: Answers = Answers()
    process: Process = Process()
    log: Log = Log()
    admin: Admin = Admin()
    source: Source | None = field(default=None, eq=False, repr=False)

    def numbered_listeners(self) -> Iterable[tuple[int, Listener]]:
        """Return the listeners with their places in the file."""
        return _numbered(self.source.listeners if self.source else None, self.listeners)

    def numbered_routes(self) -> Iterable[tuple[int, Route]]:
        """Return the routes with their places in the file."""
        return _numbered(self.source.routes if self.source else None, self.routes)


def _numbered(places: tuple[int, ...] | None, items: tuple[T, ...]) -> Iterable[tuple[int, T]]:
    """Return items with their places; after a change in Python those in the file tell nothing."""
    return zip(places, items, strict=True) if places and len(places) == len(items) else enumerate(items)
