"""What a command line makes of the process, with its event log."""

from __future__ import annotations

from fingergw.app import daemon
from fingergw.app.privileges import becoming
from fingergw.config.tables import Log, Process

_OPTIONS = ("uid", "gid", "chroot", "umask", "pidfile", "logfile", "rundir", "syslog", "daemonize")


def twistd_settings(**options: object) -> daemon.Settings:
    """Return the settings for a command line, with the defaults of ``[process]`` and ``[log]``.

    :param options: of the command line, by name.
    """
    chosen = {**dict.fromkeys(_OPTIONS), "prefix": "fingergw", **options}
    return daemon.settings(chosen, becoming(Process(), chosen), Log())
