"""Routes with patterns are found by an index, which finds what a scan of all of them would."""

from __future__ import annotations

import fnmatch
import re
from ipaddress import ip_network

import re2
from attrs import frozen
from hypothesis import assume, given
from hypothesis import strategies as st

from fingergw.core.addresses import Networks
from fingergw.core.errors import ExpectedError
from fingergw.core.patterns import composed, glob, regex
from fingergw.core.query import Query, fold_function
from fingergw.core.routing import Route, Router

# letters with partners in other case, of which some are not one character to one: K is also the Kelvin sign, s the long
# s, and a dotted capital I two characters in lower case
LETTERS = "aAbkK\u212asS\u017f\u00df\u1e9eiI\u0130\u0131\u00e9\u00c9\u03c3\u03c2\u03a3\u01c4\u01c5\u01c6\u13a0\uab70-1."
PARTNERS = [*LETTERS, "e\u0301", "\ufb06", "\u1e9b", "\ua7dc", "\u019b"]


def escaped(text: str, how: str) -> str:
    """Return a text as a regex has it, in one of the ways to write it."""
    match how:
        case "quoted":
            return rf"\Q{text}\E"
        case "hexadecimal":
            return "".join(rf"\x{{{ord(each):x}}}" for each in text)
        case "octal":
            return "".join(rf"\{ord(each):03o}" if ord(each) < 0x100 else each for each in text)
        case "class":
            return "".join(f"[{each}]" for each in text)
        case _:
            return "".join("\\" + each if each in r"\.+*?()[]{}|^$" else each for each in text)


TEXTS = st.text(LETTERS, min_size=1, max_size=8) | st.sampled_from(["abkisaab", "aaaaaa", "a-1", "1-ab.k"])
HOWS = st.sampled_from(["plain", "plain", "plain", "quoted", "hexadecimal", "octal", "class"])


@st.composite
def texts(draw: st.DrawFn) -> tuple[str, str]:
    """Draw a text as a regex has it, and what it may match, in whatever case."""
    text = draw(TEXTS)
    sample = draw(st.sampled_from([text, text, text.upper(), text.lower(), text.swapcase(), text.casefold()]))
    return escaped(text, draw(HOWS)), sample


ANY = st.sampled_from(
    [
        *[(".", each) for each in "ab1"],
        *[
            (r"\d", "1"),
            (r"\pL", "a"),
            (r"\p{^Greek}", "b"),
            ("[ab]", "a"),
            ("[^a]", "b"),
            ("[]-]", "]"),
            ("[a-k]", "b"),
        ],
        *[("[[:alpha:]]", "a"), (r"[\]a\x{62}]", "b"), ("[kKs]", "s"), ("[^]]", "k"), ("[[:]", ":"), (r"\PN", "k")],
        *[
            ("^", ""),
            ("$", ""),
            (r"\b", ""),
            (r"\A", ""),
            ("", ""),
            ("{", "{"),
            ("{,2}", "{,2}"),
            ("]", "]"),
            ("}", "}"),
        ],
        *[("(?i)", ""), ("(?-i)", ""), ("(?s-U)", ""), (r"\t", "\t"), (r"\a", "\a"), (r"\Q", ""), (r"\Q\E", "")],
    ]
)
REPEATED = st.sampled_from(
    [("?", 0), ("?", 1), ("*", 0), ("*", 2), ("+", 1), ("+?", 2), ("{0}", 0), ("{1,2}", 1), ("{2}", 2), ("{0,3}", 1)]
)
OPENED = st.sampled_from(["(", "(?:", "(?i:", "(?-i:", "(?P<g>", "(?<h>", "(?is-U:"])


@st.composite
def nested(draw: st.DrawFn, inner: st.SearchStrategy[tuple[str, str]]) -> tuple[str, str]:
    """Draw a regex around others, and what it may match."""
    match draw(st.sampled_from(["alternation", "repetition", "last", "concatenation", "concatenation"])):
        case "alternation":
            branches = draw(st.lists(inner, min_size=1, max_size=4))
            regex_text = "|".join(branch for branch, _ in branches)
            return f"{draw(OPENED)}{regex_text})", draw(st.sampled_from(branches))[1]
        case "repetition":
            (part, sample), (repetition, times) = draw(inner), draw(REPEATED)
            return f"{draw(OPENED)}{part}){repetition}", sample * times
        case "last":  # of the last character alone
            (part, sample), (repetition, times) = draw(texts()), draw(REPEATED)
            return part + repetition, sample[:-1] + sample[-1:] * times
        case _:
            parts = draw(st.lists(inner, min_size=1, max_size=4))
            return "".join(part for part, _ in parts), "".join(sample for _, sample in parts)


REGEXES = st.recursive(texts() | texts() | ANY, nested, max_leaves=8)
GLOB_PIECES = st.sampled_from(
    [
        *[("*", ""), ("*", "ab"), ("?", "k"), ("[ab]", "a"), ("[!a]", "b"), ("[", "["), ("]", "]"), ("[]a]", "]")],
        *[("[!]]", "a"), ("[z-a]", "b"), ("[k]", "K"), ("[a-k]", "b"), ("!", "!"), ("\\", "\\"), ("[[]", "[")],
    ]
)


