"""What a tenant holds, as the gate has heard. No I/O."""

from __future__ import annotations

from collections.abc import Mapping

from metering.reservation import Hold, hold_of, holds_of

_NOBODY_KNOWS = -1
_FOREVER = 1 << 62
_MANY = 32


class Holds:
    """Of one tenant. `number`: changes up to it (metering/reservation.py) say nothing new."""

    __slots__ = ("_features", "_most", "_sums", "number")

    def __init__(self) -> None:
        self.number = _NOBODY_KNOWS
        self._features: dict[str, dict[str, Hold]] = {}
        self._most: dict[str, int] = {}
        """feature → how many holds make it worth while to look for those that have ended"""
        self._sums: dict[str, tuple[int, int]] = {}
        """feature → (units held, until when (ms) that is so if nothing is told)"""

    def units(self, feature: str, now: int) -> int:
        """What is held of a feature at `now` (ms), in units of its meter's scale."""
        if feature not in self._features:
            return 0
        total, until = self._sums.get(feature, (0, 0))
        if now >= until:
            left = {field: hold for field, hold in self._features[feature].items() if hold.expires > now}
            self._features[feature] = left
            total = sum([hold.units for hold in left.values()])
            until = min([hold.expires for hold in left.values()], default=_FOREVER)
            self._sums[feature] = total, until
        return total

    def read(self, texts: Mapping[str, str], number: int) -> None:
        """All of them, as of change `number`."""
        self.number = number
        self.keep(holds_of(texts))

    def all(self) -> dict[str, Hold]:
        """What is held, by field."""
        return {field: hold for holds in self._features.values() for field, hold in holds.items()}

    def keep(self, holds: Mapping[str, Hold]) -> None:
        """These and no others."""
        self._features.clear()
        self._sums.clear()
        for field, hold in holds.items():
            self._features.setdefault(_feature(field), {})[field] = hold

    def told(self, field: str, text: str, now: int) -> None:
        """One changed; it may be gone. Where nobody checks, those that have ended by `now` (ms) go too."""
        feature, hold = _feature(field), hold_of(text)
        if hold is None:
            self._features.get(feature, {}).pop(field, None)
        else:
            holds = self._features.setdefault(feature, {})
            holds[field] = hold
            if len(holds) > self._most.get(feature, _MANY):
                left = {field: hold for field, hold in holds.items() if hold.expires > now}
                self._features[feature] = left
                self._most[feature] = max(_MANY, 2 * len(left))
        self._sums.pop(feature, None)


def _feature(field: str) -> str:
    return field.partition(":")[0]
