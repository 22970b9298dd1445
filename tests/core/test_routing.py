"""Which route a query takes: a table of cases."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable
from ipaddress import ip_network
from typing import Any
from unittest.mock import patch

import pytest

from fingergw.core import routing
from fingergw.core.addresses import Networks
from fingergw.core.pattern_index import PatternIndex
from fingergw.core.patterns import Matcher, glob, group_names, regex
from fingergw.core.query import Query
from fingergw.core.routing import Route, Router

INSIDE = Networks([ip_network("10.0.0.0/8"), ip_network("fd00::/8")])

ROUTES: list[Route[str]] = [
    Route("inside", "", users=("moshez", "svc-in"), clients=INSIDE),
    Route("svc", "", match=glob("svc-*")),
    Route("never", "", users=("svc-late", "")),
    Route("people", "", users=("moshez", "nail", "nail")),
    Route("team", "", match=regex("(?P<team>[a-z]+)-oncall(-(?P<level>[0-9]))?")),
    Route("secret", "", match=glob("*"), clients=INSIDE),
    Route("index-inside", "", index=True, clients=INSIDE),
    Route("index", "", index=True),
    Route("late", "", users=("anna",)),
]


@pytest.mark.parametrize(
    ("user", "client", "name", "groups"),
    [
        ("nail", "192.0.2.1", "people", {}),
        ("moshez", "192.0.2.1", "people", {}),
        ("moshez", "10.1.2.3", "inside", {}),
        ("moshez", "fd00::1", "inside", {}),
        ("moshez", "unix", "people", {}),
        ("svc-mail", "192.0.2.1", "svc", {}),
        ("svc-", "192.0.2.1", "svc", {}),
        ("svc-late", "192.0.2.1", "svc", {}),
        ("svc-in", "10.0.0.1", "inside", {}),
        ("a-svc-b", "192.0.2.1", None, {}),
        ("web-oncall", "192.0.2.1", "team", {"team": "web", "level": ""}),
        ("web-oncall-2", "192.0.2.1", "team", {"team": "web", "level": "2"}),
        ("web-oncall-22", "192.0.2.1", None, {}),
        ("other", "10.0.0.1", "secret", {}),
        ("anna", "10.0.0.1", "secret", {}),
        ("anna", "192.0.2.1", "late", {}),
        ("other", "192.0.2.1", None, {}),
        ("other", "unix", None, {}),
        ("", "10.0.0.1", "index-inside", {}),
    ],
)
def test_first_match_wins(user: str, client: str, name: str | None, groups: dict[str, str]) -> None:
    """The first route in file order that matches both name and client is taken, with its pattern's groups."""
    router = Router([route for route in ROUTES if route.name != "never"] if not user else ROUTES)
    found = router.find(Query(user, client=client))
    assert (found and (found[0].name, found[1])) == (name and (name, groups))


def test_patterns_never_take_the_empty_query() -> None:
    """A pattern that could match nothing at all does not answer {C}, which lists users."""
    everything: list[Route[str]] = [Route("glob", "", match=glob("*")), Route("regex", "", match=regex(".*"))]
    assert Router(everything).find(Query("")) is None


def test_no_routes() -> None:
    """A listener without routes finds no route for any name."""
    assert Router[str]([]).find(Query("moshez")) is None


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("svc-*", "svc-mail", True),
        ("SVC-*", "svc-mail", True),
        ("svc-?", "svc-1", True),
        ("svc-?", "svc-12", False),
        ("svc-[a-c]", "svc-b", True),
        ("svc-[!a-c]", "svc-b", False),
        ("svc-[z-a]", "svc-b", False),
        ("[", "[", True),
        ("a.c", "abc", False),
        ("*a*b*", "xaxbx", True),
    ],
)
def test_glob(pattern: str, name: str, *, matches: bool) -> None:
    """A shell-style pattern is compared with the whole name."""
    assert (glob(pattern)(name) is not None) == matches


@pytest.mark.parametrize("matcher", [glob, regex])
def test_case(matcher: Callable[..., Matcher]) -> None:
    """A pattern's case counts only where names are case-sensitive."""
    assert matcher("Moshez")("moshez") == {}
    assert matcher("Moshez", case_sensitive=True)("moshez") is None
    assert matcher("Moshez", case_sensitive=True)("Moshez") == {}


@pytest.mark.parametrize("pattern", ["(", "a**", "(?<=a)b", r"(a)\1", "[z-a]", "(?P<a b>x)"])
def test_bad_regex(pattern: str) -> None:
    """What is not RE2 syntax is refused with a reason."""
    with pytest.raises(ValueError, match=r"\w"):
        regex(pattern)
    with pytest.raises(ValueError, match=r"\w"):
        group_names(pattern)


def test_bad_long_regex() -> None:
    """The reason is told in full, however long the text is that it is about."""
    with pytest.raises(ValueError, match=r'^not RE2 syntax at "\({60}\.\.\.": missing \)$'):
        regex("(" * 500)


def test_group_names() -> None:
    """The named groups of a regex are known without a query."""
    assert group_names("(?P<team>a)(b)(?P<level>c)?") == {"team", "level"}


@pytest.mark.parametrize(
    ("make", "pattern"), [(regex, "(a+)+b"), (regex, "(a|a)*b"), (glob, "*a" * 20 + "*b")], ids=["plus", "or", "glob"]
)
def test_hostile_names_cost_linear_time(make: Callable[[str], Matcher], pattern: str) -> None:
    """No name makes a pattern backtrack without end."""
    match = make(pattern)
    began = time.process_time()
    assert match("a" * 500) is None
    assert time.process_time() - began < 1


