"""The rules between the keys of a file. Each is checked although other parts of the file have mistakes."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import partial
from itertools import islice
from typing import Any, Final

from fingergw.config import model
from fingergw.config.backend_types import ForeignError, run_foreign
from fingergw.config.problems import Problem, unknown
from fingergw.core.patterns import group_names
from fingergw.core.setting_types import Argv
from fingergw.core.settings import KeyPath, keys_of, templates_in, without_none

_MAX_MISTAKES: Final = 1000  # that a type's own check may report for a table


def broken_rules(
    config: model.Config, raw: dict[str, Any], broken: Collection[KeyPath], routes: Collection[int]
) -> Iterator[Problem]:
    """Return the mistakes that no key has by itself.

    :param config: the configuration, without the keys and tables that have mistakes.
    :param raw: all that the file has.
    :param broken: the tables with mistakes.
    :param routes: the positions in the file of the routes in the configuration.
    """
    yield from _dangling(raw)
    yield from _own_checks(config, broken)
    yield from _placeholders(config, raw, routes)
    yield from _proxies(raw)
    yield from _decoys(raw)
    yield from _admin(raw)


def _tables(raw: dict[str, Any], key: str) -> Iterator[tuple[int, dict[str, Any]]]:
    values = raw.get(key)
    for index, value in enumerate(values if isinstance(values, list) else []):
        if isinstance(value, dict):
            yield index, value


def duplicates(raw: dict[str, Any]) -> Iterator[Problem]:
    """Find names that are given twice."""
    for key, fallback in (("listeners", "endpoint"), ("routes", "")):
        first: dict[str, int] = {}
        for index, table in _tables(raw, key):
            where = "name" if "name" in table else fallback
            name = table.get(where)
            if isinstance(name, str) and first.setdefault(name, index) != index:
                why = f'{key}[{first[name]}] has the name "{name}" already; give this one a name of its own'
                if where == "endpoint" and "name" not in raw[key][first[name]]:
                    why = f"{key}[{first[name]}] has this endpoint already; choose another, or remove one of the two"
                yield Problem((key, index, where), why)


def _dangling(raw: dict[str, Any]) -> Iterator[Problem]:
    """Find names that name nothing."""
    listeners = [table.get("name", table.get("endpoint")) for _, table in _tables(raw, "listeners")]
    backends = raw.get("backends")
    known = {
        "listeners": {name for name in listeners if isinstance(name, str)},
        "backends": set(backends) if isinstance(backends, dict) else set(),
    }
    tables: list[tuple[KeyPath, dict[str, Any]]] = [
        (("routes", index), route) for index, route in _tables(raw, "routes")
    ]
    if isinstance(forwarding := raw.get("forwarding"), dict):
        tables.append((("forwarding",), {"listeners": forwarding.get("listeners")}))
    for path, table in tables:
        for key, names in known.items():
            given = table.get(key)
            for place, name in enumerate(given if isinstance(given, list) else []):
                if isinstance(name, str) and name not in names:
                    yield Problem((*path, key, place), unknown(name, names, key.removesuffix("s")))


def _own_checks(config: model.Config, broken: Collection[KeyPath]) -> Iterator[Problem]:
    """Have each backend's cache check its table, and its type the rest, unless a key in it has a mistake already."""
    for name, backend in config.backends.items():
        path = ("backends", name)
        if backend.cache is not None:
            yield from (Problem((*path, "cache", key), why) for key, why in backend.cache.check())
        if path in broken:
            continue
        try:
            found = run_foreign(partial(_own_check, backend.settings))
        except ForeignError as error:
            why = f'type "{backend.type}" cannot check this table, which is a fault in its package: {error}'
            yield Problem(path, why)
        else:
            yield from (Problem((*path, *where), why) for where, why in found)


def _own_check(settings: Any) -> list[tuple[KeyPath, str]]:
    """Return the mistakes that a type finds in its table, each with its path in it.

    ``check`` yields pairs of a message and a key before it: a name, a path, or "" for the whole table.
    """
    found: list[tuple[KeyPath, str]] = []
    for each in islice(getattr(settings, "check", tuple)(), _MAX_MISTAKES + 1):
        if len(found) == _MAX_MISTAKES:
            raise ValueError(f"check yields more than {_MAX_MISTAKES} mistakes")
        match each:
            case (str(key), str(why)):
                found.append(((key,) if key else (), why))
            case (tuple(path), str(why)) if all(isinstance(part, str | int) for part in path):
                found.append((path, why))
            case _:
                raise TypeError(f"check yields {each!r}, not a key and a message")
    return found


