"""Convert HTML to text, as text browsers do."""

from __future__ import annotations

import re
from typing import Any

from inscriptis.css_profiles import STRICT_CSS_PROFILE
from inscriptis.html_engine import Inscriptis
from inscriptis.html_properties import Display
from inscriptis.model.config import ParserConfig
from inscriptis.model.html_element import HtmlElement
from lxml import etree
from lxml.html import HTMLParser, document_fromstring

from fingergw.net.http.charsets import UTF_8, codec_of, decode, is_marked

_BLOCKS = (
    "details",
    "dialog",
    "dl",
    "dt",
    "fieldset",
    "form",
    "hr",
    "legend",
    "option",
    "section",
    "summary",
    "textarea",
)
_INDENTED = ("blockquote", "dd")
_HIDDEN = ("math", "noframes", "object", "svg", "template")
_STYLES = {
    **STRICT_CSS_PROFILE,
    **{name: HtmlElement(display=Display.block) for name in _BLOCKS},
    **{name: HtmlElement(display=Display.block, padding_inline=4) for name in _INDENTED},
    **{name: HtmlElement(display=Display.none) for name in _HIDDEN},
}
# Where pages declare their charset (https://html.spec.whatwg.org/multipage/parsing.html#encoding-sniffing-algorithm).
_DECLARED = re.compile(
    rb"""(?:<meta[^>]{0,500}?charset|<\?xml\s[^>]{0,200}?encoding)\s*=\s*["']?\s*([A-Za-z0-9_:.-]{1,40})""",
    re.IGNORECASE,
)
_DECLARED_BYTES = 4096
_INLINE = re.compile(
    r"</?(?:a|abbr|b|big|center|code|em|font|i|kbd|nobr|s|small|span|strike|strong|tt|u|var)\b[^<>]*>", re.IGNORECASE
)


class _TooDeepError(ValueError):
    """The parser gave up at its limit of nesting."""


def html_text(data: bytes, codec: str | None, default_codec: str = UTF_8.codec) -> str:
    """Return the text of a page: each block, and each row of a table, on lines of its own.

    :param codec: from the response's header; None if that has none.
    :param default_codec: of a page that does not say either; one that is not UTF-8 then is windows-1252.
    :raises ValueError: its elements are nested too deeply.
    """
    text = _decoded(data, codec, default_codec).replace("\0", "\ufffd")
    try:
        return _laid_out(text)
    except _TooDeepError:
        return _laid_out(_INLINE.sub("", text))  # old pages often leave these open


def _laid_out(text: str) -> str:
    if not text.strip():
        return ""
    parser = HTMLParser(encoding="utf-8", remove_comments=True, remove_pis=True, huge_tree=True)
    try:
        tree = document_fromstring(text.encode("utf-8", "replace"), parser=parser)
    except etree.ParserError:  # it has neither elements nor text
        return ""
    if any(error.type_name == "ERR_RESOURCE_LIMIT" for error in parser.error_log):
        raise _TooDeepError("the elements of the page are nested too deeply")
    _repair(tree)
    lines = Inscriptis(tree, ParserConfig(css=_STYLES)).get_text().split("\n")
    return "\n".join(line.rstrip() for line in lines).strip("\n")


def _repair(tree: Any) -> None:
    """Correct the tree where the parser or the layout differs from browsers."""
    for item in list(tree.iter("dd", "dt")):  # each ends the one before
        before = item.getparent()
        if before is not None and before.tag in ("dd", "dt"):
            tail, before.tail, last = before.tail, None, before
            for each in [item, *item.itersiblings()]:
                last.addnext(each)
                last = each
            last.tail = (last.tail or "") + (tail or "")
    for image in tree.iter("img"):  # replaced by its alternative text
        image.tail = image.get("alt", "") + (image.tail or "")
    for table in list(tree.iter("table")):  # or its first line would join the text before it
        block = table.makeelement("div")
        block.tail, table.tail = table.tail, None
        table.addprevious(block)
        block.append(table)


def _decoded(data: bytes, codec: str | None, default_codec: str) -> str:
    if codec is None and not is_marked(data):
        declared = _DECLARED.search(data[:_DECLARED_BYTES])
        codec = declared and codec_of(declared[1].decode("ascii"))
        if codec and codec.startswith(("utf_16", "utf_32")):  # the declaration could not have been found then
            codec = "utf_8"
        if codec is None and default_codec != UTF_8.codec:
            codec = default_codec
        if codec is None:
            try:
                return data.decode()
            except UnicodeDecodeError:
                codec = "cp1252"
    return decode(data, codec)
