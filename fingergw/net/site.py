"""What a backend is given of the gateway that it is opened in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, TypeAlias

from attrs import define, field
from twisted.internet.interfaces import ITransport

from fingergw.core.query import Query, fold_case
from fingergw.net.resolving import Resolver
from fingergw.net.trust import system_trust
from fingergw.net.watched import Watched
from fingergw.net.workers.conversions import Conversion

Convert: TypeAlias = Callable[[Conversion, bytes], Awaitable[str]]
"""Make a text of a body in another process; raises :class:`~fingergw.net.workers.pool.ConversionError`."""
Keywords: TypeAlias = Callable[[Query], Iterable[tuple[str, str]]]
"""Return what the listener and client of a query can ask for: pairs of keyword and summary."""


@define(eq=False)
class Site:
    """Where a backend is opened. What it has or returns is asked for in ``open``, and kept.

    :param name: the backend's.
    :param reactor: for timers, connections and processes.
    :param resolver: finds the addresses of hosts, within a time and without holding anybody up.
    :param timeout: seconds that an answer may take; None for a type that waits for nobody.
    :param is_self: tells of a connection whether this gateway is at its other end.
    """

    name: str
    reactor: Any
    resolver: Resolver
    timeout: float | None
    is_self: Callable[[ITransport], bool]
    _files: Mapping[str, Watched[Any]]
    _programs: Mapping[str, str]
    _given: Mapping[str, object]
    _keywords: Keywords
    _convert: Convert
    used: dict[str, object] = field(init=False, factory=dict)
    """What the backend depends on beside its table: it is opened anew when a reload changes that."""
    converts: bool = field(init=False, default=False)
    """Whether it has bodies converted."""

    def file(self, key: str) -> Watched[Any]:
        """Return the file that a key of the table names.

        Its ``current()`` is the secret in a SecretFile; of a WatchedFile the text, or what that holds; of an
        AuthoritiesFile what :meth:`trust` wants. It follows the file: ask for it at each query.

        :raises KeyError: the key names none.
        """
        return self._files[key]

    def trust(self, key: str = "") -> Callable[[], Any]:
        """Return what tells whom to trust for TLS at each connection.

        :param key: an AuthoritiesFile; the system's authorities where the table does not have it.
        """
        return self._files[key].current if key in self._files else system_trust

    def program(self, key: str) -> str:
        """Return the absolute path of the program that a ProgramPath or Argv names.

        :raises KeyError: the key names none.
        """
        return self._programs[key]

    @property
    def fold(self) -> Callable[[str], str]:
        """What makes of a name the one that queries have: in lower case, unless case counts."""
        self.used["case_sensitive"] = self._given["case_sensitive"]
        return str if self._given["case_sensitive"] else fold_case

    def keywords(self) -> Keywords:
        """Return what tells which keywords a query's client can ask for at its listener, with their summaries."""
        self.used["routes"] = self._given["routes"]
        return self._keywords

    def converter(self) -> Convert:
        """Return what makes a text of bytes from elsewhere, where that can take any time and memory."""
        self.converts = True
        return self._convert
