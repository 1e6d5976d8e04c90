"""Rollups through the real engine: sealed hours, late events, stale and restarted workers, emptied windows, epochs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from decimal import Decimal
from itertools import count
from typing import Any

import pytest

from metering.catalog import Meter
from metering.clock import HOUR_MS, MINUTE_MS, parse_iso
from metering.period import Period
from metering.rollup import HourWindow, revision_of
from streams.rollups import PartitionRollups, RollupTables
from tests.integration.records import Counted, Records
from usage.reader import EVERYTHING
from usage.windows import Freshness, Page, WindowReader

TEN = parse_iso("2026-11-01T10:00:00Z")
HOUR = TEN // HOUR_MS
SEALED = TEN + 2 * HOUR_MS
"""When the hour from ten to eleven has sealed."""
SUM = Meter("call", "sum", value="$.v", scale=3, group_by={"room": "$.room"})
_numbers = count()


def call(time: int, quantity: str = "1", room: str = "7") -> Counted:
    return Counted(f"e{next(_numbers)}", time, quantity=Decimal(quantity), dimensions={"room": room})


class Rollups:
    """One worker's rollups of partition 0; `restart` forgets what it knew."""

    def __init__(self, client: Any, epoch: int = 1, settle: float = 0, durable: float = 0) -> None:
        self._client, self._how = client, (epoch, 0, settle, durable)
        self.now = 0.0
        self.restart()

    def restart(self) -> None:
        self._rollups = PartitionRollups(RollupTables(self._client), *self._how)

    async def look(self, ended: bool = False) -> None:
        self.now += 1
        await self._rollups.look(self.now, ended)

    async def mark(self) -> int:
        return await RollupTables(self._client).mark(self._how[0], 0)


