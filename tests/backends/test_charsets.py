"""What a backend's bytes are in where nothing says so, on real sockets and in real processes."""

from __future__ import annotations

import json

import tomli_w

from fingergw.app.gateway import Gateway
from fingergw.core.outcome import Answered
from tests.support.commands import CommandCase
from tests.support.finger_server import FingerServer, Script, says
from tests.support.gateway import GatewayCase
from tests.support.http_server import HttpCase, response
from tests.support.http_server import says as responds

UNKNOWN = b"No such user\r\n"


class CommandTests(CommandCase):
    """What a program prints."""

    async def test_output(self) -> None:
        """A program's output is read in the backend's charset, and reaches the client in UTF-8."""
        for charset, printed, read in (
            ("windows-1252", "caf\xe9 \x80", "café €"),
            ("ISO-8859-1", "caf\xe9 \x80", "café €"),  # as browsers take it
            ("koi8-r", "\xd0\xd2\xc9\xd7\xc5\xd4", "привет"),
            ("Shift_JIS", "\x93\xfa\x96{", "日本"),
            ("iso-2022-jp", "\x1b$BF|K\\\x1b(B", "日本"),
            ("UTF-16LE", "h\0i\0", "hi"),
            ("utf-8", "caf\xc3\xa9 \xe9", "café \ufffd"),
        ):
            path = self.write("printed", "")
            path.write_bytes(printed.encode("latin-1"))
            gateway = self.gateway("cat", str(path), charset=charset)
            assert await self.ask(gateway, b"x\r\n") == f"{read}\r\n".encode(), charset

    async def test_default(self) -> None:
        """Without a charset it is UTF-8, and each byte that is not becomes U+FFFD; a byte order mark wins over both."""
        for printed, read in (
            (b"caf\xc3\xa9 \xe9!", "café \ufffd!"),
            (b"\xef\xbb\xbfcaf\xc3\xa9", "café"),
            ("\ufeffhi".encode("utf-16-le"), "hi"),
        ):
            path = self.write("printed", "")
            path.write_bytes(printed)
            assert await self.ask(self.gateway("cat", str(path)), b"x\r\n") == f"{read}\r\n".encode()
        assert await self.ask(self.gateway("cat", str(path), charset="koi8-r"), b"x\r\n") == b"hi\r\n"


class FingerTests(GatewayCase):
    """What another finger server sends, and what it is asked."""

    def serve(self, script: Script, charset: str | None = None) -> tuple[Gateway, FingerServer]:
        """Start a server, and a gateway that asks it for everything."""
        server = FingerServer(self, script)
        legacy = {"type": "finger", "host": "127.0.0.1", "port": server.port}
        configuration = {
            "listeners": [{"endpoint": "tcp:0:interface=127.0.0.1"}],
            "routes": [{"pattern": "*", "backends": ["legacy"]}],
            "backends": {"legacy": {**legacy, **({"charset": charset} if charset else {})}},
            "log": {"access": "off"},
        }
        return self.start(tomli_w.dumps(configuration)), server

    async def test_answer(self) -> None:
        """The answer is read in the backend's charset; without one it is UTF-8, and what is not becomes U+FFFD."""
        for charset, sent, read in (
            ("windows-1252", b"Zo\xeb \x96 M\xfcnchen\r\n", "Zoë \u2013 München"),
            ("euc-jp", "日本".encode("euc-jp"), "日本"),
            ("koi8-r", "\ufeffé".encode(), "é"),
            (None, b"Zo\xeb", "Zo\ufffd"),
            (None, "Zoë".encode(), "Zoë"),
        ):
            gateway, _ = self.serve(says(sent), charset)
            assert await self.ask(gateway, b"x\r\n") == f"{read}\r\n".encode(), charset

    async def test_question(self) -> None:
        """A name beyond ASCII is asked for in the backend's charset; a name in ASCII is ASCII in any."""
        for charset, asked, sent in (
            (None, "zoë", "zoë".encode()),
            ("windows-1252", "zoë", b"zo\xeb"),
            ("cp1251", "яна", b"\xff\xed\xe0"),
            ("euc-jp", "/W 日本", b"/W " + "日本".encode("euc-jp")),
            ("utf-16", "zoe", b"zoe"),
            ("cp037", "zoe", b"zoe"),
        ):
            gateway, server = self.serve(says("yes".encode(charset or "utf-8")), charset)
            assert await self.ask(gateway, f"{asked}\r\n".encode()) == b"yes\r\n"
            assert server.lines == [sent + b"\r\n"], charset

    async def test_names_that_a_charset_cannot_say(self) -> None:
        """The server is not asked for a name that its charset lacks, or whose bytes would be ASCII, such as @."""
        for charset, name in (
            ("windows-1252", "日本"),
            ("us-ascii", "jiří"),
            ("shift_jis", "ァ"),  # ends by @
            ("big5", "功"),  # ends by a backslash
            ("iso-2022-jp", "日本"),  # begins by ESC
            ("utf-16", "zoë"),
            ("cp037", "zoë"),
        ):
            gateway, server = self.serve(says(b"yes"), charset)
            assert await self.ask(gateway, f"{name}\r\n".encode()) == UNKNOWN, charset
            assert server.lines == []

    async def test_a_blank_answer_has_failed(self) -> None:
        """A server that sends nothing but blanks has not answered, as one that sends nothing has not."""
        for sent in (b"", b"\r\n", b" \t\r\n\r\n", b"\0\x1b\x07", "\u200b\u00a0\r\n".encode()):
            gateway, _ = self.serve(says(sent))
            assert await self.ask(gateway, b"x\r\n") == b"Internal error in server\r\n", sent


