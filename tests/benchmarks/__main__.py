"""Run one benchmark, with the number of queries or the names of parts that it takes; or all that are named."""

import sys
from collections.abc import Callable

from tests.benchmarks import cache, others, reload, soak, speed, stall

BENCHMARKS: dict[str, Callable[[], None]] = {"speed": speed.run, "cache": cache.run}

if sys.argv[1:2] in (["soak"], ["reload"]):
    {"soak": soak.run, "reload": reload.run}[sys.argv[1]](*map(int, sys.argv[2:3]))
elif sys.argv[1:2] in (["stall"], ["others"]):
    {"stall": stall.run, "others": others.run}[sys.argv[1]](*sys.argv[2:])
else:
    for name in sys.argv[1:] or BENCHMARKS:
        BENCHMARKS[name]()
