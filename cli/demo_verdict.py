"""Does everybody agree? The generator's account against what the gateway accepted, the ledger and the counters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from local.demo_account import RULES, Account
from metering.clock import parse_iso

NOTHING = "0"
"""What a meter without events may answer as well as nothing at all."""


class MeterRow(NamedTuple):
    """One meter of one tenant. `counter` covers the counter's own open period, and so does `counter_expected`."""

    tenant: str
    meter: str
    expected: str | None
    accepted: int
    duplicates: int
    ledger: str | None
    counter: str | None
    counter_expected: str | None
    period: str

    @property
    def counter_agrees(self) -> bool:
        """Whether the counter says what the account says of its period."""
        return _same(self.counter, self.counter_expected)

    @property
    def agrees(self) -> bool:
        """Whether ledger and counter say what the account says."""
        return _same(self.ledger, self.expected) and self.counter_agrees


class EventsRow(NamedTuple):
    """A tenant's messages: (expected, found) pairs."""

    tenant: str
    accepted: tuple[int, int]
    rejected: tuple[int, int]
    counted: tuple[int, int]
    duplicates: tuple[int, int]

    @property
    def agrees(self) -> bool:
        """Whether each pair does."""
        return all(expected == found for expected, found in self[1:])


def _same(found: str | None, expected: str | None) -> bool:
    return (found or NOTHING) == (expected or NOTHING)


def meter_rows(
    tenant: str,
    account: Account,
    accepted: Mapping[str, int],
    resent: Mapping[str, int],
    ledger: Mapping[str, Any],
    counters: Mapping[str, Any],
) -> list[MeterRow]:
    """`accepted` and `resent` are the gateway's 202s by event type; `ledger` and `counters` what `usage` answers."""
    rows = []
    for rule in RULES:
        counter = counters["meters"].get(rule.name) or {}
        start, end = (parse_iso(counter[name]) if counter.get(name) else None for name in ("from", "to"))
        period = {name: at for name, at in (("start", start), ("end", end)) if at is not None}
        rows.append(
            MeterRow(
                tenant,
                rule.name,
                account.total(tenant, rule),
                accepted.get(rule.event, 0),
                resent.get(rule.event, 0),
                (ledger["meters"].get(rule.name) or {}).get("total"),
                counter.get("total"),
                account.total(tenant, rule, **period),
                counter.get("period", ""),
            )
        )
    return rows


def events_row(tenant: str, account: Account, accepted: int, rejected: int, ledger: Mapping[str, Any]) -> EventsRow:
    """`accepted` and `rejected` as the gateway answered; `ledger` as `usage` answers."""
    distinct, resent = account.distinct[tenant], account.resent[tenant]
    return EventsRow(
        tenant,
        (distinct + resent, accepted),
        (account.refused[tenant], rejected),
        (distinct, ledger["events"]),
        (resent, ledger["duplicates"]),
    )
