"""RFC 1288, clause by clause: what is asked, what is answered, and what the audit trail has of it."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from fingergw.cli import main
from fingergw.cli.finger_client import Target, fetch, parse_target
from fingergw.net.resolving import Resolver
from tests.support.finger_server import FingerServer, Served, says, trickles
from tests.support.gateway import GatewayCase, port_of
from tests.support.processes import COMMAND, ROOT
from tests.support.sockets import free_port, receive_all
from tests.support.transports import on_both_transports
from tests.support.waiting import in_thread, reactor

CLIENT = "127.0.0.2"
# The RFC's sections from 2.1 to 3.3 that require, recommend or allow something. 2.5 and 3.2 only introduce theirs.
SECTIONS = {
    "2.1": "Flow of events",
    "2.2": "Data format",
    "2.3": "Query specifications",
    "2.4": "RUIP {Q2} behavior",
    "2.5.1": "{C} query",
    "2.5.2": "{U}{C} query",
    "2.5.3": "{U} ambiguity",
    "2.5.4": "/W query token",
    "2.5.5": "Vending machines",
    "3.1": "Implementation security",
    "3.2.1": "{Q2} refusal",
    "3.2.2": "{C} refusal",
    "3.2.3": "Atomic discharge",
    "3.2.4": "User information files",
    "3.2.5": "Execution of user programs",
    "3.2.6": "{U} ambiguity",
    "3.2.7": "Audit trails",
    "3.3": "Client security",
}

BARE = """
[[listeners]]
name = "public"
endpoint = "tcp:0:interface=127.0.0.1"
[log]
access = "access.log"
format = "json"
"""
PEOPLE = """
[[routes]]
users = ["hello", "zoë", "fancy", "mixed", "nobody-yet"]
backends = ["texts"]
[backends.texts.entries]
hello = "Hello"
"zoë" = "Zoë"
fancy = "\\u001b]0;mine\\u0007a\\u001b[31mb\\tc\\u009b\\u202ed\\u007f"
mixed = "one\\r\\ntwo\\nthree\\rfour"
[backends.texts]
type = "static"
"""
FULL = (
    BARE
    + PEOPLE
    + """
[[listeners]]
name = "quiet"
endpoint = "tcp:0:interface=127.0.0.1"
[[listeners]]
name = "machine"
endpoint = "tcp:0:interface=127.0.0.1"

[[routes]]
index = true
listeners = ["public"]
backends = ["who"]
[backends.who]
type = "command"
argv = ["printf", '%s\\n', "Login  Name", "ada    Ada Lovelace"]

[[routes]]
users = ["nail", "least", "some", "none", "ada.lovelace", "ada.byron", "sam", "home", "x-1"]
backends = ["people"]
[backends.people]
type = "static"
[backends.people.entries]
nail = { name = "Nail Sharp", office = "3.14", phone = "555", project = "Hammer", plan = "Hit things." }
least = { name = "Lea Least" }
some = { name = "Sam Some", office = "019 Hill", phone = "x3166" }
"ada.lovelace" = { name = "Ada Lovelace" }
"ada.byron" = { name = "Ada Byron" }
sam = "sam.jones  Sam Jones\\nsam.smith  Sam Smith"
home = { name = "Hal Home", directory = "FOLDER" }
x-1 = "the first route"

[[routes]]
pattern = "x-*"
backends = ["last"]
[backends.last]
type = "static"
text = "the later route"

[[routes]]
user = "verbose"
backends = ["verbose"]
[backends.verbose]
type = "command"
argv = ["sh", "-c", 'echo verbose=$FINGER_VERBOSE']

[[routes]]
regex = '(?P<who>[a-z]+)-plan'
backends = ["plans"]
[backends.plans]
type = "command"
argv = ["cat", "--", "FOLDER/{who}.plan"]

[[routes]]
pattern = "*echo*"
backends = ["echo"]
[backends.echo]
type = "command"
argv = ["printf", '%s\\n', "{user}"]

[[routes]]
index = true
listeners = ["machine"]
backends = ["menu"]
[[routes]]
user = "coke"
summary = "Cold, 0.75"
listeners = ["machine"]
backends = ["slots"]
[[routes]]
user = "tea"
summary = "Hot, 0.50"
listeners = ["machine"]
backends = ["slots"]
[backends.menu]
type = "menu"
[backends.slots]
type = "static"
entries = { coke = "Slot 1: 12 left", tea = "Slot 2: sold out" }

