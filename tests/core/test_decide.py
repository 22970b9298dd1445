"""What is to be done about a query line."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest
from attrs import evolve

from fingergw.core.addresses import Networks
from fingergw.core.chain import Chain
from fingergw.core.decide import Asked, Refused, decide
from fingergw.core.forwarding import Forwarding
from fingergw.core.outcome import Failed, Missing
from fingergw.core.patterns import glob, regex
from fingergw.core.query import Query
from fingergw.core.routing import Route, Router
from fingergw.core.rules import Limits, Rules
from fingergw.core.setting_types import Bytes
from tests.support.listener import make_listener

NAMED, TEAM, ELSEWHERE = Chain(()), Chain(()), Chain(())
INSIDE = ip_network("10.0.0.0/8")
ROUTES = [
    Route("status", NAMED, users=("status",)),
    Route("inside", NAMED, users=("inside",), clients=Networks([INSIDE])),
    Route("team", TEAM, match=regex("(?P<team>[a-z]+)-oncall", case_sensitive=False)),
]
CLIENT = "192.0.2.1"


def rules(**changes: Any) -> Rules:
    """Return a listener's rules, with three routes and a host that queries are forwarded to."""
    made = evolve(
        make_listener().rules,
        router=Router(ROUTES),
        forwarding=Forwarding({"old.example.org": ELSEWHERE}, frozenset({"own.example.org"}), 1),
    )
    return evolve(made, **changes)


@pytest.mark.parametrize(
    ("line", "refusal", "why"),
    [
        (b"nobody", "no_such_user", ""),
        (b"inside", "no_such_user", ""),
        (b"", "list_denied", ""),
        (b"/W", "list_denied", ""),
        (b"x@new.example.org", "forward_denied", ""),
        (b"x@old.example.org@old.example.org", "forward_denied", ""),
        (b"x@", "bad_query", "an empty host name"),
        (b"GET / HTTP/1.1", "bad_query", "a line of another protocol, such as HTTP or SSH"),
        (b"SSH-2.0-x", "bad_query", "a line of another protocol, such as HTTP or SSH"),
        (b"\xff", "bad_query", "not UTF-8"),
        (b"\x1b", "bad_query", "a control or an invisible character"),
        (b"n" * 513, "bad_query", "longer than 512 bytes"),
    ],
)
def test_refused(line: bytes, refusal: str, why: str) -> None:
    """What no chain is for is refused at once, and what is no query says why."""
    decision = decide(rules(), line, CLIENT, "", 5.0)
    assert isinstance(decision, Refused)
    assert (decision.refusal, decision.at, decision.why) == (refusal, 5.0, why)
    assert (decision.query is None) == bool(why)


def test_asked() -> None:
    """A name goes to the chain of its route, with the listener, the client and the groups of the route's regex."""
    decision = decide(rules(), b"/W Web-OnCall", CLIENT, "", 0.0)
    query = Query("web-oncall", verbose=True, listener="l", client=CLIENT, groups={"team": "web"})
    assert decision == Asked(query, "team", TEAM, "no_such_user", is_reusable=True)


def test_for_a_client() -> None:
    """The same line may come to something else for another client."""
    decision = decide(rules(), b"inside", "10.1.1.1", "", 0.0)
    assert isinstance(decision, Asked)
    assert decision.route == "inside"


def test_forwarded() -> None:
    """A query with a host goes to the chain of that host."""
    decision = decide(rules(), b"x@Old.example.org", CLIENT, "", 0.0)
    assert isinstance(decision, Asked)
    assert (decision.route, decision.query.hosts) == ("forwarding", ("old.example.org",))
    assert decision.chain is ELSEWHERE


def test_own_address() -> None:
    """A query is not forwarded to the address that the client connected to."""
    own = rules(forwarding=Forwarding({"192.0.2.9": ELSEWHERE}, frozenset(), 1))
    assert isinstance(decide(own, b"x@192.0.2.9", CLIENT, "", 0.0), Asked)
    assert isinstance(decide(own, b"x@192.0.2.9", CLIENT, "192.0.2.9", 0.0), Refused)


@pytest.mark.parametrize("line", [b"status", b"", b"\xff", b"x@old.example.org", b"n" * 513])
def test_decoy(line: bytes) -> None:
    """A decoy knows nobody, whatever is asked, after its delay."""
    assert decide(rules(decoy_delay=2.5), line, CLIENT, "", 5.0) == Refused("no_such_user", 7.5)


