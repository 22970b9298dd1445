"""Read a configuration file, and report every mistake in it at once."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from fingergw.config import model
from fingergw.config.problems import Problem, dotted, to_error, unknown
from fingergw.config.rules import broken_rules, duplicates
from fingergw.config.structure import make_converter, structure
from fingergw.config.tables import Listener, Route
from fingergw.config.toml_text import parse, read_text
from fingergw.core.settings import KeyPath, is_table, keys_of


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
    :return: the configuration, without the keys and tables that have mistakes; and the mistakes.
    :raises ConfigError: it cannot be read or is not TOML.
    """
    source = model.Source(path, (base or path.parent).absolute(), read_text(path, is_whole=True, hint=hint))
    raw = parse(source.text, path)
    same_names = list(duplicates(raw))
    config, routes, problems = _structure(raw, source, {problem.path[:2] for problem in same_names})
    problems += same_names
    problems += broken_rules(config, raw, {problem.path[:2] for problem in problems}, routes)
    return config, problems


def load_table(path: Path, kind: Any) -> Any:
    """Load a TOML file that holds a single table of the configuration.

    :param kind: the table's class, or a ``dict`` type.
    :raises ConfigError: it cannot be read, or has mistakes.
    """
    source = model.Source(path, path.parent, read_text(path))
    table, problems = structure(make_converter(path.parent), parse(source.text, path), kind, ())
    if problems:
        raise to_error(problems, source)
    return table


def _structure(
    raw: dict[str, Any], source: model.Source, left_out: Collection[KeyPath]
) -> tuple[model.Config, Collection[int], list[Problem]]:
    """Structure each table by itself, so that a mistake in one hides none in another.

    :param left_out: the listeners to leave out.
    :return: the configuration, the positions in the file of its routes, and the mistakes.
    """
    converter = make_converter(source.base)
    problems: list[Problem] = []

    def part(value: object, kind: Any, *path: str | int) -> Any:
        if isinstance(value, list) and (is_table(kind) or kind is model.Backend) and isinstance(path[-1], str):
            why = f"expected a table, not a list; begin it with [{dotted(path)}], in single brackets"
            problems.append(Problem(path, why))
            return None
        made, found = structure(converter, value, kind, path)
        problems.extend(found)
        if found and isinstance(value, dict):  # what is right in it may still name a file that is missing
            wrong = {problem.path[len(path)] for problem in found if len(problem.path) > len(path)}
            made, _ = structure(converter, {key: each for key, each in value.items() if key not in wrong}, kind, path)
        return made

    def parts(values: object, kind: Any, key: str) -> dict[int, Any]:
        if not isinstance(values, list):
            problems.append(Problem((key,), f"expected a list of tables; begin each with [[{key}]]"))
            return {}
        made = {index: part(value, kind, key, index) for index, value in enumerate(values)}
        return {index: each for index, each in made.items() if each is not None}

    keys = keys_of(model.Config)
    names = [key.name for key in keys]
    problems += [Problem((name,), unknown(name, names, "table")) for name in raw if name not in names]
    single = {key.name: part(raw.get(key.name, {}), key.type, key.name) for key in keys if is_table(key.type)}
    limits = raw.get("limits", {}) if not any(problem.path[:1] == ("limits",) for problem in problems) else {}
    listeners = parts(_with_limits(raw.get("listeners", []), limits), Listener, "listeners")
    listeners = {index: listener for index, listener in listeners.items() if ("listeners", index) not in left_out}
    if not raw.get("listeners"):
        problems.append(Problem((), "expected at least one [[listeners]] table"))
    routes = parts(raw.get("routes", []), Route, "routes")
    backends = raw.get("backends", {})
    if not isinstance(backends, dict):
        backends = part(backends, dict[str, str], "backends") or {}
    made = {name: part(value, model.Backend, "backends", name) for name, value in backends.items()}
    config = model.Config(
        listeners=tuple(listeners.values()),
        routes=tuple(routes.values()),
        backends={name: backend for name, backend in made.items() if backend is not None},
        source=model.Source(source.path, source.base, source.text, tuple(listeners)),
        **{name: table for name, table in single.items() if table is not None},
    )
    return config, routes.keys(), problems


def _with_limits(listeners: object, limits: dict[str, object]) -> object:
    """Return raw listeners, each with ``[limits]`` where its own limits say nothing."""
    if not isinstance(listeners, list) or not limits:
        return listeners
    return [
        {**listener, "limits": {**limits, **own}}
        if isinstance(listener, dict) and isinstance(own := listener.get("limits", {}), dict)
        else listener
        for listener in listeners
    ]
