"""`tallygate tenant create|list|show|update`."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from cli import output
from cli.api import open_api
from cli.errors import WRONG_USE, CommandError
from cli.options import DataDir, Json, examples
from cli.system import find_system
from metering.clock import DAY_MS, SystemClock, iso

app = typer.Typer(no_args_is_help=True, help="Tenants: who pays and is isolated from all others.")
Name = Annotated[str, typer.Argument(help="Lower-case letters, digits and hyphens", show_default=False)]


@app.command(
    epilog=examples(
        "tallygate tenant create hotel-adler --plan professional",
        "tallygate tenant create hotel-adler --plan starter --time-zone Europe/Vienna --anchor 2026-11-15T00:00:00Z",
        "tallygate tenant create hotel-adler --plan professional --trial-days 14",
    )
)
def create(
    name: Name,
    plan: Annotated[str | None, typer.Option(help="A plan of the catalog", show_default=False)] = None,
    anchor: Annotated[
        str | None,
        typer.Option(
            metavar="T", help="When billing periods begin, RFC 3339 [dim](default: now)[/]", show_default=False
        ),
    ] = None,
    time_zone: Annotated[
        str | None, typer.Option(metavar="ZONE", help="Of billing periods [dim](default: UTC)[/]", show_default=False)
    ] = None,
    trial_days: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, max=3660, help="The plan is a trial of so many days", show_default=False),
    ] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Create a tenant, on a plan if you like.

    When a trial has ended the gate denies everything, until the tenant is put on a plan without one.
    """
    if trial_days is not None and plan is None:
        raise CommandError(WRONG_USE, "A trial is one of a plan.", "Name it: --plan PLAN")
    ends = None if trial_days is None else iso(SystemClock().now_ms() + trial_days * DAY_MS)
    body = {"name": name, "plan": plan, "anchor": anchor, "time_zone": time_zone, "trial_ends": ends}
    body = {field: value for field, value in body.items() if value is not None}
    made = asyncio.run(_console(data_dir, "POST", "/v1/tenants", body))
    on_plan = f" on plan [bold]{output.plain(plan)}[/]" if plan else ""
    output.show(
        made,
        as_json,
        f"[green]✓[/] tenant [bold]{output.plain(name)}[/]{on_plan}\n"
        f"  [dim]→ tallygate key create {output.plain(name)} --scope ingest,check,read[/]",
    )


@app.command("list", epilog=examples("tallygate tenant list", "tallygate tenant list --json | jq -r '.tenants[].name'"))
def list_tenants(data_dir: DataDir = None, as_json: Json = False) -> None:
    """List all tenants."""
    answer = asyncio.run(_console(data_dir, "GET", "/v1/tenants"))
    rows = output.table(None, "tenant", "plan", "status")
    for tenant in answer["tenants"]:
        rows.add_row(tenant["name"], tenant.get("plan") or "–", tenant.get("status", ""))
    text = rows if answer["tenants"] else "No tenants yet. [dim]→ tallygate tenant create NAME --plan PLAN[/]"
    output.show(answer, as_json, text)


@app.command(epilog=examples("tallygate tenant show hotel-adler"))
def show(name: Name, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Show one tenant."""
    tenant = asyncio.run(_console(data_dir, "GET", f"/v1/tenants/{quote(name, safe='')}"))
    rows = output.table(None, "of", output.plain(name))
    for field, value in {**tenant, **(tenant.get("subscription") or {})}.items():
        if not isinstance(value, dict):
            rows.add_row(field.replace("_", " "), output.plain("–" if value is None else str(value)))
    output.show(tenant, as_json, rows)


@app.command(
    epilog=examples(
        "tallygate tenant update hotel-adler --payload-days 90",
        "tallygate tenant update hotel-adler --payload-days default",
    )
)
def update(
    name: Name,
    payload_days: Annotated[
        str,
        typer.Option(
            metavar="N|default",
            help="Keep what was sent so many days; default: as TALLYGATE_STREAMS_RETENTION_DAYS says",
            show_default=False,
        ),
    ],
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Change how long a tenant's payloads are kept.

    A payload is an event as it was sent, with whatever personal data was in it, or that of a dead letter. It is cleared
    within a day after; usage, totals and the proof that nothing is missing stay. Needs a platform key.
    """
    if payload_days != "default" and not payload_days.isdecimal():
        raise CommandError(WRONG_USE, "--payload-days takes a number of days or the word default.", "")
    days = None if payload_days == "default" else int(payload_days)
    path = f"/v1/tenants/{quote(name, safe='')}/retention"
    answer = asyncio.run(_console(data_dir, "PUT", path, {"payload_days": days}))
    kept = "as long as everybody's" if days is None else f"for {days} days"
    output.show(answer, as_json, f"[green]✓[/] payloads of [bold]{output.plain(name)}[/] are kept {kept}")


async def _console(data_dir: Path | None, method: str, path: str, body: Any = None) -> Any:
    async with open_api(find_system(data_dir, os.environ)) as api:
        return await api.console(method, path, body)
