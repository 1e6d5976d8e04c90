"""How fast checks of a feature were allowed, in this gate's memory: each gate counts what it allows itself.

A check that asks for nothing (amount 0) looks and is not counted.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from metering.decision import Rule, Slowed, Used
from metering.period import Period
from metering.quantity import ONE
from metering.rate import PERIODS, Rate, pace_of

_MOST = 200_000
"""Of tenants and subjects: whoever was not heard of for longest is forgotten, and begins anew."""


class Rates:
    """Of one gate."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._tats: OrderedDict[tuple[str, str, str, Rate], int] = OrderedDict()

    def slowed(
        self,
        rates: Sequence[Rate],
        tenant: str,
        feature: str,
        subject: str,
        amount: int,
        now: int,
        rules: list[Rule] | None,
    ) -> Slowed | None:
        """Count a check at `now` (ms UTC), unless one of the feature's rates has no room for it: then that one."""
        slowed: Slowed | None = None
        taken = []
        for rate in rates:
            key = tenant, feature, subject if rate.by == "subject" else "", rate
            pace = pace_of(rate, self._tats.get(key), now)
            if pace.next is None:
                since = pace.fits_at - PERIODS[rate.period]
                at = Slowed(rate, Period(since, pace.fits_at), Used(pace.used * ONE, 1), 0, int(rate.limit) * ONE, 0)
                slowed = slowed or at
            else:
                taken.append((key, pace.next))
            if rules is not None:
                detail = {"limit": rate.limit, "period": rate.period, "by": rate.by, "used": str(pace.used)}
                rules.append(Rule("rate", pace.next is not None, detail))
        if slowed is None and amount > 0:
            for key, tat in taken:
                self._tats[key] = tat
                self._tats.move_to_end(key)
            while len(self._tats) > self._most:
                self._tats.popitem(last=False)
        return slowed
