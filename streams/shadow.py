"""The shadow of a replay: tables like the ledger's in a database of its own; what differs; how the ledger is mended."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

from metering.position import MAX_INDEX, version_of
from metering.rollup import HourWindow
from streams.inserts import Inserts, translated
from streams.ledger import connect
from tenancy.operations import Task

_AT_ONCE = 2000
_TIMEOUT_SECONDS = 600

_EVENT_AT = "partition = {partition:UInt16} AND version BETWEEN {last_version:UInt64} AND {first_version:UInt64}"
_RECORD_AT = (
    "epoch = {epoch:UInt16} AND partition = {partition:UInt16} AND offset BETWEEN {first:UInt64} AND {last:UInt64}"
)


class Table(NamedTuple):
    """A table of the ledger: which columns name a row, what else it says, and where rows of a stretch stand.

    `hours`: SQL for the hours that a row counts to, if it does. What depends on the wall clock, and payloads, which
    retention may have taken, are no matter of comparison.
    """

    name: str
    key: tuple[str, ...]
    types: tuple[str, ...]
    content: str
    at: str
    hours: str | None

    @property
    def keys(self) -> str:
        """The key's columns."""
        return ", ".join(self.key)

    @property
    def wanted(self) -> str:
        """SQL condition: the row is one of the parameter `keys`."""
        parts = ", ".join(f"k.{number}" for number in range(1, len(self.key) + 1))
        wanted = f"arrayJoin({{keys:Array(Tuple({', '.join(self.types)}))}})"
        return f"{self.at} AND ({self.keys}) IN (SELECT {parts} FROM (SELECT {wanted} AS k))"


_HOUR = "[toUInt32(toUnixTimestamp(time) / 3600)]"
TABLES = (
    Table(
        "usage_events",
        ("tenant", "toUnixTimestamp64Milli(time)", "source", "id", "version"),
        ("String", "Int64", "String", "String", "UInt64"),
        "type, subject, clock, catalog_version, mapSort(quantities), mapSort(uniques), mapSort(dimensions), voided",
        _EVENT_AT,
        _HOUR,
    ),
    Table(
        "usage_voids",
        ("tenant", "target", "version"),
        ("String", "UInt64", "UInt64"),
        "source, id, time, clock",
        _EVENT_AT,
        _HOUR,
    ),
    Table(
        "dead_letters",
        ("offset", "line", "reason"),
        ("UInt64", "Int32", "String"),
        "tenant, detail",
        f"{_RECORD_AT} AND reason != 'conflict'",
        None,
    ),
    Table(
        "usage_frames",
        ("offset", "tenant"),
        ("UInt64", "String"),
        "events, counted, duplicates, voided, dead, voids, hours, checksum, clock, closing",
        _RECORD_AT,
        "hours",
    ),
)


class Difference(NamedTuple):
    """What one table would have to lose and to gain: keys of rows, in the columns of `Table.key`."""

    missing: list[tuple[Any, ...]]
    surplus: list[tuple[Any, ...]]

    @property
    def changed(self) -> int:
        """How many rows are there but say something else."""
        return len(set(self.missing) & set(self.surplus))


