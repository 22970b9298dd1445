"""The conversion of bodies to text. Only workers need it, and the libraries that it loads are large."""

from __future__ import annotations

import json

from fingergw.net.http.charsets import decode
from fingergw.net.workers.conversions import DONE, FAILED, Conversion
from fingergw.net.workers.html_text import html_text
from fingergw.net.workers.template_names import TemplateError
from fingergw.net.workers.templates import fill

_REASON_CHARACTERS = 200  # it may quote the upstream's data


def converted(request: bytes) -> bytes:
    """Return the reply to a request. The time and memory that this takes are unbounded."""
    head, _, data = request.partition(b"\n")
    conversion = Conversion(**json.loads(head))
    try:
        text = _text(conversion, data).encode(errors="replace")
    except (TemplateError, ValueError) as error:
        return FAILED + str(error)[:_REASON_CHARACTERS].encode(errors="replace")
    except RecursionError:
        return FAILED + b"the body is nested too deeply"
    except MemoryError:
        return FAILED + b"the body takes too much memory to convert"
    if len(text) > conversion.max_bytes:
        return FAILED + b"the text of the body is larger than %d bytes; raise max_bytes" % conversion.max_bytes
    return DONE + text


def _text(conversion: Conversion, data: bytes) -> str:
    match conversion.kind:
        case "html":
            return html_text(data, conversion.codec, conversion.default_codec)
        case "template":
            codec = conversion.codec or conversion.default_codec
            return fill(conversion.template, data, conversion.values, conversion.max_bytes, codec)
    return decode(data, conversion.codec or conversion.default_codec)