async def from_rollups(
    client: Any, tenant: str = "adler", hours: Sequence[int] = (HOUR,), group_by: str | None = None
) -> dict[str, str | None]:
    """What rollups alone say, nothing from the ledger: value (or hour as text) → total."""
    periods = [Period(hour * HOUR_MS, (hour + 1) * HOUR_MS) for hour in hours]
    fresh, page = Freshness(None, frozenset()), Page(periods[0].start, None, 1000)
    rows = await WindowReader(client).rows(tenant, "seconds", SUM, periods, fresh, page, group_by, EVERYTHING)
    return {row.value if group_by else str(row.period.start // HOUR_MS): row.total for row in rows}


async def total(client: Any, tenant: str = "adler", hour: int = HOUR) -> str | None:
    return (await from_rollups(client, tenant, [hour]))[str(hour)]


async def revisions(client: Any) -> dict[tuple[str, int], int]:
    """The newest revision of each window."""
    query = "SELECT tenant, toInt64(toUnixTimestamp(hour) / 3600), max(revision) FROM usage_windows GROUP BY 1, 2"
    return {(tenant, hour): revision for tenant, hour, revision in (await client.query(query)).result_rows}


@pytest.fixture
def records(clickhouse: Any) -> Records:
    return Records(clickhouse)


async def test_an_hour_is_computed_when_it_has_sealed_and_not_before(clickhouse: Any, records: Records) -> None:
    rollups = Rollups(clickhouse)
    await records.write("adler", [call(TEN, "1.5"), call(TEN + HOUR_MS - 1, "2")], TEN + HOUR_MS)
    await records.write("baer", [call(TEN, "10")], SEALED - 1)
    await rollups.look()
    assert await revisions(clickhouse) == {}
    await records.write("baer", [call(SEALED, "20")], SEALED)
    await rollups.look()
    assert await revisions(clickhouse) == {
        ("adler", HOUR): revision_of(1, 2),
        ("baer", HOUR): revision_of(1, 2),
    }
    assert (await total(clickhouse), await total(clickhouse, "baer")) == ("3.5", "10")


async def test_a_late_event_makes_a_newer_revision_of_its_hour_and_of_no_other(
    clickhouse: Any, records: Records
) -> None:
    rollups = Rollups(clickhouse)
    await records.write("adler", [call(TEN, "1"), call(TEN - HOUR_MS, "5")], SEALED)
    await rollups.look()
    await records.write("adler", [call(TEN + 1, "0.25")], SEALED + 30 * HOUR_MS)
    await rollups.look()
    assert await revisions(clickhouse) == {
        ("adler", HOUR): revision_of(1, 1),
        ("adler", HOUR - 1): revision_of(1, 0),
    }
    assert await from_rollups(clickhouse, hours=[HOUR - 1, HOUR]) == {str(HOUR - 1): "5", str(HOUR): "1.25"}


async def test_late_events_are_gathered_until_they_have_settled(clickhouse: Any, records: Records) -> None:
    rollups = Rollups(clickhouse, settle=3)
    for _ in range(3):
        await records.write("adler", [call(TEN)], SEALED)
        await rollups.look()
    await rollups.look()
    await rollups.look()
    assert await revisions(clickhouse) == {}
    await rollups.look()
    assert await revisions(clickhouse) == {("adler", HOUR): revision_of(1, 2)}
    for _ in range(30):  # never left alone
        await records.write("adler", [call(TEN)], SEALED)
        await rollups.look()
    assert len((await clickhouse.query("SELECT revision FROM usage_windows")).result_rows) == 1
    await records.write("adler", [call(TEN)], SEALED)
    await rollups.look()
    assert await total(clickhouse) == "34"


async def test_a_worker_that_finishes_late_does_not_outrank_a_newer_one(clickhouse: Any, records: Records) -> None:
    tables, window = RollupTables(clickhouse), [HourWindow("adler", HOUR)]
    await records.write("adler", [call(TEN, "1", room="7")], SEALED)
    stale = revision_of(1, 0)
    await records.write("adler", [call(TEN, "2", room="7"), call(TEN, "4", room="8")], SEALED)
    await tables.compute(window, revision_of(1, 1))
    await tables.compute(window, stale)  # began before the second record, writes behind everybody
    assert await from_rollups(clickhouse, group_by="room") == {"7": "3", "8": "4"}
    assert await revisions(clickhouse) == {("adler", HOUR): revision_of(1, 1)}


async def test_a_void_makes_a_newer_revision_without_its_event(clickhouse: Any, records: Records) -> None:
    rollups, one, other = Rollups(clickhouse), call(TEN, "1"), call(TEN, "2")
    first = await records.write("adler", [one], SEALED)
    await records.write("adler", [other], SEALED)
    await rollups.look()
    assert await total(clickhouse) == "3"
    voided = await records.void("adler", one, first, SEALED)
    await rollups.look()
    assert await revisions(clickhouse) == {("adler", HOUR): revision_of(1, voided)}
    assert await total(clickhouse) == "2"
    await records.void("adler", other, first + 1, SEALED)
    await rollups.look()
    assert await total(clickhouse) == "0"
    tables = RollupTables(clickhouse)  # voids above a revision are not seen at it
    await clickhouse.command("TRUNCATE TABLE usage_hourly")
    await clickhouse.command("TRUNCATE TABLE usage_windows")
    await tables.compute([HourWindow("adler", HOUR)], revision_of(1, voided - 1))
    assert await total(clickhouse) == "3"


async def test_a_stale_worker_counts_nothing_above_its_revision(clickhouse: Any, records: Records) -> None:
    await records.write("adler", [call(TEN, "1")], SEALED)
    await records.write("adler", [call(TEN, "2")], SEALED)
    await RollupTables(clickhouse).compute([HourWindow("adler", HOUR)], revision_of(1, 0))
    assert await total(clickhouse) == "1"


async def test_two_workers_at_once_do_no_harm(clickhouse: Any, records: Records) -> None:
    for _ in range(3):
        await records.write("adler", [call(TEN, "1"), call(TEN + HOUR_MS, "1", "8")], SEALED + HOUR_MS)
        await asyncio.gather(*(Rollups(clickhouse).look() for _ in range(4)))
    assert await from_rollups(clickhouse, hours=[HOUR, HOUR + 1]) == {str(HOUR): "3", str(HOUR + 1): "3"}


async def test_an_emptied_window_is_empty(clickhouse: Any, records: Records) -> None:
    rollups = Rollups(clickhouse)
    gone = call(TEN, "1", room="8")
    await records.write("adler", [call(TEN, "2", room="7"), gone], SEALED)
    await rollups.look()
    assert await from_rollups(clickhouse, group_by="room") == {"7": "2", "8": "1"}
    for left in ({"7": "2"}, {}):
        await clickhouse.command(
            "DELETE FROM usage_events WHERE id = {id:String} OR {all:UInt8}",
            parameters={"id": gone.id, "all": int(not left)},
        )
        records.offset += 1
        await records.frame("adler", records.offset, SEALED, [HOUR])
        await rollups.look()
        assert await from_rollups(clickhouse, group_by="room") == left
    assert await total(clickhouse) == "0"


async def test_rows_voided_on_arrival_do_not_count(clickhouse: Any, records: Records) -> None:
    await records.write("adler", [call(TEN, "2"), call(TEN, "1")._replace(voided=True)], SEALED)
    await Rollups(clickhouse).look()
    assert await total(clickhouse) == "2"


async def test_a_restart_resumes_behind_its_mark_and_forgets_no_open_hour(clickhouse: Any, records: Records) -> None:
    rollups = Rollups(clickhouse)
    await records.write("adler", [call(TEN - 5 * HOUR_MS)], TEN)
    await records.write("adler", [call(TEN)], TEN)  # stays open for long
    await records.write("adler", [call(TEN - 4 * HOUR_MS)], TEN)
    for _ in range(3):
        await rollups.look()
    assert await rollups.mark() == 0, "the mark stands below the record that touches an open hour"
    rollups.restart()
    await rollups.look()
    await records.write("baer", [call(SEALED)], SEALED)
    rollups.restart()
    await rollups.look()
    assert await total(clickhouse) == "1"
    for _ in range(3):
        await rollups.look()
    assert await rollups.mark() == 2


async def test_a_crash_between_rows_and_mark_computes_once_more(clickhouse: Any, records: Records) -> None:
    rollups = Rollups(clickhouse, durable=3600)
    await records.write("adler", [call(TEN, "3")], SEALED)
    await rollups.look()
    assert await rollups.mark() == -1, "what is young is not vouched for yet"
    rollups.restart()
    await records.write("adler", [call(TEN, "4")], SEALED)
    await rollups.look()
    assert await total(clickhouse) == "7"


async def test_rows_without_their_window_do_not_show_an_emptied_one(clickhouse: Any, records: Records) -> None:
    """A worker dies between rows and window; before the next one comes, the rows are gone from the ledger."""
    await records.write("adler", [call(TEN, "3")], SEALED)

    class Dying:
        async def command(self, text: str, parameters: Any) -> None:
            if "usage_windows" in text:
                raise OSError("killed here")
            await clickhouse.command(text, parameters=parameters)

    with pytest.raises(Exception, match="killed here"):
        await RollupTables(Dying()).compute([HourWindow("adler", HOUR)], revision_of(1, 0))
    assert await total(clickhouse) == "0", "no window vouches for these rows"
    await clickhouse.command("DELETE FROM usage_events WHERE 1")
    await RollupTables(clickhouse).compute([HourWindow("adler", HOUR)], revision_of(1, 1))
    assert await total(clickhouse) == "0"


async def test_a_scan_stops_at_a_gap_and_goes_on_when_it_is_filled(clickhouse: Any, records: Records) -> None:
    rollups = Rollups(clickhouse)
    await records.write("adler", [call(TEN, "1")], SEALED)
    records.offset = 1
    await records.write("adler", [call(TEN, "4")], SEALED + MINUTE_MS)
    await rollups.look()
    assert await revisions(clickhouse) == {("adler", HOUR): revision_of(1, 0)}
    assert await total(clickhouse) == "1", "what lies behind the gap is above the revision"
    records.offset = 0
    await records.write("adler", [call(TEN, "2")], SEALED)
    await rollups.look()
    assert await revisions(clickhouse) == {("adler", HOUR): revision_of(1, 2)}
    assert await total(clickhouse) == "7"


async def test_an_hour_that_an_epoch_left_open_is_computed_and_the_next_epoch_outranks_it(clickhouse: Any) -> None:
    before, after = Records(clickhouse, 1), Records(clickhouse, 2)
    await before.write("adler", [call(TEN, "1"), call(TEN + HOUR_MS, "8")], TEN)
    old, new = Rollups(clickhouse, 1), Rollups(clickhouse, 2)
    await old.look()
    assert await revisions(clickhouse) == {}
    await after.write("adler", [call(TEN, "2")], SEALED)
    await new.look()
    await old.look(ended=True)
    assert await revisions(clickhouse) == {
        ("adler", HOUR): revision_of(2, 0),
        ("adler", HOUR + 1): revision_of(1, 0),
    }
    assert await from_rollups(clickhouse, hours=[HOUR, HOUR + 1]) == {str(HOUR): "3", str(HOUR + 1): "8"}


async def test_windows_of_many_months_are_computed_together(clickhouse: Any, records: Records) -> None:
    times = [TEN - number * 31 * 24 * HOUR_MS for number in range(125)]
    await records.write("adler", [call(time) for time in times], SEALED)
    await Rollups(clickhouse).look()
    assert set(await revisions(clickhouse)) == {("adler", time // HOUR_MS) for time in times}
    assert await total(clickhouse, hour=times[-1] // HOUR_MS) == "1"
