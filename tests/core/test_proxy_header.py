"""The PROXY protocol's header, whole, in pieces and with something behind it."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fingergw.core.errors import BadProxyHeader
from fingergw.core.proxy_header import take_header

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
V4 = bytes([192, 0, 2, 1, 198, 51, 100, 1]) + b"\x30\x39\0\x4f"
V6 = ip_address("2001:db8::1").packed + ip_address("2001:db8::2").packed + b"\x30\x39\0\x4f"
MAPPED = ip_address("::ffff:192.0.2.1").packed + ip_address("2001:db8::2").packed + b"\x30\x39\0\x4f"
TLV = b"\x04\0\x03abc"


def v2(command: int, family: int, body: bytes) -> bytes:
    """Return a header of version 2."""
    return SIGNATURE + bytes([command, family]) + len(body).to_bytes(2, "big") + body


GOOD = [
    pytest.param(b"PROXY TCP4 192.0.2.1 198.51.100.1 12345 79\r\n", "192.0.2.1", id="v1-tcp4"),
    pytest.param(b"PROXY TCP4 255.255.255.255 0.0.0.0 0 65535\r\n", "255.255.255.255", id="v1-tcp4-extremes"),
    pytest.param(b"PROXY TCP6 2001:db8::1 2001:db8::2 12345 79\r\n", "2001:db8::1", id="v1-tcp6"),
    pytest.param(b"PROXY TCP6 2001:0DB8:0:0::1 ::1 1 2\r\n", "2001:db8::1", id="v1-tcp6-spelling"),
    pytest.param(b"PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n", "192.0.2.1", id="v1-mapped"),
    pytest.param(b"PROXY TCP6 " + b" ".join([b"ffff:" * 7 + b"ffff"] * 2) + b" 65535 65535\r\n", "f", id="v1-long"),
    pytest.param(b"PROXY UNKNOWN\r\n", None, id="v1-unknown"),
    pytest.param(b"PROXY UNKNOWN ffff::1 whatever\x1b\r\n", None, id="v1-unknown-and-more"),
    pytest.param(v2(0x21, 0x11, V4), "192.0.2.1", id="v2-tcp4"),
    pytest.param(v2(0x21, 0x21, V6), "2001:db8::1", id="v2-tcp6"),
    pytest.param(v2(0x21, 0x21, MAPPED), "192.0.2.1", id="v2-mapped"),
    pytest.param(v2(0x21, 0x11, V4 + TLV), "192.0.2.1", id="v2-tlv"),
    pytest.param(v2(0x21, 0x11, V4 + b"x" * 4084), "192.0.2.1", id="v2-largest"),
    pytest.param(v2(0x20, 0x00, b""), None, id="v2-local"),
    pytest.param(v2(0x20, 0x11, V4), None, id="v2-local-with-addresses"),
    pytest.param(v2(0x20, 0xFF, b"?"), None, id="v2-local-whatever"),
    pytest.param(v2(0x21, 0x00, b""), None, id="v2-unspecified"),
    pytest.param(v2(0x20, 0x31, b""), None, id="v2-local-unix"),
    pytest.param(v2(0x21, 0x01, b"?"), None, id="v2-unspecified-stream"),
    pytest.param(v2(0x21, 0x10, V4), None, id="v2-unspecified-over-ipv4"),
    pytest.param(v2(0x21, 0x31, b"/x".ljust(216, b"\0")), None, id="v2-unix"),
    pytest.param(v2(0x21, 0x31, b"/x".ljust(216, b"\0") + TLV), None, id="v2-unix-tlv"),
]


@pytest.mark.parametrize(("header", "client"), GOOD)
def test_good_headers(header: bytes, client: str | None) -> None:
    """The client's address is taken out; what follows, even what looks like a header, is left; no byte less will do."""
    client = ":".join(["ffff"] * 8) if client == "f" else client
    for rest in (b"", b"moshez\r\n", header):
        assert take_header(header + rest) == (client, rest)
    for size in range(len(header)):
        assert take_header(header[:size]) is None


