"""Ledger rows as Native blocks, built straight from what the batch decided."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain, repeat
from struct import pack
from typing import Any, TypeVar

import msgspec

from metering.clock import HOUR_MS
from metering.meter import Columns
from metering.period import period_of
from metering.position import version_of
from streams.dedupe import Judged, Verdict
from streams.frame import Entries, Frame
from streams.native import Column, blobs, block, int128s, numbers, sized, text, texts
from streams.voids import NamedRow

T = TypeVar("T")
_TIME = "DateTime64(3, 'UTC')"
_PLAIN = (
    ("tenant", "String"),
    ("time", _TIME),
    ("source", "String"),
    ("id", "String"),
    ("type", "String"),
    ("subject", "String"),
    ("event", "String"),
    ("received", _TIME),
    ("clock", _TIME),
    ("catalog_version", "UInt32"),
    ("voided", "UInt8"),
    ("partition", "UInt16"),
    ("version", "UInt64"),
)
_MAPS = (
    ("quantities", "Map(String, Decimal(38, 9))"),
    ("uniques", "Map(String, String)"),
    ("dimensions", "Map(String, String)"),
)

_name = lru_cache(maxsize=8192)(text)
"""Of texts that come with every frame: tenants, types, meters, dimensions."""


class EventRows(msgspec.Struct, gc=False, frozen=True):
    """Rows of usage_events of one month that have the same map keys, encoded column by column.

    `plain`: the columns of _PLAIN. `maps`: those of _MAPS, each as the pairs of a row, all keys, all values.
    """

    month: int
    count: int
    plain: tuple[bytes, ...]
    maps: tuple[tuple[int, bytes, bytes], ...]


def event_rows(frame: Frame, entries: Entries, epoch: int, partition: int, voided: bool = False) -> list[EventRows]:
    """The rows of entries of a frame: of those counted, or of those `voided` on arrival.

    Best made right after the frame was decoded: its values are at hand.
    """
    return [
        _encoded(month, frame, inside, columns, epoch, partition, voided)
        for month, inside in _by_month(entries)
        for columns in inside.resolved
    ]


def verdict_rows(frame: Frame, verdict: Verdict, epoch: int, partition: int) -> list[EventRows]:
    """The rows of a frame of whose events not all count."""
    counted = event_rows(frame, verdict.counted, epoch, partition)
    return counted + event_rows(frame, verdict.voided, epoch, partition, voided=True)


def _by_month(entries: Entries) -> Iterator[tuple[int, Entries]]:
    while entries:  # each turn takes the month of the first
        month, end = period_of("month", entries.times[0])
        if month <= min(entries.times) and max(entries.times) < end:
            yield month, entries
            return
        yield month, entries.take([index for index, time in enumerate(entries.times) if month <= time < end])
        entries = entries.take([index for index, time in enumerate(entries.times) if not month <= time < end])


def _encoded(
    month: int, frame: Frame, entries: Entries, columns: Columns, epoch: int, partition: int, voided: bool
) -> EventRows:
    at, count = columns.at, len(columns.at)
    first = version_of(epoch, frame.offset, 0)

    def pick(values: Sequence[T]) -> Sequence[T]:
        return values if count == len(entries) else [values[index] for index in at]

    plain = (
        _name(frame.tenant) * count,
        numbers("q", pick(entries.times)),
        texts(pick(entries.sources)),
        texts(pick(entries.ids)),
        _name(entries.types[at[0]]) * count,  # only events of one type have the same columns
        texts([subject or "" for subject in pick(entries.subjects)]),
        blobs(pick(entries.raws)),
        pack("<q", frame.received) * count,
        pack("<q", frame.clock) * count,
        pack("<I", frame.catalog_version) * count,
        pack("<B", voided) * count,
        pack("<H", partition) * count,
        numbers("Q", [first - line for line in pick(entries.lines)]),
    )
    quantities = int128s(_interleaved(columns.quantities))
    maps = (
        (len(columns.quantities), _keys(columns.quantities, count), quantities),
        (len(columns.uniques), _keys(columns.uniques, count), texts(_interleaved(columns.uniques))),
        (len(columns.dimensions), _keys(columns.dimensions, count), texts(_interleaved(columns.dimensions))),
    )
    return EventRows(month, count, plain, maps)


def _keys(pairs: dict[str, Any], count: int) -> bytes:
    return b"".join(map(_name, pairs)) * count


def _interleaved(pairs: dict[str, list[Any]]) -> list[Any]:
    """Row by row, each with one value of every name."""
    if len(pairs) == 1:
        return next(iter(pairs.values()))
    return list(chain.from_iterable(zip(*pairs.values(), strict=True)))


def event_blocks(rows: Iterable[EventRows]) -> list[bytes]:
    """A block of usage_events for each month."""
    months: dict[int, list[EventRows]] = {}
    for one in rows:
        months.setdefault(one.month, []).append(one)
    return [_event_block(months[month]) for month in sorted(months)]


def _event_block(rows: Sequence[EventRows]) -> bytes:
    columns = [Column(*head, [one.plain[index] for one in rows]) for index, head in enumerate(_PLAIN)]
    for index, head in enumerate(_MAPS):
        sizes = chain.from_iterable([repeat(one.maps[index][0], one.count) for one in rows])
        keys, values = [one.maps[index][1] for one in rows], [one.maps[index][2] for one in rows]
        columns.append(Column(*head, sized(sizes, keys, values)))
    return block(columns, sum([one.count for one in rows]))


def void_blocks(judged: Iterable[Judged], epoch: int, partition: int) -> list[bytes]:
    """What voids take back, a row for each event; no block if there is nothing."""
    rows = [(frame, voiding) for frame, verdict in judged for voiding in verdict.voidings]
    if not rows:
        return []
    count = len(rows)
    versions = [version_of(epoch, frame.offset, voiding.line) for frame, voiding in rows]
    columns = [
        Column("tenant", "String", [texts([frame.tenant for frame, _ in rows])]),
        Column("source", "String", [texts([voiding.target.source for _, voiding in rows])]),
        Column("id", "String", [texts([voiding.target.id for _, voiding in rows])]),
        Column("time", _TIME, [numbers("q", [voiding.row.time for _, voiding in rows])]),
        Column("target", "UInt64", [numbers("Q", [_version(voiding.row, epoch) for _, voiding in rows])]),
        Column("clock", _TIME, [numbers("q", [frame.clock for frame, _ in rows])]),
        Column("partition", "UInt16", [pack("<H", partition) * count]),
        Column("version", "UInt64", [numbers("Q", versions)]),
    ]
    return [block(columns, count)]


def _version(row: NamedRow, epoch: int) -> int:
    return version_of(epoch, row.offset, row.line) if row.version is None else row.version


def dead_blocks(judged: Iterable[Judged], epoch: int, partition: int) -> list[bytes]:
    """The dead letters; no block if there are none."""
    letters = [(frame, dead) for frame, verdict in judged for dead in (*frame.dead, *verdict.refused)]
    if not letters:
        return []
    count = len(letters)
    columns = [
        Column("epoch", "UInt16", [pack("<H", epoch) * count]),
        Column("partition", "UInt16", [pack("<H", partition) * count]),
        Column("offset", "UInt64", [numbers("Q", [frame.offset for frame, _ in letters])]),
        Column("line", "Int32", [numbers("i", [dead.line for _, dead in letters])]),
        Column("tenant", "String", [texts([frame.tenant for frame, _ in letters])]),
        Column("reason", "String", [texts([dead.reason for _, dead in letters])]),
        Column("detail", "String", [texts([dead.detail for _, dead in letters])]),
        Column("payload", "String", [blobs([dead.payload for _, dead in letters])]),
        Column("received", _TIME, [numbers("q", [frame.received for frame, _ in letters])]),
        Column("clock", _TIME, [numbers("q", [frame.clock for frame, _ in letters])]),
    ]
    return [block(columns, count)]


def frame_blocks(judged: Sequence[Judged], epoch: int, partition: int) -> list[bytes]:
    """One row per record: what became of its events, and the hours whose totals it changes."""
    count = len(judged)
    frames, verdicts = [frame for frame, _ in judged], [verdict for _, verdict in judged]
    hours = [
        sorted({time // HOUR_MS for time in (*verdict.counted.times, *(one.row.time for one in verdict.voidings))})
        for verdict in verdicts
    ]
    dead = [len(frame.dead) + len(verdict.refused) for frame, verdict in judged]
    columns = [
        Column("epoch", "UInt16", [pack("<H", epoch) * count]),
        Column("partition", "UInt16", [pack("<H", partition) * count]),
        Column("offset", "UInt64", [numbers("Q", [frame.offset for frame in frames])]),
        Column("tenant", "String", [texts([frame.tenant for frame in frames])]),
        Column("events", "UInt32", [numbers("I", [frame.events for frame in frames])]),
        Column("counted", "UInt32", [numbers("I", [len(verdict.counted) for verdict in verdicts])]),
        Column("duplicates", "UInt32", [numbers("I", [verdict.duplicates for verdict in verdicts])]),
        Column("voided", "UInt32", [numbers("I", [len(verdict.voided) for verdict in verdicts])]),
        Column("dead", "UInt32", [numbers("I", dead)]),
        Column("voids", "UInt32", [numbers("I", [len(verdict.voidings) for verdict in verdicts])]),
        Column("hours", "Array(UInt32)", sized(map(len, hours), [numbers("I", list(chain.from_iterable(hours)))])),
        Column("checksum", "UInt32", [numbers("I", [frame.checksum for frame in frames])]),
        Column("clock", _TIME, [numbers("q", [frame.clock for frame in frames])]),
        Column("closing", "UInt8", [numbers("B", [int(frame.closing) for frame in frames])]),
    ]
    return [block(columns, count)]
