"""Equal shares of a cache: which entry goes first when there are too many."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from heapq import heapify, heappop, heappush, heapreplace
from itertools import count
from typing import Generic, NamedTuple, TypeVar

from attrs import Factory, define, field

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
_MIN_PLACES = 16


class Owner(NamedTuple):
    """Who an entry counts to.

    :param backend: the name of the backend that has answered.
    :param client: who has asked, as :func:`fingergw.core.turns.payer` returns it.
    """

    backend: str
    client: str


@define(eq=False, repr=False)
class Item(Generic[K, V]):
    """An entry as its owner's.

    :param size: in bytes.
    :param owner: whom it counts to.
    :param other: whom it would count to if that one held less; the owner itself if nobody else has asked for it.
    :param order: all entries of its owner by key, those that go first at the front.
    """

    value: V
    size: int
    owner: Owner
    other: Owner
    order: OrderedDict[K, Item[K, V]] = field(init=False)


@define(eq=False, repr=False)
class Shares(Generic[K, V]):
    """Entries by key, within bounds that are shared equally: by backends, then by the clients of a backend.

    When there are too many, the backend that holds most loses first; of its entries those of the client that holds
    most; of these the one that was neither put nor used for longest. Less than an average entry makes no difference: of
    those that hold about as much it is the one that has added nothing for longest. Else, with an entry for each of very
    many clients, the longest answers would always go.

    Clients may share an entry: what one has put, another may put again. It counts to the one of the last two that holds
    less, both when it is put and when it is to go. So a client cannot draw it into its own share by asking for it, and
    then flood that.

    :param max_entries: at least 1.
    :param max_bytes: likewise.
    :param items: what there is; to be changed by the methods only.
    :param bytes: their sizes, added up.
    """

    max_entries: int
    max_bytes: int
    items: dict[K, Item[K, V]] = field(init=False, factory=dict)
    bytes: int = field(init=False, default=0)
    _backends: _Ranking = field(init=False, default=Factory(lambda self: _Ranking(self.max_bytes), takes_self=True))
    _clients: dict[str, _Ranking] = field(init=False, factory=dict)  # by backend
    _orders: dict[Owner, OrderedDict[K, Item[K, V]]] = field(init=False, factory=dict)

    def touch(self, key: K) -> V | None:
        """Count an entry as used, and return its value; None if there is none."""
        item = self.items.get(key)
        if item is None:
            return None
        item.order.move_to_end(key)
        return item.value

    def put(self, key: K, value: V, size: int, owner: Owner) -> Item[K, V]:
        """Replace an entry.

        :param owner: who has asked for it. All entries of a key are of one backend.
        """
        other, old = owner, self.items.get(key)
        if old is not None:
            self.drop(key)
            if old.owner.backend == owner.backend:
                pair = (old.owner, old.other if owner == old.owner else owner)
                owner, other = sorted(pair, key=self._held_by)
        item = self.items[key] = Item(value, size, owner, other)
        self.bytes += size
        self._backends.add(owner.backend, self._weight(item))
        self._join(key, item)
        return item

    def drop(self, key: K) -> None:
        """Remove an entry, if there is one."""
        item = self.items.pop(key, None)
        if item is not None:
            self.bytes -= item.size
            self._backends.take(item.owner.backend, self._weight(item))
            self._leave(key, item)

    def evict(self) -> list[K]:
        """Remove entries until the rest is within the bounds, and return their keys."""
        evicted = []
        while len(self.items) > self.max_entries or self.bytes > self.max_bytes:
            evicted.append(self._next())
            self.drop(evicted[-1])
        return evicted

    def resize(self, max_entries: int, max_bytes: int) -> None:
        """Set new bounds. What is beyond them stays until it is evicted."""
        self.max_entries, self.max_bytes = max_entries, max_bytes
        for backend, clients in self._clients.items():
            for client in clients.weights:
                order = self._orders[Owner(backend, client)]
                clients.weights[client] = sum(self._weight(item) for item in order.values())
            clients.rebuild(max_bytes)
            self._backends.weights[backend] = sum(clients.weights.values())
        self._backends.rebuild(max_bytes)

    def _next(self) -> K:
        """Return the key of the entry that goes first. Those on the way that another has asked for are moved there."""
        while True:
            backend = self._backends.heaviest()
            owner = Owner(backend, self._clients[backend].heaviest())
            key, item = next(iter(self._orders[owner].items()))
            if self._held_by(item.other) + self._weight(item) >= self._held_by(owner):
                return key
            self._leave(key, item)
            item.owner, item.other = item.other, item.owner
            self._join(key, item)
            item.order.move_to_end(key, last=False)

    def _weight(self, item: Item[K, V]) -> int:
        """Return what an entry counts: its bytes, and as many as an average entry has in a full cache.

        So both bounds count alike: half of the bytes weighs as much as half of the entries. All is multiplied by
        ``max_entries``, as integers are exact: the bytes of an average entry become ``max_bytes``.
        """
        return item.size * self.max_entries + self.max_bytes

    def _held_by(self, owner: Owner) -> int:
        clients = self._clients.get(owner.backend)
        return 0 if clients is None else clients.weights.get(owner.client, 0)

    def _join(self, key: K, item: Item[K, V]) -> None:
        """Add an entry to its owner's."""
        backend, client = item.owner
        clients = self._clients.get(backend)
        if clients is None:
            clients = self._clients[backend] = _Ranking(self.max_bytes)
        clients.add(client, self._weight(item))
        order = self._orders.get(item.owner)
        if order is None:
            order = self._orders[item.owner] = OrderedDict()
        order[key] = item
        item.order = order

    def _leave(self, key: K, item: Item[K, V]) -> None:
        """Take an entry from its owner's."""
        backend, client = item.owner
        clients = self._clients[backend]
        clients.take(client, self._weight(item))
        del item.order[key]
        if not item.order:
            del self._orders[item.owner]
        if not clients.weights:
            del self._clients[backend]


