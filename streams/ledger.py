"""The ledger in ClickHouse: inserts of step 3, and the questions that step 2 and recovery ask."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable, Sequence
from importlib import resources
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import clickhouse_connect

from metering import quantity
from metering.position import MAX_INDEX, version_of
from metering.rollup import HourWindow
from streams.dedupe import LedgerKey
from streams.inserts import Inserts, translated
from streams.voids import Name, NamedRow

_QUERIES = resources.files("streams").joinpath("clickhouse/queries")
_LATE_AT_ONCE = 5000
TIMEOUT_SECONDS = 15


async def connect(address: str, timeout_seconds: int = TIMEOUT_SECONDS) -> Any:
    """An async client for `http://host:port`. Raises Unavailable."""
    url = urlsplit(address)
    async with translated():
        return await clickhouse_connect.get_async_client(
            host=url.hostname,
            port=url.port or 8123,
            username=url.username or "default",
            password=url.password or "",
            database=url.path.strip("/") or "default",
            autogenerate_session_id=False,
            form_encode_query_params=True,
            compress=False,
            connect_timeout=5,
            send_receive_timeout=timeout_seconds,
            connector_limit=64,
            connector_limit_per_host=64,
        )


async def migrate(client: Any) -> None:
    """Apply the numbered migrations that are not yet applied. Safe to repeat."""
    async with translated():
        await client.command(
            "CREATE TABLE IF NOT EXISTS schema_migrations (name String, applied DateTime DEFAULT now()) "
            "ENGINE = ReplacingMergeTree ORDER BY name"
        )
        done = {row[0] for row in (await client.query("SELECT name FROM schema_migrations FINAL")).result_rows}
        folder = resources.files("streams").joinpath("clickhouse/migrations")
        for file in sorted(folder.iterdir(), key=lambda entry: entry.name):
            if not file.name.endswith(".sql") or file.name in done:
                continue
            for statement in re.sub(r"--[^\n]*", "", file.read_text()).split(";"):
                if statement.strip():
                    await client.command(statement)
            await client.command("INSERT INTO schema_migrations (name) VALUES ({name:String})", {"name": file.name})


class FrameRow(NamedTuple):
    """What the ledger remembers of a record; `clock` in ms."""

    checksum: int
    clock: int
    closing: bool


class CounterRow(NamedTuple):
    """All aggregations of one (tenant, meter) over a period, as texts and numbers of ClickHouse."""

    tenant: str
    meter: str
    total: str
    events: int
    least: str
    greatest: str
    latest: tuple[str, int, int, int, int, int]
    values: list[str]


class UnfilledRow(NamedTuple):
    """A row that lacks a meter. Instants in ms, `hour` since 1970."""

    tenant: str
    event: bytes
    received: int
    clock: int
    catalog_version: int
    voided: int
    epoch: int
    partition: int
    offset: int
    line: int
    hour: int


class PartitionLedger:
    """The ledger as one partition's writer sees it. Every method raises Unavailable when ClickHouse fails."""

    def __init__(self, client: Any, inserts: Inserts, epoch: int, partition: int, partitions: int) -> None:
        self._client = client
        self._inserts = inserts
        self._partitions = partitions
        self._at = {"epoch": epoch, "partition": partition}
        self._epoch = epoch

    async def insert_events(self, blocks: Sequence[bytes]) -> None:
        """Rows of rows.event_blocks."""
        await self._inserts.insert("usage_events", blocks)

    async def insert_voids(self, blocks: Sequence[bytes]) -> None:
        """Rows of rows.void_blocks."""
        await self._inserts.insert("usage_voids", blocks)

    async def insert_dead(self, blocks: Sequence[bytes]) -> None:
        """Rows of rows.dead_blocks."""
        await self._inserts.insert("dead_letters", blocks)

    async def insert_frames(self, blocks: Sequence[bytes]) -> None:
        """Rows of rows.frame_blocks: last of a batch, because they vouch for the others."""
        await self._inserts.insert("usage_frames", blocks)

    async def mark(self) -> int:
        """Up to where a recovery has once checked the rows, -1 if none has or frames below it are missing."""
        return await self._number("mark")

    async def set_mark(self, upto: int) -> None:
        """Remember that everything up to record `upto` was checked."""
        async with translated():
            await self._client.command(_query("set_mark"), parameters={**self._at, "upto": upto})

    async def prefix(self, mark: int) -> int:
        """P: the offset up to which every record is accounted for and has its rows, checked from behind `mark`."""
        return mark + int(await self._number("prefix", mark=mark))

    async def accounted(self, mark: int, upto: int) -> int:
        """How many records after `mark` up to `upto` have a frame row (a cheap look, without their rows)."""
        return await self._number("frames_between", mark=mark, upto=upto)

    async def frame_at(self, offset: int) -> FrameRow | None:
        """The account of one record."""
        rows = await self._rows("frame_at", offset=offset)
        return FrameRow(rows[0][0], rows[0][1], bool(rows[0][2])) if rows else None

    async def closing_at(self) -> int:
        """Offset of the partition's closing frame, -1 while there is none."""
        return await self._number("closing_at")

    async def closed_partitions(self, epoch: int) -> int:
        """How many partitions of `epoch` have accounted for their closing frame."""
        rows = await self._rows("closed_partitions", epoch=epoch)
        return int(rows[0][0])

    async def late_rows(
        self, wanted: Iterable[LedgerKey], mark: int, upto: int
    ) -> tuple[dict[LedgerKey, tuple[int, int]], bool]:
        """Rows that stand at the `wanted` keys → their (offset, line), (-1, 0) for earlier epochs; and whether the same
        queries saw every record after `mark` up to `upto` accounted for."""
        ordered = sorted(wanted)
        found: dict[LedgerKey, tuple[int, int]] = {}
        complete = True
        for first in range(0, len(ordered), _LATE_AT_ONCE):
            chunk = ordered[first : first + _LATE_AT_ONCE]
            for tenant, hour, source, id, epoch, offset, line in await self._rows(
                "late_rows", keys=chunk, mark=mark, upto=upto
            ):
                if tenant == "":
                    complete = complete and offset == upto - mark
                elif epoch <= self._epoch:
                    found[tenant, hour, source, id] = (offset, line) if epoch == self._epoch else (-1, 0)
        return found, complete

    async def named_rows(self, names: Iterable[Name], mark: int, upto: int) -> tuple[dict[Name, list[NamedRow]], bool]:
        """The rows up to record `upto` that bear one of `names`, and whether voids up to there left them standing; and
        whether the same query saw every record after `mark` up to `upto` accounted for."""
        found: dict[Name, list[NamedRow]] = {name: [] for name in names}
        complete = False
        for tenant, source, id, epoch, offset, line, version, type, time, meters, values, standing in await self._rows(
            "named_rows", names=sorted(found), mark=mark, upto=upto
        ):
            if tenant == "":
                complete = offset == upto - mark
                continue
            nanos = {meter: quantity.from_text(value) for meter, value in zip(meters, values, strict=True)}
            if epoch != self._epoch:
                offset, line = -1, 0
            found[tenant, source, id].append(NamedRow(offset, line, version, type, time, nanos, bool(standing)))
        return found, complete

    async def head(self) -> int:
        """Offset of the last record that is accounted for, -1 for none."""
        return await self._number("reconcile_head")

    async def stretch(self, start: int, end: int) -> tuple[int, int] | None:
        """The first and the last record after which the clock stood in [start, end) ms; None if there is none."""
        ((first, last),) = await self._rows("replay_stretch", start=start, end=end)
        return None if first < 0 else (first, last)

    async def records_in_doubt(self, upto: int, most: int) -> tuple[list[int], list[int]]:
        """Of the first `most` records up to `upto` that are not as they should be: those without a frame, and those
        whose frame does not add up or speaks of other rows than there are."""
        found = await self._rows("reconcile_records", upto=upto, most=most)
        unframed = [offset for offset, framed, _ in found if not framed]
        doubtful = [offset for offset, framed, only_many in found if framed and only_many]
        differing = {offset for offset, framed, only_many in found if framed and not only_many}
        for first in range(0, len(doubtful), _LATE_AT_ONCE):
            some = doubtful[first : first + _LATE_AT_ONCE]
            versions = {
                "first_version": version_of(self._epoch, some[0], 0),
                "last_version": version_of(self._epoch, some[-1], MAX_INDEX),
            }
            differing |= {offset for (offset,) in await self._rows("reconcile_doubled", offsets=some, **versions)}
        return unframed, sorted(differing)

    async def digests_by_bucket(self, oldest: int, upto: int, width: int) -> dict[int, int]:
        """Bucket → how many identities it holds, of rows up to record `upto` since the clock stood at `oldest` ms."""
        rows = await self._rows("reconcile_digests", partitions=self._partitions, oldest=oldest, upto=upto, width=width)
        return dict(rows)

    async def stale_windows(self, upto: int) -> list[HourWindow]:
        """Windows that a record up to `upto` touched after they were computed, or that never were."""
        return [HourWindow(*row) for row in await self._rows("reconcile_windows", upto=upto)]

    async def wrong_windows(self) -> list[HourWindow]:
        """Windows whose rollups are not what the ledger gives for them."""
        rows = await self._rows("reconcile_rollups", partitions=self._partitions)
        return [HourWindow(*row) for row in dict.fromkeys(rows)]

    async def unfilled(self, meter: str, type: str, version: int) -> AsyncIterator[list[UnfilledRow]]:
        """Blocks of the rows of events of `type`, counted by catalogs before `version`, that lack `meter`."""
        parameters = {**self._at, "partitions": self._partitions, "meter": meter, "type": type, "version": version}
        async with translated():
            stream = await self._client.query_row_block_stream(_query("fill_rows"), parameters=parameters)
            async with stream:
                async for block in stream:
                    yield [UnfilledRow(tenant, event.encode(), *rest) for tenant, event, *rest in block]

    async def taken_back(self) -> set[tuple[str, int]]:
        """(tenant, version) of every row that voids of this partition and epoch took back."""
        return {(tenant, version) for tenant, version in await self._rows("taken_back")}

    async def voids_since(self, oldest: int, upto: int) -> list[tuple[str, int, dict[str, str]]]:
        """(tenant, clock in ms, dimensions) of the voids up to record `upto` since the clock stood at `oldest` ms."""
        rows = await self._rows("rebuild_voids", partitions=self._partitions, oldest=max(0, oldest), upto=upto)
        return [(tenant, clock, dict(kept)) for tenant, clock, kept in rows]

    async def rows_match_frames(self, upto: int) -> bool:
        """Whether as many rows stand up to record `upto` (and in all earlier epochs) as the frames account for."""
        rows, accounted = (await self._rows("rebuild_count", upto=upto))[0]
        return bool(rows == accounted)

    async def clock_before_epoch(self) -> int:
        """Where the clock stood at the end of the epochs before, in ms."""
        return await self._number("rebuild_clock")

    async def digests_since(self, oldest: int, upto: int) -> AsyncIterator[Sequence[tuple[str, str, str, int]]]:
        """Blocks of (tenant, source, id, clock) of what was counted since the clock stood at `oldest` ms."""
        async with translated():
            stream = await self._client.query_row_block_stream(
                _query("rebuild_digests"),
                parameters={**self._at, "partitions": self._partitions, "oldest": oldest, "upto": upto},
            )
            async with stream:
                async for block in stream:
                    yield block

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
        """Aggregates over [start, end) ms for `meters`; no `tenants`: of all that live on this partition."""
        rows = await self._rows(
            "rebuild_counters",
            partitions=self._partitions,
            start=start,
            end=min(end, _LAST_MS),
            upto=upto,
            meters=list(meters),
            unique=list(unique),
            tenants=list(tenants),
            cap=cap,
        )
        return [CounterRow(*row) for row in rows]

    async def _rows(self, name: str, **parameters: Any) -> list[tuple[Any, ...]]:
        async with translated():
            result = await self._client.query(_query(name), parameters={**self._at, **parameters})
            return list(result.result_rows)

    async def _number(self, name: str, **parameters: Any) -> int:
        return int((await self._rows(name, **parameters))[0][0])


_LAST_MS = 4_291_747_199_000  # 2105-12-31: ClickHouse's DateTime saturates in 2106
_texts: dict[str, str] = {}


def _query(name: str) -> str:
    if name not in _texts:
        _texts[name] = _QUERIES.joinpath(f"{name}.sql").read_text()
    return _texts[name]
