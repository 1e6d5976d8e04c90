"""What both buffers promise, by the same tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ingest.client import EmitterFull
from ingest.client.buffer import Buffer, MemoryBuffer
from ingest.client.spool import Spool
from metering.clock import SystemClock
from metering.errors import Refused

MOST_BYTES = 8_000


@pytest.fixture(params=["memory", "spool"])
async def buffer(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Buffer]:
    made: Buffer = MemoryBuffer(MOST_BYTES)
    if request.param == "spool":
        made = await Spool.open(tmp_path / "spool", MOST_BYTES, SystemClock())
    yield made
    made.close()


def _fill(buffer: Buffer, *records: bytes) -> None:
    for record in records:
        buffer.append(record)


async def test_records_come_back_in_order_until_they_are_acknowledged(buffer: Buffer) -> None:
    _fill(buffer, b"a", b"b", b"c")

    assert buffer.read(2, 1000) == [b"a", b"b"]
    assert buffer.read(2, 1000) == [b"a", b"b"]
    buffer.acknowledge()
    assert buffer.read(2, 1000) == [b"c"]
    buffer.acknowledge()

    assert buffer.read(2, 1000) == []
    assert (buffer.appended, buffer.acknowledged) == (3, 3)


async def test_what_comes_between_reading_and_acknowledging_is_not_acknowledged(buffer: Buffer) -> None:
    large = b"a" * 600, b"b" * 600, b"c" * 600
    _fill(buffer, large[0])
    buffer.read(10, 1000)
    _fill(buffer, *large[1:])
    buffer.acknowledge()

    assert buffer.read(10, 10_000) == [*large[1:]]


async def test_a_batch_keeps_within_its_bytes_unless_its_first_record_is_larger(buffer: Buffer) -> None:
    _fill(buffer, b"x" * 60, b"y" * 40, b"z", b"w" * 200)

    assert buffer.read(10, 100) == [b"x" * 60, b"y" * 40]
    buffer.acknowledge()
    assert buffer.read(10, 100) == [b"z"]
    buffer.acknowledge()
    assert buffer.read(10, 100) == [b"w" * 200]


async def test_a_full_buffer_says_so_takes_nothing_and_has_room_again_when_records_are_acknowledged(
    buffer: Buffer,
) -> None:
    taken: list[bytes] = []
    with pytest.raises(EmitterFull, match="events wait"):
        while True:
            buffer.append(record := b"%04d" % len(taken) * 100)
            taken.append(record)
    assert 10 <= len(taken) <= MOST_BYTES / 400
    assert buffer.appended == len(taken)

    assert buffer.read(len(taken), MOST_BYTES) == taken
    buffer.acknowledge()
    for record in taken[:10]:
        buffer.append(record)
    assert buffer.read(1000, MOST_BYTES) == taken[:10]


async def test_a_record_that_can_never_fit_is_refused_not_awaited(buffer: Buffer) -> None:
    with pytest.raises(Refused) as refused:
        buffer.append(b"x" * (MOST_BYTES + 1))

    assert refused.value.code == "event-too-large"
    assert buffer.appended == 0
