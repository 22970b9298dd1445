"""What reads the words of strangers holds its promises: for every seed, and for what hypothesis makes of these."""

from __future__ import annotations

import subprocess
import sys
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import CORPUS, TARGETS
from tests.support.processes import ROOT

EXAMPLES = 300
SEEDS = [(folder.name, seed.name) for folder in sorted(CORPUS.iterdir()) for seed in sorted(folder.iterdir())]


@cache
def seeds(target: str) -> list[bytes]:
    """Return a target's seeds."""
    return [seed.read_bytes() for seed in sorted((CORPUS / target).iterdir())]


def mutated(target: str) -> st.SearchStrategy[bytes]:
    """Return what makes seeds with pieces of others, or anything at all, in the place of some of theirs."""
    seed = st.sampled_from(seeds(target))
    cut = st.integers(0, 100)  # per cent of a length
    piece = st.binary(max_size=4) | st.builds(_slice, seed, cut, cut)
    return st.builds(_edited, seed, st.lists(st.tuples(cut, st.integers(0, 8), piece), min_size=1, max_size=4))


def _slice(seed: bytes, start: int, end: int) -> bytes:
    return seed[len(seed) * start // 100 : len(seed) * end // 100]


def _edited(seed: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    for place, dropped, piece in edits:
        start = len(seed) * place // 100
        seed = seed[:start] + piece + seed[start + dropped :]
    return seed


@pytest.mark.parametrize(("target", "seed"), SEEDS, ids=map("-".join, SEEDS))
def test_seed(target: str, seed: str) -> None:
    """Each seed goes through its target."""
    TARGETS[target]((CORPUS / target / seed).read_bytes())


@pytest.mark.parametrize("target", TARGETS)
def test_mutated_seeds(target: str) -> None:
    """So does each seed that has been changed a little, or spliced with others."""
    settings(max_examples=EXAMPLES)(given(mutated(target))(TARGETS[target]))()


@pytest.mark.parametrize("target", TARGETS)
def test_any_bytes(target: str) -> None:
    """So do any bytes at all."""
    settings(max_examples=EXAMPLES)(given(st.binary(max_size=200))(TARGETS[target]))()


def test_every_target_has_seeds() -> None:
    """A target without seeds, and seeds without a target, are forgotten ones."""
    assert {folder.name for folder in CORPUS.iterdir()} == set(TARGETS)
    assert all(len(seeds(target)) >= 12 for target in TARGETS)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], f"usage: python -m tests.fuzz TARGET [atheris options]; TARGET is one of: {', '.join(TARGETS)}\n"),
        (["nonsense"], "usage: "),
        (["grammar"], "fuzzing by coverage needs atheris: pip install atheris\n"),
    ],
)
def test_command_that_cannot_run(arguments: list[str], said: str) -> None:
    """Without a target, or without atheris, the command says what it needs, and exits with 2."""
    hidden = (
        "import sys; sys.modules['atheris'] = None; from tests.fuzz.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", hidden, *arguments]
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=False, timeout=60)
    assert (done.returncode, done.stdout[: len(said)]) == (2, said)
