"""Whatever comes in whichever order, whoever computes rollups when: they say what the ledger says, on the real engine.

The account is counted by hand from the events, in the in-memory form of each aggregation.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from functools import reduce
from itertools import count
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from metering.aggregation import AGGREGATIONS, NAMES, Sample, merge
from metering.catalog import Meter
from metering.clock import HOUR_MS, MINUTE_MS, parse_iso
from metering.period import Period, zone_of
from metering.position import Position
from metering.quantity import ONE, render
from metering.rollup import WindowKind, windows
from streams.rollups import PartitionRollups, RollupTables
from tests.integration.records import Counted, Records
from tests.integration.usage.conftest import Engine
from usage.reader import EVERYTHING, Selection
from usage.windows import Freshness, Page, WindowReader

START = parse_iso("2026-10-31T20:00:00Z")
HOURS = 6
_numbers = count(1)


class Record(NamedTuple):
    """Events of one tenant, and by how many minutes the partition clock moves with them."""

    tenant: str
    events: tuple[Counted, ...]
    minutes: int


class Look(NamedTuple):
    """One of two workers looks for windows to compute, or is a new one that has to begin at the mark."""

    worker: int
    anew: bool


EVENTS = st.builds(
    Counted,
    id=st.sampled_from("123456"),
    time=st.builds(
        lambda hour, minute: START + hour * HOUR_MS + minute * MINUTE_MS,
        st.integers(0, HOURS - 1),
        st.sampled_from([0, 10, 29, 30, 31, 59]),
    ),
    meters=st.sampled_from([["m"], ["m", "n"], ["n"]]),
    quantity=st.integers(-(10**27) + 1, 10**27 - 1).map(lambda nanos: Decimal(render(nanos)))
    | st.integers(-9, 9).map(Decimal),
    value=st.sampled_from(["de", "en", "", "é'\\", "NULL"]),
    dimensions=st.sampled_from([{}, {"room": ""}, {"room": "7"}, {"room": "8", "x": "1"}, {"x": "1", "room": "8"}]),
    subject=st.sampled_from(["", "g1", "g'2"]),
    source=st.just("/s"),
    voided=st.booleans() | st.just(False),
)
STEPS = st.lists(
    st.builds(
        Record,
        st.sampled_from(["a", "b"]),
        st.lists(EVENTS, max_size=4).map(tuple),
        st.sampled_from([0, 1, 45, 90, 200]),
    )
    | st.builds(Look, st.integers(0, 1), st.booleans()),
    max_size=10,
)


class Story:
    """A partition of its own with two tenants of its own, and by hand what they used."""

    def __init__(self, engine: Engine) -> None:
        self.number = next(_numbers)
        self._client = engine.client
        self._records = Records(engine.client, epoch=self.number)
        self._workers = [self._worker(), self._worker()]
        self._looks = 0.0
        self.clock = START
        self.counted: dict[tuple[str, int, str], tuple[str, Counted, Position]] = {}

    def _worker(self) -> PartitionRollups:
        return PartitionRollups(RollupTables(self._client), self.number, 0, settle_seconds=1, durable_seconds=2)

    def tenant(self, name: str) -> str:
        return f"{name}-{self.number}"

    async def play(self, step: Record | Look) -> None:
        if isinstance(step, Look):
            if step.anew:
                self._workers[step.worker] = self._worker()
            self._looks += 1
            await self._workers[step.worker].look(self._looks, ended=False)
            return
        self.clock += step.minutes * MINUTE_MS
        offset = await self._records.write(self.tenant(step.tenant), step.events, self.clock)
        for line, one in enumerate(step.events):
            key = (step.tenant, one.time // HOUR_MS, one.id)
            self.counted.setdefault(key, (step.tenant, one, Position(self.number, 0, offset, line)))

    def samples(self, tenant: str, meter: str, period: Period, chosen: Callable[[Counted], bool]) -> list[Sample]:
        return [
            Sample(int(one.quantity * ONE), one.value, one.time, position)
            for owner, one, position in self.counted.values()
            if owner == tenant and meter in one.meters and not one.voided
            if period.start <= one.time < period.end and chosen(one)
        ]

    def expected(
        self, tenant: str, meter: str, name: str, scale: int, periods: list[Period], chosen: Callable[[Counted], bool]
    ) -> list[str | None]:
        aggregation = AGGREGATIONS[name]
        found = []
        for period in periods:
            states = map(aggregation.of, self.samples(tenant, meter, period, chosen))
            state = reduce(lambda left, right: merge(aggregation, left, right), states, None)
            nothing = "0" if name in ("sum", "count", "unique") else None
            found.append(nothing if state is None else aggregation.result(state, scale))
        return found


def _meter(name: str, scale: int) -> Meter:
    return Meter("call", name, value="$.v", scale=scale, group_by={"room": "$.room"})  # type: ignore[arg-type]


class Asking:
    """What the reader says, of rollups only or of all there is."""

    def __init__(self, engine: Engine, tenant: str, meter: str, name: str, scale: int) -> None:
        self._reader = WindowReader(engine.client)
        self._asked = (tenant, meter, _meter(name, scale))

    async def plain(
        self, periods: list[Period], fresh: Freshness, selection: Selection = EVERYTHING
    ) -> list[str | None]:
        page = Page(periods[0].start, None, 1000)
        rows = await self._reader.rows(*self._asked, periods, fresh, page, None, selection)
        return [row.total for row in rows]

    async def by_room(self, periods: list[Period], fresh: Freshness) -> dict[tuple[int, str], str | None]:
        page = Page(periods[0].start, None, 1000)
        rows = await self._reader.rows(*self._asked, periods, fresh, page, "room", EVERYTHING)
        return {(row.period.start, row.value): row.total for row in rows}


def local(kind: WindowKind, zone: str) -> list[Period]:
    return list(windows(kind, zone_of(zone), START, START + HOURS * HOUR_MS))


def anything(one: Counted) -> bool:
    return True


def in_room(room: str) -> Callable[[Counted], bool]:
    return lambda one: one.dimensions.get("room", "") == room


@settings(max_examples=30)
@given(steps=STEPS, scale=st.integers(0, 9), meter=st.sampled_from(["m", "m", "n"]))
def test_rollups_are_what_is_counted_anew(engine: Engine, steps: list[Record | Look], scale: int, meter: str) -> None:
    """Once hours have sealed and settled, for all seven aggregations; read from rollups alone."""
    story = Story(engine)

    async def check() -> None:
        for step in [*steps, Record("b", (), minutes=(HOURS + 1) * 60), *[Look(0, anew=False)] * 4]:
            await story.play(step)
        sealed = local("hour", "UTC")
        for tenant in ("a", "b"):
            for name in NAMES:
                asking = Asking(engine, story.tenant(tenant), meter, name, scale)
                rollups = await asking.plain(sealed, Freshness(None, frozenset()))
                assert rollups == story.expected(tenant, meter, name, scale, sealed, anything), name

    engine.runner.run(check())


@settings(max_examples=15)
@given(steps=STEPS, scale=st.integers(0, 9))
def test_what_is_read_is_what_the_ledger_says_however_far_rollups_are(
    engine: Engine, steps: list[Record | Look], scale: int
) -> None:
    """For all seven aggregations, windows that cut hours, groups, subjects and filters."""
    story = Story(engine)

    async def check() -> None:
        for step in steps:
            await story.play(step)
        for tenant in ("a", "b"):
            full = story.tenant(tenant)
            fresh = await WindowReader(engine.client).freshness(full, [(story.number, 0)])
            assert fresh.place is None or fresh.place.clock == story.clock
            for name in NAMES:
                asking = Asking(engine, full, "m", name, scale)
                for periods in (local("hour", "UTC"), local("hour", "Asia/Kolkata"), local("day", "Asia/Kolkata")):
                    wanted = story.expected(tenant, "m", name, scale, periods, anything)
                    assert await asking.plain(periods, fresh) == wanted, name
                days = local("day", "Asia/Kolkata")
                only = Selection(["g1", "g'2"], {"room": ["7", "8"], "x": ["1"]})
                wanted = story.expected(
                    tenant,
                    "m",
                    name,
                    scale,
                    days,
                    lambda one: one.subject in ("g1", "g'2") and one.dimensions.get("room") == "8",
                )
                assert await asking.plain(days, fresh, only) == wanted, name
                groups = {
                    (day.start, room): total
                    for room in ("", "7", "8")
                    for day, total in zip(
                        days, story.expected(tenant, "m", name, scale, days, in_room(room)), strict=True
                    )
                    if story.samples(tenant, "m", day, in_room(room))
                }
                assert await asking.by_room(days, fresh) == groups, name

    engine.runner.run(check())
