"""Run the soak, with as many queries as are asked for, or the benchmarks that are named, or all of these."""

import sys
from collections.abc import Callable

from tests.benchmarks import cache, soak, speed

BENCHMARKS: dict[str, Callable[[], None]] = {"speed": speed.run, "cache": cache.run}

if sys.argv[1:2] == ["soak"]:
    soak.run(*map(int, sys.argv[2:3]))
else:
    for name in sys.argv[1:] or BENCHMARKS:
        BENCHMARKS[name]()
