"""What is made of the bytes of an upstream where that can take long: as a request to a worker, and its reply."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final, Literal

from attrs import asdict, field, frozen

from fingergw.net.http.charsets import decode
from fingergw.net.workers.html_text import html_text
from fingergw.net.workers.templates import TemplateError, fill

DONE: Final = b"+"
"""A reply begins so, and then has a text in UTF-8."""
FAILED: Final = b"-"
"""A reply begins so, and then says why there is no text."""
_REASON_CHARACTERS = 200  # what an upstream sends can be quoted in it


@frozen
class Conversion:
    """Make a text of a body.

    :param kind: what the body is, or what is done with it.
    :param max_bytes: of the text in UTF-8.
    :param codec: of a text or page; None where it is not known.
    :param template: what to fill with a JSON body.
    :param values: the template's placeholders.
    """

    kind: Literal["text", "html", "template"]
    max_bytes: int
    codec: str | None = None
    template: str = ""
    values: Mapping[str, str] = field(factory=dict)

    def request(self, data: bytes) -> bytes:
        """Return what is sent to a worker.

        :param data: the body.
        """
        return json.dumps(asdict(self)).encode() + b"\n" + data


def converted(request: bytes) -> bytes:
    """Return the reply to a request. This can take any time and memory."""
    head, _, data = request.partition(b"\n")
    conversion = Conversion(**json.loads(head))
    try:
        text = _text(conversion, data).encode(errors="replace")
    except (TemplateError, ValueError) as error:
        return FAILED + str(error)[:_REASON_CHARACTERS].encode(errors="replace")
    except RecursionError:
        return FAILED + b"what is in the body is in each other too deeply"
    except MemoryError:
        return FAILED + b"the body takes too much memory to convert"
    if len(text) > conversion.max_bytes:
        return FAILED + b"the body makes a text of more than %d bytes" % conversion.max_bytes
    return DONE + text


def _text(conversion: Conversion, data: bytes) -> str:
    match conversion.kind:
        case "html":
            return html_text(data, conversion.codec)
        case "template":
            return fill(conversion.template, data, conversion.values, conversion.max_bytes)
    return decode(data, conversion.codec)
