"""ClickHouse in memory: the ledger's tables, and the questions of streams/clickhouse/queries/*.sql asked of them.

Each insert stands by itself: it may be there or be lost, alone or with those after it. Rows with one key stay side by
side until a merge; only FINAL sees the one that wins. tests/machine/test_twins.py holds all this against chDB.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple, TypeVar

from metering import quantity
from metering.clock import HOUR_MS, MINUTE_MS
from metering.errors import Unavailable
from metering.partition import partition_of
from streams.dedupe import LedgerKey
from streams.ledger import CounterRow, FrameRow
from streams.voids import Name, NamedRow
from tests.machine.blocks import Row, rows_of
from tests.machine.gate import Gate

T = TypeVar("T")
Table = Literal["events", "voids", "dead", "frames", "marks"]
Place = tuple[int, int, int]
"""(epoch, offset, line) out of a version."""

UNSAFE_MS = 10 * MINUTE_MS
"""What was written this lately may not be on the disk yet (set_mark.sql counts on it)."""


class Insert(NamedTuple):
    """One block that arrived, at the wall clock `at` in ms."""

    table: Table
    rows: list[Row]
    at: int


class Tables:
    """What the server holds. `now`: its wall clock in ms."""

    def __init__(self, now: Callable[[], int]) -> None:
        self._now = now
        self.inserts: list[Insert] = []
        self.generation = 0
        """How many times it came back as something else."""
        self._forget()

    def _forget(self) -> None:
        self.events: dict[LedgerKey, dict[int, Row]] = {}
        self.voids: dict[tuple[str, int, int], Row] = {}
        self.dead: dict[tuple[int, int, int, int, str], Row] = {}
        self.frames: dict[tuple[int, int, int], Row] = {}
        self.marks: dict[tuple[int, int], int] = {}

    def insert(self, table: Table, rows: list[Row]) -> None:
        """A block arrives."""
        self.inserts.append(Insert(table, rows, self._now()))
        self._take(self.inserts[-1])

    def keep(self, inserts: Iterable[Insert]) -> None:
        """Only these are there: an older copy, or what a power cut left."""
        self.inserts = list(inserts)
        self.generation += 1
        self._forget()
        for insert in self.inserts:
            self._take(insert)

    def merge(self) -> None:
        """Of rows with one key only the winner stays."""
        for key, versions in self.events.items():
            self.events[key] = {max(versions): versions[max(versions)]}
        for row in self.frames.values():
            row["first"] = row["written"]

    def _take(self, insert: Insert) -> None:
        for row in insert.rows:
            if insert.table == "events":
                key = (row["tenant"], row["time"] // HOUR_MS, row["source"], row["id"])
                self.events.setdefault(key, {})[row["version"]] = row
            elif insert.table == "voids":
                self.voids[row["tenant"], row["target"], row["version"]] = row
            elif insert.table == "dead":
                self.dead[row["epoch"], row["partition"], row["offset"], row["line"], row["reason"]] = row
            elif insert.table == "frames":
                at = (row["epoch"], row["partition"], row["offset"])
                first = self.frames[at]["first"] if at in self.frames else insert.at
                self.frames[at] = {**row, "written": insert.at, "first": first}
            else:
                slot = (row["epoch"], row["partition"])
                self.marks[slot] = max(self.marks.get(slot, -1), row["offset"])

    def final(self) -> Iterable[Row]:
        """usage_events FINAL: the earliest position of each key."""
        for versions in self.events.values():
            yield versions[max(versions)]

    def prefix(self, epoch: int, partition: int, mark: int) -> int:
        """prefix.sql, as the offset at its end."""
        rows: dict[int, set[int]] = {}
        for versions in self.events.values():
            for version, row in versions.items():
                at, offset, line = place(version)
                if at == epoch and row["partition"] == partition and offset > mark:
                    rows.setdefault(offset, set()).add(line)
        taken: dict[int, int] = {}
        for (_, _, version), row in self.voids.items():
            at, offset, _ = place(version)
            if at == epoch and row["partition"] == partition:
                taken[offset] = taken.get(offset, 0) + 1
        while frame := self.frames.get((epoch, partition, mark + 1)):
            if frame["counted"] + frame["voided"] != len(rows.get(mark + 1, ())):
                break
            if frame["voids"] != taken.get(mark + 1, 0):
                break
            mark += 1
        return mark


def in_stretch(tables: Tables, at: tuple[int, int], first: int, last: int) -> dict[Table, dict[Any, Row]]:
    """By table and key, what stands in the ledger for the records `first` to `last` of a partition."""

    def inside(partition: int, version: int) -> bool:
        epoch, offset, _ = place(version)
        return (epoch, partition) == at and first <= offset <= last

    return {
        "events": {
            (row["tenant"], row["version"]): row for row in tables.final() if inside(row["partition"], row["version"])
        },
        "voids": {key: row for key, row in tables.voids.items() if inside(row["partition"], key[2])},
        "dead": {key: row for key, row in tables.dead.items() if key[:2] == at and first <= key[2] <= last},
        "frames": {
            key: {name: value for name, value in row.items() if name not in ("written", "first")}
            for key, row in tables.frames.items()
            if key[:2] == at and first <= key[2] <= last
        },
    }


def place(version: int) -> Place:
    """The position in a version (metering/position.py)."""
    position = ~version & (1 << 64) - 1
    return position >> 50, position >> 14 & (1 << 36) - 1, position & (1 << 14) - 1


class LedgerTwin:
    """What the writer of a partition has of it: the methods of streams/ledger.py."""

    def __init__(
        self, tables: Tables, gate: Gate, now: Callable[[], int], at: tuple[int, int], partitions: int
    ) -> None:
        self.tables = tables
        self._gate = gate
        self._now = now
        self.at, self.partitions = at, partitions
        self._epoch, self._partition = at

    async def _ask(self, name: str, effect: Callable[[], T]) -> T:
        return await self._gate.through(f"ledger {name}", effect, _away)

    async def _insert(self, table: Table, blocks: Sequence[bytes]) -> None:
        for block in blocks:
            arrives = partial(self.tables.insert, table, rows_of(block))
            await self._gate.through(f"ledger insert {table}", arrives, _away)

    async def insert_events(self, blocks: Sequence[bytes]) -> None:
        """One insert for each month."""
        await self._insert("events", blocks)

    async def insert_voids(self, blocks: Sequence[bytes]) -> None:
        """What voids took back."""
        await self._insert("voids", blocks)

    async def insert_dead(self, blocks: Sequence[bytes]) -> None:
        """Dead letters."""
        await self._insert("dead", blocks)

    async def insert_frames(self, blocks: Sequence[bytes]) -> None:
        """The accounts of records."""
        await self._insert("frames", blocks)

    def _frames(self, after: int, upto: int) -> list[Row]:
        """The accounts of this partition's records after `after` up to `upto`."""
        at = (self._epoch, self._partition)
        return [row for key, row in self.tables.frames.items() if key[:2] == at and after < key[2] <= upto]

    def _upto(self, version: int, upto: int) -> bool:
        epoch, offset, _ = place(version)
        return epoch < self._epoch or (epoch == self._epoch and offset <= upto)

    def _mine(self, tenant: str) -> bool:
        return partition_of(tenant, self.partitions) == self._partition

    async def mark(self) -> int:
        """mark.sql."""

        def effect() -> int:
            mark = self.tables.marks.get((self._epoch, self._partition), -1)
            return mark if len(self._frames(-1, mark)) == mark + 1 else -1

        return await self._ask("mark", effect)

    async def set_mark(self, upto: int) -> None:
        """set_mark.sql."""

        def effect() -> None:
            old = [row["offset"] for row in self._frames(-1, upto) if row["first"] <= self._now() - UNSAFE_MS]
            if old:
                row = {"epoch": self._epoch, "partition": self._partition, "offset": max(old)}
                self.tables.insert("marks", [row])

        await self._ask("set_mark", effect)

    async def prefix(self, mark: int) -> int:
        """prefix.sql."""
        return await self._ask("prefix", lambda: self.tables.prefix(self._epoch, self._partition, mark))

    async def accounted(self, mark: int, upto: int) -> int:
        """frames_between.sql."""
        return await self._ask("accounted", lambda: len(self._frames(mark, upto)))

    async def frame_at(self, offset: int) -> FrameRow | None:
        """frame_at.sql."""

        def effect() -> FrameRow | None:
            row = self.tables.frames.get((self._epoch, self._partition, offset))
            return FrameRow(row["checksum"], row["clock"], bool(row["closing"])) if row else None

        return await self._ask("frame_at", effect)

    async def head(self) -> int:
        """reconcile_head.sql."""
        return await self._ask("head", lambda: max((row["offset"] for row in self._frames(-1, 1 << 40)), default=-1))

    async def taken_back(self) -> set[tuple[str, int]]:
        """taken_back.sql."""

        def effect() -> set[tuple[str, int]]:
            return {
                (tenant, target)
                for (tenant, target, version), row in self.tables.voids.items()
                if (place(version)[0], row["partition"]) == self.at
            }

        return await self._ask("taken_back", effect)

    async def closing_at(self) -> int:
        """closing_at.sql."""

        def effect() -> int:
            return min((row["offset"] for row in self._frames(-1, 1 << 40) if row["closing"]), default=-1)

        return await self._ask("closing_at", effect)

    async def closed_partitions(self, epoch: int) -> int:
        """closed_partitions.sql."""

        def effect() -> int:
            rows = self.tables.frames.values()
            return len({row["partition"] for row in rows if row["epoch"] == epoch and row["closing"]})

        return await self._ask("closed_partitions", effect)

    async def late_rows(
        self, wanted: Iterable[LedgerKey], mark: int, upto: int
    ) -> tuple[dict[LedgerKey, tuple[int, int]], bool]:
        """late_rows.sql."""

        def effect() -> tuple[dict[LedgerKey, tuple[int, int]], bool]:
            found = {}
            for key in wanted:
                if versions := self.tables.events.get(key):
                    epoch, offset, line = place(max(versions))
                    if epoch <= self._epoch:
                        found[key] = (offset, line) if epoch == self._epoch else (-1, 0)
            return found, len(self._frames(mark, upto)) == upto - mark

        return await self._ask("late_rows", effect)

    async def named_rows(self, names: Iterable[Name], mark: int, upto: int) -> tuple[dict[Name, list[NamedRow]], bool]:
        """named_rows.sql."""

        def effect() -> tuple[dict[Name, list[NamedRow]], bool]:
            found: dict[Name, list[NamedRow]] = {name: [] for name in names}
            gone = {(tenant, target) for tenant, target, version in self.tables.voids if self._upto(version, upto)}
            for row in self.tables.final():
                name, version = (row["tenant"], row["source"], row["id"]), row["version"]
                if name in found and self._upto(version, upto):
                    epoch, offset, line = place(version)
                    at = (offset, line) if epoch == self._epoch else (-1, 0)
                    standing = not row["voided"] and (row["tenant"], version) not in gone
                    named = NamedRow(*at, version, row["type"], row["time"], row["quantities"], standing)
                    found[name].append(named)
            return found, len(self._frames(mark, upto)) == upto - mark

        return await self._ask("named_rows", effect)

    async def voids_since(self, oldest: int, upto: int) -> list[tuple[str, int, dict[str, str]]]:
        """rebuild_voids.sql."""

        def effect() -> list[tuple[str, int, dict[str, str]]]:
            return [
                (row["tenant"], row["clock"], row["dimensions"])
                for row in self.tables.final()
                if row["type"] == "tallygate.void" and self._mine(row["tenant"])
                if self._upto(row["version"], upto) and row["clock"] >= oldest
            ]

        return await self._ask("voids_since", effect)

    async def rows_match_frames(self, upto: int) -> bool:
        """rebuild_count.sql."""

        def effect() -> bool:
            tables = self.tables
            closed = self._closed()

            def inside(epoch: int, partition: int, offset: int) -> bool:
                if epoch < self._epoch:
                    return offset <= closed.get((epoch, partition), offset)
                return (epoch, partition) == (self._epoch, self._partition) and offset <= upto

            places = {
                (epoch, row["partition"], offset, line)
                for versions in tables.events.values()
                for version, row in versions.items()
                for epoch, offset, line in [place(version)]
            }
            rows = sum(inside(*at[:3]) for at in places)
            rows += sum(
                inside(place(key[2])[0], row["partition"], place(key[2])[1]) for key, row in tables.voids.items()
            )
            accounted = [row for key, row in tables.frames.items() if inside(*key)]
            return bool(rows == sum(row["counted"] + row["voided"] + row["voids"] for row in accounted))

        return await self._ask("rows_match_frames", effect)

    async def clock_before_epoch(self) -> int:
        """rebuild_clock.sql."""

        def effect() -> int:
            closed = self._closed()
            return max(
                (
                    int(row["clock"])
                    for (epoch, partition, offset), row in self.tables.frames.items()
                    if epoch < self._epoch and offset <= closed.get((epoch, partition), offset)
                ),
                default=0,
            )

        return await self._ask("clock_before_epoch", effect)

    def _closed(self) -> dict[tuple[int, int], int]:
        """(epoch, partition) → offset of its closing frame."""
        closed: dict[tuple[int, int], int] = {}
        for (epoch, partition, offset), row in self.tables.frames.items():
            if row["closing"]:
                closed[epoch, partition] = min(offset, closed.get((epoch, partition), offset))
        return closed

    async def digests_since(self, oldest: int, upto: int) -> AsyncIterator[Sequence[tuple[str, str, str, int]]]:
        """rebuild_digests.sql, in one block."""

        def effect() -> list[tuple[str, str, str, int]]:
            return [
                (row["tenant"], row["source"], row["id"], row["clock"])
                for row in self.tables.final()
                if self._mine(row["tenant"]) and self._upto(row["version"], upto) and row["clock"] >= oldest
            ]

        yield await self._ask("digests_since", effect)

    async def counters(
        self,
        start: int,
        end: int,
        upto: int,
        meters: Sequence[str],
        unique: Sequence[str],
        tenants: Sequence[str],
        cap: int,
    ) -> list[CounterRow]:
        """rebuild_counters.sql."""

        def effect() -> list[CounterRow]:
            gone = {(tenant, target) for tenant, target, version in self.tables.voids if self._upto(version, upto)}
            groups: dict[tuple[str, str], list[Row]] = {}
            for row in self.tables.final():
                tenant, version = row["tenant"], row["version"]
                if not self._upto(version, upto) or row["voided"] or not start <= row["time"] < end:
                    continue
                if (tenants and tenant not in tenants) or not self._mine(tenant) or (tenant, version) in gone:
                    continue
                for meter in row["quantities"]:
                    if meter in meters:
                        groups.setdefault((tenant, meter), []).append(row)
            return [_counter_row(tenant, meter, rows, meter in unique) for (tenant, meter), rows in groups.items()]

        return await self._ask("counters", effect)


def _counter_row(tenant: str, meter: str, rows: Sequence[Row], unique: bool) -> CounterRow:
    nanos = [row["quantities"][meter] for row in rows]
    last = max(rows, key=lambda row: (row["time"], -row["version"]))
    epoch, offset, line = place(last["version"])
    text = quantity.render
    latest = (text(last["quantities"][meter]), last["time"], epoch, last["partition"], offset, line)
    values = sorted({row["uniques"].get(meter, "") for row in rows}) if unique else []
    return CounterRow(tenant, meter, text(sum(nanos)), len(rows), text(min(nanos)), text(max(nanos)), latest, values)


def _away() -> Exception:
    return Unavailable("ClickHouse: gone")
