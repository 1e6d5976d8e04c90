"""Where an event stands in the log: (epoch, partition, offset, line in the frame), ordered."""

from __future__ import annotations

from typing import NamedTuple

OFFSET_BITS, _INDEX_BITS = 36, 14
MAX_EPOCH = (1 << 14) - 1
MAX_INDEX = (1 << _INDEX_BITS) - 1
_TOP = (1 << 64) - 1


class Position(NamedTuple):
    """Positions compare as tuples; a tenant's events of one epoch share a partition, so theirs are totally ordered."""

    epoch: int
    partition: int
    offset: int
    line: int


def version_of(epoch: int, offset: int, index: int) -> int:
    """The row version with which ReplacingMergeTree keeps the *earliest* position: greater is earlier.

    14 bits epoch, 36 bits offset, 14 bits index, inverted: 16,384 epochs of 68 billion records a partition.
    """
    return _TOP - ((epoch << (OFFSET_BITS + _INDEX_BITS)) | (offset << _INDEX_BITS) | index)
