"""Every mistake in a configuration file is reported with its line, its key path and what to write."""

from __future__ import annotations

import os
import re
import select
import threading
import tomllib
from functools import partial
from pathlib import Path

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.testing import MemoryReactorClock

from fingergw.app import build, clock
from fingergw.backends import static
from fingergw.cli import main
from fingergw.config import load, load_table, read
from fingergw.config.problems import Problem, to_error
from fingergw.config.toml_text import parse, read_text
from fingergw.core.errors import ConfigError
from tests.support import machine_mistakes
from tests.support.contract import LISTENER, VALUES, with_a_value_replaced, write
from tests.support.mistakes import MEANINGS, rows
from tests.support.waiting import wait_until


def mistakes(path: Path) -> list[str]:
    """Return what is reported for a file, without the file's name."""
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value) == "\n".join(caught.value.problems)
    assert all(problem.startswith(f"{path}:") for problem in caught.value.problems)
    return [problem.removeprefix(f"{path}:").strip() for problem in caught.value.problems]


def not_toml(text: str) -> bool:
    """Tell whether Python's own parser takes the bytes for no TOML."""
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return True
    return False


@pytest.mark.parametrize(("text", "messages"), rows())
def test_mistakes(tmp_path: Path, text: str, messages: list[str]) -> None:
    """Every mistake is reported, with its line, its key path and what was expected, and nothing else is."""
    assert mistakes(write(tmp_path, text)) == messages


@pytest.mark.parametrize(("text", "messages"), machine_mistakes.rows())
def test_mistakes_on_this_machine(tmp_path: Path, text: str, messages: list[str]) -> None:
    """So is what a file names that this machine does not have, or not as it should be; nothing is opened or bound."""
    machine_mistakes.prepare(tmp_path)
    path = write(tmp_path, text.replace("$HERE", str(tmp_path)))
    config, problems = read(path)
    found = build.check(config, MemoryReactorClock(), config.process)[0]
    told = [
        each.replace(f"{path}:", "", 1).replace(str(tmp_path), "$HERE")
        for each in to_error([*problems, *found], config.source).problems
    ]
    assert told == messages


@pytest.mark.parametrize(("text", "messages"), [*rows(), *machine_mistakes.rows()])
def test_every_command_says_the_same(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    messages: list[str],
) -> None:
    """``check``, ``config``, ``explain`` and the start all exit with 78 and the same messages, and print nothing else.

    On this machine there may be more of them than the file has by itself.
    """
    monkeypatch.setattr(clock, "use_monotonic_clock", lambda _: None)  # the tests' own reactor is at work already
    machine_mistakes.prepare(tmp_path)
    path = write(tmp_path, text.replace("$HERE", str(tmp_path)))
    told = set()
    for command in ([], ["check"], ["config"], ["explain", "x"]):
        assert main([*command, "--config", str(path)]) == 78
        out, err = capfd.readouterr()
        assert out == ""
        told.add("".join(line for line in err.splitlines(keepends=True) if "warning: " not in line))
    (report,) = told
    lines = [line.replace(f"{path}:", "", 1).replace(str(tmp_path), "$HERE") for line in report.splitlines()[1:]]
    assert [line for line in lines if line in messages] == messages


def test_there_are_as_many_kinds() -> None:
    """The tables have more than three hundred kinds of mistakes, whatever the names and places."""
    kinds = set()
    for row in [*rows(), *machine_mistakes.rows()]:
        for message in row.values[1]:
            _, _, told = message.partition(": ")
            kinds.add(re.sub(r"\[\d+\]|(?<=backends)\.\w+", "", told))
    assert len(kinds) > 300


@given(st.text(alphabet="a=1'\"#[]\r\n\t \0\x85\u2028\ufeff\x7f", max_size=30))
def test_the_bytes_are_what_is_parsed(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    """Whatever looks like the end of a line in an editor, a file says what it says to Python's own parser."""
    path = write(tmp_path_factory.getbasetemp(), text, "bytes.toml")
    try:
        expected = tomllib.loads(text.removeprefix("\ufeff"))
    except tomllib.TOMLDecodeError:
        with pytest.raises(ConfigError, match=r":\d+: not TOML: "):
            load_table(path, dict[str, str])
        return
    assert parse(read_text(path), path) == expected


def test_what_is_no_line_end(tmp_path: Path) -> None:
    """U+0085 and U+2028, which some editors show as line ends, are characters as any in a comment, as TOML has it."""
    path = write(tmp_path, LISTENER + "# a\x85b\u2028c\u2029d\n[limits]\nzebra = '\u2028'\n")
    assert [each.partition(" ")[0] for each in mistakes(path)] == ["5:"]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_byte_order_mark(tmp_path: Path, end: str) -> None:
    """A byte order mark, as Windows' editors write it, is no part of a configuration, nor of a map in a file."""
    text = LISTENER + "[limits]\nzebra = 1\n"
    (mistake,) = mistakes(write(tmp_path, b"\xef\xbb\xbf" + text.replace("\n", end).encode()))
    assert mistake.startswith('4: limits.zebra: unknown key "zebra"')
    people = write(tmp_path, b"\xef\xbb\xbfmoshez = 'Happy'\n", "people.toml")
    assert load_table(people, static.Entries) == {"moshez": "Happy"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "1: expected at least one [[listeners]] table"),
        (b"listeners = []\n", "1: expected at least one [[listeners]] table"),
        (b"a = " + b"[" * 10000, "1: expected lists and tables nested at most 100 deep"),
        (b"a = '\xe9'\n", "1: not UTF-8, which TOML requires; save the file as UTF-8"),
    ],
    ids=["empty", "no-listener", "nested", "latin-1"],
)
def test_mistakes_of_the_whole_file(tmp_path: Path, text: bytes, message: str) -> None:
    """A file that is no TOML file is refused with the line; one without a listener too."""
    assert mistakes(write(tmp_path, text)) == [message]


