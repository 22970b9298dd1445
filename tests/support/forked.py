"""``fingergw`` commands in forked processes, which need not import anything: for tests of all but the start."""

from __future__ import annotations

import multiprocessing
import os
import pkgutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from fingergw import backends, cli
from tests.support import on_twisted

# What forks has neither threads nor a reactor, and nothing that a test has imported or patched.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    ["fingergw.app.build", "fingergw.app.daemon", "fingergw.app.reload"]
    + [f"{room.__name__}.{name}" for room in (backends, cli) for _, name, _ in pkgutil.iter_modules(room.__path__)]
)


def _command(
    arguments: Sequence[str],
    cwd: str,
    env: dict[str, str],
    outputs: tuple[str, str],
    packages: str | None,
    is_left_to_twisted: bool,
) -> None:
    """Be ``fingergw`` in this process."""
    for number, path in enumerate(outputs, 1):
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = ["fingergw", *arguments]
    if packages is not None:
        sys.path.append(packages)
    if is_left_to_twisted:
        on_twisted.leaving_to_twisted().patch()
    from fingergw.cli import main

    sys.exit(main(list(arguments)))


class Forked:
    """A forked ``fingergw``, with the part of the ``subprocess.Popen[str]`` interface that tests need.

    :param arguments: of the command.
    :param cwd: its folder.
    :param log: the file that all it prints is added to.
    :param packages: a folder of packages that are as if they were installed.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        cwd: Path | None = None,
        log: Path | None = None,
        packages: Path | None = None,
    ) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._outputs = (log, log) if log else tuple(Path(self._folder.name, name) for name in ("out", "err"))
        for output in self._outputs:
            output.touch()
        names = tuple(map(str, self._outputs))
        self._process = _CONTEXT.Process(
            target=_command,
            args=(
                arguments,
                str(cwd or Path.cwd()),
                {**os.environ},
                names,
                packages and str(packages),
                on_twisted.is_left_to_twisted(),
            ),
        )
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid
        self._ended: int | None = None

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode if self._ended is None else self._ended

    def poll(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):  # it has just ended
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            assert timeout is not None
            raise subprocess.TimeoutExpired("fingergw", timeout)
        return self._process.exitcode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        self.wait(timeout)
        out, err = (output.read_text() for output in self._outputs)
        return out, err

    def forget(self) -> None:
        """Kill it, and remove its files."""
        self.kill()
        self._ended = self.wait()
        self._process.close()
        self._folder.cleanup()
