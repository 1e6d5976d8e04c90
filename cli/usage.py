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
    "tallygate usage hafenhotels-nord --source counters",
)


class Source(StrEnum):
    """Where totals come from."""

    LEDGER = "ledger"
    COUNTERS = "counters"


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
    source: Annotated[Source, typer.Option(help="Counters answer for open periods and lifetime")] = Source.LEDGER,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Show what a tenant used.

    Totals are exact decimals. The ledger answers for any time; the counters are what the gate decides by.
    """
    query = {"meter": meter, "from": start, "to": end, "group_by": group_by, "source": source.value}
    answer = asyncio.run(_usage(data_dir, tenant, query))
    output.show(answer, as_json, _tables(answer, source))


async def _usage(data_dir: Path | None, tenant: str, query: dict[str, Any]) -> Any:
    async with open_api(find_system(data_dir, os.environ)) as api:
        return await api.console("GET", "/v1/usage", tenant=tenant, **query)


_BECAME = {"events": "events counted", "duplicates": "duplicates", "voided": "voided", "dead": "dead letters"}


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
