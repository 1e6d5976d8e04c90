"""The one writer of a partition. A batch goes through five numbered steps; a crash after any of them loses nothing.

Decisions are a function of the log prefix alone, so a crash, a zombie or a second writer can only write the same rows
again, and step 4 lets one of them through (ledger.md).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from secrets import token_hex
from types import MappingProxyType
from typing import Any, TypeVar

import structlog

from metering.errors import Halt, Unavailable
from metering.feed import FeedMessage
from metering.partition import partition_of
from metering.period import PERIOD_KINDS, Period, PeriodKind
from metering.reservation import COUNTED_MS
from streams import metrics
from streams.control import ControlPlane
from streams.counters import CounterCache
from streams.crossings import Outbox, Watch
from streams.dedupe import LedgerKey, Verdict, Window, decide, digests_by_bucket, late_keys
from streams.epochs import EpochTurn
from streams.frame import Entries, Frame, MissingCatalog, Record, decode
from streams.ledger import PartitionLedger
from streams.log import PartitionLog
from streams.rebuild import count_anew, counter_rows, set_counter
from streams.recovery import Recovered, Recovery
from streams.rows import EventRows, dead_blocks, event_blocks, event_rows, frame_blocks, verdict_rows, void_blocks
from streams.settings import Settings
from streams.state import Applied, Operation, PartitionState, voids_of
from streams.tally import Counting, counted_holds, take_back, tally
from streams.vitals import Vitals
from streams.voids import Name, NamedRow, VoidIndex, Voids, merged, named_in

_log = structlog.get_logger(__name__)

T = TypeVar("T")

Probe = Callable[[str], Awaitable[None]]
"""Called after each effect with its number; tests stop or kill the writer there."""

_BACKOFF_SECONDS = (0.1, 0.2, 0.5, 1.0, 2.0)
_READ_MS = 500
_TURN_SECONDS = 0.2
_COMPARED_AT_ONCE = 500
_UNTOLD_SECONDS = 10.0
CLOCKS_DIFFER_MS = 500
"""By which the broker's clock may go ahead of Redis' while a backlog is worked off."""
_LEDGER_CHECK_EVERY = 10
"""In looks at Redis: the ledger can only be older after somebody put it back, and asking it costs more."""


async def no_probe(effect: str) -> None:
    """What runs in production."""


class Moved(Exception):
    """The state or the ledger isn't where this writer left it: recover."""


