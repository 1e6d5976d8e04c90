"""What a request asks the gate."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from metering import quantity

Amount = int | str | Decimal


class Question(NamedTuple):
    """May `tenant` use `amount` more of `feature`? `groups`: of what it is, like `{"language": "ja"}`; `subject`: who
    within the tenant asks."""

    tenant: str
    feature: str
    amount: Amount = 1
    groups: Mapping[str, str] | None = None
    subject: str | None = None

    @property
    def nanos(self) -> int:
        """The amount, exact. Raises InvalidQuantity."""
        return quantity.parse(self.amount, quantity.SCALE, signed=False)

    @property
    def key(self) -> tuple[str, ...]:
        """What it has in common with questions that differ in their amount."""
        return self.tenant, self.feature, self.subject or "", *(f"{name}={text}" for name, text in self._sorted())

    def document(self) -> dict[str, Any]:
        """contracts.md, `POST /v1/check`. Raises InvalidQuantity."""
        asked = {"tenant": self.tenant, "feature": self.feature, "amount": quantity.render(self.nanos)}
        more = {"groups": dict(self._sorted()), "subject": self.subject}
        return asked | {name: value for name, value in more.items() if value}

    def _sorted(self) -> list[tuple[str, str]]:
        return sorted((self.groups or {}).items())
