"""`make soak [MINUTES=60]`: a steady load of 1,000 tenants, and the memory of each process under it.

Samples every 10 s after a warm-up of a sixth of the time, for a third of which the worker is frozen: what it needs for
its largest batches, to catch up, is no growth. Exit code 1 when a process grew by more than is allowed
(bench/memory.py): 32 MiB and a tenth of its size; Redis also 60 bytes an event for the dedupe window.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import time

import uvloop
from rich.console import Console
from rich.table import Table

from bench import rows
from bench.memory import Growth, growth
from bench.plan import WINDOWS, plan
from bench.system import System, running

_SAMPLE_SECONDS = 10.0
_BATCH, _CONNECTIONS = 100, 8


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--tenants", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=5_000, help="events/s")
    options = parser.parse_args()
    if options.minutes < 1:
        parser.error("--minutes: at least 1")
    found = uvloop.run(_soak(options.minutes * 60, options.tenants, options.rate))
    return 0 if all(one.held for one in found) else 1


async def _soak(seconds: float, tenants: int, rate: float) -> list[Growth]:
    console = Console(stderr=True)
    async with running() as system:
        with console.status(f"{system.broker}; creating {tenants} tenants"):
            names = await rows.create_tenants(system, plan(seconds, tenants, 0))
        warm_up = seconds / 6
        with console.status(f"{rate:,.0f} events/s for {seconds / 60:g} min"):
            loading = asyncio.create_task(
                system.load(
                    tenants=names,
                    size=_BATCH,
                    connections=_CONNECTIONS,
                    warm_up=warm_up,
                    seconds=seconds - warm_up,
                    windows=WINDOWS,
                    rate=rate / _BATCH,
                )
            )
            await _warmed_up(system, warm_up)
            samples = await _sampled(system, loading)
            outcome = await loading
        found = [growth(name, values, outcome.accepted, system.on_disk) for name, values in samples.items()]
        _print(found, f"{outcome.accepted:,} events, {outcome.refused:,} requests refused, {system.broker}")
        return found


async def _warmed_up(system: System, seconds: float) -> None:
    """Freeze the worker for a third of the time, and let it catch up."""
    await asyncio.sleep(seconds / 3)
    system.send("streams-0", signal.SIGSTOP)
    await asyncio.sleep(seconds / 3)
    system.send("streams-0", signal.SIGCONT)
    await asyncio.sleep(seconds / 3)


async def _sampled(system: System, loading: asyncio.Task[object]) -> dict[str, list[tuple[float, float]]]:
    """Process → (time, MiB), while the load goes on."""
    began = time.monotonic()
    samples: dict[str, list[tuple[float, float]]] = {}
    while not loading.done():
        await asyncio.wait({loading}, timeout=_SAMPLE_SECONDS)
        for name, size in system.memory().items():
            samples.setdefault(name, []).append((time.monotonic() - began, size))
    return samples


def _print(found: list[Growth], title: str) -> None:
    table = Table(title=title)
    for column in ("process", "start MiB", "end MiB", "MiB/min", "may grow by", ""):
        table.add_column(column, justify="left" if column in ("process", "") else "right")
    for one in found:
        allowed = "" if one.allowed is None else f"{one.allowed:,.0f}"
        verdict = "[green]✓[/]" if one.held else "[red]✗ grows[/]"
        table.add_row(one.name, f"{one.start:,.1f}", f"{one.end:,.1f}", f"{one.slope:+,.2f}", allowed, verdict)
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
