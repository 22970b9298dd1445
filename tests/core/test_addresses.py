"""Client addresses and the networks they are in."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fingergw.core.addresses import Network, Networks, anonymised, ascii_host, is_host, without_client


@pytest.mark.parametrize(
    ("client", "networks", "expected"),
    [
        ("10.1.2.3", ["10.0.0.0/8"], True),
        ("11.1.2.3", ["10.0.0.0/8"], False),
        ("11.1.2.3", ["10.0.0.0/8", "11.0.0.0/8"], True),
        ("10.1.2.3", ["10.1.2.3"], True),
        ("10.1.2.3", [], False),
        ("10.1.2.3", ["::/0"], False),
        ("2001:db8::1", ["2001:db8::/32"], True),
        ("2001:db8::1", ["0.0.0.0/0"], False),
        ("::ffff:10.1.2.3", ["10.0.0.0/8"], True),
        ("::ffff:10.1.2.3", ["::/0"], False),
        ("fe80::1%eth0", ["fe80::/10"], True),
        ("unix", ["0.0.0.0/0", "::/0"], False),
        ("", ["0.0.0.0/0", "::/0"], False),
    ],
)
def test_is_in(client: str, networks: list[str], *, expected: bool) -> None:
    """A client is in networks of its own family; one mapped into IPv6 counts as IPv4; what is no address is in none."""
    assert (client in Networks(ip_network(network) for network in networks)) == expected


NETWORKS = st.lists(
    st.one_of(
        st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 32)).map(lambda each: IPv4Network(each, strict=False)),
        st.tuples(st.integers(0, 2**128 - 1), st.integers(0, 128)).map(lambda each: IPv6Network(each, strict=False)),
    ),
    max_size=20,
)


@given(networks=NETWORKS, data=st.data())
def test_networks_equal_a_plain_loop(networks: list[Network], data: st.DataObject) -> None:
    """However networks overlap or adjoin, an address is in them when it is in one of them."""
    edges = [address for each in networks for address in (each.network_address, each.broadcast_address)]
    near = [type(edge)((int(edge) + step) % 2**edge.max_prefixlen) for edge in edges for step in (-1, 0, 1)]
    for address in [*near, data.draw(st.ip_addresses())]:
        if getattr(address, "ipv4_mapped", None) is None:
            assert (str(address) in Networks(networks)) == any(address in network for network in networks)


@given(st.text())
def test_any_client_text_is_taken(client: str) -> None:
    """No client text raises."""
    _ = client in Networks([ip_network("0.0.0.0/0")])


@pytest.mark.parametrize(
    ("client", "expected"),
    [
        ("192.0.2.99", "192.0.2.0"),
        ("::ffff:192.0.2.99", "192.0.2.0"),
        ("2001:db8:1:2:3::4", "2001:db8:1::"),
        ("2001:DB8:1:2::/64", "2001:db8:1::"),
        ("fe80::1%eth0", "fe80::"),
        ("::1", "::"),
        ("2002:c000:263::1", "2002:c000:200::"),
        ("192.0.2.0", "192.0.2.0"),
        ("unix", "unix"),
        ("", ""),
    ],
)
def test_anonymised(client: str, expected: str) -> None:
    """Of a client its IPv4 /24 or IPv6 /48 is left; 6to4, whose /48 is one IPv4 address, has less."""
    assert anonymised(client) == expected
    assert anonymised(expected) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.7", "10.0.0.0"),
        ("(10.0.0.7:79), 10.0.0.7.", "(10.0.0.0:79), 10.0.0.0."),
        ("::ffff:10.0.0.7", "::ffff:10.0.0.0"),
        ("10.0.0.77 110.0.0.7 10.0.0.7.1 1.10.0.0.7 x10.0.0.7", "10.0.0.77 110.0.0.7 10.0.0.7.1 1.10.0.0.7 x10.0.0.7"),
    ],
)
def test_without_client(text: str, expected: str) -> None:
    """A text that quotes a client's address has the network in its place; other addresses stay."""
    assert without_client(text, "10.0.0.7") == expected
    assert without_client(text.replace("10.0.0.7", "2001:db8::9"), "2001:db8::9") == expected.replace(
        "10.0.0.0", "2001:db8::"
    ).replace("10.0.0.7", "2001:db8::9")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("my_app", True),
        ("_finger._tcp.example.org", True),
        ("-", True),
        ("final.example.", True),
        ("2x.4", False),
        ("10.1.2.3", True),
        ("127.1", True),
        ("2130706433", True),
        ("::1", True),
        ("::ffff:10.1.2.3", True),
        ("", False),
        (".", False),
        (".a", False),
        ("a..b", False),
        ("a..", False),
        ("10.1.2.300", False),
        ("10.1.2.3.4", False),
        ("10.1.2.3.", False),
        ("a b", False),
        ("a\n", False),
        ("a/b", False),
        ("a:79", False),
        ("[::1]", False),
        ("fe80::1%eth0", False),
        ("bücher.example", False),
        ("\u0663", False),
        ("x" * 63, True),
        ("x" * 64, False),
        ("x." * 127, True),
        ("x." * 127 + "x", False),
        ("x." * 50_000, False),
    ],
)
def test_hosts(text: str, expected: bool) -> None:
    """A host is an address, or a name that may have underscores; no name ends with a number (RFC 1123 §2.1)."""
    assert is_host(text) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("my_app", "my_app"),
        ("final.example.", "final.example."),
        ("bücher.example", "xn--bcher-kva.example"),
        ("fe80::1%eth0", "fe80::1%eth0"),
        ("::1", "::1"),
    ],
)
def test_hosts_in_ascii(text: str, expected: str) -> None:
    """A host with other letters has them in their xn-- form; an address may have a zone."""
    assert ascii_host(text) == expected


@pytest.mark.parametrize("text", ["", "bü..cher", "ü" * 64, "a b", "\ud800", "1.2.3.400", "%eth0", "\u2100"])
def test_hosts_that_are_none(text: str) -> None:
    """Whatever else cannot name a host is refused."""
    with pytest.raises(ValueError, match="cannot be the name of a host"):
        ascii_host(text)


NETWORKS_OF_FOUR_BITS = st.builds(
    lambda number, length: ip_network((number >> (4 - length) << (4 - length) << 28, length)),
    st.integers(0, 15),
    st.integers(0, 4),
)


@given(networks=st.lists(NETWORKS_OF_FOUR_BITS, max_size=6), other=NETWORKS_OF_FOUR_BITS)
def test_networks_within_networks(networks: list[Network], other: Network) -> None:
    """A network is covered if all of its addresses are in the networks, however these divide it; overlaps if one is."""
    parts = [part.network_address for part in other.subnets(new_prefix=4)]
    found = [any(part in network for network in networks) for part in parts]
    assert Networks(networks).covers(other) == all(found)
    assert Networks(networks).overlaps(other) == any(found)


def test_networks_of_the_other_family() -> None:
    """No network of IPv6 is in networks of IPv4, nor the other way round."""
    four, six = Networks([ip_network("0.0.0.0/0")]), Networks([ip_network("::/0")])
    assert not any((four.covers(ip_network("::/128")), four.overlaps(ip_network("::/0"))))
    assert not any((six.covers(ip_network("10.0.0.0/8")), six.overlaps(ip_network("0.0.0.0/0"))))