class HttpTests(HttpCase):
    """What a web server sends."""

    async def test_text(self) -> None:
        """A text is in the backend's charset, unless its Content-Type or a byte order mark says otherwise."""
        for content_type, body, read in (
            ("text/plain", b"caf\xe9", "café"),
            ("text/plain; charset=nope", b"caf\xe9", "café"),
            ("", b"caf\xe9", "café"),
            ("text/plain; charset=utf-8", "café".encode(), "café"),
            ("text/plain; charset=koi8-r", "привет".encode("koi8-r"), "привет"),
            ("text/plain", "\ufeffcafé".encode(), "café"),
        ):
            upstream = self.upstream(responds(response(body, content_type)))
            gateway = self.gateway(upstream.url, charset="windows-1252")
            assert await self.ask(gateway, b"x\r\n") == f"{read}\r\n".encode()

    async def test_long_text(self) -> None:
        """A text that is long enough to be read by a worker is read likewise."""
        upstream = self.upstream(responds(response(b"caf\xe9" * 20_000)))
        gateway = self.gateway(upstream.url, charset="windows-1252", max_bytes=80_000)
        assert await self.outcome(gateway) == Answered("café" * 20_000)

    async def test_page(self) -> None:
        """A page is in the backend's charset, unless its Content-Type, or itself, says otherwise."""
        for content_type, body, read in (
            ("text/html", "<p>привет".encode("koi8-r"), "привет"),
            ("text/html", b"<meta charset=windows-1252><p>caf\xe9", "café"),
            ("text/html; charset=utf-8", "<p>café".encode(), "café"),
            ("text/html", "\ufeff<p>café".encode(), "café"),
        ):
            upstream = self.upstream(responds(response(body, content_type)))
            gateway = self.gateway(upstream.url, charset="koi8-r")
            assert await self.ask(gateway, b"x\r\n") == f"{read}\r\n".encode()

    async def test_json(self) -> None:
        """JSON is UTF-8, as it has to be; what is not is in the charset of its Content-Type, else of the backend."""
        body = json.dumps({"name": "Zoë"}, ensure_ascii=False)
        for charset, content_type, encoding in (
            ("windows-1252", "application/json", "windows-1252"),
            ("windows-1252", "application/json", "utf-8"),
            ("koi8-r", "application/json; charset=iso-8859-1", "latin-1"),
            ("utf-8", "application/json; charset=iso-8859-1", "latin-1"),
            ("utf-8", "application/json; charset=iso-8859-1", "utf-8"),
        ):
            upstream = self.upstream(responds(response(body.encode(encoding), content_type)))
            gateway = self.gateway(upstream.url, charset=charset, template="{{ name }}")
            assert await self.ask(gateway, b"x\r\n") == "Zoë\r\n".encode(), (charset, content_type, encoding)
        upstream = self.upstream(responds(response(body.encode("latin-1"), "application/json")))
        assert await self.ask(self.gateway(upstream.url, template="{{ name }}"), b"x\r\n") == (
            b"Internal error in server\r\n"
        )
