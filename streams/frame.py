"""Step 1 of a batch: decode a record, judge each event, resolve its quantities, compute its digest. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from metering.catalog import TENANT_NAME
from metering.clock import HOUR_MS
from metering.errors import InvalidEvent
from metering.event import (
    RESERVED_TYPES,
    WRITER_AHEAD_MS,
    WRITER_LIMITS,
    UsageEvent,
    check_time,
    compact,
    parse,
)
from metering.frame import MAX_FRAME_EVENTS, FrameHeader, Headers, checksum, read_headers
from metering.identity import digest
from metering.meter import CompiledCatalog, Resolved
from metering.partition import partition_of
from metering.position import MAX_INDEX

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


class Entry(msgspec.Struct, gc=False):
    """One valid event of a frame. `time` is the received time where the sender gave none."""

    line: int
    time: int
    event: UsageEvent
    raw: bytes
    resolved: Resolved
    digest: bytes

    @property
    def hour(self) -> int:
        """Hours since 1970, part of the ledger's key."""
        return self.time // HOUR_MS


class Frame(msgspec.Struct, gc=False):
    """A decoded record. `clock` is the partition clock after it; every event is an entry or dead."""

    offset: int
    tenant: str
    clock: int
    received: int
    checksum: int
    catalog_version: int
    entries: list[Entry]
    dead: list[Dead]
    closing: bool = False


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
    frame = Frame(record.offset, tenant, clock, record.timestamp, check, 0, [], [])
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
    trusted = header.count is not None
    for number, line in enumerate(lines):
        try:
            frame.entries.append(_entry(number, line if trusted else compact(line), frame, catalog))
        except InvalidEvent as error:
            frame.dead.append(Dead(number, error.code, error.detail, line))
    return frame


def _lines(value: bytes, header: FrameHeader) -> list[bytes]:
    """The events of a value. A foreign producer may send one event over several lines."""
    if header.count is None:
        try:
            return [compact(value)]
        except InvalidEvent:
            value = value.rstrip(b"\r\n")
    return value.split(b"\n")


def _entry(line: int, raw: bytes, frame: Frame, catalog: CompiledCatalog) -> Entry:
    event = parse(raw, WRITER_LIMITS)
    if event.tenant is not None and event.tenant != frame.tenant:
        raise InvalidEvent("tenant-mismatch", f"the event says {event.tenant!r}, the record's key {frame.tenant!r}")
    if event.type.startswith(RESERVED_TYPES):
        raise InvalidEvent("reserved-type", f"{event.type} is not understood by this version")
    time = frame.received if event.time is None else event.time
    if not 0 <= time <= frame.clock:
        check_time(time, frame.clock, WRITER_AHEAD_MS, None)
    return Entry(line, time, event, raw, catalog.resolve(event), digest(frame.tenant, event.source, event.id))


def _dead(frame: Frame, record: Record, reason: str, detail: str) -> Frame:
    frame.dead.append(Dead(WHOLE_RECORD, reason, detail, record.value or b""))
    return frame
