"""Texts with placeholders: ``{user}``, and the named groups of a route's regex."""

from __future__ import annotations

from collections.abc import Mapping
from string import Formatter

from attrs import field, frozen

from fingergw.core.errors import ExpectedError

_HOW = "write a placeholder as {user}, and a literal brace as {{ or }}"


@frozen
class Template:
    """A text with placeholders, parsed once; ``{{`` and ``}}`` are literal braces.

    :param text: the text as it is written.
    :param parts: each piece of literal text, with the name of the placeholder after it, or None at the end.
    :param names: the names of all placeholders.
    :raises ExpectedError: a brace has no partner, or what is between two braces is not a name.
    """

    text: str
    parts: tuple[tuple[str, str | None], ...] = field(init=False, eq=False, repr=False)
    names: frozenset[str] = field(init=False, eq=False, repr=False)

    @parts.default
    def _find_parts(self) -> tuple[tuple[str, str | None], ...]:
        try:
            pieces = list(Formatter().parse(self.text))
        except ValueError:
            raise ExpectedError(f"unmatched {{ or }}; {_HOW}") from None
        for _, name, spec, conversion in pieces:
            if name is not None and (not name.isidentifier() or spec or conversion):
                shown = name + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "")
                raise ExpectedError(f'"{{{shown}}}" is not a placeholder; {_HOW}')
        return tuple((literal, name) for literal, name, _, _ in pieces)

    @names.default
    def _find_names(self) -> frozenset[str]:
        return frozenset(name for _, name in self.parts if name is not None)

    @property
    def begins_with_placeholder(self) -> bool:
        """Whether it begins with a placeholder."""
        return bool(self.parts) and not self.parts[0][0]

    def fill(self, values: Mapping[str, str]) -> str:
        """Return the text with each placeholder replaced by its value."""
        return "".join(literal + (values[name] if name is not None else "") for literal, name in self.parts)
