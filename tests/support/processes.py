"""``fingergw`` in a process of its own: run to its end, or until a test is over."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.support import on_twisted
from tests.support.forked import Forked
from tests.support.sockets import serves
from tests.support.waiting import wait_until

ROOT = Path(__file__).parent.parent.parent
COMMAND = [sys.executable, "-m", "fingergw"]


def command_of_gateway() -> list[str]:
    """Return what starts a gateway whose TCP connections have the transport that a test is run over."""
    return [*COMMAND[:-1], "tests.support.on_twisted"] if on_twisted.is_left_to_twisted() else COMMAND


@contextlib.contextmanager
def process(
    arguments: Sequence[str],
    *,
    port: int | None = None,
    cwd: Path | None = None,
    command: Sequence[str] | None = None,
    **options: Any,
) -> Iterator[subprocess.Popen[str]]:
    """Run ``fingergw`` in a process of its own, wait until it serves on the port, and end it."""
    running = subprocess.Popen(
        [*(command or command_of_gateway()), *arguments],
        cwd=cwd,
        text=True,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        **{"stdout": subprocess.PIPE, **options},
    )
    try:
        _wait_until_it_serves(running, port)
        yield running
    finally:
        if running.poll() is None:
            running.kill()
        running.communicate()


def _wait_until_it_serves(running: subprocess.Popen[str] | Forked, port: int | None) -> None:
    if port is not None:
        wait_until(lambda: serves(port) or running.poll() is not None, f"a listener on port {port}")
        if running.poll() is not None:
            raise AssertionError(f"it ended: {running.communicate()}")


@contextlib.contextmanager
def forked(
    arguments: Sequence[str], *, port: int | None = None, cwd: Path | None = None, packages: Path | None = None
) -> Iterator[Forked]:
    """Do as ``process``, but fork: for tests of anything but the start."""
    running = Forked(arguments, cwd, packages=packages)
    try:
        _wait_until_it_serves(running, port)
        yield running
    finally:
        running.forget()


def run(
    arguments: Sequence[str],
    *,
    cwd: Path | None = None,
    command: Sequence[str] | None = None,
    packages: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a ``fingergw`` command to its end.

    :param command: what to start for it, such as ``COMMAND``; without, it is forked, with all imported before.
    :param packages: a folder of packages that are as if they were installed; of what is forked alone.
    """
    if command is None:
        with forked(arguments, cwd=cwd, packages=packages) as running:
            out, err = running.communicate(timeout=60)
            assert running.returncode is not None
            return subprocess.CompletedProcess(arguments, running.returncode, out, err)
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [*command, *arguments], text=True, capture_output=True, check=False, timeout=60, env=env, cwd=cwd
    )
