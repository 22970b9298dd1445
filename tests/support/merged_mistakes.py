"""Several configurations with mistakes put together, into the same tables where no key is in two of them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tests.support.contract import LISTENER

_HEADER = re.compile(r"(\[\[?[^\s=]+\]\]?)\s*(#.*)?$")
_MAPS = ("static", "menu")  # types of which a table takes no keys from another's


# What is concluded from all names or routes of a file, and the mistakes beside which that cannot be known yet.
CONCLUSIONS = {
    "unknown listener": "list-for-name many-at-once missing-key misspelt-tables misspelt-required listener-types",
    "unknown backend": "number-for-backends list-of-backends misspelt-backends",
    "no route leads": "misspelt-tables misspelt-required route-without-backends table-for-list number-for-item",
    "is not set by every route": "misspelt-required",
    "differing only by case": "many-at-once",  # which misspells [answers]
    "this header is given twice": "header-name header-files http-types",
    "a GET request has no body": "header-name header-files http-types",
}


class NotMergedError(Exception):
    """The same key is in two of them."""


def merged(texts: Sequence[str], *, shares: bool) -> str:
    """Return one configuration with the tables and messages of all.

    :param texts: each with messages as comments, and the same listener before its own.
    :param shares: whether backends of the same type become one.
    :raises NotMergedError: the same key is in two of them.
    """
    top: list[str] = []
    single: dict[str, list[str]] = {}
    listed: list[str] = []
    counts = {"routes": 0, "listeners": 0}
    for number, text in enumerate(texts):
        own_counts = dict.fromkeys(counts, 0)
        sections = _sections(_renamed(text.replace(LISTENER, ""), number, counts))
        inlined = {_key(item) for header, items in sections if not header for item in items}
        used = {header.strip("[]").split(".")[0] for header in single} | {_key(item) for item in top}
        if inlined & (used | {"listeners"} | ({"backends"} if number else set())) or {
            _key(item) for item in top
        } & _roots(sections):
            raise NotMergedError
        in_list = False
        renamed = _shared(sections, single) if shares else {}
        for header, items in sections:
            bare = _HEADER.match(header)[1] if header else ""  # type: ignore[index]  # a header matches
            root = bare.strip("[]").split(".")[0]
            in_list = bare.startswith("[[") or (in_list and root in counts)
            if not header:
                top += items
            elif in_list:
                own_counts[root] = own_counts.get(root, 0) + (bare == f"[[{root}]]")
                listed += [header, *items]
            else:
                _add(
                    single,
                    _with_name(header, renamed),
                    items,
                )
        counts = {root: count + own_counts[root] for root, count in counts.items()}
        for old, new in renamed.items():
            for where in (top, listed, *single.values()):
                where[:] = [re.sub(rf"\bbackends\.{old}\b", f"backends.{new}", item) for item in where]
                where[:] = [
                    re.sub(rf'"{old}"', f'"{new}"', item) if item.startswith("backends = ") else item for item in where
                ]
    _refuse_doubles(single, listed, {_key(item) for item in top})
    tables = [line for header, items in single.items() for line in (header, *items)]
    return "\n".join([*top, LISTENER.rstrip("\n"), *listed, *tables, ""])


def _renamed(text: str, number: int, counts: dict[str, int]) -> str:
    """Return a text whose ports, backends and places in lists are no other's."""
    if not number:
        return text
    text = re.sub(r'(tcp|ssl|unix):(\d)"', rf'\g<1>:{number}00\g<2>"', text)
    text = re.sub(r"routes\[(\d+)\]", lambda match: f"routes[{int(match[1]) + counts['routes']}]", text)
    text = re.sub(r"listeners\[([1-9]\d*)\]", lambda match: f"listeners[{int(match[1]) + counts['listeners']}]", text)
    text = re.sub(r"\bbackends\.(\w+)", rf"backends.\g<1>{number}", text)
    return re.sub(
        r"^(backends = )(\[.*?\]|\".*?\")",
        lambda match: match[1] + re.sub(r'"(\w+)"', rf'"\g<1>{number}"', match[2]),
        text,
        flags=re.MULTILINE,
    )


