"""A tenant's compiled entitlements: what the gate needs to know besides the counters. Published by tenancy to Redis."""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import Any, Literal

import msgspec

from metering.catalog import Catalog, Groups, Limit, OnExceed, OnUnknown
from metering.period import BillingTerm, PeriodKind
from metering.rate import Rate

TenantStatus = Literal["active", "suspended", "cancelled"]
_SHARED = 1024


class CompiledGrant(msgspec.Struct, frozen=True, omit_defaults=True):
    """An extra allowance beside the plan's own limit: `amount` (decimal string) is what is left of it for the periods
    that begin or go on while it is valid, [since, until) in ms UTC."""

    id: str
    amount: str
    since: int
    until: int


class CompiledEntitlement(msgspec.Struct, frozen=True, omit_defaults=True, dict=True):
    """One feature of one tenant; `limit` as a decimal string, None: unlimited; `further` limits hold beside it.

    `max_staleness` in ms: with older knowledge usage counts as not known. `grants` add to `limit`.
    """

    meter: str | None = None
    aggregation: str | None = None
    scale: int = 0
    limit: str | None = None
    period: PeriodKind | None = None
    on_exceed: OnExceed = "block"
    on_unknown: OnUnknown = "closed"
    alert_at: tuple[str, ...] = ()
    value: Any = None
    further: tuple[Limit, ...] = ()
    max_staleness: int | None = None
    reservable: bool = False
    grants: tuple[CompiledGrant, ...] = ()
    groups: Groups = ()
    rates: tuple[Rate, ...] = ()

    @cached_property
    def limits(self) -> tuple[Limit, ...]:
        """All limits of a metered feature, the plan's main one first."""
        return () if self.period is None else (Limit(self.limit, self.period, self.on_exceed), *self.further)


class TenantSnapshot(msgspec.Struct, frozen=True):
    """Everything the gate knows of a tenant. `features` are all of the catalog, entitled or not; `shadow` those of them
    whose denials are only counted. `trial_ends`: from this instant (ms UTC) on the plan grants nothing more."""

    tenant: str
    status: TenantStatus
    plan: str | None
    catalog_version: int
    terms: tuple[BillingTerm, ...]
    features: tuple[str, ...]
    entitlements: dict[str, CompiledEntitlement]
    shadow: tuple[str, ...] = ()
    trial_ends: int | None = None


def compile_snapshot(
    tenant: str,
    status: TenantStatus,
    plan: str | None,
    terms: tuple[BillingTerm, ...],
    catalog: Catalog,
    catalog_version: int,
    trial_ends: int | None = None,
    grants: dict[str, tuple[CompiledGrant, ...]] | None = None,
) -> TenantSnapshot:
    """Join a tenant's plan with the catalog. A plan that the catalog no longer has grants nothing."""
    granted = catalog.plans[plan].entitlements if plan in catalog.plans else {}
    entitlements = {}
    for name, right in granted.items():
        feature = catalog.features[name]
        meter = catalog.meters[feature.meter] if feature.meter else None
        entitlements[name] = CompiledEntitlement(
            meter=feature.meter,
            aggregation=meter.aggregation if meter else None,
            scale=meter.scale if meter else 0,
            limit=right.limit,
            period=right.period,
            on_exceed=right.on_exceed,
            on_unknown=right.on_unknown,
            alert_at=right.alert_at,
            value=right.value,
            further=right.further,
            max_staleness=right.max_staleness,
            reservable=feature.reservable,
            grants=(grants or {}).get(name, ()),
            groups=right.groups,
            rates=right.rates,
        )
    shadow = tuple(sorted(name for name, feature in catalog.features.items() if feature.shadow))
    features = tuple(sorted(catalog.features))
    return TenantSnapshot(tenant, status, plan, catalog_version, terms, features, entitlements, shadow, trial_ends)


def encode(snapshot: TenantSnapshot) -> bytes:
    """The JSON that stands in Redis."""
    return msgspec.json.encode(snapshot)


class _Own(msgspec.Struct):
    tenant: str
    status: TenantStatus
    plan: str | None
    catalog_version: int
    terms: msgspec.Raw
    features: msgspec.Raw
    entitlements: msgspec.Raw
    shadow: msgspec.Raw = msgspec.Raw(b"[]")
    trial_ends: int | None = None


_decode = msgspec.json.Decoder(_Own).decode
_terms = lru_cache(maxsize=_SHARED)(msgspec.json.Decoder(tuple[BillingTerm, ...]).decode)
_names = lru_cache(maxsize=_SHARED)(msgspec.json.Decoder(tuple[str, ...]).decode)
_rights = lru_cache(maxsize=_SHARED)(msgspec.json.Decoder(dict[str, CompiledEntitlement]).decode)


def decode(text: bytes) -> TenantSnapshot:
    """What `encode` wrote. What tenants of one plan have in common is one object, which stays in the processor's
    caches: with ten thousand tenants decisions wait half as long for memory."""
    own = _decode(text)
    return TenantSnapshot(
        own.tenant,
        own.status,
        own.plan,
        own.catalog_version,
        _terms(bytes(own.terms)),
        _names(bytes(own.features)),
        _rights(bytes(own.entitlements)),
        _names(bytes(own.shadow)),
        own.trial_ends,
    )
