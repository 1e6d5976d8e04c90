"""What meters get from many usual events at once is what they get from each."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from metering.catalog import parse_catalog
from metering.errors import InvalidEvent
from metering.event import Events, UsageEvent
from metering.meter import Columns, CompiledCatalog, Resolved

CATALOG = CompiledCatalog(
    1,
    parse_catalog("""
meters:
  calls: {event: call, aggregation: count}
  seconds: {event: call, aggregation: sum, value: $.n, scale: 3, group_by: {language: $.l, room: subject}}
  balance: {event: call, aggregation: sum, value: $.m.n, signed: true, filter: {$.kind: [paid, true, 1.5]}}
  guests: {event: call, aggregation: unique, value: subject, filter: {$.kind: [paid], source: [/a]}}
  languages: {event: request, aggregation: unique, value: $.l}
"""),
)
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 10**18),
    st.decimals(-3, 10, places=3),
    st.sampled_from(["1.5", "de", "x" * 65, "ü" * 200, "paid", Decimal("1.50"), Decimal("NaN"), {}]),
)
USUAL_DATA = st.fixed_dictionaries(
    {"n": st.integers(0, 9), "m": st.just({"n": 2}), "l": st.sampled_from(["de", "fr"]), "kind": st.just("paid")}
)
ODD_DATA = st.dictionaries(st.sampled_from(["n", "m", "l", "kind"]), VALUES | st.fixed_dictionaries({"n": VALUES}))
EVENTS = st.builds(
    UsageEvent,
    st.just("1"),
    st.sampled_from(["/a", "/b"]),
    st.sampled_from(["call", "request", "other"]),
    st.none(),
    st.none() | st.sampled_from(["room-1", "g" * 64]),
    st.none(),
    USUAL_DATA | ODD_DATA | st.none() | st.just("text"),
    st.none(),
)


def each(columns: list[Columns]) -> dict[int, Resolved]:
    """Index → what its event gives."""

    def at(named: dict[str, list[Any]], number: int) -> dict[str, Any]:
        return {name: values[number] for name, values in named.items()}

    return {
        index: Resolved(at(c.quantities, number), at(c.uniques, number), at(c.dimensions, number))
        for c in columns
        for number, index in enumerate(c.at)
    }


@given(st.lists(EVENTS, min_size=1, max_size=6))
def test_columns_say_what_each_event_gives(events: list[UsageEvent]) -> None:
    columns = [
        [getattr(event, name) for event in events]
        for name in ("id", "source", "type", "time", "subject", "tenant", "data")
    ]
    at_once = CATALOG.resolve_usual(Events(*columns))
    try:
        alone = dict(enumerate([CATALOG.resolve(event) for event in events]))
    except InvalidEvent:
        assert at_once is None
        return
    assert at_once is not None
    assert each(at_once) == alone


@given(st.lists(EVENTS, min_size=1, max_size=6), st.sets(st.integers(0, 5)))
def test_taking_some_takes_what_they_give(events: list[UsageEvent], some: set[int]) -> None:
    kept = sorted(index for index in some if index < len(events))
    try:
        alone = [CATALOG.resolve(event) for event in events]
    except InvalidEvent:
        return
    new = {old: number for number, old in enumerate(kept)}
    taken = [Columns.of_one(index, resolved).take(new) for index, resolved in enumerate(alone)]
    assert each(taken) == {number: alone[old] for number, old in enumerate(kept)}