def test_exact_names_are_looked_up() -> None:
    """An exact name is found in a dictionary: no pattern after it is tried, and no other name is compared."""

    def untouchable(_: str) -> None:
        raise AssertionError("a pattern was tried")

    routes = [Route(f"r{number}", number, users=(f"u{number}",)) for number in range(100_000)]
    router = Router([*routes, Route("pattern", -1, match=Matcher(untouchable))])
    began = time.process_time()
    for number in range(0, 100_000, 10):
        found = router.find(Query(f"u{number}"))
        assert found is not None
        assert found[0].target == number
    assert time.process_time() - began < 1  # comparing would be some 10 ** 9 steps


def counted(tried: list[str], key: str, text: str) -> Matcher:
    """Return a matcher that notes when it is tried."""
    matcher = (glob if key == "glob" else regex)(text)

    def match(name: str) -> dict[str, str] | None:
        tried.append(text)
        return matcher(name)

    return Matcher(match, matcher.literals)


@pytest.mark.parametrize(
    ("key", "pattern", "name"),
    [
        ("glob", "svc-{}-*", "svc-{}-mail"),
        ("glob", "*.{}.example", "web.{}.example"),
        ("glob", "svc{}", "svc{}"),
        ("glob", "*-{}", "web-{}"),
        ("regex", "(?P<team>[a-z]+)-oncall{}", "web-oncall{}"),
        ("regex", "(web|db){}-.*", "db{}-17"),
        ("regex", "[0-9]+(?i:K){}", "17k{}"),
    ],
)
def test_few_patterns_are_tried(key: str, pattern: str, name: str) -> None:
    """However many patterns there are: those are tried that have some text of the name, and of the others none."""
    tried: list[str] = []
    routes = [Route("", each, match=counted(tried, key, pattern.format(each))) for each in range(1500)]
    router = Router(routes)
    for number in (0, 1, 12, 123, 1234, 1499):
        found = router.find(Query(name.format(number)))
        assert found is not None
        assert found[0].target == number
        assert tried == [pattern.format(number)]
        tried.clear()
    assert router.find(Query("nobody")) is None
    assert tried == []


def test_patterns_without_text_are_tried_in_their_place() -> None:
    """A pattern that has no text that names could be looked up by is tried for each name, in file order with others."""
    tried: list[str] = []
    patterns = ["?", *(f"svc-{number}*" for number in range(100)), "[a-z]*", "svc-7?*", "*"]
    router = Router([Route(each, 0, match=counted(tried, "glob", each)) for each in patterns])
    found = router.find(Query("svc-77"))
    assert found is not None
    assert found[0].name == "svc-7*"
    assert tried == ["?", "svc-7*"]
    tried.clear()
    found = router.find(Query("17-svc-7x"))
    assert found is not None
    assert found[0].name == "*"
    assert tried == ["?", "[a-z]*", "*"]


def test_networks_of() -> None:
    """Which of the routes' networks a client is in; clients with the same ones find the same routes."""
    router = Router(ROUTES)
    assert router.networks_of("192.0.2.1") == router.networks_of("unix") == frozenset()
    assert router.networks_of("10.0.0.1") == router.networks_of("fd00::1") == {INSIDE}
    assert Router(ROUTES[1:3]).networks_of("10.0.0.1") == frozenset()


def test_many_networks() -> None:
    """Clients of ever other networks have their patterns found in indexes that are there, however many there are."""
    networks = [Networks([ip_network(f"10.0.{number}.0/24")]) for number in range(100)]
    routes = [Route("", each, match=glob(f"svc-{each}-*"), clients=networks[each % 100]) for each in range(300)]
    router = Router([*routes, Route("", -1, match=glob("svc-2*"))])
    with patch.object(routing, "PatternIndex", wraps=PatternIndex) as made:
        for number in (*range(100), *range(100)):
            for place in (number, number + 100, number + 200):
                found = router.find(Query(f"svc-{place}-mail", client=f"10.0.{number}.1"))
                assert found is not None
                assert found[0].target == place
            found = router.find(Query("svc-201-mail", client="10.0.0.1"))
            assert found is not None
            assert found[0].target == -1
    assert made.call_count == 0


def test_indexes_of_many_networks_are_bounded() -> None:
    """Of clients that are in many networks, however many combinations, few have an index that is kept for them."""
    made: list[weakref.ref[PatternIndex[object]]] = []

    def make(patterns: Any) -> PatternIndex[object]:
        index = PatternIndex(patterns)
        made.append(weakref.ref(index))
        return index

    hosts = [[ip_network(f"10.0.0.{each}/32") for each in range(100) if each % 10 != number] for number in range(10)]
    hosts += [[ip_network(f"10.0.0.{each}/32") for each in range(100) if each // 10 != number] for number in range(10)]
    with patch.object(routing, "PatternIndex", make):
        router = Router([Route("", 0, match=glob("svc-*"), clients=Networks(each)) for each in hosts])
        at_first = len(made)
        for number in range(100):
            assert router.find(Query("nobody", client=f"10.0.0.{number}")) is None
    assert len(made) == at_first + 100
    assert sum(each() is not None for each in made[at_first:]) < 20
