"""The servers behind the gateway in a soak. What they do for a name stands in the name: ``web-reset-7``.

Run as a program it prints its ports, and serves until its standard input ends.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import socket
import struct
import sys
from collections import Counter

IDLE_SECONDS = 1.0
"""How long a connection is kept for the next request."""
_FIRST_SECONDS = 30.0
"""How long it is kept for the first, which comes late from a gateway that has much to do."""
_BOMB = gzip.compress(bytes(8 << 20))
_HUGE = b"x" * (1 << 20)
_asked: Counter[str] = Counter()


def _response(body: bytes, *, status: str = "200 OK", content_type: str = "text/plain", more: str = "") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    return head.encode() + body


async def _break_off(writer: asyncio.StreamWriter, begin: bytes = b"") -> None:
    """Send something, and reset the connection."""
    writer.write(begin)
    await writer.drain()
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _serve_web(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer requests on one connection."""
    patience = _FIRST_SECONDS
    while True:
        async with asyncio.timeout(patience):
            head = await reader.readuntil(b"\r\n\r\n")
        patience = IDLE_SECONDS
        name = head.split()[1][1:].decode()
        what = name.split("-")[1]
        _asked[name] += 1
        if what == "flap":  # the first time it works, and then every other
            what = "ok" if _asked[name] % 2 else "error"
        page = f"page {name}".encode()
        match what:
            case "ok" | "rare":
                writer.write(_response(page))
            case "html":
                body = f"<html><body><h1>Page</h1><p>{name}</p></body></html>"
                writer.write(_response(body.encode(), content_type="text/html"))
            case "json":
                writer.write(_response(json.dumps({"name": name, "state": "up"}).encode()))
            case "redirect":
                writer.write(_response(b"", status="302 Found", more="Location: /web-ok-1\r\n"))
            case "missing":
                writer.write(_response(b"no such page", status="404 Not Found"))
            case "error" | "first":
                writer.write(_response(b"out of order", status="500 Internal Server Error"))
            case "slow":
                writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                for byte in page:
                    writer.write(b"1\r\n" + bytes([byte]) + b"\r\n")
                    await asyncio.sleep(0.002)
                writer.write(b"0\r\n\r\n")
            case "reset":
                return await _break_off(writer, _response(page * 9)[:-9])
            case "cold":
                return await _break_off(writer)
            case "huge":
                writer.write(_response(_HUGE))
            case "endless":
                writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                while not writer.is_closing():
                    writer.write(b"400\r\n" + _HUGE[:1024] + b"\r\n")
                    await writer.drain()
                    await asyncio.sleep(0)
            case "bomb":
                writer.write(_response(_BOMB, more="Content-Encoding: gzip\r\n"))
            case "malformed":
                writer.write(b"This is\0no HTTP at all\r\n\r\n")
                return None
            case "stall":
                writer.write(_response(page)[:-1])
                await reader.read()
            case "hang" | "stuck":
                await reader.read()
        await writer.drain()


async def _serve_finger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one query."""
    name = (await reader.readline()).decode().removeprefix("/W ").strip()
    match name.split("-")[1:2] and name.split("-")[1]:
        case "ok" | "hop":
            writer.write(f"finger {name}\r\n".encode())
        case "control":
            writer.write(b"be\x1b[2Jll\x07\x00 \xff " + name.encode() + b"\r\n")
        case "reset":
            return await _break_off(writer, b"finger")
        case "huge":
            writer.write(_HUGE)
        case "hang" | "stuck":
            await reader.read()
    await writer.drain()
    return None


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, web: bool) -> None:
    """Serve a connection to its end, also where the other side makes it."""
    try:
        await (_serve_web(reader, writer) if web else _serve_finger(reader, writer))
    except (asyncio.IncompleteReadError, TimeoutError, ConnectionError):
        pass
    finally:
        writer.close()


async def main() -> None:
    """Serve until standard input ends."""
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # it would warn of each connection that the gateway breaks off
    web = await asyncio.start_server(lambda *streams: _serve(*streams, web=True), "127.0.0.1", backlog=1024)
    finger = await asyncio.start_server(lambda *streams: _serve(*streams, web=False), "127.0.0.1", backlog=1024)
    ports = {name: server.sockets[0].getsockname()[1] for name, server in (("web", web), ("finger", finger))}
    print(json.dumps(ports), flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
