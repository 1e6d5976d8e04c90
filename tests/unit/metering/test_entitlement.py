from __future__ import annotations

from metering.catalog import parse_catalog
from metering.entitlement import CompiledEntitlement, compile_snapshot, decode, encode
from metering.period import DEFAULT_TERMS, BillingTerm

CATALOG = parse_catalog("""
meters: {seconds: {event: call, aggregation: sum, value: $.s, scale: 3}}
features: {voice: {meter: seconds}, cloning: {}, upload: {static: true}}
plans:
  starter: {entitlements: {voice: {limit: 10, period: billing, on_exceed: warn, alert_at: [0.8]}, upload: {value: 20}}}
""")
TERMS = (BillingTerm(0, 0, "UTC"), BillingTerm(5, 7, "Europe/Berlin"))


def test_a_snapshot_joins_the_plan_with_its_meters() -> None:
    snapshot = compile_snapshot("grand", "active", "starter", TERMS, CATALOG, 3)
    assert snapshot.features == ("cloning", "upload", "voice")
    assert snapshot.entitlements == {
        "voice": CompiledEntitlement("seconds", "sum", 3, "10", "billing", "warn", "closed", ("0.8",)),
        "upload": CompiledEntitlement(value=20),
    }


def test_a_plan_that_is_gone_grants_nothing() -> None:
    for plan in (None, "legacy"):
        assert compile_snapshot("grand", "active", plan, DEFAULT_TERMS, CATALOG, 3).entitlements == {}


def test_a_snapshot_reads_back_as_it_was_published() -> None:
    snapshot = compile_snapshot("grand", "suspended", "starter", TERMS, CATALOG, 3)
    assert decode(encode(snapshot)) == snapshot
