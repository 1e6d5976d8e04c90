"""`tallygate trace`: what became of an event."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.console import Group, RenderableType

from cli import output
from cli.api import open_api
from cli.options import DataDir, Json, examples
from cli.system import find_system

EXAMPLES = examples(
    "tallygate trace hotel-adler call-17",
    "tallygate trace hotel-adler call-17 --source /voice --json",
)


def trace(
    tenant: Annotated[str, typer.Argument(help="Whose event it is", show_default=False)],
    id: Annotated[str, typer.Argument(help="The event's id", show_default=False)],
    source: Annotated[str | None, typer.Option(help="Its source", show_default=False)] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Show everything that is known of an event.

    Where it stands in the log, what it counted to, which void took it back, whether its hour's rollup has it; and why
    it is dead, if it is. Needs the scope read.
    """
    answer = asyncio.run(_trace(data_dir, tenant, id, source))
    output.show(answer, as_json, _text(answer))


async def _trace(data_dir: Path | None, tenant: str, id: str, source: str | None) -> Any:
    async with open_api(find_system(data_dir, os.environ)) as api:
        return await api.console("GET", f"/v1/events/{quote(id, safe='')}", tenant=tenant, source=source)


def _text(answer: dict[str, Any]) -> RenderableType:
    parts: list[RenderableType] = []
    for event in answer["events"]:
        colour = "green" if event["status"] == "counted" else "yellow"
        table = output.table(f"[{colour}]{event['status']}[/] {output.plain(event['source'])}", "", "")
        for name, value in _facts(event):
            table.add_row(f"[dim]{name}[/]", output.plain(value))
        parts += [table, ""]
    for letter in answer["dead"]:
        parts.append(f"[red]dead[/] {output.plain(letter['letter'])}: {output.plain(letter['detail'])}")
    if not answer["events"]:
        parts += [f"[yellow]awaited[/] by the void {output.plain(void['id'])}" for void in answer["voids"]]
    return Group(*parts)


def _facts(event: dict[str, Any]) -> list[tuple[str, str]]:
    at = event["position"]
    facts = [
        ("type", event["type"]),
        ("time", event["time"]),
        ("received", event["received"]),
        ("position", f"epoch {at['epoch']}, partition {at['partition']}, offset {at['offset']}, line {at['line']}"),
        ("catalog", f"version {event['catalog_version']}"),
        *(("counts to", f"{meter}: {output.number(value)}") for meter, value in sorted(event["quantities"].items())),
        *(("by", f"{name}: {value}") for name, value in sorted(event["dimensions"].items()) if value),
    ]
    if event["voided"]:
        by = event["voided"]["by"]
        facts.append(("voided", event["voided"]["when"] + (f" by {by['id']}" if by else "")))
    if event["voids"]:
        facts.append(("voids", f"{event['voids']['id']} of {event['voids']['source']}"))
    facts.append(("rollup", "in it" if event["window"]["included"] else "not yet"))
    return facts
