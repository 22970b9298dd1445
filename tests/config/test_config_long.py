"""Texts in a configuration that could take long to check."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.checked import LISTENER, MAP, told

PATTERNS = ["[" * 20_000, "[!" * 10_000, "*a" * 10_000, "a" * 1001]
REGEXES = ["[" * 20_000, "(" * 20_000, r"\PL" * 20_000, "(a{30}){30}" * 5000, "a|" * 1501, "(" * 10_000 + ")" * 10_000]


@pytest.mark.parametrize("key", ["pattern", "regex"])
def test_long_patterns(key: str, tmp_path: Path) -> None:
    """Patterns that take long to compile are mistakes, said within a second."""
    path = tmp_path / "fingergw.toml"
    for pattern in PATTERNS if key == "pattern" else REGEXES:
        path.write_text(LISTENER + MAP.replace('pattern = "*"', f"{key} = '{pattern}'"))
        most = 1000 if key == "pattern" else 3000
        why = f"expected a pattern of 1 to {most} characters, not {len(pattern)}"
        assert told(path) == [f"4: routes[0].{key}: {why}"]


@pytest.mark.parametrize("pattern", ["[", "[!", "*a", "?", "[a-z]", "[--", "İ", "\\\\", "*"])
def test_patterns_as_long_as_may_be(pattern: str, tmp_path: Path) -> None:
    """A pattern that is just short enough is compiled, and matches, in no time."""
    path = tmp_path / "fingergw.toml"
    path.write_text(LISTENER + MAP.replace("*", (pattern * 1000)[:1000]))
    assert told(path) == []


@pytest.mark.parametrize("regex", [r"\PL", r"\pL", "(a{30}){30}", r"\pL{1000}", "(x+x+)+", "(?i)", "[^a]", "("])
def test_regexes_as_long_as_may_be(regex: str, tmp_path: Path) -> None:
    """A regex that is just short enough is compiled, or refused as too large or no regex, within a second."""
    path = tmp_path / "fingergw.toml"
    pattern = (regex * 3000)[: 3000 // len(regex) * len(regex)]
    path.write_text(LISTENER + MAP.replace('pattern = "*"', f"regex = '{pattern}'"))
    assert all("routes[0].regex: not RE2 syntax" in mistake for mistake in told(path))


ENDPOINTS = [
    "haproxy:" * 12_500,
    "\\" * 99_999,
    "tcp:" * 25_000,
    "tcp:" + "1" * 100_000,
    "unix:a:mode=" + "7" * 100_000,
]
ENDPOINTS += ["unix:" + "a" * 100_000, ":" * 100_000, "=" * 100_000, "\u202e" * 100_000]
OTHERS = [
    *ENDPOINTS,
    "http://" + "a." * 50_000,
    "http://[" + ":" * 100_000,
    "redis://h/" + "1" * 100_000,
    "{" * 100_000,
]
OTHERS += ["{user}" * 20_000, "1.1.1.1/" + "1" * 100_000, "@" * 100_000, "/W " * 30_000, "\U0001f642" * 100_000]


@pytest.mark.parametrize(
    "text",
    [
        "[[listeners]]\nendpoint = %s\n",
        LISTENER + "allow = [%s]\n",
        LISTENER + "[admin]\nendpoint = %s\nhosts = [%s]\n",
        LISTENER + "[cache]\nstore = %s\n",
        LISTENER + "[forwarding.allow]\nh = %s\n%s = 'tcp:h:79'\n",
        LISTENER + "[process]\nuser = %s\numask = %s\n",
        LISTENER + "[backends.b]\ntype = 'http'\nurl = %s\nca_file = %s\n",
        LISTENER + "[backends.b]\ntype = 'command'\nargv = ['true', %s]\nenv = { %s = 'a' }\n",
        LISTENER + "[backends.b]\ntype = 'finger'\nhost = %s\n%s = 1\n",
        LISTENER + "[backends.b]\ntype = %s\n[log]\nlevel = %s\n",
        LISTENER + "[[routes]]\nuser = %s\nbackends = [%s]\nlisteners = [%s]\n",
        LISTENER + "%s = 1\n",
    ],
)
def test_long_texts(text: str, tmp_path: Path) -> None:
    """No other key has a value of 100,000 characters that takes long to check, or ends in a traceback."""
    path = tmp_path / "fingergw.toml"
    for value in OTHERS:
        path.write_text(text.replace("%s", '"' + value.replace("\\", r"\\") + '"'))
        told(path)


def test_many_that_name_nothing(tmp_path: Path) -> None:
    """A thousand names that name nothing, among a thousand others, are said as quickly, and each in few words."""
    path = tmp_path / "fingergw.toml"
    path.write_text(
        LISTENER
        + "".join(f'[[routes]]\nuser = "u{each}"\nbackends = ["x{each}"]\n' for each in range(1000))
        + "".join(f'[backends.b{each}]\ntype = "static"\ntext = "x"\n' for each in range(1000))
    )
    mistakes = told(path)
    assert len(mistakes) == 1000
    assert mistakes[0].endswith("b141, b142 and 950 more")