[forwarding]
allow = { "old.example.org" = "tcp:127.0.0.1:PORT", "down.example.org" = "tcp:127.0.0.1:CLOSED" }
"""
)
CONFIGS = {"bare": BARE, "full": FULL, "ascii": BARE + PEOPLE + '[answers]\ncharset = "ascii"\n'}

NO_USER = b"No such user\r\n"
NO_LIST = b"Finger online user list denied\r\n"
NO_FORWARDING = b"Finger forwarding service denied\r\n"
INVALID = b"Invalid query\r\n"
FAILED = b"Internal error in server\r\n"
HELLO = b"Hello\r\n"
WHO = b"Login  Name\r\nada    Ada Lovelace\r\n"
MENU = b"coke  Cold, 0.75\r\ntea   Hot, 0.50\r\n"
NAIL = (
    b"Login: nail                           Name: Nail Sharp\r\n"
    b"Office: 3.14, 555\r\nProject: Hammer\r\nPlan:\r\nHit things.\r\n"
)


class Row(NamedTuple):
    """A clause, and what shows that it holds, or what there is in its place.

    :param says: what is shown, in a few words.
    :param asked: what the client sends; it closes its side after that if that is not ended by LF.
    :param answer: all that it receives, up to a clean end.
    :param outcome: what the access log has for it.
    :param config: which of the configurations the gateway has.
    :param listener: the place of the listener that is asked.
    :param passed_on: what the next server is sent; None if it must not be asked.
    :param logged: the query in the access log, where that is not what was asked.
    :param piecewise: whether it is sent a byte at a time.
    """

    section: str
    says: str
    asked: bytes
    answer: bytes
    outcome: str = "answered"
    config: str = "full"
    listener: int = 0
    passed_on: bytes | None = None
    logged: str | None = None
    piecewise: bool = False


QUIET, MACHINE = 1, 2
ROWS = [
    # A clean end of file after the answer is part of what each row checks.
    Row("2.1", "one line in, an answer out, then the server closes", b"hello\r\n", HELLO),
    Row("2.1", "a line that comes a byte at a time", b"hello\r\n", HELLO, piecewise=True),
    Row("2.1", "what follows the one line is no query", b"hello\r\nnail\r\n", HELLO),
    Row("2.1", "a refusal is an answer too", b"nobody\r\n", NO_USER, "no_such_user"),
    #
    Row("2.2", "every line ends with CRLF, whatever it ended with before", b"mixed\r\n",
        b"one\r\ntwo\r\nthree\r\nfour\r\n"),
    Row("2.2", "what is beyond ASCII goes out as UTF-8", b"zo\xc3\xab\r\n", b"Zo\xc3\xab\r\n", logged="zoë"),
    Row("2.2", 'charset "ascii" keeps every answer to 7 bits', b"zo\xc3\xab\r\n", b"Zo?\r\n", config="ascii",
        logged="zoë"),
    Row("2.2", "ASCII with the parity bit set is refused", bytes(each | 128 for each in b"hello") + b"\r\n", INVALID,
        "bad_query", logged=r"\xe8\xe5\xec\xec\xef"),
    #
    Row("2.3", "{Q1}: {C} alone", b"\r\n", WHO),
    Row("2.3", "{Q1}: {W}{C}", b"/W\r\n", WHO),
    Row("2.3", "{Q1}: {U}{C}", b"hello\r\n", HELLO),
    Row("2.3", "{Q1}: {W}{S}{U}{C}", b"/W hello\r\n", HELLO),
    Row("2.3", "{S} is any number of blanks", b"/W    hello\r\n", HELLO),
    Row("2.3", "{Q2}: {H}{C}", b"@old.example.org\r\n", b"list\r\n", passed_on=b"\r\n"),
    Row("2.3", "{Q2}: {U}{H}{C}", b"foo@old.example.org\r\n", b"foo\r\n", passed_on=b"foo\r\n"),
    Row("2.3", "{Q2}: {W}{S}{H}{C}", b"/W @old.example.org\r\n", b"long list\r\n", passed_on=b"/W\r\n"),
    Row("2.3", "{Q2}: {W}{S}{U}{H}{C}", b"/W foo@old.example.org\r\n", b"long foo\r\n", passed_on=b"/W foo\r\n"),
    Row("2.3", "any number of {H} is a query; more than max_hops are not served",
        b"foo" + b"@old.example.org" * 20 + b"\r\n", NO_FORWARDING, "forward_denied"),
    Row("2.3", "a query has no more than max_query_bytes", b"foo" + b"@old.example.org" * 40 + b"\r\n", INVALID,
        "bad_query", logged=("foo" + "@old.example.org" * 40)[:512]),
    Row("2.3", "liberal: a bare LF ends the line", b"hello\n", HELLO),
    Row("2.3", "liberal: blanks and tabs at either end", b" \thello \r\n", HELLO),
    Row("2.3", "liberal: /w in lower case", b"/w verbose\r\n", b"verbose=1\r\n"),
    Row("2.3", "liberal: /W after the name, as in RFC 1196", b"verbose /W\r\n", b"verbose=1\r\n"),
    Row("2.3", "liberal: names in any case", b"HeLLo\r\n", HELLO),
    Row("2.3", "liberal: telnet commands are skipped", b"\xff\xfb\x1f\xff\xfd\x03hello\r\n", HELLO, logged="hello"),
    Row("2.3", "/W is a token only where it stands by itself", b"/Wverbose\r\n", NO_USER, "no_such_user"),
    Row("2.3", "the end of what the client sends ends its line", b"hello", b"Hello\r\n"),
    #
    Row("2.4", "{Q2} is actively refused where it is not provided", b"foo@host1@host2\r\n", NO_FORWARDING,
        "forward_denied", "bare"),
    Row("2.4", "the right-most host is asked, for the rest", b"foo@host1@old.example.org\r\n", b"foo at host1\r\n",
        passed_on=b"foo@host1\r\n"),
    Row("2.4", "all that the next server says is returned, once it has closed", b"slow@old.example.org\r\n",
        b"one\r\ntwo\r\n", passed_on=b"slow\r\n"),
    Row("2.4", "what the next server does not answer is a failure", b"mute@old.example.org\r\n", FAILED,
        "internal_error", passed_on=b"mute\r\n"),
    Row("2.4", "so is more than max_bytes", b"much@old.example.org\r\n", FAILED, "internal_error",
        passed_on=b"much\r\n"),
    Row("2.4", "so is a next server that is down", b"foo@down.example.org\r\n", FAILED, "internal_error"),
    Row("2.4", "a name that the next server would read as /W is not sent", b"/W@old.example.org\r\n", NO_USER,
        "no_such_user"),
    Row("2.4", "a chain with this host in it is refused", b"foo@localhost@old.example.org\r\n", NO_FORWARDING,
        "forward_denied"),
    #
    Row("2.5.1", "{C} is answered with the full names that a command gives", b"\r\n", WHO),
    Row("2.5.1", "{C} is actively refused where no route has the index", b"\r\n", NO_LIST, "list_denied", "bare"),
    #
    Row("2.5.2", "full name, office, phone, project and plan, as they are written down", b"nail\r\n", NAIL),
    Row("2.5.2", "who has no plan has No Plan.", b"least\r\n",
        b"Login: least                          Name: Lea Least\r\nNo Plan.\r\n"),
    Row("2.5.2", "a name that nobody has", b"nobody\r\n", NO_USER, "no_such_user"),
    Row("2.5.2", "a name with a route, of which no backend knows", b"nobody-yet\r\n", NO_USER, "no_such_user"),
    #
    Row("2.5.3", "names are those that routes have; a part of one is none", b"ada\r\n", NO_USER, "no_such_user"),
    Row("2.5.3", "nor is a full name", b"Ada Lovelace\r\n", NO_USER, "no_such_user"),
    Row("2.5.3", "who wants derivations returned writes them down", b"sam\r\n",
        b"sam.jones  Sam Jones\r\nsam.smith  Sam Smith\r\n"),
    Row("2.5.3", "of several routes for a name the first answers, alone", b"x-1\r\n", b"the first route\r\n"),
    #
    Row("2.5.4", "a command is told of /W", b"/W verbose\r\n", b"verbose=1\r\n"),
    Row("2.5.4", "and of its absence", b"verbose\r\n", b"verbose=0\r\n"),
    Row("2.5.4", "the last server is told of /W", b"/W foo@old.example.org\r\n", b"long foo\r\n",
        passed_on=b"/W foo\r\n"),
    Row("2.5.4", "also through another", b"/W foo@host1@old.example.org\r\n", b"long foo at host1\r\n",
        passed_on=b"/W foo@host1\r\n"),
    Row("2.5.4", "what is written down ignores it", b"/W nail\r\n", NAIL),
    #
    Row("2.5.5", "{C} lists the items that there are", b"\r\n", MENU, listener=MACHINE),
    Row("2.5.5", "{U}{C} gives an item's count", b"coke\r\n", b"Slot 1: 12 left\r\n", listener=MACHINE),
    Row("2.5.5", "another machine's items are none of this one's", b"coke\r\n", NO_USER, "no_such_user",
        listener=QUIET),
    #
    Row("3.1", "a NUL", b"hel\0lo\r\n", INVALID, "bad_query"),
    Row("3.1", "a terminal's escape sequence", b"\x1b[2J\r\n", INVALID, "bad_query"),
    Row("3.1", "a bare CR within the line", b"hello\rnail\r\n", INVALID, "bad_query"),
    Row("3.1", "a mark that reorders text", b"hel\xe2\x80\xaelo\r\n", INVALID, "bad_query", logged="hel\u202elo"),
    Row("3.1", "an empty host", b"foo@\r\n", INVALID, "bad_query"),
    Row("3.1", "an empty host among others", b"foo@@old.example.org\r\n", INVALID, "bad_query"),
    Row("3.1", "the Morris worm's 536 bytes", b"\x90" * 536, INVALID, "bad_query", logged=r"\x90" * 512),
    #
    Row("3.2.1", "{Q2} is off by default", b"foo@old.example.org\r\n", NO_FORWARDING, "forward_denied", "bare"),
    Row("3.2.1", "turned on, it is for the hosts that are named", b"foo@old.example.org\r\n", b"foo\r\n",
        passed_on=b"foo\r\n"),
    Row("3.2.1", "on every listener", b"foo@old.example.org\r\n", b"foo\r\n", listener=QUIET, passed_on=b"foo\r\n"),
    Row("3.2.1", "and for no other", b"foo@new.example.org\r\n", NO_FORWARDING, "forward_denied"),
    Row("3.2.1", "none is reached by a detour", b"foo@old.example.org@new.example.org\r\n", NO_FORWARDING,
        "forward_denied"),
    Row("3.2.1", "the refusal is the same with /W", b"/W @new.example.org\r\n", NO_FORWARDING, "forward_denied"),
    #
    Row("3.2.2", "{C} is off by default", b"\r\n", NO_LIST, "list_denied", "bare"),
    Row("3.2.2", "also with /W", b"/W\r\n", NO_LIST, "list_denied", "bare"),
    Row("3.2.2", "it is turned on for each listener by itself", b"\r\n", NO_LIST, "list_denied", listener=QUIET),
    #
    Row("3.2.3", "one gives all of it", b"nail\r\n", NAIL),
    Row("3.2.3", "another office and phone", b"some\r\n",
        b"Login: some                           Name: Sam Some\r\nOffice: 019 Hill, x3166\r\nNo Plan.\r\n"),
    Row("3.2.3", "a third the full name alone", b"least\r\n",
        b"Login: least                          Name: Lea Least\r\nNo Plan.\r\n"),
    #
    Row("3.2.4", "no .plan is read of a home directory's", b"home\r\n",
        b"Login: home                           Name: Hal Home\r\nDirectory: FOLDER Shell: \r\nNo Plan.\r\n"),
    Row("3.2.4", "a command that reads such files is what turns that on", b"ada-plan\r\n", b"My plan\r\n"),
    Row("3.2.4", "and names only those that its route lets through", b"../home-plan\r\n", NO_USER, "no_such_user"),
    #
    Row("3.2.5", "a name is an argument, and no shell sees it", b"$(echo mine);echo 'x`id`|\r\n",
        b"$(echo mine);echo 'x`id`|\r\n"),
    Row("3.2.5", "a name that would be an option is not given", b"-echo\r\n", NO_USER, "no_such_user"),
    Row("3.2.5", "of a program nothing but its output is seen", b"bob-plan\r\n", FAILED, "internal_error"),
    #
    Row("3.2.6", "a letter finds nobody whose name begins so", b"n\r\n", NO_USER, "no_such_user"),
    Row("3.2.6", "nor does a pattern", b"*\r\n", NO_USER, "no_such_user"),
    Row("3.2.6", "nor what all names have in common", b".\r\n", NO_USER, "no_such_user"),
    #
    Row("3.2.7", "a query that could forge a line is escaped", b'a" 127.0.0.1 "b\r\n', NO_USER, "no_such_user"),
    Row("3.2.7", "so is what would reach a terminal", b"\x1b]0;x\x07\r\n", INVALID, "bad_query"),
    Row("3.2.7", "and what is beyond ASCII", "zoé\r\n".encode(), NO_USER, "no_such_user", logged="zoé"),
    #
    Row("3.3", "controls and marks that reorder text never leave the gateway", b"fancy\r\n", b"ab\tcd\r\n"),
    Row("3.3", "nor where another server sent them", b"fancy@old.example.org\r\n", b"ab\tcd\r\n",
        passed_on=b"fancy\r\n"),
]  # fmt: skip

NEXT_SERVER = {
    b"\r\n": b"list\r\n",
    b"/W\r\n": b"long list\r\n",
    b"foo\r\n": b"foo\r\n",
    b"/W foo\r\n": b"long foo\r\n",
    b"foo@host1\r\n": b"foo at host1\r\n",
    b"/W foo@host1\r\n": b"long foo at host1\r\n",
    b"mute\r\n": b"",
    b"much\r\n": b"y" * 65537,
    b"fancy\r\n": b"\x1b]0;mine\x07a\x1b[31mb\tc\0\xc2\x9b\xe2\x80\xaed\x7f\r\n",
}


def next_server(served: Served) -> None:
    """Be the server that queries are passed on to."""
    if served.received == b"slow\r\n":
        trickles(b"one\r\ntwo\r\n")(served)
    else:
        served.answer(NEXT_SERVER.get(served.received, b"not expected\r\n"))


def exchange(port: int, client: str, pieces: Sequence[bytes]) -> bytes:
    """Send a query from an address of the loopback, and return all that comes up to a clean end."""
    with socket.create_connection(("127.0.0.1", port), timeout=10, source_address=(client, 0)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            connection.sendall(piece)
        if not pieces[-1].endswith(b"\n"):
            connection.shutdown(socket.SHUT_WR)
        return receive_all(connection)


def method_name(place: int, section: str, says: str) -> str:
    """Return a name that says which clause it is."""
    words = "_".join(re.findall(r"\w+", says.lower()))
    return f"test_{section.replace('.', '_')}__{place:02d}_{words}"


@on_both_transports
class ClauseTests(GatewayCase):
    """A test for each row, against a gateway on real sockets."""

    async def _check(self, row: Row) -> None:
        self.write("home.plan", "another's\n")
        self.write("ada.plan", "My \x1b[5mplan\n")
        folder = str(self.write(".plan", "read by nobody\n").parent)
        other = FingerServer(self, next_server)
        text = CONFIGS[row.config].replace("FOLDER", folder)
        gateway = self.start(text.replace("PORT", str(other.port)).replace("CLOSED", str(free_port())))
        pieces = [row.asked[i : i + 1] for i in range(len(row.asked))] if row.piecewise else [row.asked]
        answer = await in_thread(lambda: exchange(port_of(gateway, row.listener), CLIENT, pieces))
        assert answer == row.answer.replace(b"FOLDER", f"{folder:<26}".encode())
        assert other.lines == ([] if row.passed_on is None else [row.passed_on])
        # §3.2.7: every query leaves its line, whatever came of it
        await gateway.parts.access_log.close()
        (line,) = Path(folder, "access.log").read_text("ascii").splitlines()
        assert line.isprintable()
        entry = json.loads(line)
        logged = row.asked.partition(b"\n")[0].removesuffix(b"\r").decode() if row.logged is None else row.logged
        noted = [entry[key] for key in ("client", "listener", "query", "outcome", "bytes")]
        assert noted == [CLIENT, ("public", "quiet", "machine")[row.listener], logged, row.outcome, len(answer)]


def _test(row: Row) -> Callable[[ClauseTests], Awaitable[None]]:
    async def test(self: ClauseTests) -> None:
        await self._check(row)

    test.__doc__ = f"RFC 1288 §{row.section}, {SECTIONS[row.section]}: {row.says}."
    return test


for _place, _row in enumerate(ROWS):
    setattr(ClauseTests, method_name(_place, _row.section, _row.says), _test(_row))


class ClientRow(NamedTuple):
    """A clause for the client program.

    :param answer: what the server says.
    :param printed: what the program prints of it.
    """

    says: str
    answer: bytes
    printed: str


CLIENT_ROWS = [
    ClientRow("printable ASCII, tabs and line ends stay", b"a ~\tb\r\n", "a ~\tb\n"),
    ClientRow("a terminal's escape sequences go", b"\x1b]0;mine\x07a\x1b[31mb\xc2\x9b0mc\r\n", "abc\n"),
    ClientRow("NUL, DEL, backspaces and 8-bit controls go", b"a\0b\x7f_\x08cd\xc2\x84e\r\n", "abcde\n"),
    ClientRow("a CR cannot write over its line", b"good\rbad\r\n", "good\nbad\n"),
    ClientRow("marks that reorder text go", b"a\xe2\x80\xaeb\xe2\x81\xa6c\r\n", "abc\n"),
    ClientRow("international characters stay", b"Zo\xc3\xab\r\n", "Zoë\n"),
    ClientRow("what is no UTF-8 is shown as such", b"Zo\xeb!\x9b31m\r\n", "Zo\ufffd!\ufffd31m\n"),
]


class ClientTests(GatewayCase):
    """What ``fingergw query`` sends, and what it prints of what it gets (§3.3)."""

    async def _check(self, row: ClientRow) -> None:
        server = FingerServer(self, says(row.answer))
        answer = await fetch(Target("127.0.0.1", server.port, "x"), Resolver(reactor), timeout=10)
        assert answer.text == row.printed

    async def _query(self, *options: str, answer: bytes, encoding: str) -> tuple[list[bytes], str]:
        server = FingerServer(self, says(answer))
        command = [*COMMAND, "query", *options, f"x@127.0.0.1:{server.port}"]
        env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": encoding}

        def query() -> bytes:
            return subprocess.run(command, env=env, stdout=subprocess.PIPE, check=True, timeout=20).stdout

        printed = await in_thread(query)
        return server.lines, printed.decode(encoding)

    async def test_query(self) -> None:
        """It sends one line, ended by CRLF, and prints the answer filtered; international text stays (§2.1, §3.3)."""
        found = await self._query(answer="\x1b[2JZoë\x07\r\n".encode(), encoding="utf-8")
        assert found == ([b"x\r\n"], "Zoë\n")

    async def test_long(self) -> None:
        """With -l it sends /W first (§2.5.4). Where output takes only 7 bits, the rest becomes "?" (§3.3)."""
        found = await self._query("-l", answer="Zoë\r\n".encode(), encoding="ascii")
        assert found == ([b"/W x\r\n"], "Zo?\n")


def _client_test(row: ClientRow) -> Callable[[ClientTests], Awaitable[None]]:
    async def test(self: ClientTests) -> None:
        await self._check(row)

    test.__doc__ = f"RFC 1288 §3.3, {SECTIONS['3.3']}: {row.says}."
    return test


for _place, _client_row in enumerate(CLIENT_ROWS):
    setattr(ClientTests, method_name(_place, "3.3", _client_row.says), _client_test(_client_row))


@pytest.mark.parametrize("target", ["x\x1b[2J@127.0.0.1", "x\r\ny@127.0.0.1"])
def test_client_sends_no_controls(target: str) -> None:
    """An invalid query is not sent, but reported as wrong usage (§2.3, §3.1)."""
    assert main(["query", target]) == 2


def test_port() -> None:
    """The default port is 79 (§2.1)."""
    assert parse_target("x@h").port == 79


@pytest.mark.parametrize("section", SECTIONS)
def test_every_section_has_a_row(section: str) -> None:
    """Each section that requires something is shown by at least one row."""
    assert section in {row.section for row in ROWS}


def test_every_row_has_a_section() -> None:
    """No row cites a section that requires nothing, and rows stand in the RFC's order."""
    order = list(SECTIONS)
    places = [order.index(row.section) for row in ROWS]
    assert places == sorted(places)


@pytest.mark.parametrize("clauses", [ClauseTests, ClientTests])
def test_every_row_is_a_test(clauses: type[GatewayCase]) -> None:
    """No two rows share a name, so that none is left out."""
    rows = {ClauseTests: len(ROWS), ClientTests: len(CLIENT_ROWS)}[clauses]
    assert sum(bool(re.match(r"test_\d", name)) for name in vars(clauses)) == rows
