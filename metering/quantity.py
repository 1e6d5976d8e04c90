"""Exact quantities: integers in units of 10^-9 ("nanos"). No floats anywhere.

Every quantity is below 10^18 in magnitude (contracts.md), so a nano fits in ClickHouse's Decimal(38, 9) with room
for sums over 10^11 events.
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Context, Decimal, DecimalException, InvalidOperation, Rounded, localcontext
from fractions import Fraction

from metering.errors import Refused

SCALE = 9
ONE: int = 10**SCALE
LIMIT: int = 10**18
_MAX_TEXT = 64  # the longest decimal string looked at: 10^18 with 9 decimals needs 29 characters
_UNITS: tuple[int, ...] = tuple(10 ** (SCALE - scale) for scale in range(SCALE + 1))
_EXACT = Context(prec=_MAX_TEXT, traps=[Rounded, InvalidOperation])


class InvalidQuantity(Refused):
    """A value that is no usable quantity. `code` is one of `not-a-number`, `too-large`, `too-precise`, `negative`."""


def parse(value: object, scale: int, signed: bool) -> int:
    """A JSON number (int, Decimal) or decimal string → nanos.

    More decimals than `scale` are refused, not rounded; trailing zeros do not count as decimals. Booleans, NaN,
    infinities and floats are no numbers here. Raises InvalidQuantity.
    """
    if type(value) is int:
        if not -LIMIT < value < LIMIT:
            raise InvalidQuantity("too-large", "the magnitude must be below 10^18")
        if value < 0 and not signed:
            raise InvalidQuantity("negative", "negative values need a meter with `signed: true`")
        return int(value) * ONE
    if type(value) is str:
        number = _decimal_of(value)
    elif type(value) is Decimal:
        number = value
    else:
        raise InvalidQuantity("not-a-number", f"a number or decimal string is needed, not {_kind(value)}")
    if not number.is_finite():
        raise InvalidQuantity("not-a-number", "NaN and Infinity are no quantities")
    if -SCALE <= number.adjusted() < 18:
        try:
            scaled = number.scaleb(scale, _EXACT)
            units = int(scaled)
            if units == scaled and (units >= 0 or signed):
                return units * _UNITS[scale]
        except DecimalException:
            pass  # a matter for the careful way, which says what is wrong
    sign, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int)
    if len(digits) + exponent > 18 and any(digits):
        raise InvalidQuantity("too-large", "the magnitude must be below 10^18")
    coefficient = _coefficient(digits)
    if not coefficient:
        return 0
    while exponent < -scale and coefficient % 10 == 0:
        coefficient //= 10
        exponent += 1
    if exponent < -scale:
        raise InvalidQuantity("too-precise", f"the meter keeps {scale} decimals; more are refused, not rounded")
    if sign and not signed:
        raise InvalidQuantity("negative", "negative values need a meter with `signed: true`")
    shift: int = 10 ** (SCALE + exponent)
    return -coefficient * shift if sign else coefficient * shift


def _decimal_of(text: str) -> Decimal:
    if len(text) > _MAX_TEXT or not text.isascii() or "_" in text or text != text.strip():
        raise InvalidQuantity("not-a-number", 'a decimal string like "12.5" is needed')
    try:
        return Decimal(text)
    except InvalidOperation:
        raise InvalidQuantity("not-a-number", 'a decimal string like "12.5" is needed') from None


def _coefficient(digits: tuple[int, ...]) -> int:
    if len(digits) > _MAX_TEXT:
        raise InvalidQuantity("too-precise", f"more than {_MAX_TEXT} digits")
    return int("".join(map(str, digits)))


def _kind(value: object) -> str:
    names = {bool: "a boolean", dict: "an object", list: "an array", type(None): "null", float: "a float"}
    return names.get(type(value), "nothing")


def render(nanos: int) -> str:
    """Nanos → the shortest exact decimal string: `12.5`, `-0.000000001`, `3`."""
    whole, part = divmod(abs(nanos), ONE)
    text = f"{whole}.{part:09d}".rstrip("0") if part else str(whole)
    return "-" + text if nanos < 0 else text


def from_text(text: str) -> int:
    """What `render` or ClickHouse's Decimal(38, 9) wrote → nanos. Raises ValueError."""
    sign = -1 if text.startswith("-") else 1
    whole, _, part = text.lstrip("-").partition(".")
    if len(part) > SCALE:
        raise ValueError(f"{text!r} has more than {SCALE} decimals")
    return int(sign * (int(whole) * ONE + int((part or "0").ljust(SCALE, "0"))))


def average(total: int, count: int, scale: int) -> str:
    """sum ÷ count as a decimal string, half-even at `scale` + 6 decimals (ledger.md, Rollups). `total` in nanos."""
    places = scale + 6
    quotient = Fraction(total, count * ONE)
    scaled = round(quotient * 10**places)  # round() on a Fraction is half-even and exact
    with localcontext() as context:
        context.prec = 80
        context.rounding = ROUND_HALF_EVEN
        exact = Decimal(scaled).scaleb(-places).normalize()
    return format(exact, "f")
