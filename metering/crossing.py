"""Crossings: counters that come to an `alert_at` share of their plan's limit. Pure.

The same crossing has the same id whoever finds it, however often: it is made of tenant, feature, period and threshold,
and of no clock. Who writes by id therefore writes each once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import NamedTuple

import msgspec

from metering import quantity
from metering.catalog import Catalog
from metering.period import Period, PeriodKind


class Threshold(NamedTuple):
    """A counter of `at` nanos or more has come to `share` of `limit`, decimal strings of the catalog."""

    at: int
    feature: str
    share: str
    limit: str


Thresholds = Mapping[tuple[str, PeriodKind], Sequence[Threshold]]
"""A plan's, by (meter, period kind) of the counter that is compared; the lowest first."""


class Crossing(msgspec.Struct, frozen=True):
    """A tenant's counter of `meter` from `start` to `end` came to `threshold` of `limit`.

    `used`: where the counter stood when that was found, at `at` of the partition clock; neither is part of the
    identity. Quantities are decimal strings, instants ms UTC.
    """

    id: str
    tenant: str
    feature: str
    meter: str
    period: PeriodKind
    start: int
    end: int
    threshold: str
    limit: str
    used: str
    at: int


def thresholds_of(catalog: Catalog, plan: str) -> Thresholds:
    """What is watched on `plan`, one of the catalog's."""
    found: dict[tuple[str, PeriodKind], list[Threshold]] = {}
    for feature, right in catalog.plans[plan].entitlements.items():
        meter = catalog.features[feature].meter
        if meter is None or right.period is None or right.limit is None:
            continue
        limit = quantity.from_text(right.limit)
        for share in right.alert_at:
            at = -(-limit * quantity.from_text(share) // quantity.ONE)  # a counter is at the share from there on
            found.setdefault((meter, right.period), []).append(Threshold(at, feature, share, right.limit))
    return {counted: sorted(set(thresholds)) for counted, thresholds in found.items()}


def passed(thresholds: Sequence[Threshold], before: int | None, now: int) -> list[Threshold]:
    """Those that a counter passes from below when it goes from `before` nanos (None: it was not there) to `now`."""
    return [threshold for threshold in thresholds if threshold.at <= now and (before is None or before < threshold.at)]


def crossing(
    tenant: str, meter: str, kind: PeriodKind, period: Period, threshold: Threshold, level: int, at: int
) -> Crossing:
    """The crossing of `threshold` by a counter that stands at `level` nanos when the partition clock says `at`."""
    identity = msgspec.json.encode((tenant, threshold.feature, kind, period.start, threshold.share, threshold.limit))
    return Crossing(
        blake2b(identity, digest_size=16).hexdigest(),
        tenant,
        threshold.feature,
        meter,
        kind,
        period.start,
        period.end,
        threshold.share,
        threshold.limit,
        quantity.render(level),
        at,
    )


def encode(found: Crossing) -> bytes:
    """The message in `usage.crossings`."""
    return msgspec.json.encode(found)


_decode = msgspec.json.Decoder(Crossing).decode


def decode(message: bytes) -> Crossing:
    """What `encode` wrote. Raises msgspec.DecodeError."""
    return _decode(message)
