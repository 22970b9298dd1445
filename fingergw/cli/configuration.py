"""Reading the configuration that a command line names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fingergw import config
from fingergw.app.privileges import becoming
from fingergw.config import model
from fingergw.config.finding import Place, find
from fingergw.config.problems import Problem
from fingergw.core.settings import changed


def read(path: str | None, base: str | None = None) -> tuple[model.Config, list[Problem]]:
    """Find and read a configuration.

    :param path: as for :func:`fingergw.config.finding.find`, and likewise the base.
    :return: what :func:`fingergw.config.read` returns.
    :raises ConfigError: it cannot be read or is not TOML.
    """
    place = find(path, base)
    return config.read(place.path, base=place.base, hint=True)


def read_to_run(options: Mapping[str, Any], place: Place, *, hint: bool = False) -> tuple[model.Config, list[Problem]]:
    """Read a configuration, with the user, the group and the root that the command line's options say.

    :param options: ``uid``, ``gid`` and ``chroot``, each None unless it was given; they win over ``[process]``.
    :param hint: if there is no such file, say how to make one.
    :return: what :func:`fingergw.config.read` returns.
    :raises ConfigError: it cannot be read or is not TOML.
    """
    configuration, problems = config.read(place.path, base=place.base, hint=hint)
    return changed(configuration, process=becoming(configuration.process, options)), problems
