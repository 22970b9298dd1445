"""Texts with placeholders: ``{user}``, and the named groups of a route's regex; ``{user:upper}`` is in upper case."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from string import Formatter
from typing import NamedTuple

from attrs import field, frozen

from fingergw.core.errors import ExpectedError
from fingergw.core.query import compose

_HOW = "write a placeholder as {user}, and a literal brace as {{ or }}"
_UPPER = "upper"


class Part(NamedTuple):
    """A piece of a template.

    :param literal: text, perhaps empty.
    :param name: of the placeholder after it; None at the end.
    :param upper: whether that is put in upper case.
    """

    literal: str
    name: str | None
    upper: bool

    @property
    def placeholder(self) -> str:
        """The placeholder as it is written; empty at the end."""
        return "" if self.name is None else f"{{{self.name}{':' + _UPPER if self.upper else ''}}}"


@frozen
class Template:
    """A text with placeholders, parsed once; ``{{`` and ``}}`` are literal braces.

    :param text: the text as it is written.
    :param parts: the pieces of the text.
    :param names: the names of all placeholders.
    :raises ExpectedError: a brace has no partner, or what is between two braces is not a placeholder.
    """

    text: str
    parts: tuple[Part, ...] = field(init=False, eq=False, repr=False)
    names: frozenset[str] = field(init=False, eq=False, repr=False)

    @parts.default
    def _find_parts(self) -> tuple[Part, ...]:
        try:
            pieces = list(Formatter().parse(self.text))
        except ValueError:
            raise ExpectedError(f"unmatched {{ or }}; {_HOW}") from None
        for _, name, spec, conversion in pieces:
            if name is None or (name.isidentifier() and not conversion and spec in ("", _UPPER)):
                continue
            shown = name + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "")
            why = f": the only filter is :{_UPPER}" if name.isidentifier() and not conversion else ""
            raise ExpectedError(f'"{{{shown}}}" is not a placeholder{why}; {_HOW}')
        return tuple(Part(literal, name, bool(spec)) for literal, name, spec, _ in pieces)

    @names.default
    def _find_names(self) -> frozenset[str]:
        return frozenset(part.name for part in self.parts if part.name is not None)

    @property
    def begins_with_placeholder(self) -> bool:
        """Whether it begins with a placeholder."""
        return bool(self.parts) and not self.parts[0].literal

    def fill(self, values: Mapping[str, str], encode: Callable[[str], str] = str) -> str:
        """Return the text with each placeholder replaced by its value.

        :param encode: applied to each value last, after a filter.
        """
        filled = ""
        for literal, name, upper in self.parts:
            filled += literal
            if name is not None:
                filled += encode(compose(values[name].upper()) if upper else values[name])
        return filled
