"""Many schedules: `python -m tests.machine --schedules 100000 --seed 1 --processes 2`.

Prints a line of progress now and then, and each failing schedule, shortened. Exit code 0: all clean; 1: some failed.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

from tests.machine.play import failing, report

_AT_ONCE = 200
_SHOWN = 5


def main() -> int:
    """Run what the arguments ask for."""
    parser = argparse.ArgumentParser(prog="python -m tests.machine", description=__doc__)
    parser.add_argument("--schedules", type=int, default=10_000, help="how many (default 10000)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first; each next one has the next seed")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="side by side (default: one a core)")
    given = parser.parse_args()
    failed, done, began = 0, 0, time.monotonic()
    with ProcessPoolExecutor(given.processes) as pool:
        for seeds, bad in zip(*_results(pool, given.seed, given.schedules), strict=True):
            done += len(seeds)
            for seed in bad:
                failed += 1
                if failed <= _SHOWN:
                    print(report(seed), flush=True)
            rate = done / (time.monotonic() - began)
            if not done % (_AT_ONCE * 25) or done == given.schedules:
                print(
                    f"{done} of {given.schedules} schedules, {failed} failed, {rate:.0f}/s", file=sys.stderr, flush=True
                )
    return 1 if failed else 0


def _results(pool: ProcessPoolExecutor, first: int, count: int) -> tuple[list[range], Iterator[list[int]]]:
    seeds = [range(at, min(at + _AT_ONCE, first + count)) for at in range(first, first + count, _AT_ONCE)]
    return seeds, pool.map(failing, seeds)


if __name__ == "__main__":
    sys.exit(main())
