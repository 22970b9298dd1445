"""The line of each key in a TOML file, from a second parser, as tomllib does not tell it."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import Final

from fingergw.core.settings import KeyPath

_DEEPEST: Final = 50  # no key that can have a mistake is as deep


def line_numbers(text: str) -> dict[KeyPath, int]:
    """Return the line, from 1, of every key, table and list item of a valid TOML text."""
    # Only files with mistakes need these, and the imports take time.
    import tree_sitter_toml
    from tree_sitter import Language, Node, Parser

    lines: dict[KeyPath, int] = {}
    last_item: dict[KeyPath, int] = {}

    def names(key: Node) -> Iterator[str]:
        if key.type == "dotted_key":
            for part in key.named_children:
                yield from names(part)
        else:
            yield from tomllib.loads((key.text or b"").decode() + "=0")

    def below(base: KeyPath, key: Node) -> KeyPath:
        """Return a key's path; within an array of tables, the path in the last item so far."""
        for name in names(key):
            if base in last_item:
                base += (last_item[base],)
            base += (name,)
            lines.setdefault(base, key.start_point.row + 1)
        return base

    def value(node: Node, path: KeyPath) -> None:
        if len(path) > _DEEPEST:
            return
        if node.type == "array":
            items = [item for item in node.named_children if item.type != "comment"]
            for index, item in enumerate(items):
                lines[*path, index] = item.start_point.row + 1
                value(item, (*path, index))
        elif node.type == "inline_table":
            pairs(node, path)

    def pairs(node: Node, base: KeyPath) -> None:
        for pair in node.named_children:
            if pair.type == "pair":
                key, content = (child for child in pair.named_children if child.type != "comment")
                value(content, below(base, key))

    root = Parser(Language(tree_sitter_toml.language())).parse(text.encode()).root_node
    pairs(root, ())
    for table in root.named_children:
        if table.type in ("table", "table_array_element"):
            path = below((), table.named_children[0])
            if table.type == "table_array_element":
                last_item[path] = last_item.get(path, -1) + 1
            if path in last_item:
                path += (last_item[path],)
            lines[path] = table.start_point.row + 1
            pairs(table, path)
    return lines
