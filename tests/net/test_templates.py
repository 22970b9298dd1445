"""Templates over JSON, and those that can never work."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fingergw.net.workers.template_names import TemplateError, names_of
from fingergw.net.workers.templates import fill, names_in

MAX_BYTES = 65536


def filled(template: str, body: object, values: Mapping[str, str] | None = None) -> str:
    """Fill a template with a body."""
    return fill(template, json.dumps(body).encode(), values or {}, MAX_BYTES)


@pytest.mark.parametrize(
    ("template", "body", "text"),
    [
        ("{{ a.items }}", {"a": {"items": "inner"}}, "inner"),
        ("{{ a.keys }} {{ a.get }} {{ a['pop'] }}", {"a": {"keys": 1, "get": "x", "pop": "y"}}, "1 x y"),
        ("{{ a.copy.values }}", {"a": {"copy": {"values": 2}}}, "2"),
        ("{{ body.items }}", {"items": "b"}, "b"),
        ("{% for k, v in a.items() %}{{ k }}{{ v }}{% endfor %}", {"a": {"x": 1}}, "x1"),
        ("{{ a.upper() }}{{ a | title }}", {"a": "ann b"}, "ANN BAnn B"),
        ("{{ '%s is %d' | format(a, 3) }}", {"a": "x"}, "x is 3"),
        ("{{ '{}'.format(a) }}", {"a": "x"}, "x"),
        ("{{ a }}", {"a": 1.5}, "1.5"),
        ("{{ a }}", {"a": True}, "True"),
        ("{{ a }}", {"a": [1, {"b": [None, "c"]}]}, "[1, {'b': [None, 'c']}]"),
        ("{{ a or 'nobody' }}", {"a": None}, "nobody"),
        ("{{ a | default('nobody') }}", {}, "nobody"),
        ("{{ a.x is defined }}", {"a": {}}, "False"),
        ("{{ a | length }}{{ a | join('-') }}", {"a": ["x", "y"]}, "2x-y"),
        ("{{ range(3) | list }}", {}, "[0, 1, 2]"),
    ],
)
def test_fill(template: str, body: object, text: str) -> None:
    """A key of the body comes before a method of Python's, and methods that are called work."""
    assert filled(template, body) == text


@pytest.mark.parametrize(
    ("template", "body"),
    [
        ("{{ a.items }}", {"a": {"x": 1}}),
        ("{{ a.items ~ '' }}", {"a": {"x": 1}}),
        ("{{ [a.items] }}", {"a": {"x": 1}}),
        ("{{ a.items | string }}", {"a": {"x": 1}}),
        ("{{ '%s' | format(a.items) }}", {"a": {"x": 1}}),
        ("{{ '{}'.format(a.items) }}", {"a": {"x": 1}}),
        ("{{ a | attr('items') }}", {"a": {"x": 1}}),
        ("{{ a.upper }}", {"a": "x"}),
        ("{{ a.real.bit_length }}", {"a": 1}),
        ("{{ a }}", {"a": None}),
        ("{{ range }}", {}),
        ("{{ range(3) }}", {}),
        ("{{ a | map('upper') }}", {"a": ["x"]}),
        ("{{ a.items() }}", {"a": {"x": 1}}),
        ("{{ self }}", {}),
        ("{{ cycler('a') }}", {}),
        ("{{ lipsum() }}", {}),
    ],
)
def test_what_is_no_text(template: str, body: object) -> None:
    """What is no text, number, list or table is never an answer, and so neither is its place in the memory."""
    with pytest.raises(TemplateError, match="the template failed"):
        filled(template, body)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("body", ["%s", '{"a": 1, "b": %s}', '{"a": 1, "b": [1, {"c": %s}]}'])
def test_no_number_of_json(body: str, number: str) -> None:
    """What Python would take for a number, and JSON does not have, is no JSON, wherever it stands (RFC 8259 §6)."""
    with pytest.raises(TemplateError, match=f"^the body is not JSON, which the template needs: it has {number}$"):
        fill("{{ a }}", (body % number).encode(), {}, MAX_BYTES)


