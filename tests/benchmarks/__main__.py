"""Run the benchmarks that are named, each with the arguments that follow its name; or all that need none."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from importlib import import_module

NAMES = ("speed", "lost", "idle", "patterns", "start", "still", "stall", "cache")
"""Those that run without a name."""
OTHER_NAMES = ("soak", "reload", "others")


def chosen(words: Sequence[str]) -> Iterator[tuple[str, list[int | str]]]:
    """Yield the names of benchmarks and their arguments.

    :param words: of the command line.
    :raises SystemExit: the first is not the name of a benchmark.
    """
    if not words:
        yield from ((name, []) for name in NAMES)
        return
    known = (*NAMES, *OTHER_NAMES)
    if words[0] not in known:
        raise SystemExit(f"no benchmark {words[0]}; there are {', '.join(known)}")
    starts = [place for place, word in enumerate(words) if word in known]
    for start, end in zip(starts, [*starts[1:], len(words)], strict=True):
        yield words[start], [int(word) if word.isdecimal() else word for word in words[start + 1 : end]]


def main(words: Sequence[str]) -> None:
    """Run them in turn; one that fails, or cannot be imported, does not keep the others from running.

    :raises SystemExit: any of them has failed.
    """
    failed = []
    for name, arguments in chosen(words):
        print(f"\n== {name}", flush=True)
        try:
            import_module(f"tests.benchmarks.{name}").run(*arguments)
        except (Exception, SystemExit) as error:  # whatever it is, it is told, and the others run
            print(f"{type(error).__name__}: {error}", flush=True)
            failed.append(name)
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main(sys.argv[1:])
