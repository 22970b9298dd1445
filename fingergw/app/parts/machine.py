"""The files, programs, users and groups that a configuration names, as they are on this machine."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from attrs import define, field
from twisted.logger import Logger

from fingergw.config.mistaken import MistakenKeys
from fingergw.config.problems import Problem
from fingergw.core.errors import ConfigError
from fingergw.core.settings import KeyPath
from fingergw.core.text import escape, printable
from fingergw.net.root import in_chroot, outside, outside_message, usable_now
from fingergw.net.watched import Watched

_log = Logger()
T = TypeVar("T")


@define
class Machine:
    """The machine that a configuration is built on. What is wrong with it is added to the problems.

    :param base: the folder that relative paths are relative to.
    :param mistaken: the keys of the file that have mistakes already.
    :param problems: what was found wrong so far.
    :param warnings: what keeps the gateway from starting now, and may be different then.
    :param files: the files that are read again when they change or at a reload, each with the key that names it.
    """

    base: Path
    mistaken: MistakenKeys = field(factory=MistakenKeys)
    problems: list[Problem] = field(factory=list)
    warnings: list[Problem] = field(factory=list)
    files: list[tuple[Path, KeyPath]] = field(factory=list)

    def later(self, path: Path, *where: str | int) -> Path | None:
        """Return the name that a file has after the change of root; None, with a problem, if it is out of reach."""
        found = in_chroot(path)
        if found is None:
            self.problems.append(Problem(where, f"{path}: {outside_message()}; put it below that"))
        return found

    def program(self, name: str, *where: str | int) -> Path | None:
        """Return the path that a program has after the change of root; None, with a problem, if there is none.

        :param name: its path, or a name to look up on the PATH, in the folders that exist after the change.
        """
        is_path = "/" in name
        folders = [self.base] if is_path else [outside(Path(folder)) for folder in os.get_exec_path()]
        for path in (folder / name for folder in folders):
            found = self.later(path, *where)
            if found is None:
                return None
            if shutil.which(usable_now(path)):
                return found
        why = f'no executable file "{name}" on the PATH; install it, or write its path'
        if is_path:
            why = _why_not_executable(name, usable_now(self.base / name))
        self.problems.append(Problem(where, why))
        return None

    def load(self, path: Path, load: Callable[[Path], T], *where: str | int) -> T | None:
        """Return what a file is loaded as; None, with a problem, if it cannot be loaded.

        :param load: loads it; raises ConfigError if there is something wrong with it.
        """
        self.files.append((path, where))
        try:
            return load(path)
        except ConfigError as error:
            self.problems += [Problem(where, problem) for problem in error.problems]
            return None

    def watch(self, path: Path, load: Callable[[Path], T], *where: str | int) -> Watched[T] | None:
        """Load a file now, and again whenever it changes; for the parameters see :meth:`load`."""
        key = ".".join(map(str, where))

        def report(why: str) -> None:
            told = why if str(path) in why else f"{path}: {why}"
            _log.error(
                "{key}: the previous content of its file stays in use: {why}", key=escape(key), why=printable(told)
            )

        return self.load(path, lambda path: Watched(partial(load, path), lambda: (path,), report), *where)


def _why_not_executable(name: str, path: str | Path) -> str:
    """Return what is wrong with the path of a program.

    :param path: by which this process reaches it.
    """
    if os.path.isdir(path):  # noqa: PTH112  # pathlib's raises for a name that is too long
        return f'"{name}" is a folder; name a program in it'
    if os.path.isfile(path):  # noqa: PTH113
        return f'"{name}" is not executable; run: chmod +x {shlex.quote(str(path))}'
    return f'no executable file "{name}"; install it, or correct the path'
