"""What a gate knows, in a file: after a restart it answers at once, and says from when its knowledge is.

The file is a line of JSON (`_Head`) and, after it, tenants in chunks of MessagePack. They are never put together to one
text: while megabytes are copied no check is answered.

A file that can't be read is as good as none: the gate then begins with nothing, as it does the first time.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Sequence
from pathlib import Path

import msgspec
import structlog

from enforcement.mirror import Epoch, Mirror, Tenant
from metering.errors import TallygateError
from metering.period import BillingTerm
from metering.reservation import Hold

_log = structlog.get_logger(__name__)
_SECONDS = 5.0
_AT_ONCE = 100
"""Tenants that are encoded without a pause: some tenths of a millisecond, for checks wait meanwhile."""
_PAUSE_SECONDS = 0.01
"""Between them: checks that had to wait are answered, and none of them waits twice."""
_FORMAT = 4


class _Partition(msgspec.Struct, array_like=True, frozen=True):
    applied: int
    sequence: str
    fresh: int


class _Tenant(msgspec.Struct, array_like=True, frozen=True):
    name: str
    text: bytes | None
    counters: dict[str, str] | None
    terms: tuple[BillingTerm, ...]
    version: int
    holds: dict[str, Hold]


class _Head(msgspec.Struct, frozen=True):
    """`chunks`: how many bytes each of them is."""

    format: int
    epoch: tuple[int, int]
    partitions: list[_Partition]
    plans_fresh: int
    chunks: list[int]


_chunk = msgspec.msgpack.Decoder(list[_Tenant])


def _row(name: str, its: Tenant) -> _Tenant:
    return _Tenant(name, its.text, its.counters, its.terms, its.version, its.holds.all())


class WarmStart:
    """Keeps `mirror` in the file at `path`, mode 0600."""

    def __init__(self, mirror: Mirror, path: Path) -> None:
        self._mirror = mirror
        self._path = path
        self._saves = 0
        self._writing = threading.Lock()

    def load(self) -> int:
        """Fill the mirror with what was kept; how many tenants that are."""
        try:
            with self._path.open("rb") as file:
                kept = msgspec.json.decode(file.readline(), type=_Head)
                if kept.format != _FORMAT:
                    raise ValueError(f"format {kept.format}")
                tenants = [tenant for size in kept.chunks for tenant in _chunk.decode(file.read(size))]
            self._fill(kept, tenants)
        except FileNotFoundError:
            return 0
        except (OSError, ValueError, TallygateError) as error:
            _log.warning("what the gate knew can't be read", path=str(self._path), reason=str(error))
            return 0
        return len(tenants)

    def _fill(self, kept: _Head, tenants: list[_Tenant]) -> None:
        mirror = self._mirror
        mirror.move(Epoch(*kept.epoch))
        for partition, its in zip(mirror.partitions, kept.partitions, strict=True):
            partition.applied, partition.sequence, partition.fresh = its.applied, its.sequence, its.fresh
        mirror.plans_fresh = kept.plans_fresh
        for tenant in tenants:
            known = mirror.plan(tenant.name, tenant.text)
            if tenant.counters is not None:
                known.read(tenant.counters, tenant.terms, tenant.version)
            known.holds.keep(tenant.holds)

    async def run(self) -> None:
        """Save now and then, until cancelled."""
        while True:
            await asyncio.sleep(_SECONDS)
            try:
                await self.save(_PAUSE_SECONDS)
            except OSError as error:
                _log.warning("what the gate knows can't be kept", path=str(self._path), reason=str(error))

    async def save(self, pause: float = 0) -> None:
        """Write the file anew, with pauses (seconds) for others. What changes while that lasts may be in it or not:
        positions are taken first, so that it counts as missed. Raises OSError."""
        mirror = self._mirror
        if mirror.epoch is None:
            return
        partitions = [_Partition(one.applied, one.sequence, one.fresh) for one in mirror.partitions]
        epoch, fresh = (mirror.epoch.number, mirror.epoch.partitions), mirror.plans_fresh
        names, chunks = list(mirror.tenants), []
        for first in range(0, len(names), _AT_ONCE):
            some = [(name, mirror.tenants.get(name)) for name in names[first : first + _AT_ONCE]]
            rows = [_row(name, its) for name, its in some if its is not None]
            chunks.append(msgspec.msgpack.encode(rows))
            await asyncio.sleep(pause)
        head = msgspec.json.encode(_Head(_FORMAT, epoch, partitions, fresh, [len(chunk) for chunk in chunks]))
        self._saves += 1
        await asyncio.to_thread(self._write, self._saves, [head, b"\n", *chunks])

    def _write(self, number: int, parts: Sequence[bytes]) -> None:
        # A thread goes on when whoever waits for it is cancelled: it must not overtake the save of the end.
        with self._writing:
            if number == self._saves:
                self._write_now(parts)

    def _write_now(self, parts: Sequence[bytes]) -> None:
        beside = self._path.with_name(f"{self._path.name}.new")
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.writelines(parts)
        beside.replace(self._path)
