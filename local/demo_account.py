"""The demo's own account: what a person with pencil and paper would count.

It imports nothing of `metering` on purpose: two programs that share a mistake would agree on it.
"""

from __future__ import annotations

from collections import defaultdict
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from typing import NamedTuple

FOREVER = 1 << 53


class Entry(NamedTuple):
    """One event in one meter: when (ms UTC) and how much, or, for distinct things, what."""

    event: str
    time: int
    value: Decimal
    thing: str


class MeterRule(NamedTuple):
    """What a meter is called, how its entries become one number, which event type feeds it, decimals it keeps."""

    name: str
    how: str
    event: str
    scale: int = 0


RULES = (
    MeterRule("voice_seconds", "sum", "call.completed", 3),
    MeterRule("voice_calls", "count", "call.completed"),
    MeterRule("voice_languages", "distinct", "call.completed"),
    MeterRule("locations", "distinct", "call.completed"),
    MeterRule("concurrent_calls", "highest", "call.completed"),
    MeterRule("guest_requests", "count", "request.created"),
    MeterRule("priority_requests", "count", "request.created"),
    MeterRule("requesting_guests", "distinct", "request.created"),
    MeterRule("resolution_minutes", "average", "request.resolved", 2),
    MeterRule("fastest_resolution", "lowest", "request.resolved", 2),
    MeterRule("staff_seats", "last", "staff.seats"),
    MeterRule("api_calls", "count", "api.request"),
    MeterRule("api_bytes", "sum", "api.request"),
)


class Account:
    """Entries by tenant and meter, and how many messages of each fate were handed out."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, str], list[Entry]] = defaultdict(list)
        self.distinct: dict[str, int] = defaultdict(int)
        self.resent: dict[str, int] = defaultdict(int)
        self.refused: dict[str, int] = defaultdict(int)
        self._withdrawn: set[tuple[str, str]] = set()

    def add(self, tenant: str, meter: str, event: str, time: int, value: Decimal | int = 1, thing: str = "") -> None:
        """Write down an event in one meter; `event` is its name within the tenant."""
        self._entries[tenant, meter].append(Entry(event, time, Decimal(value), thing))

    def withdraw(self, tenant: str, event: str) -> None:
        """The event did not take place after all."""
        self._withdrawn.add((tenant, event))
        self.distinct[tenant] -= 1

    def total(self, tenant: str, rule: MeterRule, start: int = 0, end: int = FOREVER) -> str | None:
        """The meter's number over events with start ≤ time < end, as a plain decimal; None without any."""
        entries = [
            entry
            for entry in self._entries[tenant, rule.name]
            if start <= entry.time < end and (tenant, entry.event) not in self._withdrawn
        ]
        if not entries:
            return None
        values = [entry.value for entry in entries]
        with localcontext() as context:
            context.prec = 60
            if rule.how == "count":
                number = Decimal(len(entries))
            elif rule.how == "distinct":
                number = Decimal(len({entry.thing for entry in entries}))
            elif rule.how == "sum":
                number = sum(values, Decimal(0))
            elif rule.how == "average":
                step = Decimal(1).scaleb(-(rule.scale + 6))
                number = (sum(values, Decimal(0)) / len(values)).quantize(step, rounding=ROUND_HALF_EVEN)
            elif rule.how == "last":
                number = max(entries, key=lambda entry: entry.time).value
            else:
                number = max(values) if rule.how == "highest" else min(values)
            return plain(number)


def plain(number: Decimal) -> str:
    """`12.500` → `12.5`, `100` → `100`: one way to write a number, so that texts can be compared."""
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
