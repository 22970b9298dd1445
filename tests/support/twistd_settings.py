"""What twistd is told by a command line, with the event log in it."""

from __future__ import annotations

from typing import Any

from fingergw.app import daemon
from fingergw.config.tables import Log, Process

_OPTIONS = ("uid", "gid", "chroot", "umask", "pidfile", "logfile", "rundir", "syslog", "daemonize")


def twistd_settings(**options: object) -> Any:
    """Return twistd's options for a command line, with the defaults of ``[process]`` and ``[log]``.

    :param options: of the command line, by name.
    """
    return daemon.settings({**dict.fromkeys(_OPTIONS), "prefix": "fingergw", **options}, Process(), Log())
