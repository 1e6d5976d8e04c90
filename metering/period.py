"""Periods: hour, day and month in UTC, billing in the tenant's own time zone from its own anchor, lifetime.

Instants in ms UTC; a period is [start, end). Billing periods are calendar months counted from the anchor, never
"30 days": an anchor on the 31st falls on the last day of shorter months and comes back to the 31st. Local times that a
DST change skips move forward to the first that exists; of two equal local times the first is meant.
"""

from __future__ import annotations

from calendar import monthrange
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from metering.clock import DAY_MS, HOUR_MS, from_ms, to_ms

PeriodKind = Literal["hour", "day", "month", "billing", "lifetime"]
PERIOD_KINDS: tuple[PeriodKind, ...] = ("hour", "day", "month", "billing", "lifetime")
KINDS: tuple[PeriodKind, ...] = ("hour", "day", "month", "billing", "lifetime")
FOREVER = 1 << 53
GRACE_MS = HOUR_MS
"""How long after its end a period's counter is kept, by the partition clock."""


class Period(NamedTuple):
    """[start, end) in ms UTC."""

    start: int
    end: int

    def is_open(self, clock: int) -> bool:
        """Whether its counter is still kept when the partition clock stands at `clock`."""
        return clock < self.end + GRACE_MS


class BillingTerm(NamedTuple):
    """From instant `since` (ms UTC) on, billing periods count months from `anchor` (ms UTC) in `zone` (IANA name)."""

    since: int
    anchor: int
    zone: str


DEFAULT_TERMS: tuple[BillingTerm, ...] = (BillingTerm(0, 0, "UTC"),)
"""Of a tenant without a subscription: calendar months in UTC."""

LIFETIME = Period(0, FOREVER)
_decode_terms = msgspec.json.Decoder(tuple[BillingTerm, ...]).decode


@lru_cache(maxsize=4096)
def terms_text(terms: tuple[BillingTerm, ...]) -> str:
    """Terms as they stand in Redis."""
    return msgspec.json.encode(terms).decode()


@lru_cache(maxsize=4096)
def terms_from(text: str) -> tuple[BillingTerm, ...]:
    """What `terms_text` wrote; DEFAULT_TERMS where it wrote nothing."""
    return _decode_terms(text) if text else DEFAULT_TERMS


def period_of(kind: PeriodKind, at: int, terms: tuple[BillingTerm, ...] = DEFAULT_TERMS) -> Period:
    """The period of `kind` in which instant `at` lies. `terms` are ordered by `since` and used by billing only."""
    if kind == "hour":
        start = at - at % HOUR_MS
        return Period(start, start + HOUR_MS)
    if kind == "day":
        start = at - at % DAY_MS
        return Period(start, start + DAY_MS)
    if kind == "month":
        return _utc_month(at // DAY_MS)
    if kind == "lifetime":
        return LIFETIME
    return _billing(at, terms)


_REMEMBERED = 1 << 16
_last: dict[PeriodKind | tuple[BillingTerm, ...], Period] = {}
"""By kind, billing periods by the terms."""


def period_at(kind: PeriodKind, at: int, terms: tuple[BillingTerm, ...] = DEFAULT_TERMS) -> Period:
    """`period_of`, for who asks of now again and again: it remembers the last answer for the same terms."""
    key = terms if kind == "billing" else kind
    found = _last.get(key)
    if found is None or not found.start <= at < found.end:
        if len(_last) >= _REMEMBERED:
            _last.clear()
        found = _last[key] = period_of(kind, at, terms)
    return found


@lru_cache(maxsize=4096)
def _utc_month(day: int) -> Period:
    first = from_ms(day * DAY_MS).replace(day=1)
    return Period(to_ms(first), to_ms((first + timedelta(days=32)).replace(day=1)))


def _billing(at: int, terms: tuple[BillingTerm, ...]) -> Period:
    index = max((i for i, term in enumerate(terms) if term.since <= at), default=0)
    term = terms[index]
    anchor = from_ms(term.anchor).astimezone(zone_of(term.zone))
    local = from_ms(at).astimezone(anchor.tzinfo)
    months = (local.year - anchor.year) * 12 + local.month - anchor.month
    while months_after(anchor, months) > at:
        months -= 1
    while months_after(anchor, months + 1) <= at:
        months += 1
    start, end = months_after(anchor, months), months_after(anchor, months + 1)
    if index > 0:
        start = max(start, term.since)
    if index + 1 < len(terms):
        end = min(end, terms[index + 1].since)
    return Period(start, end)


def months_after(anchor: datetime, months: int) -> int:
    """`anchor` (aware, local) plus calendar months, counted from the anchor itself, in ms UTC."""
    year, month = divmod(anchor.year * 12 + anchor.month - 1 + months, 12)
    day = min(anchor.day, monthrange(year, month + 1)[1])
    return resolve(anchor.replace(year=year, month=month + 1, day=day, fold=0))


def resolve(local: datetime) -> int:
    """An aware local time in ms UTC.

    With fold=0 Python uses the offset before a change, so a skipped time lands after the gap, moved by its length, and
    of two equal local times the first is meant.
    """
    return to_ms(local.replace(fold=0).astimezone(UTC))


@lru_cache(maxsize=1024)
def zone_of(name: str) -> tzinfo:
    """An IANA zone or a fixed offset like +05:30. Raises ValueError."""
    if name == "UTC":
        return UTC
    if name.startswith(("+", "-")):
        fixed = datetime.fromisoformat(f"2000-01-01T00:00:00{name}").tzinfo
        assert fixed is not None
        return fixed
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, OSError):
        raise ValueError(f"{name!r} is no time zone; use an IANA name like Europe/Berlin") from None
