"""Run the soak or the reloads, with as many queries as asked for; what stalls; or the others that are named, or all."""

import sys
from collections.abc import Callable

from tests.benchmarks import cache, reload, soak, speed, stall

BENCHMARKS: dict[str, Callable[[], None]] = {"speed": speed.run, "cache": cache.run}

if sys.argv[1:2] in (["soak"], ["reload"]):
    {"soak": soak.run, "reload": reload.run}[sys.argv[1]](*map(int, sys.argv[2:3]))
elif sys.argv[1:2] == ["stall"]:
    stall.run(*sys.argv[2:])
else:
    for name in sys.argv[1:] or BENCHMARKS:
        BENCHMARKS[name]()
