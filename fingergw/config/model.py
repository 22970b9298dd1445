"""The whole configuration, and the file that it was read from."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from attrs import field, frozen

from fingergw.config.mistaken import MistakenKeys
from fingergw.config.tables import (
    Admin,
    Answers,
    Cache,
    Forwarding,
    Listener,
    Log,
    Process,
    Route,
)
from fingergw.core.breaker import OptionalBreaker
from fingergw.core.outcome import BackendCache
from fingergw.core.rules import Limits
from fingergw.core.settings import setting, settings


@frozen
class Backend:
    """Where answers come from.

    :param type: the name of its type.
    :param settings: the values of the type's own keys, as an instance of its class.
    :param cache: how long answers are kept; None for not at all.
    :param timeout: seconds that an answer may take; None for a type that waits for nobody.
    :param max_running: how many answers it works on at the same time; likewise.
    :param breaker: when it is not asked for a while; False for a type that waits for nobody.
    """

    type: str
    settings: Any
    cache: BackendCache | None = None
    timeout: float | None = None
    max_running: int | None = None
    breaker: OptionalBreaker = False


@frozen
class Source:
    """The file of a configuration, so that a mistake that is found later can still be reported with its line.

    :param path: the path as the operator gave it.
    :param base: the folder that relative paths are relative to.
    :param text: the text of the file.
    :param listeners: for each listener its position in the file. They differ from its position in the configuration
        where that is without a listener that has mistakes.
    :param mistaken: the keys of the file that have mistakes.
    """

    path: Path
    base: Path
    text: str = field(repr=False)
    listeners: tuple[int, ...] = field(default=(), repr=False)
    mistaken: MistakenKeys = field(default=MistakenKeys(), repr=False)


@settings
class Config:
    """The configuration of fingergw, a finger (RFC 1288) gateway. Durations are in seconds, sizes in bytes, and
    relative paths are relative to this file.

    :param source: the file that it was read from; None if it was made in Python.
    """  # noqa: D205  # the first paragraph is what an editor shows of the file

    listeners: tuple[Listener, ...] = setting("Where to listen; at least one is required.", nonempty=True)
    routes: tuple[Route, ...] = setting(
        "Which queries go where. They are tried in this order, and the first that matches wins.", default=()
    )
    backends: dict[str, Backend] = setting("Where answers come from, by the names that routes use.", default={})
    cache: Cache = setting(default=Cache())
    limits: Limits = setting("What clients may use, on each listener by itself.", default=Limits())
    forwarding: Forwarding = setting(default=Forwarding())
    answers: Answers = setting(default=Answers())
    process: Process = setting(default=Process())
    log: Log = setting(default=Log())
    admin: Admin = setting(default=Admin())
    source: Source | None = field(default=None, eq=False, repr=False)

    def numbered_listeners(self) -> Iterable[tuple[int, Listener]]:
        """Return the listeners with their positions in the file, which are of no use after a change in Python."""
        places = self.source.listeners if self.source else ()
        return zip(
            places if len(places) == len(self.listeners) else range(len(self.listeners)), self.listeners, strict=True
        )
