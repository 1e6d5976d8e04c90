"""`tallygate catalog apply|show`."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType

from cli import output
from cli.api import open_api
from cli.errors import WRONG_USE, CommandError
from cli.options import DataDir, Json, examples
from cli.system import find_system
from metering.catalog import parse_catalog
from metering.errors import InvalidCatalog

app = typer.Typer(no_args_is_help=True, help="The catalog: what is counted and what plans grant.")


@app.command(epilog=examples("tallygate catalog apply catalog.yaml"))
def apply(
    file: Annotated[Path, typer.Argument(help="YAML; the whole catalog", show_default=False)],
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Make a file the new catalog version.

    It is checked whole first, and every mistake is listed with its path. Versions never change; what was counted
    before stays as it was counted.
    """
    text = read_catalog(file)
    made = asyncio.run(_catalog(data_dir, "PUT", text))
    since = f", effective from {made['effective_from']}" if made.get("effective_from") else ""
    output.show(made, as_json, f"[green]✓[/] catalog version [bold]{made['version']}[/]{since}")


@app.command(epilog=examples("tallygate catalog show"))
def show(data_dir: DataDir = None, as_json: Json = False) -> None:
    """Show the newest catalog version: meters, and what each plan grants."""
    answer = asyncio.run(_catalog(data_dir, "GET"))
    output.show(answer, as_json, _tables(answer))


def read_catalog(file: Path) -> bytes:
    """The bytes of a valid catalog file. Raises CommandError with every mistake in it."""
    try:
        text = file.read_bytes()
    except OSError as error:
        raise CommandError(WRONG_USE, f"{file} cannot be read: {error.strerror}.") from None
    try:
        parse_catalog(text)
    except InvalidCatalog as error:
        raise CommandError(
            WRONG_USE,
            f"{file} is no valid catalog; nothing was applied.",
            "Correct the file and apply it again.",
            [str(problem) for problem in error.problems],
        ) from None
    return text


async def _catalog(data_dir: Path | None, method: str, text: bytes | None = None) -> Any:
    async with open_api(find_system(data_dir, os.environ)) as api:
        return await api.console(method, "/v1/catalog", text)


def _tables(answer: dict[str, Any]) -> RenderableType:
    catalog = answer["catalog"]
    meters = output.table(f"Catalog version {answer['version']}", "meter", "event", "aggregation", "value", "unit")
    for name, meter in catalog["meters"].items():
        meters.add_row(name, meter["event"], meter["aggregation"], meter.get("value") or "", meter.get("unit") or "")
    plans = catalog["plans"]
    grants = output.table("Plans", "feature", *plans)
    for feature in catalog["features"]:
        cells = (_grant(plan["entitlements"].get(feature)) for plan in plans.values())
        grants.add_row(feature, *cells)
    return Group(meters, "", grants)


def _grant(right: dict[str, Any] | None) -> str:
    if right is None:
        return "[dim]–[/]"
    if right.get("value") is not None:
        return str(right["value"])
    if right.get("period") is None:
        return "yes"
    if right.get("limit") is None:
        return "unlimited"
    per = "" if right["period"] == "lifetime" else f" a {right['period'].replace('billing', 'billing period')}"
    beyond = {"allow": ", then billed", "warn": ", then warned"}.get(right.get("on_exceed", "block"), "")
    return f"{output.number(right['limit'])}{per}{beyond}"
