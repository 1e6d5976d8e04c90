"""Vectors of Kafka's own UtilsTest, so that Java producers and ours agree."""

from __future__ import annotations

import pytest

from metering.partition import murmur2, partition_of


@pytest.mark.parametrize(
    ("data", "signed"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_is_kafkas(data: bytes, signed: int) -> None:
    assert murmur2(data) == signed & 0x7FFFFFFF


def test_a_tenant_has_one_partition_of_each_count() -> None:
    assert partition_of("grand-hotel", 1) == 0
    assert partition_of("foobar", 12) == (-790332482 & 0x7FFFFFFF) % 12
    assert {partition_of(f"tenant-{n}", 8) for n in range(200)} == set(range(8))
