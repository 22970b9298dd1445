"""The header of HAProxy's PROXY protocol, sans-IO (https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt)."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address

from fingergw.core.errors import BadProxyHeader

_V1_SIGNATURE = b"PROXY "
_V1_MAX_BYTES = 107  # with CRLF (§2.1)
_V1_ADDRESS: dict[bytes, type[IPv4Address | IPv6Address]] = {b"TCP4": IPv4Address, b"TCP6": IPv6Address}
_V1_PORT = re.compile(rb"0|[1-9][0-9]{0,4}")

_V2_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_V2_FIXED_BYTES = 16
_V2_MAX_BYTES = 4096  # of addresses and TLVs; the specification speaks of several hundred
_V2_LOCAL, _V2_PROXY = 0x20, 0x21
_V2_FAMILIES = {0: 0, 1: 12, 2: 36, 3: 216}  # unspecified, IPv4, IPv6, unix: bytes of both addresses and ports
_V2_ADDRESS: dict[int, tuple[type[IPv4Address | IPv6Address], int]] = {
    0x11: (IPv4Address, 4),  # TCP over IPv4: bytes of an address
    0x21: (IPv6Address, 16),
}


def take_header(received: bytes) -> tuple[str | None, bytes] | None:
    """Return the client that a proxy names, once its header is complete.

    :param received: everything received on the connection.
    :return: None while the header is incomplete; then the client's address as text, and what follows the header. An
        IPv4 address mapped into IPv6 is returned as IPv4. The address is None if the proxy names no client, as in a
        health check: the connection's own address counts then.
    :raises BadProxyHeader: it is not a PROXY protocol header, of version 1 (§2.1) or 2 (§2.2), for a TCP connection.
    """
    if received.startswith(_V2_SIGNATURE[: len(received)]):
        return _take_v2(received)
    if received.startswith(_V1_SIGNATURE[: len(received)]):
        return _take_v1(received)
    raise BadProxyHeader("no PROXY header")


def _take_v1(received: bytes) -> tuple[str | None, bytes] | None:
    size = received.find(b"\r\n", 0, _V1_MAX_BYTES)
    line = received if size < 0 else received[:size]
    if b"\n" in line or (size < 0 and len(received) >= _V1_MAX_BYTES):
        raise BadProxyHeader("version 1: its line does not end by CRLF")
    if size < 0:
        return None
    rest = received[size + 2 :]
    _, protocol, *words = line.split(b" ")
    if protocol == b"UNKNOWN":
        return None, rest
    address = _V1_ADDRESS.get(protocol)
    if address is None or len(words) != 4 or b"%" in line:  # a zone could be any text
        raise BadProxyHeader("version 1: not TCP4, TCP6 or UNKNOWN with two addresses and two ports")
    try:
        source, _ = address(words[0].decode("ascii")), address(words[1].decode("ascii"))
    except ValueError:
        raise BadProxyHeader("version 1: an address is not of its protocol") from None
    if not all(_V1_PORT.fullmatch(port) and int(port) < 65536 for port in words[2:]):
        raise BadProxyHeader("version 1: a port is not a number up to 65535")
    return _text(source), rest


def _take_v2(received: bytes) -> tuple[str | None, bytes] | None:
    if len(received) < _V2_FIXED_BYTES:
        return None
    command, family = received[12], received[13]
    size = int.from_bytes(received[14:16], "big")
    if command not in (_V2_LOCAL, _V2_PROXY):
        raise BadProxyHeader("version 2: neither LOCAL nor PROXY")
    if size > _V2_MAX_BYTES:
        raise BadProxyHeader(f"version 2: longer than {_V2_MAX_BYTES} bytes")
    if len(received) < _V2_FIXED_BYTES + size:
        return None
    rest = received[_V2_FIXED_BYTES + size :]
    if command == _V2_LOCAL:
        return None, rest
    needed = _V2_FAMILIES.get(family >> 4)
    if needed is None or family & 0x0F > 1:
        raise BadProxyHeader("version 2: not a stream, or an unknown address family")
    if size < needed:
        raise BadProxyHeader("version 2: too short for its addresses")
    if family not in _V2_ADDRESS:  # unspecified, or the proxy's unix socket
        return None, rest
    address, width = _V2_ADDRESS[family]
    return _text(address(received[16 : 16 + width])), rest


def _text(address: IPv4Address | IPv6Address) -> str:
    return str(getattr(address, "ipv4_mapped", None) or address)
