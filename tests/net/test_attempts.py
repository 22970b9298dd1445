"""One address of a host after another is tried, and the first that connects is the only one that counts."""

from __future__ import annotations

from errno import EADDRNOTAVAIL, ECONNREFUSED, EHOSTUNREACH, ENETUNREACH
from itertools import permutations
from socket import AF_INET, AF_INET6
from typing import Any
from unittest.mock import Mock

import pytest
from attrs import define, field
from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.error import (
    ConnectBindError,
    ConnectError,
    ConnectionRefusedError,  # noqa: A004  # Twisted's own
    NoRouteError,
    TimeoutError,  # noqa: A004  # likewise
)
from twisted.internet.interfaces import IProtocol, IProtocolFactory
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock

from fingergw.net.attempts import DELAY_SECONDS, Address, connect_to_first, in_turns

PEER = IPv4Address("TCP", "192.0.2.1", 79)


def addresses(text: str) -> list[Address]:
    """Return addresses, written with a space between them; what has a colon is IPv6."""
    return [(AF_INET6 if ":" in each else AF_INET, each) for each in text.split()]


@pytest.mark.parametrize(
    ("system", "preferred", "order"),
    [
        ("::1 ::2 ::3 1.1 2.2", "", "::1 1.1 ::2 2.2 ::3"),
        ("1.1 2.2 ::1", "", "1.1 ::1 2.2"),
        ("1.1 2.2", "", "1.1 2.2"),
        ("::1 ::2 1.1 2.2", "2.2", "2.2 ::1 1.1 ::2"),
        ("::1 ::2 1.1", "::2", "::2 1.1 ::1"),
        ("::1 1.1", "9.9", "::1 1.1"),
        ("::1 ::1 1.1 ::1", "::1", "::1 1.1"),
        ("", "9.9", ""),
    ],
)
def test_order(system: str, preferred: str, order: str) -> None:
    """Families take turns in the system's order; what is preferred goes before, if it is there; each is tried once."""
    assert in_turns(addresses(system), next(iter(addresses(preferred)), None)) == addresses(order)


