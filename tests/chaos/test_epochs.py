"""A new epoch with another partition count: closing frames, stale gateways, totals exact."""

from __future__ import annotations

from streams.epochs import ensure_epoch
from tenancy.epochs import Epochs
from tests.chaos.conftest import Stage, both_brokers
from tests.support import eventually


@both_brokers
async def test_a_new_epoch_with_more_partitions_keeps_totals_and_takes_over_what_stale_gateways_send(
    stage: Stage,
) -> None:
    engines, workload = stage.engines, stage.workload
    worker = engines.worker("worker")
    worker.start()
    await workload.produce(frames=10)
    await stage.exact()
    await workload.produce(frames=5)
    old = engines.epoch
    new = await ensure_epoch(engines.kafka, Epochs(engines.database), partitions=5)
    assert (new.epoch, new.partitions) == (old.epoch + 1, 5)
    await workload.produce(frames=5)  # a gateway that has not heard of it: behind the closing frames
    engines.epoch = new
    await workload.produce(frames=10)
    await stage.exact(timeout=60)
    await eventually(lambda: _closed(stage, old.epoch), timeout=10)
    engines.epoch = old
    await workload.produce(frames=3)  # long after the old epoch was closed
    engines.epoch = new
    await stage.exact(timeout=30)


@both_brokers
async def test_a_worker_that_starts_between_two_epochs_finishes_the_old_one_first(stage: Stage) -> None:
    engines, workload = stage.engines, stage.workload
    await workload.produce(frames=10)
    new = await ensure_epoch(engines.kafka, Epochs(engines.database), partitions=2)
    engines.epoch = new
    await workload.produce(frames=10)
    worker = engines.worker("worker")
    worker.start()
    await stage.exact(timeout=60)


@both_brokers
async def test_a_worker_that_was_away_for_two_new_epochs_finishes_both_before_it_goes_on(stage: Stage) -> None:
    engines, workload = stage.engines, stage.workload
    await workload.produce(frames=5)
    for partitions in (2, 3):
        engines.epoch = await ensure_epoch(engines.kafka, Epochs(engines.database), partitions=partitions)
        await workload.produce(frames=5)
    worker = engines.worker("worker")
    worker.start()
    await stage.exact(timeout=60)


async def _closed(stage: Stage, epoch: int) -> bool:
    return any(one.epoch == epoch and one.status == "closed" for one in await Epochs(stage.engines.database).all())
