"""What a type of backend can use of the gateway that its backend is opened in.

It stands in ``net`` because that is the lowest room that knows ``Resolver`` and ``Watched``; authors import it from
:mod:`fingergw.api`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, TypeAlias, TypeVar

from attrs import define, field
from twisted.internet.interfaces import ITransport

from fingergw.core.query import Query, fold_function
from fingergw.net.resolving import Resolver
from fingergw.net.trust import system_trust
from fingergw.net.watched import Watched
from fingergw.net.workers.conversions import Conversion

T = TypeVar("T")
Convert: TypeAlias = Callable[[Conversion, bytes], Awaitable[str]]
"""Convert a body to text in another process; raises :class:`~fingergw.net.workers.pool.ConversionError`."""
Keywords: TypeAlias = Callable[[Query], Iterable[tuple[str, str]]]
"""Return the keywords that a query's client can ask for at its listener, each with its summary."""


@define(eq=False, repr=False)
class Site:
    """What ``open`` may use. Take what the backend needs there, and keep it.

    :param name: the backend's name.
    :param reactor: for timers, connections and processes.
    :param resolver: looks up hosts without blocking.
    :param timeout: seconds that an answer may take; None for a type that does not wait.
    :param is_self: tells whether this gateway is at the other end of a connection.
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
    """What the backend depends on outside of its table: a reload that changes any of it opens the backend again.
    It is read by the gateway; not for backends."""
    converts: bool = field(init=False, default=False)
    """Whether the backend converts bodies. It is read by the gateway; not for backends."""

    def file(self, key: str, make: Callable[[Any], Any] | None = None) -> Watched[Any]:
        """Return the file that a key of the table names.

        Call its ``current()`` at each query, as the file may change. It returns the secret of a SecretFile, the text of
        a WatchedFile or the value that its ``holds`` describes, and the trust root of an AuthoritiesFile.

        :param make: makes what ``current()`` is to return of that. It is called wherever the file is read, and that may
            be another thread.
        :raises LookupError: the table has no file at that key; the message lists the keys that have one.
        """
        found: Watched[Any] = _named(self._files, key, "file")
        if make is not None:
            found.make(make)
        return found

    def files(self, key: str) -> dict[str, Watched[Any]]:
        """Return the files in a table of secrets, a ``dict[str, SecretFile]``, by their names there."""
        return {named[len(key) + 1 :]: file for named, file in self._files.items() if named.startswith(f"{key}.")}

    def trust(self, key: str = "") -> Callable[[], Any]:
        """Return a function that returns whom to trust for TLS; call it for each connection.

        :param key: of an AuthoritiesFile; without one in the table it is the system's authorities.
        """
        return self._files[key].current if key in self._files else system_trust

    def program(self, key: str) -> str:
        """Return the absolute path of the program that a ProgramPath or Argv names.

        :raises LookupError: the table has no program at that key; the message lists the keys that have one.
        """
        return _named(self._programs, key, "program")

    @property
    def fold(self) -> Callable[[str], str]:
        """A function that brings a name to the form that names in queries have."""
        self.used["case_sensitive"] = self._given["case_sensitive"]
        return fold_function(case_sensitive=bool(self._given["case_sensitive"]))

    def keywords(self) -> Keywords:
        """Return a function that lists the keywords that a query's client can ask for at its listener."""
        self.used["routes"] = self._given["routes"]
        return self._keywords

    def converter(self) -> Convert:
        """Return a function that converts bytes from elsewhere to text, within limits of time and memory."""
        self.converts = True
        return self._convert


def _named(found: Mapping[str, T], key: str, what: str) -> T:
    if key not in found:
        keys = ", ".join(sorted(found)) or "none"
        raise LookupError(f'no {what} at the key "{key}"; keys of this table with a {what}: {keys}')
    return found[key]
