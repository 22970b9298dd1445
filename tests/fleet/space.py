"""The private namespaces of a fleet: processes, mounts and network, ended as one."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Self

ROOT = Path(__file__).parent.parent.parent


class Space:
    """Private namespaces, with a bridge whose address 10.79.0.1 is the controller's.

    All in it ends when it is closed, and when the process that opened it ends, however that is.

    :param pid: the process that holds it, to enter it.
    :param cgroup: the control group that its hosts' are in.
    """

    def __init__(self, pid: int, cgroup: str, holder: subprocess.Popen[bytes] | None = None) -> None:
        self.pid = pid
        self.cgroup = cgroup
        self._holder = holder

    @classmethod
    def open(cls, log: Path) -> Self:
        """Make one.

        :param log: the file for what goes wrong.
        :raises RuntimeError: if the machine does not let us.
        """
        cgroup = f"fingergw-{uuid.uuid4().hex[:12]}"
        command = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child=SIGKILL", "--mount-proc"]
        command += [sys.executable, "-m", "tests.fleet.anchor", "hold", cgroup]
        with log.open("wb") as errors:
            holder = subprocess.Popen(
                command,
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,  # what interrupts the tests does not interrupt the end
            )
        space = cls(holder.pid, cgroup, holder)
        assert holder.stdout is not None
        if holder.stdout.readline() != b"ready\n":
            space.close()
            raise RuntimeError(f"no namespaces for hosts: {log.read_text()}")
        return space

    def close(self) -> None:
        """End all that is in it."""
        assert self._holder is not None, "only who opened it can close it"
        self._holder.communicate()

    def command(self, argv: Sequence[str], folder: Path = ROOT) -> list[str]:
        """Return the command line that runs a command inside.

        :param folder: the folder to run it in.
        """
        entering = ["nsenter", f"--target={self.pid}", "--mount", "--net", f"--wd={folder}"]
        return [*entering, f"--pid=/proc/{self.pid}/ns/pid_for_children", "--", *argv]

    def run(
        self,
        argv: Sequence[str],
        *,
        check: bool = True,
        timeout: float = 60,
        text: str | None = None,
        folder: Path = ROOT,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside, to its end.

        :param timeout: how long it may take, in seconds.
        :param text: what it reads.
        :param env: what to add to the environment.
        :raises AssertionError: if it fails and ``check`` is true; the message has what it printed.
        """
        done = subprocess.run(
            self.command(argv, folder),
            input=text or "",
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            env={**os.environ, **(env or {})},
        )
        if check and done.returncode:
            raise AssertionError(f"{' '.join(argv)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done

    def start(
        self,
        argv: Sequence[str],
        *,
        output: int | IO[bytes] = subprocess.PIPE,
        errors: int | IO[bytes] | None = None,
        folder: Path = ROOT,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a command inside, with a pipe to write to it.

        :param output: where what it prints goes.
        :param errors: where its errors go.
        :param env: what to add to the environment.
        """
        return subprocess.Popen(
            self.command(argv, folder),
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=errors,
            start_new_session=True,
            env={**os.environ, **(env or {})},
        )
