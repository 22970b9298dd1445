"""Values that cannot be meant: secrets in the file, what nothing fills in, names that look like others."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from fingergw.config import model
from fingergw.config.problems import Problem
from fingergw.core.columns import width
from fingergw.core.patterns import group_names
from fingergw.core.placeholders import Template
from fingergw.core.setting_types import Argv, HeaderName, HeaderValue, Status, Url, Variable
from fingergw.core.settings import KeyPath, keys_of, without_none

_CONFIDENTIAL: Final = r"password|passwd|passphrase|secret|token|(?:api|access|auth|private|secret)[-_]?key"
_HEADER: Final = re.compile(rf".*(authorization|cookie|{_CONFIDENTIAL})", re.IGNORECASE)
_PARAMETER: Final = re.compile(rf".*({_CONFIDENTIAL})|pass|pwd|sig|signature", re.IGNORECASE)
_VARIABLE: Final = re.compile(rf".*({_CONFIDENTIAL})|(.*_)?(pass|pwd)", re.IGNORECASE)
_OPTION: Final = re.compile(rf"(?!--?no-)--?[\w-]*(?:{_CONFIDENTIAL})", re.IGNORECASE)
_FIELD: Final = re.compile(rf"(?:[\w-]*(?:authorization|{_CONFIDENTIAL})|cookie): *(.+)", re.IGNORECASE)
_PATH: Final = re.compile(r"[/@~]|\./")  # of a file that holds the secret
_PLACEHOLDER: Final = re.compile(r"\{\s*([^\W\d]\w*)(?::\w+)?\s*\}")
_SINGLE: Final = re.compile(rf"(?<!\{{){_PLACEHOLDER.pattern}(?!\}})")  # in a template, where two braces fill in
_AS_IT_IS: Final = re.compile(r"(?s)\{#.*?(?:#\}|\Z)|\{%-?\s*raw\b.*?(?:\bendraw\s*-?%\}|\Z)")
_OWN_VARIABLES: Final = frozenset({"FINGER_USER", "FINGER_VERBOSE", "FINGER_CLIENT", "FINGER_LISTENER"})
_READABLE: Final = "a secret here can be read by whoever can read this file"
_TEXTS: Final = {"static": ("text", "entries"), "http": ("headers", "template"), "command": ("env",)}
"""The keys of each type of backend in whose values nothing is filled in."""
_READERS: Final[dict[object, tuple[str, str]]] = {
    "headers": ("the server gets", "it is filled in in url"),
    "template": ("clients get", "write {{ }} around it"),
    "env": ("the program gets", "it is filled in in argv"),
}


def doubtful_values(configuration: model.Config) -> Iterator[Problem]:
    """Find values that cannot be meant."""
    for name, backend in configuration.backends.items():
        for key in keys_of(type(backend.settings)):  # type: ignore[arg-type]  # a class has a hash
            value, kind, where = (
                getattr(backend.settings, key.name),
                without_none(key.type),
                ("backends", name, key.name),
            )
            if value is None:
                continue
            if kind == dict[HeaderName, HeaderValue]:
                yield from _headers(where, value)
            elif kind == dict[Variable, str]:
                yield from _variables(where, value)
            elif kind is Url:
                yield from _url(where, value)
            elif kind is Argv:
                yield from _arguments(where, value)
            elif kind == tuple[Status, ...] and key.name == "missing_statuses":
                yield from _statuses(where, value)
    yield from _unfilled(configuration)
    yield from _blank_names(configuration)


def _headers(where: KeyPath, headers: dict[str, str]) -> Iterator[Problem]:
    for name, value in headers.items():
        if value.strip() and _HEADER.fullmatch(name):
            bearer = ", or a Bearer token's in bearer_token_file" if name.lower() == "authorization" else ""
            yield Problem((*where, name), f"{_READABLE}; put it into a file, and name that in header_files{bearer}")


def _variables(where: KeyPath, variables: dict[str, str]) -> Iterator[Problem]:
    for name, value in variables.items():
        if name in _OWN_VARIABLES:
            yield Problem((*where, name), "the gateway sets this variable itself, whatever stands here; remove it")
        elif value.strip() and _VARIABLE.fullmatch(name) and not _PATH.match(value):
            yield Problem((*where, name), f"{_READABLE}; put it into a file that the program reads")


def _url(where: KeyPath, url: Template) -> Iterator[Problem]:
    for name, value in parse_qsl(urlsplit(url.text).query):
        if _PARAMETER.fullmatch(name) and not _has_placeholder(value):
            why = f'the value of "{name}": {_READABLE}; if its server takes it in a header, put it into a file'
            yield Problem(where, f"{why}, and name that in header_files")


def _arguments(where: KeyPath, argv: tuple[Template, ...]) -> Iterator[Problem]:
    option = ""
    for number, argument in enumerate(argv):
        text, name, value = argument.text, *argument.text.partition("=")[::2]
        if text.startswith("-") and value:
            option, text = name, value
        is_header = option in ("-H", "--header")  # as curl has them
        field = _FIELD.fullmatch(text) if is_header else None
        secret = field[1] if field else text if _OPTION.fullmatch(option) and not text.startswith("-") else ""
        if secret and not _PATH.match(secret) and not _has_placeholder(secret):
            why = "a secret here can be read in this file, and by all users of this machine while the program runs"
            yield Problem((*where, number), f"{why}; put it into a file that the program reads")
        option = argument.text


def _has_placeholder(text: str) -> bool:
    return _PLACEHOLDER.search(text.replace("{{", "").replace("}}", "")) is not None


def _statuses(where: KeyPath, statuses: tuple[int, ...]) -> Iterator[Problem]:
    for number, status in enumerate(statuses):
        if 200 <= status < 300:
            yield Problem(
                (*where, number), f"{status} is a success, so that no answer with it is ever shown; remove it"
            )


def _has_brace(text: object) -> bool:
    return isinstance(text, str) and "{" in text


def _unfilled(configuration: model.Config) -> Iterator[Problem]:
    """Find placeholders where nothing is filled in; in a map of names and the like, those that a route sets."""
    texts: list[tuple[KeyPath, Any]] = []
    where: KeyPath
    for name, backend in configuration.backends.items():
        for key in _TEXTS.get(backend.type, ()):
            value, where = getattr(backend.settings, key), ("backends", name, key)
            inner = value.items() if isinstance(value, dict) else ()
            # not all: other threads wait while a list of 100,000 is freed
            texts += [((*where, each), text) for each, text in inner if _has_brace(text)] if inner else [(where, value)]
    for answer in keys_of(type(configuration.answers)):  # type: ignore[arg-type]  # a class has a hash
        texts.append((("answers", answer.name), getattr(configuration.answers, answer.name)))
    found = [
        (path, _SINGLE.findall(_AS_IT_IS.sub("", text)) if path[-1] == "template" else _PLACEHOLDER.findall(text))
        for path, text in texts
        if _has_brace(text)
    ]
    if not any(names for _, names in found):
        return
    regexes = (route.regex for route in configuration.routes if route.regex is not None)
    known = {"user"}.union(*map(group_names, regexes))
    for path, names in found:
        is_last_word = path[-1] == "text"  # where it is hardly ever meant so, even if no route sets it
        placeholder = next((name for name in names if is_last_word or name in known), None)
        if placeholder is not None:
            reader, advice = _READERS.get(str(path[2]) if path[2:] else "", ("clients get", "write it without braces"))
            yield Problem(path, f"nothing is filled in here: {reader} {{{placeholder}}} as it stands; {advice}")


def _blank_names(configuration: model.Config) -> Iterator[Problem]:
    """Find names that are blank, or that begin or end with a space: in messages they look like others."""
    names: list[tuple[KeyPath, str]] = [
        *(
            (("listeners", place, "name"), each.name)
            for place, each in enumerate(configuration.listeners)
            if each.name != each.endpoint  # as without a name of its own
        ),
        *(
            (("routes", place, "name"), each.name)
            for place, each in enumerate(configuration.routes)
            if each.name != each.default_name
        ),
        *((("backends", name), name) for name in configuration.backends),
    ]
    for where, name in names:
        if not width(name.strip()):
            yield Problem(where, "the name is blank; give it one that can be seen in logs")
        elif name != name.strip():
            yield Problem(where, "the name begins or ends with a space; remove that")
