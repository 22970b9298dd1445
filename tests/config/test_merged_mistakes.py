"""No mistake hides another, and none leads to a false one: any of them together, within the same tables too."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from twisted.internet.testing import MemoryReactorClock

from fingergw.app import build
from fingergw.config import read
from fingergw.config.problems import located
from tests.support import machine_mistakes
from tests.support.configuration import one_backend
from tests.support.contract import write
from tests.support.merged_mistakes import CONCLUSIONS, NotMergedError, merged
from tests.support.mistakes import expected, spelt_out, texts
from tests.support.processes import run

TEXTS = texts()
MACHINE = texts(machine_mistakes.MISTAKES)


def told(folder: Path, text: str) -> list[str]:
    """Return what is reported for a text, each with its line."""
    path = write(folder, text, "merged.toml")
    config, problems = read(path)
    return sorted(shortened(message.removeprefix(f"{path}:")) for message in located(problems, config.source))


def shortened(message: str) -> str:
    """Return a message without the names that a file with more of them would list."""
    return re.sub(r"(unknown (listener|backend) ).*", r"\1", message)


@settings(max_examples=250)
@given(names=st.lists(st.sampled_from(sorted(TEXTS)), min_size=2, max_size=3, unique=True), shares=st.booleans())
def test_all_of_them_are_reported(tmp_path_factory: pytest.TempPathFactory, names: list[str], *, shares: bool) -> None:
    """Of two or three files with mistakes in one, each mistake is reported with its own line, and nothing else is.

    Only what is concluded from all names or routes waits until these are known.
    """
    try:
        text = merged([TEXTS[name] for name in names], shares=shares)
    except NotMergedError:
        assume(condition=False)
    waits = [what for what, beside in CONCLUSIONS.items() if set(beside.split()) & set(names)]
    own = sorted(map(shortened, expected(text)))
    found = told(tmp_path_factory.getbasetemp(), text)
    assert [each for each in own if each in found or not any(what in each for what in waits)] == found


@settings(max_examples=40)
@given(name=st.sampled_from(sorted(MACHINE)), other=st.sampled_from(sorted(TEXTS)), shares=st.booleans())
def test_what_this_machine_lacks_is_reported_beside_them(
    tmp_path_factory: pytest.TempPathFactory, name: str, other: str, *, shares: bool
) -> None:
    """So is what a file names that this machine does not have, whatever else is wrong in the same table."""
    folder = tmp_path_factory.getbasetemp()
    machine_mistakes.prepare(folder)
    both = [spelt_out(MACHINE[name], machine_mistakes.MEANINGS).replace("$HERE", str(folder)), spelt_out(TEXTS[other])]
    try:
        text = merged(both, shares=shares)
    except NotMergedError:
        assume(condition=False)
    path = write(folder, text, "merged.toml")
    config, problems = read(path)
    problems += build.check(config, MemoryReactorClock(), config.process)[0]
    found = [shortened(each.removeprefix(f"{path}:")) for each in located(problems, config.source)]
    waits = [what for what, beside in CONCLUSIONS.items() if other in beside.split()]
    waits += ["only a Redis store", "only a rediss:", "a user needs"] if "#! cache." in TEXTS[other] else []
    waits += ["differing only by case"] if "#! answers.case_sensitive" in TEXTS[other] else []
    for message in map(shortened, expected(text, {})):
        assert message in found or any(what in message for what in waits)


SAMPLES = {
    "endpoint": (
        '[[listeners]]\nendpoint = "tpc:79"\nallow = ["x"]\n',
        ["2 listeners[0].endpoint", "3 listeners[0].allow[0]"],
    ),
    "listener": (
        '[[listeners]]\nallow = ["x"]\ndelay = 5\n',
        ["1 listeners[0]", "2 listeners[0].allow[0]", "3 listeners[0].delay"],
    ),
    "argv": (
        one_backend('type = "command"\nargv = ["/no/prog", "{bad}"]\ntimeout = -1'),
        ["8 backends.b.argv[1]", "8 backends.b.argv[0]", "9 backends.b.timeout"],
    ),
    "broken-argv": (
        one_backend('type = "command"\nargv = ["/no/prog", 5, "{", "{bad}"]'),
        ["8 backends.b.argv[1]", "8 backends.b.argv[2]", "8 backends.b.argv[3]", "8 backends.b.argv[0]"],
    ),
    "url": (
        one_backend(
            'type = "http"\nurl = "http://h/{bad}"\ntemplate = "{{"\nbearer_token_file = "nowhere"\ntimeout = -1'
        ),
        ["8 backends.b.url", "9 backends.b.template", "10 backends.b.bearer_token_file", "11 backends.b.timeout"],
    ),
    "no-url": (
        one_backend('type = "http"\ntemplate = "{{"\nbearer_token_file = "nowhere"\ncache = { ttl = -1 }'),
        ["6 backends.b", "8 backends.b.template", "9 backends.b.bearer_token_file", "10 backends.b.cache.ttl"],
    ),
    "one-of": (
        one_backend('type = "static"\nfile = "nowhere"\ntext = "x"\ncache = { stale = 1, stale_if_error = 2 }'),
        ["6 backends.b", "8 backends.b.file", "10 backends.b.cache.stale_if_error"],
    ),
    "process": (
        '[[listeners]]\nendpoint = "tcp:0"\n[process]\nuser = "nosuch"\numask = "9"\nchrot = "/"\n',
        ["4 process.user", "5 process.umask", "6 process.chrot"],
    ),
    "case": (
        one_backend('type = "static"\nentries = { A = "x", a = "y" }') + '[answers]\ncase_sensitive = "yes"\n',
        ["10 answers.case_sensitive"],
    ),
}


@pytest.mark.parametrize(("text", "places"), SAMPLES.values(), ids=SAMPLES)
def test_check_reports_all(tmp_path: Path, text: str, places: list[str]) -> None:
    """``fingergw check`` reports what the file and the machine have wrong at once, within one table too."""
    path = write(tmp_path, text)
    ended = run(["check", "--config", str(path)])
    assert ended.returncode == 78
    found = [line.removeprefix(f"{path}:").split(": ") for line in ended.stderr.splitlines()[1:]]
    assert [f"{line} {key}" for line, key, *_ in found] == places


def test_a_user_and_a_group_by_number(tmp_path: Path) -> None:
    """A number needs no quotes, and is printed so that it is loaded as the same."""
    path = write(tmp_path, one_backend('type = "menu"') + "[process]\nuser = 0\ngroup = 4711\n")
    assert run(["check", "--config", str(path)]).returncode == 0
    config, problems = read(path)
    assert (problems, config.process.user, config.process.group) == ([], "0", "4711")
    printed = run(["config", "--config", str(path)]).stdout
    again, problems = read(write(tmp_path, printed, "again.toml"))
    assert (problems, again.process) == ([], config.process)
