"""A replay of a stretch of one partition's log, beside the writers; what it leaves is found by the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from metering.clock import HOUR_MS
from metering.errors import Halt, Unavailable
from metering.rollup import HourWindow
from streams.control import ControlPlane
from streams.dedupe import Window
from streams.reconcile import Stores, Stretch
from streams.repair import Newest, apply
from streams.replay import PartitionReplay
from streams.shadow import Difference
from streams.state import PartitionState
from tenancy.epochs import Epoch
from tests.machine import check
from tests.machine.blocks import Row
from tests.machine.control_twin import CatalogsTwin, Plane, SubscriptionsTwin
from tests.machine.gate import Gate
from tests.machine.interpreter import BUCKET_MS
from tests.machine.ledger_twin import LedgerTwin, Table, Tables, in_stretch
from tests.machine.log_twin import Log, LogTwin
from tests.machine.redis_twin import RedisStore, RedisTwin
from tests.machine.stepped import Stepped

_PAUSE_SECONDS = 1.0


class Kept(NamedTuple):
    """What a replay that is gone leaves in ClickHouse."""

    tables: Tables
    touched: set[HourWindow]


class ShadowTwin:
    """streams/shadow.py in memory."""

    def __init__(self, ledger: Tables, kept: Kept, gate: Gate, at: tuple[int, int]) -> None:
        self._ledger = ledger
        self._kept = kept
        self._gate = gate
        self._at = at

    async def _ask(self, name: str, effect: Callable[[], Any]) -> Any:
        return await self._gate.through(f"ledger {name}", effect, lambda: Unavailable("ClickHouse: gone"))

    async def differences(self, first: int, last: int) -> dict[str, Difference]:
        """By table, the rows themselves instead of their keys."""

        def effect() -> dict[str, Difference]:
            found: dict[str, Difference] = {}
            there, here = (in_stretch(tables, self._at, first, last) for tables in (self._ledger, self._kept.tables))
            for table, rows in here.items():
                found[table] = Difference(
                    [(row,) for key, row in rows.items() if there[table].get(key) != row],
                    [(row,) for key, row in there[table].items() if rows.get(key) != row],
                )
            return found

        return await self._ask("shadow differences", effect)  # type: ignore[no-any-return]

    async def touched(self, differences: dict[str, Difference], first: int, last: int) -> set[HourWindow]:
        """Of the rows that are missing."""
        rows = [row for table in ("events", "voids") for (row,) in differences[table].missing]
        return {HourWindow(row["tenant"], row["time"] // HOUR_MS) for row in rows}

    async def remember(self, windows: set[HourWindow]) -> set[HourWindow]:
        """They stay with the shadow."""

        def effect() -> set[HourWindow]:
            self._kept.touched.update(windows)
            return set(self._kept.touched)

        return await self._ask("shadow remember", effect)  # type: ignore[no-any-return]

    async def apply(self, differences: dict[str, Difference], first: int, last: int) -> None:
        """Table by table."""
        tables: Sequence[Table] = ("events", "voids", "dead", "frames")
        for table in tables:
            if missing := [row for (row,) in differences[table].missing]:

                def effect(table: Table = table, rows: list[Row] = missing) -> None:
                    self._ledger.insert(table, rows)

                await self._ask(f"shadow apply {table}", effect)


class Rollups:
    """The machine keeps none."""

    async def compute_anew(self, windows: Sequence[HourWindow], revision: int) -> None:
        """Nothing to do."""


class Replayer(Stepped):
    """What streams/operation.py does for `tallygate replay`. `batch`: records at once."""

    def __init__(
        self,
        at: tuple[int, int],
        stretch: Stretch,
        batch: int,
        applies: bool,
        kept: Kept,
        stores: tuple[RedisStore, Tables, Log, Plane],
        world: check.Compared,
    ) -> None:
        super().__init__(at)
        redis, self._tables, log, plane = stores
        self._stretch = stretch
        self._applies = applies
        self._kept = kept
        self._world = world
        self._clock = world.now_ms
        self._halted: str | None = None
        epochs = list(plane.epochs)
        client: Any = RedisTwin(redis, self.gate)
        views: tuple[Any, Any] = (CatalogsTwin(plane), SubscriptionsTwin(plane))
        log_twin: Any = LogTwin(log, self.gate, batch)
        ledger: Any = self._ledger(self._tables, at, self._epoch(epochs, at[0]).partitions)
        rollups: Any = Rollups()
        self._stores = Stores(
            *at,
            self._epoch(epochs, at[0]).partitions,
            log_twin,
            ledger,
            None,
            rollups,
            ControlPlane(*views, world),
            Window(BUCKET_MS),
            [one for one in epochs if one.epoch < at[0]],
        )
        newest = epochs[-1]
        self._newest = Newest(
            newest,
            lambda partition: PartitionState(client, newest.epoch, partition),
            lambda partition: self._ledger(self._tables, (newest.epoch, partition), newest.partitions),
        )
        self.run(self._carry_out())

    @staticmethod
    def _epoch(epochs: Sequence[Epoch], number: int) -> Epoch:
        return next(one for one in epochs if one.epoch == number)

    def _ledger(self, tables: Tables, at: tuple[int, int], partitions: int) -> Any:
        return LedgerTwin(tables, self.gate, self._clock, at, partitions)

    async def _carry_out(self) -> None:
        shadow: Any = ShadowTwin(self._tables, self._kept, self.gate, self.at)
        beside = self._ledger(self._kept.tables, self.at, self._stores.partitions)
        while True:
            try:
                replay = PartitionReplay(self._stores, beside)
                await replay.run(*self._stretch, self._told)
                differences = await shadow.differences(*self._stretch)
                await replay.confirm(*self._stretch)
                check.replayed(self._world, self._kept.tables, self.at, self._stretch)
                surplus = {table: one.surplus for table, one in differences.items() if one.surplus}
                assert not surplus, f"the same records were decided otherwise: {surplus}"
                if self._applies:
                    generation = self._tables.generation
                    await apply(self._stores, shadow, differences, self._stretch, self._newest)
                    if generation == self._tables.generation:
                        check.replayed(self._world, self._tables, self.at, self._stretch)
                self._kept.tables.keep([])
                self._kept.touched.clear()
                return
            except Unavailable:
                await asyncio.sleep(_PAUSE_SECONDS)
            except Halt as halt:
                self._halted = str(halt)
                return

    async def _told(self, offset: int) -> None:
        return

    @property
    def halted(self) -> str | None:
        """Why it can't be done."""
        return self._halted

    @property
    def idle(self) -> bool:
        """Whether it is done."""
        return self.task.done()
