"""Ledger rows as Native blocks, built straight from what the batch decided."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import repeat
from typing import Any

from metering.clock import HOUR_MS
from metering.period import period_of
from metering.position import version_of
from streams.frame import Entry, Frame
from streams.native import ArrayColumn, Column, MapColumn, blob, block, text

_TIME = "DateTime64(3, 'UTC')"
_MONTHS_PER_INSERT = 90  # ClickHouse refuses an insert that touches more than 100 partitions
_EMPTY = text("")

_common = lru_cache(maxsize=65_536)(text)
"""Of texts that come again and again: tenants, sources, types, meters, dimensions."""


class _EventRows:
    """The columns of usage_events for the rows of one month."""

    def __init__(self) -> None:
        self.rows = 0
        self.tenant = Column("tenant", "String")
        self.time = Column("time", _TIME)
        self.source = Column("source", "String")
        self.id = Column("id", "String")
        self.type = Column("type", "String")
        self.subject = Column("subject", "String")
        self.event = Column("event", "String")
        self.received = Column("received", _TIME)
        self.clock = Column("clock", _TIME)
        self.catalog_version = Column("catalog_version", "UInt32")
        self.quantities = MapColumn("quantities", "Decimal(38, 9)")
        self.uniques = MapColumn("uniques", "String")
        self.dimensions = MapColumn("dimensions", "String")
        self.partition = Column("partition", "UInt16")
        self.version = Column("version", "UInt64")

    def add(self, frame: Frame, entries: Sequence[Entry], epoch: int, partition: int) -> None:
        """Append the counted entries of one frame."""
        count = len(entries)
        self.rows += count
        events = [entry.event for entry in entries]
        self.tenant.values += repeat(_common(frame.tenant), count)
        self.time.values += [entry.time for entry in entries]
        self.source.values += [_common(event.source) for event in events]
        self.id.values += [text(event.id) for event in events]
        self.type.values += [_common(event.type) for event in events]
        self.subject.values += [_common(event.subject) if event.subject else _EMPTY for event in events]
        self.event.values += [blob(entry.raw) for entry in entries]
        self.received.values += repeat(frame.received, count)
        self.clock.values += repeat(frame.clock, count)
        self.catalog_version.values += repeat(frame.catalog_version, count)
        for entry in entries:
            resolved = entry.resolved
            self.quantities.sizes.append(len(resolved.quantities))
            self.quantities.keys += map(_common, resolved.quantities)
            self.quantities.values += resolved.quantities.values()
            for column, pairs in ((self.uniques, resolved.uniques), (self.dimensions, resolved.dimensions)):
                column.sizes.append(len(pairs))
                if pairs:
                    column.keys += map(_common, pairs)
                    column.values += map(_common, pairs.values())
        self.partition.values += repeat(partition, count)
        first = version_of(epoch, frame.offset, 0)
        self.version.values += [first - entry.line for entry in entries]

    def block(self) -> bytes:
        """The Native block."""
        return block([c for c in vars(self).values() if isinstance(c, Column | MapColumn)], self.rows)


def event_inserts(frames: Iterable[tuple[Frame, list[Entry]]], epoch: int, partition: int) -> list[bytes]:
    """Rows of the counted entries as insert bodies; several where the times touch very many months."""
    months: dict[int, _EventRows] = {}
    month_start = month_end = 0
    for frame, counted in frames:
        if not counted:
            continue
        times = [entry.time for entry in counted]
        if month_start <= min(times) and max(times) < month_end:
            months[month_start].add(frame, counted, epoch, partition)
            continue
        by_month: dict[int, list[Entry]] = {}
        for entry in counted:
            if not month_start <= entry.time < month_end:
                month_start, month_end = period_of("month", entry.time)
            by_month.setdefault(month_start, []).append(entry)
        for month, entries in by_month.items():
            months.setdefault(month, _EventRows()).add(frame, entries, epoch, partition)
    blocks = [rows.block() for _, rows in sorted(months.items())]
    return [b"".join(blocks[first : first + _MONTHS_PER_INSERT]) for first in range(0, len(blocks), _MONTHS_PER_INSERT)]


def dead_insert(frames: Iterable[Frame], epoch: int, partition: int) -> bytes:
    """The dead letters as an insert body; empty if there are none."""
    letters = [(frame, dead) for frame in frames for dead in frame.dead]
    if not letters:
        return b""
    columns: dict[str, tuple[str, list[Any]]] = {
        "epoch": ("UInt16", [epoch] * len(letters)),
        "partition": ("UInt16", [partition] * len(letters)),
        "offset": ("UInt64", [frame.offset for frame, _ in letters]),
        "line": ("Int32", [dead.line for _, dead in letters]),
        "tenant": ("String", [text(frame.tenant) for frame, _ in letters]),
        "reason": ("String", [text(dead.reason) for _, dead in letters]),
        "detail": ("String", [text(dead.detail) for _, dead in letters]),
        "payload": ("String", [blob(dead.payload) for _, dead in letters]),
        "received": (_TIME, [frame.received for frame, _ in letters]),
        "clock": (_TIME, [frame.clock for frame, _ in letters]),
    }
    return block([_column(name, *column) for name, column in columns.items()], len(letters))


def frame_insert(
    frames: Sequence[tuple[Frame, list[Entry]]], duplicates: Sequence[int], epoch: int, partition: int
) -> bytes:
    """One row per record: what became of its events."""
    hours = ArrayColumn("hours")
    for _, counted in frames:
        touched = sorted({entry.time // HOUR_MS for entry in counted})
        hours.sizes.append(len(touched))
        hours.values += touched
    columns: dict[str, tuple[str, list[Any]]] = {
        "epoch": ("UInt16", [epoch] * len(frames)),
        "partition": ("UInt16", [partition] * len(frames)),
        "offset": ("UInt64", [frame.offset for frame, _ in frames]),
        "tenant": ("String", [text(frame.tenant) for frame, _ in frames]),
        "events": ("UInt32", [len(frame.entries) + len(frame.dead) for frame, _ in frames]),
        "counted": ("UInt32", [len(counted) for _, counted in frames]),
        "duplicates": ("UInt32", list(duplicates)),
        "dead": ("UInt32", [len(frame.dead) for frame, _ in frames]),
        "checksum": ("UInt32", [frame.checksum for frame, _ in frames]),
        "clock": (_TIME, [frame.clock for frame, _ in frames]),
        "closing": ("UInt8", [int(frame.closing) for frame, _ in frames]),
    }
    return block([hours, *(_column(name, *column) for name, column in columns.items())], len(frames))


def _column(name: str, type: str, values: list[Any]) -> Column:
    column = Column(name, type)
    column.values = values
    return column
