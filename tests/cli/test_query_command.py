"""``fingergw query`` as a process, with several targets, and when it is interrupted; more in test_cli.py."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest
import trustme
from twisted.internet.defer import Deferred
from twisted.internet.utils import getProcessOutputAndValue

from fingergw.cli import main
from tests.support.certificates import UNTRUSTED
from tests.support.finger_server import FingerServer, Served, breaks_off, half_closes, hangs, says
from tests.support.gateway import GatewayCase
from tests.support.processes import COMMAND, ROOT
from tests.support.sockets import free_port
from tests.support.waiting import reactor, until

ENV = {**os.environ, "PYTHONPATH": str(ROOT)}


class QueryCase(GatewayCase):
    def query(self, *arguments: str, program: Sequence[str] = COMMAND) -> Deferred[tuple[bytes, bytes, int]]:
        """Run ``fingergw query``; what it fires with is standard output, standard error, and the exit code."""
        asking: Deferred[tuple[bytes, bytes, int]]
        asking = getProcessOutputAndValue(program[0], [*program[1:], "query", *arguments], ENV)
        return asking

    def begin(self, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        """Start ``fingergw query``, and end it with the test."""
        running = subprocess.Popen([*COMMAND, "query", *arguments], env=ENV, stderr=subprocess.PIPE, **options)
        self.addCleanup(running.communicate)
        self.addCleanup(running.kill)
        return running

    async def ended(self, running: subprocess.Popen[bytes]) -> tuple[int, bytes]:
        """Wait until the command ends, and return its exit code and standard error."""
        await until(lambda: running.poll() is not None, "the end")
        assert running.stderr is not None
        return running.returncode, running.stderr.read()


class SeveralTargets(QueryCase):
    async def test_in_order(self) -> None:
        """All are asked at once, and printed in order under headings; failures are reported one by one."""
        waiting: dict[bytes, Served] = {}

        def script(served: Served) -> None:
            if served.received == b"half\r\n":
                breaks_off(b"half")(served)
                return
            waiting[served.received] = served
            if len(waiting) == 2:
                waiting[b"b\r\n"].answer(b"Here\r\n")
                reactor.callLater(0.05, waiting[b"slow\r\n"].answer, b"At last\r\n")

        server, nobody = FingerServer(self, script), free_port()
        host = f"127.0.0.1:{server.port}"
        targets = [f"x@127.0.0.1:{nobody}", f"slow@{host}", f"half@{host}", f"b@{host}"]
        out, err, code = await self.query(*targets)
        expected = f"[slow@{host}]\nAt last\n\n[half@{host}]\nhalf\n\n[b@{host}]\nHere\n"
        assert (out.decode(), code) == (expected, 1)
        place = f"127.0.0.1, port {server.port}"
        assert err.decode().splitlines() == [
            f"fingergw: 127.0.0.1, port {nobody}: Connection refused",
            f"fingergw: {place}: the answer is incomplete: the connection was lost, 4 bytes into the answer",
        ]

    async def test_nothing(self) -> None:
        """A server that says nothing is reported, and the answers of the others are printed all the same."""
        answers = {b"a\r\n": b"Here\r\n", b"silent\r\n": b"", b"blank\r\n": b"\r\n", b"b\r\n": b"There\r\n"}
        server = FingerServer(self, lambda served: served.answer(answers[served.received]))
        host, place = f"@127.0.0.1:{server.port}", f"fingergw: 127.0.0.1, port {server.port}"
        out, err, code = await self.query(f"a{host}", f"silent{host}", f"blank{host}", f"b{host}")
        assert (out.decode(), code) == (f"[a{host}]\nHere\n\n[blank{host}]\n\n\n[b{host}]\nThere\n", 1)
        assert err.decode().splitlines() == [
            f"{place}: the server closed the connection without an answer",
            f"{place}: the answer has no text",
        ]
        assert (await self.query(f"silent{host}"))[::2] == (b"", 1)

    async def test_options_after_targets(self) -> None:
        """Options count wherever they stand, may be abbreviated, and end at ``--``."""
        server = FingerServer(self, says(b"ok\r\n"))
        host = f"@127.0.0.1:{server.port}"
        _, err, code = await self.query(f"a{host}", "-l", "--time", "3", f"b{host}", "-t4", "--", f"-l{host}")
        assert (err, code) == (b"", 0)
        assert sorted(server.lines) == [b"/W -l\r\n", b"/W a\r\n", b"/W b\r\n"]

    async def test_raw(self) -> None:
        """--raw prints the bytes that came, and nothing else."""
        answers = [b"\x1b[2J\xff\r", b"\r\n\0last"]
        server = FingerServer(self, lambda served: served.answer(answers[int(served.received)]))
        targets = (f"{number}@127.0.0.1:{server.port}" for number in range(2))
        assert await self.query("--raw", *targets) == (b"".join(answers), b"", 0)

    async def test_not_too_many_at_once(self) -> None:
        """It opens no more connections at once than a gateway allows by default, and asks each target."""
        server = FingerServer(self, lambda served: reactor.callLater(0.01, served.answer, b"ok\r\n"))
        out, _, code = await self.query(*(f"{number}@127.0.0.1:{server.port}" for number in range(40)))
        assert (out.count(b"ok\n"), code) == (40, 0)
        assert 1 < server.most_open <= 20
        assert sorted(server.lines) == sorted(f"{number}\r\n".encode() for number in range(40))

    async def test_slow_reader(self) -> None:
        """While nobody reads what it prints, the other answers come all the same."""
        waiting: list[Served] = []
        first, second = FingerServer(self, says(b"x" * 500_000 + b"\n")), FingerServer(self, waiting.append)
        targets = [f"@127.0.0.1:{server.port}" for server in (first, second)]
        running = self.begin(*targets, stdout=subprocess.PIPE)
        assert running.stdout is not None
        end = running.stdout.fileno()
        await until(lambda: waiting and select.select([end], [], [], 0)[0], "the first answer's beginning")
        half_closes(b"here\n")(waiting[0])
        await until(lambda: not second.open, "the second answer's end")
        assert running.poll() is None
        assert running.stdout.read().endswith(f"x\n\n[{targets[1]}]\nhere\n".encode())
        assert await self.ended(running) == (0, b"")


# what Twisted itself does with pyOpenSSL
@pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")
class OneTarget(QueryCase):
    async def test_unix_and_ascii(self) -> None:
        """--unix asks at a unix socket; --ascii prints ``?`` for what is not ASCII."""
        path = str(self.write("none", "").with_name("finger.sock"))
        server = FingerServer(self, says("Zoë\x1b \u202e\r\n".encode()), path=path)
        assert await self.query("--unix", path, "--ascii", "x@y", "-l") == (b"Zo? \n", b"", 0)
        assert server.lines == [b"/W x@y\r\n"]

    async def test_tls(self) -> None:
        """--tls asks over TLS, and trusts the authorities in --ca-file."""
        authority = trustme.CA()
        ca_file = str(self.write("ca.pem", authority.cert_pem.bytes().decode()))
        server = FingerServer(self, says(b"secret\r\n"), authority=authority)
        target = f"x@127.0.0.1:{server.port}"
        assert await self.query("--tls", "--ca-file", ca_file, target) == (b"secret\n", b"", 0)
        message = f"fingergw: 127.0.0.1, port {server.port}: {UNTRUSTED}\n"
        assert await self.query("--tls", target) == (b"", message.encode(), 1)

    async def test_lookup_that_hangs(self) -> None:
        """A silent name server delays neither the message nor the end of the process."""
        code = (
            "import socket, sys, threading; real = socket.getaddrinfo; socket.getaddrinfo = lambda host, *rest: "
            "real(host, *rest) if rest[-1] else threading.Event().wait();"
            "from fingergw.cli import main; sys.exit(main())"
        )
        out, err, exit_code = await self.query("-t", "0.2", "x@h.example", program=[sys.executable, "-c", code])
        assert (out, err, exit_code) == (b"", b"fingergw: h.example, port 79: no answer within 0.2 s\n", 1)

    async def test_signals(self) -> None:
        """SIGINT and SIGTERM end it at once, whatever it waits for, and it prints nothing."""
        server = FingerServer(self, hangs(b"begun"))
        both = [self.begin(f"@127.0.0.1:{server.port}", stdout=subprocess.PIPE) for _ in range(2)]
        await until(lambda: len([line for line in server.lines if line]) == 2, "both queries")
        for running, number in zip(both, (signal.SIGINT, signal.SIGTERM), strict=True):
            running.send_signal(number)
        assert await self.ended(both[0]) == (130, b"")
        assert await self.ended(both[1]) == (-signal.SIGTERM, b"")

    async def test_reader_that_goes(self) -> None:
        """If its output is closed after a part, it ends without a message, and with the exit code that cat has."""
        server = FingerServer(self, says(b"x\r\n" * 200_000))
        end, theirs = os.pipe()
        running = self.begin(f"@127.0.0.1:{server.port}", stdout=theirs)
        os.close(theirs)
        await until(lambda: select.select([end], [], [], 0)[0], "the first line")
        assert os.read(end, 2) == b"x\n"
        os.close(end)
        assert await self.ended(running) == (128 + signal.SIGPIPE, b"")

    async def test_closed_output(self) -> None:
        """If standard output is closed, no server is asked."""
        server = FingerServer(self, says(b"x\r\n"))
        program = ["/bin/sh", "-c", 'exec "$@" >&-', "sh", *COMMAND]
        ended = await self.query(f"@127.0.0.1:{server.port}", program=program)
        assert ended == (
            b"",
            b"fingergw: standard output is closed, so answers cannot be printed: open it\n",
            1,
        )
        assert server.connections == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--raw", "--ascii"], "--ascii and --raw contradict each other"),
        (["--tls", "--unix", "/s"], "--tls and --unix cannot"),
        (["--ca-file", "/ca.pem"], "--ca-file is for TLS: add --tls"),
        (["--tls", "--ca-file", "/none/ca.pem"], "/none/ca.pem: No such file or directory"),
        (["--tls", "--ca-file", "/dev/null"], "/dev/null: not a regular file; name a regular file"),
        (["--tls", "--ca-file", "/dev/zero"], "/dev/zero: not a regular file; name a regular file"),
        (["--tls", "--ca-file", "/"], "--ca-file /: "),
        (["--tls", "--ca-file", __file__], "test_query_command.py: expected one or more certificates in PEM form"),
        (["--unix", ""], "expected the path of a unix socket"),
        (["a@h", "--nonsense"], 'unknown option "--nonsense"'),
        (["a@h", "b@h:0"], 'target "b@h:0": expected a port from 1 to 65535'),
        (["b@h:" + "9" * 5000], "expected a port from 1 to 65535"),
    ],
)
def test_wrong_usage(arguments: list[str], message: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Contradicting options and impossible values are wrong usage, and no server is contacted."""
    assert main(["query", *arguments]) == 2
    assert message in capfd.readouterr().err
