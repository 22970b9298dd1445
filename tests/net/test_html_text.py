"""The text of HTML pages."""

from __future__ import annotations

import pytest

from fingergw.net.workers.html_text import html_text


@pytest.mark.parametrize(
    ("page", "text"),
    [
        (
            "<p>Hello <b>wor</b>ld, ring <b>1</b>234 (<a>map</a>). 10<sup>th</sup></p>",
            "Hello world, ring 1234 (map). 10th",
        ),
        ("<h1>Title</h1><p>one</p><p>two", "Title\n\none\n\ntwo"),
        ("a<br>b<br/>c", "a\nb\nc"),
        ("<div>a<div>b</div>c</div>", "a\nb\nc"),
        ("a<hr>b", "a\nb"),
        ("<ul><li>a<ul><li>b</ul><li>c</ul>", "  * a\n      + b\n  * c"),
        ("<ol><li>a<li>b</ol>", " 1. a\n 2. b"),
        ("p<dl><dt>a<dd>b<dt>c<dd>d</dl>z", "p\na\n    b\nc\n    d\nz"),
        ("<dl><dt>a<dd>b<dd>c<b>d</b>e<dd>f</dl>z", "a\n    b\n    cde\n    f\nz"),
        (
            "<dl><dt>a<dt>b<dd>c<dl><dt>d<dd>e<dd>f</dl>g<dd>h</dl>z",
            "a\nb\n    c\n    d\n        e\n        f\n    g\n    h\nz",
        ),
        ("<dl><dd>a<dd>b</dd>c</dd>d</dl>", "    a\n    b\ncd"),
        ("a<table><tr><td>b<td>c</table>d", "a\nb  c\nd"),
        ("<table><tr><td>a<table><tr><td>b<td>c</table><td>d</table>", "a\nb  c  d"),
        ("<table><tr><td><b>a</b><table><tr><td>b</table></table>", "a\nb"),
        (
            '<p>Web: <img src=g alt="is  up">, mail:<img src=r alt=""><img src=x> <a><img alt=down></a>',
            "Web: is up, mail: down",
        ),
        ("<pre>a  b\n  c</pre>", "a  b\n  c"),
        ("a   b\n\tc &nbsp;", "a b c"),
        ("&lt;b&gt; &amp; &eacute; &#8212; &#x263a; &notit;", "<b> & é — ☺ ¬it;"),
        ("<table><tr><th>Name<th>Office<tr><td>Ada<td>1<b>2</b></table>", "Name  Office\nAda   12"),
        ("<table><tr><td>a<td>b</tr></table><table><tr><td>c<td>d</tr></table>", "a  b\n\nc  d"),
        ("<select><option>a<option>b</select>", "a\nb"),
        ("<head><title>T</title><style>p{}</style></head><script>x</script><template>y</template>z", "z"),
        ("a<!-- b -->c<?d ?>e", "ace"),
        ("<b>a</b> <i>b</i>", "a b"),
        ("just text", "just text"),
        ("", ""),
        ("<!-- nothing -->", ""),
        (" \n ", ""),
        ("a\0b", "a\ufffdb"),
        ('<?xml version="1.0" encoding="utf-16"?><html xmlns="http://www.w3.org/1999/xhtml"><p>é</p></html>', "é"),
        ("<div>" * 300 + "deep" + "</div>" * 300 + "after", "deep\nafter"),
    ],
    ids=lambda value: ascii(value[:40]),
)
def test_layout(page: str, text: str) -> None:
    """A page's text is as a text browser shows it: words whole, a row of a table on one line, its cells apart."""
    shown = html_text(page.encode(), None)
    assert (shown if "\n\n" in text else shown.replace("\n\n", "\n")) == text


@pytest.mark.parametrize(
    ("page", "codec", "text"),
    [
        ("é".encode(), None, "é"),
        (b"\xe9\x80", None, "é€"),
        (b"<meta charset=koi8-r>\xe9", None, "И"),
        (b'<meta http-equiv="Content-Type" content="text/html; charset=iso-8859-5">\xe9', None, "щ"),
        (b"<meta charset=koi8-r>\xe9", "latin_1", "é"),
        (b'<?xml version="1.0" encoding="koi8-r"?><p>\xe9</p>', None, "И"),
        (b"<meta charset=iso-8859-1>\x93\xe9\x94 \x80", None, "“é” €"),
        ("<meta charset=x-sjis>日本①".encode("cp932"), None, "日本①"),
        (b"<meta charset=utf-16>x", None, "x"),
        (b"<meta charset=utf-32le>x", None, "x"),
        (b"<meta charset=nope>\xe9", None, "é"),
        (b"\xef\xbb\xbf<meta charset=koi8-r>" + "é".encode(), "latin_1", "é"),
        ("\ufeffé".encode("utf-16-le"), None, "é"),
        ("\ufeffé".encode("utf-16-be"), None, "é"),
        (b"a\xff", "utf_8", "a\ufffd"),
    ],
)
def test_charsets(page: bytes, codec: str | None, text: str) -> None:
    """A page's mark wins, then the header's charset, then what the page says, then UTF-8 if it is that."""
    assert html_text(page, codec) == text


def test_too_deep() -> None:
    """A page nested beyond measure is refused, and not answered in part."""
    with pytest.raises(ValueError, match="too deeply"):
        html_text(b"<div>" * 20_000 + b"x", None)
