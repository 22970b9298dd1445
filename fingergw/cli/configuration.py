"""The configuration that a command is told to take."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from fingergw import config
from fingergw.cli.options import DEFAULT
from fingergw.config import model
from fingergw.config.problems import Problem


def read(path: str | None, base: str | None = None, *, hint: bool = True) -> tuple[model.Config, list[Problem]]:
    """Read a configuration; without a path the default one, which counts as standing in the working folder.

    :param base: the folder that relative paths in it are relative to; default: the file's.
    :param hint: whether who has no such file is told how to make one.
    :return: what :func:`fingergw.config.read` returns.
    :raises ConfigError: it cannot be read or is not TOML.
    """
    if path is not None:
        return config.read(Path(path), base=None if base is None else Path(base), hint=hint)
    with resources.as_file(DEFAULT) as default:
        return config.read(default, base=Path(base or "."))
