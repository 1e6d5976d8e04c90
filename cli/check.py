"""`tallygate check`: may this tenant use (more of) a feature? Asks the gate."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from cli import output
from cli.api import open_api
from cli.errors import NO
from cli.options import DataDir, Json, examples
from cli.system import find_system

EXAMPLES = examples(
    "tallygate check pension-alpenblick voice",
    "tallygate check pension-alpenblick voice --amount 300",
    "tallygate check hafenhotels-nord voice-cloning --json && start-cloning",
)


def check(
    tenant: Annotated[str, typer.Argument(help="Who wants to use it", show_default=False)],
    feature: Annotated[str, typer.Argument(help="What the plan may grant", show_default=False)],
    amount: Annotated[str, typer.Option(metavar="N", help="How much more, in the meter's unit")] = "1",
    subject: Annotated[str | None, typer.Option(help="For whom inside the tenant", show_default=False)] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Ask the gate whether a tenant may use a feature.

    Nothing is consumed. Exit code 0: allowed; 1: denied, with the reason.
    """
    answer = asyncio.run(_check(data_dir, tenant, feature, amount, subject))
    output.show(answer, as_json, describe(answer))
    if not answer["allowed"]:
        raise typer.Exit(NO)


async def _check(data_dir: Path | None, tenant: str, feature: str, amount: str, subject: str | None) -> Any:
    question = {"tenant": tenant, "feature": feature, "amount": int(amount) if amount.isdigit() else amount}
    if subject is not None:
        question["subject"] = subject
    async with open_api(find_system(data_dir, os.environ)) as api:
        return await api.gate("POST", "/v1/check", question)


def describe(answer: dict[str, Any]) -> str:
    """The gate's answer in a line or two."""
    verdict = "[bold green]✓ allowed[/]" if answer["allowed"] else "[bold red]✗ denied[/]"
    line = f"{verdict} {output.plain(answer['feature'])}: {output.plain(str(answer['reason']))}"
    if answer.get("limit") is not None:
        line += f"\n  used {output.number(answer.get('used'))} of {output.number(answer['limit'])}"
        line += f", {output.number(answer.get('remaining'))} left"
        if answer.get("resets_at"):
            line += f", resets {answer['resets_at']}"
    elif answer.get("used") is not None:
        line += f"\n  used {output.number(answer['used'])}, unlimited"
    return f"{line}\n  [dim]{answer.get('source', '?')}, as of {answer.get('as_of', '?')}[/]"
