"""A log that can't be gone on with stops its partition with a reason, and a new epoch is the way out."""

from __future__ import annotations

from metering.position import version_of
from streams.epochs import ensure_epoch
from tenancy.epochs import Epochs
from tests.chaos.conftest import Stage
from tests.support import eventually


async def test_a_ledger_ahead_of_its_log_halts_the_partition_until_a_new_epoch_begins(stage: Stage) -> None:
    engines, workload = stage.engines, stage.workload
    worker = engines.worker("worker")
    worker.start()
    await workload.produce(frames=10)
    await stage.exact()
    # As if the broker had lost the last record of partition 0: the ledger has one more than the log.
    await stage.clickhouse.command(
        "INSERT INTO usage_frames (epoch, partition, offset, checksum, clock) "
        f"SELECT epoch, partition, max(offset) + 1, 4711, max(clock) FROM usage_frames "
        f"WHERE epoch = {engines.epoch.epoch} AND partition = 0 GROUP BY epoch, partition"
    )
    # And as if the writer had died when it had written rows that no frame vouches for yet.
    await stage.clickhouse.command(
        "INSERT INTO usage_events (tenant, time, source, id, type, clock, partition, version) "
        f"SELECT 'nobody', now64(3), '/lost', 'lost', 'lost', now64(3), 0, {version_of(engines.epoch.epoch, 500, 0)}"
    )
    await stage.redis.flushall()

    async def says_why() -> bool:
        return "halted" in (await worker.failures()).get("writer", "")

    await eventually(says_why, timeout=30, what="the partition halts and readiness says so")
    engines.epoch = await ensure_epoch(engines.kafka, Epochs(engines.database), new=True)
    await workload.produce(frames=10)
    await stage.exact(timeout=60)
    await eventually(worker.ready, timeout=20)
