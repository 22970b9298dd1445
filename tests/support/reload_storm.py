"""A gateway that is reloaded again and again while clients ask it."""

from __future__ import annotations

import signal
import threading
from collections import Counter
from functools import partial
from pathlib import Path

from tests.support.processes import process
from tests.support.sockets import finger, free_port
from tests.support.waiting import wait_until


def listener(port: int | str, name: str = "a", more: str = "") -> str:
    """Return a listener's table."""
    return f'[[listeners]]\nname = "{name}"\nendpoint = "tcp:{port}:interface=127.0.0.1"\n{more}\n'


class Load:
    """Clients in threads that ask for as long as they are let, and note what they are told."""

    def __init__(self, port: int, threads: int, queries: int) -> None:
        self.told: Counter[bytes] = Counter()
        self._port, self._each = port, queries // threads
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._ask) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def _ask(self) -> None:
        told: Counter[bytes] = Counter()
        for _ in range(self._each):
            try:
                told[finger(self._port, b"both\r\n")] += 1
            except OSError as error:
                told[type(error).__name__.encode()] += 1
        with self._lock:
            self.told.update(told)

    @property
    def is_over(self) -> bool:
        """Whether all have been answered."""
        return not any(thread.is_alive() for thread in self._threads)

    def join(self) -> None:
        """Wait until all have been answered."""
        for thread in self._threads:
            thread.join()


def answers(port: int, expected: bytes) -> bool:
    """Tell whether a gateway answers so."""
    return finger(port, b"both\r\n") == expected


def storm(folder: Path, *, queries: int, reloads: int) -> tuple[Counter[bytes], int]:
    """Reload a gateway in a process of its own, again and again, while clients ask it.

    Each configuration answers by two backends in two texts of the same number, so that a mixture would show.

    :return: how often each answer was given, and how many reloads there have been.
    """
    port, other = free_port(), (free_port(), free_port())
    path = folder / "fingergw.toml"

    def change(number: int) -> None:
        text = (
            listener(port, "a", "limits = { max_connections_per_client = 1000 }")
            + listener(other[number % 2], "b")
            + '[[routes]]\nuser = "both"\nbackends = ["first", "second"]\n'
            + f'[backends.first]\ntype = "static"\nentries = {{ n{number} = "never" }}\n'
            + f'[backends.second]\ntype = "static"\ntext = "number {number}"\n'
            + '[log]\naccess = "off"\n[cache]\nmax_entries = 1000\n'
        )
        (folder / "new.toml").write_text(text)
        (folder / "new.toml").rename(path)

    change(0)
    done = 0
    with process(["--config", str(path), "--logfile", str(folder / "log")], port=port) as running:
        load = Load(port, threads=8, queries=queries)
        while not load.is_over or done < reloads:
            change(done + 1)
            running.send_signal(signal.SIGHUP)
            wait_until(partial(answers, port, f"number {done + 1}\r\n".encode()), "the new configuration")
            done += 1
        load.join()
        running.terminate()
        assert running.wait(20) == 0
    return load.told, done
