"""Responses that no upstream should give, and one that does: ``python -m tests.benchmarks.hostile PORT``.

Each is a function of a number, that of the request: some are others each time.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import sys
import zlib
from collections.abc import Callable, Mapping
from typing import TypeAlias

from attrs import frozen

from tests.support.http_server import response

SIZE = 65536
"""What a body may have by default."""
_HEAD_BYTES = 60_000  # less than a response's head may have
_PLACEHOLDER = "{{ body.text }}"

Respond: TypeAlias = Callable[[int], bytes]


@frozen
class Hostile:
    """What an upstream sends.

    :param respond: returns the n-th response, whole.
    :param template: what the gateway fills with it, if it is JSON.
    """

    respond: Respond
    template: str | None = None


def _filled(piece: str, *, before: str = "", after: str = "", size: int = SIZE) -> bytes:
    """Return a piece as often as it fits."""
    return (before + piece * ((size - len(before) - len(after)) // len(piece)) + after).encode()


def _page(body: bytes) -> Hostile:
    whole = response(body, "text/html")
    return Hostile(lambda _: whole)


def _text(body: bytes, content_type: str = "text/plain") -> Hostile:
    whole = response(body, content_type)
    return Hostile(lambda _: whole)


def _typed(content_type: Callable[[int], str]) -> Hostile:
    return Hostile(lambda n: response(b"Hello", content_type(n)))


def _head(lines: Callable[[int], str]) -> Hostile:
    """Return a response with more lines in its head.

    :param lines: each ended by CRLF.
    """
    return Hostile(lambda n: response(b"Hello", extra=lines(n)))


def _json(value: object, template: str = _PLACEHOLDER) -> Hostile:
    whole = response(value if isinstance(value, bytes) else json.dumps(value).encode(), "application/json")
    return Hostile(lambda _: whole, template)


def _chunked(chunks: bytes, *, extra: str = "") -> Hostile:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n{extra}Transfer-Encoding: chunked\r\n\r\n"
    return Hostile(lambda _: head.encode() + chunks)


def _redirect(location: str) -> Hostile:
    whole = response(b"", status="302 Found", extra=f"Location: {location}\r\n")
    return Hostile(lambda _: whole)


def _compressed(data: bytes, encoding: str) -> Hostile:
    whole = response(data, extra=f"Content-Encoding: {encoding}\r\n")
    return Hostile(lambda _: whole)


def _attributes(count: int) -> bytes:
    return ("<p " + " ".join(f"a{n}" for n in range(count)) + ">x").encode()[:SIZE]


def _headers(names: Callable[[int, int], str], count: int) -> Hostile:
    return _head(lambda n: "".join(f"{names(n, place)}:\r\n" for place in range(count)))


def _every_byte_invalid(codec: str) -> bytes:
    """Return the byte that a codec can make least of, over and over."""
    for byte in range(255, 127, -1):
        try:
            bytes([byte, byte]).decode(codec)
        except UnicodeDecodeError:
            return bytes([byte]) * SIZE
    return b"+" * SIZE


_CONTROLS = "".join(map(chr, [*range(1, 32), 127, *range(0x80, 0xA0), *range(0x202A, 0x202F)]))
_ROW = "<tr>" + "<td>x" * 50

HOSTILE: Mapping[str, Hostile] = {
    # pages
    "html-b-col": _page(_filled("<b><col>")),
    "html-a-col": _page(_filled("<a href=x><col>")),
    "html-font-tr": _page(_filled("<font><tr>")),
    "html-i-td": _page(_filled("<i><td>", before="<table>")),
    "html-nobr-caption": _page(_filled("<nobr><caption>", before="<table>")),
    "html-a": _page(_filled("<a>")),
    "html-b": _page(_filled("<b>")),
    "html-b-p": _page(_filled("<b><p>")),
    "html-div": _page(_filled("<div>")),
    "html-div-200": _page(_filled("<div>" * 200 + "x" + "</div>" * 200)),
    "html-table-in-table": _page(_filled("<table><tr><td>")),
    "html-table-in-table-200": _page(_filled("<table><tr><td>" * 200 + "x" + "</table>" * 200)),
    "html-table-wide": _page(_filled("<td>x", before="<table><tr>")),
    "html-table-uneven": _page(_filled("<tr>", before="<table><tr>" + "<td>x" * 4000, after="</table>")),
    "html-table-large": _page(_filled(_ROW, before="<table>")),
    "html-table-long-cell": _page(_filled("<tr><td>x", before="<table><tr><td>" + "y" * 20_000)),
    "html-list": _page(_filled("<ul><li>")),
    "html-list-200": _page(_filled("<ul><li>x" * 200 + "</ul>" * 200)),
    "html-blockquote": _page(_filled("<blockquote>x")),
    "html-br": _page(_filled("<br>")),
    "html-pre": _page(_filled("\n", before="<pre>")),
    "html-attributes": _page(_attributes(9000)),
    "html-entities": _page(_filled("&#1114109;")),
    "html-ampersands": _page(_filled("&")),
    "html-lt": _page(_filled("<")),
    "html-comment": _page(_filled("<!--")),
    "html-meta": _page(_filled("<meta ")),
    "html-select": _page(_filled("<select><option>")),
    "html-script": _page(_filled("<script>")),
    "html-wide-letters": _page(("\U0001f600" * (SIZE // 4)).encode()),
    # Content-Type
    "type-semicolons": _typed(lambda _: 'text/plain;a="' + ";" * _HEAD_BYTES),
    "type-semicolons-folded": _typed(lambda _: 'text/plain;a="' + "\r\n ".join([";" * 10_000] * 6)),
    "type-quotes": _typed(lambda _: "text/plain;" + 'a="\\";' * 160),
    "type-charset-other": _typed(lambda n: f"text/plain; charset=x{n}" + "a" * 14_000),
    "type-charset-short-other": _typed(lambda n: f"text/plain; charset=x{n}" + "a" * 900),
    "type-charset-continued": _typed(lambda _: "text/plain; charset*=a%00b'x'utf-8"),
    "type-charset-nul": _typed(lambda _: "text/plain; charset=utf\0-8"),
    # heads
    "head-names-15k": _head(lambda n: f"X-{n}-{'a' * 15_000}: x\r\n"),
    "head-names-250": _head(lambda n: "".join(f"X-{n}-{place}-{'a' * 235}: x\r\n" for place in range(200))),
    "head-other-names": _headers(lambda n, place: f"{n % 1000:x}-{place:x}", 6000),
    "head-20000-tiny": _headers(lambda n, place: "a", 20_000),
    "head-values": _head(lambda _: "a:b\r\n" * 12_000),
    "head-different-values": _head(lambda _: "".join(f"a:{place:x}\r\n" for place in range(9_000))),
    "head-folded": _head(lambda _: "a: b\r\n" + " \r\n" * 18_000),
    "head-cookies": _head(lambda _: "".join(f"Set-Cookie: a{place}=b\r\n" for place in range(2500))),
    "head-cookie-dates": _head(lambda _: "Set-Cookie: a=b; expires=" + "1 " * 7_000 + "\r\n"),
    "head-cookie-long": _head(lambda _: "Set-Cookie: a=b" + ";a" * 8_000 + "\r\n"),
    "head-cookie-spaces": _head(lambda _: "Set-Cookie: a" + " " * 16_000 + "\r\n"),
    "head-cookie-domains": _head(lambda _: "Set-Cookie: a=b; domain=" + "a." * 8_000 + "\r\n"),
    "head-cookie2": _head(lambda _: "Set-Cookie2: a=" + '"\\' * 8_000 + "\r\n"),
    "head-cache-control": _head(lambda _: "Cache-Control: " + 'a="' * 5_000 + "\r\n"),
    "head-cache-controls": _head(lambda _: "Cache-Control: a\r\n" * 3_000),
    "head-vary": _head(lambda _: "Vary: " + "a," * 8_000 + "\r\n"),
    "head-expires": _head(lambda _: "Expires: " + "a" * 16_000 + "\r\n"),
    "head-etag": _head(lambda _: 'ETag: "' + "a" * 16_000 + '"\r\n'),
    "head-age": _head(lambda _: "Age: " + "9" * 16_000 + "\r\n"),
    "head-encodings": _head(lambda _: "Content-Encoding: gzip\r\n" * 2_000),
    "head-lengths": _head(lambda _: "Content-Length: 5\r\n" * 3_000),
    "head-interim": Hostile(lambda _: b"HTTP/1.1 103 \r\n\r\n" * 3_500 + response(b"Hello")),
    "redirect-dots": _redirect("/" + "../" * 5_000),
    "redirect-slashes": _redirect("/" * 16_000),
    "redirect-query": _redirect("/?" + "a&" * 8_000),
    "redirect-percent": _redirect("/" + "%zz" * 5_000),
    "redirect-port": _redirect("http://127.0.0.1:" + "9" * 16_000 + "/"),
    # bodies
    "gzip-bomb": _compressed(gzip.compress(bytes(50 << 20)), "gzip"),
    "gzip-twice": _compressed(gzip.compress(gzip.compress(bytes(50 << 20))), "gzip"),
    "gzip-empty-blocks": _compressed(
        gzip.compress(b"")[:10] + b"\0\0\0\xff\xff" * 12_000 + zlib.compress(b"x", wbits=-15), "gzip"
    ),
    "gzip-name": _compressed(b"\x1f\x8b\x08\x08\0\0\0\0\0\0" + b"a" * 60_000, "gzip"),
    "body-endless": Hostile(lambda _: b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (1 << 20)),
    "chunks-1-byte": _chunked(b"1\r\na\r\n" * 20_000 + b"0\r\n\r\n"),
    "chunks-extensions": _chunked((b"1;" + b"a" * 900 + b"\r\na\r\n") * 100 + b"0\r\n\r\n"),
    "chunks-zeros": _chunked(b"0" * 60_000 + b"\r\n\r\n"),
    "chunks-trailers": _chunked(b"1\r\na\r\n0\r\n" + b"a:\r\n" * 15_000 + b"\r\n"),
    "chunks-1-byte-gzip": _chunked(
        b"".join(b"1\r\n%c\r\n" % byte for byte in gzip.compress(bytes(20 << 20), 1)[:20_000]) + b"0\r\n\r\n",
        extra="Content-Encoding: gzip\r\n",
    ),
    "text-controls": _text((_CONTROLS * (SIZE // 90)).encode()[:SIZE]),
    "text-escapes": _text(b"\x1b" * SIZE),
    "text-line-ends": _text(b"\r" * SIZE),
    "text-separators": _text(("\u2028" * (SIZE // 3)).encode()),
    "text-overrides": _text(("\u202e" * (SIZE // 3)).encode()),
    "text-invalid": _text(b"\xff" * SIZE),
    **{
        f"text-invalid-{codec.replace('_', '-')}": _text(_every_byte_invalid(codec), f"text/plain; charset={codec}")
        for codec in ("ascii", "big5hkscs", "cp1006", "cp932", "euc_jis_2004", "gb18030", "hz", "iso2022_jp_2")
    },
    "text-iso2022-kr": _text(b"\x0e" * SIZE, "text/plain; charset=iso2022_kr"),
    "text-hz": _text(b"~{" * (SIZE // 2), "text/plain; charset=hz"),
    "text-utf-7": _text(b"+2AA-" * (SIZE // 5), "text/plain; charset=utf-7"),
    "text-utf-16-surrogates": _text(b"\x00\xd8" * (SIZE // 2), "text/plain; charset=utf-16-le"),
    "text-utf-32-invalid": _text(b"\xff" * SIZE, "text/plain; charset=utf-32"),
    "text-punycode": _text(b"-" + b"a" * (SIZE - 1), "text/plain; charset=punycode"),
    "text-idna": _text(b"xn--" + b"a" * (SIZE - 4), "text/plain; charset=idna"),
    "text-unicode-escape": _text(b"\\N{x}" * (SIZE // 5), "text/plain; charset=unicode_escape"),
    # JSON
    "json-deep": _json(b"[" * SIZE),
    "json-deep-objects": _json(_filled('{"a":')),
    "json-deep-closed": _json(b"[" * 900 + b"]" * 900, "{{ body }}"),
    "json-huge-number": _json(b'{"text":' + b"9" * 60_000 + b"}"),
    "json-4300-digits": _json(b'{"text":[' + b",".join([b"9" * 4300] * 15) + b"]}"),
    "json-huge-exponent": _json(b'{"text":1e999999999}'),
    "json-keys": _json({f"a{n}": n for n in range(4000)}, "{{ body.a1 }}"),
    "json-lists": _json(b'{"text":[' + b"[]," * 20_000 + b"[]]}"),
    "json-surrogates": _json(b'{"text":"' + b"\\ud800" * 10_000 + b'"}'),
    # templates with the upstream's numbers
    "template-repeat": _json({"percent": 10**12}, '{{ "#" * percent }}'),
    "template-repeat-large": _json({"percent": 20 << 20}, '{{ "#" * percent }}'),
    "template-center": _json({"name": "x", "n": 10**11}, "{{ name|center(n) }}"),
    "template-indent": _json({"name": "x\n" * 20_000, "n": 10_000}, "{{ name|indent(n) }}"),
    "template-format": _json({"n": 10**9}, '{{ "%*d"|format(n, 1) }}'),
    "template-power": _json({"e": 10**9}, "{{ (10 ** e) % 7 }}"),
    "template-ranges": _json(
        {"n": 100_000}, "{% for a in range(n) %}{% for b in range(n) %}{% endfor %}{% endfor %}done"
    ),
    "template-loop": _json({"n": 100_000}, "{% for a in range(n) %}{{ a }}{% endfor %}"),
    "template-wordwrap": _json({"text": "x " * 30_000}, "{{ text|wordwrap(1) }}"),
    "template-sort": _json({"a": [[n % 7] * 5 for n in range(3000)]}, "{{ a|sort|length }}"),
    "template-urlize": _json({"text": "www." * 16_000}, "{{ text|urlize }}"),
    "template-striptags": _json({"text": "<" * 60_000}, "{{ text|striptags }}"),
}
"""What goes by each name; the name is what is asked for."""

PLAIN: Mapping[str, Hostile] = {
    "plain": _text(b"Ada is on call until Friday, 18:00."),
    "page": _page(_filled("<p>Ada is <b>on call</b> until Friday.</p>\n", size=1024)),
    "small-template": _json({"name": "Ada", "until": "Friday"}, "{{ name }} is on call until {{ until }}"),
    **{f"text-{size}": _text(_filled("Ada is on call until Friday.\n", size=size << 10)) for size in (1, 10, 64)},
    **{
        f"page-{size}": _page(_filled("<p>Ada is <b>on call</b> until Friday.</p>\n", size=size << 10))
        for size in (1, 10, 64)
    },
}
"""What an honest upstream gives."""


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    responses = {name: each.respond for name, each in {**HOSTILE, **PLAIN}.items()}
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            name = head.split()[1].decode().removeprefix("/")
            _count[name] = number = _count.get(name, 0) + 1
            respond = responses.get(name)
            writer.write(respond(number) if respond else response(b"", status="404 Not Found"))
            await writer.drain()
            if name == "body-endless":
                break
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


_count: dict[str, int] = {}


async def _main(port: int) -> None:
    server = await asyncio.start_server(_serve, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1])))
