"""All there is in a schedule: engines, backups, processes, and an interpreter who reads the log beside them."""

from __future__ import annotations

from typing import Any

from metering import frame as frames_of
from metering import keys
from metering.clock import MINUTE_MS
from metering.meter import CompiledCatalog
from metering.partition import partition_of
from streams.frame import Record
from streams.reconcile import Stretch
from tenancy.epochs import Epoch
from tests.machine import check
from tests.machine.catalogs import VERSIONS
from tests.machine.control_twin import Plane
from tests.machine.gate import Outcome
from tests.machine.interpreter import Interpreter
from tests.machine.ledger_twin import UNSAFE_MS, Insert, Tables
from tests.machine.log_twin import Log
from tests.machine.process import Process
from tests.machine.redis_twin import RedisStore, Value
from tests.machine.replayer import Kept, Replayer
from tests.machine.senders import Sent
from tests.machine.stepped import Stepped

BEGIN = 1_795_428_000_000
TENANTS = ("acme", "bolt", "coda")
_STEPS_TO_THE_END = 4000


class GivenUp(Exception):
    """A partition of an epoch before halted, rightly: its end is lost, and what follows is not compared."""


class World:
    """One schedule's. `now_ms` makes it the clock of every process."""

    def __init__(self, partitions: int) -> None:
        self.now = BEGIN
        self.redis = RedisStore()
        self.tables = Tables(self.now_ms)
        self.plane = Plane(VERSIONS[0])
        self.logs: dict[tuple[int, int], Log] = {}
        self.interpreter = Interpreter(self._catalog)
        self.processes: list[Process] = []
        self.replays: list[Replayer] = []
        self._shadows: dict[tuple[Any, ...], Kept] = {}
        self.sent: list[Sent] = []
        self.redis_copy: dict[bytes, Value] = {}
        self.ledger_copies: list[int] = [0]
        self.went_back = False  # ClickHouse has lost what Redis may know
        self.lost_letters: set[tuple[int, int, int, int, str]] = set()
        self.begin_epoch(partitions)

    def now_ms(self) -> int:
        """The wall clock."""
        return self.now

    def _catalog(self, version: int | None, timestamp: int) -> CompiledCatalog:
        if version is None:
            return self.plane.current(timestamp)
        return next(compiled for _, compiled in self.plane.catalogs if compiled.version == version)

    # Log

    def begin_epoch(self, partitions: int) -> None:
        """`tallygate migrate`: the next epoch, and closing frames in the one before."""
        old = self.plane.epochs[-1] if self.plane.epochs else None
        number = old.epoch + 1 if old else 1
        if old:
            self.plane.epochs[-1] = Epoch(old.epoch, old.partitions, "closing")
            for partition in range(old.partitions):
                self.append(old.epoch, partition, b"", b"", tuple(frames_of.CLOSING_HEADERS))
        self.plane.epochs.append(Epoch(number, partitions, "open"))
        for partition in range(partitions):
            self.logs[number, partition] = Log()

    def append(self, epoch: int, partition: int, key: bytes, value: bytes, headers: Any) -> Record:
        """The broker takes a record; the interpreter reads it."""
        self.now += 7
        log = self.logs[epoch, partition]
        record = Record(log.end, self.now, key, value, headers)
        log.append(record)
        self.interpreter.read(epoch, partition, self.partitions(epoch), record)
        return record

    def partitions(self, epoch: int) -> int:
        """How many an epoch has."""
        return next(one.partitions for one in self.plane.epochs if one.epoch == epoch)

    def send(self, tenant: str, events: list[bytes], gateway: bool, stale: bool, astray: bool) -> None:
        """A frame of a gateway, or records of a foreign producer. `stale`: to the epoch before; `astray`: to a
        partition where the tenant does not live, if there is one."""
        epochs = self.plane.epochs
        epoch = epochs[-2] if stale and len(epochs) > 1 else epochs[-1]
        partition = (partition_of(tenant, epoch.partitions) + astray) % epoch.partitions
        if gateway:
            headers = frames_of.headers(len(events), self.plane.current(self.now).version, self.now - 30)
            self.append(epoch.epoch, partition, tenant.encode(), b"\n".join(events), tuple(headers))
            return
        for event in events:
            self.append(epoch.epoch, partition, tenant.encode(), event, ())

    # Engines

    def applied(self, at: tuple[int, int]) -> int | None:
        """A, as Redis has it."""
        text = self.redis.hash(keys.applied(*at).encode()).get(b"offset")
        return None if text is None else int(text)

    def prefix(self, at: tuple[int, int]) -> int:
        """P, counted from the beginning."""
        return self.tables.prefix(*at, -1)

    def older_ledger(self, inserts: list[Insert], torn: bool) -> None:
        """ClickHouse comes back with these only. `torn`: some came after others that are lost.

        Then, and where a writer is amid its inserts, frames may be there without their rows, which only recovery looks
        for: such writers notice by their broken connections (docs/status.md).
        """
        for process in self.processes:
            amid_inserts = process.gate.call.startswith(("ledger insert", "effect 3"))
            process.cut_off = process.cut_off or torn or amid_inserts
        letters = set(self.tables.dead)
        self.tables.keep(inserts)
        for kept in self._shadows.values():
            kept.tables.keep([])
            kept.touched.clear()
        # P proves the rows of events and voids, not those of dead letters: reconciliation does.
        self.lost_letters |= letters - set(self.tables.dead)
        self.went_back = True

    def power_cut(self, lost: list[int]) -> None:
        """ClickHouse loses some of its last inserts, none that are old enough to be on the disk."""
        inserts = self.tables.inserts
        gone = {len(inserts) - 1 - back for back in lost}
        kept = [one for n, one in enumerate(inserts) if n not in gone or one.at <= self.now - UNSAFE_MS]
        self.older_ledger(kept, torn=True)

    # Processes

    def start(self, at: tuple[int, int], batch: int) -> Process:
        """One more, whatever else runs."""
        stores = (self.redis, self.tables, self.logs[at], self.plane)
        process = Process(at, self.partitions(at[0]), batch, stores, self, self.append)
        self.processes.append(process)
        return process

    def replay(self, at: tuple[int, int], stretch: Stretch, batch: int, applies: bool) -> None:
        """Decide a stretch once more, or go on with one that was broken off."""
        stores = (self.redis, self.tables, self.logs[at], self.plane)
        kept = self._shadows.setdefault((at, stretch), Kept(Tables(self.now_ms), set()))
        self.replays.append(Replayer(at, stretch, batch, applies, kept, stores, self))

    async def step(self, process: Stepped, outcome: Outcome = "done") -> str:
        """Let a process make one call, and look at what it did."""
        call = await process.step(outcome)
        self.now += 1
        if isinstance(process, Replayer):
            assert not process.halted or self.went_back or self.logs[process.at].start, process.halted
            return call
        assert isinstance(process, Process)
        if call == "EVALSHA" and not self.went_back:
            check.state(self, process.at)
        if process.halted:
            check.halt(self, process)
            if process.at[0] != self.plane.epochs[-1].epoch:
                raise GivenUp
        return call

    async def _once_more(self, at: tuple[int, int]) -> None:
        """What the log still has is decided once more, in batches of another size."""
        log = self.logs[at]
        if log.start < log.end:
            self.replay(at, Stretch(log.start, log.end - 1), 2, applies=True)
            (replay,) = self.replays
            while await self.step(replay):
                assert not replay.halted, replay.halted
            await self.kill(replay)

    def running(self) -> list[Stepped]:
        """Writers and replays."""
        return [*self.processes, *self.replays]

    async def kill(self, process: Stepped) -> None:
        """It is gone."""
        running: list[Any] = self.replays if isinstance(process, Replayer) else self.processes
        running.remove(process)
        await process.kill()

    async def finish(self) -> bool:
        """All quiet down; a last writer of each partition runs to the log's end. False when one halted, rightly."""
        for running in self.running():
            await self.kill(running)
        self.now += MINUTE_MS  # the newest catalog is in effect by now
        ended = True
        for at in sorted(self.logs):
            process = self.start(at, 3)
            for _ in range(_STEPS_TO_THE_END):
                call = await self.step(process)
                if process.halted or (call == "read" and process.idle):
                    break
            else:
                raise AssertionError(f"the last writer of {at} does not come to the log's end: {process.gate.call}")
            if process.halted:
                ended = False
                break
            await self.kill(process)
            await self._once_more(at)
        for process in list(self.processes):
            await self.kill(process)
        return ended
