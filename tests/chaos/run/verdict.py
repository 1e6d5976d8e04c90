"""Does everybody agree? The generator's account against log, ledger, windows, counters and rollups of each tenant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition

from cli.api import Api
from local.demo_account import plain
from metering import topics
from tests.chaos.run.account import METERS, Account, Cell
from tests.chaos.run.workload import HOUR_MS, RECENT_HOURS

_PAGE = 1000
_SILENT_MS = 2000
_ROLLUPS = """
SELECT meter, toInt64(toUnixTimestamp(hour) / 3600), toString(sum(total)), sum(events), toString(min(least)),
       toString(max(greatest)), toString(max(latest).3), uniqExactArray(distinct)
FROM usage_hourly FINAL
JOIN (SELECT hour, max(revision) AS standing FROM usage_windows WHERE tenant = {tenant:String} GROUP BY hour) AS newest
USING (hour)
WHERE tenant = {tenant:String} AND revision >= standing
GROUP BY ALL
"""
_BY_RULE = {"sum": 0, "count": 1, "lowest": 2, "highest": 3, "last": 4, "distinct": 5}


class MeterRow(NamedTuple):
    """One meter of one tenant; the counter with what the account says of its period. `windows` and `rollups`: how many
    days and recent hours of the console's, and hours of usage_hourly itself, the account has otherwise."""

    tenant: str
    meter: str
    account: str | None
    ledger: str | None
    counter_account: str | None
    counter: str | None
    windows: int
    rollups: int

    @property
    def agrees(self) -> bool:
        """Whether all do."""
        same = _same(self.account, self.ledger) and _same(self.counter_account, self.counter)
        return same and self.windows == self.rollups == 0


class EventsRow(NamedTuple):
    """What became of a tenant's events: (account, found) pairs. How many are duplicates follows from the log."""

    tenant: str
    counted: tuple[int, int]
    duplicates: tuple[int, int]
    voided: tuple[int, int]
    dead: tuple[int, int]
    refused: tuple[int, int]

    @property
    def agrees(self) -> bool:
        """Whether each pair does."""
        return all(expected == found for expected, found in self[1:])


class Verdict(NamedTuple):
    """A row for each meter of each tenant, and one for each tenant's events."""

    meters: list[MeterRow]
    events: list[EventsRow]

    @property
    def agrees(self) -> bool:
        """Whether every total does, and there are any."""
        of_meters, of_events = (row.agrees for row in self.meters), (row.agrees for row in self.events)
        return bool(self.meters) and all(of_meters) and all(of_events)


async def read_log(kafka: str, epoch: int, partitions: int) -> Counter[str]:
    """How many events of each tenant stand in the log of an epoch, counted by hand."""
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka, auto_offset_reset="earliest", group_id=None)
    await consumer.start()
    try:
        places = [TopicPartition(topics.events(epoch), number) for number in range(partitions)]
        consumer.assign(places)
        await consumer.seek_to_beginning(*places)
        lines: Counter[str] = Counter()
        while records := await consumer.getmany(timeout_ms=_SILENT_MS):
            for record in (record for batch in records.values() for record in batch):
                lines[record.key.decode()] += record.value.count(b"\n") + 1
        for place in places:
            end, at = consumer.highwater(place), await consumer.position(place)
            if end is not None and at < end:
                raise RuntimeError(f"{place} was read to {at} only, and ends at {end}")
        return lines
    finally:
        await consumer.stop()


async def judge(
    api: Api, clickhouse: Any, accounts: Sequence[Account], log: Counter[str], refused: Counter[str], now_ms: int
) -> Verdict:
    """Ask everybody. `now_ms`: when the run began; hours that had sealed then must have rollups."""
    verdict = Verdict([], [])
    for account in accounts:
        hours = account.hours()
        ledger, counters = [
            await api.console("GET", "/v1/usage", tenant=account.tenant, source=source)
            for source in ("ledger", "counters")
        ]
        late = max(hours) - RECENT_HOURS
        days = await _windows(api, account.tenant, "day", min(hours) // 24 * 24, late)
        recent = await _windows(api, account.tenant, "hour", late + 1, max(hours))
        rollups = await _rollups(clickhouse, account.tenant)
        sealed = {hour for hour in hours | {hour for _, hour in rollups} if (hour + 2) * HOUR_MS <= now_ms}
        for name, rule in METERS.items():
            counter = counters["meters"].get(name) or {}
            own = {hour for hour in hours if counter and _hour(counter["from"]) <= hour < _hour(counter["to"])}
            cells = {hour: account.total(rule, [hour]) for hour in hours | sealed}
            by_day = {day: account.total(rule, range(day, min(day + 24, late + 1))) for _, day in days}
            verdict.meters.append(
                MeterRow(
                    account.tenant,
                    name,
                    account.total(rule, hours),
                    ledger["meters"][name]["total"],
                    account.total(rule, own),
                    counter.get("total"),
                    sum(not _same(total, days[name, day]) for day, total in by_day.items())
                    + sum(not _same(cells[hour], recent.get((name, hour))) for hour in hours if hour > late),
                    sum(not _same(cells[hour], rollups.get((name, hour))) for hour in sealed),
                )
            )
        distinct = account.distinct - account.arrived_void
        verdict.events.append(
            EventsRow(
                account.tenant,
                (distinct, ledger["events"]),
                (log[account.tenant] - account.distinct, ledger["duplicates"]),
                (account.voided, ledger["voided"]),
                (0, ledger["dead"]),
                (0, refused[account.tenant]),
            )
        )
    return verdict


async def _windows(api: Api, tenant: str, window: str, first: int, last: int) -> dict[tuple[str, int], str | None]:
    """(meter, hour in which it begins) → total of every hour or day from the first hour to the last, by the console."""
    span = {"from": _iso(first), "to": _iso(last + 1), "window": window, "limit": _PAGE}
    found: dict[tuple[str, int], str | None] = {}
    cursor = None
    while True:
        page = await api.console("GET", "/v1/usage", tenant=tenant, cursor=cursor, **span)
        found |= {(row["meter"], _hour(row["from"])): row["total"] for row in page["rows"]}
        cursor = page["next"]
        if cursor is None:
            return found


async def _rollups(clickhouse: Any, tenant: str) -> dict[tuple[str, int], str]:
    """(meter, hour) → total, by the rows of usage_hourly."""
    rows = (await clickhouse.query(_ROLLUPS, parameters={"tenant": tenant})).result_rows
    found: dict[tuple[str, int], str] = {}
    for meter, hour, *states in rows:
        how = METERS[meter].how
        if how == "average":
            mean = Cell()
            mean.total, mean.count, mean.least = int(Decimal(states[0]).scaleb(METERS[meter].scale)), states[1], 0
            found[meter, hour] = str(mean.result(METERS[meter]))
        else:
            found[meter, hour] = plain(Decimal(states[_BY_RULE[how]]))
    return found


def _same(expected: str | None, found: str | None) -> bool:
    return (expected or "0") == (found or "0")


def _iso(hour: int) -> str:
    return datetime.fromtimestamp(hour * 3600, UTC).isoformat()


def _hour(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) // 3600
