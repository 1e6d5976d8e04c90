"""`tallygate usage`: what a tenant used, from the ledger (exact, any time) or the counters (now)."""

from __future__ import annotations

import asyncio
import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType

from cli import output
from cli.api import open_api
from cli.options import DataDir, Json, examples
from cli.system import find_system

EXAMPLES = examples(
    "tallygate usage hafenhotels-nord",
    "tallygate usage hafenhotels-nord --meter voice_seconds --group-by language",
    "tallygate usage hafenhotels-nord --from 2026-11-01T00:00:00Z --to 2026-12-01T00:00:00Z",
    "tallygate usage hafenhotels-nord --window day --tz Europe/Berlin --from 2026-10-24T00:00:00+02:00",
    "tallygate usage hafenhotels-nord --window hour --from 2026-11-01T00:00:00Z --filter language=de --subject room-7",
    "tallygate usage hafenhotels-nord --source counters",
)


_PAGE = 1000
_BECAME = {"events": "events counted", "duplicates": "duplicates", "voided": "voided", "dead": "dead letters"}


class Source(StrEnum):
    """Where totals come from."""

    LEDGER = "ledger"
    COUNTERS = "counters"


class Window(StrEnum):
    """What a row is to cover."""

    HOUR = "hour"
    DAY = "day"
    MONTH = "month"


def usage(
    tenant: Annotated[str, typer.Argument(help="Whose usage", show_default=False)],
    meter: Annotated[
        list[str] | None, typer.Option("--meter", metavar="M", help="Only this meter; may be repeated")
    ] = None,
    start: Annotated[str | None, typer.Option("--from", metavar="T", help="RFC 3339, included")] = None,
    end: Annotated[str | None, typer.Option("--to", metavar="T", help="RFC 3339, not included")] = None,
    group_by: Annotated[
        str | None, typer.Option("--group-by", metavar="D", help="Split by a dimension of the meter")
    ] = None,
    subject: Annotated[
        list[str] | None, typer.Option("--subject", metavar="S", help="Only of this subject; may be repeated")
    ] = None,
    filters: Annotated[
        list[str] | None,
        typer.Option("--filter", metavar="D=VALUE", help="Only with this value of a dimension; may be repeated"),
    ] = None,
    window: Annotated[
        Window | None, typer.Option(help="A row for each hour, day or month from --from on", show_default=False)
    ] = None,
    zone: Annotated[
        str | None, typer.Option("--tz", metavar="ZONE", help="Whose hours, days and months: Europe/Berlin, +05:30")
    ] = None,
    source: Annotated[Source, typer.Option(help="Counters answer for open periods and lifetime")] = Source.LEDGER,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Show what a tenant used.

    Totals are exact decimals. The ledger answers for any time; the counters are what the gate decides by. A window is
    sealed when its last hour and an hour of grace have passed by the clock of the tenant's log; late events may still
    change it.
    """
    query = {"meter": meter, "from": start, "to": end, "group_by": group_by, "source": source.value, "subject": subject}
    query |= {"window": window and window.value, "tz": zone, **_filters(filters or [])}
    if window is None:
        answer = asyncio.run(_usage(data_dir, tenant, query))
        output.show(answer, as_json, _tables(answer, source))
    else:
        answer = asyncio.run(_windows(data_dir, tenant, query))
        output.show(answer, as_json, _rows(answer))


def _filters(texts: list[str]) -> dict[str, list[str]]:
    """`D=VALUE`, … as the API takes them."""
    found: dict[str, list[str]] = {}
    for text in texts:
        dimension, equals, value = text.partition("=")
        if not equals:
            raise typer.BadParameter(f"{text!r} has no =; write --filter language=de", param_hint="--filter")
        found.setdefault(f"filter[{dimension}]", []).append(value)
    return found


async def _usage(data_dir: Path | None, tenant: str, query: dict[str, Any]) -> Any:
    async with open_api(find_system(data_dir, os.environ)) as api:
        return await api.console("GET", "/v1/usage", tenant=tenant, **query)


async def _windows(data_dir: Path | None, tenant: str, query: dict[str, Any]) -> Any:
    """All pages as one."""
    async with open_api(find_system(data_dir, os.environ)) as api:
        pages = [await api.console("GET", "/v1/usage", tenant=tenant, limit=_PAGE, **query)]
        while cursor := pages[-1]["next"]:
            pages.append(await api.console("GET", "/v1/usage", tenant=tenant, limit=_PAGE, cursor=cursor, **query))
    rows = [row for page in pages for row in page["rows"]]
    return {name: pages[0][name] for name in ("tenant", "window", "tz")} | {"rows": rows}


def _rows(answer: dict[str, Any]) -> RenderableType:
    title = f"{output.plain(answer['tenant'])} [dim]by {answer['window']} in {output.plain(answer['tz'])}[/]"
    grouped = any("group" in row for row in answer["rows"])
    columns = ["meter", "from", *(["group"] if grouped else []), "total", ""]
    table = output.table(title, *columns, numbers=("total",))
    for row in answer["rows"]:
        group = [output.plain(row.get("group", "")) or "[dim](none)[/]"] if grouped else []
        state = "" if row["sealed"] else "[dim]open[/]"
        table.add_row(row["meter"], row["from"], *group, output.number(row["total"]), state)
    clock = next((row["clock"] for row in answer["rows"] if row["clock"]), None)
    return Group(table, f"[dim]as of {clock}[/]") if clock else table


def _tables(answer: dict[str, Any], source: Source) -> RenderableType:
    title = f"{output.plain(answer['tenant'])} [dim]from the {source}[/]"
    columns = ["meter", "total"]
    if source is Source.COUNTERS:
        columns += ["period", "since"]
    elif any(entry.get("groups") for entry in answer["meters"].values()):
        columns += ["group", "of it"]
    totals = output.table(title, *columns, numbers=("total", "of it"))
    for name, entry in sorted(answer["meters"].items()):
        about = "[dim]about[/] " if entry.get("approximate") else ""
        row = [name, about + output.number(entry["total"]), entry.get("period", ""), entry.get("from", "")]
        totals.add_row(*(row if source is Source.COUNTERS else row[:2]))
        for value, part in sorted((entry.get("groups") or {}).items()):
            totals.add_row("", "", output.plain(value) or "[dim](none)[/]", output.number(part))
    counts = [
        f"{output.number(answer[kind])} {label}" for kind, label in _BECAME.items() if answer.get(kind) is not None
    ]
    return Group(totals, f"[dim]{', '.join(counts)}[/]") if counts else totals
