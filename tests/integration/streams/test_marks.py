"""Recovery checks rows onward from the mark that an earlier one left, and trusts it only while its frames are there."""

from __future__ import annotations

from typing import Any

import pytest

from metering.catalog import parse_catalog
from metering.frame import headers
from metering.meter import CompiledCatalog
from streams.dedupe import Verdict
from streams.frame import Record, decode
from streams.inserts import Inserts
from streams.ledger import PartitionLedger
from streams.rows import event_blocks, event_rows, frame_blocks

NOW = 1_795_600_000_000
CATALOG = CompiledCatalog(1, parse_catalog("meters: {calls: {event: call, aggregation: count}}"))


@pytest.fixture
def ledger(clickhouse: Any) -> PartitionLedger:
    return PartitionLedger(clickhouse, Inserts(clickhouse), 1, 0, 1)


async def write(ledger: PartitionLedger, offset: int, rows: bool = True, frame: bool = True) -> None:
    """A record of two events: its rows, and the frame that vouches for them."""
    events = [b'{"specversion":"1.0","id":"%d-%d","source":"/s","type":"call"}' % (offset, n) for n in range(2)]
    record = Record(offset, NOW, b"acme", b"\n".join(events), headers(2, 1, NOW))
    decoded = decode(record, 0, 0, 1, lambda version, at: CATALOG)
    if rows:
        await ledger.insert_events(event_blocks(event_rows(decoded, decoded.entries, 1, 0)))
    if frame:
        await ledger.insert_frames(frame_blocks([(decoded, Verdict(decoded.entries))], 1, 0))


async def age(clickhouse: Any) -> None:
    """Let an hour pass for the frames that are there."""
    await clickhouse.command(
        "ALTER TABLE usage_frames UPDATE written = written - INTERVAL 1 HOUR WHERE 1", settings={"mutations_sync": 2}
    )


async def test_without_a_mark_everything_is_checked(ledger: PartitionLedger) -> None:
    assert await ledger.mark() == -1
    assert await ledger.prefix(-1) == -1
    await ledger.set_mark(-1)
    for offset in range(3):
        await write(ledger, offset)
    await write(ledger, 3, rows=False)
    assert await ledger.prefix(-1) == 2


async def test_a_mark_stands_behind_what_was_written_lately(ledger: PartitionLedger, clickhouse: Any) -> None:
    for offset in range(3):
        await write(ledger, offset)
    await ledger.set_mark(2)
    assert await ledger.mark() == -1
    await age(clickhouse)
    await write(ledger, 3)
    await ledger.set_mark(3)
    assert await ledger.mark() == 2
    assert await ledger.prefix(2) == 3


async def test_a_mark_never_goes_back(ledger: PartitionLedger, clickhouse: Any) -> None:
    for offset in range(3):
        await write(ledger, offset)
    await age(clickhouse)
    await ledger.set_mark(2)
    await ledger.set_mark(1)
    assert await ledger.mark() == 2


async def test_a_mark_is_worth_nothing_when_a_frame_below_it_is_gone(ledger: PartitionLedger, clickhouse: Any) -> None:
    for offset in range(3):
        await write(ledger, offset)
    await age(clickhouse)
    await ledger.set_mark(2)
    await clickhouse.command("ALTER TABLE usage_frames DELETE WHERE offset = 1", settings={"mutations_sync": 2})
    assert await ledger.mark() == -1
    assert await ledger.prefix(-1) == 0