def _sections(text: str) -> list[tuple[str, list[str]]]:
    """Return each table's header and keys; what goes on in other lines is with its key."""
    sections: list[tuple[str, list[str]]] = [("", [])]
    for line in text.splitlines():
        if _HEADER.match(line):
            sections.append((line, []))
        elif re.match(r'[\w"]', line) or not sections[-1][1]:
            if line:
                sections[-1][1].append(line)
        else:
            sections[-1][1][-1] += f"\n{line}"
    return [section for section in sections if section[0] or section[1]]


def _key(item: str) -> str:
    return item.partition("=")[0].strip()


def _roots(sections: list[tuple[str, list[str]]]) -> set[str]:
    return {header.strip("[]").split(".")[0].split("]")[0] for header, _ in sections if header}


def _add(single: dict[str, list[str]], header: str, items: list[str]) -> None:
    bare, marker = re.match(r"([^#]*?)\s*(#.*)?$", header).groups()  # type: ignore[union-attr]  # it matches all
    for known in [known for known in single if known.partition("]")[0] == bare.partition("]")[0]]:
        if "#" in known and marker:
            raise NotMergedError
        _refuse_common(single[known], items)
        added = single.pop(known) + [item for item in items if item not in single.get(known, [])]
        single[f"{known} {marker}" if marker else known] = list(dict.fromkeys(added))
        return
    single[header] = list(items)


def _refuse_common(one: list[str], other: list[str]) -> None:
    keys = {_key(item).split(".")[0]: item for item in one}
    for item in other:
        if keys.get(_key(item).split(".")[0], item) != item or ("#!" in item and item in one):
            raise NotMergedError


def _shared(sections: list[tuple[str, list[str]]], single: dict[str, list[str]]) -> dict[str, str]:
    """Return which backends become one with an earlier one, by their names."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for header, items in sections:
        own = re.match(r"\[backends\.(\w+)\]", header)
        kind = next((item for item in items if item.startswith("type = ")), None)
        if not own or kind is None or "#!" in kind or any(f'"{each}"' in kind for each in _MAPS):
            continue
        for known, there in single.items():
            name = re.match(r"\[backends\.(\w+)\]", known)
            is_free = name and name[1] not in taken and kind in there
            if name and is_free and not (_missing(header) & _keys(there) or _missing(known) & _keys(items)):
                found[own[1]] = name[1]
                taken.add(name[1])
                break
    return found


def _missing(header: str) -> set[str]:
    """Return the keys that a table must not get, as its mistake is that it lacks them."""
    return set(re.findall('missing key "([a-z_]+)"', header))


def _keys(items: list[str]) -> set[str]:
    return set(map(_key, items))


def _refuse_doubles(single: dict[str, list[str]], listed: list[str], top: set[str]) -> None:
    """Refuse a table that is there in two forms."""
    roots = {_path(header)[0] for header in single}
    lists = {"routes", "listeners"} | {_path(line)[0] for line in listed if line.startswith("[[")}
    if roots & lists or top & (roots | {_path(line)[0] for line in listed if line.startswith("[[")}):
        raise NotMergedError
    keys = {_path(header): _keys(items) for header, items in single.items()}
    for path in keys:
        if path[-1] in keys.get(path[:-1], ()):
            raise NotMergedError
    text = "\n".join([*(line for lines in single.values() for line in lines), *listed])
    if "decoy = true" in text and 'access = "off"' in text and "a decoy needs" not in text:
        raise NotMergedError
    if text.count("decoy = true") > 1 and 'access = "off"' in text:
        raise NotMergedError


def _path(header: str) -> tuple[str, ...]:
    return tuple(header.partition("]")[0].strip("[").split("."))


def _with_name(header: str, renamed: dict[str, str]) -> str:
    return re.sub(r"^\[backends\.(\w+)", lambda match: f"[backends.{renamed.get(match[1], match[1])}", header)
