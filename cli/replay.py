"""`tallygate replay`: decide once more what was counted, and see what would differ."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType

from cli import operations, output
from cli.errors import NO
from cli.options import DataDir, Json, examples

EXAMPLES = examples(
    "tallygate replay --from 2026-11-23T10:00:00Z --to 2026-11-23T12:00:00Z",
    "tallygate replay --from 2026-11-23T10:00:00Z --to 2026-11-23T12:00:00Z --apply",
)


def replay(
    start: Annotated[str, typer.Option("--from", metavar="TIME", help="From when on it was accepted")],
    end: Annotated[str, typer.Option("--to", metavar="TIME", help="Until when, not included")],
    apply: Annotated[bool, typer.Option("--apply", help="Make the ledger what the replay says")] = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Read a stretch of the log again into shadow tables and compare them with the ledger, while ingestion goes on.

    The log decides, by the writer's own rules: a healthy ledger shows no difference. With --apply the ledger becomes
    what the replay says, and counters and rollups follow it. Exit code 0: nothing differs, or it was applied; 1: it
    differs, or the log no longer has these records. Needs a key of the platform.
    """
    operation = operations.run(data_dir, {"kind": "replay", "from": start, "to": end, "apply": apply})
    answer = {**_together(operation["parts"]), "errors": operations.errors(operation), "parts": operation["parts"]}
    output.show(answer, as_json, _table(answer))
    if answer["errors"] or (answer["differs"] and not apply):
        raise typer.Exit(NO)


def _together(parts: list[dict[str, Any]]) -> dict[str, Any]:
    tables: dict[str, dict[str, Any]] = {}
    for part in parts:
        for name, one in part["result"].get("differences", {}).items():
            table = tables.setdefault(name, {"missing": 0, "surplus": 0, "changed": 0, "samples": []})
            for kind in ("missing", "surplus", "changed", "samples"):
                table[kind] += one[kind]
    differs = any(table[kind] for table in tables.values() for kind in ("missing", "surplus", "changed"))
    records = sum(part["result"].get("records", 0) for part in parts)
    applied = any(part["result"].get("applied") for part in parts)
    return {"records": records, "differs": differs, "applied": applied, "differences": tables}


def _table(answer: dict[str, Any]) -> RenderableType:
    title = f"{output.number(answer['records'])} records decided once more"
    table = output.table(title, "table", "missing", "surplus", "changed", numbers=("missing", "surplus", "changed"))
    lines = []
    for name, one in answer["differences"].items():
        table.add_row(name, *(output.number(one[kind]) for kind in ("missing", "surplus", "changed")))
        lines += [output.plain(f"  {name}: {text}") for text in one["samples"][:5]]
    lines += [f"[red]✗[/] {output.plain(text)}" for text in answer["errors"]]
    if answer["applied"]:
        lines.append("[bold green]✓ applied[/]")
    elif answer["differs"]:
        lines.append("[dim]→ with --apply the ledger becomes what the replay says[/]")
    elif not answer["errors"]:
        lines.append("[green]✓[/] the ledger says the same")
    return Group(table, *lines)
