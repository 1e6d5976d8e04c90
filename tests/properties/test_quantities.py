"""Quantities are exact, or refused."""

from __future__ import annotations

from decimal import Decimal, localcontext
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from metering.quantity import LIMIT, ONE, InvalidQuantity, average, from_text, parse, render

NANOS = st.integers(-(LIMIT * ONE) + 1, LIMIT * ONE - 1)
SCALES = st.integers(0, 9)
DECIMALS = st.decimals(allow_nan=False, allow_infinity=False) | st.decimals(-(10**19), 10**19, places=10)
NUMBERS = st.one_of(st.integers(), st.integers(-(10**19), 10**19), DECIMALS)


@given(NANOS)
def test_rendering_loses_nothing(nanos: int) -> None:
    text = render(nanos)
    assert from_text(text) == nanos
    assert parse(text, 9, signed=True) == nanos
    assert Fraction(text) == Fraction(nanos, ONE)


@given(NUMBERS, SCALES, st.booleans())
def test_what_is_accepted_is_the_number_itself_and_what_is_not_broke_a_rule(
    number: int | Decimal, scale: int, signed: bool
) -> None:
    exact = Fraction(number)
    allowed = abs(exact) < LIMIT and (exact * 10**scale).denominator == 1 and (signed or exact >= 0)
    try:
        nanos = parse(number, scale, signed)
    except InvalidQuantity:
        # More than 64 digits are refused although all but a few may be zeros behind the point.
        assert not allowed or len(Decimal(number).as_tuple().digits) > 64
    else:
        assert allowed
        assert Fraction(nanos, ONE) == exact


@given(NUMBERS, SCALES, st.booleans())
def test_a_number_and_its_decimal_string_are_the_same_quantity(number: int | Decimal, scale: int, signed: bool) -> None:
    def outcome(value: object) -> int | str:
        try:
            return parse(value, scale, signed)
        except InvalidQuantity as error:
            return error.code

    text = str(number)
    if len(text) <= 64:
        assert outcome(text) == outcome(number)


@given(st.text(max_size=12))
def test_any_text_is_a_quantity_or_refused(text: str) -> None:
    try:
        nanos = parse(text, 9, signed=True)
    except InvalidQuantity:
        return
    assert Fraction(nanos, ONE) == Fraction(Decimal(text))


@given(NANOS, st.integers(1, 10**9), SCALES)
def test_an_average_is_half_even_at_six_decimals_more_than_the_scale(total: int, count: int, scale: int) -> None:
    with localcontext() as context:
        context.prec = 100
        expected = (Decimal(total) / ONE / count).quantize(Decimal(1).scaleb(-scale - 6))
    assert Decimal(average(total, count, scale)) == expected
