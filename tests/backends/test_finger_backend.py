"""The finger backend, with real servers that misbehave, and time under control."""

from __future__ import annotations

import unicodedata
from functools import partial
from typing import Any

import pytest
import trustme
from hypothesis import example, given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint, ITransport
from twisted.internet.task import Clock

from fingergw.backends.finger import FingerBackend, line_for
from fingergw.core.errors import BadQuery
from fingergw.core.outcome import Answered, Failed, Missing, Outcome
from fingergw.core.query import Query, parse, take_line
from tests.support.certificates import UNTRUSTED
from tests.support.configuration import HELLO
from tests.support.finger_server import (
    FingerServer,
    Script,
    Stuck,
    breaks_off,
    half_closes,
    hangs,
    says,
    tls_endpoint,
    trickles,
)
from tests.support.gateway import GatewayCase
from tests.support.in_turn import InTurn
from tests.support.sockets import free_port
from tests.support.waiting import reactor, until

TIMEOUT = 5.0
LATE = Failed("not done within 5 s")
NOT_BEGUN = Failed("not begun within 5 s, as max_running = 1 others were running")


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        (b"", ""),
        (b"/W", "/W"),
        (b"moshez", "moshez"),
        (b"/W moshez", "/W moshez"),
        (b"  Ada   Lovelace /W ", "/W ada lovelace"),
        (b"a@h", "a"),
        (b"@h", ""),
        (b"/W @h", "/W"),
        (b"a@h1@h2", "a@h1"),
        (b"/W a@h1@h2@h3", "/W a@h1@h2"),
        (b"@h1@h2", "@h1"),
        (b"/w @h1@h2", "/W @h1"),
        (b"a @ h1 @ h2", "a@h1"),
        ("zoë@h".encode(), "zoë"),
        (b"-l@h", "-l"),
        (b"a/W@h", "a/w"),
        (b"a@/W@h", "a@/w"),
    ],
)
def test_line(asked: bytes, line: str) -> None:
    """The next server is asked the same, without the last host, which is that server, and told of /W."""
    assert line_for(parse(asked)) == line


@pytest.mark.parametrize("asked", [b"/W@h", b"/w@h", b"a /W@h", b"/W /W@h", b"a@h1 /W@h2"])
def test_slash_w_for_a_name(asked: bytes) -> None:
    """A name that is /W as it would stand on the line is not sent: it would be read as something else."""
    assert line_for(parse(asked)) is None


@pytest.mark.parametrize(
    "query",
    [Query("a\r\nb"), Query("a\nb"), Query("a\0"), Query("a\x1b[2J"), Query("a@b"), Query("\ud800"), Query(" a")],
)
def test_no_query(query: Query) -> None:
    """What no client can have asked is not sent, whoever made it."""
    assert line_for(query) is None


# what matters in a line is common in these, and so is everything else there is
LINES = st.one_of(
    st.text(st.sampled_from("aB/Ww@  .ßİ-1\t"), max_size=20).map(str.encode),
    st.text(max_size=20).map(lambda text: text.encode(errors="ignore")),
    st.lists(st.sampled_from(["/W", "/w", " ", "@", "h1", "h2", "User", "ǅ", "-p"]), max_size=9).map(
        lambda parts: "".join(parts).encode()
    ),
    st.binary(max_size=20),
)


@given(line=LINES, case_sensitive=st.booleans())
@example(line=b"/W@h", case_sensitive=True)
@example(line="İ@K@h".encode(), case_sensitive=False)
def test_line_says_the_same(line: bytes, case_sensitive: bool) -> None:
    """Whatever a client asks, what is sent is one line without a control, and the next server reads the same in it."""
    try:
        query = parse(line, case_sensitive)
    except BadQuery:
        return
    sent = line_for(query)
    if sent is None:
        words = "@".join((query.user, *query.hosts[:-1])).lower().split(" ")
        assert "/w" in words
        return
    assert [unicodedata.category(character) for character in sent if unicodedata.category(character)[0] == "C"] == []
    wire = sent.encode() + b"\r\n"
    received = take_line(wire, len(wire))
    assert received is not None
    assert received + b"\r\n" == wire
    assert parse(received, case_sensitive=True) == Query(query.user, query.hosts[:-1], query.verbose)


