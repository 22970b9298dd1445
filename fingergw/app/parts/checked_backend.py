"""Backends' tables, checked on this machine; nothing is opened yet."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, get_args

from attrs import define, field

from fingergw.app.parts.machine import Machine
from fingergw.cache.keys import Inputs, keys
from fingergw.config import load_table, model
from fingergw.config.backend_types import backend_type
from fingergw.config.problems import Problem
from fingergw.core.query import Query, compose, fold_function
from fingergw.core.setting_types import FILES, Argv, AuthoritiesFile, Jinja, Name, ProgramPath, SecretFile
from fingergw.core.settings import Key, is_secrets, keys_of, templates_in, without_none
from fingergw.net.files import read_secret, read_text
from fingergw.net.trust import read_authorities
from fingergw.net.watched import Watched
from fingergw.net.workers.template_names import TemplateError, names_of

_TWICE = "this name is defined twice, differing only by {}; remove one of the two"
_MAX_TEMPLATE_BYTES = 65536  # of a template's output, where the table has no max_bytes


def digest(text: str) -> str:
    """Return a digest of what is in a file, which may be a secret."""
    return hashlib.sha256(text.encode()).hexdigest()


@define(eq=False, repr=False)
class CheckedBackend:
    """A backend's table, with the files and programs that it names.

    :param files: each file that is watched, by its key; one in a table of secrets by ``KEY.NAME``.
    :param digests: of the files of secrets and of authorities, by the same keys.
    :param programs: the absolute path of each program, by its key.
    :param template_names: the variables that its Jinja2 templates use.
    """

    name: str
    table: model.Backend
    files: dict[str, Watched[Any]] = field(factory=dict)
    digests: dict[str, str] = field(factory=dict)
    programs: dict[str, str] = field(factory=dict)
    template_names: frozenset[str] = frozenset()

    @property
    def inputs(self) -> Inputs:
        """The parts of a query that the backend is given, and that can change its answer."""
        settings, sees = self.table.settings, backend_type(self.table.type).sees
        names: frozenset[str] | None = None  # the name and all groups
        if getattr(settings, "only_placeholders", False):
            names = self.template_names.union(self._asked_names)
        sees = sees.intersection(getattr(self.table.cache, "vary", sees))
        return Inputs(names, **{word: word in sees for word in ("verbose", "client", "listener")})

    @property
    def question(self) -> Callable[[Query], str] | None:
        """A function that returns what the backend asks others for a query; None if it always asks the same."""
        inputs = self.inputs
        names = None if inputs.placeholders is None else self._asked_names
        return keys("", Inputs(names, verbose=inputs.verbose)) if names != frozenset() or inputs.verbose else None

    @property
    def _asked_names(self) -> frozenset[str]:
        """The placeholders in what it asks; a Jinja2 template has its own, for the answer."""
        return frozenset[str]().union(*(template.names for _, template in templates_in(self.table.settings)))


def check_backend(name: str, configuration: model.Config, machine: Machine) -> CheckedBackend:
    """Check the files, programs and templates that a backend's table names; what is wrong is added to the problems."""
    checked = CheckedBackend(name, configuration.backends[name])
    counts_case = configuration.answers.case_sensitive or machine.mistaken.has("answers", "case_sensitive")
    fold = fold_function(case_sensitive=counts_case)
    for key in keys_of(backend_type(checked.table.type).settings):
        value = getattr(checked.table.settings, key.name, None)  # it may lack keys that have mistakes
        if value is not None:
            _check_value(checked, key, value, machine, fold)
    return checked


def _check_value(checked: CheckedBackend, key: Key, value: Any, machine: Machine, fold: Callable[[str], str]) -> None:
    kind, where = without_none(key.type), ("backends", checked.name, key.name)
    if kind in FILES or is_secrets(kind):
        files = {(key.name, name): path for name, path in value.items()} if is_secrets(kind) else {(key.name,): value}
        for named, path in files.items():
            watched = machine.watch(path, _loader(checked, key, ".".join(named), fold), *where[:-1], *named)
            if watched is not None:
                checked.files[".".join(named)] = watched
    elif kind in (Argv, ProgramPath) and value[:1] not in ((), (None,)):
        is_argv = kind is Argv
        program = machine.program(value[0].text if is_argv else value, *where, *([0] if is_argv else []))
        if program is not None:
            checked.programs[key.name] = str(program)
    elif kind is Jinja:
        max_bytes = getattr(checked.table.settings, "max_bytes", _MAX_TEMPLATE_BYTES)
        try:
            checked.template_names |= names_of(value, max_bytes)
        except TemplateError as error:
            machine.problems.append(Problem(where, str(error)))
    elif get_args(kind)[:1] == (Name,):
        machine.problems += [Problem((*where, name), why) for name, why in _repeated(value, fold)]


def _loader(checked: CheckedBackend, key: Key, named: str, fold: Callable[[str], str]) -> Callable[[Path], object]:
    """Return what loads a file: the secret or the authorities in it, its text, or the table that it holds.

    :param named: the key of its digest.
    """
    kind = without_none(key.type)
    if kind not in (SecretFile, AuthoritiesFile) and not is_secrets(kind):
        return read_text if key.holds is None else partial(_load_table, kind=key.holds, fold=fold)

    def load(path: Path) -> object:
        if kind is AuthoritiesFile:
            value, text = read_authorities(path)
        else:
            value = text = read_secret(path, key.holds or "secret")
        checked.digests.setdefault(named, digest(text))  # of the content that the backend was opened with
        return value

    return load


def _load_table(path: Path, kind: Any, fold: Callable[[str], str]) -> Any:
    def rule(table: Any) -> Iterator[Problem]:
        if get_args(kind)[:1] == (Name,):
            yield from (Problem((name,), why) for name, why in _repeated(table, fold))

    return load_table(path, kind, rule)


def _repeated(table: Mapping[str, object], fold: Callable[[str], str]) -> Iterator[tuple[str, str]]:
    """Return the names that queries cannot tell from an earlier one, and what is wrong with each."""
    seen: dict[str, str] = {}
    for name in table:
        first = seen.setdefault(fold(name), name)
        if first is not name:
            yield name, _TWICE.format("how its accents are composed" if compose(first) == compose(name) else "case")
