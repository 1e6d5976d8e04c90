"""`python -m tests.chaos.run [--events N] [--seed S]`: prove that totals stay exact while processes are killed.

Exit code 0: every total agrees. 1: one does not, or the run could not be finished; its data and logs are kept then. 2:
wrong use.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from cli import output
from cli.errors import INTERRUPTED, NO, CommandError
from tests.chaos.run.emitters import EmitterDied
from tests.chaos.run.report import report, result
from tests.chaos.run.run import TENANTS, Options, Outcome, Tell, run

_LEAST_EVENTS = 1000 * len(TENANTS)


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.run", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--events", type=int, default=2_000_000, help=f"in all, {_LEAST_EVENTS} or more")
    parser.add_argument(
        "--seed", type=int, help="the same seed sends the same and kills in the same order (default: any)"
    )
    parser.add_argument("--each", type=int, default=5, help="how often each kind of process is killed (default: 5)")
    parser.add_argument("--kafka", choices=("apache", "embedded"), default="apache", help="embedded is never killed")
    parser.add_argument("--plant-loss", action="store_true", help="lose one event: the run has to fail")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="work in DIR, and keep data and logs there")
    parser.add_argument("--json", action="store_true", help="the result as JSON")
    given = parser.parse_args()
    if given.events < _LEAST_EVENTS or given.each < 0:
        parser.error(f"at least {_LEAST_EVENTS} events are needed, and no fewer than 0 kills")
    seed = random.randrange(1_000_000) if given.seed is None else given.seed
    kafka = "apache" if given.kafka == "apache" else None
    folder = given.keep or Path(tempfile.mkdtemp(prefix="tallygate-chaos-"))
    code = _play(Options(folder, given.events, seed, given.each, kafka, given.plant_loss), given.json)
    if code == NO and not given.plant_loss:
        output.stderr().print(f"data and logs of this run are kept in {folder}")
    elif given.keep is None:
        shutil.rmtree(folder)
    return code


def _play(options: Options, as_json: bool) -> int:
    console = output.stderr()
    console.print(f"seed {options.seed}, {options.events:,} events")
    try:
        with _bar(options) as tell:
            outcome = asyncio.run(_until_told_to_stop(options, tell))
    except (CommandError, EmitterDied, AssertionError) as error:
        console.print(f"[bold red]✗[/] with seed {options.seed}: {output.plain(str(error))}")
        return NO
    except KeyboardInterrupt:
        return INTERRUPTED
    output.show(result(outcome), as_json, report(outcome))
    return 0 if outcome.verdict.agrees else NO


async def _until_told_to_stop(options: Options, tell: Tell) -> Outcome:
    """SIGTERM does what Ctrl-C does."""
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, signal.raise_signal, signal.SIGINT)
    return await run(options, tell)


@contextmanager
def _bar(options: Options) -> Iterator[Tell]:
    """On a terminal."""
    console = output.stderr()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[kills]} killed"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("sent", total=options.events, kills=0)

        def tell(answered: int, kills: int) -> None:
            progress.update(task, completed=answered, kills=kills)

        yield tell


if __name__ == "__main__":
    sys.exit(main())
