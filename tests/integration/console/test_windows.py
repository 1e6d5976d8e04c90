"""`GET /v1/usage?window=…` over HTTP: time zones, groups, filters, subjects, pages, freshness, tenants."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from decimal import Decimal
from itertools import count
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

import pytest

from metering.clock import HOUR_MS, MINUTE_MS, SystemClock, from_ms, iso, parse_iso
from metering.partition import partition_of
from metering.rollup import HourWindow, revision_of
from streams.rollups import PartitionRollups, RollupTables
from tenancy.epochs import Epochs
from tests.integration.console.conftest import Api
from tests.integration.records import Counted, Records

PARTITIONS = 4
METERS = ("seconds", "calls", "longest")


class Hotel:
    """A tenant whose calls are in the ledger and in an account by hand."""

    def __init__(self, api: Api, name: str) -> None:
        self.api, self.name = api, name
        self.records = Records(api.clickhouse, 1, partition_of(name, PARTITIONS))
        self.calls: list[Counted] = []
        self._ids: Iterator[int] = count()

    async def call(self, time: int, clock: int, seconds: str = "1", language: str = "de", subject: str = "") -> None:
        one = Counted(
            f"{self.name}-{next(self._ids)}",
            time,
            METERS,
            Decimal(seconds),
            dimensions={"language": language},
            subject=subject,
        )
        self.calls.append(one)
        await self.records.write(self.name, [one], clock)

    async def roll_up(self) -> None:
        """What the worker does."""
        tables = RollupTables(self.api.clickhouse)
        await PartitionRollups(tables, 1, self.records.partition, 0, 0).look(1, ended=False)

    async def ask(self, key: str | None = None, **query: Any) -> dict[str, Any]:
        """Of the meter `seconds`, if nothing else is said."""
        asked = {"tenant": self.name, "meter": "seconds", **{name.rstrip("_"): value for name, value in query.items()}}
        text = "&".join(f"{name}={quote(str(value))}" for name, value in asked.items() if value is not None)
        answer: dict[str, Any] = await self.api.must("GET", f"/v1/usage?{text}", **({"key": key} if key else {}))
        return answer

    def by_local_date(self, zone: str) -> dict[str, Decimal]:
        """By hand."""
        found: dict[str, Decimal] = defaultdict(Decimal)
        for one in self.calls:
            found[from_ms(one.time).astimezone(ZoneInfo(zone)).date().isoformat()] += one.quantity
        return found


@pytest.fixture
async def hotel(api: Api) -> AsyncIterator[Hotel]:
    await Epochs(api.database).begin(PARTITIONS)
    for name in ("grand", "plaza"):
        await api.must("POST", "/v1/tenants", {"name": name, "plan": "small"})
    yield Hotel(api, "grand")
    for table in ("usage_events", "usage_frames", "usage_hourly", "usage_windows", "usage_rollup_marks"):
        await api.clickhouse.command(f"TRUNCATE TABLE {table}")


def local(text: str, zone: str) -> int:
    return parse_iso(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).isoformat())


CHANGES = [("2026-03-28", "2026-03-31", [24, 23, 24]), ("2026-10-24", "2026-10-27", [24, 25, 24])]


@pytest.mark.parametrize(("begin", "end", "hours"), CHANGES)
@pytest.mark.parametrize("rolled_up", [True, False])
async def test_days_in_berlin_have_23_and_25_hours_when_the_clock_changes(
    hotel: Hotel, begin: str, end: str, hours: list[int], rolled_up: bool
) -> None:
    zone = "Europe/Berlin"
    start, stop = local(begin, zone), local(end, zone)
    clock = stop + 48 * HOUR_MS
    for at in range(start - HOUR_MS, stop + HOUR_MS, HOUR_MS):
        await hotel.call(at, clock, seconds="0.001")
        await hotel.call(at + HOUR_MS - 1, clock, seconds="100")
    if rolled_up:
        await hotel.roll_up()
        await hotel.call(start, clock, seconds="7")  # late, behind the rollups
    days = (await hotel.ask(window="day", tz=zone, from_=iso(start), to=iso(stop)))["rows"]
    wanted = hotel.by_local_date(zone)
    assert {row["from"][:10]: row["total"] for row in days} == {
        date: f"{wanted[date].normalize():f}" for date in (row["from"][:10] for row in days)
    }
    lengths = [(parse_iso(row["to"]) - parse_iso(row["from"])) // HOUR_MS for row in days]
    assert lengths == hours
    rows = (await hotel.ask(window="hour", tz=zone, from_=iso(start), to=iso(stop), limit=1000))["rows"]
    assert len(rows) == sum(hours)
    assert sum(Decimal(row["total"]) for row in rows) == sum(Decimal(row["total"]) for row in days)
    assert [row["from"] for row in rows] == sorted((row["from"] for row in rows), key=parse_iso)
    assert all(row["sealed"] for row in days + rows)


async def test_days_and_hours_of_a_half_hour_zone_cut_the_hours_of_the_ledger(hotel: Hotel) -> None:
    zone = "Asia/Kolkata"
    start = local("2026-05-01", zone)
    for at in range(start - HOUR_MS, start + 50 * HOUR_MS, 15 * MINUTE_MS):
        await hotel.call(at, start + 100 * HOUR_MS, seconds="0.5")
    await hotel.roll_up()
    wanted = hotel.by_local_date(zone)
    for tz in (zone, "+05:30"):
        days = await hotel.ask(window="day", tz=tz, from_=iso(start), to=iso(start + 48 * HOUR_MS))
        assert days["tz"] == tz
        assert [(row["from"], row["total"]) for row in days["rows"]] == [
            (f"{date}T00:00:00.000+05:30", f"{wanted[date]:f}".rstrip("0").rstrip("."))
            for date in ("2026-05-01", "2026-05-02")
        ]
    hours = (await hotel.ask(window="hour", tz=zone, from_=iso(start), to=iso(start + 5 * HOUR_MS)))["rows"]
    assert [row["total"] for row in hours] == ["2"] * 5
    month = (await hotel.ask(window="month", tz=zone, from_=iso(start)))["rows"]
    assert month[0]["total"] == str(sum(wanted[date] for date in wanted if date.startswith("2026-05"))).rstrip(
        "0"
    ).rstrip(".")


async def test_pages_hold_together_what_one_page_holds(hotel: Hotel) -> None:
    start = parse_iso("2026-05-01T00:00:00Z")
    for number in range(24):
        for language in ("de", "en", "")[: number % 4]:
            await hotel.call(start + number * HOUR_MS, start + 20 * HOUR_MS, language=language)
    await hotel.roll_up()
    asked = {"window": "hour", "from_": iso(start), "to": iso(start + 30 * HOUR_MS)}
    for more in ({}, {"group_by": "language"}):
        whole = await hotel.ask(**asked, **more, meter=None, limit=1000)
        assert whole["next"] is None
        assert [row["meter"] for row in whole["rows"]] == sorted(
            (row["meter"] for row in whole["rows"]), key=["seconds", "calls", "longest", "tokens"].index
        )
        for limit in (1, 7, 30, 31):
            rows: list[Any] = []
            cursor = None
            while True:
                page = await hotel.ask(**asked, **more, meter=None, limit=limit, cursor=cursor)
                assert len(page["rows"]) <= limit
                rows += page["rows"]
                cursor = page["next"]
                if cursor is None:
                    break
            assert rows == whole["rows"]
    groups = await hotel.ask(**asked, group_by="language")
    assert [(parse_iso(row["from"]), row["group"]) for row in groups["rows"]] == sorted(
        (one.time, one.dimensions["language"]) for one in hotel.calls
    )


async def test_filters_and_subjects_choose_the_events_of_every_answer(hotel: Hotel) -> None:
    start = parse_iso("2026-05-01T00:00:00Z")
    subjects, languages = ("room-1", "room-2", "", "it's"), ("de", "en", "")
    for number in range(24):
        await hotel.call(
            start + number * 30 * MINUTE_MS,
            start + 9 * HOUR_MS,
            str(number + 1),
            languages[number % 3],
            subjects[number % 4],
        )
    await hotel.roll_up()

    async def total(text: str) -> tuple[str, str]:
        """As one sum of hours, and without windows."""
        path = f"/v1/usage?tenant=grand&meter=seconds&from={iso(start)}&{text}"
        rows = (await hotel.api.must("GET", f"{path}&window=hour&to={iso(start + 12 * HOUR_MS)}"))["rows"]
        whole = (await hotel.api.must("GET", path))["meters"]["seconds"]["total"]
        return str(sum(int(row["total"]) for row in rows)), whole

    def by_hand(subject: set[str] | None, language: set[str] | None) -> tuple[str, str]:
        chosen = [
            int(one.quantity)
            for one in hotel.calls
            if (subject is None or one.subject in subject)
            and (language is None or one.dimensions["language"] in language)
        ]
        return str(sum(chosen)), str(sum(chosen))

    assert await total("subject=room-1") == by_hand({"room-1"}, None)
    assert await total("subject=it%27s&subject=") == by_hand({"it's", ""}, None)
    assert await total("filter[language]=de") == by_hand(None, {"de"})
    assert await total("filter[language]=de&filter[language]=") == by_hand(None, {"de", ""})
    assert await total("filter[language]=en&subject=room-2") == by_hand({"room-2"}, {"en"})
    assert await total("filter[language]=nobody%27s%20tongue") == ("0", "0")
    every = await hotel.api.must("GET", f"/v1/usage?tenant=grand&window=day&from={iso(start)}&filter[language]=de")
    assert {row["meter"] for row in every["rows"]} == {"seconds"}, "a filter that a meter lacks would not filter it"


async def test_rows_say_how_fresh_they_are_and_what_is_sealed(hotel: Hotel) -> None:
    start = parse_iso("2026-05-01T00:00:00Z")
    asked = {"window": "hour", "from_": iso(start), "to": iso(start + 3 * HOUR_MS)}
    (row, *_) = (await hotel.ask(**asked))["rows"]
    assert (row["sealed"], row["clock"], row["position"]) == (False, None, None)
    await hotel.call(start, start + 10)
    await hotel.call(start + HOUR_MS, clock := start + 3 * HOUR_MS - 1)
    rows = (await hotel.ask(**asked))["rows"]
    assert [row["sealed"] for row in rows] == [True, False, False]
    place = {"epoch": 1, "partition": hotel.records.partition, "offset": 1}
    assert all((row["clock"], row["position"]) == (iso(clock), place) for row in rows)
    hotel.records.offset += 1  # a record that is not there yet
    await hotel.call(start, clock + HOUR_MS)
    rows = (await hotel.ask(**asked))["rows"]
    assert rows[0]["total"] == "2"
    assert (rows[0]["sealed"], rows[0]["clock"], rows[0]["position"]) == (False, None, None), "records are missing"


async def test_sealed_hours_come_from_rollups_until_a_record_touches_them(hotel: Hotel) -> None:
    start = parse_iso("2026-05-01T00:00:00Z")
    asked = {"window": "hour", "from_": iso(start), "to": iso(start + 2 * HOUR_MS)}
    await hotel.call(start, start + 9 * HOUR_MS, "1")
    await hotel.call(start + HOUR_MS, start + 9 * HOUR_MS, "2")
    await hotel.roll_up()
    await hotel.api.clickhouse.command("DELETE FROM usage_events WHERE 1")
    assert [row["total"] for row in (await hotel.ask(**asked))["rows"]] == ["1", "2"]
    await hotel.call(start + 1, start + 9 * HOUR_MS, "5")
    assert [row["total"] for row in (await hotel.ask(**asked))["rows"]] == ["5", "2"]
    tables = RollupTables(hotel.api.clickhouse)
    await tables.compute([HourWindow("grand", start // HOUR_MS)], revision_of(1, hotel.records.offset))
    assert [row["total"] for row in (await hotel.ask(**asked))["rows"]] == ["5", "2"]


async def test_the_greatest_of_an_empty_window_is_null_and_its_sum_zero(hotel: Hotel) -> None:
    start = parse_iso("2026-05-01T00:00:00Z")
    await hotel.call(start, start + 9 * HOUR_MS, "4")
    asked = {"window": "hour", "from_": iso(start), "to": iso(start + 2 * HOUR_MS)}
    for _ in range(2):
        for meter, totals in (("seconds", ["4", "0"]), ("calls", ["1", "0"]), ("longest", ["4", None])):
            assert [row["total"] for row in (await hotel.ask(**asked | {"meter": meter}))["rows"]] == totals
        await hotel.roll_up()


async def test_a_tenant_sees_its_own_windows_only(hotel: Hotel) -> None:
    start = parse_iso("2026-05-01T00:00:00Z")
    other = Hotel(hotel.api, "plaza")
    if other.records.partition == hotel.records.partition:
        other.records = hotel.records
    await hotel.call(start, start + 9 * HOUR_MS, "4")
    await hotel.roll_up()
    key = await hotel.api.key("plaza", "read")
    asked = {"window": "day", "from_": iso(start), "to": iso(start + 24 * HOUR_MS), "key": key}
    for name in ("grand", "nobody"):
        status, problem = await hotel.api.ask("GET", f"/v1/usage?tenant={name}&window=day&from={iso(start)}", None, key)
        assert status == 404
        assert problem["detail"] == f"no tenant {name}"
    (row,) = (await other.ask(**asked))["rows"]
    assert row["total"] == "0"
    await other.call(start, start + 9 * HOUR_MS, "9")
    (row,) = (await other.ask(**asked))["rows"]
    assert row["total"] == "9"


@pytest.mark.parametrize(
    "query",
    [
        "window=week&from=2026-05-01T00:00:00Z",
        "window=day",
        "window=day&from=2026-05-01T00:00:00Z&to=2026-05-01T00:00:00Z",
        "window=day&from=2026-05-01T00:00:00Z&tz=Europe/Atlantis",
        "window=day&from=2026-05-01T00:00:00Z&tz=../../etc/passwd",
        "window=day&from=2026-05-01T00:00:00Z&tz=+05:30",  # a + that means a space
        "window=day&from=2026-05-01T00:00:00Z&limit=0",
        "window=day&from=2026-05-01T00:00:00Z&limit=1001",
        "window=day&from=2026-05-01T00:00:00Z&cursor=nonsense",
        "window=day&from=2026-05-01T00:00:00Z&cursor=WyJub3BlIiwwLG51bGxd",
        "window=day&from=2026-05-01T00:00:00Z&filter[room]=1",
        "window=day&from=2026-05-01T00:00:00Z&meter=calls&filter[language]=de",
        "window=day&from=2026-05-01T00:00:00Z&period=day",
        "window=day&source=counters",
        "filter[language]=de&source=counters",
        "tz=Europe/Berlin",
        "limit=5",
        "filter[=1",
    ],
)
async def test_a_window_that_would_be_another_than_asked_is_refused(hotel: Hotel, query: str) -> None:
    status, problem = await hotel.api.ask("GET", f"/v1/usage?tenant=grand&{query}")
    assert status == 422, problem
    assert problem["detail"]


async def test_what_is_not_ended_yet_goes_to_the_end_of_its_window(hotel: Hotel) -> None:
    rows = (await hotel.ask(window="day", tz="Asia/Kolkata", from_=iso(parse_iso("2026-05-01T00:00:00Z")), limit=1000))[
        "rows"
    ]
    assert parse_iso(rows[-1]["from"]) <= SystemClock().now_ms() < parse_iso(rows[-1]["to"])
    assert rows[-1]["to"].endswith("T00:00:00.000+05:30")
