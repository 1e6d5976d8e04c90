"""What the run prints: its kills, a row for each meter of each tenant, and the last word."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table

from cli.output import number, table
from tests.chaos.run.run import Outcome


def report(outcome: Outcome) -> RenderableType:
    """For people."""
    return Group(_kills(outcome), "", _meters(outcome), "", _events(outcome), "", _last_word(outcome))


def result(outcome: Outcome) -> dict[str, Any]:
    """For programs."""
    return {
        "agrees": outcome.verdict.agrees,
        "seed": outcome.options.seed,
        "events": outcome.options.events,
        "in_log": outcome.in_log,
        "sent_seconds": round(outcome.sent_seconds, 1),
        "counted_seconds": round(outcome.counted_seconds, 1),
        "kills": [kill._asdict() for kill in outcome.kills],
        "meters": [{**row._asdict(), "agrees": row.agrees} for row in outcome.verdict.meters],
        "totals": [{**row._asdict(), "agrees": row.agrees} for row in outcome.verdict.events],
    }


def _kills(outcome: Outcome) -> Table:
    shown = table(f"{len(outcome.kills)} kills", "at s", "kind", "process", "pid", "ready after s", numbers=("at s",))
    for kill in outcome.kills:
        shown.add_row(f"{kill.at:.1f}", kill.kind, kill.process, str(kill.pid), f"{kill.took:.1f}")
    return shown


def _meters(outcome: Outcome) -> Table:
    numbers = ("account", "ledger", "counter's period", "counter", "windows", "rollups")
    shown = table("what was used", "tenant", "meter", *numbers, "", numbers=numbers)
    for row in outcome.verdict.meters:
        totals = map(number, (row.account, row.ledger, row.counter_account, row.counter))
        others = [f"{wrong} wrong" if wrong else "✓" for wrong in (row.windows, row.rollups)]
        shown.add_row(row.tenant, row.meter, *totals, *others, _mark(row.agrees))
    return shown


def _events(outcome: Outcome) -> Table:
    names = ("counted", "duplicates", "voided", "dead", "refused")
    shown = table("what became of the events (account / found)", "tenant", *names, "", numbers=names)
    for row in outcome.verdict.events:
        shown.add_row(row.tenant, *(f"{number(want)} / {number(got)}" for want, got in row[1:]), _mark(row.agrees))
    return shown


def _mark(agrees: bool) -> str:
    return "[green]✓[/]" if agrees else "[bold red]✗[/]"


def _last_word(outcome: Outcome) -> str:
    events, seconds = outcome.options.events, outcome.counted_seconds
    pace = f"{events:,} events, {outcome.in_log:,} in the log, counted in {seconds:.0f} s ({events / seconds:,.0f}/s)"
    facts = f"seed {outcome.options.seed} · {len(outcome.kills)} kills · {pace}"
    if outcome.verdict.agrees:
        return f"[bold green]✓ every total agrees[/] – account, log, ledger, windows, counters, rollups. {facts}"
    why = " One event was lost on purpose, and it shows." if outcome.options.plant_loss else ""
    return f"[bold red]✗ not all agree.[/]{why} {facts}"
