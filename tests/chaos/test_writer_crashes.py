"""SIGKILL at every numbered effect, zombies, lost and older stores: totals stay exact."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from tests.chaos.conftest import BROKERS, Stage, both_brokers
from tests.engines import Worker
from tests.support import eventually

PAUSED = (str(Path(__file__).with_name("paused_writer.py")),)
AWAY_SECONDS = 20
EFFECTS = ("2", "3a", "3b", "3c", "3d", "4", "5")


def paused_at(stage: Stage, effect: str, marker: Path, **env: str) -> Worker:
    settings = {"PAUSE_AT": effect, "PAUSE_MARKER": str(marker), "PYTHONPATH": ".", **env}
    return stage.engines.worker(f"paused-at-{effect}", PAUSED, **settings)


@both_brokers
async def test_a_writer_killed_at_each_numbered_effect_leaves_totals_exact(stage: Stage, tmp_path: Path) -> None:
    for number, effect in enumerate(EFFECTS):
        await stage.workload.produce(frames=12)
        marker = tmp_path / f"at-{effect}"
        doomed = paused_at(stage, effect, marker, TALLYGATE_STREAMS_BATCH_RECORDS=str(3 + number))
        doomed.start()
        await eventually(marker.exists, timeout=40, what=f"effect {effect}: {doomed.output()[-2000:]}")
        doomed.kill()
        await stage.workload.produce(frames=3)
        successor = stage.engines.worker(f"after-{effect}", TALLYGATE_STREAMS_BATCH_RECORDS=str(1 + 4 * (number % 2)))
        successor.start()
        await stage.exact()
        successor.kill()


@both_brokers
async def test_a_frozen_writer_that_wakes_behind_another_changes_nothing(stage: Stage, tmp_path: Path) -> None:
    await stage.workload.produce(frames=12)
    marker = tmp_path / "frozen"
    frozen = paused_at(stage, "2", marker, PAUSE_FREEZE="1")
    frozen.start()
    await eventually(marker.exists, timeout=40)
    second = stage.engines.worker("second", TALLYGATE_STREAMS_BATCH_RECORDS="2")
    second.start()
    await stage.exact()
    await stage.workload.produce(frames=6)
    await stage.exact()
    frozen.send(signal.SIGCONT)
    await stage.workload.produce(frames=6)
    await stage.exact()
    await eventually(lambda: "assigned" in frozen.output(), timeout=30)
    await stage.exact()


@both_brokers
async def test_workers_that_join_and_leave_under_load_leave_totals_exact(stage: Stage) -> None:
    workers = [stage.engines.worker(f"worker-{number}") for number in range(3)]
    for worker in workers:
        worker.start()
        await stage.workload.produce(frames=6)
    await stage.exact()
    for worker in workers[:2]:
        await stage.workload.produce(frames=6)
        worker.send(signal.SIGTERM)
        await eventually(worker.ended, timeout=20, what="a worker that was told to stop still runs")
    await stage.exact()
    await eventually(workers[2].ready, timeout=20)


@both_brokers
@pytest.mark.parametrize("effect", ["2", "4"])
async def test_a_flush_of_redis_in_the_middle_of_a_batch_leaves_totals_exact(
    stage: Stage, tmp_path: Path, effect: str
) -> None:
    await stage.workload.produce(frames=8)
    marker = tmp_path / "flush"
    worker = paused_at(stage, effect, marker)
    worker.start()
    await eventually(marker.exists, timeout=40)
    await stage.redis.flushall()
    marker.unlink()
    await stage.workload.produce(frames=4)
    await stage.exact()
    await stage.redis.flushall()
    await stage.exact()
    await stage.workload.produce(frames=4)
    await stage.exact()


@both_brokers
@pytest.mark.parametrize("store", ["redis", "clickhouse"])
async def test_a_store_put_back_to_an_older_copy_leaves_totals_exact(stage: Stage, store: str) -> None:
    engine = stage.engines.redis if store == "redis" else stage.engines.clickhouse
    worker = stage.engines.worker("worker")
    worker.start()
    await stage.workload.produce(frames=8)
    await stage.exact()
    engine.kill()
    stage.engines.backup(engine, store)
    engine.start()
    await stage.workload.produce(frames=8)
    await stage.exact()
    engine.kill()
    stage.engines.put_back(store)
    engine.start()
    await stage.workload.produce(frames=8)
    await stage.exact()


@pytest.mark.parametrize(
    ("engine", "stage"),
    [("redis", BROKERS[-1]), ("clickhouse", BROKERS[-1]), ("broker", "embedded")],  # Apache's: test_apache_kafka.py
    indirect=["stage"],
)
async def test_an_engine_away_for_twenty_seconds_loses_nothing_and_readiness_says_so(stage: Stage, engine: str) -> None:
    program = getattr(stage.engines, engine)
    worker = stage.engines.worker("worker")
    worker.start()
    await stage.workload.produce(frames=8)
    await stage.exact()
    await eventually(worker.ready, timeout=10)
    program.send(signal.SIGSTOP)
    gone = time.monotonic()
    if engine != "broker":
        await stage.workload.produce(frames=8)
    await eventually(worker.unready, timeout=20, what=f"{engine} is away and readiness does not say so")
    await eventually(lambda: time.monotonic() - gone > AWAY_SECONDS, timeout=AWAY_SECONDS + 1)
    program.send(signal.SIGCONT)
    await stage.workload.produce(frames=4)
    await stage.exact(timeout=60)
    await eventually(worker.ready, timeout=20)
