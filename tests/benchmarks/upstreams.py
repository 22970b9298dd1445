"""Upstreams that answer all questions alike, in a process of their own: at once, after a time, or never.

    python -m tests.benchmarks.upstreams http|finger PORT SECONDS

With ``inf`` as SECONDS they accept connections, and never answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from tests.benchmarks import server
from tests.support.sockets import free_port

ANSWER = b"Ada is on call until Friday, 18:00.\r\n"


@contextmanager
def upstream(kind: Literal["http", "finger"], seconds: float = 0.0) -> Iterator[int]:
    """Run one; return its port.

    :param seconds: how long an answer takes.
    """
    port = free_port()
    with server("-m", "tests.benchmarks.upstreams", kind, str(port), str(seconds), port=port):
        yield port


async def _main(kind: str, port: int, seconds: float) -> None:
    async def answer(writer: asyncio.StreamWriter, wire: bytes) -> None:
        await asyncio.sleep(min(seconds, 86400))
        writer.write(wire)
        await writer.drain()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError), contextlib.closing(writer):
            if kind == "finger":
                await reader.readuntil(b"\n")
                await answer(writer, ANSWER)
                return
            head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % len(ANSWER)
            while True:
                await reader.readuntil(b"\r\n\r\n")
                await answer(writer, head + ANSWER)

    async with await asyncio.start_server(serve, "127.0.0.1", port, backlog=1024) as serving:
        await serving.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
