"""The demo on a terminal: the day going by, and the table at the end."""

from __future__ import annotations

from collections import Counter

from rich.console import Group, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from cli import check, output
from cli.demo_run import DemoRun
from cli.demo_verdict import EventsRow, MeterRow
from local.demo_workload import BLOCKED_TENANT, HOTELS

_LIVE = ("voice_seconds", "voice_calls", "voice_languages", "guest_requests", "staff_seats", "api_bytes")


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
        rows = output.table(None, "", *run.tallies, numbers=tuple(run.tallies))
        hotels = [(hotel, run.tallies[hotel.tenant], run.counters.get(hotel.tenant, {})) for hotel in HOTELS]
        rows.add_row("plan", *(hotel.plan for hotel, _, _ in hotels))
        rows.add_row("accepted", *(output.number(tally.accepted.total()) for _, tally, _ in hotels))
        rows.add_row("… of them resends", *(output.number(tally.resent.total()) for _, tally, _ in hotels))
        rows.add_row("refused", *(output.number(tally.rejected) for _, tally, _ in hotels), end_section=True)
        for name in _LIVE:
            cells = (output.number(counters.get(name, {}).get("total")) for _, _, counters in hotels)
            rows.add_row(name.replace("_", " "), *cells)
        rows.add_row("gate", *(_verdict(run, hotel.tenant) for hotel in HOTELS))
        return Group(self._progress, Text(), rows)


def _verdict(run: DemoRun, tenant: str) -> str:
    answer, denied = run.gate.get(tenant), run.tallies[tenant].calls_denied
    if answer is None:
        return "[dim]…[/]"
    if answer["allowed"]:
        return "[green]voice allowed[/]"
    return f"[bold red]{output.plain(str(answer['reason']))}[/] {denied:,} ×"


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


def _meters(rows: list[MeterRow]) -> Group:
    numbers = ("expected", "accepted", "duplicates", "ledger", "counter")
    tables: list[RenderableType] = []
    for hotel in HOTELS:
        table = output.table(f"{hotel.tenant} [dim]{hotel.plan}[/]", "meter", *numbers, "", numbers=numbers)
        for row in rows:
            if row.tenant == hotel.tenant:
                ledger, expected = output.number(row.ledger), output.number(row.expected)
                table.add_row(
                    row.meter,
                    expected,
                    f"{row.accepted:,}",
                    f"{row.duplicates:,}",
                    ledger if ledger == expected else f"[red]{ledger}[/]",
                    _counter(row),
                    _mark(row.agrees),
                )
        tables += [table, Text()]
    return Group(*tables)


def _counter(row: MeterRow) -> str:
    """A counter covers its open period only: say so where the day reaches further back."""
    text = output.number(row.counter)
    if not row.counter_agrees:
        return f"[red]{text} ≠ {output.number(row.counter_expected)}[/]"
    return text if row.counter_expected == row.expected else f"{text} [dim]({row.period})[/]"