@pytest.mark.parametrize(
    ("number", "reason"),
    [("1e999", "too large"), ("-1e999", "too large"), ("1.5e400", "too large"), ("9" * 5000, "too many digits")],
)
def test_numbers_beyond_python(number: str, reason: str) -> None:
    """A number that would become infinite, or that has more digits than Python converts, fails with that reason."""
    with pytest.raises(TemplateError, match=rf"^the body has a number (that is|with) {reason}$"):
        fill("{{ a }}", b'{"a": 1, "b": %s}' % number.encode(), {}, MAX_BYTES)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"a": 1, "a": 2}', "2"),  # the last one counts, as in browsers
        (b'{"a": 12345678901234567890123}', "12345678901234567890123"),
        (b'{"a": 1e-999}', "0.0"),
        (b'{"a": "NaN Infinity"}', "NaN Infinity"),
        (b'\xef\xbb\xbf{"a": 1}', "1"),
        ('{"a": "é"}'.encode("utf-16-le"), "é"),
        (b'{"a": "\xe9"}', None),
        (b"{'a': 1}", None),
        (b'{"a": 1} {"a": 2}', None),
        (b"nan", None),
    ],
)
def test_json(body: bytes, text: str | None) -> None:
    """JSON is read as browsers read it, and what is none is refused."""
    if text is not None:
        assert fill("{{ a }}", body, {}, MAX_BYTES) == text
    else:
        with pytest.raises(TemplateError, match=r"^the body is not JSON, which the template needs$"):
            fill("{{ a }}", body, {}, MAX_BYTES)


