"""Records in the ledger as the writer leaves them: the rows of their events, and the frame that vouches for them."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from metering.clock import HOUR_MS, from_ms
from metering.position import version_of

_EVENTS = [
    *("tenant", "time", "source", "id", "type", "subject", "event", "received", "clock", "catalog_version"),
    *("quantities", "uniques", "dimensions", "voided", "partition", "version"),
]
_FRAMES = [
    *("epoch", "partition", "offset", "tenant", "events", "counted", "duplicates", "voided", "dead", "hours"),
    *("checksum", "clock", "closing"),
]


class Counted(NamedTuple):
    """An event that counts `quantity` to each of its meters, or that was voided on arrival. `time` in ms UTC."""

    id: str
    time: int
    meters: Sequence[str] = ("seconds",)
    quantity: Decimal = Decimal(1)
    value: str | None = None
    dimensions: dict[str, str] = {}  # noqa: RUF012 (never changed)
    subject: str = ""
    source: str = "/s"
    voided: bool = False


class Records:
    """Writes the records of one partition of one epoch, one after the other."""

    def __init__(self, client: Any, epoch: int = 1, partition: int = 0) -> None:
        self._client = client
        self.epoch, self.partition = epoch, partition
        self.offset = -1

    async def write(self, tenant: str, events: Sequence[Counted], clock: int) -> int:
        """Append a record with these events, the partition clock standing at `clock` (ms) after it; its offset."""
        self.offset += 1
        await self.rows(tenant, events, self.offset, clock)
        await self.frame(tenant, self.offset, clock, sorted({one.time // HOUR_MS for one in events}), len(events))
        return self.offset

    async def void(self, tenant: str, one: Counted, offset: int, clock: int) -> int:
        """Append a record with a void of the first event of record `offset`; its own offset."""
        self.offset += 1
        versions = [version_of(self.epoch, offset, 0), version_of(self.epoch, self.offset, 0)]
        row = [tenant, one.source, one.id, from_ms(one.time), from_ms(clock), self.partition, *versions]
        columns = ["tenant", "source", "id", "time", "clock", "partition", "target", "version"]
        await self._client.insert("usage_voids", [row], column_names=columns)
        await self.frame(tenant, self.offset, clock, [one.time // HOUR_MS])
        return self.offset

    async def rows(self, tenant: str, events: Sequence[Counted], offset: int, clock: int) -> None:
        """Only the rows of a record."""
        at = from_ms(clock)
        for line, one in enumerate(events):
            row = [tenant, from_ms(one.time), one.source, one.id, "call", one.subject, "{}", at, at, 1]
            quantities = dict.fromkeys(one.meters, one.quantity)
            uniques = {} if one.value is None else dict.fromkeys(one.meters, one.value)
            row += [quantities, uniques, one.dimensions, int(one.voided), self.partition]
            row += [version_of(self.epoch, offset, line)]
            await self._client.insert("usage_events", [row], column_names=_EVENTS)

    async def frame(self, tenant: str, offset: int, clock: int, hours: Sequence[int], counted: int = 0) -> None:
        """Only the frame of a record."""
        row = [self.epoch, self.partition, offset, tenant, counted, counted, 0, 0, 0, list(hours), 7, from_ms(clock), 0]
        await self._client.insert("usage_frames", [row], column_names=_FRAMES)
