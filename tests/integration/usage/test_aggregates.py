"""Each aggregation means the same in memory and in SQL, on the real engine with the ledger's own tables."""

from __future__ import annotations

from decimal import Decimal
from functools import reduce
from itertools import count
from typing import Any, NamedTuple

from hypothesis import example, given, settings
from hypothesis import strategies as st

from metering.aggregation import AGGREGATIONS, NAMES, Sample, merge
from metering.catalog import Meter
from metering.clock import HOUR_MS, from_ms, parse_iso
from metering.position import Position, version_of
from metering.quantity import ONE, render
from tests.integration.usage.conftest import Engine
from usage.reader import UsageReader

NOON = parse_iso("2026-10-31T23:00:00Z")
END = NOON + 2 * HOUR_MS
"""Two hours in two months; some rows lie just outside."""
COLUMNS = [
    *("tenant", "time", "source", "id", "type", "subject", "event", "received", "clock", "catalog_version"),
    *("quantities", "uniques", "dimensions", "voided", "partition", "version"),
]
_tenants = (f"tenant-{number}" for number in count())


class Row(NamedTuple):
    """A ledger row in the terms of this test."""

    source: str
    id: str
    time: int
    nanos: int
    value: str
    room: str | None
    voided: bool


NANOS = st.integers(-(10**27) + 1, 10**27 - 1) | st.integers(-3, 3) | st.integers(-9, 9).map(lambda n: n * ONE)
ROWS = st.builds(
    Row,
    st.sampled_from(["/a", "/b"]),
    st.sampled_from("123456"),
    st.sampled_from([NOON - 1, NOON, NOON + 1, NOON + HOUR_MS - 1, NOON + HOUR_MS, END - 1, END]),
    NANOS,
    st.sampled_from(["de", "en", "", "é", "NULL"]),
    st.sampled_from([None, "", "7", "8"]),
    st.booleans() | st.just(False),
)


async def store(engine: Engine, tenant: str, rows: list[Row]) -> None:
    """Row n stands at offset n of the log."""
    values = [
        [
            *(tenant, from_ms(row.time), row.source, row.id, "call", "", "{}", from_ms(NOON), from_ms(NOON), 1),
            {"m": Decimal(render(row.nanos)), "other": Decimal(1)},
            {"m": row.value},
            {} if row.room is None else {"room": row.room},
            *(int(row.voided), 0, version_of(1, offset, 0)),
        ]
        for offset, row in enumerate(rows)
    ]
    for value in values:  # each its own part, so that FINAL has something to do
        await engine.client.insert("usage_events", [value], column_names=COLUMNS)


def counted(rows: list[Row]) -> list[tuple[Row, Sample]]:
    """By hand: of rows with one ledger key the earliest stays; then not voided and inside [NOON, END)."""
    earliest: dict[tuple[int, str, str], tuple[Row, Sample]] = {}
    for offset, row in enumerate(rows):
        sample = Sample(row.nanos, row.value, row.time, Position(1, 0, offset, 0))
        earliest.setdefault((row.time // HOUR_MS, row.source, row.id), (row, sample))
    return [(row, sample) for row, sample in earliest.values() if not row.voided and NOON <= row.time < END]


def in_memory(name: str, samples: list[Sample], scale: int) -> str | None:
    aggregation = AGGREGATIONS[name]
    state = reduce(lambda left, right: merge(aggregation, left, right), map(aggregation.of, samples), None)
    if state is None:
        return "0" if name in ("sum", "count", "unique") else None
    return aggregation.result(state, scale)


@settings(max_examples=25)
@given(rows=st.lists(ROWS, max_size=8), scale=st.integers(0, 9))
@example(rows=[], scale=0)
@example(rows=[Row("/a", "1", NOON, 10**27 - 1, "de", "7", False), Row("/a", "2", NOON, 1, "de", "7", False)], scale=9)
@example(
    rows=[Row("/a", "1", NOON, 1, "", "7", False), Row("/a", "2", NOON, 2, "", None, False)], scale=9
)  # the same time: the later position is the latest
def test_memory_and_sql_agree(engine: Engine, rows: list[Row], scale: int) -> None:
    tenant = next(_tenants)

    async def ask() -> dict[str, dict[str, Any]]:
        await store(engine, tenant, rows)
        return {
            name: await UsageReader(engine.client).totals(tenant, "m", _meter(name, scale), NOON, END, "room")
            for name in NAMES
        }

    answers = engine.runner.run(ask())
    kept = counted(rows)
    for name, answer in answers.items():
        assert answer["total"] == in_memory(name, [sample for _, sample in kept], scale), name
        groups: dict[str, list[Sample]] = {}
        for row, sample in kept:
            groups.setdefault(row.room or "", []).append(sample)
        assert answer["groups"] == {room: in_memory(name, samples, scale) for room, samples in groups.items()}, name


def _meter(name: str, scale: int) -> Meter:
    return Meter("call", name, value="$.v", scale=scale, group_by={"room": "$.room"})  # type: ignore[arg-type]
