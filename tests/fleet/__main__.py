"""``python -m tests.fleet``: the base, and a fleet to explore by hand."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.fleet.base import base


def main() -> int:
    """Run a command."""
    parser = argparse.ArgumentParser(prog="python -m tests.fleet", description=__doc__)
    default = Path(tempfile.gettempdir(), "fingergw-fleet")
    parser.add_argument("--fleet", type=Path, default=default, metavar="FOLDER", help="another fleet than %(default)s")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("base", help="build the hosts' root file system, if there is none")
    up = commands.add_parser("up", help="start a fleet that stays")
    up.add_argument("count", type=int, nargs="?", default=3)
    up.add_argument("--layers", type=Path, nargs="*", default=[], metavar="FOLDER", help="what was kept, newest first")
    up.add_argument("--hold", action="store_true", help="end it when interrupted")
    commands.add_parser("down", help="end it")
    for name in ("kill", "start", "reboot", "partition", "heal"):
        commands.add_parser(name, help=f"{name} a host").add_argument("name")
    commands.add_parser("keep", help="shut down, and keep what has changed").add_argument("folder", type=Path)
    for name, what in (("sh", "run a command on the controller"), ("play", "run ansible-playbook")):
        commands.add_parser(name, help=what).add_argument("arguments", nargs=argparse.REMAINDER)
    host = commands.add_parser("host", help="run a command on a host")
    host.add_argument("name")
    host.add_argument("arguments", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    if options.command == "base":
        print(base())
        return 0
    if options.command == "up":
        return _hold(options) if options.hold else _up(options)
    return _use(options)


def _up(options: argparse.Namespace) -> int:
    """Start the process that holds a fleet, and wait until it has it."""
    command = [sys.executable, "-m", "tests.fleet", "--fleet", str(options.fleet), "up", "--hold", str(options.count)]
    command += ["--layers", *map(str, options.layers)]
    log = Path(f"{options.fleet}.log")
    with log.open("wb") as errors:
        holder = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, start_new_session=True
        )
    assert holder.stdout is not None
    line = holder.stdout.readline().decode()
    print(line or log.read_text(), end="")
    return 0 if line else holder.wait()


def _hold(options: argparse.Namespace) -> int:
    from tests.fleet.hosts import Fleet, Layers

    waiting = {signal.SIGINT, signal.SIGTERM}
    with Fleet(Layers(tuple(path.absolute() for path in options.layers)), options.count, options.fleet) as fleet:
        signal.pthread_sigmask(signal.SIG_BLOCK, waiting)
        (fleet.folder / "holder").write_text(str(os.getpid()))
        print(json.dumps(fleet.addresses), flush=True)
        signal.sigwait(waiting)
    return 0


def _use(options: argparse.Namespace) -> int:
    """Do something with a fleet that is up."""
    from tests.fleet.hosts import Fleet

    if options.command == "down":
        os.kill(int((options.fleet / "holder").read_text()), signal.SIGTERM)
        while options.fleet.exists():
            time.sleep(0.02)
        return 0
    fleet = Fleet.attach(options.fleet)
    if options.command == "host":
        argv = fleet.ssh_command(options.name, " ".join(options.arguments))
    elif options.command == "sh":
        argv = options.arguments
    elif options.command == "play":
        from tests.fleet.playbook import EXAMPLE, playbook_command, playbook_environment

        argv = playbook_command(fleet, ["-i", str(EXAMPLE), *options.arguments])
        return subprocess.run(argv, env=playbook_environment(fleet)).returncode
    elif options.command == "keep":
        fleet.keep(options.folder.absolute())
        return 0
    else:
        getattr(fleet, options.command)(options.name)
        return 0
    return subprocess.run(fleet.space.command(argv, Path.cwd())).returncode


if __name__ == "__main__":
    sys.exit(main())