TWICE = "this key or table is defined twice; remove one of the two"
ON_ITS_LINE = "expected the closing quote on this line, and no control characters"
ZERO = "a number has no zero before its first digit; put it in quotes if it is a text, such as a umask"
ESCAPE = r"this escape is no character; \u takes four and \U eight hexadecimal digits, but not D800 to DFFF"
RETURN = "a carriage return that does not end the line, as no line feed follows it; remove it; in a string, write \\r"
CONTROL = "the control character U+{}; remove it; in a string, write \\u{}"
IN_ONE_PLACE = "a table in { } or a list in [ ] cannot be extended elsewhere; write all of it in one place"


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        (
            "a = tcp",
            "1, column 5",
            'expected a value: a "string" in quotes, a number, true, false, a date, a [list] or a { table }',
        ),
        ("=1", "1, column 1", "expected a key, a [table] or a [[list of tables]]"),
        ("[[é]]", "1, column 3", "expected a key; put it in quotes if it has other characters than A-Z a-z 0-9 - _"),
        ("a: 1", "1, column 2", "expected = after the key"),
        ("a = 'it's'", "1, column 9", "expected the end of the line after the value; put the whole string in quotes"),
        ("[a\n", "1, column 3", "expected ] or ]] at the end of the table's name"),
        ("a = 1\na = 2\n", "2, column 6", TWICE),
        ("[a]\n\n[a]", "3, column 3", TWICE),
        ("a = { b = 1, b = 2 }", "1, column 19", TWICE),
        ("a = { b = 1 }\na.c = 1\n", "2, column 8", IN_ONE_PLACE),
        ("a = []\n[[a]]", "2, column 4", IN_ONE_PLACE),
        ("a = 'x\n", "2, end of the file", "expected the string to end; add the closing quotes"),
        ('a = "x\n', "1, column 7", ON_ITS_LINE),
        (
            'a = "\\d"',
            "1, column 8",
            r"expected an escape such as \n after the backslash; write \\ for a backslash itself",
        ),
        ('a = "\\ud800"', "1, column 12", ESCAPE),
        ('a = "\\u12g4"', "1, column 8", ESCAPE),
        ('a = "\\U0011"', "1, column 8", ESCAPE),
        ("a.b = 1\na.b.c = 2", "2, end of the file", TWICE),
        ("umask = 027", "1, column 10", ZERO),
        ("a = [1, -01]", "1, column 11", ZERO),
        ("a = 1\nb = 0_1", "2, column 6", ZERO),
        ("a = 1 # local only:\rb = 2\n", "1, column 20", RETURN),
        ("a = 1\r\nb = 'x\ry'\r\n", "2, column 7", RETURN),
        ("a = 1\rb = 2", "1, column 6", RETURN),
        ("a = 1\r\r\n", "1, column 6", RETURN),
        ('a = """\n\r"""', "2, column 1", RETURN),
        ("a = 1 # \0", "1, column 9", CONTROL.format("0000", "0000")),
        ("a = 'x\x0b'", "1, column 7", CONTROL.format("000B", "000b")),
        ("\x0ca = 1", "1, column 1", CONTROL.format("000C", "000c")),
        ('a = "\x7f"', "1, column 6", CONTROL.format("007F", "007f")),
        ("# \x1b[31m", "1, column 3", CONTROL.format("001B", "001b")),
        ("a = [1 2]", "1, column 8", "expected , or ] in the list"),
        ("a = { b = 1", "1, end of the file", "expected , or } in the table, on the same line"),
        ("a = 2026-02-30", "1, column 5", "expected a valid date and time"),
        ('\na = """x\n', "3, end of the file", "expected the string to end; add the closing quotes"),
    ],
)
def test_not_toml(tmp_path: Path, text: str, place: str, message: str) -> None:
    """What is not TOML is refused with its line and column, and what the file should have there instead."""
    line, _, column = place.partition(", ")
    (found,) = mistakes(write(tmp_path, text))
    assert found == f"{line}: not TOML: {message} ({column})"
    assert not_toml(text)