@define(eq=False, repr=False)
class _Ranking:
    """Weights by name, and the heaviest of them, which is found without looking at all.

    Each name has one valid place in the heap, which says at least its weight: one that becomes heavier gets a new
    place; one that becomes lighter keeps its place until that is the first.

    :param unit: weights are compared in whole units.
    """

    unit: int
    weights: dict[str, int] = field(init=False, factory=dict)
    _places: list[tuple[int, int, str]] = field(init=False, factory=list)  # a heap: negative units, number, name
    _valid: dict[str, int] = field(init=False, factory=dict)  # the number of a name's place
    _numbers: Iterator[int] = field(init=False, factory=count)

    def add(self, name: str, weight: int) -> None:
        """Make a name heavier."""
        total = self.weights[name] = self.weights.get(name, 0) + weight
        number = self._valid[name] = next(self._numbers)
        heappush(self._places, (-(total // self.unit), number, name))
        if len(self._places) > 2 * len(self.weights) + _MIN_PLACES:  # most are not valid any more
            self.rebuild(self.unit)

    def take(self, name: str, weight: int) -> None:
        """Make a name lighter. One without weight is forgotten."""
        left = self.weights[name] - weight
        if left:
            self.weights[name] = left
        else:
            del self.weights[name], self._valid[name]

    def heaviest(self) -> str:
        """Return the heaviest name; of several, the one that was not made heavier for longest."""
        while True:
            place, number, name = self._places[0]
            if self._valid.get(name) != number:
                heappop(self._places)
                continue
            units = self.weights[name] // self.unit
            if units == -place:
                return name
            heapreplace(self._places, (-units, number, name))

    def rebuild(self, unit: int) -> None:
        """Find the order anew, from the weights."""
        self.unit = unit
        self._places = [(-(weight // unit), self._valid[name], name) for name, weight in self.weights.items()]
        heapify(self._places)
