"""The files, programs, users and groups that a configuration names, as they are on this machine."""

from __future__ import annotations

import errno
import os
import shlex
import shutil
import stat
from collections.abc import Callable, Iterable
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
from fingergw.net.files import is_made_by_systemd, may_be_made_by_systemd, no_folder, no_folder_yet
from fingergw.net.root import in_chroot, outside, outside_message, usable_now
from fingergw.net.threads import Run, at_once
from fingergw.net.watched import Watched

_log = Logger()
T = TypeVar("T")


@define(eq=False, repr=False)
class Machine:
    """The machine that a configuration is built on. What is wrong with it is added to the problems.

    :param base: the folder that relative paths are relative to.
    :param mistaken: the keys of the file that have mistakes already.
    :param run: runs the looks at files that are watched.
    :param is_start: whether the gateway is about to start or reload, so that what is missing now will be missing then.
    :param is_for_root: whether root will start the gateway, so that what only this user may not do is no problem.
    :param problems: what was found wrong so far.
    :param warnings: what will go wrong later, or may be.
    :param files: the files that are read again when they change or at a reload, each with the key that names it.
    :param programs: the programs that are run, likewise.
    :param outputs: the files that are written, likewise.
    """

    base: Path
    mistaken: MistakenKeys = field(factory=MistakenKeys)
    run: Run = at_once
    is_start: bool = True
    is_for_root: bool = False
    problems: list[Problem] = field(factory=list)
    warnings: list[Problem] = field(factory=list)
    files: list[tuple[Path, KeyPath]] = field(factory=list)
    programs: list[tuple[Path, KeyPath]] = field(factory=list)
    outputs: list[tuple[Path, KeyPath]] = field(factory=list)

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
                self.programs.append((path, where))
                return found
            if is_path and self.hides([path], os.X_OK, *where):
                return found
        why = f'no executable file "{name}" on the PATH; install it, or write its path'
        if is_path:
            why = _why_not_executable(name, usable_now(self.base / name))
        self.problems.append(Problem(where, why))
        return None

    def written(self, path: Path, *where: str | int, follows_links: bool = False) -> Path | None:
        """Return the name that a file to write has after the change of root; None, with a problem, if it cannot be one.

        What this user may not see is no problem: it may be root who starts the gateway.

        :param follows_links: whether the file may be a symbolic link.
        """
        found = self.later(path, *where)
        if found is None:
            return None
        now = usable_now(path)
        why = self._unfit(now, path, *where, follows_links=follows_links)
        if why:
            self.problems.append(Problem(where, why))
            return None
        if os.path.isdir(now.parent):  # noqa: PTH112  # pathlib's raises PermissionError
            self.outputs.append((path, where))
        return found

    def _unfit(self, now: Path, shown: Path, *where: str | int, follows_links: bool) -> str:
        """Return why a file cannot be written; empty if it can, or nobody can tell."""
        try:
            if not stat.S_ISDIR(now.parent.stat().st_mode):
                return f"{shown.parent} is a file, not a folder; name a path in a folder"
        except FileNotFoundError:
            return self._missing(shown.parent, *where)
        except PermissionError:
            return ""
        except OSError as error:
            return f"{shown}: {os.strerror(error.errno or 0)}; name another path"
        try:
            if stat.S_ISLNK(now.lstat().st_mode) and not follows_links:
                return f"{shown}: is a symbolic link, which is not followed; name the file itself, or remove the link"
            return f"{shown} is a folder; name a file" if stat.S_ISDIR(now.stat().st_mode) else ""
        except (FileNotFoundError, PermissionError):
            return ""
        except OSError as error:
            return f"{shown}: {os.strerror(error.errno or 0)}; name another path"

    def _missing(self, folder: Path, *where: str | int) -> str:
        """Return what is wrong about a folder that is not there; if it may be there at the start, add a warning."""
        if self.is_start or not may_be_made_by_systemd(folder):
            return no_folder(folder)
        if not is_made_by_systemd(folder):
            self.warnings.append(Problem(where, no_folder_yet(folder)))
        return ""

    def load(self, path: Path, load: Callable[[Path], T], *where: str | int) -> T | None:
        """Return what a file is loaded as; None, with a problem, if it cannot be loaded.

        :param load: loads it; raises ConfigError if there is something wrong with it.
        """
        self.files.append((path, where))
        try:
            return load(path)
        except ConfigError as error:
            if not self.hides([path], os.R_OK, *where):
                self.problems += [Problem(where, problem) for problem in error.problems]
            return None

    def hides(self, paths: Iterable[Path], mode: int, *where: str | int) -> bool:
        """Tell whether root alone can tell about a file, and then add a warning.

        :param mode: what is to be done with it: ``os.R_OK`` or ``os.X_OK``.
        """
        if not self.is_for_root or os.geteuid() == 0:
            return False
        for path in paths:
            try:
                os.stat(path)  # noqa: PTH116  # as access, which follows
            except PermissionError:
                pass
            except OSError:
                continue
            else:
                if os.access(path, mode):
                    continue
            why = f"{path} could not be checked: {os.strerror(errno.EACCES)}; run this as root, who starts the gateway"
            self.warnings.append(Problem(where, why))
            return True
        return False

    def watch(self, path: Path, load: Callable[[Path], T], *where: str | int) -> Watched[T] | None:
        """Load a file now, and again whenever it changes; for the parameters see :meth:`load`."""
        key = ".".join(map(str, where))

        def report(why: str) -> None:
            told = why if str(path) in why else f"{path}: {why}"
            _log.error(
                "{key}: the previous content of its file stays in use: {why}", key=escape(key), why=printable(told)
            )

        def watched(path: Path) -> Watched[T]:
            return Watched(partial(load, path), lambda: (path,), report, run=self.run)

        return self.load(path, watched, *where)


def _why_not_executable(name: str, path: str | Path) -> str:
    """Return what is wrong with the path of a program.

    :param path: by which this process reaches it.
    """
    if os.path.isdir(path):  # noqa: PTH112  # pathlib's raises for a name that is too long
        return f'"{name}" is a folder; name a program in it'
    if os.path.isfile(path):  # noqa: PTH113
        return f'"{name}" is not executable; run: chmod +x {shlex.quote(str(path))}'
    return f'no executable file "{name}"; install it, or correct the path'
