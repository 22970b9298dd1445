"""A process inside a fleet's namespaces that answers requests: a line of JSON each way."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any, Self

from tests.fleet.hosts import Fleet


class Companion:
    """The test's side.

    :param fleet: whose controller the process runs on.
    :param module: what to run; it calls :func:`serve`.
    :param argument: what it is told at its start.
    """

    def __init__(self, fleet: Fleet, module: str, argument: object) -> None:
        self._process = fleet.space.start([sys.executable, "-m", module, json.dumps(argument)])
        self._read()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def request(self, request: object) -> Any:
        """Return the answer to a request."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        return self._read()

    def close(self) -> None:
        """Have the process end."""
        self._process.communicate()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self.close()
            raise AssertionError("the process has ended; see what it printed")
        return json.loads(line)


def serve(answer: Callable[[Any], object]) -> None:
    """Say that the process is ready, and answer requests until there are no more: the process's side."""
    print("null", flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)
