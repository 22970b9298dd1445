"""Whom a query with a host chain may be passed on to."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fingergw.core.errors import BadQuery
from fingergw.core.forwarding import Forwarding, local_form
from fingergw.core.query import Query, parse

OWN_ADDRESS = "192.0.2.1"
OWN_ADDRESS_6 = "2001:db8::1"
FORWARDING = Forwarding(
    targets={
        "old.example.org": "old",
        "New.Example.Org": "new",
        "dotted.example.": "dotted",
        "192.0.2.9": "nine",
        "localhost": "loopback",
        "127.0.0.1": "loopback",
        "gw.example.org": "self",
        OWN_ADDRESS: "self",
        "a": "a",
    },
    own_names=frozenset({"gw.example.org", "fingergw", "198.51.100.7", "2001:db8::7"}),
    max_hops=3,
)


def find(*hosts: str, own_address: str = OWN_ADDRESS) -> str | None:
    """Look for the target of a chain."""
    return FORWARDING.find(Query("x", hosts), own_address)


@pytest.mark.parametrize(
    ("hosts", "found"),
    [
        (("old.example.org",), "old"),
        (("OLD.example.ORG",), "old"),
        (("old.example.org.",), "old"),
        (("new.example.org",), "new"),
        (("dotted.example",), "dotted"),
        (("dotted.example.",), "dotted"),
        (("192.0.2.9",), "nine"),
        (("a",), "a"),
        # only the last host is asked; what that does with the others is its own matter
        (("anybody.example", "old.example.org"), "old"),
        (("h1", "h2", "old.example.org"), "old"),
        (("old.example.org", "old.example.org", "old.example.org"), "old"),
        (("203.0.113.5", "2001:db8::5", "a"), "a"),
        (("[2001:db8::5]", "a"), "a"),
        (("64:ff9b::203.0.113.5", "a"), "a"),
        (("64:ff9b:1::203.0.113.5", "a"), "a"),
        (("64:ff9b:1:cb00:71:500::", "a"), "a"),
        (("2002:cb00:7105::1", "a"), "a"),
        (("2001:db8::5efe:203.0.113.5", "a"), "a"),
        (("2130706433.example", "a"), "a"),
        (("fingergw.example.org", "a"), "a"),
        (("localhost.example.org", "a"), "a"),
    ],
)
def test_found(hosts: tuple[str, ...], found: str) -> None:
    """The last host's target is found, without regard to case and one dot at the end."""
    assert find(*hosts) == found


@pytest.mark.parametrize(
    "hosts",
    [
        (),
        ("",),
        (".",),
        ("other.example.org",),
        ("old.example.org..",),
        (".old.example.org",),
        ("old.example.org", "other.example.org"),
        ("old",),
        ("old.example.org:79",),
        ("[192.0.2.9]",),
        ("192.0.2.09",),
    ],
)
def test_unknown(hosts: tuple[str, ...]) -> None:
    """Nobody but the hosts that are named is found, however much somebody resembles one."""
    assert find(*hosts) is None


def test_max_hops() -> None:
    """A chain may have so many hosts, and not one more."""
    assert find("b", "b", "a") is not None
    assert find("b", "b", "b", "a") is None
    assert Forwarding({"a": ""}, frozenset(), 1).find(Query("x", ("a", "a")), "") is None


# what is, or might be taken for, this gateway, or whatever host it is asked on
SELVES = [
    "gw.example.org",
    "GW.Example.Org",
    "gw.example.org.",
    "fingergw",
    OWN_ADDRESS,
    f"[{OWN_ADDRESS}]",
    f"{OWN_ADDRESS}.",
    f"::ffff:{OWN_ADDRESS}",
    f"[::FFFF:{OWN_ADDRESS}]",
    "::ffff:c000:201",
    f"::{OWN_ADDRESS}",
    f"64:ff9b::{OWN_ADDRESS}",
    "198.51.100.7",
    "::ffff:198.51.100.7",
    "2001:db8::7",
    "2001:0DB8:0:0::7",
    "localhost",
    "LocalHost.",
    "x.localhost",
    "localhost.localdomain",
    "localhost6.localdomain6",
    "ip6-localhost",
    "ip6-loopback",
    "127.0.0.1",
    "127.255.0.9",
    "0.0.0.0",
    "::",
    "[::]",
    "::1",
    "[::1]",
    "0:0:0:0:0:0:0:1",
    "::ffff:127.0.0.1",
    "::ffff:0.0.0.0",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "::ffff:0:127.0.0.1",
    "2002:7f00:1::",
    "[2002:7f00:1::5]",
    "2002::",
    "64:ff9b:1::7f00:1",
    "64:ff9b:1:7f00:0:100::",
    "64:ff9b:1:7f:0:1::",
    "64:ff9b:1:0:7f:0:100:0",
    "64:ff9b:1::",
    f"64:ff9b:1::{OWN_ADDRESS}",
    "64:ff9b:1:c000:2:100::",
    "2002:c000:201::1",
    "fe80::5efe:127.0.0.1",
    "2001:db8::200:5efe:127.9.9.9",
    f"2001:db8::5efe:{OWN_ADDRESS}",
    "2001:0:7f00:1::",
    "2001:0:102:304:0:0:80ff:fffe",
    "2001:0:102:304:0:0:3fff:fdfe",
    "::1%lo",
    "fe80::1%eth0",
    "2130706433",
    "017700000001",
    "0x7f000001",
    "0X7F.1",
    "127.1",
    "127.0.1",
    "0177.0.0.1",
    "127.0.0.0x1",
    "0",
    "3221225985",
    "example.1",
    "[localhost]",
    "[[::1]]",
    "localhost:79",
    "[::1]:79",
    "127.0.0.1:79",
    "gw.example.org:79",
    "gw.example.org/",
    "gw.example.org%25",
    "gw..example.org",
    "gw.example.org..",
    "gw.example。org",
    "".join(chr(ord(letter) + 0xFEE0) for letter in "localhost"),  # full-width, which IDNA takes for the same
    chr(0xFF11) + "27.0.0.1",
    "local host",
    "/W",
    "a /W",
]


