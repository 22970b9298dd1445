"""The line of each key in a TOML file, from a second parser, as tomllib does not tell it."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from fingergw.core.settings import KeyPath

if TYPE_CHECKING:
    from tree_sitter import Node, Parser

_DEEPEST: Final = 50  # no key that can have a mistake is as deep
_PIECE_BYTES: Final = 1 << 16


def line_numbers(text: str) -> dict[KeyPath, int]:
    """Return the line, from 1, of every key, table and list item of a valid TOML text."""
    # Only files with mistakes need these, and the imports take time.
    import tree_sitter_toml
    from tree_sitter import Language, Parser

    lines: dict[KeyPath, int] = {}
    last_item: dict[KeyPath, int] = {}

    def names(key: Node) -> Iterator[str]:
        if key.type == "dotted_key":
            for part in key.named_children:
                yield from names(part)
        elif key.type == "bare_key":
            yield (key.text or b"").decode()
        else:
            yield from tomllib.loads((key.text or b"").decode() + "=0")

    def below(base: KeyPath, key: Node) -> KeyPath:
        """Return a key's path; within an array of tables, the path in the last item so far."""
        for name in names(key):
            if base in last_item:
                base += (last_item[base],)
            base += (name,)
            lines.setdefault(base, first + key.start_point.row)
        return base

    def value(node: Node, path: KeyPath) -> None:
        if len(path) > _DEEPEST:
            return
        if node.type == "array":
            items = [item for item in node.named_children if item.type != "comment"]
            for index, item in enumerate(items):
                lines[*path, index] = first + item.start_point.row
                value(item, (*path, index))
        elif node.type == "inline_table":
            pairs(node, path)

    def pairs(node: Node, base: KeyPath) -> None:
        for pair in node.named_children:
            if pair.type == "pair":
                key, content = (child for child in pair.named_children if child.type != "comment")
                value(content, below(base, key))

    first = 1  # the line that a piece begins with
    path: KeyPath = ()  # the table that it begins in
    for piece, root in _pieces(Parser(Language(tree_sitter_toml.language())), text.encode()):
        pairs(root, path)
        for table in root.named_children:
            if table.type in ("table", "table_array_element"):
                path = below((), table.named_children[0])
                if table.type == "table_array_element":
                    last_item[path] = last_item.get(path, -1) + 1
                if path in last_item:
                    path += (last_item[path],)
                lines[path] = first + table.start_point.row
                pairs(table, path)
        first += piece.count(b"\n")
    return lines


def _pieces(parser: Parser, data: bytes) -> Iterator[tuple[bytes, Node]]:
    """Return the pieces of a valid text that are valid by themselves, each with its tree.

    Other threads wait while the parser is at work: for half a second, if it is given all of a large map.
    """
    begin, length = 0, _PIECE_BYTES
    while begin < len(data):
        piece = data[begin : data.find(b"\n", begin + length) + 1 or len(data)]
        root = parser.parse(piece).root_node
        if root.has_error and begin + len(piece) < len(data):  # it ends within a string, or a list
            length *= 2
            continue
        yield piece, root
        begin, length = begin + len(piece), _PIECE_BYTES
