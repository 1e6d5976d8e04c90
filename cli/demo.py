"""`tallygate demo`: a whole system, a day of three hotels, and the proof that every total is right."""

from __future__ import annotations

import asyncio
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.live import Live

from cli import output
from cli.api import open_api
from cli.catalog import read_catalog
from cli.demo_run import DemoRun
from cli.demo_system import DemoSystem
from cli.demo_view import LiveView, report
from cli.errors import NO
from cli.options import Json, examples
from local.demo_workload import EVENTS_MIN, Day
from metering.clock import SystemClock

CATALOG = Path(__file__).parents[1] / "catalog.yaml"
EXAMPLES = examples(
    "tallygate demo",
    "tallygate demo --events 100000 --seed 7",
    "tallygate demo --plant-loss      # one event is lost on purpose: the totals differ, exit code 1",
)


def demo(
    events: Annotated[int, typer.Option(min=EVENTS_MIN, metavar="N", help="Messages in all, good and bad")] = 20_000,
    seed: Annotated[int, typer.Option(metavar="S", help="Another seed is another day")] = 1,
    plant_loss: Annotated[
        bool, typer.Option("--plant-loss", help="Lose one event on purpose, to see that it would be noticed")
    ] = False,
    kafka: Annotated[
        str | None, typer.Option(metavar="HOST:PORT|apache", help="As for `up`", show_default=False)
    ] = None,
    catalog: Annotated[Path, typer.Option(metavar="FILE", help="The guest-experience catalog")] = CATALOG,
    as_json: Json = False,
) -> None:
    """See it all work: a whole system counts a day of three hotels.

    Starts everything in a temporary directory. Three hotels on three plans send calls, guest requests, staff seats and
    API calls, with resends, late and unordered events and mistakes among them. One runs into a hard limit and is
    denied. In the end the generator's own account is compared with the ledger and the counters: exit code 0 only if
    all agree. Then everything is stopped and removed.
    """
    read_catalog(catalog)
    run = asyncio.run(_demo(events, seed, plant_loss, kafka, catalog, as_json))
    if not run["agrees"]:
        raise typer.Exit(NO)


async def _demo(
    events: int, seed: int, plant_loss: bool, kafka: str | None, catalog: Path, as_json: bool
) -> dict[str, Any]:
    console = output.stderr()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="tallygate-demo-") as folder:
        with console.status("starting broker, ClickHouse, Redis, gateway, writer, gate, console …"):
            system = await DemoSystem.start(Path(folder), kafka, catalog)
        console.print(f"[green]✓[/] a whole system runs [dim](started in {time.monotonic() - began:.1f} s)[/]")
        try:
            async with open_api(system.address) as api:
                run = DemoRun(api, Day(seed, events, SystemClock().now_ms(), plant_loss))
                await run.prepare()
                console.print(
                    f"[green]✓[/] three hotels on three plans; a day of {run.day.messages:,} messages goes out"
                )
                live = Live(LiveView(run), console=console, refresh_per_second=8) if console.is_terminal else None
                sending = time.monotonic()
                with live or nullcontext():
                    await system.unless_it_stops(run.emit())
                lasted = time.monotonic() - sending
                await system.unless_it_stops(run.judge())
                result = run.result(lasted)
                output.show(result, as_json, report(run))
                if not as_json:
                    output.stdout().print(_verdict(result, plant_loss))
        finally:
            with console.status("stopping …"):
                await system.stop()
    return result


def _verdict(result: dict[str, Any], plant_loss: bool) -> str:
    pace = f"{result['messages']:,} messages in {result['seconds']:.1f} s"
    if result["agrees"]:
        return f"\n[bold green]✓ every total agrees[/] – account, ledger, counters, gate. [dim]{pace}[/]"
    why = " One event was lost on purpose, and it shows." if plant_loss else ""
    return f"\n[bold red]✗ not all agree.[/]{why} [dim]{pace}[/]"
