"""Reading the configuration that a command line names."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from fingergw import config
from fingergw.app.privileges import becoming
from fingergw.cli.options import DEFAULT
from fingergw.config import model
from fingergw.config.problems import Problem
from fingergw.core.settings import changed


def read(path: str | None, base: str | None = None, *, hint: bool = True) -> tuple[model.Config, list[Problem]]:
    """Read a configuration.

    :param path: default: the one that comes with fingergw, as if it were in the working folder.
    :param base: the folder that relative paths in it start from; default: the file's own.
    :param hint: if there is no such file, say how to make one.
    :return: what :func:`fingergw.config.read` returns.
    :raises ConfigError: it cannot be read or is not TOML.
    """
    if path is not None:
        return config.read(Path(path), base=None if base is None else Path(base), hint=hint)
    with resources.as_file(DEFAULT) as default:
        return config.read(default, base=Path(base or "."))


def read_to_run(
    options: Mapping[str, Any], path: str | None, base: str | None = None, *, hint: bool = False
) -> tuple[model.Config, list[Problem]]:
    """Do as :func:`read`, with the user, the group and the root that the command line's options say.

    :param options: ``uid``, ``gid`` and ``chroot``, each None unless it was given; they win over ``[process]``.
    """
    configuration, problems = read(path, base, hint=hint)
    return changed(configuration, process=becoming(configuration.process, options)), problems
