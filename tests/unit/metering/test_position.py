from __future__ import annotations

from metering.position import MAX_EPOCH, MAX_INDEX, version_of


def test_versions_fill_64_bits_and_no_more() -> None:
    assert version_of(0, 0, 0) == 2**64 - 1
    assert version_of(MAX_EPOCH, 2**36 - 1, MAX_INDEX) == 0