@pytest.mark.parametrize("name", SELVES)
def test_self(name: str) -> None:
    """No chain with this gateway or a loopback in it is passed on, nor with a host that is not plainly another."""
    assert [find(name), find(name, "a"), find("b", name, "a"), find(name, "b", "a")] == [None] * 4


@pytest.mark.parametrize("name", [OWN_ADDRESS_6, "2001:DB8:0::1", f"[{OWN_ADDRESS_6}]"])
@pytest.mark.parametrize("own_address", [OWN_ADDRESS_6, "2001:0db8::0001"])
def test_own_address(name: str, own_address: str) -> None:
    """The address at which the query came in is this gateway's, however it is written."""
    assert find(name, "a", own_address=own_address) is None
    assert find(name, "a") is not None


def test_own_address_that_is_mapped() -> None:
    """An IPv4 client's query may come in at a mapped address."""
    assert find("192.0.2.55", "a", own_address="::ffff:192.0.2.55") is None


def test_own_link_local_address() -> None:
    """An own address may have a zone."""
    assert find("fe80::55", "a", own_address="fe80::55%eth0") is None


@pytest.mark.parametrize("own_address", ["", "unix", "/run/finger.sock"])
def test_no_own_address(own_address: str) -> None:
    """A query on a unix socket came in at no address."""
    assert find("192.0.2.55", "a", own_address=own_address) is not None
    assert find("127.0.0.1", "a", own_address=own_address) is None


def test_nobody() -> None:
    """Without targets nothing is passed on."""
    assert Forwarding({}, frozenset(), 3).find(Query("x", ("a",)), OWN_ADDRESS) is None


HOSTS = st.one_of(
    st.sampled_from([*FORWARDING.targets, *SELVES, "b", "h1.example"]),
    st.text(st.sampled_from("aA.-:0127fFx[]%/K"), min_size=1, max_size=12),
    st.ip_addresses().map(str),
    st.text(min_size=1, max_size=8),
)


@given(hosts=st.lists(HOSTS, max_size=5), case_sensitive=st.booleans())
@example(hosts=["A."], case_sensitive=True)
def test_nobody_else(hosts: list[str], case_sensitive: bool) -> None:
    """Whatever is asked, only the last host's target is found, in a chain that is short and has no self in it."""
    try:
        query = parse(("x@" + "@".join(hosts)).encode(errors="replace"), case_sensitive)
    except BadQuery:
        return
    found = FORWARDING.find(query, OWN_ADDRESS)
    if found is None:
        return
    assert found in {"old", "new", "dotted", "nine", "a"}
    (name,) = [name for name, target in FORWARDING.targets.items() if target == found]
    assert name.lower().rstrip(".") == query.hosts[-1].lower().removesuffix(".")
    assert len(query.hosts) <= 3
    assert [host for host in query.hosts if host in SELVES] == []


@given(st.ip_addresses(), st.booleans())
def test_any_own_address(address: IPv4Address | IPv6Address, brackets: bool) -> None:
    """Any address of the gateway's own is refused, whether one or the other writes it short or long."""
    for own, asked in ((address.exploded.upper(), str(address)), (str(address), address.exploded.upper())):
        assert find(f"[{asked}]" if brackets else asked, "a", own_address=own) is None


@given(st.ip_addresses(network="203.0.113.0/24") | st.ip_addresses(network="2001:db8:1::/48"), st.booleans())
def test_any_other_address(address: IPv4Address | IPv6Address, brackets: bool) -> None:
    """Any other may stand in the chain."""
    assert find(f"[{address}]" if brackets else str(address), "a") == "a"


@pytest.mark.parametrize(
    ("hosts", "kept"),
    [
        (("own",), 0),
        (("OWN",), 0),
        (("Own.",), 0),
        (("own.example.org",), 0),
        (("192.0.2.5",), 0),
        (("::ffff:192.0.2.5",), 0),
        (("[192.0.2.5]",), 0),
        (("2001:db8::5",), 0),
        (("[2001:DB8:0::5]",), 0),
        (("own", "OWN.", "192.0.2.5"), 0),
        (("own",) * 200, 0),
        (("a", "own"), 1),
        (("own", "a", "own", "own"), 2),
        (("own", "a"), 2),
        (("own..",), 1),
        (("own.example",), 1),
        (("xown",), 1),
        (("192.0.2.50",), 1),
        (("192.0.2.5%lo",), 1),
        (("[own]",), 1),
        (("2001:db8::5%eth0",), 1),
        ((), 0),
    ],
)
def test_local_names(hosts: tuple[str, ...], kept: int) -> None:
    """The last hosts are taken off as far as they are local names, however these are written, and no other host."""
    local_names = ("Own", "own.example.org.", "192.0.2.5", "2001:db8::5")
    forwarding = Forwarding({"a": "a"}, frozenset(), 3, local_names=frozenset(map(local_form, local_names)))
    query = Query("x", hosts, verbose=True, listener="l", client="192.0.2.1")
    assert forwarding.without_local_names(query) == query._replace(hosts=hosts[:kept])
