"""Readiness tells the truth: each engine is frozen, and killed, under all four processes."""

from __future__ import annotations

import signal

import pytest

from streams.epochs import ensure_epoch
from tenancy.epochs import Epochs
from tests.chaos.house import House


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
