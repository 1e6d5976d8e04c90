"""`tallygate grant create|list|end`."""

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

app = typer.Typer(no_args_is_help=True, help="Grants: allowances beside what the limit of a tenant's plan gives.")
Tenant = Annotated[str, typer.Argument(help="Whose grant", show_default=False)]


@app.command(
    epilog=examples(
        "tallygate grant create hotel-adler voice 3600",
        "tallygate grant create hotel-adler voice 36000 --until 2027-01-01T00:00:00Z --rollover none --id christmas",
        "tallygate grant create hotel-adler voice 600 --priority 10   # burns before those of 100",
    )
)
def create(
    tenant: Tenant,
    feature: Annotated[str, typer.Argument(help="A metered feature of the catalog", show_default=False)],
    amount: Annotated[str, typer.Argument(help="In the meter's unit", show_default=False)],
    priority: Annotated[int, typer.Option(metavar="N", help="The lowest burns first")] = 100,
    since: Annotated[
        str | None, typer.Option(metavar="T", help="RFC 3339 [dim](default: now)[/]", show_default=False)
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="T", help="When it expires [dim](default: never)[/]", show_default=False)
    ] = None,
    rollover: Annotated[
        str, typer.Option(metavar="all|none|N", help="How much of the rest goes on when a period ends")
    ] = "all",
    grant_id: Annotated[
        str | None,
        typer.Option("--id", metavar="ID", help="Yours: granting it twice grants it once", show_default=False),
    ] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Grant a tenant more than its plan's main limit. Every gate knows within two seconds.

    What a period's usage goes beyond the limit burns its grants, those of the lowest priority first, then those that
    expire first.
    """
    going_on = {"all": None, "none": "0"}.get(rollover, rollover)
    wanted = {"since": since, "until": until, "rollover": going_on, "id": grant_id}
    body = {"feature": feature, "amount": amount, "priority": priority}
    body |= {name: value for name, value in wanted.items() if value is not None}
    made = asyncio.run(_grants(data_dir, "POST", tenant, body=body))
    output.show(
        made,
        as_json,
        f"[green]✓[/] grant [bold]{output.plain(made['id'])}[/] of {output.plain(tenant)}: "
        f"{output.plain(made['amount'])} more of {output.plain(feature)}",
    )


@app.command("list", epilog=examples("tallygate grant list hotel-adler"))
def list_grants(tenant: Tenant, data_dir: DataDir = None, as_json: Json = False) -> None:
    """List a tenant's grants; burnt and left are what they were when the current period began."""
    answer = asyncio.run(_grants(data_dir, "GET", tenant))
    names = ("id", "feature", "amount", "burnt", "left", "priority", "rollover", "since", "until", "ended")
    rows = output.table(None, *names)
    for grant in answer["grants"]:
        told = {**grant, "rollover": "all" if grant["rollover"] is None else grant["rollover"]}
        rows.add_row(*(output.plain("–" if told[name] is None else str(told[name])) for name in names))
    output.show(answer, as_json, rows)


@app.command(epilog=examples("tallygate grant end hotel-adler christmas"))
def end(
    tenant: Tenant,
    grant_id: Annotated[str, typer.Argument(metavar="ID", help="As `grant list` shows it", show_default=False)],
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Let a grant end now. What it gave before stays given."""
    answer = asyncio.run(_grants(data_dir, "DELETE", tenant, "/" + quote(grant_id, safe="")))
    output.show(answer, as_json, f"[green]✓[/] grant {output.plain(grant_id)} has ended")


async def _grants(data_dir: Path | None, method: str, tenant: str, rest: str = "", body: Any = None) -> Any:
    async with open_api(find_system(data_dir, os.environ)) as api:
        return await api.console(method, f"/v1/tenants/{quote(tenant, safe='')}/grants{rest}", body)