class FingerCase(GatewayCase):
    def setUp(self) -> None:
        self.clock: Any = Clock()

    def backend(
        self,
        endpoint: IStreamClientEndpoint,
        *,
        max_bytes: int = 1000,
        max_running: int = 1,
        is_self: Any = lambda _: False,
    ) -> InTurn[FingerBackend]:
        """Return a backend whose time the test advances."""
        return InTurn(FingerBackend(endpoint, max_bytes, is_self), TIMEOUT, max_running, self.clock)

    def asked(self, backend: InTurn[FingerBackend], user: str = "x", **others: Any) -> Deferred[Outcome]:
        """Begin to ask a backend; that is cancelled at the end."""
        asked = backend.asked(Query(user, **others))
        self.addCleanup(self._end, asked)
        return asked

    @staticmethod
    def _end(asked: Deferred[Outcome]) -> None:
        asked.cancel()
        asked.addErrback(lambda _: None)  # whoever wanted its result has had it

    async def outcome_of(self, script: Script, *, max_bytes: int = 1000) -> Outcome:
        """Ask a server that does as the script says, and see its connection go."""
        server = FingerServer(self, script)
        outcome = await self.asked(self.backend(server.endpoint, max_bytes=max_bytes))
        await until(lambda: server.connections and not server.open, "the end of the connection")
        return outcome


