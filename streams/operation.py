"""What each kind of operation does to one partition."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from metering.errors import Halt, Unavailable
from streams.fill import fill
from streams.reconcile import Finding, Stores, Stretch, ledger_findings, rollup_findings, state_findings
from streams.repair import Newest, apply, compute_anew, replayed
from streams.shadow import Difference, Shadow
from streams.writer import PartitionWriter
from tenancy.operations import Task

_LOOK_SECONDS = 0.2
_SAMPLES = 5


class Progress:
    """How far a part is, for people: `done` of `total` of whatever it is doing."""

    def __init__(self) -> None:
        self.doing, self.done, self.total = "starting", 0, 0

    def begin(self, doing: str, total: int = 0) -> None:
        """Another step."""
        self.doing, self.done, self.total = doing, 0, total

    def __iter__(self) -> Iterator[Any]:
        return iter((self.doing, self.done, self.total))


async def carry_out(
    task: Task, stores: Stores, shadow: Shadow, newest: Newest, writer: PartitionWriter | None, progress: Progress
) -> dict[str, Any]:
    """Answers the part's result. Raises Halt when it can't be done, Unavailable when it can't be done now."""
    if task.kind == "rebuild":
        meter = task.parameters.get("meter")
        if meter is not None:
            return await _fill(meter, task.parameters["since"], stores, newest, progress)
        return await _rebuild(task.parameters.get("tenant"), stores, writer, progress)
    if task.kind == "replay":
        span = (task.parameters["from"], task.parameters["to"])
        return await _replay(span, task.parameters["apply"], stores, shadow, newest, progress)
    return await _reconcile(task.parameters["repair"], stores, shadow, newest, progress)


async def _rebuild(
    tenant: str | None, stores: Stores, writer: PartitionWriter | None, progress: Progress
) -> dict[str, Any]:
    """Counters of a tenant, or all state of the partition, from the ledger."""
    if tenant is not None:
        if writer is None:
            raise Unavailable(f"partition {stores.partition} is not written here")
        progress.begin(f"counting {tenant} anew")
        asked = writer.count_tenant_anew(tenant)
        await asyncio.wait({asked})
        if asked.cancelled():
            raise Unavailable(f"partition {stores.partition} went to another worker")
        return {"offset": writer.applied_offset}
    assert stores.state is not None
    progress.begin("rebuilding the state")
    await stores.state.forget()
    while (applied := await stores.state.applied()) is None:  # noqa: ASYNC110 (Redis tells, not this process)
        await asyncio.sleep(_LOOK_SECONDS)
    return {"offset": applied.offset}


async def _fill(meter: str, since: int, stores: Stores, newest: Newest, progress: Progress) -> dict[str, Any]:
    """Count a meter for the past too, once every process knows that it is to."""
    while stores.control.now() < since:  # noqa: ASYNC110 (the clock tells)
        await asyncio.sleep(_LOOK_SECONDS)
    await stores.control.refresh()
    progress.begin(f"filling in {meter}")

    def told(rows: int) -> None:
        progress.done = progress.total = rows

    made = await fill(stores, meter, told)
    progress.begin("counters and rollups")
    await compute_anew(stores, sorted(made.windows), newest)
    await _rebuild(None, stores, None, progress)
    return {"filled": made.filled, "unwanted": made.unwanted, "without_payload": made.without_payload}


async def _replay(
    span: tuple[int, int], applies: bool, stores: Stores, shadow: Shadow, newest: Newest, progress: Progress
) -> dict[str, Any]:
    """The records that were counted in `span` (ms, the end is not in it)."""
    found = await stores.ledger.stretch(*span)
    if found is None:
        return {"records": 0, "differences": {}, "applied": False}
    stretch = Stretch(*found)
    differences = await _replayed(stores, shadow, stretch, progress)
    mended = False
    if applies:
        progress.begin("mending the ledger")
        mended = await apply(stores, shadow, differences, stretch, newest)
    await shadow.drop()
    return {
        "records": stretch.last - stretch.first + 1,
        "first": stretch.first,
        "last": stretch.last,
        "differences": {name: _view(one) for name, one in differences.items()},
        "applied": mended,
    }


async def _replayed(stores: Stores, shadow: Shadow, stretch: Stretch, progress: Progress) -> dict[str, Difference]:
    if stores.log is None:
        raise Halt(
            f"epoch {stores.epoch} partition {stores.partition}: the broker no longer has this log, and offset "
            f"{stretch.first} would have to be read again. Nothing was changed."
        )
    progress.begin("replaying", stretch.last - stretch.first + 1)

    async def told(offset: int) -> None:
        progress.done = offset - stretch.first + 1

    return await replayed(stores, shadow, stretch, told)


def _view(difference: Difference) -> dict[str, Any]:
    changed = difference.changed
    return {
        "missing": len(difference.missing) - changed,
        "surplus": len(difference.surplus) - changed,
        "changed": changed,
        "samples": [" ".join(map(str, key)) for key in [*difference.missing, *difference.surplus][:_SAMPLES]],
    }


async def _reconcile(
    repairs: bool, stores: Stores, shadow: Shadow, newest: Newest, progress: Progress
) -> dict[str, Any]:
    """Compare, and with `repairs` mend and compare again: `drift` is what was found, `left` what is still there."""
    found: list[Finding] = []
    left: list[Finding] = []
    progress.begin("log, frames and rows")
    findings, stretch = await ledger_findings(stores)
    found += findings
    if repairs and stretch is not None:
        try:
            await _mend(stores, shadow, stretch, newest, progress)
        except Halt as halt:  # what is made from the ledger is left alone too
            return _result(found, found, str(halt))
        findings, _ = await ledger_findings(stores)
    left += findings
    if stores.state is not None:
        progress.begin("digests and counters")
        findings = await state_findings(stores)
        found += findings
        if repairs and any(one.drift for one in findings):
            await _rebuild(None, stores, None, progress)
            findings = await state_findings(stores)
        left += findings
    progress.begin("rollups")
    finding, windows = await rollup_findings(stores)
    found.append(finding)
    if repairs and windows:
        await compute_anew(stores, windows, newest)
        finding, _ = await rollup_findings(stores)
    left.append(finding)
    return _result(found, left)


async def _mend(stores: Stores, shadow: Shadow, stretch: Stretch, newest: Newest, progress: Progress) -> None:
    differences = await _replayed(stores, shadow, stretch, progress)
    progress.begin("mending the ledger")
    await apply(stores, shadow, differences, stretch, newest)
    await shadow.drop()


def _result(found: list[Finding], left: list[Finding], error: str = "") -> dict[str, Any]:
    remains = {one.pair: one.drift for one in left}
    pairs = [
        {"pair": one.pair, "drift": one.drift, "left": remains[one.pair], "samples": list(one.samples)} for one in found
    ]
    return {"pairs": pairs, **({"error": error} if error else {})}
