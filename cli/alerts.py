"""`tallygate alerts`: the thresholds that a tenant's counters came to."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import RenderableType

from cli import output
from cli.api import open_api
from cli.options import DataDir, Json, examples
from cli.system import find_system

EXAMPLES = examples(
    "tallygate alerts pension-alpenblick",
    "tallygate alerts pension-alpenblick --json | jq -r '.alerts[] | select(.threshold == \"1\") | .feature'",
)


def alerts(
    tenant: Annotated[str, typer.Argument(help="Whose alerts", show_default=False)],
    limit: Annotated[int, typer.Option(min=1, max=1000, metavar="N", help="At most so many")] = 100,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """List where a tenant came to a share of a limit, the newest first.

    The shares are the plan's `alert_at` in the catalog. Each counts once in a period, also when usage falls below it
    again because an event was voided. Needs a key with the scope read.
    """
    answer = asyncio.run(_alerts(data_dir, tenant, limit))
    output.show(answer, as_json, _text(answer))


async def _alerts(data_dir: Path | None, tenant: str, limit: int) -> Any:
    async with open_api(find_system(data_dir, os.environ)) as api:
        return await api.console("GET", "/v1/alerts", tenant=tenant, limit=limit)


def _text(answer: Any) -> RenderableType:
    if not answer["alerts"]:
        return "No alerts. [dim]Plans name their thresholds in the catalog: alert_at: [0.8, 1.0][/]"
    rows = output.table(
        None, "at", "feature", "of the limit", "used", "limit", "period", "since", numbers=("used", "limit")
    )
    for one in answer["alerts"]:
        used, limit = output.number(one["used"]), output.number(one["limit"])
        share = f"≥ {one['threshold']} ×"
        rows.add_row(one["at"], output.plain(one["feature"]), share, used, limit, one["period"], one["from"])
    return rows
