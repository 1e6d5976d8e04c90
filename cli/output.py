"""What commands print: a JSON document, or text for people. Results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import os
import sys
from typing import Any, TextIO

from rich import box
from rich.console import Console, RenderableType
from rich.markup import escape
from rich.table import Table

from cli.errors import CommandError

_WIDE = 200


def stdout() -> Console:
    """Where results go. Made when used, so that a redirected stream is respected."""
    return _console(sys.stdout, False)


def stderr() -> Console:
    """Where progress, hints and errors go."""
    return _console(sys.stderr, True)


def _console(stream: TextIO, stderr: bool) -> Console:
    """What is no terminal has no width of its own: lines are not broken and tables get the room they need."""
    terminal = stream.isatty()
    width = None if terminal or "COLUMNS" in os.environ else _WIDE
    return Console(stderr=stderr, highlight=False, soft_wrap=not terminal, width=width)


def show(value: Any, as_json: bool, text: RenderableType) -> None:
    """Print `value` as JSON or `text` for people."""
    if as_json:
        print_json(value)
    else:
        stdout().print(text)


def print_json(value: Any) -> None:
    """One line for programs, indented on a terminal."""
    print(json.dumps(value, ensure_ascii=False, indent=2 if sys.stdout.isatty() else None), flush=True)


def show_error(error: CommandError, as_json: bool) -> None:
    """Say on stderr what went wrong and what to do next."""
    if as_json:
        body = {"error": error.message, "details": list(error.details), "next": error.next_step}
        print(json.dumps(body, ensure_ascii=False), file=sys.stderr, flush=True)
        return
    console = stderr()
    console.print(f"[bold red]✗[/] {plain(error.message)}")
    for detail in error.details:
        console.print(f"  • {plain(detail)}")
    if error.next_step:
        console.print(f"  [dim]→[/] {plain(error.next_step)}")


def table(title: str | None, *columns: str, numbers: tuple[str, ...] = ()) -> Table:
    """A table in the house style; the columns named in `numbers` are aligned right."""
    made = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        header_style="bold",
        border_style="dim",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1, 0, 0),
    )
    for column in columns:
        made.add_column(column, justify="right" if column in numbers else "left", no_wrap=column in numbers)
    return made


def number(text: str | int | None) -> str:
    """A decimal string with its thousands set apart: `1234567.5` → `1,234,567.5`."""
    if text is None:
        return "–"
    whole, dot, part = str(text).partition(".")
    sign, digits = ("-", whole[1:]) if whole.startswith("-") else ("", whole)
    return f"{sign}{int(digits):,}{dot}{part}" if digits.isdigit() else str(text)


def plain(text: str) -> str:
    """`text` without its brackets meaning anything."""
    return escape(text)