BAD = [
    pytest.param(b"moshez\r\n", id="none"),
    pytest.param(b"\r\nmoshez", id="an-empty-query"),
    pytest.param(b"proxy TCP4 192.0.2.1 198.51.100.1 1 2\r\n", id="v1-case"),
    pytest.param(b"PROXY TCP4 192.0.2.1 198.51.100.1 1 2\n", id="v1-lf"),
    pytest.param(b"PROXY TCP4 192.0.2.1 198.51.100.1 1 2\n\r\n", id="v1-lf-before-crlf"),
    pytest.param(b"PROXY TCP4 192.0.2.1 198.51.100.1 1\r\n", id="v1-a-port-less"),
    pytest.param(b"PROXY TCP4 192.0.2.1 198.51.100.1 1 2 3\r\n", id="v1-a-port-more"),
    pytest.param(b"PROXY TCP4  192.0.2.1 198.51.100.1 1 2\r\n", id="v1-two-blanks"),
    pytest.param(b"PROXY TCP4 192.0.2.1 198.51.100.1 1 2 \r\n", id="v1-blank-at-the-end"),
    pytest.param(b"PROXY TCP4 192.0.2.01 198.51.100.1 1 2\r\n", id="v1-leading-zero"),
    pytest.param(b"PROXY TCP4 192.0.2.256 198.51.100.1 1 2\r\n", id="v1-no-address"),
    pytest.param(b"PROXY TCP4 192.0.2.1 example.org 1 2\r\n", id="v1-a-name"),
    pytest.param(b"PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n", id="v1-the-other-family"),
    pytest.param(b"PROXY TCP6 192.0.2.1 198.51.100.1 1 2\r\n", id="v1-the-other-family-6"),
    pytest.param(b"PROXY TCP6 fe80::1%\x1b[2J ::1 1 2\r\n", id="v1-zone"),
    pytest.param(b"PROXY TCP6 ::1 fe80::1%\x1b[2J 1 2\r\n", id="v1-zone-of-the-destination"),
    pytest.param("PROXY TCP4 192.0.2.\u0661 198.51.100.1 1 2\r\n".encode(), id="v1-digits-of-another-script"),
    pytest.param(b"PROXY TCP4 192.0.2.1 198.51.100.1 65536 2\r\n", id="v1-port"),
    pytest.param(b"PROXY TCP4 192.0.2.1 198.51.100.1 1 -2\r\n", id="v1-negative-port"),
    pytest.param(b"PROXY TCP4 192.0.2.1 198.51.100.1 01 2\r\n", id="v1-leading-zero-port"),
    pytest.param(b"PROXY UDP4 192.0.2.1 198.51.100.1 1 2\r\n", id="v1-udp"),
    pytest.param(b"PROXY " + b"x" * 101, id="v1-too-long-without-end"),
    pytest.param(b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n", id="v1-too-long"),
    pytest.param(v2(0x11, 0x11, V4), id="v2-version-1"),
    pytest.param(v2(0x22, 0x11, V4), id="v2-command"),
    pytest.param(v2(0x21, 0x12, V4), id="v2-udp"),
    pytest.param(v2(0x21, 0x41, V4), id="v2-family"),
    pytest.param(v2(0x21, 0x13, V4), id="v2-transport"),
    pytest.param(v2(0x21, 0x11, V4[:-1]), id="v2-addresses-cut"),
    pytest.param(v2(0x21, 0x21, V4), id="v2-addresses-of-the-other-family"),
    pytest.param(v2(0x21, 0x11, b""), id="v2-no-addresses"),
    pytest.param(v2(0x21, 0x21, V6[:-1]), id="v2-addresses-cut-6"),
    pytest.param(v2(0x21, 0x31, b""), id="v2-unix-no-addresses"),
    pytest.param(v2(0x21, 0x31, b"/x".ljust(215, b"\0")), id="v2-unix-addresses-cut"),
    pytest.param(v2(0x21, 0x30, b"/x"), id="v2-unix-addresses-cut-unspecified"),
    pytest.param(v2(0x21, 0x10, b""), id="v2-unspecified-over-ipv4-no-addresses"),
    pytest.param(v2(0x21, 0x20, V4), id="v2-unspecified-over-ipv6-addresses-cut"),
    pytest.param(v2(0x21, 0x32, b"/x".ljust(216, b"\0")), id="v2-unix-datagram"),
    pytest.param(v2(0x21, 0xF1, b""), id="v2-unknown-family"),
    pytest.param(v2(0x21, 0x11, b"x" * 4097), id="v2-too-long"),
    pytest.param(SIGNATURE + b"\x21\x11\xff\xff", id="v2-too-long-announced"),
    pytest.param(SIGNATURE[:-1] + b"X", id="v2-signature"),
]


@pytest.mark.parametrize("header", BAD)
def test_bad_headers(header: bytes) -> None:
    """Anything but a PROXY header is refused, whatever follows."""
    for rest in (b"", b"moshez\r\n"):
        with pytest.raises(BadProxyHeader):
            take_header(header + rest)


@given(st.one_of(st.binary(max_size=200), st.binary(max_size=60).map(lambda data: SIGNATURE + data)))
def test_nothing_is_waited_for_in_vain(data: bytes) -> None:
    """Only an incomplete header is waited for; all else is accepted or refused at once."""
    try:
        taken = take_header(data)
    except BadProxyHeader:
        return
    if taken is None:
        assert data.startswith((SIGNATURE[: len(data)], b"PROXY "[: len(data)]))
    else:
        client, rest = taken
        assert data.endswith(rest)
        assert client is None or str(ip_address(client)) == client