def _placeholders(config: model.Config, raw: dict[str, Any], whole: Collection[int]) -> Iterator[Problem]:
    """Find placeholders that a route to their backend does not set, unless a mistake in a route leaves that open."""
    undecided = {
        name
        for index, route in _tables(raw, "routes")
        if index not in whole and isinstance(given := route.get("backends"), str | list)
        for name in ([given] if isinstance(given, str) else given)
        if isinstance(name, str)
    }
    groups: dict[str, list[frozenset[str]]] = {}
    for route in config.routes:
        for name in route.backends:
            groups.setdefault(name, []).append(group_names(route.regex) if route.regex is not None else frozenset())
    for name, backend in config.backends.items():
        set_by_all = frozenset.intersection(*groups[name]) if name in groups else frozenset()
        cls: Any = type(backend.settings)
        programs = {(key.name, 0) for key in keys_of(cls) if without_none(key.type) is Argv}
        for path, template in templates_in(backend.settings):
            if template.names and path in programs:
                why = "expected a program without placeholders; only its arguments may have some"
                yield Problem(("backends", name, *path), why)
            if name in undecided:
                continue
            for placeholder in sorted(template.names - set_by_all - {"user"}):
                why = f"no route leads to this backend, so nothing sets {{{placeholder}}}"
                if name in groups:
                    why = (
                        f"{{{placeholder}}} is not set by every route to this backend; add (?P<{placeholder}>...) to "
                        f"each route's regex, or write {{{{{placeholder}}}}} for the text itself"
                    )
                yield Problem(("backends", name, *path), why)


def _proxies(raw: dict[str, Any]) -> Iterator[Problem]:
    """Find listeners that trust nobody to send a PROXY header, trust somebody in vain, or cannot read one."""
    for index, listener in _tables(raw, "listeners"):
        path = ("listeners", index)
        endpoint = listener.get("endpoint")
        if not isinstance(endpoint, str):
            continue
        kinds = endpoint.lower().split(":")
        if kinds[0] != "haproxy":
            if listener.get("trusted_proxies"):
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
        if listener.get("trusted_proxies") == []:
            why = 'expected at least one network in "trusted_proxies", of the proxies that connect here'
            yield Problem((*path, "trusted_proxies"), why)
        elif not listener.get("trusted_proxies"):
            why = 'missing key "trusted_proxies"; a haproxy: endpoint needs the networks of its proxies'
            yield Problem(path, why)


def _decoys(raw: dict[str, Any]) -> Iterator[Problem]:
    """Find decoys that log nothing, and a delay where there is no decoy."""
    log = raw.get("log")
    is_logged = not (isinstance(log, dict) and log.get("access") == "off")
    for index, listener in _tables(raw, "listeners"):
        if listener.get("decoy") is True and not is_logged:
            why = "a decoy needs the access log, which is off; set log.access to a file"
            yield Problem(("listeners", index, "decoy"), why)
        if listener.get("delay") and listener.get("decoy") is not True:
            yield Problem(("listeners", index, "delay"), "only a decoy has a delay; remove it, or set decoy = true")


def _admin(raw: dict[str, Any]) -> Iterator[Problem]:
    """Find an admin endpoint that is a listener's, or that expects a PROXY header."""
    admin = raw.get("admin")
    endpoint = admin.get("endpoint") if isinstance(admin, dict) else None
    if not isinstance(endpoint, str):
        return
    if endpoint.startswith("haproxy:"):
        yield Problem(("admin", "endpoint"), "the admin pages take no PROXY header; remove haproxy:")
    for place, listener in _tables(raw, "listeners"):
        if listener.get("endpoint") == endpoint and endpoint.split(":")[1:2] != ["0"]:  # port 0 is any free port
            yield Problem(("admin", "endpoint"), f"listeners[{place}] has this endpoint already; choose another")
