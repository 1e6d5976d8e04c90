"""Inserts of many partitions go together, and what ClickHouse refuses of one holds up no other."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from metering.errors import Unavailable
from streams.dedupe import Verdict
from streams.frame import Entries, Frame
from streams.inserts import Inserts
from streams.native import Column, block, texts
from streams.rows import frame_blocks

BROKEN = block([Column("clock", "String", [texts(["no instant"])])], 1)


def record(partition: int, offset: int) -> bytes:
    """A row of usage_frames."""
    frame = Frame(offset, "acme", 1_795_600_000_000, 1_795_600_000_000, 7)
    return frame_blocks([(frame, Verdict(Entries()))], 1, partition)[0]


async def written(clickhouse: Any) -> list[tuple[int, int]]:
    result = await clickhouse.query("SELECT partition, offset FROM usage_frames ORDER BY partition, offset")
    return [tuple(row) for row in result.result_rows]


async def test_what_comes_while_an_insert_runs_goes_with_the_next_one(clickhouse: Any) -> None:
    inserts = Inserts(clickhouse)
    await asyncio.gather(*(inserts.insert("usage_frames", [record(partition, 0)]) for partition in range(40)))
    assert await written(clickhouse) == [(partition, 0) for partition in range(40)]
    parts = await clickhouse.query("SELECT count() FROM system.parts WHERE table = 'usage_frames' AND rows > 0")
    assert parts.result_rows[0][0] < 10


async def test_an_insert_may_have_more_blocks_than_go_at_once(clickhouse: Any) -> None:
    await Inserts(clickhouse).insert("usage_frames", [record(1, offset) for offset in range(250)])
    assert len(await written(clickhouse)) == 250


async def test_nothing_to_insert_asks_nobody() -> None:
    await Inserts(None).insert("usage_frames", [])


async def test_what_is_refused_of_one_is_written_of_the_others(clickhouse: Any) -> None:
    inserts = Inserts(clickhouse)
    outcomes = await asyncio.gather(
        *(inserts.insert("usage_frames", [block]) for block in (record(0, 0), BROKEN, record(2, 0))),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes] == [type(None), Unavailable, type(None)]
    assert await written(clickhouse) == [(0, 0), (2, 0)]


async def test_a_ledger_that_is_away_fails_every_insert_and_the_next_ones_try_again() -> None:
    class Away:
        attempts = 0

        async def raw_insert(self, table: str, **_: Any) -> None:
            self.attempts += 1
            raise OSError("nobody listens")

    away = Away()
    inserts = Inserts(away)
    outcomes = await asyncio.gather(*(inserts.insert("usage_frames", [b"x"]) for _ in range(3)), return_exceptions=True)
    assert all(isinstance(outcome, Unavailable) for outcome in outcomes)
    attempts = away.attempts
    with pytest.raises(Unavailable):
        await inserts.insert("usage_frames", [b"x"])
    assert away.attempts == attempts + 1