@define(eq=False)
class Scripted:
    """Attempts that do what a test tells them.

    :param ended: the numbers of those that were cancelled, in order.
    """

    clock: Clock = field(factory=Clock)
    begun: list[Deferred[IProtocol]] = field(factory=list)
    ended: list[int] = field(factory=list)
    factories: list[IProtocolFactory] = field(factory=list)

    def connect(self, count: int, factory: IProtocolFactory | None = None) -> Deferred[Any]:
        """Connect to the first of so many addresses."""
        return connect_to_first(self.clock, [self._begin] * count, factory or Factory.forProtocol(Protocol))

    def _begin(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        number = len(self.begun)
        self.begun.append(Deferred(lambda _: self.ended.append(number)))
        self.factories.append(factory)
        return self.begun[-1]

    def refuse(self, number: int) -> None:
        """Fail an attempt, and let the reactor turn once."""
        self.begun[number].errback(ConnectionRefusedError())
        self.clock.advance(0)


def results(connecting: Deferred[Any]) -> list[Any]:
    """Return a list in which the result will be, or the error."""
    got: list[Any] = []
    connecting.addCallbacks(got.append, lambda failure: got.append(failure.value))
    return got


def test_failed() -> None:
    """After a failure the next attempt begins at once, and the one after that has to wait for its full delay."""
    scripted = Scripted()
    scripted.connect(3)
    scripted.clock.advance(DELAY_SECONDS * 0.9)
    scripted.refuse(0)
    assert len(scripted.begun) == 2
    scripted.clock.advance(DELAY_SECONDS * 0.9)
    assert len(scripted.begun) == 2
    scripted.clock.advance(DELAY_SECONDS * 0.2)
    assert len(scripted.begun) == 3


def test_silent() -> None:
    """Beside an attempt that stays silent another begins after the delay, and the first may still win."""
    scripted, winner = Scripted(), Protocol()
    got = results(scripted.connect(3))
    scripted.clock.advance(DELAY_SECONDS * 0.9)
    assert len(scripted.begun) == 1
    scripted.clock.advance(DELAY_SECONDS * 0.2)
    assert (len(scripted.begun), scripted.ended) == (2, [])
    scripted.begun[0].callback(winner)
    assert got == [winner]


def test_earlier_failed() -> None:
    """The failure of an attempt that is not the latest lets the next begin at once as well."""
    scripted = Scripted()
    scripted.connect(3)
    scripted.clock.advance(DELAY_SECONDS)
    scripted.refuse(0)
    assert len(scripted.begun) == 3


def test_won() -> None:
    """When one has connected the others end, and none begins any more."""
    scripted = Scripted()
    got = results(scripted.connect(4))
    scripted.clock.pump([DELAY_SECONDS] * 2)
    scripted.begun[1].callback(Protocol())
    assert (len(got), scripted.ended, scripted.clock.getDelayedCalls()) == (1, [0, 2], [])


def test_cancelled() -> None:
    """Who cancels is let go at once; all attempts end, and none begins any more."""
    scripted = Scripted()
    connecting = scripted.connect(4)
    got = results(connecting)
    scripted.clock.advance(DELAY_SECONDS)
    connecting.cancel()
    assert [type(error) for error in got] == [CancelledError]
    assert (scripted.ended, scripted.clock.getDelayedCalls()) == ([0, 1], [])


def test_cancelled_between() -> None:
    """Who cancels after a failure, before the next attempt has begun, sees none begin."""
    scripted = Scripted()
    connecting = scripted.connect(2)
    got = results(connecting)
    scripted.begun[0].errback(ConnectionRefusedError())
    connecting.cancel()
    scripted.clock.advance(1)
    assert ([type(error) for error in got], len(scripted.begun)) == ([CancelledError], 1)


REFUSED = ConnectionRefusedError(ECONNREFUSED)
SILENT = TimeoutError()
UNREACHABLE = ConnectError(EHOSTUNREACH)
NO_ROUTE = NoRouteError(ENETUNREACH)
CANNOT_BIND = ConnectBindError(EADDRNOTAVAIL)


@pytest.mark.parametrize(
    ("errors", "most_telling"),
    [
        ((REFUSED, SILENT, NO_ROUTE), REFUSED),
        ((REFUSED, UNREACHABLE, CANNOT_BIND), REFUSED),
        ((SILENT, NO_ROUTE, CANNOT_BIND), SILENT),
        ((UNREACHABLE, NO_ROUTE), UNREACHABLE),
        ((NO_ROUTE,), NO_ROUTE),
    ],
)
def test_all_failed(errors: tuple[ConnectError, ...], most_telling: ConnectError) -> None:
    """When all have failed, whatever the order, the error is the one that tells most."""
    for order in permutations(errors):
        scripted = Scripted()
        got = results(scripted.connect(len(order)))
        for number, error in enumerate(order):
            assert got == []
            scripted.begun[number].errback(error)
            scripted.clock.advance(0)
        assert got == [most_telling]


def test_first_of_equals() -> None:
    """Of errors that tell as much, it is that of the first address."""
    scripted = Scripted()
    got = results(scripted.connect(2))
    for number, host in enumerate(("one", "other")):
        scripted.begun[number].errback(ConnectionRefusedError(string=host))
        scripted.clock.advance(0)
    assert [error.args for error in got] == [("one",)]


def test_waits_for_all() -> None:
    """A failure of the last address does not decide while an earlier one may still connect."""
    scripted, winner = Scripted(), Protocol()
    got = results(scripted.connect(2))
    scripted.clock.advance(DELAY_SECONDS)
    scripted.refuse(1)
    assert got == []
    scripted.begun[0].callback(winner)
    assert got == [winner]


def test_many_that_fail_at_once() -> None:
    """However many attempts fail as soon as they begin, their failures do not pile up on the stack."""
    clock = Clock()
    attempts = [lambda _: fail(ConnectionRefusedError())] * 10_000
    got = results(connect_to_first(clock, attempts, Factory.forProtocol(Protocol)))
    clock.pump([0] * len(attempts))
    assert [type(error) for error in got] == [ConnectionRefusedError]


def test_one_protocol() -> None:
    """The caller's only protocol goes to the first connection; a second one, made at the same time, is closed."""
    scripted, only = Scripted(), Protocol()
    scripted.connect(2, Factory.forProtocol(lambda: only))
    scripted.clock.advance(DELAY_SECONDS)
    assert [factory.buildProtocol(PEER) for factory in scripted.factories] == [only, None]


def test_no_protocol() -> None:
    """Where the caller's factory has refused one connection, it is asked about the next."""
    scripted, only = Scripted(), Protocol()
    scripted.connect(2, Mock(buildProtocol=Mock(side_effect=[None, only])))
    scripted.clock.advance(DELAY_SECONDS)
    assert [factory.buildProtocol(PEER) for factory in scripted.factories] == [None, only]


def test_connected_too_late() -> None:
    """A connection that is made although its attempt was cancelled is closed."""
    scripted = Scripted()
    connecting = scripted.connect(1)
    results(connecting)
    connecting.cancel()
    assert scripted.factories[0].buildProtocol(PEER) is None
