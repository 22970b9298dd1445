"""What twistd is told by a command line, with the event log in it."""

from __future__ import annotations

from typing import Any

from fingergw.app import daemon
from fingergw.app.privileges import becoming
from fingergw.config.tables import Log, Process

_OPTIONS = ("uid", "gid", "chroot", "umask", "pidfile", "logfile", "rundir", "syslog", "daemonize")


def twistd_settings(**options: object) -> Any:
    """Return twistd's options for a command line, with the defaults of ``[process]`` and ``[log]``.

    :param options: of the command line, by name.
    """
    chosen = {**dict.fromkeys(_OPTIONS), "prefix": "fingergw", **options}
    return daemon.settings(chosen, becoming(Process(), chosen), Log())
