"""Ledger rows as RowBinary, built straight from what the batch decided: ClickHouse gets bytes, never row objects."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from struct import Struct

from metering.clock import HOUR_MS
from metering.period import period_of
from metering.position import version_of
from streams.frame import Entry, Frame

EVENT_COLUMNS = (
    "tenant", "time", "source", "id", "type", "subject", "event", "received", "clock", "catalog_version",
    "quantities", "uniques", "dimensions", "epoch", "partition", "offset", "line", "voided", "version",
)  # fmt: skip
FRAME_COLUMNS = (
    "epoch", "partition", "offset", "tenant", "events", "counted", "duplicates", "voided", "dead", "hours",
    "checksum", "clock", "closing",
)  # fmt: skip
DEAD_COLUMNS = (
    "epoch", "partition", "offset", "line", "tenant", "reason", "detail", "payload", "received", "clock",
)  # fmt: skip

_MONTHS_PER_INSERT = 90  # ClickHouse refuses an insert that touches more than 100 partitions
_i64 = Struct("<q").pack
_received_clock_version = Struct("<qqI").pack
_position = Struct("<HHQHBQ").pack
_frame_head = Struct("<HHQ").pack
_frame_counts = Struct("<IIIII").pack
_frame_tail = Struct("<IqB").pack
_dead_head = Struct("<HHQi").pack
_two_times = Struct("<qq").pack
_SHORT = [bytes((n,)) for n in range(128)]


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def _blob(data: bytes) -> bytes:
    size = len(data)
    return (_SHORT[size] if size < 128 else _varint(size)) + data


def _text(text: str) -> bytes:
    return _blob(text.encode("utf-8", "backslashreplace"))


_common = lru_cache(maxsize=65_536)(_text)
"""Of texts that come again and again: sources, types, meters, dimensions."""


@lru_cache(maxsize=16_384)
def _pairs(items: tuple[tuple[str, str], ...]) -> bytes:
    return _varint(len(items)) + b"".join(_common(name) + _text(value) for name, value in items)


def event_inserts(frames: Iterable[tuple[Frame, list[Entry]]], epoch: int, partition: int) -> list[bytes]:
    """Rows of the counted entries as RowBinary bodies; several where the times touch very many months."""
    months: dict[int, list[bytes]] = {}
    month_start = month_end = 0
    parts: list[bytes] = []
    for frame, counted in frames:
        if not counted:
            continue
        tenant = _common(frame.tenant)
        middle = _received_clock_version(frame.received, frame.clock, frame.catalog_version)
        offset = frame.offset
        for entry in counted:
            time = entry.time
            if not month_start <= time < month_end:
                month_start, month_end = period_of("month", time)
                parts = months.setdefault(month_start, [])
            event = entry.event
            resolved = entry.resolved
            parts += (
                tenant,
                _i64(time),
                _common(event.source),
                _text(event.id),
                _common(event.type),
                _text(event.subject or ""),
                _blob(entry.raw),
                middle,
            )
            quantities = resolved.quantities
            parts.append(_SHORT[len(quantities)] if len(quantities) < 128 else _varint(len(quantities)))
            for name, nanos in quantities.items():
                parts += (_common(name), nanos.to_bytes(16, "little", signed=True))
            parts.append(_pairs(tuple(resolved.uniques.items())) if resolved.uniques else b"\0")
            parts.append(_pairs(tuple(resolved.dimensions.items())) if resolved.dimensions else b"\0")
            parts.append(_position(epoch, partition, offset, entry.line, 0, version_of(epoch, offset, entry.line)))
    bodies = [b"".join(part) for _, part in sorted(months.items())]
    return [b"".join(bodies[first : first + _MONTHS_PER_INSERT]) for first in range(0, len(bodies), _MONTHS_PER_INSERT)]


def dead_insert(frames: Iterable[Frame], epoch: int, partition: int) -> bytes:
    """Rows of the dead letters."""
    parts: list[bytes] = []
    for frame in frames:
        for line, reason, detail, payload in frame.dead:
            parts += (
                _dead_head(epoch, partition, frame.offset, line),
                _text(frame.tenant),
                _common(reason),
                _text(detail),
                _blob(payload),
                _two_times(frame.received, frame.clock),
            )
    return b"".join(parts)


def frame_insert(
    frames: Sequence[tuple[Frame, list[Entry]]], duplicates: Sequence[int], epoch: int, partition: int
) -> bytes:
    """One row per record: what became of its events."""
    parts: list[bytes] = []
    for (frame, counted), repeated in zip(frames, duplicates, strict=True):
        hours = sorted({entry.time // HOUR_MS for entry in counted})
        events = len(frame.entries) + len(frame.dead)
        parts += (
            _frame_head(epoch, partition, frame.offset),
            _common(frame.tenant),
            _frame_counts(events, len(counted), repeated, 0, len(frame.dead)),
            _varint(len(hours)),
            *(hour.to_bytes(4, "little") for hour in hours),
            _frame_tail(frame.checksum, frame.clock, frame.closing),
        )
    return b"".join(parts)
