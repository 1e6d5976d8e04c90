"""A tenant's compiled entitlements: what the gate needs to know besides the counters. Published by tenancy to Redis."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from metering.catalog import Catalog, OnExceed, OnUnknown
from metering.period import BillingTerm, PeriodKind

TenantStatus = Literal["active", "suspended", "cancelled"]


class CompiledEntitlement(msgspec.Struct, frozen=True, omit_defaults=True):
    """One feature of one tenant; `limit` as a decimal string, None: unlimited."""

    meter: str | None = None
    aggregation: str | None = None
    scale: int = 0
    limit: str | None = None
    period: PeriodKind | None = None
    on_exceed: OnExceed = "block"
    on_unknown: OnUnknown = "closed"
    alert_at: tuple[str, ...] = ()
    value: Any = None


class TenantSnapshot(msgspec.Struct, frozen=True):
    """Everything the gate knows of a tenant. `features` are all of the catalog, entitled or not."""

    tenant: str
    status: TenantStatus
    plan: str | None
    catalog_version: int
    terms: tuple[BillingTerm, ...]
    features: tuple[str, ...]
    entitlements: dict[str, CompiledEntitlement]


def compile_snapshot(
    tenant: str,
    status: TenantStatus,
    plan: str | None,
    terms: tuple[BillingTerm, ...],
    catalog: Catalog,
    catalog_version: int,
) -> TenantSnapshot:
    """Join a tenant's plan with the catalog. A plan that the catalog no longer has grants nothing."""
    granted = catalog.plans[plan].entitlements if plan in catalog.plans else {}
    entitlements = {}
    for name, right in granted.items():
        meter_name = catalog.features[name].meter
        meter = catalog.meters[meter_name] if meter_name else None
        entitlements[name] = CompiledEntitlement(
            meter=meter_name,
            aggregation=meter.aggregation if meter else None,
            scale=meter.scale if meter else 0,
            limit=right.limit,
            period=right.period,
            on_exceed=right.on_exceed,
            on_unknown=right.on_unknown,
            alert_at=right.alert_at,
            value=right.value,
        )
    return TenantSnapshot(tenant, status, plan, catalog_version, terms, tuple(sorted(catalog.features)), entitlements)


def encode(snapshot: TenantSnapshot) -> bytes:
    """The JSON that stands in Redis."""
    return msgspec.json.encode(snapshot)


_decode = msgspec.json.Decoder(TenantSnapshot).decode


def decode(text: bytes) -> TenantSnapshot:
    """What `encode` wrote."""
    return _decode(text)
