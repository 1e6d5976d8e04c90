"""What a request asks the gate."""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

Amount = int | str | Decimal


class Question(NamedTuple):
    """May `tenant` use `amount` more of `feature`?"""

    tenant: str
    feature: str
    amount: Amount = 1
