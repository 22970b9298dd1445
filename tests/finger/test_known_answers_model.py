"""With and without what a listener knows, every client gets the same, and the same is counted and logged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import product
from random import Random
from typing import Any, TypeAlias
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from fingergw.core.outcome import Answered, Failed, Freshness, Missing
from fingergw.finger import known_answers
from tests.support.known_world import CLIENTS, DENIED, LONG, Odd, Situation, World
from tests.support.listener import rate_of

INSIDER, OUTSIDER = "10.0.0.1", "192.0.2.1"
NAMES = ("hello", "inside", "long", "up1", "up2", "a-team", "file", "kept", "client", "were", "counts", "saying")
CHAINED = ("several", "failed", "missing", "last", "none", "lying")
LINES = (
    *(f"{name}\r\n".encode() for name in (*NAMES, "nobody", "")),
    *(f"{name}\r\n".encode() for name in (*NAMES, "nobody", "")),
    *(f"{name}\r\n".encode() for name in CHAINED * 3),
    *(f"up{number}\n".encode() for number in range(3, 9)),
    *(b"HELLO\r\n", b"/W up1\r\n", b"/W lying\r\n", b"hello@own\r\n", b"up1@own\r\n"),
    *(b"hello\r\nhello\r\n", b"hello@other\r\n", b"x@\r\n", b"\xff\r\n", b"n" * 21 + b"\r\n", b"hel", b"\x16"),
)
ASKING = (
    *([INSIDER], [OUTSIDER], [INSIDER] * 3, [OUTSIDER] * 3, [OUTSIDER, INSIDER] * 2),
    *(CLIENTS, [*CLIENTS] * 3, [DENIED] * 2, ["2001:db8::1", "2001:db8::2"]),
)
ORDERS = ([*range(18)], [2, *range(4, 18)], *(Random(seed).sample(range(18), 18) for seed in range(4)))
LIMITS: tuple[dict[str, Any], ...] = (
    *({}, {}, {}, {"denies": True}, {"max_connections": 2}, {"per_client": 1}, {"case_sensitive": True}),
    *({"rate": rate_of(3, 3, 5)}, {"rate": rate_of(1, 2, 1)}, {"max_answer_bytes": 6}),
    *({"decoy_delay": 0.0}, {"decoy_delay": 2.0}),
)
SITUATIONS = [Situation(order, **limits) for order in ORDERS for limits in LIMITS]
SAID = (
    *(Answered("one"), Answered("other"), Answered("once", Freshness(ttl=1.0, stale_while_revalidate=0.0))),
    *(Answered("too long" * 1000), Missing(), Failed("down")),
)
LIES = (Odd("odd"), Answered("true"), Answered(LONG), Missing(), Missing(), Failed("down"), SystemExit(1), "text", None)
Event: TypeAlias = tuple[str, Any]
OTHERS: tuple[Event, ...] = (
    *(("wait", seconds) for seconds in (0.1, 1.0, 1.0, 2.0, 3.0, 8.0)),
    *(("say", outcome) for outcome in (*SAID, Missing(), None)),
    *(("let go", outcome) for outcome in SAID),
    *(("lie", outcome) for outcome in LIES),
    *(("write", names) for names in ((), ("file",), ("file", "kept"), ("file", "kept"), ("several", *CHAINED))),
    *(("rewrite", None), ("tell", "this"), ("tell", "that")),
    *(("last", holds) for holds in (True, True, True, False, None, "silent")),
    *(("connect", client) for client in CLIENTS),
    *(("go on", line) for line in (*LINES[:6], b"more", None, None)),
    *(("reopen", number) for number in (1, 2, 3)),
)
RELOADS = st.sampled_from([("reload", situation) for situation in SITUATIONS])
ASKINGS = st.sampled_from([("ask", asking) for asking in product(ASKING, range(3))])
EVENTS = st.one_of(*[ASKINGS] * 4, *[st.sampled_from(OTHERS)] * 3, RELOADS)


def happen(world: World, lines: Sequence[bytes], number: int, event: Event) -> None:
    """Have something happen to one of the listeners.

    :param lines: what is asked.
    :param number: of the event.
    """
    what, value = event
    match what:
        case "ask":
            for client in value[0]:
                world.ask(client, lines[value[1] % len(lines)])
        case "wait":
            world.clock.advance(value)
        case "say":
            world.upstream.says = value
        case "let go" if world.upstream.running:
            world.upstream.running[0].said.callback(value)
        case "lie":
            world.lying.at_first = value
        case "write":
            world.write({name: f"{name} {number}" for name in value})
        case "rewrite":
            world.write(dict(world.texts.by_name))
        case "tell":
            world.said = value
        case "last":
            world.saying.holds = value
        case "connect":
            world.connect(value)
        case "go on" if world.waiting and value is None:
            world.waiting[0].abortConnection()
        case "go on" if world.waiting:
            world.waiting[0].protocol.dataReceived(value)
        case "reopen":
            world.open_backends(value)
            world.reload(world.situation)
        case "reload":
            world.reload(value)
    world.settle()


@given(
    situation=st.sampled_from(SITUATIONS),
    lines=st.lists(st.sampled_from(LINES), min_size=1, max_size=3),
    events=st.lists(EVENTS, min_size=10, max_size=40),
)
@settings(max_examples=100)
def test_with_and_without(situation: Situation, lines: Sequence[bytes], events: Sequence[Event]) -> None:
    """Whatever happens, clients get the same answers, and lines of the log, counters and histograms are the same."""
    with patch.object(known_answers, "MAX_KNOWN", 6):
        known, plain = World(uses_known=True, situation=situation), World(uses_known=False, situation=situation)
        # at last all who wait still run out of time
        for number, event in enumerate([*events, ("wait", 10.0)]):
            happen(known, lines, number, event)
            happen(plain, lines, number, event)
            assert known.take_sent() == plain.take_sent()
            # those whose time is over at once are closed in any order
            assert Counter(known.log.take()) == Counter(plain.log.take())
            assert known.counted() == plain.counted()
