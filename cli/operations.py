"""Operations as commands use them: ask for one, watch it with a progress bar, answer what came of each partition."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from cli import output
from cli.api import open_api
from cli.system import find_system

_LOOK_SECONDS = 0.3


def run(data_dir: Path | None, form: dict[str, Any]) -> dict[str, Any]:
    """Ask for an operation and wait for its end. Interrupting the command does not interrupt the operation.

    Raises CommandError.
    """
    return asyncio.run(_run(data_dir, form))


async def _run(data_dir: Path | None, form: dict[str, Any]) -> dict[str, Any]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = output.stderr()
    async with open_api(find_system(data_dir, os.environ)) as api:
        operation: dict[str, Any] = await api.console("POST", "/v1/operations", form)
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
            bar = progress.add_task("waiting", total=None)
            while operation["status"] in ("waiting", "running"):
                await asyncio.sleep(_LOOK_SECONDS)
                operation = await api.console("GET", f"/v1/operations/{operation['id']}")
                description, done, total = _progress(operation["parts"])
                progress.update(bar, description=description, completed=done, total=total)
    return operation


def _progress(parts: list[dict[str, Any]]) -> tuple[str, int, int]:
    """Records where records are counted, else partitions."""
    counted = [part for part in parts if part["total"]]
    running = sorted({part["doing"] for part in parts if part["status"] == "running"})
    ended = sum(part["status"] in ("done", "failed") for part in parts)
    description = ", ".join(running) or "waiting for a worker"
    if counted:
        return description, sum(part["done"] for part in counted), sum(part["total"] for part in counted)
    return description, ended, len(parts)


def errors(operation: dict[str, Any]) -> list[str]:
    """What could not be done, by partition."""
    return [
        f"epoch {part['epoch']} partition {part['partition']}: {part['result']['error']}"
        for part in operation["parts"]
        if "error" in part["result"]
    ]
