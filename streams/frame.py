"""Step 1 of a batch: decode a record, judge each event, resolve its quantities, compute its digest. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import msgspec

from metering import reservation as reservations
from metering.catalog import TENANT_NAME
from metering.clock import HOUR_MS
from metering.errors import InvalidEvent
from metering.event import (
    RESERVED_TYPES,
    WRITER_AHEAD_MS,
    WRITER_LIMITS,
    check_time,
    compact,
    parse,
    parse_usual,
)
from metering.frame import MAX_FRAME_EVENTS, FrameHeader, Headers, checksum, read_headers
from metering.identity import digests
from metering.meter import Columns, CompiledCatalog, Resolved
from metering.partition import partition_of
from metering.position import MAX_INDEX
from metering.void import VOID, Target, dimensions, target_in, target_of

WHOLE_RECORD = -1
"""`line` of a dead letter that is a record, not an event in it."""


class Record(NamedTuple):
    """One Kafka record; `timestamp` in ms UTC as the broker set it."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers


class Dead(NamedTuple):
    """What cannot be counted, and why."""

    line: int
    reason: str
    detail: str
    payload: bytes


class Entries(msgspec.Struct, gc=False, frozen=True):
    """Valid events of a frame side by side, in position order: one list per attribute, quantities as columns.

    A time is the received time where the sender gave none. The lists are shared and never changed.
    """

    lines: Sequence[int] = ()
    times: Sequence[int] = ()
    sources: Sequence[str] = ()
    ids: Sequence[str] = ()
    types: Sequence[str] = ()
    subjects: Sequence[str | None] = ()
    raws: Sequence[bytes] = ()
    digests: Sequence[bytes] = ()
    resolved: Sequence[Columns] = ()

    def __len__(self) -> int:
        return len(self.lines)

    def hour(self, index: int) -> int:
        """Hours since 1970 of an event, part of its ledger key."""
        return self.times[index] // HOUR_MS

    def nanos(self, index: int) -> dict[str, int]:
        """What one event gives to each meter."""
        for columns in self.resolved:
            if index in columns.at:
                number = columns.at.index(index)
                return {meter: values[number] for meter, values in columns.quantities.items()}
        return {}

    def voids(self) -> dict[int, Target]:
        """What the voids among them name, by index."""
        return {
            at: target_in({name: values[number] for name, values in columns.dimensions.items()})
            for columns in self.resolved
            if self.types[columns.at[0]] == VOID
            for number, at in enumerate(columns.at)
        }

    def take(self, indexes: Sequence[int]) -> Entries:
        """Only those at `indexes`, which rise."""
        if len(indexes) == len(self):
            return self
        new = {old: number for number, old in enumerate(indexes)}
        resolved = [kept for columns in self.resolved if (kept := columns.take(new)).at]
        attributes = [[values[index] for index in indexes] for values in self._attributes()]
        return Entries(*attributes, *[resolved])

    @classmethod
    def joined(cls, pieces: Sequence[Entries]) -> Entries:
        """All of `pieces`, one after the other; those with the same columns side by side."""
        if len(pieces) == 1:
            return pieces[0]
        attributes = [list(chain.from_iterable(same)) for same in zip(*(p._attributes() for p in pieces), strict=True)]
        alike: dict[tuple[str, ...], list[Columns]] = {}
        first = 0
        for piece in pieces:
            for columns in piece.resolved:
                moved = columns.moved(first)
                alike.setdefault((piece.types[columns.at[0]], *columns.names()), []).append(moved)
            first += len(piece)
        return cls(*attributes, *[[Columns.joined(same) for same in alike.values()]])

    def _attributes(self) -> tuple[Sequence[Any], ...]:
        return self.lines, self.times, self.sources, self.ids, self.types, self.subjects, self.raws, self.digests


class Frame(msgspec.Struct, gc=False):
    """A decoded record. `clock` is the partition clock after it; every event is an entry or dead.

    Who may void is known only of frames `from_gateway`: others bear no key and no scope.
    """

    offset: int
    tenant: str
    clock: int
    received: int
    checksum: int
    catalog_version: int = 0
    entries: Entries = Entries()
    dead: Sequence[Dead] = ()
    closing: bool = False
    from_gateway: bool = False

    @property
    def events(self) -> int:
        """How many events the record holds; one that can't be read at all counts as one."""
        return len(self.entries) + len(self.dead)


class MissingCatalog(Exception):
    """The frame was validated by a catalog version that this process has not seen yet: refresh and decode again."""

    def __init__(self, version: int) -> None:
        super().__init__(f"catalog version {version}")
        self.version = version


Catalogs = Callable[[int | None, int], CompiledCatalog]
"""(version from the header or None, record timestamp) → catalog. Raises MissingCatalog."""


