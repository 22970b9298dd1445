"""Run the benchmarks that are named, or all."""

import sys
from collections.abc import Callable

from tests.benchmarks import cache, speed

BENCHMARKS: dict[str, Callable[[], None]] = {"speed": speed.run, "cache": cache.run}

for name in sys.argv[1:] or BENCHMARKS:
    BENCHMARKS[name]()
