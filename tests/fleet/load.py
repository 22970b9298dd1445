"""Queries asked again and again over real sockets, from a process of their own, with each answer compared."""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any, Self

import attrs

from tests.fleet.companion import Companion, serve
from tests.fleet.hosts import Fleet

DEADLINE_SECONDS = 30.0
ASK_SECONDS = 15.0


@attrs.frozen
class Lost:
    """A query without its answer.

    :param at: when it was asked, in seconds since 1970.
    :param seconds: how long it took.
    :param got: what came instead.
    """

    target: str
    query: str
    at: float
    seconds: float
    got: str


@attrs.frozen
class Result:
    """What became of the queries.

    :param answered: how many were answered as expected, by target, query and answer.
    :param lost: all others.
    :param longest: how long the slowest answer took, in seconds, by target and query.
    """

    answered: dict[tuple[str, str, str], int]
    lost: list[Lost]
    longest: dict[tuple[str, str], float]

    def count(self, target: str = "", query: str = "", answer: str = "") -> int:
        """Return how many were answered as expected, of one target, one query or with one answer, if it is given."""
        wanted = (target, query, answer)
        return sum(
            count
            for key, count in self.answered.items()
            if all(not want or want == part for want, part in zip(wanted, key, strict=True))
        )


class Load(Companion):
    """Queries that go on until they are stopped.

    :param fleet: whom to ask.
    :param asks: by target (``host`` or ``host:port``) and query, the answer's text without its last line's end, or
        the several that are right.
    :param threads: how many ask at the same time, by query; those that are missing are asked by two for each target.
    :param pause: how long each waits between an answer and its next query, in seconds.
    """

    def __init__(
        self,
        fleet: Fleet,
        asks: Mapping[str, Mapping[str, str | tuple[str, ...]]],
        *,
        threads: Mapping[str, int] | None = None,
        pause: float = 0.1,
    ) -> None:
        every = [(target, query, answer) for target, answers in asks.items() for query, answer in answers.items()]
        self._asked = [(target, query) for target, query, _ in every]
        jobs = [
            [target, query, [answer] if isinstance(answer, str) else answer]
            for target, query, answer in every
            for _ in range((threads or {}).get(query, 2))
        ]
        super().__init__(fleet, "tests.fleet.load", {"jobs": jobs, "pause": pause})

    def so_far(self) -> Result:
        """Return the results so far."""
        return _result(self.request("count"))

    def stop(self) -> Result:
        """Stop querying, wait for outstanding answers, and return all results."""
        return _result(self.request("stop"))

    def wait_for_answers(self, *targets: str, times: int = 3) -> Self:
        """Wait until each query has been answered as expected some times more.

        :param targets: whose answers; all, if there are none.
        :raises AssertionError: if the deadline passes.
        """
        pairs = [(target, query) for target, query in self._asked if not targets or target in targets]
        before = self.so_far()
        ends = time.monotonic() + DEADLINE_SECONDS
        while True:
            now = self.so_far()
            late = [pair for pair in pairs if now.count(*pair) < before.count(*pair) + times]
            if not late:
                return self
            assert time.monotonic() < ends, f"no answers in {DEADLINE_SECONDS:g} s: {late}; lost: {now.lost[-5:]}"
            time.sleep(0.05)


def _result(said: Any) -> Result:
    return Result(
        {(target, query, answer): count for target, query, answer, count in said["answered"]},
        [Lost(**each) for each in said["lost"]],
        {(target, query): seconds for target, query, seconds in said["longest"]},
    )


class _Asking:
    """The process's side: threads that ask."""

    def __init__(self, jobs: list[tuple[str, str, list[str]]], pause: float) -> None:
        self._pause = pause
        self._lock = threading.Lock()
        self._answered: Counter[tuple[str, str, str]] = Counter()
        self._lost: list[dict[str, object]] = []
        self._longest: dict[tuple[str, str], float] = {}
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._ask_on, args=job, daemon=True) for job in jobs]
        for thread in self._threads:
            thread.start()

    def answer(self, request: str) -> object:
        if request == "stop":
            self._stopped.set()
            for thread in self._threads:
                thread.join()
        with self._lock:
            return {
                "answered": [[*key, count] for key, count in self._answered.items()],
                "lost": list(self._lost),
                "longest": [[*key, seconds] for key, seconds in self._longest.items()],
            }

    def _ask_on(self, target: str, query: str, right: list[str]) -> None:
        while not self._stopped.is_set():
            at, began = time.time(), time.monotonic()
            try:
                got: str | None = _ask(target, query)
                trouble = repr(got)
            except (OSError, UnicodeDecodeError) as error:
                got, trouble = None, repr(error)
            seconds = time.monotonic() - began
            with self._lock:
                if got is not None and got in [text.replace("\n", "\r\n") + "\r\n" for text in right]:
                    self._answered[target, query, got[:-2].replace("\r\n", "\n")] += 1
                    self._longest[target, query] = max(seconds, self._longest.get((target, query), 0.0))
                else:
                    lost = {"target": target, "query": query, "at": at, "seconds": seconds, "got": trouble}
                    self._lost.append(lost)
            self._stopped.wait(self._pause)


def _ask(target: str, query: str) -> str:
    host, _, port = target.partition(":")
    with socket.create_connection((host, int(port or 79)), timeout=ASK_SECONDS) as connection:
        connection.sendall(query.encode() + b"\r\n")
        answer = b""
        while data := connection.recv(65536):
            answer += data
    return answer.decode()


if __name__ == "__main__":
    serve(_Asking(**json.loads(sys.argv[1])).answer)
