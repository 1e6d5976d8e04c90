"""`tallygate dead`: what could not be counted, and what to do about it."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import msgspec
import typer
from rich.console import Group, RenderableType

from cli import output
from cli.api import open_api
from cli.errors import WRONG_USE, CommandError
from cli.options import DataDir, Json, examples
from cli.system import find_system

EXAMPLES = examples(
    "tallygate dead list",
    "tallygate dead list --tenant hotel-adler --reason conflict",
    "tallygate dead show 1.3.42.0.negative",
    "tallygate dead replay 1.3.42.0.negative --file corrected.json",
    "tallygate dead drop 1.3.42.0.negative",
)
_HELP = "Dead letters: what could not be counted, and what to do about it."

app = typer.Typer(no_args_is_help=True, help=_HELP, epilog=EXAMPLES)
_Id = Annotated[str, typer.Argument(help="The letter's id, as `dead list` shows it", show_default=False)]
_SHOWN = 60


@app.command("list")
def list_letters(
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's", show_default=False)] = None,
    reason: Annotated[str | None, typer.Option(help="Only for this reason", show_default=False)] = None,
    start: Annotated[str | None, typer.Option("--from", metavar="TIME", help="From when on it came")] = None,
    end: Annotated[str | None, typer.Option("--to", metavar="TIME", help="Until when, not included")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Replayed and dropped ones too")] = False,
    limit: Annotated[int, typer.Option(min=1, help="At most so many")] = 100,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """List dead letters, the newest first."""
    query = {"tenant": tenant, "reason": reason, "from": start, "to": end, "all": "true" if everything else None}
    letters = asyncio.run(_pages(data_dir, query, limit))
    output.show({"letters": letters}, as_json, _table(letters))


@app.command()
def show(id: _Id, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Show one dead letter whole: where it stands, why it was not counted, and what was sent."""
    letter = asyncio.run(_ask(data_dir, "GET", id))
    lines = [
        f"[bold]{output.plain(letter['id'])}[/] of {output.plain(letter['tenant'])}",
        f"[red]{letter['reason']}[/]: {output.plain(letter['detail'])}",
        f"[dim]received {letter['received']}, counted while the log's clock stood at {letter['clock']}[/]",
        *(
            [f"{letter['done']['action']} by {letter['done']['by']} at {letter['done']['at']}"]
            if letter["done"]
            else []
        ),
        output.plain(letter["payload"]),
    ]
    output.show(letter, as_json, "\n".join(lines))


@app.command()
def replay(
    id: _Id,
    file: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="A JSON event to send in its place")
    ] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Send a dead letter once more, or a corrected event in its place.

    It keeps its identity, so it counts once. What is refused again is said, and the letter stays. Needs a key with the
    scopes admin and ingest.
    """
    form: dict[str, Any] | None = None
    if file is not None:
        try:
            form = {"event": msgspec.json.decode(file.read_bytes(), type=dict[str, Any])}
        except msgspec.DecodeError as error:
            raise CommandError(WRONG_USE, f"{file} holds no JSON object: {error}", "Write one event.") from error
    answer = asyncio.run(_ask(data_dir, "POST", id, "/replay", form))
    output.show(
        answer, as_json, f"[bold green]✓ sent[/] {output.number(answer['accepted'])} events of {output.plain(id)}"
    )


@app.command()
def drop(id: _Id, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Say that a dead letter need not be counted. It stays, and `dead list --all` shows it. Needs the scope admin."""
    asyncio.run(_ask(data_dir, "DELETE", id))
    output.show({"id": id, "dropped": True}, as_json, f"[bold green]✓ dropped[/] {output.plain(id)}")


async def _pages(data_dir: Path | None, query: dict[str, Any], limit: int) -> list[dict[str, Any]]:
    letters: list[dict[str, Any]] = []
    cursor: str | None = None
    async with open_api(find_system(data_dir, os.environ)) as api:
        while len(letters) < limit:
            some = min(1000, limit - len(letters))
            page = await api.console("GET", "/v1/dead-letters", limit=some, cursor=cursor, **query)
            letters += page["letters"]
            cursor = page["next"]
            if cursor is None:
                break
    return letters


async def _ask(data_dir: Path | None, method: str, id: str, verb: str = "", form: Any = None) -> Any:
    async with open_api(find_system(data_dir, os.environ)) as api:
        return await api.console(method, f"/v1/dead-letters/{quote(id, safe='')}{verb}", form)


def _table(letters: list[dict[str, Any]]) -> RenderableType:
    if not letters:
        return "[green]✓[/] no dead letters"
    table = output.table(None, "letter", "tenant", "received", "why")
    for letter in letters:
        why = letter["detail"] if len(letter["detail"]) <= _SHOWN else letter["detail"][:_SHOWN] + "…"
        done = f" [dim]({letter['done']['action']})[/]" if letter["done"] else ""
        table.add_row(
            output.plain(letter["id"]), output.plain(letter["tenant"]), letter["received"], output.plain(why) + done
        )
    return Group(table, "[dim]→ `tallygate dead show LETTER` shows what was sent[/]")
