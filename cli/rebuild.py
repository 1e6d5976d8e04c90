"""`tallygate rebuild`: make what can be thrown away again from the ledger."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import operations, output
from cli.errors import NO, CommandError
from cli.options import DataDir, Json, examples

EXAMPLES = examples(
    "tallygate rebuild counters",
    "tallygate rebuild counters --tenant pension-alpenblick",
    "tallygate rebuild counters --meter night_calls",
)
_ROWS = ("filled", "unwanted", "without_payload")

app = typer.Typer(no_args_is_help=True, help="Make what can be thrown away again from the ledger.", epilog=EXAMPLES)


@app.callback()
def _rebuild() -> None:
    """Make what can be thrown away again from the ledger."""


@app.command(epilog=EXAMPLES)
def counters(
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's", show_default=False)] = None,
    meter: Annotated[
        str | None, typer.Option(help="Let this meter, which came later, count the past too", show_default=False)
    ] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Count all open counters anew from the ledger, while ingestion goes on.

    With --meter events that were counted before the catalog had the meter are resolved once more from their payloads,
    by the definition in effect now; events it has no use for stay as they are. Without --tenant the digests of the
    dedupe window are made again too; gates go by what they last knew until each partition is done. Needs a key of the
    platform.
    """
    operation = operations.run(data_dir, {"kind": "rebuild", "tenant": tenant, "meter": meter})
    failures = operations.errors(operation)
    if failures:
        raise CommandError(NO, "Not everything could be rebuilt.", "`tallygate status` shows what is away.", failures)
    number = len(operation["parts"])
    results = [part["result"] for part in operation["parts"]]
    rows = {name: sum(result[name] for result in results) for name in _ROWS} if meter else {}
    text = f"[bold green]✓ rebuilt[/] {output.plain(tenant) if tenant else f'{number} partitions'}"
    if meter:
        text += f"\n{output.number(rows['filled'])} events count to {output.plain(meter)} now"
        if rows["without_payload"]:
            text += f"; {output.number(rows['without_payload'])} could not: retention has taken their payload"
    output.show({"operation": operation["id"], "partitions": number, **rows}, as_json, text)
