"""The demo on a terminal: the day going by, and the table at the end."""

from __future__ import annotations

from collections import Counter

from rich import box
from rich.console import Group, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from cli import check, output
from cli.demo_run import DemoRun
from cli.demo_verdict import EventsRow, MeterRow
from local.demo_workload import BLOCKED_TENANT, HOTELS

_LIVE = ("voice_seconds", "voice_calls", "guest_requests", "staff_seats", "api_calls")


class LiveView:
    """Rendered again and again while the day goes by."""

    def __init__(self, run: DemoRun) -> None:
        self._run = run
        self._progress = Progress(
            TextColumn("[bold]a day at three hotels"),
            BarColumn(bar_width=None),
            TaskProgressColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            expand=True,
        )
        self._task = self._progress.add_task("", total=run.day.messages)

    def __rich__(self) -> RenderableType:
        run = self._run
        self._progress.update(self._task, completed=run.done)
        rows = Table(box=box.SIMPLE_HEAD, expand=True, header_style="bold")
        rows.add_column("tenant")
        for column in ("accepted", "resent", "refused", *(name.replace("_", " ") for name in _LIVE)):
            rows.add_column(column, justify="right")
        rows.add_column("gate: voice?")
        for hotel in HOTELS:
            tenant = hotel.tenant
            tally, counters = run.tallies[tenant], run.counters.get(tenant, {})
            cells = [output.number((counters.get(name) or {}).get("total")) for name in _LIVE]
            rows.add_row(
                f"{tenant} [dim]{hotel.plan}[/]",
                output.number(tally.accepted.total()),
                output.number(tally.resent.total()),
                output.number(tally.rejected),
                *cells,
                _verdict(run, tenant),
            )
        return Group(self._progress, rows)


def _verdict(run: DemoRun, tenant: str) -> str:
    answer, denied = run.gate.get(tenant), run.tallies[tenant].calls_denied
    if answer is None:
        return "[dim]…[/]"
    if answer["allowed"]:
        return "[green]allowed[/]"
    return f"[bold red]denied[/] {output.plain(str(answer['reason']))} [dim]({denied:,} calls)[/]"


def report(run: DemoRun) -> RenderableType:
    """The denial and the tables."""
    parts: list[RenderableType] = [Text()]
    tally = run.tallies[BLOCKED_TENANT]
    denied = (
        f"[bold]{BLOCKED_TENANT}[/] asks the gate before each call: {tally.calls_made:,} were made, "
        f"{tally.calls_denied:,} denied. One more of {output.number(run.one_more_call(BLOCKED_TENANT))} s?"
    )
    parts += [Text.from_markup(denied), Text.from_markup(check.describe(run.gate[BLOCKED_TENANT])), Text()]
    reasons = sum((tally.reasons for tally in run.tallies.values()), Counter())
    listed = ", ".join(f"{code} × {count}" for code, count in reasons.most_common())
    parts += [Text.from_markup(f"[dim]Bad events were refused: {output.plain(listed)}[/]"), Text()]
    parts += [_events(run.events_rows), Text(), _meters(run.meter_rows)]
    return Group(*parts)


def _mark(agrees: bool) -> str:
    return "[green]✓[/]" if agrees else "[bold red]✗[/]"


def _events(rows: list[EventsRow]) -> Table:
    columns = ("accepted", "refused", "in the ledger", "duplicates")
    table = output.table("Events [dim]expected → found[/]", "tenant", *columns, "", numbers=columns)
    for row in rows:
        cells = (
            f"{expected:,} → {found:,}" if expected == found else f"[red]{expected:,} → {found:,}[/]"
            for expected, found in row[1:]
        )
        table.add_row(row.tenant, *cells, _mark(row.agrees))
    return table


def _meters(rows: list[MeterRow]) -> Table:
    numbers = ("expected", "accepted", "duplicates", "ledger", "counter")
    table = output.table("Totals", "tenant", "meter", *numbers, "", numbers=numbers)
    tenant = ""
    for row in rows:
        if row.tenant != tenant:
            table.add_section()
        ledger = output.number(row.ledger)
        table.add_row(
            row.tenant if row.tenant != tenant else "",
            row.meter,
            output.number(row.expected),
            f"{row.accepted:,}",
            f"{row.duplicates:,}",
            ledger if row.ledger == row.expected else f"[red]{ledger}[/]",
            _counter(row),
            _mark(row.agrees),
        )
        tenant = row.tenant
    return table


def _counter(row: MeterRow) -> str:
    """A counter covers its open period only; where the day reaches further back, say what was expected of it."""
    text = output.number(row.counter)
    if row.counter != row.counter_expected:
        return f"[red]{text} ≠ {output.number(row.counter_expected)}[/]"
    return text if row.counter_expected == row.expected else f"{text} [dim]this period[/]"
