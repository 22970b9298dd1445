"""What backends' tables name on this machine: files that are followed, programs, templates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, get_args

from attrs import define, field, frozen

from fingergw.app.parts.machine import Machine, read_authorities, read_file, read_secret
from fingergw.cache.keys import Inputs
from fingergw.config import load_table, model
from fingergw.config.backend_types import backend_type
from fingergw.config.problems import Problem
from fingergw.core.errors import ConfigError
from fingergw.core.query import fold_case
from fingergw.core.setting_types import FILES, Argv, AuthoritiesFile, Jinja, Name, ProgramPath, SecretFile
from fingergw.core.settings import Key, bare, keys_of, templates_in
from fingergw.core.text import escape
from fingergw.net.watched import Watched
from fingergw.net.workers.templates import TemplateError, names_within_limits

_TWICE = "this name is there twice, but for case"
_MAX_TEMPLATE_BYTES = 65536  # of what a template makes, where the table has no max_bytes


@define(eq=False)
class Examined:
    """A backend's table, and what it names on this machine.

    :param files: what is made of each file that it follows, by its key.
    :param programs: the absolute path of each program, by its key.
    :param secrets: what is in files of secrets.
    :param authorities: what is in files of authorities.
    :param template_names: the variables that its Jinja2 templates use.
    """

    name: str
    table: model.Backend
    files: dict[str, Watched[Any]] = field(factory=dict)
    programs: dict[str, str] = field(factory=dict)
    secrets: tuple[tuple[Path, str], ...] = field(default=(), repr=False)
    authorities: tuple[tuple[Path, str], ...] = field(default=(), repr=False)
    template_names: frozenset[str] = frozenset()

    @property
    def fingerprint(self) -> object:
        """All that the backend depends on, but for files that it follows."""
        return self.table, self.programs, self.secrets, self.authorities

    @property
    def inputs(self) -> Inputs:
        """What of a query the backend is told, and what can change an answer."""
        known, cache, settings = backend_type(self.table.type), self.table.cache, self.table.settings
        names: frozenset[str] | None = None  # the name and all groups
        if getattr(settings, "only_placeholders", False):
            names = self.template_names.union(*(template.names for _, template in templates_in(settings)))
        told = known.sees if cache is None or not known.may_vary else known.sees.intersection(cache.vary)
        return Inputs(names, **{word: word in told for word in ("verbose", "client", "listener")})


@frozen(eq=False)
class Examination:
    """Look at what the tables of a configuration's backends name on a machine."""

    configuration: model.Config
    machine: Machine

    def of(self, name: str) -> Examined:
        """Look at what one backend's table names; what is wrong is noted."""
        table = self.configuration.backends[name]
        examined = Examined(name, table)
        for key in keys_of(backend_type(table.type).settings):
            value = getattr(table.settings, key.name)
            if value is not None:
                self._examine(examined, key, value)
        return examined

    def _examine(self, examined: Examined, key: Key, value: Any) -> None:
        kind, where = bare(key.type), ("backends", examined.name, key.name)
        if kind in FILES:
            read = len(self.machine.texts)
            watched = self._file(kind, key, value, *where)
            texts = tuple(self.machine.texts[read:])
            if watched is not None:
                examined.files[key.name] = watched
            if kind is SecretFile:
                examined.secrets += texts
            else:
                examined.authorities += texts
        elif kind in (Argv, ProgramPath) and value != ():
            is_argv = kind is Argv
            program = self.machine.program(value[0].text if is_argv else value, *where, *([0] if is_argv else []))
            if program is not None:
                examined.programs[key.name] = str(program)
        elif kind is Jinja:
            max_bytes = getattr(examined.table.settings, "max_bytes", _MAX_TEMPLATE_BYTES)
            try:
                examined.template_names |= names_within_limits(value, max_bytes)
            except TemplateError as error:
                self.machine.problems.append(Problem(where, str(error)))
        elif get_args(kind)[:1] == (Name,):
            self.machine.problems += [Problem((*where, name), _TWICE) for name in self._twice(value)]

    def _file(self, kind: Any, key: Key, path: Path, *where: str) -> Watched[Any] | None:
        machine, before = self.machine, len(self.machine.problems)
        load: Callable[[], object]
        if kind is SecretFile:
            what = key.holds or "secret"
            machine.secret(path, what, *where)
            load = partial(read_secret, path, what)
        elif kind is AuthoritiesFile:
            machine.trust(path, *where)
            load = partial(read_authorities, path)
        else:
            load = partial(read_file, path) if key.holds is None else partial(self._table_in, path, key.holds)
        return machine.watch(path, load, *where) if len(machine.problems) == before else None

    def _table_in(self, path: Path, kind: Any) -> Any:
        table = load_table(path, kind)
        if get_args(kind)[:1] == (Name,) and (twice := list(self._twice(table))):
            raise ConfigError([f'{path}: "{escape(name)}": {_TWICE}' for name in twice])
        return table

    def _twice(self, table: Mapping[str, object]) -> Iterator[str]:
        """Return the names that are the same as one before them."""
        fold: Callable[[str], str] = str if self.configuration.answers.case_sensitive else fold_case
        seen: set[str] = set()
        for name in table:
            if fold(name) in seen:
                yield name
            seen.add(fold(name))
