"""Replay: a stretch of the log is decided once more, by the writer's own rules, into shadow tables beside the ledger.

Below the stretch the ledger is taken as it stands. From there on nothing is trusted: what a replay knows, it has
read from the log itself. Whoever goes on with a replay that was broken off finds in the shadow how far it had come.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from metering.errors import Halt, Unavailable
from streams.dedupe import Judged, LedgerKey, decide, digests_by_bucket, late_keys
from streams.epochs import left_behind
from streams.frame import Frame, MissingCatalog, Record, decode
from streams.ledger import PartitionLedger
from streams.rebuild import digest_blocks, void_index
from streams.reconcile import Stores
from streams.rows import dead_blocks, event_blocks, frame_blocks, verdict_rows, void_blocks
from streams.state import Applied
from streams.voids import Name, NamedRow, VoidIndex, Voids, merged, named_in

_AT_ONCE = 300
_READ_MS = 5_000
_SHADOW_LACKS = "the shadow lacks records that were written to it"

Told = Callable[[int], Awaitable[None]]
"""Called with the offset up to which the replay has come."""


class PartitionReplay:
    """Decides records of one partition again. Digests are held in memory: about 100 bytes for each in the window."""

    def __init__(self, stores: Stores, shadow: PartitionLedger) -> None:
        assert stores.log is not None
        self._stores = stores
        self._log = stores.log
        self._base = stores.ledger
        self._shadow = shadow
        self._window = stores.window
        self._name = f"epoch {stores.epoch} partition {stores.partition}"
        self._first = 0
        self._reached = -1
        self._clock = 0
        self._closed_at = -1
        self._digests: dict[int, set[bytes]] = {}
        self._voids: VoidIndex = {}
        self._taken_back: set[tuple[str, int]] = set()

    async def run(self, first: int, last: int, told: Told) -> None:
        """Decide the records `first` to `last` and write what comes of them to the shadow.

        Raises Halt when the log no longer has them or the ledger lacks something below them, Unavailable when something
        does not answer: then call it again.
        """
        start = await self._log.start()
        if first < start:
            raise Halt(
                f"{self._name}: the log begins at offset {start}, and offset {first} would have to be read again. "
                "Nothing was changed; put back a copy of ClickHouse that has it."
            )
        await self._whole_below(first)
        await self._begin(first)
        self._log.seek(self._reached + 1)
        while self._reached < last:
            records = await self._log.read(min(_AT_ONCE, last - self._reached), _READ_MS)
            if records:
                await self._batch(records)
                await told(self._reached)
            elif await self._ends_before(last):
                raise Halt(
                    f"{self._name}: the log ends before offset {last}, which the ledger has. The broker lost data or "
                    "the topic was made anew; nothing was changed."
                )

    async def confirm(self, first: int, last: int) -> None:
        """To be asked after shadow and ledger were compared: ClickHouse may have come back without some of either.

        Nobody else writes to the shadow, so what is all there now was there before. Raises like `run`.
        """
        await self._whole_below(first)
        if await self._shadow.prefix(first - 1) < last:
            raise Unavailable(_SHADOW_LACKS)

    async def _whole_below(self, first: int) -> None:
        """Where a row is missing below the stretch, its repeats in the stretch would be counted."""
        whole = await self._base.prefix(await self._base.mark()) >= first - 1
        for epoch in self._stores.before:
            whole = whole and await self._base.closed_partitions(epoch.epoch) >= epoch.partitions
        if not whole or not await self._base.rows_match_frames(first - 1):
            raise Halt(
                f"{self._name}: the ledger is not whole below offset {first}. Nothing was changed; "
                "`tallygate reconcile --repair` mends it from where it is broken."
            )

    async def _ends_before(self, last: int) -> bool:
        ends = await self._log.record_at(last) is None
        self._log.seek(self._reached + 1)
        return ends

    async def _begin(self, first: int) -> None:
        """State as it stood behind the last record that is decided already."""
        self._first = first
        before = await self._applied(self._base, first - 1)
        self._reached, self._clock = first - 1, before.clock
        reached = await self._shadow.prefix(first - 1)
        if reached >= first:
            self._reached, self._clock = reached, (await self._applied(self._shadow, reached)).clock
        for ledger, upto in ((self._base, first - 1), (self._shadow, self._reached)):
            async for buckets in digest_blocks(ledger, self._window, self._clock, upto):
                for bucket, digests in buckets.items():
                    self._digests.setdefault(bucket, set()).update(digests)
            for mark, hours in (await void_index(ledger, self._clock, upto)).items():
                self._voids[mark] = self._voids.get(mark, {}) | hours
        self._taken_back = await self._shadow.taken_back()
        closed_at = await self._base.closing_at()
        self._closed_at = closed_at if 0 <= closed_at < first else await self._shadow.closing_at()

    async def _applied(self, ledger: PartitionLedger, offset: int) -> Applied:
        if offset == -1:
            return Applied(-1, 0, await ledger.clock_before_epoch())
        frame = await ledger.frame_at(offset)
        if frame is None:
            raise Unavailable(f"{self._name}: no frame at offset {offset}")
        return Applied(offset, frame.checksum, frame.clock)

    async def _batch(self, records: Sequence[Record]) -> None:
        frames = await self._decode(records)
        last = frames[-1]
        late = late_keys(frames, self._window)
        late_rows = await self._late_rows(late) if late else {}
        voids = Voids(self._voids, await self._named_rows(frames))
        judged = decide(frames, self._window, self._known(frames), late_rows, voids)
        await self._write(judged)
        for bucket, digests in digests_by_bucket(judged, self._window, last.clock).items():
            self._digests.setdefault(bucket, set()).update(digests)
        for bucket in [bucket for bucket in self._digests if bucket < self._window.oldest(last.clock)]:
            del self._digests[bucket]
        self._voids |= merged(self._voids, voids.added, last.clock)
        self._taken_back |= {
            (frame.tenant, voiding.row.version)
            for frame, verdict in judged
            for voiding in verdict.voidings
            if voiding.row.version is not None
        }
        self._reached, self._clock = last.offset, last.clock

    async def _decode(self, records: Sequence[Record]) -> list[Frame]:
        frames: list[Frame] = []
        clock = self._clock
        for record in records:
            if self._closed_at >= 0:
                frame = left_behind(record, clock)
            else:
                frame = await self._decode_one(record, clock)
                if frame.closing:
                    self._closed_at = frame.offset
            frames.append(frame)
            clock = frame.clock
        return frames

    async def _decode_one(self, record: Record, clock: int) -> Frame:
        stores = self._stores
        while True:
            try:
                return decode(record, clock, stores.partition, stores.partitions, stores.control.catalog)
            except MissingCatalog as missing:
                if not await stores.control.fetch(missing.version):
                    raise Unavailable(f"waiting for catalog version {missing.version}") from missing

    def _known(self, frames: Sequence[Frame]) -> list[tuple[int, list[int]]]:
        digests = [digest for frame in frames for digest in frame.entries.digests]
        return [
            (bucket, [int(digest in there) for digest in digests])
            for bucket in self._window.live(frames[0].clock, frames[-1].clock)
            if (there := self._digests.get(bucket))
        ]

    async def _late_rows(self, late: set[LedgerKey]) -> dict[LedgerKey, tuple[int, int]]:
        """A row of the shadow says less than one of the ledger below: the earliest stands."""
        above, complete = await self._shadow.late_rows(late, self._first - 1, self._reached)
        if not complete:
            raise Unavailable(_SHADOW_LACKS)
        below, _ = await self._base.late_rows(late, self._first - 1, self._first - 1)
        return above | {key: at for key, at in below.items() if at < (self._first, 0)}

    async def _named_rows(self, frames: Sequence[Frame]) -> dict[Name, list[NamedRow]]:
        names = named_in(frames)
        if not names:
            return {}
        below, _ = await self._base.named_rows(names, self._first - 1, self._first - 1)
        above, complete = await self._shadow.named_rows(names, self._first - 1, self._reached)
        if not complete:
            raise Unavailable(_SHADOW_LACKS)
        return {
            name: [
                row._replace(standing=row.standing and (name[0], row.version) not in self._taken_back)
                for row in (*above[name], *below[name])
            ]
            for name in names
        }

    async def _write(self, judged: Sequence[Judged]) -> None:
        at = (self._stores.epoch, self._stores.partition)
        rows = [row for frame, verdict in judged for row in verdict_rows(frame, verdict, *at)]
        await self._shadow.insert_events(event_blocks(rows))
        await self._shadow.insert_voids(void_blocks(judged, *at))
        await self._shadow.insert_dead(dead_blocks(judged, *at))
        await self._shadow.insert_frames(frame_blocks(judged, *at))
