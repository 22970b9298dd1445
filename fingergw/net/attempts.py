"""Connect to whichever of a host's addresses answers first (RFC 8305)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import zip_longest
from typing import Final, TypeAlias

from attrs import define, field
from twisted.internet import error
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IDelayedCall, IProtocol, IProtocolFactory, IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

DELAY_SECONDS: Final = 0.25
"""How long one attempt is waited for before another begins beside it (RFC 8305 §5)."""

Address: TypeAlias = tuple[int, str]
"""Its family, and the address itself; a link-local one with its scope."""

Attempt: TypeAlias = Callable[[IProtocolFactory], Deferred[IProtocol]]
"""Begins an attempt to connect to one address; cancelling what it returns ends the attempt."""


def in_turns(addresses: Sequence[Address], preferred: Address | None = None) -> list[Address]:
    """Return addresses in the order to try them in, each once; their families take turns (RFC 8305 §4).

    :param addresses: in the system's order.
    :param preferred: the first to try, if it is one of them.
    """
    families: dict[int, list[Address]] = {}
    for address in sorted(dict.fromkeys(addresses), key=lambda each: each != preferred):
        families.setdefault(address[0], []).append(address)
    return [address for turn in zip_longest(*families.values()) for address in turn if address is not None]


def connect_to_first(
    clock: IReactorTime, attempts: Iterable[Attempt], factory: IProtocolFactory
) -> Deferred[IProtocol]:
    """Try to connect to one address after another, until one is connected.

    The next attempt begins as soon as one fails, or after a short delay; earlier ones go on meanwhile. The first that
    connects ends all others.

    :param attempts: one for each address, in the order to try them in; at least one.
    :param factory: asked for a protocol until it has made one: it may have only one to give.
    :return: fires with the protocol when it is connected. If all attempts fail, it fails with the error of the one that
        says most. Cancelling it ends all attempts at once.
    """
    running = _Attempts(clock, factory, deque(attempts))
    running.begin_next()
    return running.connected


@implementer(IProtocolFactory)
@define(eq=False, repr=False)
class _Attempts:
    """Attempts to connect, and the factory that stands between them and the caller's."""

    clock: IReactorTime
    factory: IProtocolFactory
    left: deque[Attempt]
    connected: Deferred[IProtocol] = field(init=False)
    _begun: list[Deferred[IProtocol]] = field(init=False, factory=list)
    _failures: list[Failure] = field(init=False, factory=list)
    _timer: IDelayedCall | None = field(init=False, default=None)  # of the next attempt; None if none is left
    _has_built: bool = field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        self.connected = Deferred(lambda _: self._end())

    def begin_next(self) -> None:
        attempt = self.left.popleft()(self)
        self._begun.append(attempt)
        self._timer = self.clock.callLater(DELAY_SECONDS, self.begin_next) if self.left else None
        attempt.addCallbacks(self._won, self._failed, errbackArgs=(attempt,))

    def _won(self, protocol: IProtocol) -> None:
        self._end()
        self.connected.callback(protocol)

    def _failed(self, failure: Failure, attempt: Deferred[IProtocol]) -> None:
        if attempt not in self._begun:
            return  # it was ended
        self._begun.remove(attempt)
        self._failures.append(failure)
        if self._timer is not None:
            self._timer.reset(0)  # in another turn of the reactor, as a thousand that fail at once would recurse
        elif not self._begun:
            self.connected.errback(min(self._failures, key=_rank))

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        ended, self._begun = self._begun, []
        for attempt in ended:
            attempt.cancel()

    def doStart(self) -> None:
        self.factory.doStart()

    def doStop(self) -> None:
        self.factory.doStop()

    def buildProtocol(self, addr: IAddress) -> IProtocol | None:
        if self._has_built or self.connected.called:
            return None  # it is closed
        protocol = self.factory.buildProtocol(addr)
        self._has_built = protocol is not None
        return protocol


def _rank(failure: Failure) -> int:
    """Rank a failure by what it tells an operator; the lowest tells most.

    A refusal comes from the host itself. A time-out may have many causes. Last is what this machine cannot do at all,
    such as reach any IPv6 address: a host with other addresses is seldom down because of that.
    """
    if failure.check(error.ConnectionRefusedError):
        return 0
    return 2 if failure.check(error.NoRouteError, error.ConnectBindError) else 1
