"""`tallygate send`: a file of events through the gateway, batch by batch, several at a time, from where it left off."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from cli import output
from cli.api import Api, open_api, problem_error
from cli.errors import NO, UNREACHABLE, CommandError
from cli.events_file import Batch, EventsFile
from cli.options import DataDir, Json, examples
from cli.send_journal import ERRORS_KEPT, Journal
from cli.system import DEFAULT_DATA_DIR, find_system
from ingest.client.sender import NotAllowed, Receipt, Sender, Silence

BATCH_EVENTS = 1_000
BATCH_BYTES = 1 << 20
REQUESTS = 6
"""Under way at a time: enough to keep one gateway process busy without filling its admission."""
SAVE_SECONDS = 0.5
POLL_SECONDS = 0.1

EXAMPLES = examples(
    "tallygate send events.ndjson",
    "tallygate send access-log.ndjson.gz --wait 60",
    "TALLYGATE_KEY=tg_… tallygate send day.json --json | jq .rejected",
)


def send(
    file: Annotated[Path, typer.Argument(help="CloudEvents as NDJSON or JSON, plain or gzip", show_default=False)],
    wait: Annotated[
        float | None,
        typer.Option(
            "--wait", metavar="SECONDS", min=0, help="Return when what was accepted is in ledger and counters"
        ),
    ] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Send a file of usage events.

    The key says whose they are; with a platform key each event names its `tenant`. Good events are accepted, bad ones
    are listed and make the exit code 1. Sending a file twice is harmless: an event counts once. An interrupted send
    goes on where it was when you run the same command again.
    """
    result = asyncio.run(_send(EventsFile(file), wait, data_dir, os.environ))
    output.show(result, as_json, _summary(result))
    if result["rejected"] or result.get("applied") is False:
        raise typer.Exit(NO)


async def _send(
    file: EventsFile, wait: float | None, data_dir: Path | None, environment: Mapping[str, str]
) -> dict[str, Any]:
    system = find_system(data_dir, environment)
    async with open_api(system) as api:
        epoch = str((await api.console("GET", "/v1/applied"))["epoch"])
        journal = Journal(data_dir or DEFAULT_DATA_DIR, file.digest, system.key, epoch)
        sender = Sender(api.transport, await api.ingest_url(), api.headers())
        if journal.resumed_from:
            output.stderr().print(f"[dim]going on after {journal.resumed_from:,} events that were sent before[/]")
        with _bar(file) as show:
            try:
                await send_batches(file, sender, journal, show)
            except BaseException:
                journal.save()
                raise
        journal.finish()
        done = journal.progress
        result: dict[str, Any] = {
            "sent": done.sent,
            "accepted": done.accepted,
            "rejected": done.rejected,
            "errors": done.errors,
        }
        if done.rejected > len(done.errors):
            result["errors_left_out"] = done.rejected - ERRORS_KEPT
        if wait is not None:
            with output.stderr().status("waiting until all is counted …"):
                result["applied"] = await wait_applied(api, done.positions, wait)
        return result


async def send_batches(file: EventsFile, sender: Sender, journal: Journal, show: Any = None) -> None:
    """Send what the journal has not got yet, REQUESTS batches at a time. Raises CommandError of one that failed."""
    slots = asyncio.Semaphore(REQUESTS)
    saved = -SAVE_SECONDS  # the first receipt is kept at once

    async def one(batch: Batch) -> None:
        nonlocal saved
        try:
            receipt = await _answered(sender, batch.events)
        finally:
            slots.release()
        journal.add(batch.first, len(batch.events), receipt)
        if time.monotonic() - saved > SAVE_SECONDS:
            journal.save()
            saved = time.monotonic()
        if show is not None:
            show(batch.read, journal, sender)

    try:
        async with asyncio.TaskGroup() as tasks:
            for batch in file.batches(BATCH_EVENTS, BATCH_BYTES):
                unsent = batch.events[max(0, journal.resumed_from - batch.first) :]
                if unsent:
                    await slots.acquire()
                    first = batch.first + len(batch.events) - len(unsent)
                    tasks.create_task(one(Batch(first, unsent, batch.read)))
    except* CommandError as failed:
        raise failed.exceptions[0] from None


async def _answered(sender: Sender, events: list[bytes]) -> Receipt:
    try:
        return await sender.send(events)
    except NotAllowed as error:
        raise problem_error(error.reply, error.url) from None
    except Silence as error:
        raise CommandError(
            UNREACHABLE,
            str(error),
            "Nothing is lost: run the same command again when the gateway is back, it goes on from here.",
        ) from None


async def wait_applied(api: Api, positions: Mapping[int, int], seconds: float) -> bool:
    """Whether every position (partition → offset) was applied to ledger and counters within `seconds`."""
    deadline = time.monotonic() + seconds
    while positions:
        applied = (await api.console("GET", "/v1/applied"))["partitions"]
        if all(applied.get(str(partition), -1) >= offset for partition, offset in positions.items()):
            break
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(POLL_SECONDS)
    return True


@contextmanager
def _bar(file: EventsFile) -> Iterator[Any]:
    """A progress bar on a terminal; yields what is called after each batch."""
    console = output.stderr()
    if not console.is_terminal:
        yield None
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TextColumn("{task.fields[counts]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(file.path.name, total=file.size, counts="")

        def show(read: int, journal: Journal, sender: Sender) -> None:
            done = journal.progress
            counts = f"{done.accepted:,} accepted"
            counts += f" · [red]{done.rejected:,} rejected[/]" if done.rejected else ""
            counts += f" · [yellow]{sender.retries:,} retries[/]" if sender.retries else ""
            progress.update(task, completed=read, counts=counts)

        yield show


def _summary(result: Mapping[str, Any]) -> Any:
    rejected = result["rejected"]
    lines = [
        f"[green]✓[/] {output.number(result['accepted'])} of {output.number(result['sent'])} events accepted"
        + (f", [red]{output.number(rejected)} rejected[/]" if rejected else "")
    ]
    for error in result["errors"][:10]:
        lines.append(f"  event {error['index'] + 1}: [red]{error['code']}[/] {output.plain(error['detail'])}")
    if rejected > 10:
        lines.append(f"  [dim]… and {rejected - 10:,} more (--json lists them)[/]")
    if result.get("applied") is True:
        lines.append("[green]✓[/] counted: ledger and counters have them")
    elif result.get("applied") is False:
        lines.append("[yellow]![/] accepted and safe, but not counted yet; `tallygate status` shows the lag")
    return "\n".join(lines)
