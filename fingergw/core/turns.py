"""Places for a limited number at once, which go round by client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from attrs import define, field

from fingergw.core.addresses import client_of

T = TypeVar("T")


@define(eq=False, repr=False)
class Payers:
    """The clients for whom a backend is asked. The answer takes a turn of one of them.

    :param clients: as :func:`payer` returns them.
    :param joined: called with a client that joins later; set while the turn has not come.
    """

    clients: list[str]
    joined: Callable[[str], object] | None = field(init=False, default=None)

    def join(self, client: str) -> None:
        """Note another client that waits for the same answer: it can come at this one's turn, too."""
        if client not in self.clients:
            self.clients.append(client)
            if self.joined is not None:
                self.joined(client)


def payer(client: str) -> str:
    """Return who pays for a query: an IPv4 address, an IPv6 /64, or ``"unix"``.

    :param client: the query's.
    """
    return client_of(client) or "unix"


@define(eq=False, repr=False)
class Turns(Generic[T]):
    """Give out places. While all are taken, clients take turns: each time the next one gets a place for its first.

    :param places: how many there are.
    :param taken: how many are taken.
    """

    places: int
    taken: int = field(init=False, default=0)
    _queues: dict[str, dict[T, None]] = field(init=False, factory=dict)  # by client, the one whose turn is next first
    _payers: dict[T, Payers] = field(init=False, factory=dict)

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._payers)

    def take(self) -> bool:
        """Take a place, and tell whether there was one."""
        if self.taken >= self.places:
            return False
        self.taken += 1
        return True

    def wait(self, waiter: T, payers: Payers) -> None:
        """Add one that waits for a place, to the queues of all who pay for it."""
        self._payers[waiter] = payers
        for client in payers.clients:
            self._queues.setdefault(client, {})[waiter] = None
        payers.joined = lambda client: self._queues.setdefault(client, {}).update({waiter: None})

    def give_up(self, waiter: T) -> None:
        """Remove one that waits."""
        payers = self._payers.pop(waiter)
        payers.joined = None
        for client in payers.clients:
            queue = self._queues[client]
            del queue[waiter]
            if not queue:
                del self._queues[client]

    def leave(self) -> T | None:
        """Give back a place, to the one whose turn it is.

        :return: who has it now; None if nobody waits.
        """
        if not self._queues:
            self.taken -= 1
            return None
        client, queue = next(iter(self._queues.items()))
        waiter = next(iter(queue))
        self.give_up(waiter)
        if client in self._queues:  # the other clients come first
            self._queues[client] = self._queues.pop(client)
        return waiter
