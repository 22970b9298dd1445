"""Read a configuration file, and report every mistake in it at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import tomli_w
from cattrs import Converter

from fingergw.config import model
from fingergw.config.lines import KeyPath
from fingergw.config.problems import Problem, parse_toml, to_error, unknown
from fingergw.config.structure import make_converter, structure
from fingergw.errors import ConfigError
from fingergw.placeholders import Template
from fingergw.routing import group_names


def load(path: str | Path, *, base: str | Path | None = None) -> model.Config:
    """Load a configuration file.

    :param path: the TOML file.
    :param base: the folder that relative paths in it are relative to; default: the file's.
    :raises ConfigError: it cannot be read, or has mistakes; all of them are in the error.
    """
    config, problems = read(Path(path), base=None if base is None else Path(base))
    if problems:
        raise to_error(problems, config.source)
    return config


def read(path: Path, *, base: Path | None = None) -> tuple[model.Config, list[Problem]]:
    """Read a configuration file, and what is wrong in it.

    :return: the configuration, without the parts that have mistakes; and these.
    :raises ConfigError: it cannot be read or is not TOML.
    """
    source = model.Source(path, (base or path.parent).absolute(), _read_text(path))
    raw = parse_toml(source)
    config, problems = _structure(raw, make_converter(source.base), source)
    duplicates = list(_duplicates(raw))
    problems += duplicates
    problems += _dangling(raw)
    problems += _choices(raw)
    problems += _vary(raw)
    problems += _placeholders(config, raw)
    problems += _not_supported(raw)
    return _without(config, {problem.path[:2] for problem in duplicates}), list(dict.fromkeys(problems))


def load_entries(path: Path) -> model.Entries:
    """Load a static backend's map from a file of its own.

    :raises ConfigError: it cannot be read, or has mistakes.
    """
    source = model.Source(path, path.parent, _read_text(path))
    entries, problems = structure(make_converter(path.parent), parse_toml(source), model.Entries, ())
    if problems:
        raise to_error(problems, source)
    return entries  # type: ignore[no-any-return]  # cattrs makes what it is told to


def dumps(config: model.Config) -> str:
    """Return a configuration as TOML that :func:`load` reads as the same.

    Files come out absolute. Endpoint strings, programs and the access log stay as they were written, so a relative path
    in one of these is then relative to where the text is written.
    """
    converter = Converter(omit_if_default=True)
    for kind in (*model.Network.__args__, Path):  # type: ignore[attr-defined]  # a union has them
        converter.register_unstructure_hook(kind, str)
    converter.register_unstructure_hook(model.FilePath, str)
    converter.register_unstructure_hook(model.Umask, lambda umask: f"{umask:03o}")
    raw: dict[str, Any] = converter.unstructure(attrs.evolve(config, source=None))
    for name, backend in config.backends.items():
        kind = next(kind for kind, cls in model.BACKEND_TYPES.items() if cls is type(backend))
        raw["backends"][name] = {"type": kind, **converter.unstructure(backend)}
    for listener, settings in zip(config.listeners, raw["listeners"], strict=True):
        own = attrs.asdict(listener.limits, recurse=False)
        settings["limits"] = {
            key: converter.unstructure(value) for key, value in own.items() if value != getattr(config.limits, key)
        }
    for route, settings in zip(config.routes, raw.get("routes", ()), strict=True):
        if route.name == route.default_name:  # several may have the same by default
            del settings["name"]
    return tomli_w.dumps(raw)


def _read_text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError:
        raise ConfigError([f"{path}: not UTF-8, which TOML must be"]) from None


def _structure(raw: dict[str, Any], converter: Converter, source: model.Source) -> tuple[model.Config, list[Problem]]:
    """Structure each part by itself, so that a mistake in one hides none in another."""
    problems: list[Problem] = []

    def part(value: object, kind: Any, *path: str | int) -> Any:
        made, found = structure(converter, value, kind, path)
        problems.extend(found)
        return made

    def items(key: str, kind: Any) -> Iterator[tuple[int, Any]]:
        values = raw.get(key, [])
        if not isinstance(values, list):
            problems.append(Problem((key,), f"expected a list of tables, each begun by [[{key}]]"))
            return
        for index, value in enumerate(values):
            if (made := part(value, kind, key, index)) is not None:
                yield index, made

    known = [attribute.name for attribute in attrs.fields(model.Config) if attribute.name != "source"]
    problems += [Problem((key,), unknown(key, known, "table")) for key in raw if key not in known]
    settings = {
        key: made
        for key, kind in (
            ("cache", model.Cache),
            ("limits", model.Limits),
            ("forwarding", model.Forwarding),
            ("answers", model.Answers),
            ("process", model.Process),
            ("log", model.Log),
            ("admin", model.Admin),
        )
        if key in raw and (made := part(raw[key], kind, key)) is not None
    }
    limits = settings.get("limits", model.Limits())
    listeners = {
        index: attrs.evolve(listener, limits=_over(limits, listener.limits, raw["listeners"][index].get("limits", {})))
        for index, listener in items("listeners", model.Listener)
    }
    routes = dict(items("routes", model.Route))
    if not raw.get("listeners"):
        problems.append(Problem((), "expected at least one [[listeners]]"))
    backends = raw.get("backends", {})
    if not isinstance(backends, dict):
        backends = part(backends, dict[str, str], "backends") or {}
    made = {name: part(value, model.Backend, "backends", name) for name, value in backends.items()}
    config = model.Config(
        listeners=tuple(listeners.values()),
        routes=tuple(routes.values()),
        backends={name: backend for name, backend in made.items() if backend is not None},
        source=attrs.evolve(source, listeners=tuple(listeners), routes=tuple(routes)),
        **settings,
    )
    return config, problems


def _without(config: model.Config, paths: Collection[KeyPath]) -> model.Config:
    """Return a configuration without the listeners that stand at these places in the file."""
    kept = {place: listener for place, listener in config.numbered_listeners() if ("listeners", place) not in paths}
    source = config.source and attrs.evolve(config.source, listeners=tuple(kept))
    return attrs.evolve(config, listeners=tuple(kept.values()), source=source)


def _over(limits: model.Limits, own: model.Limits, given: dict[str, object]) -> model.Limits:
    return attrs.evolve(limits, **{key: getattr(own, key) for key in given})


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


def _duplicates(raw: dict[str, Any]) -> Iterator[Problem]:
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
        "listeners": [name for name in listeners if isinstance(name, str)],
        "backends": list(backends) if isinstance(backends, dict) else [],
    }
    for index, route in _tables(raw, "routes"):
        for key, names in known.items():
            given = route.get(key)
            if given == []:
                yield Problem(("routes", index, key), "expected at least one")
            for place, name in enumerate(given if isinstance(given, list) else []):
                if isinstance(name, str) and name not in names:
                    yield Problem(("routes", index, key, place), unknown(name, names, key.removesuffix("s")))


def _choices(raw: dict[str, Any]) -> Iterator[Problem]:
    """Look for tables with none or several of the keys that exclude each other, also where they have other mistakes."""
    tables: list[tuple[KeyPath, dict[str, Any], Sequence[str]]] = [
        (("routes", index), route, model.MATCHES) for index, route in _tables(raw, "routes")
    ]
    tables += [
        (("backends", name), backend, model.CONTENTS)
        for name, backend in _backends(raw)
        if backend.get("type") == "static"
    ]
    for path, table, keys in tables:
        given = [key for key in keys if table.get(key, False) is not False]
        if len(given) != 1:
            yield Problem(path, model.expected_one(keys, given))


def _vary(raw: dict[str, Any]) -> Iterator[Problem]:
    for name, backend in _backends(raw):
        if backend.get("type") != "command" and isinstance(cache := backend.get("cache"), dict) and "vary" in cache:
            yield Problem(("backends", name, "cache", "vary"), "only a command is told these; remove it")


def _texts(backend: model.Backend) -> Iterator[tuple[KeyPath, str]]:
    if isinstance(backend, model.HttpBackend):
        yield ("url",), backend.url
    elif isinstance(backend, model.CommandBackend):
        for index, argument in enumerate(backend.argv):
            yield ("argv", index), argument


def _placeholders(config: model.Config, raw: dict[str, Any]) -> Iterator[Problem]:
    """Look for placeholders that a route to their backend does not set, unless a mistake in one leaves that open."""
    whole = {index for index, _ in config.numbered_routes()}
    broken = [route.get("backends") for index, route in _tables(raw, "routes") if index not in whole]
    groups: dict[str, list[frozenset[str]]] = {}
    for route in config.routes:
        for name in route.backends:
            groups.setdefault(name, []).append(group_names(route.regex) if route.regex is not None else frozenset())
    for name, backend in config.backends.items():
        set_by_all = frozenset.intersection(*groups[name]) if name in groups else frozenset()
        for path, text in _texts(backend):
            used = Template.compile(text).names
            if used and path == ("argv", 0):
                yield Problem(("backends", name, *path), "expected the program's name, without placeholders")
            if any(name == given or (isinstance(given, list) and name in given) for given in broken):
                continue
            for placeholder in sorted(used - set_by_all - {"user"}):
                yield Problem(
                    ("backends", name, *path),
                    f'"{{{placeholder}}}" is no named group in the regex of every route to this backend; '
                    "name it there, use {user}, or write {{ and }} for braces",
                )


def _not_supported(raw: dict[str, Any]) -> Iterator[Problem]:
    """Look for what this version cannot do yet, and would mislead by ignoring, also beside other mistakes."""

    def refuse(*path: str | int) -> Problem:
        return Problem(path, "not supported yet; remove it")

    for index, listener in _tables(raw, "listeners"):
        if listener.get("decoy") is True:
            yield refuse("listeners", index, "decoy")
        if listener.get("trusted_proxies"):
            yield refuse("listeners", index, "trusted_proxies")
        if str(listener.get("endpoint")).startswith("haproxy:"):
            yield Problem(("listeners", index, "endpoint"), "haproxy: endpoints are not supported yet; use another")
    tables: list[tuple[KeyPath, Any]] = [(("limits",), raw.get("limits"))]
    tables += [(("listeners", index, "limits"), table.get("limits")) for index, table in _tables(raw, "listeners")]
    for path, limits in tables:
        for key in ("max_connections_per_client", "rate"):
            if isinstance(limits, dict) and key in limits:
                yield refuse(*path, key)
    for name, backend in _backends(raw):
        if backend.get("type") == "finger":
            yield Problem(("backends", name, "type"), "finger backends are not supported yet; use another type")
    for table, key, harmless in (
        ("forwarding", "allow", {}),
        ("admin", "endpoint", None),
    ):
        settings = raw.get(table)
        if isinstance(settings, dict) and settings.get(key, harmless) != harmless:
            yield refuse(table, key)