class PartitionWriter:
    """Owns one partition of one epoch from its assignment until `stop`."""

    def __init__(
        self,
        epoch: int,
        partition: int,
        partitions: int,
        log: PartitionLog,
        state: PartitionState,
        ledger: PartitionLedger,
        control: ControlPlane,
        turn: EpochTurn,
        outbox: Outbox,
        settings: Settings,
        probe: Probe = no_probe,
    ) -> None:
        self.epoch = epoch
        self.partition = partition
        self._partitions = partitions
        self._log = log
        self._state = state
        self._ledger = ledger
        self._control = control
        self._turn = turn
        self._outbox = outbox
        self._untold = True
        self._tell_again = 0.0
        self._uncompared: set[str] = set()
        self._sequence = ""
        self._settings = settings
        self._probe = probe
        self._window = Window(settings.bucket_ms)
        self._cache = CounterCache()
        self._recovery = Recovery(epoch, partition, partitions, log, state, ledger, control, self._window)
        self._stopping = asyncio.Event()
        self._waiting: asyncio.Task[Any] | None = None
        self._recount: set[str] = set()
        self._asked: dict[str, asyncio.Future[None]] = {}
        self._applied = Applied(-1, 0, 0)
        self._counting = self._wanted()
        self._voids: VoidIndex = {}
        self._mark = -1
        self._closed_at = -1
        self._ahead = 0
        """How far the clock here goes ahead of that of Redis, by which holds end; ms, at most."""
        self._generation = -1
        self.vitals = Vitals()

    @property
    def applied_offset(self) -> int:
        """The last offset that this writer applied, -1 before the first."""
        return self._applied.offset

    def stop(self) -> None:
        """Finish the batch in flight, then return from `run`; a wait for records or a recovery is broken off.

        aiokafka keeps readers waiting while a rebalance is under way, and the rebalance waits for us.
        """
        self._stopping.set()
        if self._waiting is not None:
            self._waiting.cancel()

    def owns(self, tenant: str) -> bool:
        """Whether the tenant lives on this partition."""
        return partition_of(tenant, self._partitions) == self.partition

    def recount_tenant(self, tenant: str) -> None:
        """Its billing terms changed: count its counters anew from the ledger, between two batches."""
        self._recount.add(tenant)

    def count_tenant_anew(self, tenant: str) -> asyncio.Future[None]:
        """Count its open counters anew from the ledger, between two batches; cancelled if this writer stops first."""
        return self._asked.setdefault(tenant, asyncio.get_running_loop().create_future())

    def compare_tenant(self, tenant: str) -> None:
        """Its thresholds changed: look whether its counters have passed them already."""
        self._uncompared.add(tenant)

    async def run(self) -> None:
        """Work until stopped. Returns early only on Halt, which `vitals` goes on showing."""
        failures = 0
        try:
            while not self._stopping.is_set():
                try:
                    await self._serve()
                except Moved as moved:
                    _log.warning("recovering", epoch=self.epoch, partition=self.partition, reason=str(moved))
                    failures = 0
                    await self._pause(_BACKOFF_SECONDS[0])  # two that overtake each other must not spin
                except Unavailable as error:
                    self.vitals.trouble(str(error))
                    _log.warning("waiting", epoch=self.epoch, partition=self.partition, reason=str(error))
                    await self._pause(_BACKOFF_SECONDS[min(failures, len(_BACKOFF_SECONDS) - 1)])
                    failures += 1
        except Halt as halt:
            self.vitals.halt(str(halt))
            metrics.HALTS.inc()
            _log.error("halted", epoch=self.epoch, partition=self.partition, reason=str(halt))
            await self._close_when_given_up()
        finally:
            for asked in self._asked.values():
                asked.cancel()

    async def _close_when_given_up(self) -> None:
        """Halted: nothing more of this log can be counted. Once the operator has begun a new epoch, account for the
        end of this one in place of the closing frame that can't be read, so that the new one may begin."""
        while not self._stopping.is_set():
            try:
                if await self._turn.given_up():
                    if await self._ledger.closing_at() == -1:
                        end = await self._ledger.prefix(-1) + 1
                        closing = Frame(end, "", self._applied.clock, self._applied.clock, 0, closing=True)
                        blocks = frame_blocks([(closing, Verdict(Entries()))], self.epoch, self.partition)
                        await self._ledger.insert_frames(blocks)
                    _log.warning("closed after a halt", epoch=self.epoch, partition=self.partition)
                    self.vitals.closed()
                    return
            except Unavailable as error:
                _log.warning("waiting", epoch=self.epoch, partition=self.partition, reason=str(error))
            await self._pause(1.0)

    async def _serve(self) -> None:
        """Recover, then apply batches until something moves."""
        self._cache.clear()
        recovered = await self._unless_stopped(self._recover())
        if recovered is None:
            return
        self._applied, mark, self._closed_at = recovered
        self._mark = max(-1, min(mark, self._applied.offset - 1))
        found, self._voids = await self._state.voids()
        if found != self._applied:
            raise Moved(f"applied is {found}, not {self._applied}")
        await self._look_at_state()
        self._sequence = await self._state.sequence()
        self._log.seek(self._applied.offset + 1)
        await self._turn.announce()
        self.vitals.running()
        self._untold = True
        self._uncompared = self._watched()
        looks = 0
        while not self._stopping.is_set():
            records = await self._unless_stopped(self._log.read(self._settings.batch_records, _READ_MS))
            for batch in self._batches(records or ()):
                if self._control.generation != self._generation or self._asked:
                    await self._count_anew()
                await self._batch(batch)
                self.vitals.progress()
                if self._stopping.is_set():
                    return
            await self._compare()
            if (lag := self._log.lag()) is not None:
                self.vitals.lag = lag
            if self.vitals.look_due(self._settings.check_seconds):
                looks += 1
                await self._look(ledger_too=looks % _LEDGER_CHECK_EVERY == 0)

    async def _recover(self) -> Recovered:
        self.vitals.recovering("waiting for the epoch before")
        while not await self._turn.begun():  # noqa: ASYNC110 (the ledger tells, not this process)
            await asyncio.sleep(_TURN_SECONDS)
        self.vitals.recovering("reading where log, ledger and state stand")
        self._generation, self._counting = self._control.generation, self._wanted()
        self._recount.clear()
        return await self._recovery.run(self._counting, self.vitals)

    def _wanted(self) -> Counting:
        return self._control.counting(self.partition, self._partitions, self._window.bucket_ms)

    async def _unless_stopped(self, waiting: Coroutine[Any, Any, T]) -> T | None:
        """What `waiting` gives, None when `stop` broke it off. Only for what may be broken off anywhere."""
        if self._stopping.is_set():
            waiting.close()
            return None
        task: asyncio.Task[T] = asyncio.create_task(waiting)
        self._waiting = task
        try:
            return await task
        except asyncio.CancelledError:
            if self._stopping.is_set() and task.cancelled():
                return None
            raise
        finally:
            self._waiting = None

    def _batches(self, records: Sequence[Record]) -> list[list[Record]]:
        """Cut by bytes, so that a batch of large frames stays bounded too."""
        batches: list[list[Record]] = []
        size = self._settings.batch_bytes
        for record in records:
            if size >= self._settings.batch_bytes:
                batches.append([])
                size = 0
            batches[-1].append(record)
            size += len(record.value or b"")
        return batches

    async def _batch(self, records: Sequence[Record]) -> None:
        # 1. Decode and resolve. No effect yet; a crash here leaves nothing.
        steps = metrics.Steps()
        decoded = await self._decode(records)
        steps.done("decode")
        frames = [frame for frame, _ in decoded]
        first, last = frames[0], frames[-1]
        new = Applied(last.offset, last.checksum, last.clock)

        # 2. Ask, then decide. Reads only; a crash here leaves nothing.
        digests = [digest for frame in frames for digest in frame.entries.digests]
        answer = await self._state.ask(self._window.live(first.clock, last.clock), digests, last.clock)
        if answer.applied != self._applied:
            raise Moved(f"applied is {answer.applied}, not {self._applied}")
        late_rows: dict[LedgerKey, tuple[int, int]] = {}
        late = late_keys(frames, self._window)
        if late:
            late_rows, complete = await self._ledger.late_rows(late, self._mark, self._applied.offset)
            if not complete:
                raise Moved("the ledger lacks records that were applied")
        voids = Voids(self._voids, await self._named_rows(frames))
        judged = decide(frames, self._window, answer.digests, late_rows, voids)
        # What changed since the batch began waits for the next count: nothing is added to counters of another kind.
        meters, terms = self._counting.meters, self._counting.terms_of
        deltas = tally(judged, meters, terms, self.epoch, self.partition)
        uncounted = take_back(deltas, judged, meters, terms)
        watch = Watch(self._control, self._counting, last.clock)
        changes = await self._cache.prepare(deltas, uncounted, meters, self._state, self._applied, last.clock, watch)
        if changes is None:
            raise Moved("applied moved between two questions")
        steps.done("decide")
        await self._probe("2")

        # 3. Write the ledger: rows, what voids took back, dead letters, and last the frames that vouch for them. A
        # crash in between leaves rows that no frame vouches for; the next writer decides the same and writes them
        # again, and the keys make the repeats collapse.
        rows = [
            row
            for (frame, made), (_, verdict) in zip(decoded, judged, strict=True)
            for row in (
                made if verdict.counted is frame.entries else verdict_rows(frame, verdict, self.epoch, self.partition)
            )
        ]
        await self._ledger.insert_events(event_blocks(rows))
        await self._probe("3a")
        await self._ledger.insert_voids(void_blocks(judged, self.epoch, self.partition))
        await self._probe("3b")
        await self._ledger.insert_dead(dead_blocks(judged, self.epoch, self.partition))
        await self._probe("3c")
        await self._ledger.insert_frames(frame_blocks(judged, self.epoch, self.partition))
        steps.done("write")
        await self._probe("3d")

        # 4. Apply, fenced by `applied`. A crash before it leaves a ledger that is ahead: its rows are met again as
        # their own. A crash after it leaves a batch that is done.
        operations = self._state.drop(answer.expired)
        for bucket, marks in digests_by_bucket(judged, self._window, last.clock).items():
            operations += self._state.add_digests(bucket, marks, self._window.ends(bucket))
        operations += changes.operations(self._state)
        holds = counted_holds(judged, self._control.meters)
        operations += self._state.count_holds(holds, last.clock + COUNTED_MS)
        still_open = [one for one in uncounted if Period(one[1].start, one[1].end).is_open(last.clock)]
        sequence = self._sequence
        if still_open:
            operations += await count_anew(self._state, self._ledger, meters, still_open, last.offset)
            sequence = token_hex(8)
            operations.append(self._state.set_sequence(sequence))
        waiting = merged(self._voids, voids.added, last.clock)
        operations += self._state.set_voids(waiting)
        if not await self._state.apply(self._applied.offset, self._counting.fingerprint, new, operations):
            raise Moved("another writer applied this batch")
        self._cache.keep(changes, uncounted)
        for mark in voids_of(answer.expired):
            self._voids.pop(mark, None)
        self._voids |= waiting
        before, self._applied, self._sequence = self._applied, new, sequence
        self._untold = self._untold or bool(changes.crossed)
        self._uncompared.update(tenant for tenant, _ in still_open)
        steps.done("apply")
        await self._probe("4")

        # 5. Tell. A crash here leaves crossings in the outbox: whoever comes next tells them, again maybe.
        metrics.observe_batch(judged)
        await self._publish(before, changes.told(), {tenant: list(fields) for tenant, fields in holds.items()})
        await self._tell_crossings()
        await self._probe("5")

    def _watched(self) -> set[str]:
        return self._control.watched(self.partition, self._partitions)

    async def _compare(self) -> None:
        """Between batches: tell what counters have passed that are not seen on their way, some tenants at a time."""
        if not self._uncompared:
            return
        some = sorted(self._uncompared)[:_COMPARED_AT_ONCE]
        self._uncompared.difference_update(some)
        found, config, counters = await self._state.counters(some)
        if (found, config) != (self._applied, self._counting.fingerprint):
            raise Moved(f"applied is {found}, not {self._applied}, or counters are counted in another way")
        watch = Watch(self._control, self._counting, self._applied.clock)
        crossings = [one for tenant, own in zip(some, counters, strict=True) for one in watch.standing(tenant, own)]
        await self._state.push_now(crossings)
        self._untold = self._untold or bool(crossings)
        await self._tell_crossings()

    async def _publish(
        self,
        before: Applied,
        counters: dict[str, Sequence[str | None]],
        counted: Mapping[str, Sequence[str]] = MappingProxyType({}),
        held: int | None = None,
    ) -> None:
        offset, _, clock = self._applied
        message = FeedMessage(
            before.offset, offset, clock, self._vouched(), self._sequence, counters, dict(counted), held
        )
        await self._state.publish(message)

    def _vouched(self) -> int:
        """Everything that was accepted before this instant (ms UTC) is in the counters: when the broker was last asked
        and had no more, by Redis' clock; or when it took the last record that was applied, by its own, of which is
        known only that it is kept right. What comes behind a closing frame is counted in the next epoch: nobody here
        can say when."""
        if self._closed_at >= 0:
            return 0
        caught_up = self._log.caught_up(self._applied.offset)
        until = self._applied.clock - CLOCKS_DIFFER_MS if caught_up is None else caught_up - self._ahead
        return max(0, min(until, self._control.now() - self._ahead))

    async def _tell_crossings(self) -> None:
        """Empty the outbox into Kafka. What Kafka does not take now waits there, and batches do not."""
        if not self._untold or time.monotonic() < self._tell_again:
            return
        try:
            told = await self._outbox.send()
            await self._probe("5a")
            await self._outbox.remove(told)
            self._untold = False
        except Unavailable as away:
            self._tell_again = time.monotonic() + _UNTOLD_SECONDS
            _log.warning("crossings wait", epoch=self.epoch, partition=self.partition, reason=str(away))

    async def _decode(self, records: Sequence[Record]) -> list[tuple[Frame, list[EventRows]]]:
        """The frames, with the rows they make if every event is counted, as nearly always: while a frame's values are
        in the processor's cache that costs half."""
        decoded: list[tuple[Frame, list[EventRows]]] = []
        clock = self._applied.clock
        for record in records:
            if self._closed_at >= 0:
                frame = await self._turn.move_on(record, clock)
            else:
                frame = await self._decode_one(record, clock)
                if frame.closing:
                    self._closed_at = frame.offset
            decoded.append((frame, event_rows(frame, frame.entries, self.epoch, self.partition)))
            clock = frame.clock
            # A large batch must not keep the health endpoint or the heartbeat waiting.
            if len(decoded) % 32 == 0:
                await asyncio.sleep(0)
        return decoded

    async def _decode_one(self, record: Record, clock: int) -> Frame:
        while True:
            try:
                return decode(record, clock, self.partition, self._partitions, self._control.catalog)
            except MissingCatalog as missing:
                if not await self._control.fetch(missing.version):
                    raise Unavailable(f"waiting for catalog version {missing.version}") from missing

    async def _named_rows(self, frames: Sequence[Frame]) -> dict[Name, list[NamedRow]]:
        """The rows that voids of this batch name, of the batches before."""
        names = named_in(frames)
        if not names:
            return {}
        rows, complete = await self._ledger.named_rows(names, self._mark, self._applied.offset)
        if not complete:
            raise Moved("the ledger lacks records that were applied")
        return rows

    async def _look_at_state(self) -> int:
        """Where it stands, and what time it is there; the number of the last change of a hold. Raises Moved."""
        found, held, redis_time = await self._state.look()
        self._ahead = max(0, self._control.now() - redis_time)
        if found != self._applied:
            raise Moved(f"applied is {found}, not {self._applied}")
        return held

    async def _look(self, ledger_too: bool) -> None:
        """Between batches: is the state still where it was left, is the ledger, do the counters count the right way?"""
        held = await self._look_at_state()
        if ledger_too:
            upto = self._applied.offset
            if await self._ledger.accounted(self._mark, upto) != upto - self._mark:
                raise Moved("the ledger lacks records that were applied")
            self._mark = max(-1, upto - 1)  # an older copy lacks the last record: go on asking for it
        if self._control.generation != self._generation or self._asked:
            await self._count_anew()
        await self._publish(self._applied, {}, held=held)
        await self._tell_crossings()
        self.vitals.progress()

    async def _count_anew(self) -> None:
        """Billing terms or the counted meters changed, or somebody asks for it: replace the counters concerned by what
        the ledger gives.

        Between two batches, so that none adds to a counter that does not exist yet; fenced like a batch that applies no
        record. What changes meanwhile is another change: the next call counts it.
        """
        generation, counting, tenants = self._control.generation, self._wanted(), sorted(self._recount)
        self._recount = set()
        asked = dict(self._asked)
        if counting.fingerprint == self._counting.fingerprint and not asked:
            self._generation = generation  # it concerns other partitions
            return
        operations: list[Operation] = []
        everyone = counting.meters.of != self._counting.meters.of
        if everyone:
            operations += self._state.drop(await self._state.counter_names(None))
            operations += await self._counters(counting)
        else:
            for tenant in tenants:
                names = await self._state.counter_names(tenant)
                operations += self._state.drop([name for name in names if b":billing:" in name])
            operations += await self._counters(counting, tenants, ("billing",))
            for tenant in asked:
                operations += self._state.drop(await self._state.counter_names(tenant))
            operations += await self._counters(counting, list(asked))
        sequence = token_hex(8)
        counted = {*counting.terms, *tenants} if everyone else {*tenants, *asked}
        operations += [*self._state.set_counting(counting, sorted(counted)), self._state.set_sequence(sequence)]
        self._cache.clear()
        if not await self._state.apply(self._applied.offset, self._counting.fingerprint, self._applied, operations):
            raise Moved("another writer applied a batch")
        self._generation, self._counting, self._sequence = generation, counting, sequence
        self._uncompared.update(self._watched() if everyone else (*tenants, *asked))
        for tenant, done in asked.items():
            self._asked.pop(tenant, None)
            if not done.done():
                done.set_result(None)

    async def _counters(
        self, counting: Counting, only: Sequence[str] | None = None, kinds: Sequence[PeriodKind] = PERIOD_KINDS
    ) -> list[Operation]:
        """Operations that set every open counter, or those of some tenants and period kinds, from the ledger."""
        operations: list[Operation] = []
        async for kind, period, rows in counter_rows(
            self._ledger, counting, self._applied.clock, self._applied.offset, only, kinds
        ):
            operations += [one for row in rows for one in set_counter(self._state, row, counting.meters, kind, period)]
        return operations

    async def _pause(self, seconds: float) -> None:
        """Wait, but not when told to stop."""
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return
