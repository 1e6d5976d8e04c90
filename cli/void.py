"""`tallygate void`: take an event back."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from cli import output
from cli.api import open_api
from cli.options import DataDir, Json, examples
from cli.system import find_system

EXAMPLES = examples(
    "tallygate void pension-alpenblick call-17",
    "tallygate void pension-alpenblick call-17 --source /voice --reason 'test call'",
    "tallygate void pension-alpenblick call-17 --time 2026-11-23T10:20:00Z",
)


def void(
    tenant: Annotated[str, typer.Argument(help="Whose event it is", show_default=False)],
    id: Annotated[str, typer.Argument(help="The event's id", show_default=False)],
    source: Annotated[
        str | None, typer.Option(help="Its source, where several have the id", show_default=False)
    ] = None,
    time: Annotated[str | None, typer.Option(help="An instant in its hour, where several have the name")] = None,
    reason: Annotated[str | None, typer.Option(help="Kept with the void", show_default=False)] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Take an event back, so that it no longer counts.

    Nothing is deleted: the void is an event beside it. Totals follow within seconds; repeating it changes nothing. With
    --source an event may be voided before it comes. Needs a key with the scopes void and ingest.
    """
    answer = asyncio.run(_void(data_dir, tenant, id, {"source": source, "time": time, "reason": reason}))
    output.show(answer, as_json, f"[bold green]✓ voided[/] {output.plain(id)} of {output.plain(answer['source'])}")


async def _void(data_dir: Path | None, tenant: str, id: str, form: dict[str, str | None]) -> Any:
    async with open_api(find_system(data_dir, os.environ)) as api:
        return await api.console("POST", f"/v1/events/{quote(id, safe='')}/void", form, tenant=tenant)
