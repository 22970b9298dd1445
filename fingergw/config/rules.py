"""The rules between the keys of a file. Each is checked as far as the keys that it is about have no mistakes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from itertools import islice
from typing import Any, Final

from attrs import frozen

from fingergw.config import model
from fingergw.config.backend_types import ForeignError, run_foreign
from fingergw.config.mistaken import MistakenKeys
from fingergw.config.problems import Problem, nearest, unknown
from fingergw.core.forwarding import local_form
from fingergw.core.outcome import BackendCache
from fingergw.core.patterns import group_names
from fingergw.core.setting_types import Argv
from fingergw.core.settings import KeyPath, incomplete, is_table, keys_of, templates_in, without_none

_MAX_MISTAKES: Final = 1000  # that a type's own check may report for a table


@frozen
class File:
    """What a file has.

    :param raw: all of it.
    :param wrong: the keys that have mistakes by themselves.
    """

    raw: dict[str, Any]
    wrong: MistakenKeys

    def tables(self, key: str) -> Iterator[tuple[int, dict[str, Any]]]:
        """Return the tables of a list, with their places."""
        values = self.raw.get(key)
        for place, value in enumerate(values if isinstance(values, list) else []):
            if isinstance(value, dict):
                yield place, value

    def table(self, key: str) -> dict[str, Any]:
        """Return a table; empty if there is none."""
        value = self.raw.get(key)
        return value if isinstance(value, dict) else {}

    def listener_names(self) -> set[str] | None:
        """Return the names of all listeners; None if a mistake leaves one of them unknown."""
        if self.wrong.has("listeners") or self._may_be_misspelt("listeners"):
            return None
        found = set()
        for place, table in self.tables("listeners"):
            where = "name" if "name" in table else "endpoint"
            if self.wrong.has("listeners", place, "name") or self.wrong.has("listeners", place, where):
                return None
            found.add(table[where])
        return found

    def backend_names(self) -> set[str] | None:
        """Return the names of all backends; None if a mistake leaves them unknown."""
        if self.wrong.has("backends") or self._may_be_misspelt("backends"):
            return None
        return set(self.table("backends"))

    def knows_routes(self) -> bool:
        """Tell whether all routes are known."""
        return not (self.wrong.has("routes") or self._may_be_misspelt("routes"))

    def _may_be_misspelt(self, key: str) -> bool:
        """Tell whether the file has an unknown table whose name is likely to mean this one."""
        known = [each.name for each in keys_of(model.Config)]
        return any(name not in known and nearest(name, known) == key for name in self.raw)


def broken_rules(config: model.Config, file: File, caches: Mapping[str, BackendCache]) -> Iterator[Problem]:
    """Return the mistakes that no key has by itself.

    :param config: the configuration, with what is right beside the mistakes.
    :param caches: the cache tables of the backends, also of those that are not in the configuration.
    """
    yield from _duplicates(file)
    yield from _dangling(file)
    for name, cache in caches.items():
        yield from _own_check(cache, ("backends", name, "cache"), file.wrong)
    for name, backend in config.backends.items():
        yield from _foreign_check(backend, ("backends", name), file.wrong)
    yield from _placeholders(config, file)
    yield from _proxies(file)
    yield from _decoys(file)
    yield from _local_names(file)
    yield from _admin(file)


def _duplicates(file: File) -> Iterator[Problem]:
    """Find names that are given twice."""
    for key, fallback in (("listeners", "endpoint"), ("routes", "")):
        first: dict[str, int] = {}
        for place, table in file.tables(key):
            where = "name" if "name" in table or file.wrong.has(key, place, "name") else fallback
            name = table.get(where)
            if isinstance(name, str) and first.setdefault(name, place) != place:
                why = f'{key}[{first[name]}] has the name "{name}" already; give this one a name of its own'
                if where == "endpoint" and "name" not in file.raw[key][first[name]]:
                    why = f"{key}[{first[name]}] has this endpoint already; choose another, or remove one of the two"
                yield Problem((key, place, where), why)


def _dangling(file: File) -> Iterator[Problem]:
    """Find names that name nothing."""
    known = {"listeners": file.listener_names(), "backends": file.backend_names()}  # sets, as there may be many
    tables: list[tuple[KeyPath, dict[str, Any]]] = [
        (("routes", place), route) for place, route in file.tables("routes")
    ]
    tables.append((("forwarding",), {"listeners": file.table("forwarding").get("listeners")}))
    for path, table in tables:
        for key, names in known.items():
            given = table.get(key)
            if names is None or not isinstance(given, list):
                continue
            for place, name in enumerate(given):
                if isinstance(name, str) and name not in names:
                    yield Problem((*path, key, place), unknown(name, names, key.removesuffix("s")))


def _foreign_check(backend: model.Backend, path: KeyPath, wrong: MistakenKeys) -> Iterator[Problem]:
    """Have a type check its table."""
    try:
        yield from run_foreign(partial(_own_check, backend.settings, path, wrong))
    except ForeignError as error:
        why = f'type "{backend.type}" cannot check this table, which is a fault in its package: {error}'
        yield Problem(path, why, ((*path, ""),))


def _own_check(table: Any, path: KeyPath, wrong: MistakenKeys) -> list[Problem]:
    """Return the mistakes that a class finds in its table, but for those in keys that have a mistake already.

    It is done when it asks for such a key.

    ``check`` yields pairs of a message and a key before it: a name, a path, or "" for the whole table.
    """
    if wrong.touch(*path):
        cls: Any = type(table)
        right = [key.name for key in keys_of(cls) if hasattr(table, key.name) and not wrong.touch(*path, key.name)]
        table = incomplete(cls, {key: getattr(table, key) for key in right})
    found: list[Problem] = []
    try:
        for each in islice(getattr(table, "check", tuple)(), _MAX_MISTAKES + 1):
            if len(found) == _MAX_MISTAKES:
                raise ValueError(f"check yields more than {_MAX_MISTAKES} mistakes")
            match each:
                case (str(key), str(why)):
                    found.append(Problem((*path, key), why) if key else Problem(path, why, ((*path, ""),)))
                case (tuple(place), str(why)) if all(isinstance(part, str | int) for part in place):
                    found.append(Problem((*path, *place), why))
                case _:
                    raise TypeError(f"check yields {each!r}, not a key and a message")
    except AttributeError as error:
        lacks_key = is_table(type(error.obj)) and not hasattr(error.obj, error.name or "")
        if not (wrong.touch(*path) and lacks_key):
            raise
    return [each for each in dict.fromkeys(found) if each.about or not wrong.touch(*each.path)]


def _placeholders(config: model.Config, file: File) -> Iterator[Problem]:
    """Find placeholders that a route to their backend does not set, unless a mistake in a route leaves that open."""
    groups: dict[str, list[frozenset[str]]] = {}
    undecided: set[str] = set()
    is_whole = file.knows_routes()  # it is known of each backend whether a route leads to it
    for place, route in file.tables("routes"):
        given = route.get("backends")
        if not isinstance(given, str | list):
            is_whole = False
            continue
        led_to = {name for name in ([given] if isinstance(given, str) else given) if isinstance(name, str)}
        meant = {nearest(name, config.backends) for name in led_to if name not in config.backends}
        undecided.update(name for name in meant if name is not None)
        if any(file.wrong.touch("routes", place, key) for key in ("regex", "user", "users", "pattern", "index")):
            undecided |= led_to
            continue
        regex = route.get("regex")
        for name in led_to:
            groups.setdefault(name, []).append(frozenset() if regex is None else group_names(regex))
    for name, backend in config.backends.items():
        set_by_all = frozenset.intersection(*groups[name]) if name in groups else frozenset()
        cls: Any = type(backend.settings)
        programs = {(key.name, 0) for key in keys_of(cls) if without_none(key.type) is Argv}
        for path, template in templates_in(backend.settings):
            if template.names and path in programs:
                why = "expected a program without placeholders; only its arguments may have some"
                yield Problem(("backends", name, *path), why)
            if name in undecided or not (is_whole or name in groups):
                continue
            for placeholder in sorted(template.names - set_by_all - {"user"}):
                why = f"no route leads to this backend, so nothing sets {{{placeholder}}}"
                if name in groups:
                    why = (
                        f"{{{placeholder}}} is not set by every route to this backend; add (?P<{placeholder}>...) to "
                        f"each route's regex, or write {{{{{placeholder}}}}} for the text itself"
                    )
                yield Problem(("backends", name, *path), why)


def _proxies(file: File) -> Iterator[Problem]:
    """Find listeners that trust nobody to send a PROXY header, trust somebody in vain, or cannot read one."""
    for place, listener in file.tables("listeners"):
        path = ("listeners", place)
        endpoint, proxies = listener.get("endpoint"), listener.get("trusted_proxies")
        if not isinstance(endpoint, str):
            continue
        kinds = endpoint.lower().split(":")
        if kinds[0] != "haproxy":
            if proxies and isinstance(proxies, list):
                why = (
                    "only a haproxy: endpoint has trusted proxies; remove this key, or put haproxy: before the endpoint"
                )
                yield Problem((*path, "trusted_proxies"), why)
            continue
        if kinds[1:2] == ["unix"]:
            why = "a proxy is known by its address, and a unix socket's clients have none; use haproxy:tcp:"
            yield Problem((*path, "endpoint"), why)
        elif kinds[1:2] in (["ssl"], ["tls"]):
            why = "haproxy: cannot be combined with TLS here; let the proxy end TLS, and write haproxy:tcp:"
            yield Problem((*path, "endpoint"), why)
        if proxies == []:
            why = 'expected at least one network in "trusted_proxies", of the proxies that connect here'
            yield Problem((*path, "trusted_proxies"), why)
        elif proxies is None and not file.wrong.has(*path, "trusted_proxies"):
            why = 'missing key "trusted_proxies"; a haproxy: endpoint needs the networks of its proxies'
            yield Problem(path, why, ((*path, "trusted_proxies"),))


def _decoys(file: File) -> Iterator[Problem]:
    """Find decoys that log nothing, and a delay where there is no decoy."""
    is_logged = file.table("log").get("access") != "off"
    for place, listener in file.tables("listeners"):
        path, decoy, delay = ("listeners", place), listener.get("decoy", False), listener.get("delay")
        if decoy is True and not is_logged:
            why = "a decoy needs the access log, which is off; set log.access to a file"
            yield Problem((*path, "decoy"), why)
        if delay and decoy is False and not (file.wrong.has(*path, "delay") or file.wrong.has(*path, "decoy")):
            yield Problem((*path, "delay"), "only a decoy has a delay; remove it, or set decoy = true")


def _local_names(file: File) -> Iterator[Problem]:
    """Find hosts whose queries are to be answered here and forwarded as well."""
    names, hosts = (file.table("forwarding").get(key) for key in ("local_names", "allow"))
    if not isinstance(names, list) or not isinstance(hosts, dict):
        return
    forwarded = {local_form(host) for host in hosts}
    for place, name in enumerate(names):
        if isinstance(name, str) and local_form(name) in forwarded:
            why = "forwarding.allow has this host too; remove one of the two"
            yield Problem(("forwarding", "local_names", place), why)


def _admin(file: File) -> Iterator[Problem]:
    """Find an admin endpoint that is a listener's, or that expects a PROXY header."""
    endpoint = file.table("admin").get("endpoint")
    if not isinstance(endpoint, str):
        return
    if endpoint.startswith("haproxy:"):
        yield Problem(("admin", "endpoint"), "the admin pages take no PROXY header; remove haproxy:")
    for place, listener in file.tables("listeners"):
        if listener.get("endpoint") == endpoint and endpoint.split(":")[1:2] != ["0"]:  # port 0 is any free port
            yield Problem(("admin", "endpoint"), f"listeners[{place}] has this endpoint already; choose another")
            return