def test_size() -> None:
    """An answer has at most max_bytes, in UTF-8."""
    assert len(filled("{{ '#' * n }}", {"n": MAX_BYTES})) == MAX_BYTES
    for template, n in (("{{ '#' * n }}", MAX_BYTES + 1), ("{{ 'é' * n }}", MAX_BYTES // 2 + 1)):
        with pytest.raises(TemplateError, match="larger than max_bytes = 65536"):
            filled(template, {"n": n})
    with pytest.raises(TemplateError, match="larger than max_bytes = 65536"):
        filled("{% for a in range(n) %}{% for b in range(n) %}{{ b }}{% endfor %}{% endfor %}", {"n": 99_999})


@pytest.mark.parametrize(
    "template",
    [
        "{{ x",
        "{% for %}",
        "{{ x | nofilter }}",
        "{{ x is notest }}",
        '{{ "a" * 1000000000 }}',
        '{{ "a" | center(1000000000) }}',
        '{{ "%1000000000d" | format(1) }}',
        '{{ ["a"] * 1000000000 }}',
        '{{ "a" * 70000 }}',
        "{{ (10 ** 100000000) % 7 }}",
        '{{ ["ann", "bob"][2] or "nobody" }}',
        "{{ {}.a or 3 }}",
        "{% for a in b %}" * 25 + "{% endfor %}" * 25,
        '{% include "x" %}',
        '{% import "x" as y %}',
        '{% from "x" import y %}',
        '{% extends "x" %}',
        "{{ " + "(" * 20_000,
        "{{ " + "[" * 5000 + "]" * 5000 + " }}",
        "{{ x" + ".a" * 20_000 + " }}",
        "{{ 1" + "+1" * 20_000 + " }}",
        "x" * 70_000,
        "{#" * 50_000,
    ],
    ids=lambda template: template[:30],
)
def test_mistakes(template: str) -> None:
    """A template that can never work is a mistake, said within a second and without the memory that it would take."""
    with pytest.raises(ValueError, match="expected "):
        names_of(template, MAX_BYTES)


def test_mistakes_have_lines(tmp_path: Any) -> None:
    """Each template that cannot work is a mistake of its own, with its line in the file."""
    from twisted.internet import reactor

    import fingergw
    from fingergw.core.errors import ConfigError

    path = tmp_path / "fingergw.toml"
    lines = ["[[listeners]]", 'endpoint = "tcp:0"', "[backends]"]
    lines += [
        f"b{number} = {{ type = 'http', url = 'http://h/', template = '{template}' }}"
        for number, template in enumerate(("{{ {}.a or 3 }}", '{{ "a" * 1000000000 }}', '{% include "x" %}'))
    ]
    path.write_text("\n".join(lines))
    configuration = fingergw.load(path)
    began_at = time.process_time()
    with pytest.raises(ConfigError) as caught:
        fingergw.make_service(configuration, reactor)
    assert time.process_time() - began_at < 5  # not 28 s; forks are slow where much else runs
    assert [problem.split(": ")[0] for problem in caught.value.problems] == [f"{path}:{line}" for line in (4, 5, 6)]
    assert [problem.split(": ")[1] for problem in caught.value.problems] == [
        f"backends.b{n}.template" for n in range(3)
    ]


def test_names() -> None:
    """The variables that a template uses are found, also one that is called as one of Jinja2's own."""
    found = names_of("{{ name }}{% for x in range %}{{ x }}{% endfor %}{{ user.a }}", MAX_BYTES)
    assert found == {"name", "range", "user"}


_WORDS = [
    "name",
    "a_1",
    "range",
    "body",
    "loop",
    "self",
    "super",
    "not",
    "and",
    "is",
    "true",
    "none",
    "caller",
    "class",
]
_MARKS = [*"{}-x._ \n\r\0é٣", "{{ ", "{{", " }}", "}}", "{%", "%}", "{#", "#}"]


@given(st.lists(st.sampled_from([*_WORDS, *_MARKS, *(f"{{{{ {word} }}}}" for word in _WORDS)])).map("".join))
@example("{{{ name }}}")
@example("{{name}}}")
@example("{{ name }")
def test_plain(template: str) -> None:
    """A template that is found to be plain without Jinja2 is what Jinja2 finds, too: right, and with these names."""
    with patch("fingergw.net.workers.limited.run", side_effect=OSError):
        try:
            found = names_of(template, MAX_BYTES)
        except TemplateError:
            return
    assert names_in(template, MAX_BYTES) == found


def test_plain_takes_no_process() -> None:
    """A small template of text and names alone takes no process to look at; its text may still be too large."""
    with patch("fingergw.net.workers.limited.run", side_effect=AssertionError):
        found = names_of("{{ name }} is on call until {{until}}, {see} }} {", MAX_BYTES)
        assert found == {"name", "until"}
        for other, max_bytes in (("x" * 2000, MAX_BYTES), ("larger", 5), ("{{ true }}", MAX_BYTES)):
            with pytest.raises(AssertionError):
                names_of(other, max_bytes)


def test_no_more_processes() -> None:
    """Where there can be no more processes a template is a mistake that says so, and costs no descriptors."""
    before = sorted(Path("/proc/self/fd").iterdir())
    for _ in range(3):
        with (
            patch("os.fork", side_effect=BlockingIOError(11, "Resource temporarily unavailable")),
            pytest.raises(ValueError, match="no process can be started for it: Resource temporarily unavailable"),
        ):
            names_of("{{ not_looked_at_before.a }}", MAX_BYTES)
    assert sorted(Path("/proc/self/fd").iterdir()) == before


def test_looked_at_once() -> None:
    """A template that is the same at a reload is not looked at again, which takes a process."""
    found = names_of("{{ name.a }} once", MAX_BYTES)
    with patch("fingergw.net.workers.limited.fork", side_effect=AssertionError):
        assert names_of("{{ name.a }} once", MAX_BYTES) == found
        with pytest.raises(AssertionError):
            names_of("{{ name.a }} once", 5)
