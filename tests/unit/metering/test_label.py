from __future__ import annotations

from decimal import Decimal

import pytest

from metering.label import text_of


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("", ""),
        ("high", "high"),
        (True, "true"),
        (False, "false"),
        (12, "12"),
        (Decimal("1.50"), "1.5"),
        (Decimal("1E+2"), "100"),
        (Decimal("100"), "100"),
        (Decimal("-0.0"), "0"),
        (Decimal("0E+9"), "0"),
        (Decimal("1e400"), None),
        (Decimal("1e-400"), None),
        (None, None),
        ([1], None),
        ({}, None),
    ],
)
def test_scalars_have_one_text_each(value: object, text: str | None) -> None:
    assert text_of(value) == text
