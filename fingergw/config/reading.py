"""Read a configuration file, and report every mistake in it at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from attrs import evolve

from fingergw.config import model
from fingergw.config.mistaken import MistakenKeys
from fingergw.config.problems import Problem, dotted, mistaken, nearest, to_error, unknown
from fingergw.config.rules import File, broken_rules
from fingergw.config.structure import structure
from fingergw.config.tables import Listener, Route
from fingergw.config.toml_text import parse, read_text
from fingergw.config.values import plain
from fingergw.core.errors import ExpectedError
from fingergw.core.outcome import BackendCache
from fingergw.core.settings import changed, is_table, keys_of


def load(path: str | Path, *, base: str | Path | None = None) -> model.Config:
    """Load a configuration file.

    :param path: the TOML file.
    :param base: the folder that relative paths in it are relative to; default: the file's.
    :raises ConfigError: it cannot be read, or has mistakes; the error lists all of them.
    """
    config, problems = read(Path(path), base=None if base is None else Path(base), hint=True)
    if problems:
        raise to_error(problems, config.source)
    return config


def read(path: Path, *, base: Path | None = None, hint: bool = False) -> tuple[model.Config, list[Problem]]:
    """Read a configuration file, and find the mistakes in it.

    :param hint: whether to say how to create a file that is not there.
    :return: the configuration, with what is right beside the mistakes; and the mistakes.
    :raises ConfigError: it cannot be read or is not TOML.
    """
    source = model.Source(path, (base or path.parent).absolute(), read_text(path, is_whole=True, hint=hint))
    raw = parse(source.text, path)
    config, caches, problems = _structure(raw, source)
    problems += broken_rules(config, File(raw, mistaken(problems)), caches)
    if config.source is not None and problems:
        config = changed(config, source=evolve(config.source, mistaken=mistaken(problems)))
    return config, problems


def load_table(path: Path, kind: Any, rule: Callable[[Any], Iterable[Problem]] = lambda _: ()) -> Any:
    """Load a TOML file that holds a single table of the configuration.

    :param kind: the table's class, or a ``dict`` type.
    :param rule: returns the mistakes that no value in the table has by itself.
    :raises ConfigError: it cannot be read, or has mistakes.
    """
    source = model.Source(path, path.parent, read_text(path))
    table, problems = structure(parse(source.text, path), kind, (), path.parent)
    problems += rule(table)
    if problems:
        raise to_error(problems, source)
    return table


def _structure(
    raw: dict[str, Any], source: model.Source
) -> tuple[model.Config, dict[str, BackendCache], list[Problem]]:
    """Structure each table by itself.

    :return: the configuration, the cache tables of the backends, also of those that have no type, and the mistakes.
    """
    problems: list[Problem] = []

    def part(value: object, kind: Any, *path: str | int) -> Any:
        is_item = isinstance(path[-1], int)
        form = f"[[{path[0]}]] above its keys" if is_item else f"[{dotted(path)}] above its keys, in single brackets"
        try:
            plain(dict, value, form=form)
        except ExpectedError as error:
            problems.append(Problem(path, str(error)))
            return None
        made, found = structure(value, kind, path, source.base)
        problems.extend(found)
        return made

    def parts(values: object, kind: Any, key: str) -> dict[int, Any]:
        if not isinstance(values, list):
            problems.append(Problem((key,), f"expected a list of tables; begin each with [[{key}]]"))
            return {}
        made = {index: part(value, kind, key, index) for index, value in enumerate(values)}
        required = "endpoint" if kind is Listener else "backends"
        return {index: each for index, each in made.items() if hasattr(each, required)}

    keys = keys_of(model.Config)
    names = [key.name for key in keys]
    for name in raw:
        if name not in names:
            near = nearest(name, names)
            about = ((name,), (near,)) if near is not None and near not in raw else ()
            problems.append(Problem((name,), unknown(name, names, "table"), about))
    single = {key.name: part(raw.get(key.name, {}), key.type, key.name) for key in keys if is_table(key.type)}
    listeners = parts(_with_limits(raw, mistaken(problems)), Listener, "listeners")
    if raw.get("listeners", []) == [] and not mistaken(problems).has("listeners"):
        problems.append(Problem((), "expected at least one [[listeners]] table"))
    routes = parts(raw.get("routes", []), Route, "routes")
    backends = raw.get("backends", {})
    if not isinstance(backends, dict):
        backends = part(backends, dict, "backends") or {}
    made = {name: part(value, model.Backend, "backends", name) for name, value in backends.items()}
    made = {name: backend for name, backend in made.items() if backend is not None}
    config = model.Config(
        listeners=tuple(listeners.values()),
        routes=tuple(routes.values()),
        backends={name: backend for name, backend in made.items() if backend.type},
        source=model.Source(source.path, source.base, source.text, tuple(listeners)),
        **{name: table for name, table in single.items() if table is not None},
    )
    return config, {name: each.cache for name, each in made.items() if each.cache is not None}, problems


def _with_limits(raw: dict[str, Any], wrong: MistakenKeys) -> object:
    """Return raw listeners, each with what is right in ``[limits]`` where its own limits say nothing."""
    limits, listeners = raw.get("limits"), raw.get("listeners", [])
    if not isinstance(listeners, list) or not isinstance(limits, dict):
        return listeners
    limits = {key: value for key, value in limits.items() if not wrong.touch("limits", key)}
    return [
        {**listener, "limits": {**limits, **own}}
        if isinstance(listener, dict) and isinstance(own := listener.get("limits", {}), dict)
        else listener
        for listener in listeners
    ]
