"""What the ledger holds is what was decoded: every kind of event, through the real engine."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from metering import frame as frames_of
from metering.catalog import parse_catalog
from metering.clock import iso
from metering.meter import CompiledCatalog
from metering.position import version_of
from streams.frame import Frame, Record, decode
from streams.inserts import Inserts
from streams.rows import event_blocks, event_rows

NOW = 1_795_600_000_000
CATALOG = CompiledCatalog(
    3,
    parse_catalog("""
meters:
  calls: {event: call, aggregation: count, filter: {$.kind: [paid]}}
  balance: {event: call, aggregation: sum, value: $.n, signed: true, scale: 9, group_by: {room: subject, kind: $.kind}}
  guests: {event: visit, aggregation: unique, value: $.guest}
"""),
)


def event(id: str, **members: Any) -> dict[str, Any]:
    usual = {"specversion": "1.0", "id": id, "source": "/pms", "type": "call", "time": iso(NOW), "data": {"n": 1}}
    return {name: value for name, value in (usual | members).items() if value is not None}


EVENTS = [
    event("a", subject="room-1", data={"n": 2, "kind": "paid"}),
    event("long" * 40, data={"n": 10**17, "kind": "free"}),
    event("ünïcode-😀", source="urn:x:y", data={"n": "-123456789.123456789"}),
    event("list", data={"n": 3, "list": [1, 2, {"deep": None}]}),
    event("v1", type="visit", data={"guest": "g" * 200}),
    event("v2", type="visit", data={"guest": "ß"}, time=iso(NOW - 40 * 86_400_000)),
    event("v3", type="visit", data={"guest": 7}, time=None),
    event("other", type="not.metered", data="text", language="de"),
    event("big", data={"n": 1, "text": "x" * 20_000}),
]


def decoded(events: list[dict[str, Any]]) -> Frame:
    lines = [json.dumps(one, ensure_ascii=False, separators=(",", ":")).encode() for one in events]
    record = Record(5, NOW, b"acme", b"\n".join(lines), frames_of.headers(len(lines), 3, NOW - 1))
    return decode(record, 0, 0, 1, lambda version, at: CATALOG)


def expected(events: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """The rows by hand, from the events and the catalog above."""
    rows = []
    for line, one in enumerate(events):
        data = one["data"]
        quantities: dict[str, Decimal] = {}
        uniques: dict[str, str] = {}
        dimensions: dict[str, str] = {}
        if one["type"] == "call":
            if data.get("kind") == "paid":
                quantities["calls"] = Decimal(1)
            quantities["balance"] = Decimal(data["n"])
            dimensions = {"room": one.get("subject", ""), "kind": data.get("kind", "")}
        elif one["type"] == "visit":
            quantities["guests"] = Decimal(1)
            uniques["guests"] = str(data["guest"])
        raw = json.dumps(one, ensure_ascii=False, separators=(",", ":"))
        attributes = one["id"], one["source"], one["type"], one.get("subject", ""), raw, one.get("time", iso(NOW - 1))
        rows.append((*attributes, quantities, uniques, dimensions, version_of(1, 5, line)))
    return sorted(rows)


QUERY = (
    "SELECT id, source, type, subject, event, toUnixTimestamp64Milli(time), quantities, uniques, dimensions, version, "
    "tenant, partition, catalog_version, toUnixTimestamp64Milli(received), toUnixTimestamp64Milli(clock) "
    "FROM usage_events"
)


async def stored(clickhouse: Any) -> list[tuple[Any, ...]]:
    found = []
    for row in (await clickhouse.query(QUERY)).result_rows:
        assert row[10:] == ("acme", 0, 3, NOW - 1, NOW)
        found.append((*row[:5], iso(row[5]), *row[6:10]))
    return sorted(found)


async def test_every_kind_of_event_comes_back_as_it_was(clickhouse: Any) -> None:
    frame = decoded(EVENTS)
    assert not frame.dead
    await Inserts(clickhouse).insert("usage_events", event_blocks(event_rows(frame, frame.entries, 1, 0)))
    assert await stored(clickhouse) == expected(EVENTS)


async def test_of_a_frame_with_duplicates_only_the_counted_get_rows(clickhouse: Any) -> None:
    frame = decoded(EVENTS)
    some = [1, 4, 5, 8]
    await Inserts(clickhouse).insert("usage_events", event_blocks(event_rows(frame, frame.entries.take(some), 1, 0)))
    wanted = {EVENTS[index]["id"] for index in some}
    assert await stored(clickhouse) == [row for row in expected(EVENTS) if row[0] in wanted]


async def test_usual_events_come_back_as_they_were(clickhouse: Any) -> None:
    events = [event(f"e{number}", subject=f"room-{number % 30}", data={"n": number}) for number in range(200)]
    frame = decoded(events)
    assert len(frame.entries.resolved) == 1, "this test means the way that takes all at once"
    await Inserts(clickhouse).insert("usage_events", event_blocks(event_rows(frame, frame.entries, 1, 0)))
    assert await stored(clickhouse) == expected(events)