class Shadow:
    """One replay's shadow. Every method raises Unavailable when ClickHouse fails."""

    def __init__(self, ledger: Any, address: str, task: Task) -> None:
        """`ledger`: a client of the ledger's database; `address`: where ClickHouse is."""
        self._ledger = ledger
        self._address = address
        self._name = f"replay_{task.operation}_{task.epoch}_{task.partition}"
        self._at = {"epoch": task.epoch, "partition": task.partition}
        self.client: Any = None

    async def open(self) -> Inserts:
        """Make it, or find what an interrupted replay has left; answers where rows are written to it."""
        async with translated():
            await self._ledger.command(f"CREATE DATABASE IF NOT EXISTS {self._name}")
            for table in TABLES:
                await self._ledger.command(f"CREATE TABLE IF NOT EXISTS {self._name}.{table.name} AS {table.name}")
        parts = urlsplit(self._address)
        self.client = await connect(urlunsplit(parts._replace(path=f"/{self._name}")), _TIMEOUT_SECONDS)
        return Inserts(self.client)

    async def close(self) -> None:
        """Let go of the connection; the tables stay."""
        if self.client is not None:
            await self.client.close()

    async def drop(self) -> None:
        """Remove the tables."""
        async with translated():
            await self._ledger.command(f"DROP DATABASE IF EXISTS {self._name}")

    async def differences(self, first: int, last: int) -> dict[str, Difference]:
        """By table, what stands otherwise in the ledger for the records `first` to `last`."""
        return {table.name: await self._difference(table, first, last) for table in TABLES}

    async def _difference(self, table: Table, first: int, last: int) -> Difference:
        columns = f"({table.keys}) AS key, cityHash64(toString(({table.content}))) AS content"
        rows = await self._rows(
            f"""
            SELECT key, toInt64(sum(one)) AS side
            FROM (SELECT {columns}, 1 AS one FROM {self._name}.{table.name} FINAL WHERE {table.at}
                  UNION ALL
                  SELECT {columns}, -1 AS one FROM {table.name} FINAL WHERE {table.at})
            GROUP BY key, content HAVING side != 0 ORDER BY key
            """,
            first,
            last,
        )
        found = Difference([], [])
        for key, side in rows:
            (found.missing if side > 0 else found.surplus).append(tuple(key))
        return found

    async def touched(self, differences: dict[str, Difference], first: int, last: int) -> set[HourWindow]:
        """The windows that count differently once `apply` has mended the ledger: ask before."""
        found: set[HourWindow] = set()
        for table in TABLES:
            missing, surplus = differences[table.name]
            for source, keys in ((f"{self._name}.{table.name}", missing), (table.name, surplus)):
                for some in _chunks(keys) if table.hours else ():
                    rows = await self._rows(
                        f"SELECT DISTINCT tenant, arrayJoin({table.hours}) FROM {source} FINAL WHERE {table.wanted}",
                        first,
                        last,
                        keys=some,
                    )
                    found |= {HourWindow(tenant, hour) for tenant, hour in rows}
        return found

    async def remember(self, windows: set[HourWindow]) -> set[HourWindow]:
        """Keep windows with the shadow; answers all that were kept."""
        name = f"{self._name}.touched"
        async with translated():
            await self._ledger.command(
                f"CREATE TABLE IF NOT EXISTS {name} (tenant String, hour UInt32) "
                "ENGINE = ReplacingMergeTree ORDER BY (tenant, hour)"
            )
            if windows:
                await self._ledger.insert(name, sorted(windows), column_names=["tenant", "hour"])
            answer = await self._ledger.query(f"SELECT DISTINCT tenant, hour FROM {name}")
            return {HourWindow(*row) for row in answer.result_rows}

    async def apply(self, differences: dict[str, Difference], first: int, last: int) -> None:
        """Make the ledger what the shadow says. Repeatable: who is interrupted looks for differences again.

        Rows come before the frames that vouch for them. A row that says something else is replaced by a later one with
        its key; what stands where nothing should is deleted.
        """
        for table in TABLES:
            missing, surplus = differences[table.name]
            for some in _chunks(missing):
                mended = f"SELECT * FROM {self._name}.{table.name} FINAL WHERE {table.wanted}"
                await self._do(f"INSERT INTO {table.name} {mended}", first, last, some)
            for some in _chunks(sorted(set(surplus) - set(missing))):
                await self._do(f"DELETE FROM {table.name} WHERE {table.wanted}", first, last, some)

    def _parameters(self, first: int, last: int) -> dict[str, Any]:
        epoch = self._at["epoch"]
        versions = {
            "first_version": version_of(epoch, first, 0),
            "last_version": version_of(epoch, last, MAX_INDEX),
        }
        return {**self._at, **versions, "first": first, "last": last}

    async def _rows(self, query: str, first: int, last: int, **more: Any) -> Sequence[tuple[Any, ...]]:
        async with translated():
            answer = await self._ledger.query(query, parameters={**self._parameters(first, last), **more})
            return list(answer.result_rows)

    async def _do(self, statement: str, first: int, last: int, keys: Sequence[tuple[Any, ...]]) -> None:
        async with translated():
            await self._ledger.command(statement, parameters={**self._parameters(first, last), "keys": keys})


def _chunks(keys: Sequence[tuple[Any, ...]]) -> Iterator[Sequence[tuple[Any, ...]]]:
    for first in range(0, len(keys), _AT_ONCE):
        yield keys[first : first + _AT_ONCE]