class OutcomeTests(FingerCase):
    """What is made of what a server does."""

    async def test_answer(self) -> None:
        """Whatever a server says is the answer."""
        assert await self.outcome_of(says(b"Login: x\r\nNo Plan.\r\n")) == Answered("Login: x\r\nNo Plan.\r\n")

    async def test_query(self) -> None:
        """The server is asked for the name alone, and told of /W; of a chain it gets the rest."""
        for query, line in (
            (Query("x"), b"x\r\n"),
            (Query(""), b"\r\n"),
            (Query("x", verbose=True), b"/W x\r\n"),
            (Query("x", ("h",), verbose=True), b"/W x\r\n"),
            (Query("x", ("h1", "h2")), b"x@h1\r\n"),
        ):
            server = FingerServer(self, says(b"yes"))
            assert await self.backend(server.endpoint).asked(query) == Answered("yes")
            assert server.lines == [line]

    async def test_name_that_is_a_flag(self) -> None:
        """A name that would be read as /W is missing, and the server is not asked."""
        server = FingerServer(self, says(b"yes"))
        assert await self.asked(self.backend(server.endpoint), "/w", hosts=("h",)) == Missing()
        assert server.connections == []

    async def test_not_utf8(self) -> None:
        """What is not UTF-8 is replaced, and no reason to fail."""
        assert await self.outcome_of(says(b"caf\xe9, na\xc3\xafve")) == Answered("caf\ufffd, naïve")

    async def test_pieces(self) -> None:
        """An answer may come byte by byte, also within a character."""
        assert await self.outcome_of(trickles("zoë ☃".encode())) == Answered("zoë ☃")

    async def test_half_close(self) -> None:
        """A server may close its side alone."""
        assert await self.outcome_of(half_closes(b"whole")) == Answered("whole")

    async def test_limit(self) -> None:
        """An answer may be as large as allowed, and one that is larger has failed."""
        answer = b"x" * (1 << 20)
        assert await self.outcome_of(says(answer), max_bytes=1 << 20) == Answered(answer.decode())
        assert await self.outcome_of(says(answer), max_bytes=(1 << 20) - 1) == Failed(
            "the answer is larger than max_bytes = 1048575"
        )

    async def test_nothing(self) -> None:
        """A server that closes without a word has failed."""
        assert await self.outcome_of(says(b"")) == Failed("the server closed the connection without an answer")

    async def test_reset(self) -> None:
        """A connection that was reset, before or in the answer, has failed."""
        assert await self.outcome_of(breaks_off()) == Failed("the connection was lost")
        assert await self.outcome_of(breaks_off(b"half")) == Failed("the connection was lost, 4 bytes into the answer")

    async def test_refused(self) -> None:
        """A server that is not there has failed, in the system's words."""
        backend = self.backend(TCP4ClientEndpoint(reactor, "127.0.0.1", free_port()))
        assert await self.asked(backend) == Failed("Connection refused")

    async def test_is_self(self) -> None:
        """The gateway does not ask itself."""
        server = FingerServer(self, says(b"yes"))
        seen: list[Any] = []

        def is_self(wire: ITransport) -> bool:
            seen.append(wire.getPeer())
            return True

        outcome = await self.asked(self.backend(server.endpoint, is_self=is_self))
        assert outcome == Failed("its address leads back to this gateway, which would ask itself; correct it")
        await until(lambda: server.connections and not server.open, "the end of the connection")
        assert server.lines == [b""]
        assert [address.port for address in seen] == [server.port]

    async def test_another_gateway(self) -> None:
        """Another gateway is asked like any server."""
        gateway = self.start(f'[[listeners]]\nendpoint = "tcp:0:interface=127.0.0.1"\n{HELLO}')
        backend = self.backend(self.endpoint(gateway))
        assert await self.asked(backend, "hello", hosts=("h",), verbose=True) == Answered("Hello\r\n")
        assert await self.asked(backend, "x", hosts=("h1", "h2")) == Answered("Finger forwarding service denied\r\n")

    async def test_unix(self) -> None:
        """A server may listen on a unix socket."""
        server = FingerServer(self, says(b"local"), path=str(self.write("unused", "").with_name("finger.sock")))
        assert await self.asked(self.backend(server.endpoint)) == Answered("local")

    # what Twisted itself does with pyOpenSSL
    @pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")
    @pytest.mark.filterwarnings("ignore:X509[.]get:DeprecationWarning")
    async def test_tls(self) -> None:
        """A server may speak TLS; one whose certificate is nobody's whom one trusts has failed."""
        server = FingerServer(self, says(b"secret"), authority=trustme.CA())
        assert await self.asked(self.backend(server.endpoint)) == Answered("secret")
        backend = self.backend(tls_endpoint(server.port, trustme.CA()))
        assert await self.asked(backend) == Failed(UNTRUSTED)


