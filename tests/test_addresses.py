"""Client addresses and the networks they are in."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fingergw.addresses import is_in


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
    assert is_in(client, [ip_network(network) for network in networks]) == expected


@given(st.text())
def test_any_client_text_is_taken(client: str) -> None:
    """No client text raises."""
    is_in(client, [ip_network("0.0.0.0/0")])
