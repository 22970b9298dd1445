"""Many deadlines on one timer."""

from __future__ import annotations

from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from fingergw.finger.deadlines import Deadlines

SHORTEST = 2.0


@define(eq=False)
class Item:
    """An item that is gone when it expires.

    :param seen: when it expired.
    """

    clock: Clock
    items: list[Item]
    due: float
    seen: list[float] = field(factory=list)

    def expired(self) -> None:
        """Note the time, and be gone."""
        self.seen.append(self.clock.seconds())
        self.items.remove(self)


def make(*seconds: float) -> tuple[Clock, list[Item], Deadlines]:
    """Return a clock, items with these deadlines, and what watches them."""
    clock, items = Clock(), list[Item]()
    items += [Item(clock, items, due) for due in seconds]
    return clock, items, Deadlines(items, clock, SHORTEST)


def test_each_expires_at_its_due() -> None:
    """Each item is told at its own deadline, whatever the others have, and once all are gone there is no timer."""
    clock, items, deadlines = make(2.0, 2.5, 10.0, 3.25)
    everyone = list(items)
    deadlines.watch()
    clock.pump([0.25] * 48)
    assert [item.seen for item in everyone] == [[2.0], [2.5], [10.0], [3.25]]
    assert not clock.getDelayedCalls()


def test_one_timer() -> None:
    """However many items and however often they come, there is one timer."""
    clock, _, deadlines = make(5.0, 6.0, 7.0)
    for _ in range(3):
        deadlines.watch()
    assert len(clock.getDelayedCalls()) == 1


def test_no_items_no_timer() -> None:
    """When the items have gone by themselves, the next look is the last, and a new item is watched again."""
    clock, items, deadlines = make(5.0)
    deadlines.watch()
    items.clear()
    clock.advance(SHORTEST)
    assert not clock.getDelayedCalls()
    late = Item(clock, items, clock.seconds() + SHORTEST)
    items.append(late)
    deadlines.watch()
    clock.advance(SHORTEST)
    assert late.seen == [2 * SHORTEST]


def test_a_later_due_is_honoured() -> None:
    """A deadline that was moved while the timer ran counts as it stands."""
    clock, items, deadlines = make(2.0)
    (item,) = items
    deadlines.watch()
    clock.advance(1.0)
    item.due = 4.5
    clock.pump([0.5] * 12)
    assert item.seen == [4.5]


def test_an_item_may_set_a_new_deadline_when_it_expires() -> None:
    """An item that stays is told again at its new deadline, and not before."""
    clock, items, deadlines = make()

    class Staying(Item):
        def expired(self) -> None:
            self.seen.append(self.clock.seconds())
            self.due += 3.0

    item = Staying(clock, items, 2.0)
    items.append(item)
    deadlines.watch()
    clock.pump([0.5] * 18)
    assert item.seen == [2.0, 5.0, 8.0]


def test_stop() -> None:
    """After a stop nothing is looked at, and stopping again does no harm."""
    clock, items, deadlines = make(2.0)
    (item,) = items
    deadlines.watch()
    deadlines.stop()
    deadlines.stop()
    assert not clock.getDelayedCalls()
    clock.advance(10.0)
    assert item.seen == []


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(8, 60)), max_size=12))
def test_nobody_waits_longer(arrivals: list[tuple[int, int]]) -> None:
    """Items that come at any time, with no less than the shortest time, all expire exactly when due."""
    clock, items, deadlines = make()
    made = []
    for tick in range(110):
        for at, ticks in arrivals:
            if at == tick:
                made.append((Item(clock, items, (at + ticks) / 4), (at + ticks) / 4))
                items.append(made[-1][0])
                deadlines.watch()
        clock.advance(0.25)
    assert [item.seen for item, _ in made] == [[due] for _, due in made]
    assert not clock.getDelayedCalls()