@st.composite
def globs(draw: st.DrawFn) -> tuple[str, str]:
    """Draw a shell-style pattern, and what it may match."""
    text = TEXTS.map(lambda each: (each, each)) | TEXTS.map(lambda each: (each.upper(), each))
    pieces = draw(st.lists(GLOB_PIECES | text, min_size=1, max_size=5))
    return "".join(piece for piece, _ in pieces), "".join(sample for _, sample in pieces)


MANY = [Networks([ip_network("10.1.0.0/16"), ip_network(f"172.16.{each}.0/24")]) for each in range(6)]
CLIENTS = ["172.16.0.1", "10.0.0.1", "10.1.0.1", "192.0.2.1"]
NETWORKS = [None, None, Networks([ip_network("10.0.0.0/8")]), Networks([ip_network("10.1.0.0/16")]), Networks([])]
NETWORKS += MANY[:3]


@frozen
class Spec:
    """A route as a file may have it.

    :param kind: ``name``, ``index``, ``glob`` or ``regex``.
    :param sample: a name that it may match.
    """

    kind: str
    text: str
    sample: str
    clients: Networks | None

    def route(self, *, case_sensitive: bool) -> Route[Spec]:
        """Return the route."""
        match self.kind:
            case "name":
                users = (fold_function(case_sensitive=case_sensitive)(self.text),)
                return Route("", self, users=users, clients=self.clients)
            case "index":
                return Route("", self, index=True, clients=self.clients)
            case "glob":
                return Route("", self, match=glob(self.text, case_sensitive=case_sensitive), clients=self.clients)
            case _:
                return Route("", self, match=regex(self.text, case_sensitive=case_sensitive), clients=self.clients)

    def groups(self, name: str, *, case_sensitive: bool) -> dict[str, str] | None:
        """Return the groups of a name that it matches, in the simplest way; None for others."""
        folded = fold_function(case_sensitive=case_sensitive)(self.text)
        if self.kind in ("name", "index"):
            return {} if name == ("" if self.kind == "index" else folded) else None
        if not name:
            return None
        if self.kind == "glob":
            return {} if re.fullmatch(fnmatch.translate(folded), name) else None
        options = re2.Options()
        options.case_sensitive, options.log_errors = case_sensitive, False
        found = re2.compile(composed(self.text), options).fullmatch(name)
        return None if found is None else {group: value or "" for group, value in found.groupdict().items()}


def specs_of(kind: str, matches: st.SearchStrategy[tuple[str, str]]) -> st.SearchStrategy[Spec]:
    """Return specifications of a kind, each for one of several sets of clients."""
    return st.builds(lambda each, clients: Spec(kind, each[0], each[1], clients), matches, st.sampled_from(NETWORKS))


NAMED = st.text(LETTERS, min_size=1, max_size=4).map(lambda text: (text, text))
SPECS = specs_of("regex", REGEXES) | specs_of("glob", globs()) | specs_of("name", NAMED | texts())
SPECS |= specs_of("index", st.just(("", "")))


@st.composite
def asked(draw: st.DrawFn) -> tuple[list[Spec], str]:
    """Draw routes, and a name that may well be of one of them, with something added, or left out."""
    specs = draw(st.lists(SPECS, min_size=1, max_size=8))
    sample = draw(st.sampled_from([*(spec.sample for spec in specs), *(spec.text for spec in specs)]))
    if draw(st.integers(0, 3)) == 0:
        place, added = draw(st.integers(0, len(sample))), draw(st.sampled_from(["", *PARTNERS]))
        sample = sample[:place] + added + sample[place + draw(st.integers(0, 1)) :]
    return specs, sample


# So many that the index is looked up: trying a few is as fast.
FILLERS = [glob(f"\u4e00{number:02}*") for number in range(25)] + [regex(f".*\u4e01{n:06}x.*") for n in range(40)]


@given(asked=asked(), client=st.sampled_from(CLIENTS), case_sensitive=st.booleans(), is_first=st.booleans())
def test_equal_to_a_scan(asked: tuple[list[Spec], str], client: str, *, case_sensitive: bool, is_first: bool) -> None:
    """Whatever routes, name, case and client: the first route that a scan finds is found, and its groups."""
    specs, sample = asked
    name = fold_function(case_sensitive=case_sensitive)(sample.strip())
    assume(name.isprintable() and "@" not in name)  # or it is no name
    try:
        routes = [spec.route(case_sensitive=case_sensitive) for spec in specs]
    except ExpectedError:
        assume(False)
    fillers = [
        Route[Spec]("", specs[0], match=match, clients=MANY[place % len(MANY)] if place % 2 else None)
        for place, match in enumerate(FILLERS)
    ]
    router = Router([*fillers, *routes] if is_first else [*routes, *fillers])
    found = router.find(Query(name, client=client))
    expected = None
    for route, spec in zip(routes, specs, strict=True):
        groups = spec.groups(name, case_sensitive=case_sensitive)
        if groups is not None and (spec.clients is None or client in spec.clients):
            expected = route, groups
            break
    assert (found and found[1]) == (expected and expected[1])
    assert (found and found[0]) is (expected and expected[0])
