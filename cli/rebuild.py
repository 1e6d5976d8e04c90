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
)

app = typer.Typer(no_args_is_help=True, help="Make what can be thrown away again from the ledger.", epilog=EXAMPLES)


@app.callback()
def _rebuild() -> None:
    """Make what can be thrown away again from the ledger."""


@app.command(epilog=EXAMPLES)
def counters(
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's", show_default=False)] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Count all open counters anew from the ledger, while ingestion goes on.

    Without --tenant the digests of the dedupe window are made again too; gates go by what they last knew until each
    partition is done. Needs a key of the platform.
    """
    operation = operations.run(data_dir, {"kind": "rebuild", "tenant": tenant})
    failures = operations.errors(operation)
    if failures:
        raise CommandError(NO, "Not everything could be rebuilt.", "`tallygate status` shows what is away.", failures)
    number = len(operation["parts"])
    text = f"[bold green]✓ rebuilt[/] {output.plain(tenant) if tenant else f'{number} partitions'}"
    output.show({"operation": operation["id"], "partitions": number}, as_json, text)
