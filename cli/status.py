"""`tallygate status`: where everything is, whether it is ready, and how far it is behind."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import typer
from rich.console import Group, RenderableType

from cli import output, writers
from cli.api import Api, open_api
from cli.errors import NO, UNREACHABLE, CommandError
from cli.options import DataDir, Json, examples
from cli.system import DEFAULT_DATA_DIR, find_system, read_state
from ingest.client.transport import NoAnswerError, Transport

EXAMPLES = examples(
    "tallygate status",
    "tallygate status --json | jq .lag",
    "until tallygate status --json >/dev/null; do sleep 1; done",
)


def status(data_dir: DataDir = None, as_json: Json = False) -> None:
    """Show addresses, readiness of each process, and how far the writers are behind.

    Exit code 0: all are ready; 1: some are not; 3: nothing answers.
    """
    found = asyncio.run(_status(data_dir, os.environ))
    output.show(found, as_json, _tables(found))
    if not found["ready"]:
        raise typer.Exit(NO)


async def _status(data_dir: Path | None, environment: Mapping[str, str]) -> dict[str, Any]:
    system = find_system(data_dir, environment)
    async with open_api(system) as api:
        remote = data_dir is None and "TALLYGATE_URL" in environment
        state = await _remote_state(api) if remote else read_state(data_dir or DEFAULT_DATA_DIR)
        probes: dict[str, str] = state.pop("ops")
        answers = await asyncio.gather(*(_probe(api.transport, url) for url in probes.values()))
        if all(answer is None for answer in answers):
            raise CommandError(
                UNREACHABLE,
                f"Nothing answers of the system at {system.console}.",
                "It ended without saying so: start it again with `tallygate up`.",
            )
        readiness = {
            name: answer or {"ready": False, "failures": {"process": "does not answer"}}
            for name, answer in zip(probes, answers, strict=True)
        }
        workers = {
            name: await _metrics(api.transport, url) for name, url in probes.items() if name.startswith("streams")
        }
        told = writers.together(workers.values()).told()
        # A partition whose lag is unknown has no sample: a sum without it would claim too little.
        complete = bool(told["partitions"]) and len(told["partitions"]) == await _partitions(api)
        return {
            **state,
            "ready": all(answer["ready"] for answer in readiness.values()),
            "readiness": readiness,
            **{name: value for name, value in told.items() if name != "partitions"},
            "lag": told["lag"] if complete else None,
            "writers": {name: worker.told() for name, worker in workers.items()},
        }


async def _remote_state(api: Api) -> dict[str, Any]:
    """What can be seen from outside: the public addresses, which answer /readyz too."""
    addresses = {"ingest": await api.ingest_url(), "gate": await api.gate_url(), "console": api.system.console}
    return {**addresses, "ops": dict(addresses)}


async def _probe(transport: Transport, url: str) -> dict[str, Any] | None:
    """What /readyz says; None if nobody answers."""
    try:
        reply = await transport.request("GET", url + "/readyz", {}, None)
        answer: dict[str, Any] = msgspec.json.decode(reply.body, type=dict[str, Any])
    except NoAnswerError:
        return None
    except msgspec.MsgspecError:
        return {"ready": False, "failures": {"process": f"answered {reply.status}"}}
    return answer


async def _partitions(api: Api) -> int | None:
    """Of the current epoch; None while the console cannot tell."""
    try:
        count: int = (await api.console("GET", "/v1/applied"))["count"]
    except CommandError:
        return None
    return count


async def _metrics(transport: Transport, url: str) -> writers.WriterMetrics:
    """A worker's; all unknown when it does not answer."""
    try:
        reply = await transport.request("GET", url + "/metrics", {}, None)
    except NoAnswerError:
        return writers.read("")
    return writers.read(reply.body.decode())


def _tables(found: Mapping[str, Any]) -> RenderableType:
    places = output.table(None, "address", "")
    for name in ("ingest", "gate", "console", "clickhouse", "redis", "kafka"):
        if name in found:
            places.add_row(name, found[name])
    processes = output.table(None, "process", "pid", "lag", "p99", "ready", numbers=("pid", "lag", "p99"))
    pids: dict[str, int] = found.get("processes", {})
    for name in sorted({*pids, *found["readiness"]}):
        answer = found["readiness"].get(name)
        worker = found["writers"].get(name, {})
        lag, p99 = worker.get("lag"), worker.get("freshness_p99_seconds")
        row = (name, str(pids.get(name, "")), "" if lag is None else f"{lag:,}", "" if p99 is None else f"{p99:g} s")
        if answer is None:
            processes.add_row(*row, "[dim]runs[/]" if _runs(pids[name]) else "[red]✗ gone[/]")
        elif answer["ready"]:
            processes.add_row(*row, "[green]✓[/]")
        else:
            reasons = "; ".join(f"{check}: {reason}" for check, reason in answer.get("failures", {}).items())
            processes.add_row(*row, f"[red]✗[/] {output.plain(reasons)}")
    lag, age = found["lag"], found["freshness_seconds"]
    behind = "unknown" if lag is None else f"{lag:,} records not applied"
    if age is not None:
        behind += f", counters {age:.1f} s old"
    if (p50 := found["freshness_p50_seconds"]) is not None and (p99 := found["freshness_p99_seconds"]) is not None:
        behind += f" (50 % of records within {p50:g} s, 99 % within {p99:g} s)"
    verdict = "[green]✓ ready[/]" if found["ready"] else "[red]✗ not ready[/]"
    return Group(places, "", processes, "", f"{verdict}  lag: {behind}")


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
