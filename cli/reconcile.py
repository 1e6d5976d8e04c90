"""`tallygate reconcile`: does everything that was counted agree, from the log to the rollups?"""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType

from cli import operations, output
from cli.errors import NO
from cli.options import DataDir, Json, examples

EXAMPLES = examples(
    "tallygate reconcile",
    "tallygate reconcile --repair",
    "tallygate reconcile --json | jq '.pairs[] | select(.left > 0)'",
)


def reconcile(
    repair: Annotated[bool, typer.Option("--repair", help="Mend what differs")] = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Compare log, ledger, counters and rollups, while ingestion goes on.

    What differs is drift. With --repair rows of the ledger are made again from the log, by the writer's own rules;
    digests, counters and rollups from the ledger. Where the log no longer has a record that would be needed, nothing is
    changed. Exit code 0: all agree; 1: some drift is left. Needs a key of the platform.
    """
    operation = operations.run(data_dir, {"kind": "reconcile", "repair": repair})
    answer = {"pairs": _pairs(operation["parts"]), "errors": operations.errors(operation), "parts": operation["parts"]}
    output.show(answer, as_json, _table(answer, repair))
    if answer["errors"] or any(pair["left"] for pair in answer["pairs"]):
        raise typer.Exit(NO)


def _pairs(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """All partitions together."""
    pairs: dict[str, dict[str, Any]] = {}
    for part in parts:
        for one in part["result"].get("pairs", ()):
            pair = pairs.setdefault(one["pair"], {"pair": one["pair"], "drift": 0, "left": 0, "samples": []})
            pair["drift"] += one["drift"]
            pair["left"] += one["left"]
            pair["samples"] += [
                f"epoch {part['epoch']} partition {part['partition']}: {text}" for text in one["samples"]
            ]
    return list(pairs.values())


def _table(answer: dict[str, Any], repair: bool) -> RenderableType:
    columns = ["stores", "drift", *(["left"] if repair else []), ""]
    table = output.table(None, *columns, numbers=("drift", "left"))
    for pair in answer["pairs"]:
        state = "[green]✓[/]" if not pair["left"] else "[red]✗[/]"
        counts = [output.number(pair["drift"]), *([output.number(pair["left"])] if repair else [])]
        table.add_row(pair["pair"].replace("-", " ↔ "), *counts, state)
    lines = [output.plain(f"  {text}") for pair in answer["pairs"] for text in pair["samples"][:5]]
    lines += [f"[red]✗[/] {output.plain(text)}" for text in answer["errors"]]
    if not repair and any(pair["left"] for pair in answer["pairs"]):
        lines.append("[dim]→ `tallygate reconcile --repair` mends what differs[/]")
    return Group(table, *lines)
