"""Texts of the configuration with ``{user}`` and a regex's groups in them."""

from __future__ import annotations

from collections.abc import Mapping
from string import Formatter

from attrs import field, frozen


@frozen
class Template:
    """A text with placeholders, taken apart once; ``{{`` and ``}}`` stand for braces.

    :param text: as it is written.
    :param parts: each piece of literal text, and the name of the placeholder after it, if any.
    :param names: the placeholders in it.
    :raises ValueError: a brace is left open, or what is between two is not a name.
    """

    text: str
    parts: tuple[tuple[str, str | None], ...] = field(init=False, eq=False, repr=False)
    names: frozenset[str] = field(init=False, eq=False, repr=False)

    @parts.default
    def _find_parts(self) -> tuple[tuple[str, str | None], ...]:
        try:
            pieces = list(Formatter().parse(self.text))
        except ValueError as error:
            raise ValueError(f"{error}; write {{{{ or }}}} for a brace that is meant as such") from None
        for _, name, spec, conversion in pieces:
            if name is not None and (not name.isidentifier() or spec or conversion):
                shown = name + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "")
                raise ValueError(
                    f'"{{{shown}}}" is no placeholder; write {{{{ or }}}} for a brace that is meant as such'
                )
        return tuple((literal, name) for literal, name, _, _ in pieces)

    @names.default
    def _find_names(self) -> frozenset[str]:
        return frozenset(name for _, name in self.parts if name is not None)

    @property
    def begins_open(self) -> bool:
        """Whether a placeholder's value comes first in it."""
        return bool(self.parts) and not self.parts[0][0]

    def fill(self, values: Mapping[str, str]) -> str:
        """Return the text with each placeholder's value in its place."""
        return "".join(literal + (values[name] if name is not None else "") for literal, name in self.parts)
