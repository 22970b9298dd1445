"""What a worker is asked to convert, and what it replies."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final, Literal

from attrs import asdict, field, frozen

from fingergw.net.http.charsets import UTF_8

DONE: Final = b"+"
"""The first byte of a reply that goes on with the text in UTF-8."""
FAILED: Final = b"-"
"""The first byte of a reply that goes on with the reason for a failure."""


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