class TimeTests(FingerCase):
    """Servers that take their time, and clients that do not."""

    async def begin(self, backend: InTurn[FingerBackend], server: FingerServer, user: str = "x") -> Deferred[Outcome]:
        """Begin to ask, and wait until the server has the line."""
        before = len(server.connections)
        asked = self.asked(backend, user)
        await until(lambda: server.lines[before:] == [f"{user}\r\n".encode()], "the line")
        return asked

    async def test_timeout(self) -> None:
        """A server that does not end its answer has failed at the deadline, and the connection goes."""
        for script in (hangs(), hangs(b"all there is\r\n")):
            server = FingerServer(self, script)
            asked = await self.begin(self.backend(server.endpoint), server)
            self.clock.advance(TIMEOUT - 0.1)
            assert not asked.called
            self.clock.advance(0.1)
            assert asked.called
            assert await asked == LATE
            await until(lambda server=server: not server.open, "the end of the connection")

    async def test_timeout_while_connecting(self) -> None:
        """The deadline holds for connecting, too."""
        stuck = Stuck(self)
        before = stuck.attempts()
        asked = self.asked(self.backend(TCP4ClientEndpoint(reactor, "127.0.0.1", stuck.port)))
        await until(lambda: stuck.attempts() == before + 1, "the attempt")
        self.clock.advance(TIMEOUT)
        assert await asked == LATE
        await until(lambda: stuck.attempts() == before, "the attempt's end")

    async def test_answer_leaves_no_timer(self) -> None:
        """An answer in time leaves nothing behind that runs later."""
        server = FingerServer(self, says(b"yes"))
        await self.asked(self.backend(server.endpoint))
        assert self.clock.getDelayedCalls() == []

    async def test_cancel(self) -> None:
        """When nobody waits any more the connection goes at once, and that is no outcome."""
        server = FingerServer(self, hangs(b"half"))
        asked = await self.begin(self.backend(server.endpoint), server)
        asked.cancel()
        assert asked.called
        with pytest.raises(CancelledError):
            await asked
        await until(lambda: not server.open, "the end of the connection")
        assert self.clock.getDelayedCalls() == []

    async def test_max_running(self) -> None:
        """No more connections than allowed are open at once; the rest wait, and all are answered."""
        server = FingerServer(self, hangs())
        backend = self.backend(server.endpoint, max_running=2)
        asked = [self.asked(backend, str(number)) for number in range(6)]

        def begun(count: int) -> bool:
            self.clock.advance(0)  # who waits has its turn
            return len([each for each in server.lines if each]) >= count

        for done in range(6):
            await until(partial(begun, min(done + 2, 6)))
            server.connections[done].answer(b"yes")
        assert [await each for each in asked] == [Answered("yes")] * 6
        assert server.most_open == 2
        assert server.lines == [f"{number}\r\n".encode() for number in range(6)]

    async def test_waiting_counts(self) -> None:
        """Time spent waiting for others counts."""
        server = FingerServer(self, hangs())
        backend = self.backend(server.endpoint)
        first = await self.begin(backend, server)
        self.clock.advance(3)
        second, third = self.asked(backend, "second"), self.asked(backend, "third")
        self.clock.advance(2)
        assert await first == LATE
        await until(lambda: server.lines == [b"x\r\n", b"second\r\n"], "the second")
        self.clock.advance(3)
        assert await second == LATE
        assert await third == NOT_BEGUN
        await until(lambda: not server.open, "the end of the connections")

    async def test_what_needs_no_place(self) -> None:
        """A name that would be read as /W is missing at once, also while others wait for the server."""
        server = FingerServer(self, hangs())
        backend = self.backend(server.endpoint)
        await self.begin(backend, server)
        waits = self.asked(backend, "waits")
        assert self.successResultOf(self.asked(backend, "/w", hosts=("h",))) == Missing()
        assert not waits.called

    async def test_places_are_given_back(self) -> None:
        """Whatever became of a query, whether it waited or ran, the next has its place."""
        server = FingerServer(self, hangs())
        backend = self.backend(server.endpoint)
        running = await self.begin(backend, server, "running")
        waiting = self.asked(backend, "waiting")
        waiting.cancel()
        running.cancel()
        for script, outcome in (
            (breaks_off(), Failed("the connection was lost")),
            (says(b""), Failed("the server closed the connection without an answer")),
            (says(b"x" * 1001), Failed("the answer is larger than max_bytes = 1000")),
            (says(b"yes"), Answered("yes")),
        ):
            server.script = script
            assert await self.asked(backend) == outcome
        assert b"waiting\r\n" not in server.lines

    async def test_place_of_one_that_refrained(self) -> None:
        """So it is when the gateway would have asked itself, or could not connect."""
        server = FingerServer(self, says(b"yes"))
        selves = [True, False]
        backend = self.backend(server.endpoint, is_self=lambda _: selves.pop(0))
        assert isinstance(await self.asked(backend), Failed)
        assert await self.asked(backend) == Answered("yes")
        unreachable = self.backend(TCP4ClientEndpoint(reactor, "127.0.0.1", free_port()))
        for _ in range(2):
            assert await self.asked(unreachable) == Failed("Connection refused")
