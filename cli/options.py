"""What every command takes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="DIR",
        help="Talk to the system that runs on this directory "
        "[dim](default: TALLYGATE_URL with TALLYGATE_KEY, else .data)[/]",
        show_default=False,
        rich_help_panel="Every command",
    ),
]
Json = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON document instead of text", rich_help_panel="Every command"),
]


def examples(*lines: str) -> str:
    """An epilog with one example a line."""
    return "\n".join(["[bold]Examples[/]", *(f"  [green]{escape(line)}[/]" for line in lines)])
