"""The conversion of bodies to text in workers: requests and replies."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final, Literal

from attrs import asdict, field, frozen

from fingergw.net.http.charsets import UTF_8, decode
from fingergw.net.workers.html_text import html_text
from fingergw.net.workers.templates import TemplateError, fill

DONE: Final = b"+"
"""The first byte of a reply that goes on with the text in UTF-8."""
FAILED: Final = b"-"
"""The first byte of a reply that goes on with the reason for a failure."""
_REASON_CHARACTERS = 200  # it may quote the upstream's data


@frozen
class Conversion:
    """How to convert a body to text.

    :param kind: of the body; with "template" it is JSON, which a template is rendered with.
    :param max_bytes: of the text in UTF-8.
    :param codec: of the body according to its Content-Type; None if that does not say. JSON that is UTF-8, as it has to
        be, is read as that.
    :param default_codec: of the body where it does not say either.
    :param template: the template.
    :param values: the template's placeholders.
    """

    kind: Literal["text", "html", "template"]
    max_bytes: int
    codec: str | None = None
    default_codec: str = UTF_8.codec
    template: str = ""
    values: Mapping[str, str] = field(factory=dict)

    def request(self, data: bytes) -> bytes:
        """Return the request to a worker.

        :param data: the body.
        """
        return json.dumps(asdict(self)).encode() + b"\n" + data


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