def decode(record: Record, clock: int, partition: int, partitions: int, catalogs: Catalogs) -> Frame:
    """Decode one record of `partition` with the partition clock at `clock` before it. Raises MissingCatalog only."""
    clock = max(clock, record.timestamp)
    tenant = (record.key or b"").decode("utf-8", "backslashreplace")
    check = checksum(record.key, record.value, record.timestamp)
    frame = Frame(record.offset, tenant, clock, record.timestamp, check)
    try:
        header = read_headers(record.headers)
    except ValueError as error:
        return _dead(frame, record, "invalid-headers", str(error))
    if header.closing:
        frame.closing = True
        return frame
    if not TENANT_NAME.fullmatch(tenant):
        return _dead(frame, record, "invalid-key", "the record's key must be the name of its tenant")
    if partition_of(tenant, partitions) != partition:
        return _dead(
            frame, record, "wrong-partition", f"{tenant} lives on partition {partition_of(tenant, partitions)}"
        )
    if not record.value:
        return _dead(frame, record, "empty", "a record holds at least one event")
    lines = _lines(record.value, header)
    if len(lines) > MAX_FRAME_EVENTS or len(lines) > MAX_INDEX:
        return _dead(frame, record, "too-many-events", f"a record holds at most {MAX_FRAME_EVENTS} events")
    catalog = catalogs(header.catalog_version, record.timestamp)
    frame.catalog_version = catalog.version
    if header.received is not None:
        frame.received = header.received
    raws, broken = (lines, {}) if header.count is not None else _compacted(lines)
    frame.from_gateway = header.count is not None
    pieces, frame.dead = _judge(raws, broken, 0, frame, catalog)
    frame.entries = Entries.joined(pieces) if pieces else Entries()
    return frame


def _lines(value: bytes, header: FrameHeader) -> list[bytes]:
    """The events of a value. A foreign producer may send one event over several lines."""
    if header.count is None:
        try:
            return [compact(value)]
        except InvalidEvent:
            value = value.rstrip(b"\r\n")
    return value.split(b"\n")


def _compacted(lines: list[bytes]) -> tuple[list[bytes], dict[int, Dead]]:
    """What a foreign producer wrote in compact form, and what is no JSON at all by its line."""
    raws, broken = [], {}
    for number, line in enumerate(lines):
        try:
            raws.append(compact(line))
        except InvalidEvent as error:
            raws.append(line)
            broken[number] = Dead(number, error.code, error.detail, line)
    return raws, broken


def _judge(
    raws: list[bytes], broken: Mapping[int, Dead], first: int, frame: Frame, catalog: CompiledCatalog
) -> tuple[list[Entries], list[Dead]]:
    """All at once where they are usual, else by tenths down to the ones that are not. `first`: line of the first."""
    if len(raws) > 1:
        if first not in broken and (entries := _usual(raws, first, frame, catalog)) is not None:
            return [entries], []
        pieces: list[Entries] = []
        dead: list[Dead] = []
        size = -(-len(raws) // 10)
        for start in range(0, len(raws), size):
            more, also_dead = _judge(raws[start : start + size], broken, first + start, frame, catalog)
            pieces += more
            dead += also_dead
        return pieces, dead
    if first in broken:
        return [], [broken[first]]
    try:
        return [entry(first, raws[0], frame, catalog)], []
    except InvalidEvent as error:
        return [], [Dead(first, error.code, error.detail, raws[0])]


def _usual(raws: list[bytes], first: int, frame: Frame, catalog: CompiledCatalog) -> Entries | None:
    events = parse_usual(raws, WRITER_LIMITS)
    if events is None or not {None, frame.tenant}.issuperset(events.tenants):
        return None
    if any(type.startswith(RESERVED_TYPES) for type in set(events.types)):
        return None
    times = [frame.received if time is None else time for time in events.times]
    if min(times) < 0 or max(times) > frame.clock + WRITER_AHEAD_MS:
        return None
    resolved = catalog.resolve_usual(events)
    if resolved is None:
        return None
    marks = digests(frame.tenant, events.sources, events.ids)
    lines = range(first, first + len(raws))
    return Entries(lines, times, events.sources, events.ids, events.types, events.subjects, raws, marks, resolved)


def entry(line: int, raw: bytes, frame: Frame, catalog: CompiledCatalog) -> Entries:
    """One event of a frame with a closer look, as the writer resolves it. Raises InvalidEvent."""
    event = parse(raw, WRITER_LIMITS)
    if event.tenant is not None and event.tenant != frame.tenant:
        raise InvalidEvent("tenant-mismatch", f"the event says {event.tenant!r}, the record's key {frame.tenant!r}")
    if event.type == VOID and frame.from_gateway:
        resolved = Resolved({}, {}, dimensions(target_of(event)))
    elif event.type.startswith(RESERVED_TYPES):
        raise InvalidEvent("reserved-type", f"{event.type} is not understood by this version, or not from a producer")
    else:
        resolved = catalog.resolve(event)
    reservation = event.attribute(reservations.ATTRIBUTE)
    time = frame.received if event.time is None else event.time
    check_time(time, frame.clock, WRITER_AHEAD_MS, None)
    return Entries(
        [line],
        [time],
        [event.source],
        [event.id],
        [event.type],
        [event.subject],
        [raw],
        digests(frame.tenant, [event.source], [event.id]),
        [Columns.of_one(0, resolved, reservation if type(reservation) is str else None)],
    )


def _dead(frame: Frame, record: Record, reason: str, detail: str) -> Frame:
    frame.dead = [Dead(WHOLE_RECORD, reason, detail, record.value or b"")]
    return frame
