"""Ledger rows as Native blocks, built straight from what the batch decided."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import chain, repeat
from typing import Any

from metering.clock import HOUR_MS
from metering.period import period_of
from metering.position import version_of
from streams.frame import Entries, Frame
from streams.native import ArrayColumn, Column, MapColumn, blob, blobs, block, text, texts

_TIME = "DateTime64(3, 'UTC')"

_name = lru_cache(maxsize=8192)(text)
"""Of texts that come with every frame: tenants, meters, dimensions."""


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

    def add(self, frame: Frame, entries: Entries, epoch: int, partition: int) -> None:
        """Append the counted entries of one frame, those with the same columns one after the other."""
        first = version_of(epoch, frame.offset, 0)
        for columns in entries.resolved:
            count = len(columns.at)
            own = entries.take(columns.at)
            self.rows += count
            self.tenant.values.append(_name(frame.tenant) * count)
            self.time.values += own.times
            self.source.values.append(texts(own.sources))
            self.id.values.append(texts(own.ids))
            self.type.values.append(texts(own.types))
            self.subject.values.append(texts([subject or "" for subject in own.subjects]))
            self.event.values += blobs(own.raws)
            self.received.values += repeat(frame.received, count)
            self.clock.values += repeat(frame.clock, count)
            self.catalog_version.values += repeat(frame.catalog_version, count)
            _add_pairs(self.quantities, columns.quantities, count)
            _add_pairs(self.uniques, columns.uniques, count)
            _add_pairs(self.dimensions, columns.dimensions, count)
            self.partition.values += repeat(partition, count)
            self.version.values += [first - line for line in own.lines]

    def block(self) -> bytes:
        """The Native block."""
        return block([c for c in vars(self).values() if isinstance(c, Column | MapColumn)], self.rows)


def _add_pairs(column: MapColumn, pairs: dict[str, list[Any]], count: int) -> None:
    """`count` rows, each with one value of every name."""
    column.sizes += repeat(len(pairs), count)
    if pairs:
        column.keys.append(b"".join(map(_name, pairs)) * count)
        values = list(chain.from_iterable(zip(*pairs.values(), strict=True)))
        if column.of_text:
            column.values.append(texts(values))
        else:
            column.values += values


def event_blocks(frames: Iterable[tuple[Frame, Entries]], epoch: int, partition: int) -> list[bytes]:
    """Rows of the counted entries, a block for each month that their times touch."""
    months: dict[int, _EventRows] = {}
    start = end = 0
    for frame, counted in frames:
        if not counted:
            continue
        if start <= min(counted.times) and max(counted.times) < end:
            months[start].add(frame, counted, epoch, partition)
            continue
        by_month: dict[int, list[int]] = {}
        for index, time in enumerate(counted.times):
            if not start <= time < end:
                start, end = period_of("month", time)
            by_month.setdefault(start, []).append(index)
        for month, indexes in by_month.items():
            months.setdefault(month, _EventRows()).add(frame, counted.take(indexes), epoch, partition)
    return [rows.block() for _, rows in sorted(months.items())]


def dead_blocks(frames: Iterable[Frame], epoch: int, partition: int) -> list[bytes]:
    """The dead letters; no block if there are none."""
    letters = [(frame, dead) for frame in frames for dead in frame.dead]
    if not letters:
        return []
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
    return [block([_column(name, *column) for name, column in columns.items()], len(letters))]


def frame_blocks(
    frames: Sequence[tuple[Frame, Entries]], duplicates: Sequence[int], epoch: int, partition: int
) -> list[bytes]:
    """One row per record: what became of its events."""
    hours = ArrayColumn("hours")
    for _, counted in frames:
        touched = sorted({time // HOUR_MS for time in counted.times})
        hours.sizes.append(len(touched))
        hours.values += touched
    columns: dict[str, tuple[str, list[Any]]] = {
        "epoch": ("UInt16", [epoch] * len(frames)),
        "partition": ("UInt16", [partition] * len(frames)),
        "offset": ("UInt64", [frame.offset for frame, _ in frames]),
        "tenant": ("String", [text(frame.tenant) for frame, _ in frames]),
        "events": ("UInt32", [frame.events for frame, _ in frames]),
        "counted": ("UInt32", [len(counted) for _, counted in frames]),
        "duplicates": ("UInt32", list(duplicates)),
        "dead": ("UInt32", [len(frame.dead) for frame, _ in frames]),
        "checksum": ("UInt32", [frame.checksum for frame, _ in frames]),
        "clock": (_TIME, [frame.clock for frame, _ in frames]),
        "closing": ("UInt8", [int(frame.closing) for frame, _ in frames]),
    }
    return [block([hours, *(_column(name, *column) for name, column in columns.items())], len(frames))]


def _column(name: str, type: str, values: list[Any]) -> Column:
    column = Column(name, type)
    column.values = values
    return column
