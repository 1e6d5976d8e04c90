"""Reconciliation finds each seeded corruption and mends it; where the log is gone it says so and changes nothing."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.records_to_delete import RecordsToDelete
from sqlalchemy import insert

from metering import keys, topics
from metering.period import BillingTerm, terms_text
from metering.rollup import HourWindow
from streams.shadow import TABLES, Shadow
from tenancy.database import Database
from tenancy.operations import Operation, Operations, Task
from tenancy.tables import operation_parts, operations
from tests.chaos.conftest import Stage
from tests.engines import APACHE
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


async def other_terms(proof: Proof) -> None:
    """Gates would take the tenant's counters for those of other periods."""
    tenant, _, _, partition, _ = await proof.a_counted_row()
    key = keys.counted_terms(proof.epoch.epoch, partition)
    await proof.stage.redis.hset(key, tenant, terms_text((BillingTerm(0, 1, "UTC"),)))


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
    """Below the mark, where readers no longer look whether it is there."""
    await proof.change(
        "INSERT INTO usage_rollup_marks SELECT epoch, partition, max(offset) FROM usage_frames "
        "GROUP BY epoch, partition"
    )
    tenant, hour = (await proof.sql(f"SELECT tenant, toString(hour) FROM usage_windows WHERE {LATE_HOURS} LIMIT 1"))[0]
    await proof.change(f"DELETE FROM usage_windows WHERE tenant = '{tenant}' AND hour = '{hour}'")


CORRUPTIONS: list[tuple[str, Callable[[Proof], Awaitable[None]]]] = [
    ("frames-rows", missing_row),
    ("frames-rows", doubled_row),
    ("log-frames", missing_frame),
    ("frames-rows", missing_letter),
    ("frames-rows", missing_void),
    ("rows-counters", counter_off_by_one),
    ("rows-counters", other_terms),
    ("rows-digests", missing_digest),
    ("rows-rollups", stale_rollup),
    ("rows-rollups", missing_window),
]


async def test_each_seeded_corruption_is_found_and_mended(proof: Proof) -> None:
    before = await proof.totals()
    for pair, corrupt in CORRUPTIONS:
        await corrupt(proof)
        found = await proof.drift()
        assert pair in found, (corrupt, found)
        mended = await proof.drift(repair=True)
        assert corrupt is missing_frame or pair in mended, "only a missing frame may be found by the writer itself"
        assert all(left == 0 for _, left in mended.values()), (corrupt, mended)
        assert await proof.totals() == before, corrupt
    assert await proof.drift() == {}
    await proof.stage.exact()
    await proof.stage.workload.produce(frames=5)
    await proof.stage.exact()
    await eventually(lambda: _settled(proof), timeout=30)


async def test_a_redis_put_back_to_an_older_copy_is_made_new(proof: Proof) -> None:
    engines = proof.stage.engines
    engines.redis.kill()
    engines.backup(engines.redis, "redis")
    engines.redis.start()
    await proof.stage.workload.produce(frames=10)
    await proof.stage.exact()
    engines.redis.kill()
    engines.put_back("redis")
    engines.redis.start()

    mended = await proof.drift(repair=True)
    assert all(left == 0 for _, left in mended.values()), mended
    await proof.stage.exact()


@pytest.mark.skipif(APACHE is None, reason="only Apache Kafka deletes records")
@pytest.mark.parametrize("stage", ["apache"], indirect=True)
async def test_a_row_whose_record_is_gone_is_reported_and_nothing_is_changed(proof: Proof) -> None:
    tenant, id, version, partition, offset = await proof.a_counted_row()
    await proof.change(f"DELETE FROM usage_events WHERE tenant = '{tenant}' AND id = '{id}' AND version = {version}")
    admin = AIOKafkaAdminClient(bootstrap_servers=proof.stage.engines.kafka)
    await admin.start()
    await admin.delete_records(
        {TopicPartition(topics.events(proof.epoch.epoch), partition): RecordsToDelete(before_offset=offset + 1)}
    )
    await admin.close()
    await counter_off_by_one(proof)
    before = await proof.totals()

    operation = await proof.ask("reconcile", repair=True)
    (part,) = (part for part in operation.parts if part.partition == partition)
    assert f"the log begins at offset {offset + 1}" in part.result["error"]
    assert [pair["left"] for pair in part.result["pairs"] if pair["pair"] == "frames-rows"] == [1]
    assert await proof.totals() == before