def test_a_mistake_hides_no_other(tmp_path: Path) -> None:
    """What is right in a table with a mistake is still checked, on this machine too."""
    path = write(
        tmp_path,
        """
[limits]
zebra = 1
[[listeners]]
endpoint = "tcp:x"
alow = []
limits = { max_waiting = "1", max_connections = 5 }
[[routes]]
regex = "(?P<team>a)"
sumary = "x"
backends = ["b"]
[backends.b]
type = "http"
url = "http://h/{team}{other}"
timeout = "5"
template = "{{ a | nofilter }}"
[backends.c]
type = "static"
file = "people.toml"
ttl = 5
""",
    )
    config, problems = read(path)
    found = build.check(config, MemoryReactorClock())[0]
    lines = [line.split(": ")[0] for line in to_error([*problems, *found], config.source).problems]
    assert [int(line.rpartition(":")[2]) for line in lines] == [3, 5, 6, 7, 10, 14, 15, 16, 19, 20]


def test_unreadable_files(tmp_path: Path) -> None:
    """A file that is not there, or is a folder, is refused by name."""
    advice = r"; to create one to start from, run: fingergw init \S+/none\.toml"
    other = "; create it, or name another file"
    for function, more in (load, advice), (partial(load_table, kind=static.Entries), other):
        with pytest.raises(ConfigError, match=rf"none\.toml: cannot be read: No such file or directory{more}$"):
            function(tmp_path / "none.toml")
        with pytest.raises(ConfigError, match=r"cannot be read: Is a directory; name a file in it$"):
            function(tmp_path)


def test_a_pipe_in_the_place_of_a_file(tmp_path: Path) -> None:
    """A pipe is no file of entries, and one that nobody writes to no configuration: neither is waited for."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match=r"cannot be read: not a regular file; name a regular file$"):
        load_table(tmp_path / "pipe", static.Entries)
    with pytest.raises(ConfigError, match=r"cannot be read: not a regular file; name a regular file$"):
        load(Path("/dev/zero"))
    assert mistakes(tmp_path / "pipe") == ["1: expected at least one [[listeners]] table"]


def test_a_configuration_from_another_program() -> None:
    """A configuration may come through a pipe, as a shell's ``<(...)`` does, and as slowly as its writer likes."""
    read_end, write_end = os.pipe()

    def write_slowly() -> None:
        os.write(write_end, LISTENER[:20].encode())
        wait_until(lambda: not select.select([read_end], [], [], 0)[0], "what reads the first part")
        os.write(write_end, LISTENER[20:].encode())
        os.close(write_end)

    writer = threading.Thread(target=write_slowly)
    writer.start()
    try:
        assert load(f"/dev/fd/{read_end}").listeners[0].name == "tcp:1079"
    finally:
        writer.join()
        os.close(read_end)


def test_a_problem_without_a_file() -> None:
    """What is wrong in a configuration made in Python is reported by its key path alone."""
    error = to_error([Problem(("listeners", 0, "endpoint"), "no"), Problem(("backends", "a.b"), "nor")], None)
    assert error.problems == ("listeners[0].endpoint: no", 'backends."a.b": nor')


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ('a = "x"\nb = 5\n[c]\nnam = "x"\n', [f"2: b: {MEANINGS['$PERSON']}", '4: c.nam: unknown key "nam"; did you']),
        ("a = \n", ["1: not TOML: expected a value"]),
    ],
    ids=["types", "syntax"],
)
def test_mistakes_in_entries(tmp_path: Path, text: str, messages: list[str]) -> None:
    """A mistake in a file of entries is reported with that file's name and line."""
    path = write(tmp_path, text, "people.toml")
    with pytest.raises(ConfigError) as caught:
        load_table(path, static.Entries)
    for problem, message in zip(caught.value.problems, messages, strict=True):
        assert problem.startswith(f"{path}:{message}")


@given(data=st.data())
def test_any_replaced_value_is_reported_or_taken(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Whatever stands in place of any value of a good file, reading and checking it never crashes."""
    raw = with_a_value_replaced(
        data, VALUES | st.sampled_from(["{user}", "{", "tcp:1", "systemd:", "static", "http", "a\0b"])
    )
    file = write(tmp_path_factory.getbasetemp(), tomli_w.dumps(raw), "any.toml")
    config, problems = read(file)
    to_error([*problems, *build.check(config, MemoryReactorClock())[0]], config.source)
