"""The feed of the gates: what a partition's writer tells after each batch, and once a second without one.

Messages chain: `prev` is the `applied` of the one before. A reader that finds another, another `sequence`, or nothing
for seconds, has missed something and reads Redis afresh; so a message may get lost.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec


class FeedMessage(msgspec.Struct, frozen=True):
    """A partition stands at offset `applied` and at `clock` (ms UTC); `prev` equals `applied` when nothing came.

    `as_of` (ms UTC): everything that was accepted before this instant is in the counters, as far as the writer knows
    (keys.vouched). `held`, where it is told: number of the last change of a hold (metering/reservation.py).

    `counters`: tenant → field, value, field, value… as they stand in Redis (metering/counter.py), of those that changed
    since `prev`; None for one that is gone. Counters whose period the clock has closed are dropped without a word.
    `counted`: tenant → fields of the reservations (metering/keys.py: holds) whose usage is in these counters.
    `sequence` changes when counters were replaced by what the ledger gives: that is not told one by one.
    """

    prev: int
    applied: int
    clock: int
    as_of: int
    sequence: str
    counters: dict[str, Sequence[str | None]] = {}
    counted: dict[str, Sequence[str]] = {}
    held: int | None = None


encode = msgspec.json.Encoder().encode
"""A FeedMessage → what is published."""

decode = msgspec.json.Decoder(FeedMessage).decode
"""What `encode` wrote → FeedMessage."""
