"""``fingergw`` in a process that pauses at a chosen point, so that what happens there needs no luck."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.support.processes import COMMAND, ROOT
from tests.support.waiting import wait_until

# Python calls the hook before it imports a module, binds a socket, forks and so on (PEP 578). Meanwhile it handles
# signals. A forked process pauses by itself.
_SITE = """
import os, sys, time

def pause(event, values, point=os.environ["PAUSE_AT"], folder=os.environ["PAUSE_FOLDER"]):
    points = [event, *(f"{event} {values[index]}" for index in (0, -1) if values)]
    if point in points and not os.path.exists(folder + "/go"):
        with open(folder + "/paused", "w") as file:
            file.write(str(os.getpid()))
        os.rename(folder + "/paused", folder + "/pid")
        while not os.path.exists(folder + "/go"):
            time.sleep(0.01)

sys.addaudithook(pause)
"""


class Paused:
    """A process that pauses.

    :param running: what was started.
    :param pid: the process that pauses, which may be a child of it.
    """

    def __init__(self, running: subprocess.Popen[str], folder: Path) -> None:
        self.running, self._folder = running, folder

    @property
    def pid(self) -> int:
        return int((self._folder / "pid").read_text())

    def go_on(self) -> None:
        """Let it go on."""
        (self._folder / "go").touch()


@contextlib.contextmanager
def paused(point: str, arguments: Sequence[str], folder: Path, command: Sequence[str] = COMMAND) -> Iterator[Paused]:
    """Run ``fingergw`` until it comes to a point; at the end kill what was started.

    :param point: such as ``os.fork``, or with the event's first or last argument ``import fingergw.app.build``.
    :param folder: where the process runs, and what it needs for pausing is put.
    """
    site = folder / "pausing"
    site.mkdir()
    (site / "sitecustomize.py").write_text(_SITE)
    running = subprocess.Popen(
        [*command, *arguments],
        cwd=folder,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": f"{site}:{ROOT}", "PAUSE_AT": point, "PAUSE_FOLDER": str(site)},
    )
    try:
        reached = (site / "pid").exists
        wait_until(lambda: reached() or running.poll() is not None, f"the point: {point}")
        assert reached(), running.communicate()
        yield Paused(running, site)
    finally:
        if running.poll() is None:
            running.kill()
        running.communicate()