def test_case() -> None:
    """Names are compared as the rules say."""
    assert isinstance(decide(rules(case_sensitive=True), b"STATUS", CLIENT, "", 0.0), Refused)
    assert isinstance(decide(rules(), b"STATUS", CLIENT, "", 0.0), Asked)


def test_max_query_bytes() -> None:
    """The listener's own limit holds."""
    short = rules(limits=Limits(max_query_bytes=Bytes(5)))
    assert isinstance(decide(short, b"status", CLIENT, "", 0.0), Refused)


def test_end_of_a_chain() -> None:
    """A chain without an answer ends in an internal error if a backend failed, else in what was decided before."""
    by_name = decide(rules(), b"status", CLIENT, "", 0.0)
    empty = decide(rules(router=Router([Route("index", NAMED, index=True)])), b"", CLIENT, "", 0.0)
    assert isinstance(by_name, Asked)
    assert isinstance(empty, Asked)
    assert (by_name.refusal(Missing()), empty.refusal(Missing())) == ("no_such_user", "list_denied")
    assert by_name.refusal(Failed("down")) == empty.refusal(Failed("down")) == "internal_error"


def test_local_names() -> None:
    """What is left after the local names is decided as if it had been asked."""
    local = rules(
        forwarding=Forwarding({"old": ELSEWHERE}, frozenset({"own"}), 1, local_names=frozenset({"own"})),
        router=Router([*ROUTES, Route("index", NAMED, index=True)]),
    )

    def route(line: bytes) -> str:
        decision = decide(local, line, CLIENT, "", 0.0)
        return decision.route if isinstance(decision, Asked) else decision.refusal

    assert route(b"status@OWN.") == route(b"/W status@own@own") == "status"
    assert route(b"@own") == route(b"/W @own") == route(b"/W@own") == "index"
    assert route(b"OPTIONS * HTTP/1.1@own") == "bad_query"
    assert route(b"web-oncall@own") == "team"
    assert route(b"nobody@own") == "no_such_user"
    assert route(b"x@old@own") == route(b"x@old") == "forwarding"
    assert route(b"x@own@old") == route(b"x@new@own") == route(b"x@old@old@own") == "forward_denied"
    decision = decide(local, b"status@own", CLIENT, "", 0.0)
    assert isinstance(decision, Asked)
    assert decision.query == Query("status", listener="l", client=CLIENT)
    for line in (b"status /W@own", b"/W status@own"):
        decision = decide(local, line, CLIENT, "", 0.0)
        assert isinstance(decision, Asked)
        assert decision.query == Query("status", verbose=True, listener="l", client=CLIENT)


@pytest.mark.parametrize("case_sensitive", [False, True])
def test_nfc(case_sensitive: bool) -> None:
    """Names, patterns and regexes match in whichever Unicode form the client and the configuration have them."""
    for name, asked in (("jos\u00e9", "jose\u0301"), ("jose\u0301", "jos\u00e9"), ("jose\u0301", "jose\u0301")):
        for matcher in (glob, regex):
            routes = [Route("r", NAMED, match=matcher(name, case_sensitive=case_sensitive))]
            made = rules(router=Router(routes), case_sensitive=case_sensitive)
            assert isinstance(decide(made, asked.encode(), CLIENT, "", 0.0), Asked)


@pytest.mark.parametrize(
    ("line", "is_reusable"),
    [
        (b"status", True),
        (b"web-oncall", True),
        (b"inside", True),
        (b"nobody", True),
        (b"", True),
        (b"status@own", True),
        (b"x@old.example.org", False),
        (b"x@new.example.org", False),
        (b"x@", False),
        (b"\x1b", False),
        (b"n" * 513, False),
    ],
)
def test_is_reusable(line: bytes, is_reusable: bool) -> None:
    """What depends on the line and the closed routes alone may be decided once; what has a host or is no query, not."""
    forwarding = Forwarding({"old.example.org": ELSEWHERE}, frozenset(), 1, local_names=frozenset({"own"}))
    for client in (CLIENT, "10.1.1.1"):
        assert decide(rules(forwarding=forwarding), line, client, "", 0.0).is_reusable is is_reusable
        assert not decide(rules(forwarding=forwarding, decoy_delay=0.0), line, client, "", 0.0).is_reusable
