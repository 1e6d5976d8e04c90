"""`tallygate key create|list|revoke`."""

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

app = typer.Typer(no_args_is_help=True, help="API keys: each belongs to one tenant and has scopes.")
Tenant = Annotated[str, typer.Argument(help="Whose key", show_default=False)]


@app.command(
    epilog=examples(
        "tallygate key create hotel-adler --scope ingest",
        "tallygate key create hotel-adler --scope ingest,backfill,read --expires 2027-01-01T00:00:00Z",
        "KEY=$(tallygate key create hotel-adler --scope ingest --json | jq -r .key)",
    )
)
def create(
    tenant: Tenant,
    scope: Annotated[
        str,
        typer.Option(metavar="A,B", help="Of: ingest, backfill, void, check, read, admin", show_default=False),
    ],
    expires: Annotated[
        str | None, typer.Option(metavar="T", help="RFC 3339 [dim](default: never)[/]", show_default=False)
    ] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Create a key. Its text is shown once: only a hash of it is kept."""
    body: dict[str, Any] = {"scopes": [name.strip() for name in scope.split(",") if name.strip()]}
    if expires is not None:
        body["expires"] = expires
    made = asyncio.run(_keys(data_dir, "POST", tenant, body=body))
    output.show(
        made,
        as_json,
        f"[green]✓[/] key [bold]{made['id']}[/] of {output.plain(tenant)}: {', '.join(body['scopes'])}\n\n"
        f"  [bold]{made['key']}[/]\n\n  [dim]Keep it now; it cannot be shown again.[/]",
    )


@app.command("list", epilog=examples("tallygate key list hotel-adler"))
def list_keys(tenant: Tenant, data_dir: DataDir = None, as_json: Json = False) -> None:
    """List a tenant's keys, without their secrets."""
    answer = asyncio.run(_keys(data_dir, "GET", tenant))
    rows = output.table(None, "id", "scopes", "created", "expires", "revoked")
    for key in answer["keys"]:
        times = (str(key.get(name) or "–") for name in ("created", "expires", "revoked"))
        rows.add_row(key["id"], ", ".join(sorted(key["scopes"])), *times)
    output.show(answer, as_json, rows)


@app.command(epilog=examples("tallygate key revoke hotel-adler abcdefghijkl"))
def revoke(
    tenant: Tenant,
    key_id: Annotated[str, typer.Argument(metavar="ID", help="As `key list` shows it", show_default=False)],
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Revoke a key. Within five seconds no service takes it any more."""
    asyncio.run(_keys(data_dir, "DELETE", tenant, "/" + quote(key_id, safe="")))
    output.show({"id": key_id, "revoked": True}, as_json, f"[green]✓[/] key {output.plain(key_id)} is revoked")


async def _keys(data_dir: Path | None, method: str, tenant: str, rest: str = "", body: Any = None) -> Any:
    async with open_api(find_system(data_dir, os.environ)) as api:
        return await api.console(method, f"/v1/tenants/{quote(tenant, safe='')}/keys{rest}", body)
