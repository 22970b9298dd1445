"""Read a configuration file, and report every mistake in it at once."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import attrs
from cattrs import Converter

from fingergw.config import model, tables
from fingergw.config.bounds import MAX_BYTES
from fingergw.config.problems import Problem, parse_toml, to_error, unknown
from fingergw.config.rules import broken_rules, duplicates
from fingergw.config.structure import make_converter, structure
from fingergw.core.errors import ConfigError
from fingergw.core.rules import Limits
from fingergw.core.settings import KeyPath, changed, keys_of
from fingergw.net.files import read_file


def load(path: str | Path, *, base: str | Path | None = None) -> model.Config:
    """Load a configuration file.

    :param path: the TOML file.
    :param base: the folder that relative paths in it are relative to; default: the file's.
    :raises ConfigError: it cannot be read, or has mistakes; all of them are in the error.
    """
    config, problems = read(Path(path), base=None if base is None else Path(base), hint=True)
    if problems:
        raise to_error(problems, config.source)
    return config


def read(path: Path, *, base: Path | None = None, hint: bool = False) -> tuple[model.Config, list[Problem]]:
    """Read a configuration file, and what is wrong in it.

    :param hint: whether who has no such file is told how to make one.
    :return: the configuration, without the parts that have mistakes; and these.
    :raises ConfigError: it cannot be read or is not TOML.
    """
    source = model.Source(path, (base or path.parent).absolute(), _read_text(path, is_whole=True, hint=hint))
    raw = parse_toml(source)
    config, problems = _structure(raw, make_converter(source.base), source)
    twice = list(duplicates(raw))
    problems += [*twice, *broken_rules(config, raw)]
    return _without(config, {problem.path[:2] for problem in twice}), list(dict.fromkeys(problems))


def load_table(path: Path, kind: Any) -> Any:
    """Load a TOML file that is a table of the configuration in a file of its own.

    :param kind: the table's class, or a ``dict`` type.
    :raises ConfigError: it cannot be read, or has mistakes.
    """
    source = model.Source(path, path.parent, _read_text(path))
    made, problems = structure(make_converter(path.parent), parse_toml(source), kind, ())
    if problems:
        raise to_error(problems, source)
    return made


def _read_text(path: Path, *, is_whole: bool = False, hint: bool = False) -> str:
    """Return what is in a file.

    :param is_whole: it is a whole configuration.
    :param hint: whether who has none is told how to make one.
    """
    try:
        data, _ = read_file(path, max_bytes=MAX_BYTES, or_pipe=is_whole)
    except OSError as error:
        advice = ""
        if hint and isinstance(error, FileNotFoundError):
            advice = f"; to have one to start from, run: fingergw init {shlex.quote(str(path))}"
        raise ConfigError([f"{path}: cannot be read: {error.strerror}{advice}"]) from None
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError([f"{path}:{line}: not UTF-8, which TOML must be; save it as UTF-8"]) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


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

    known = [key.name for key in keys_of(model.Config)]
    problems += [Problem((key,), unknown(key, known, "table")) for key in raw if key not in known]
    settings = {
        key: made
        for key, kind in (
            ("cache", tables.Cache),
            ("limits", Limits),
            ("forwarding", tables.Forwarding),
            ("answers", tables.Answers),
            ("process", tables.Process),
            ("log", tables.Log),
            ("admin", tables.Admin),
        )
        if key in raw and (made := part(raw[key], kind, key)) is not None
    }
    limits = settings.get("limits", Limits())
    listeners = {
        index: changed(listener, limits=_over(limits, listener.limits, raw["listeners"][index].get("limits", {})))
        for index, listener in items("listeners", tables.Listener)
    }
    routes = dict(items("routes", tables.Route))
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
    return changed(config, listeners=tuple(kept.values()), source=source)


def _over(limits: Limits, own: Limits, given: dict[str, object]) -> Limits:
    return changed(limits, **{key: getattr(own, key) for key in given})