async def test_counters_of_a_tenant_are_made_again_and_others_left_alone(proof: Proof) -> None:
    rows = await proof.sql("SELECT DISTINCT tenant, partition FROM usage_events WHERE type = 'call' ORDER BY tenant")
    for tenant, partition in rows:
        key = keys.counters(proof.epoch.epoch, partition, tenant)
        await proof.stage.redis.hset(key, keys.counter_field("calls", "lifetime", 0), "12345")
    (tenant, partition), *others = rows
    await proof.operations.ask("rebuild", {"tenant": tenant}, "test", [(proof.epoch.epoch, partition)])

    async def calls(tenant: str, partition: int) -> int:
        key = keys.counters(proof.epoch.epoch, partition, tenant)
        return int(await proof.stage.redis.hget(key, keys.counter_field("calls", "lifetime", 0)) or 0)

    async def made_again() -> bool:
        return bool(await calls(tenant, partition) == proof.stage.workload.expected(tenant)["calls"])

    await eventually(made_again, timeout=20)
    assert [await calls(*other) for other in others] == [12345] * len(others)
    await proof.ask("rebuild")
    await proof.stage.exact()


async def test_a_replay_of_a_healthy_ledger_differs_in_nothing(proof: Proof) -> None:
    operation = await proof.ask("replay", **{"from": 0, "to": 10**13, "apply": False})
    assert sum(part.result["records"] for part in operation.parts) == 30
    for part in operation.parts:
        for table in part.result["differences"].values():
            assert (table["missing"], table["surplus"], table["changed"]) == (0, 0, 0), part


async def test_a_replay_shows_every_change_and_takes_it_back_when_it_is_applied(proof: Proof) -> None:
    before = await proof.totals()
    await missing_row(proof)
    await doubled_row(proof)
    tenant, id, version, *_ = (
        await proof.sql(
            "SELECT tenant, id, version FROM usage_events FINAL "
            "WHERE type = 'call' AND voided = 0 ORDER BY id DESC LIMIT 1"
        )
    )[0]
    await proof.change(
        "INSERT INTO usage_events SELECT * REPLACE(mapFromArrays(['seconds'], [toDecimal128(7, 9)]) AS quantities) "
        f"FROM usage_events FINAL WHERE tenant = '{tenant}' AND id = '{id}' AND version = {version}"
    )
    assert await proof.totals() != before

    for applies in (False, True):
        operation = await proof.ask("replay", **{"from": 0, "to": 10**13, "apply": applies})
        events = [part.result["differences"]["usage_events"] for part in operation.parts]
        found = [sum(table[kind] for table in events) for kind in ("missing", "surplus", "changed")]
        assert found == [1, 1, 1], events
    assert await proof.totals() == before
    await proof.stage.exact()
    assert await proof.drift() == {}
    assert (await proof.sql("SELECT count() FROM system.databases WHERE name LIKE 'replay_%'"))[0] == (0,)


