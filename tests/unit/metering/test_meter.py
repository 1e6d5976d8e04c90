from __future__ import annotations

import msgspec
import pytest

from metering.catalog import parse_catalog
from metering.errors import InvalidEvent
from metering.event import Limits, UsageEvent, parse
from metering.meter import CompiledCatalog

CATALOG = CompiledCatalog(
    1,
    parse_catalog("""
meters:
  seconds:
    {event: call, aggregation: sum, value: $.seconds, scale: 3, group_by: {language: $.language, room: $.at.room}}
  languages: {event: call, aggregation: unique, value: $.language}
  urgent: {event: request, aggregation: count, filter: {$.priority: [high, 1, 2.5, true]}, group_by: {floor: $.floor}}
  guests: {event: request, aggregation: unique, value: subject}
  rooms: {event: move, aggregation: max, value: room}
  balance: {event: pay, aggregation: latest, value: $.a.b.c, signed: true, scale: 2}
"""),
)


def event(type: str, data: object = None, **attributes: object) -> UsageEvent:
    document = {"specversion": "1.0", "id": "a", "source": "s", "type": type, "data": data, **attributes}
    return parse(msgspec.json.encode(document), Limits())


def refusal(refused: UsageEvent) -> InvalidEvent:
    with pytest.raises(InvalidEvent) as caught:
        CATALOG.resolve(refused)
    return caught.value


def test_an_event_gives_each_meter_of_its_type_a_quantity() -> None:
    resolved = CATALOG.resolve(event("call", {"seconds": "12.5", "language": "de", "at": {"room": 7}}))
    assert resolved.quantities == {"seconds": 12_500_000_000, "languages": 1_000_000_000}
    assert resolved.uniques == {"languages": "de"}
    assert resolved.dimensions == {"language": "de", "room": "7"}


def test_an_event_of_an_unknown_type_is_unmetered() -> None:
    resolved = CATALOG.resolve(event("other", {"seconds": 1}))
    assert (resolved.quantities, resolved.uniques, resolved.dimensions) == ({}, {}, {})


def test_values_come_from_attributes_and_deep_paths_too() -> None:
    assert CATALOG.resolve(event("move", room=12)).quantities == {"rooms": 12_000_000_000}
    assert CATALOG.resolve(event("pay", {"a": {"b": {"c": -1}}})).quantities == {"balance": -1_000_000_000}


@pytest.mark.parametrize("priority", ["high", 1, "1", 2.5, "2.5", True, "true"])
def test_a_filter_compares_scalars_as_text(priority: object) -> None:
    resolved = CATALOG.resolve(event("request", {"priority": priority, "floor": 2}, subject="guest"))
    assert resolved.quantities == {"urgent": 1_000_000_000, "guests": 1_000_000_000}
    assert resolved.dimensions == {"floor": "2"}


@pytest.mark.parametrize("priority", ["low", None, {"high": 1}, ["high"], False, "1.0", 3])
def test_an_event_that_no_filter_wants_is_not_counted_by_that_meter(priority: object) -> None:
    assert "urgent" not in CATALOG.resolve(event("request", {"priority": priority}, subject="guest")).quantities


def test_a_missing_dimension_is_empty() -> None:
    assert CATALOG.resolve(event("call", {"seconds": 1, "language": "de"})).dimensions["room"] == ""


@pytest.mark.parametrize(
    ("refused", "code"),
    [
        (event("call", {"language": "de"}), "missing-value"),
        (event("call", {"seconds": None, "language": "de"}), "missing-value"),
        (event("call", {"seconds": 1}), "missing-value"),
        (event("call", "text"), "missing-value"),
        (event("call", {"seconds": True, "language": "de"}), "not-a-number"),
        (event("call", {"seconds": "1.2345", "language": "de"}), "too-precise"),
        (event("call", {"seconds": -1, "language": "de"}), "negative"),
        (event("call", {"seconds": 10**18, "language": "de"}), "too-large"),
        (event("call", {"seconds": 1, "language": ["de"]}), "invalid-value"),
        (event("call", {"seconds": 1, "language": "d" * 257}), "invalid-value"),
        (event("call", {"seconds": 1, "language": "de", "at": {"room": [7]}}), "invalid-value"),
        (event("pay", {"a": {"b": 1}}), "missing-value"),
    ],
)
def test_an_event_that_a_meter_wants_but_cannot_use_is_refused(refused: UsageEvent, code: str) -> None:
    assert refusal(refused).code == code


def test_a_refusal_names_the_meter() -> None:
    assert "seconds" in refusal(event("call", {"seconds": -1, "language": "de"})).detail
