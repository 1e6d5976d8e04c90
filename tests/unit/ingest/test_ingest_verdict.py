"""Which events of a batch count, and why the others do not."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ingest.verdict import Rules, Verdict, judge, merge
from metering.catalog import parse_catalog
from metering.clock import DAY_MS, MINUTE_MS, iso
from metering.errors import InvalidEvent
from metering.event import GATEWAY_AHEAD_MS, LATE_MS, Limits
from metering.meter import CompiledCatalog

NOW = 1_795_600_000_000
CATALOG = CompiledCatalog(
    7,
    parse_catalog("""
meters:
  seconds: {event: call.completed, aggregation: sum, value: $.seconds, scale: 3}
  balance: {event: balance.changed, aggregation: sum, value: $.amount, signed: true}
  languages: {event: call.completed, aggregation: unique, value: $.language, filter: {$.kind: spoken}}
"""),
)
TENANT_KEY = Rules("grand", False, Limits(), GATEWAY_AHEAD_MS, LATE_MS, DAY_MS)
PLATFORM_KEY = Rules(None, True, Limits(), GATEWAY_AHEAD_MS, None, DAY_MS)


def event(**members: Any) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": "1",
        "source": "/pms",
        "type": "call.completed",
        "data": {"seconds": 1},
    } | members


def encode(events: list[dict[str, Any] | bytes]) -> list[bytes]:
    return [e if isinstance(e, bytes) else msgspec.json.encode(e) for e in events]


def judged(
    *events: dict[str, Any] | bytes, rules: Rules = TENANT_KEY, tenants: dict[str, bool] | None = None
) -> Verdict:
    return judge(encode(list(events)), {}, rules, CATALOG, tenants or {}, NOW)


def code_of(*events: dict[str, Any] | bytes, rules: Rules = TENANT_KEY, tenants: dict[str, bool] | None = None) -> str:
    verdict = judged(*events, rules=rules, tenants=tenants)
    assert verdict.accepted == {}
    assert len(verdict.errors) == 1
    return verdict.errors[0].code


def test_good_events_go_on_byte_by_byte_in_their_order() -> None:
    sent = encode([event(id="b"), event(id="a", tenant="grand"), event(id="c", type="not.metered", data=None)])
    assert judge(sent, {}, TENANT_KEY, CATALOG, {}, NOW).accepted == {"grand": sent}


def test_a_bad_event_is_named_by_index_and_id_and_the_others_stay_good() -> None:
    sent = [event(id=f"e{i}") for i in range(100)]
    sent[41]["data"] = {"seconds": -1}
    verdict = judged(*sent)
    assert [len(events) for events in verdict.accepted.values()] == [99]
    (error,) = verdict.errors
    assert (error.index, error.id, error.code) == (41, "e41", "negative")
    assert "seconds" in error.detail


def nested(levels: int) -> bytes:
    """An event, itself the first level, with so many more in `data`."""
    return b'{"specversion":"1.0","id":"1","source":"/a","type":"t","data":' + b"[" * levels + b"]" * levels + b"}"


def test_sixteen_levels_are_deep_enough() -> None:
    assert judged(nested(15)).errors == []


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (event(specversion="0.3"), "specversion"),
        (event(id=None), "missing-attribute"),
        ({k: v for k, v in event().items() if k != "id"}, "missing-attribute"),
        (event(id=""), "invalid-attribute"),
        (event(id=5), "invalid-attribute"),
        (event(source="not a uri"), "invalid-attribute"),
        (event(subject="x" * 257), "attribute-too-long"),
        (event(subject="a\u0000b"), "invalid-attribute"),
        (event(Upper="x"), "invalid-attribute"),
        (event(receivedat="2026-11-23T10:00:00Z"), "reserved-attribute"),
        (event(tenant="other"), "reserved-attribute"),
        (event(type="tallygate.closing"), "reserved-type"),
        (event(type="tallygate.void"), "missing-scope"),
        (event(data={"seconds": "NaN"}), "not-a-number"),
        (event(data={"seconds": "Infinity"}), "not-a-number"),
        (event(data={"seconds": True}), "not-a-number"),
        (event(data={"seconds": -1}), "negative"),
        (event(data={"seconds": "0.0001"}), "too-precise"),
        (event(data={"seconds": 10**18}), "too-large"),
        (event(data={"seconds": 2**70}), "too-large"),
        (event(data={}), "missing-value"),
        (event(data=None), "missing-value"),
        (event(data={"seconds": 1, "kind": "spoken"}), "missing-value"),
        (event(data={"seconds": 1, "x": "y" * 65_536}), "data-too-large"),
        (event(time="yesterday"), "invalid-time"),
        (event(time="2026-11-23T10:00:00"), "invalid-time"),
        (event(time=iso(NOW + 5 * MINUTE_MS + 1)), "time-out-of-range"),
        (event(time=iso(NOW - 35 * DAY_MS - 1)), "time-out-of-range"),
        (b'{"specversion":"1.0","id":"1","id":"1","source":"/a","type":"t"}', "duplicate-member"),
        (b'{"specversion":"1.0","id":"1","source":"/a","type":"t","data":{"a":{"b":1,"b":2}}}', "duplicate-member"),
        (b'{"specversion":"1.0","id":"1","source":"/a","type":"call.completed","data":{"seconds":1e400}}', "too-large"),
        (b'{"specversion":"1.0","id":"1","source":"/a","type":"t","data":' + b"[" * 17 + b"]" * 17 + b"}", "too-deep"),
        (
            b'{"specversion":"1.0","id":"1","source":"/a","type":"t","data":' + b"[" * 300 + b"]" * 300 + b"}",
            "too-deep",
        ),
        (b"17", "not-an-event"),
        (b"[]", "not-an-event"),
    ],
)
def test_each_mistake_has_its_own_code(bad: dict[str, Any] | bytes, code: str) -> None:
    assert code_of(bad) == code


def test_an_event_larger_than_a_frame_is_refused() -> None:
    crowded = event(**{f"ext{i}": "x" * 256 for i in range(4_000)})
    assert code_of(crowded) == "event-too-large"


def test_huge_integers_are_fine_where_no_meter_looks() -> None:
    assert judged(event(type="unknown", data={"n": 10**400})).errors == []


def test_time_may_be_missing_or_at_the_edges() -> None:
    edges = [event(time=iso(NOW + 5 * MINUTE_MS)), event(time=iso(NOW - 35 * DAY_MS)), event(), event(time=None)]
    assert judged(*edges).errors == []


def test_backfill_lifts_the_bound_on_the_past_only() -> None:
    rules = msgspec.structs.replace(TENANT_KEY, late_ms=None)
    assert judged(event(time="1970-01-01T00:00:00Z"), rules=rules).errors == []
    assert code_of(event(time="1969-12-31T23:59:59Z"), rules=rules) == "time-out-of-range"
    assert code_of(event(time=iso(NOW + 5 * MINUTE_MS + 1)), rules=rules) == "time-out-of-range"


def test_old_events_are_counted_because_each_costs_a_look_into_the_ledger() -> None:
    verdict = judged(event(time=iso(NOW - DAY_MS - 1)), event(time=iso(NOW - DAY_MS)), event())
    assert verdict.old == 1


def test_a_void_needs_its_scope() -> None:
    rules = msgspec.structs.replace(TENANT_KEY, may_void=True)
    assert judged(event(type="tallygate.void", data={"source": "/s", "id": "1"}), rules=rules).errors == []
    assert code_of(event(type="tallygate.void", data={"id": "1"}), rules=rules) == "invalid-void"
    assert code_of(event(type="tallygate.voided"), rules=rules) == "reserved-type"


def test_signed_meters_take_negative_values() -> None:
    assert judged(event(type="balance.changed", data={"amount": -3})).errors == []


def test_with_a_platform_key_each_event_names_its_tenant() -> None:
    tenants = {"grand": True, "inn": True, "nobody": False}
    verdict = judged(
        event(id="1", tenant="grand"),
        event(id="2", tenant="inn"),
        event(id="3", tenant="nobody"),
        event(id="4"),
        event(id="5", tenant="grand"),
        rules=PLATFORM_KEY,
        tenants=tenants,
    )
    ids = {tenant: [msgspec.json.decode(e)["id"] for e in events] for tenant, events in verdict.accepted.items()}
    assert ids == {"grand": ["1", "5"], "inn": ["2"]}
    assert [(e.index, e.code) for e in verdict.errors] == [(2, "unknown-tenant"), (3, "missing-tenant")]


def test_a_name_not_met_before_is_asked_for_and_neither_accepted_nor_refused() -> None:
    verdict = judged(event(tenant="new"), rules=PLATFORM_KEY)
    assert (verdict.unseen, verdict.accepted, verdict.errors) == ({"new"}, {}, [])


def test_what_could_not_be_read_keeps_the_reason_found_there() -> None:
    broken = {5: InvalidEvent("invalid-utf8", "byte 3")}
    verdict = judge([b"", *encode([event(id="6")])], broken, TENANT_KEY, CATALOG, {}, NOW, first=5)
    assert [(e.index, e.id, e.code) for e in verdict.errors] == [(5, None, "invalid-utf8")]
    assert len(verdict.accepted["grand"]) == 1


def test_a_batch_judged_in_pieces_gives_the_same_verdict() -> None:
    sent = encode([event(id=str(i), tenant=f"t{i % 4}") for i in range(30)])
    tenants = {"t0": True, "t1": True, "t2": False}
    whole = judge(sent, {}, PLATFORM_KEY, CATALOG, tenants, NOW)
    parts = [judge(sent[i : i + 7], {}, PLATFORM_KEY, CATALOG, tenants, NOW, i) for i in range(0, 30, 7)]
    assert msgspec.to_builtins(merge(parts)) == msgspec.to_builtins(whole)
