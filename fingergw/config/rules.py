"""What must hold between the keys of a file: each rule looks for what breaks it, also beside other mistakes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import Any, Final

from fingergw.config import backend_types, model
from fingergw.config.backend_types import BackendType, BrokenTypeError, ForeignError, backend_type, run_foreign
from fingergw.config.problems import Problem, unknown
from fingergw.core.patterns import group_names
from fingergw.core.setting_types import Argv
from fingergw.core.settings import KeyPath, bare, keys_of, templates_in

_MAX_MISTAKES: Final = 1000  # that are told of one table: a check may go on for ever


def broken_rules(config: model.Config, raw: dict[str, Any]) -> Iterator[Problem]:
    """Return the mistakes that no key has by itself.

    :param config: what could be made of the file; it is without the parts that have mistakes.
    :param raw: all that stands in it.
    """
    yield from _dangling(raw)
    yield from _unfit_vary(raw)
    yield from _own_checks(config)
    yield from _placeholders(config, raw)
    yield from _proxies(raw)
    yield from _decoys(raw)
    yield from _admin(raw)


def _tables(raw: dict[str, Any], key: str) -> Iterator[tuple[int, dict[str, Any]]]:
    values = raw.get(key)
    for index, value in enumerate(values if isinstance(values, list) else []):
        if isinstance(value, dict):
            yield index, value


def _backends(raw: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    values = raw.get("backends")
    for name, value in (values if isinstance(values, dict) else {}).items():
        if isinstance(value, dict):
            yield name, value


def _type_of(backend: dict[str, Any]) -> BackendType | None:
    """Return the type of a backend's table; None if it says none that can be used."""
    name = backend.get("type")
    try:
        return backend_type(name) if isinstance(name, str) and name in backend_types.names() else None
    except BrokenTypeError:
        return None


def duplicates(raw: dict[str, Any]) -> Iterator[Problem]:
    """Look for names given twice, also where the rest of the table has mistakes."""
    for key, fallback in (("listeners", "endpoint"), ("routes", "")):
        names = {index: table.get("name", table.get(fallback)) for index, table in _tables(raw, key)}
        counts = Counter(name for name in names.values() if isinstance(name, str))
        seen: set[str] = set()
        for index, name in names.items():
            if isinstance(name, str) and counts[name] > 1:
                if name in seen:
                    where = "name" if "name" in raw[key][index] else fallback
                    yield Problem((key, index, where), f'expected a name of its own; "{name}" is taken already')
                seen.add(name)


def _dangling(raw: dict[str, Any]) -> Iterator[Problem]:
    """Look for names that name nothing, also where the rest of the file has mistakes."""
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
            if given == []:
                yield Problem((*path, key), "expected at least one")
            for place, name in enumerate(given if isinstance(given, list) else []):
                if isinstance(name, str) and name not in names:
                    yield Problem((*path, key, place), unknown(name, names, key.removesuffix("s")))


def _unfit_vary(raw: dict[str, Any]) -> Iterator[Problem]:
    """Look for a cache that would have a type told less than it needs."""
    for name, backend in _backends(raw):
        known, cache = _type_of(backend), backend.get("cache")
        if known is not None and not known.may_vary and isinstance(cache, dict) and "vary" in cache:
            why = f'a backend of type "{known.name}" does not take it; remove it'
            yield Problem(("backends", name, "cache", "vary"), why)


def _own_checks(config: model.Config) -> Iterator[Problem]:
    """Ask each backend's type what is wrong with its table: pairs of a key, or a path, or "" for all, and why."""
    for name, backend in config.backends.items():
        path = ("backends", name)
        try:
            found = run_foreign(partial(_own_check, backend.settings))
        except ForeignError as error:
            yield Problem(path, f'type "{backend.type}" cannot check it, which is a mistake in its package: {error}')
        else:
            yield from (Problem((*path, *where), why) for where, why in found)


def _own_check(settings: Any) -> list[tuple[KeyPath, str]]:
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
                raise TypeError(f"check yields {each!r}, and not a key and a message")
    return found


def _placeholders(config: model.Config, raw: dict[str, Any]) -> Iterator[Problem]:
    """Look for placeholders that a route to their backend does not set, unless a mistake in one leaves that open."""
    whole = {index for index, _ in config.numbered_routes()}
    broken = {
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
        programs = {(key.name, 0) for key in keys_of(cls) if bare(key.type) is Argv}
        for path, template in templates_in(backend.settings):
            if template.names and path in programs:
                yield Problem(("backends", name, *path), "expected the program's name, without placeholders")
            if name in broken:
                continue
            for placeholder in sorted(template.names - set_by_all - {"user"}):
                yield Problem(
                    ("backends", name, *path),
                    f'"{{{placeholder}}}" is no named group in the regex of every route to this backend; '
                    "name it there, use {user}, or write {{ and }} for braces",
                )


def _proxies(raw: dict[str, Any]) -> Iterator[Problem]:
    """Look for listeners that would believe anybody, or wait for a PROXY header that they do not take."""
    for index, listener in _tables(raw, "listeners"):
        kinds = str(listener.get("endpoint")).lower().split(":")
        if kinds[0] != "haproxy":
            if listener.get("trusted_proxies"):
                why = "only a haproxy: endpoint takes these; remove them"
                yield Problem(("listeners", index, "trusted_proxies"), why)
            continue
        if kinds[1:2] == ["unix"]:
            why = "a proxy is told by its address, which a unix socket has not; use haproxy:tcp:"
            yield Problem(("listeners", index, "endpoint"), why)
        elif kinds[1:2] in (["ssl"], ["tls"]):
            why = "a proxy sends its header before TLS begins; let TLS end at the proxy, and use haproxy:tcp:"
            yield Problem(("listeners", index, "endpoint"), why)
        if not listener.get("trusted_proxies"):
            why = "expected trusted_proxies, the networks of those who may send a PROXY header"
            yield Problem(("listeners", index), why)


def _decoys(raw: dict[str, Any]) -> Iterator[Problem]:
    """Look for decoys whose purpose is lost, and for what only a decoy takes."""
    log = raw.get("log")
    is_logged = not (isinstance(log, dict) and log.get("access") == "off")
    for index, listener in _tables(raw, "listeners"):
        if listener.get("decoy") is True and not is_logged:
            why = "a decoy is there for the access log, which is off; set log.access"
            yield Problem(("listeners", index, "decoy"), why)
        if listener.get("delay") and listener.get("decoy") is not True:
            yield Problem(("listeners", index, "delay"), "only a decoy takes its time; remove it, or set decoy = true")


def _admin(raw: dict[str, Any]) -> Iterator[Problem]:
    """Look for an admin endpoint that clients are served at, or that nobody but a proxy could ask."""
    admin = raw.get("admin")
    endpoint = admin.get("endpoint") if isinstance(admin, dict) else None
    if not isinstance(endpoint, str):
        return
    if endpoint.startswith("haproxy:"):
        yield Problem(("admin", "endpoint"), "expected one that is asked without a PROXY header; remove haproxy:")
    for place, listener in _tables(raw, "listeners"):
        if listener.get("endpoint") == endpoint and endpoint.split(":")[1:2] != ["0"]:  # any free port, each time
            yield Problem(("admin", "endpoint"), f"expected an endpoint of its own; listeners[{place}] has this one")
