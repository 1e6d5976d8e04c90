"""What looks like health: fetches that bring nothing, partitions that nobody owns, an event loop that is held up."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment

from local import tansu
from metering import topics
from streams.worker import GROUP
from tests.chaos.deaf_broker import DeafBroker
from tests.chaos.workload import CATALOG, Workload
from tests.engines import Engines
from tests.support import eventually, free_port

STUCK_SECONDS = 30
"""From the first record that nobody applies until readiness says so."""


@pytest.fixture
async def engines(tmp_path: Path) -> AsyncIterator[Engines]:
    engines = Engines(tmp_path, None)
    try:
        yield engines
    finally:
        await engines.stop()


async def test_a_worker_whose_fetches_bring_nothing_without_failing_is_stuck_not_idle(engines: Engines) -> None:
    # The broker tells its clients to come through the relay.
    behind = free_port()
    host, port = engines.kafka.split(":")
    direct = tansu.command(behind, engines.folder / "tansu")
    direct[direct.index("--advertised-listener-url") + 1] = f"tcp://{host}:{port}"
    engines.use_broker(direct)
    async with DeafBroker(int(port), behind) as broker:
        await engines.start(CATALOG, partitions=1)
        # A worker that loses its partition on a slow machine would be kept from recovering, and say that instead.
        worker = engines.worker("worker", TALLYGATE_STREAMS_SESSION_MS="60000")
        worker.start()
        workload = Workload(engines, seed=5)
        await workload.produce(frames=5)
        await eventually(worker.ready, timeout=40)
        await eventually(lambda: _lag(worker, 0.0), timeout=10)

        broker.deaf = True
        await eventually(lambda: broker.replayed > 1, timeout=30, what="a fetch that was under way has come back")
        await workload.produce(frames=5)

        async def stuck() -> bool:
            said = await worker.failures()
            assert "records wait in the log" in said.get("writer", ""), said
            return True

        await eventually(stuck, timeout=STUCK_SECONDS, what="the worker says that it is stuck")
        assert await worker.alive()
        assert await _lag(worker, 5.0)
        broker.deaf = False
        await eventually(worker.ready, timeout=20)


async def _lag(worker: Any, records: float) -> bool:
    return f'partition="{topics.events(1)}/0"}} {records}' in await worker.metrics()


class Miser(RoundRobinPartitionAssignor):  # type: ignore[misc]
    """Gives partitions to nobody, as a group does whose leader does not know the topic."""

    @classmethod
    def assign(cls, cluster: Any, members: Mapping[str, Any]) -> dict[str, Any]:
        return {member: ConsumerProtocolMemberAssignment(0, [], b"") for member in members}


async def test_a_worker_without_partitions_is_not_ready_while_records_wait_that_nobody_applies(
    engines: Engines,
) -> None:
    await engines.start(CATALOG, partitions=2)
    leader = AIOKafkaConsumer(
        topics.events(engines.epoch.epoch),
        bootstrap_servers=engines.kafka,
        group_id=GROUP,
        enable_auto_commit=False,
        partition_assignment_strategy=[Miser],
    )
    await leader.start()
    try:
        worker = engines.worker("worker")
        worker.start()
        await eventually(worker.ready, timeout=40, what="nothing to do is no failure")
        await Workload(engines, seed=5).produce(frames=3)

        async def says() -> bool:
            said = (await worker.failures()).get("writer", "")
            return "given no partition" in said and f"{topics.events(engines.epoch.epoch)}/" in said

        await eventually(says, timeout=STUCK_SECONDS, what="the worker says that nobody applies what waits")
        assert await worker.alive()
    finally:
        await leader.stop()
    await eventually(worker.ready, timeout=40, what="the worker got the partitions")


async def test_a_held_up_event_loop_is_said_while_it_is_held_up_and_the_process_lives(engines: Engines) -> None:
    script = str(Path(__file__).with_name("held_up_service.py"))
    service = engines.service("held-up", (script,), "TEST", PYTHONPATH=".")
    service.start()
    await eventually(service.ready, timeout=20)
    (engines.folder / "hold").touch()

    async def says() -> bool:
        return "event loop" in (await service.failures()).get("loop", "")

    await eventually(says, timeout=10, what="readiness says that the loop does not turn")
    assert await service.alive()
    (engines.folder / "hold").unlink()
    await eventually(service.ready, timeout=10)
