"""Reconciliation finds each seeded corruption and mends it; where the log is gone it says so and changes nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from metering import keys
from tenancy.database import Database
from tenancy.operations import Operation, Operations
from tests.chaos.conftest import Stage
from tests.support import eventually

ROLLUPS = {"TALLYGATE_STREAMS_ROLLUP_SECONDS": "0.2", "TALLYGATE_STREAMS_ROLLUP_SETTLE_SECONDS": "0.1"}
LATE_HOURS = "hour < now() - INTERVAL 4 HOUR"


class Proof:
    """A stage with a worker, a workload that is counted, and operations to ask for."""

    def __init__(self, stage: Stage, database: Database) -> None:
        self.stage = stage
        self.operations = Operations(database)
        self.epoch = stage.engines.epoch

    async def sql(self, statement: str) -> Any:
        return (await self.stage.clickhouse.query(statement)).result_rows

    async def change(self, statement: str) -> None:
        await self.stage.clickhouse.command(statement)

    async def ask(self, kind: Any, **parameters: Any) -> Operation:
        parts = [(self.epoch.epoch, partition) for partition in range(self.epoch.partitions)]
        id = await self.operations.ask(kind, parameters, "test", parts)

        async def ended() -> Operation | None:
            found = await self.operations.get(id)
            assert found is not None
            return found if all(part.status in ("done", "failed") for part in found.parts) else None

        operation: Operation = await eventually(ended, timeout=60, interval=0.1)
        return operation

    async def drift(self, repair: bool = False) -> dict[str, tuple[int, int]]:
        """Pair → what was found, what is left; only where something was."""
        operation = await self.ask("reconcile", repair=repair)
        found: dict[str, tuple[int, int]] = {}
        for part in operation.parts:
            assert part.status == "done", part
            for pair in part.result["pairs"]:
                before = found.get(pair["pair"], (0, 0))
                found[pair["pair"]] = (before[0] + pair["drift"], before[1] + pair["left"])
        return {pair: numbers for pair, numbers in found.items() if numbers != (0, 0)}

    async def a_counted_row(self, age: str = "") -> tuple[Any, ...]:
        rows = await self.sql(
            "SELECT tenant, id, version, partition, toInt64(offset) FROM usage_events FINAL "
            f"WHERE type = 'call' AND voided = 0 {age} ORDER BY tenant, id LIMIT 1"
        )
        row: tuple[Any, ...] = rows[0]
        return row

    async def totals(self) -> Any:
        return await self.sql(
            "SELECT tenant, toString(sum(quantities['seconds'])), count() FROM usage_events FINAL "
            "GROUP BY tenant ORDER BY tenant"
        )


@pytest.fixture
async def proof(stage: Stage) -> AsyncIterator[Proof]:
    worker = stage.engines.worker("worker", **ROLLUPS)
    worker.start()
    await stage.workload.produce(frames=30)
    await stage.exact()
    database = Database(stage.engines.sql)
    await database.open()
    made = Proof(stage, database)

    async def rolled_up() -> bool:
        return bool((await made.sql(f"SELECT count() FROM usage_windows WHERE {LATE_HOURS}"))[0][0])

    await eventually(rolled_up, timeout=30)
    await eventually(lambda: _settled(made), timeout=30)
    yield made
    worker.kill()
    await database.close()


async def _settled(proof: Proof) -> bool:
    return await proof.drift() == {}


async def missing_row(proof: Proof) -> None:
    tenant, id, version, *_ = await proof.a_counted_row()
    await proof.change(f"DELETE FROM usage_events WHERE tenant = '{tenant}' AND id = '{id}' AND version = {version}")


async def doubled_row(proof: Proof) -> None:
    tenant, id, version, *_ = await proof.a_counted_row()
    await proof.change(
        "INSERT INTO usage_events SELECT * REPLACE('/copied' AS source) FROM usage_events FINAL "
        f"WHERE tenant = '{tenant}' AND id = '{id}' AND version = {version}"
    )


async def missing_frame(proof: Proof) -> None:
    *_, partition, offset = await proof.a_counted_row()
    await proof.change(f"DELETE FROM usage_frames WHERE partition = {partition} AND offset = {offset}")


async def missing_letter(proof: Proof) -> None:
    await proof.change(
        "DELETE FROM dead_letters WHERE (partition, offset, line) IN "
        "(SELECT partition, offset, line FROM dead_letters LIMIT 1)"
    )


async def missing_void(proof: Proof) -> None:
    await proof.change(
        "DELETE FROM usage_voids WHERE (tenant, target) IN (SELECT tenant, target FROM usage_voids LIMIT 1)"
    )


async def counter_off_by_one(proof: Proof) -> None:
    tenant, _, _, partition, _ = await proof.a_counted_row()
    key = keys.counters(proof.epoch.epoch, partition, tenant)
    field = keys.counter_field("calls", "lifetime", 0)
    text = await proof.stage.redis.hget(key, field)
    assert text is not None
    await proof.stage.redis.hset(key, field, str(int(text) + 1))


async def missing_digest(proof: Proof) -> None:
    for partition in range(proof.epoch.partitions):
        names: Any = await proof.stage.redis.zrange(keys.expiries(proof.epoch.epoch, partition), 0, -1)
        for name in names:
            if name.startswith(b"d:"):
                key = keys.digests(proof.epoch.epoch, partition, int(name[2:]))
                assert await proof.stage.redis.spop(key) is not None
                return
    raise AssertionError("no digest anywhere")


async def stale_rollup(proof: Proof) -> None:
    await proof.change(
        "INSERT INTO usage_hourly SELECT * REPLACE(total + 1 AS total) FROM usage_hourly FINAL "
        f"WHERE meter = 'seconds' AND {LATE_HOURS} LIMIT 1"
    )


async def missing_window(proof: Proof) -> None:
    tenant, hour = (await proof.sql(f"SELECT tenant, toString(hour) FROM usage_windows WHERE {LATE_HOURS} LIMIT 1"))[0]
    await proof.change(f"DELETE FROM usage_windows WHERE tenant = '{tenant}' AND hour = '{hour}'")


Corruption = Callable[[Proof], Awaitable[None]]


@pytest.mark.parametrize(
    ("corrupt", "pair"),
    [
        (missing_row, "frames-rows"),
        (doubled_row, "frames-rows"),
        (missing_frame, "log-frames"),
        (missing_letter, "frames-rows"),
        (missing_void, "frames-rows"),
        (counter_off_by_one, "rows-counters"),
        (missing_digest, "rows-digests"),
        (stale_rollup, "rows-rollups"),
        (missing_window, "rows-rollups"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
async def test_a_seeded_corruption_is_found_and_mended(proof: Proof, corrupt: Corruption, pair: str) -> None:
    before = await proof.totals()
    await corrupt(proof)

    found = await proof.drift()
    assert found[pair][0] > 0, found
    mended = await proof.drift(repair=True)
    assert mended[pair][0] > 0 and all(left == 0 for _, left in mended.values()), mended
    assert await proof.drift() == {}
    assert await proof.totals() == before
    await proof.stage.exact()
    await proof.stage.workload.produce(frames=5)
    await proof.stage.exact()
    await eventually(lambda: _settled(proof), timeout=30)
