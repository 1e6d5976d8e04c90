"""Readiness tells the truth: each engine is frozen, and killed, under all four processes."""

from __future__ import annotations

import signal
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from streams.epochs import ensure_epoch
from tenancy.epochs import Epochs
from tests.chaos.workload import CATALOG
from tests.engines import Engines, Worker
from tests.integration.tenancy.postgres import Postgres, find
from tests.support import eventually, free_port

NOTICED_SECONDS = 10
"""From the moment an engine is gone until readiness says so."""

Send = Callable[[signal.Signals], None]


class House(NamedTuple):
    """Every engine in a process of its own, and one process of each service."""

    engines: Engines
    sql: Postgres | None
    services: dict[str, Worker]

    async def all_ready(self) -> None:
        for name, service in self.services.items():
            await eventually(service.ready, timeout=60, what=f"{name} is ready")

    async def notices(self, engine: str, names: set[str], within: float = NOTICED_SECONDS) -> None:
        """Those of `names`, and only those, say within the time that `engine` is away; all go on living."""
        gone = time.monotonic()
        for name in names:
            left = within - (time.monotonic() - gone)
            await eventually(self._says(name, engine), timeout=left, what=f"{name} says that {engine} is away")
        for name, service in self.services.items():
            assert await service.alive()
            if name not in names:
                assert await service.failures() == {}

    def _says(self, name: str, engine: str) -> Callable[[], object]:
        async def says() -> bool:
            failures = await self.services[name].failures()
            said = " ".join([*failures, *failures.values()]).lower().replace("kafka", "broker")
            return engine in said

        return says


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    programs = find()
    sql = Postgres(programs) if programs else None
    engines = Engines(tmp_path, None, sql.database() if sql else None)
    try:
        await engines.start(CATALOG, partitions=2)
        services = {"streams": engines.worker("streams")}
        for name, package in (("ingest", "ingest"), ("gate", "enforcement"), ("console", "console")):
            own_port = {f"TALLYGATE_{name.upper()}_PORT": str(free_port())}
            services[name] = engines.service(name, ("-m", package), name.upper(), **own_port)
        for service in services.values():
            service.start()
        yield House(engines, sql, services)
    finally:
        await engines.stop()
        if sql is not None:
            sql.send(signal.SIGCONT)
            sql.stop()


@pytest.mark.parametrize(
    ("engine", "concerned"),
    [("clickhouse", {"streams", "console"}), ("redis", {"streams", "console", "gate"})],
)
async def test_a_store_that_is_frozen_or_killed_is_named_by_all_who_need_it_and_by_nobody_else(
    house: House, engine: str, concerned: set[str]
) -> None:
    program = getattr(house.engines, engine)
    await house.all_ready()
    program.send(signal.SIGSTOP)
    await house.notices(engine, concerned)
    program.send(signal.SIGCONT)
    await house.all_ready()
    program.kill()
    await house.notices(engine, concerned)
    program.start()
    await house.all_ready()


async def test_a_broker_that_is_frozen_killed_or_lost_its_log_is_named_while_no_request_comes(house: House) -> None:
    broker, concerned = house.engines.broker, {"ingest", "streams"}
    assert broker is not None
    await house.all_ready()
    broker.send(signal.SIGSTOP)
    await house.notices("broker", concerned)
    broker.send(signal.SIGCONT)
    await house.all_ready()
    broker.kill()
    await house.notices("broker", concerned)
    broker.start()
    await house.notices("tallygate migrate", concerned, within=60)
    await ensure_epoch(house.engines.kafka, Epochs(house.engines.database))
    await house.all_ready()


async def test_a_frozen_database_is_named_by_all_but_those_who_know_enough_for_five_minutes(house: House) -> None:
    if house.sql is None:
        pytest.skip("PostgreSQL is not installed; a file can't be frozen")
    await house.all_ready()
    house.sql.send(signal.SIGSTOP)
    await house.notices("sql", {"streams", "console"})
    house.sql.send(signal.SIGCONT)
    await house.all_ready()
