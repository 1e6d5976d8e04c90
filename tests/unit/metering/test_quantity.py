from __future__ import annotations

from decimal import Decimal

import pytest

from metering.quantity import InvalidQuantity, average, from_text, parse, render


@pytest.mark.parametrize(
    ("value", "nanos"),
    [
        (0, 0),
        (12, 12_000_000_000),
        (Decimal("12.5"), 12_500_000_000),
        ("12.5", 12_500_000_000),
        ("12.500000000000", 12_500_000_000),
        (Decimal("0.000000001"), 1),
        ("1e3", 1_000_000_000_000),
        ("-0.0", 0),
        (Decimal("0E+999999"), 0),
        (999_999_999_999_999_999, 999_999_999_999_999_999_000_000_000),
        ("999999999999999999.999999999", 999_999_999_999_999_999_999_999_999),
    ],
)
def test_numbers_and_decimal_strings_are_quantities(value: object, nanos: int) -> None:
    assert parse(value, 9, signed=False) == nanos


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (10**18, "too-large"),
        (Decimal("1e18"), "too-large"),
        (Decimal("1e400"), "too-large"),
        (Decimal("1e999999999999999999"), "too-large"),
        (Decimal("1e-400"), "too-precise"),
        ("0.1234567891", "too-precise"),
        (-1, "negative"),
        (Decimal("-0.5"), "negative"),
        ("NaN", "not-a-number"),
        ("Infinity", "not-a-number"),
        ("1_000", "not-a-number"),
        (" 1", "not-a-number"),
        ("١٢", "not-a-number"),
        ("", "not-a-number"),
        ("0x10", "not-a-number"),
        ("1" * 65, "not-a-number"),
        ("1e99999999999999999999", "not-a-number"),
        (True, "not-a-number"),
        (None, "not-a-number"),
        (1.5, "not-a-number"),
        ([1], "not-a-number"),
        ({}, "not-a-number"),
    ],
)
def test_anything_else_is_refused_with_its_own_code(value: object, code: str) -> None:
    with pytest.raises(InvalidQuantity) as caught:
        parse(value, 9, signed=False)
    assert caught.value.code == code


def test_more_decimals_than_the_scale_are_refused_not_rounded() -> None:
    assert parse("1.50", 1, signed=False) == 1_500_000_000
    with pytest.raises(InvalidQuantity, match="keeps 1 decimals"):
        parse("1.55", 1, signed=False)
    with pytest.raises(InvalidQuantity, match="keeps 0 decimals"):
        parse(Decimal("0.1"), 0, signed=False)


def test_signed_meters_take_negative_values() -> None:
    assert parse("-1.5", 1, signed=True) == -1_500_000_000
    assert parse(-3, 0, signed=True) == -3_000_000_000


@pytest.mark.parametrize(
    ("nanos", "text"),
    [(0, "0"), (12_500_000_000, "12.5"), (-1, "-0.000000001"), (3_000_000_000, "3"), (10**27, "1" + "0" * 18)],
)
def test_render_is_the_shortest_exact_form(nanos: int, text: str) -> None:
    assert render(nanos) == text
    assert from_text(text) == nanos


def test_what_clickhouse_writes_is_read() -> None:
    assert from_text("12.500000000") == 12_500_000_000
    assert from_text("-0.5") == -500_000_000
    with pytest.raises(ValueError, match="more than 9 decimals"):
        from_text("0.1234567891")


@pytest.mark.parametrize(
    ("total", "count", "scale", "text"),
    [
        (10_000_000_000, 4, 0, "2.5"),
        (10_000_000_000, 3, 0, "3.333333"),
        (20_000_000_000, 3, 0, "6.666667"),
        (1_000_000_000, 2_000_000, 0, "0"),
        (3_000_000_000, 2_000_000, 0, "0.000002"),
        (-10_000_000_000, 3, 0, "-3.333333"),
        (1, 2, 9, "0.0000000005"),
        (100_000_000_000, 1, 0, "100"),
    ],
)
def test_an_average_is_half_even_at_six_decimals_more_than_the_scale(
    total: int, count: int, scale: int, text: str
) -> None:
    assert average(total, count, scale) == text