async def test_a_replay_stops_where_the_ledger_lacks_a_row_below_it(proof: Proof) -> None:
    """Repeats of that row would be counted."""
    *_, partition, offset = await proof.a_counted_row()
    await missing_row(proof)
    ((clock,),) = await proof.sql(
        "SELECT toUnixTimestamp64Milli(min(clock)) FROM usage_frames FINAL "
        f"WHERE partition = {partition} AND offset = {offset}"
    )
    before = await proof.totals()
    operation = await proof.ask("replay", **{"from": clock + 1, "to": 10**13, "apply": True})
    failed = [part for part in operation.parts if part.status == "failed"]
    assert [part.partition for part in failed] == [partition]
    assert "not whole below" in failed[0].result["error"]
    assert await proof.totals() == before
    await proof.drift(repair=True)
    await proof.stage.exact()


async def left_behind(proof: Proof, applies: bool, upto: str) -> tuple[Task, Shadow]:
    """The shadow of partition 0 as a killed worker leaves it that had replayed up to an offset (SQL)."""
    task = Task("abcdefabcdef", "replay", {"from": 0, "to": 10**13, "apply": applies}, proof.epoch.epoch, 0, "gone")
    shadow = Shadow(proof.stage.clickhouse, proof.stage.engines.environment["TALLYGATE_CLICKHOUSE"], task)
    await shadow.open()
    await shadow.close()
    for table in TABLES:
        await proof.change(
            f"INSERT INTO replay_{task.operation}_{task.epoch}_0.{table.name} SELECT * FROM {table.name} FINAL "
            f"WHERE partition = 0 AND offset <= ({upto})"
        )
    return task, shadow


async def taken_up(proof: Proof, task: Task) -> Operation:
    """What a worker makes of it."""
    database = Database(proof.stage.engines.sql)
    await database.open()
    async with database.writing() as connection:
        head = {"id": task.operation, "kind": "replay", "requester": "test", "asked": 1}
        parameters = json.dumps(task.parameters)
        await connection.execute(insert(operations).values(**head, parameters=parameters))
        part = {"operation": task.operation, "epoch": task.epoch, "partition": 0, "status": "running", "holder": "gone"}
        await connection.execute(insert(operation_parts).values(**part, held=1))
    await database.close()

    async def ended() -> Operation | None:
        found = await proof.operations.get(task.operation)
        return found if found and found.parts[0].status == "done" else None

    operation: Operation = await eventually(ended, timeout=30)
    differences = operation.parts[0].result["differences"]
    assert all(table[kind] == 0 for table in differences.values() for kind in ("missing", "surplus", "changed"))
    return operation


async def test_a_replay_goes_on_where_a_killed_worker_left_it(proof: Proof) -> None:
    task, _ = await left_behind(proof, False, "SELECT intDiv(max(offset), 2) FROM usage_frames WHERE partition = 0")
    operation = await taken_up(proof, task)
    assert not operation.parts[0].result["applied"]


async def test_who_takes_up_a_replay_that_had_mended_the_ledger_mends_counters_and_rollups(proof: Proof) -> None:
    """The worker was killed between the ledger and what is made from it: nothing differs any more."""
    task, shadow = await left_behind(proof, True, "SELECT max(offset) FROM usage_frames WHERE partition = 0")
    tenant, version, hour, seconds = (
        await proof.sql(
            "SELECT tenant, version, toUInt32(toUnixTimestamp(time) / 3600), toString(quantities['seconds']) "
            "FROM usage_events FINAL WHERE type = 'call' AND voided = 0 AND partition = 0 ORDER BY id LIMIT 1"
        )
    )[0]

    async def says(text: str) -> None:
        await proof.change(
            "INSERT INTO usage_events SELECT * REPLACE(mapUpdate(quantities, "
            f"map('seconds', toDecimal128('{text}', 9))) AS quantities) FROM usage_events FINAL "
            f"WHERE tenant = '{tenant}' AND version = {version}"
        )

    await says("7777")
    await proof.ask("rebuild")
    await says(seconds)
    assert "rows-counters" in await proof.drift()
    await shadow.remember({HourWindow(tenant, hour)})
    operation = await taken_up(proof, task)
    assert operation.parts[0].result["applied"]
    await proof.stage.exact()
    assert await proof.drift() == {}
