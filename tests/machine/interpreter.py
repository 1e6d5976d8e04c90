"""What a log means: read one event after the other, everything kept for ever in dictionaries (ledger.md).

It knows no batches, digests, horizons, counters or crashes, and imports nothing that decides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from zlib import crc32

from metering.clock import DAY_MS, HOUR_MS, MINUTE_MS
from metering.errors import InvalidEvent
from metering.event import WRITER_LIMITS, UsageEvent, compact, parse
from metering.frame import read_headers
from metering.meter import CompiledCatalog, Resolved
from metering.partition import partition_of
from metering.void import target_of

BUCKET_MS = 6 * HOUR_MS
LEAD_MS = 10 * MINUTE_MS
WAIT_MS = 35 * DAY_MS + LEAD_MS
Position = tuple[int, int, int, int]
Name = tuple[str, str, str]
"""(tenant, source, id)"""


class Row(NamedTuple):
    """A counted event, or one that was voided on arrival."""

    at: Position
    name: Name
    type: str
    time: int
    clock: int
    given: Resolved
    voided: bool


class Account(NamedTuple):
    """What became of a record."""

    events: int
    counted: int
    duplicates: int
    voided: int
    dead: int
    voids: int
    hours: list[int]
    checksum: int
    clock: int
    closing: bool


class Wait(NamedTuple):
    """A void at `at` takes what bears `name` (in `hour`, None: any) until the clock stands at `until`."""

    at: Position
    name: Name
    hour: int | None
    until: int


class Interpreter:
    """Reads records in the order of the log; `catalogs`: (version or None, timestamp) → catalog."""

    def __init__(self, catalogs: Callable[[int | None, int], CompiledCatalog]) -> None:
        self._catalogs = catalogs
        self.rows: dict[tuple[Name, int], Row] = {}  # by name and hour
        self._latest: dict[Name, Row] = {}
        self.waits: list[Wait] = []
        self.taken: dict[Position, list[Position]] = {}  # row → the voids that took it back
        self.dead: dict[Position, str] = {}
        self.accounts: dict[tuple[int, int, int], Account] = {}
        self._clocks: dict[tuple[int, int], int] = {}
        self._closed: dict[tuple[int, int], int] = {}

    def begins(self, epoch: int) -> int:
        """The clock with which the partitions of an epoch begin: where the epochs before were closed."""
        return max((clock for (before, _), clock in self._closed.items() if before < epoch), default=0)

    def read(self, epoch: int, partition: int, partitions: int, record: Any) -> None:
        """One record (offset, timestamp, key, value, headers)."""
        slot = (epoch, partition)
        clock = self._clocks[slot] = max(self._clocks.get(slot, self.begins(epoch)), record.timestamp)
        tenant = (record.key or b"").decode()
        check = crc32(record.value, crc32(b"%d:%b\0" % (record.timestamp, record.key or b"")))
        at = (epoch, partition, record.offset)
        header = read_headers(record.headers)
        if header.closing or slot in self._closed:
            closing = header.closing and slot not in self._closed
            self.accounts[at] = Account(0, 0, 0, 0, 0, 0, [], check, clock, closing)
            self._closed.setdefault(slot, clock)
            return
        if partition_of(tenant, partitions) != partition:
            self.dead[(*at, -1)] = "wrong-partition"
            self.accounts[at] = Account(1, 0, 0, 0, 1, 0, [], check, clock, False)
            return
        catalog = self._catalogs(header.catalog_version, record.timestamp)
        received = record.timestamp if header.received is None else header.received
        counts = {"counted": 0, "duplicate": 0, "voided": 0, "dead": 0}
        hours: set[int] = set()
        voids = 0
        lines = record.value.split(b"\n")
        for line, raw in enumerate(lines):
            here = (*at, line)
            try:
                event, given = _valid(raw, tenant, catalog, header.count is not None)
                time = received if event.time is None else event.time
                if not 0 <= time <= clock + LEAD_MS:
                    raise InvalidEvent("time-out-of-range", "")
                became, touched = self._judge(here, (tenant, event.source, event.id), event, time, clock, given)
            except InvalidEvent as error:
                self.dead[here] = error.code
                became, touched = "dead", []
            counts[became] += 1
            hours |= {row.time // HOUR_MS for row in touched}
            voids += len(touched)
            if became == "counted":
                hours.add(time // HOUR_MS)
        became_of = counts["counted"], counts["duplicate"], counts["voided"], counts["dead"]
        self.accounts[at] = Account(len(lines), *became_of, voids, sorted(hours), check, clock, False)

    def _judge(
        self, at: Position, name: Name, event: UsageEvent, time: int, clock: int, given: Resolved
    ) -> tuple[str, Sequence[Row]]:
        """What becomes of a valid event, and the rows that it takes back. Raises InvalidEvent."""
        hour, last = time // HOUR_MS, self._latest.get(name)
        if (name, hour) in self.rows or (last and clock // BUCKET_MS - last.clock // BUCKET_MS < 5):
            return "duplicate", []
        touched: list[Row] = []
        waited = False
        if event.type == "tallygate.void":
            target = target_of(event)
            aim = (name[0], target.source, target.id)
            below = [row for (named, its), row in self.rows.items() if named == aim and target.hour in (None, its)]
            if any(row.type == "tallygate.void" for row in below):
                raise InvalidEvent("void-of-a-void", "")
            touched = [row for row in below if not row.voided and row.at not in self.taken]
            if len(touched) > 1 and target.hour is None:
                raise InvalidEvent("ambiguous-void", "")
            for row in touched:
                self.taken.setdefault(row.at, []).append(at)
            self.waits.append(Wait(at, aim, target.hour, clock + WAIT_MS))
        else:
            waited = any(w.name == name and w.hour in (None, hour) and clock < w.until for w in self.waits)
        row = Row(at, name, event.type, time, clock, given, waited)
        self.rows[name, hour] = self._latest[name] = row
        return "voided" if waited else "counted", touched


def _valid(raw: bytes, tenant: str, catalog: CompiledCatalog, from_gateway: bool) -> tuple[UsageEvent, Resolved]:
    """An event and what it gives. Raises InvalidEvent."""
    event = parse(raw if from_gateway else compact(raw), WRITER_LIMITS)
    if event.tenant not in (None, tenant):
        raise InvalidEvent("tenant-mismatch", "")
    if event.type == "tallygate.void" and from_gateway:
        target_of(event)
        return event, Resolved({}, {}, {})
    if event.type.startswith("tallygate."):
        raise InvalidEvent("reserved-type", "")
    return event, catalog.resolve(event)
