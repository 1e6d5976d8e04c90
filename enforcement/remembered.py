"""An answer that is said again as long as it stands.

Its tenant forgets it when its plan, a counter or a hold changes (mirror.py); what passes with time is looked at here.
The instant as of which it is known moves on with every beat, so it is put in anew each time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from enforcement import answers
from metering.decision import Decision, steady
from metering.entitlement import TenantSnapshot


class Remembered(NamedTuple):
    """What was answered to a question about `amount` (nanos) of these `groups`: `before` and `after` are the JSON
    around its `as_of`. It stands in [since, until), ms UTC, while what is known is at most `max_staleness` ms old."""

    amount: int
    groups: Mapping[str, str]
    since: int
    until: int
    max_staleness: int | None
    decision: Decision
    before: bytes
    after: bytes

    def stands(self, amount: int, groups: Mapping[str, str], now: int, as_of: int) -> bool:
        """Whether it is the answer to this question too."""
        return (
            self.amount == amount
            and self.since <= now < self.until
            and (self.max_staleness is None or now - as_of <= self.max_staleness)
            and self.groups == groups
        )

    def as_of(self, instant: int) -> bytes:
        """Its JSON, known as of `instant` (ms UTC)."""
        return b"%b%b%b" % (self.before, answers.instant(instant), self.after)


def worth_remembering(
    decision: Decision,
    snapshot: TenantSnapshot | None,
    amount: int,
    groups: Mapping[str, str],
    now: int,
    text: bytes,
) -> Remembered | None:
    """A decision made at `now` and its JSON; None: it may be another one the next time. Holds expire one by one, rates
    count each question, and what is not known may be known soon."""
    at = decision.standing
    if snapshot is None or decision.source != "memory" or decision.feature not in snapshot.features:
        return None
    right = snapshot.entitlements.get(decision.feature)
    if right is not None and (right.rates or (at is not None and at.reserved)):
        return None
    before, mark, after = text.partition(_MARK)
    instant = answers.instant(decision.as_of)
    assert after.startswith(instant)
    return Remembered(
        amount,
        groups,
        now,
        steady(snapshot, decision.feature, now).end,
        None if right is None else right.max_staleness,
        decision,
        before + mark,
        after[len(instant) :],
    )


_MARK = b'"as_of":"'
"""Within a JSON text its quotes would stand behind backslashes."""
