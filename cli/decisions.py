"""`tallygate decisions`: what the gates decided for a tenant."""

from __future__ import annotations

import asyncio
import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import RenderableType

from cli import output
from cli.api import open_api
from cli.options import DataDir, Json, examples
from cli.system import find_system

EXAMPLES = examples(
    "tallygate decisions pension-alpenblick",
    "tallygate decisions pension-alpenblick --feature voice --window hour --from 2026-11-23T00:00:00Z",
    "tallygate decisions pension-alpenblick --json | jq '[.rows[] | select(.allowed | not) | .checks] | add'",
)


class Window(StrEnum):
    """What a row is to cover."""

    HOUR = "hour"
    DAY = "day"


def decisions(
    tenant: Annotated[str, typer.Argument(help="Whose checks", show_default=False)],
    feature: Annotated[str | None, typer.Option(metavar="F", help="Only of this feature")] = None,
    start: Annotated[str | None, typer.Option("--from", metavar="T", help="RFC 3339, included")] = None,
    end: Annotated[str | None, typer.Option("--to", metavar="T", help="RFC 3339, not included")] = None,
    window: Annotated[Window, typer.Option(help="A row for each, in UTC")] = Window.DAY,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Count how often a tenant was allowed and denied what, and why.

    Where a feature is in shadow mode, what would have been denied was allowed, and is marked. Decisions are here some
    seconds after they were made. Needs a key with the scope read.
    """
    asked = {"feature": feature, "from": start, "to": end, "window": window.value}
    answer = asyncio.run(_decisions(data_dir, {"tenant": tenant, **{name: it for name, it in asked.items() if it}}))
    output.show(answer, as_json, _text(answer))


async def _decisions(data_dir: Path | None, asked: dict[str, str]) -> Any:
    async with open_api(find_system(data_dir, os.environ)) as api:
        return await api.console("GET", "/v1/decisions", **asked)


def _text(answer: Any) -> RenderableType:
    if not answer["rows"]:
        return "No checks. [dim]Ask the gate: tallygate check TENANT FEATURE[/]"
    rows = output.table(None, "from", "feature", "answer", "reason", "checks", numbers=("checks",))
    for one in answer["rows"]:
        said = "allowed" if one["allowed"] else "[red]denied[/]"
        said = "allowed, shadow" if one["shadowed"] else said
        rows.add_row(one["from"], output.plain(one["feature"]), said, one["reason"], output.number(str(one["checks"])))
    return rows
