"""`tallygate up`: the whole system on this machine, until Ctrl-C."""

from __future__ import annotations

import asyncio
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from cli import output
from cli.catalog import read_catalog
from cli.options import Json, examples
from cli.system import DEFAULT_DATA_DIR

EXAMPLES = examples(
    "tallygate up",
    "tallygate up --catalog catalog.yaml --ports auto",
    "tallygate up --kafka apache --data-dir /srv/tallygate",
    "tallygate up --kafka broker.example:9092 --workers 2",
)


class Ports(StrEnum):
    """Where services listen."""

    FIXED = "fixed"
    AUTO = "auto"


def up(
    ports: Annotated[
        Ports, typer.Option(help="fixed: ingest 8080, gate 8081, console 8082; auto: free ones")
    ] = Ports.FIXED,
    kafka: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT|apache",
            help="A broker that is there, or Apache Kafka as `make kafka` gets it "
            "[dim](default: an embedded one, whose log lives in memory)[/]",
            show_default=False,
        ),
    ] = None,
    catalog: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Apply this catalog if it changed", show_default=False)
    ] = None,
    workers: Annotated[int, typer.Option(min=1, metavar="N", help="Gateway processes on one port")] = 1,
    partitions: Annotated[int, typer.Option(min=1, metavar="N", help="Of the log; a change begins a new epoch")] = 8,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the processes' logs here too")] = False,
    data_dir: Annotated[
        Path, typer.Option("--data-dir", metavar="DIR", help="Where all data is kept", rich_help_panel="Every command")
    ] = DEFAULT_DATA_DIR,
    as_json: Json = False,
) -> None:
    """Start everything here and keep it running until Ctrl-C.

    Broker, ClickHouse, Redis and SQL are embedded: nothing else has to be installed. The addresses and an admin key
    are left in the data directory, where the other commands find them.
    """
    from local.system import SystemOptions, run_system

    if catalog is not None:
        read_catalog(catalog)

    def ready(system: dict[str, Any]) -> None:
        if as_json:
            output.print_json(system)
        else:
            output.stdout().print(_ready_line(system))

    options = SystemOptions(
        data_dir, ports.value, kafka, catalog, workers={"ingest": workers}, partitions=partitions, verbose=verbose
    )
    raise typer.Exit(asyncio.run(run_system(options, ready)))


def _ready_line(system: dict[str, Any]) -> str:
    places = "  ".join(f"[bold]{name}[/] {system[name]}" for name in ("ingest", "gate", "console"))
    return f"[bold green]✓ ready[/]  {places}  [dim](Ctrl-C stops it)[/]"
