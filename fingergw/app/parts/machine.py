"""What a configuration names on this machine: files, users, groups; and what is wrong with them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from attrs import define, field
from twisted.logger import Logger

from fingergw.config.problems import Problem
from fingergw.core.errors import ConfigError
from fingergw.core.settings import KeyPath
from fingergw.core.text import escape, printable
from fingergw.net.file_rights import exposure
from fingergw.net.files import open_text
from fingergw.net.root import below, here, later, outside
from fingergw.net.trust import authorities, system_trust
from fingergw.net.watched import Watched

_log = Logger()
T = TypeVar("T")


@define
class Machine:
    """The machine that a configuration is for.

    :param base: the folder that relative paths are relative to.
    :param problems: what was found wrong so far.
    :param texts: what has been read from files so far.
    :param files: what is read again at a reload or when it changes, and the keys that name it, so far.
    """

    base: Path
    problems: list[Problem] = field(factory=list)
    texts: list[tuple[Path, str]] = field(factory=list)
    files: list[tuple[Path, KeyPath]] = field(factory=list)

    def check(self, *path: str | int, text: str | None, lookup: Callable[[str], object]) -> None:
        """Look whether this machine knows a user or group."""
        try:
            if text is not None:
                lookup(text)
        except KeyError:
            self.problems.append(Problem(path, f'no {path[-1]} "{text}" on this machine'))

    def later(self, path: Path, *where: str | int) -> Path | None:
        """Return what a file is called once the root has been changed; None if it is out of reach, which is noted."""
        found = later(path)
        if found is None:
            self.problems.append(Problem(where, f"{path}: {outside()}; put it below that"))
        return found

    def program(self, name: str, *where: str | int) -> Path | None:
        """Return what a program is called once the root has been changed; None if there is none, which is noted.

        :param name: its path, or what to look for on the PATH, in the folders that are there then.
        """
        is_path = "/" in name
        folders = [self.base] if is_path else [below(Path(folder)) for folder in os.get_exec_path()]
        for path in (folder / name for folder in folders):
            found = self.later(path, *where)
            if found is None:
                return None
            if shutil.which(here(path)):
                return found
        why = f'no executable file "{name}"' + ("" if is_path else " on the PATH")
        self.problems.append(Problem(where, why))
        return None

    def read(self, path: Path, *where: str | int) -> str | None:
        """Return what is in a file; None if it cannot be read, which is noted."""
        return self._noted(path, lambda: read_file(path), *where)

    def secret(self, path: Path, what: str, *where: str | int) -> str:
        """Return the one secret in a file that is nobody else's; empty if there is none. What is wrong is noted.

        :param what: what it is, for the message.
        """
        return self._noted(path, lambda: read_secret(path, what), *where) or ""

    def _noted(self, path: Path, read: Callable[[], str], *where: str | int) -> str | None:
        self.files.append((path, where))
        try:
            text = read()
        except ConfigError as error:
            self.problems += [Problem(where, problem) for problem in error.problems]
            return None
        self.texts.append((path, text))
        return text

    def watch(self, path: Path, load: Callable[[], T], *where: str | int) -> Watched[T] | None:
        """Return what is made of a file, whenever that changes; None if nothing can be, which is noted.

        :param load: makes it; what is wrong it raises as a ConfigError.
        """
        self.files.append((path, where))
        key = ".".join(map(str, where))

        def report(why: str) -> None:
            told = why if str(path) in why else f"{path}: {why}"
            _log.error("{key}: what its file held before stays in use: {why}", key=escape(key), why=printable(told))

        try:
            return Watched(load, lambda: (path,), report)
        except ConfigError as error:
            self.problems += [Problem(where, problem) for problem in error.problems]
        return None

    def trust(self, ca_file: Path | None, *where: str | int) -> Any:
        """Return whom to trust for TLS: the authorities in a file, or those of the system."""
        bundle = None if ca_file is None else self.read(ca_file, *where)
        if bundle is None:
            return system_trust()
        try:
            return authorities(bundle.encode())
        except ValueError as error:
            self.problems.append(Problem(where, str(error)))
            return system_trust()


def read_file(path: Path) -> str:
    """Return what is in a file.

    :raises ConfigError: it cannot be read.
    """
    text = _decoded(_bytes_and_mode(path)[0])
    if text is None:
        raise ConfigError([f"{path}: not UTF-8"])
    return text


def read_secret(path: Path, what: str) -> str:
    """Return the one secret in a file that others may neither read nor write.

    Its group may: a file that is root's and that the gateway's group can read is how it usually is.

    :param what: what it is, for the message.
    :raises ConfigError: others may, or there is none, or something else.
    """
    data, mode = _bytes_and_mode(path)
    exposed = exposure(path, mode)
    problems = [exposed] if exposed else []
    text = _decoded(data)
    secret = "" if text is None else text.strip()
    if text is None:
        problems.append(f"{path}: not UTF-8")
    elif not (secret and secret.isascii() and secret.isprintable()):
        problems.append(f"expected a file that holds one {what}")
    if problems:
        raise ConfigError(problems)
    return secret


def read_authorities(path: Path) -> Any:
    """Return whom to trust for TLS, from a file.

    :raises ConfigError: it cannot be read, or has no certificates in it.
    """
    try:
        return authorities(read_file(path).encode())
    except ValueError as error:
        raise ConfigError([str(error)]) from None


def _bytes_and_mode(path: Path) -> tuple[bytes, int]:
    try:
        with open_text(path) as file:
            mode = os.fstat(file.fileno()).st_mode  # of what was opened, wherever the path leads by now
            return file.buffer.read(), mode
    except OSError as error:
        raise ConfigError([f"{path}: {error.strerror}"]) from None


def _decoded(data: bytes) -> str | None:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None
