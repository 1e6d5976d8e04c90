"""Columns in ClickHouse's Native format, built from Python lists: a block is bytes, never row objects.

Types may be plainer than the table's (String for LowCardinality(String)): ClickHouse converts on insert.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate, chain
from struct import Struct, pack
from typing import NamedTuple


def varint(number: int) -> bytes:
    """LEB128, ClickHouse's VarUInt."""
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


_LENGTHS = [varint(number) for number in range(1 << 12)]


def text(value: str) -> bytes:
    """One String value of text."""
    data = value.encode("utf-8", "backslashreplace")
    return varint(len(data)) + data


def blobs(values: Sequence[bytes]) -> bytes:
    """Values of a String column."""
    lengths = [_LENGTHS[size] if size < 4096 else varint(size) for size in map(len, values)]
    return b"".join(chain.from_iterable(zip(lengths, values, strict=True)))


def texts(values: Sequence[str]) -> bytes:
    """Values of a String column: the `text` of each."""
    distinct = set(values)
    if len(distinct) * 4 <= len(values):
        known = {value: text(value) for value in distinct}
        return b"".join([known[value] for value in values])
    sizes = set(map(len, distinct))
    if max(sizes, default=0) < _ONE_BYTE and "".join(distinct).isascii():
        if len(sizes) == 1:
            length = chr(sizes.pop())
            return (length + length.join(values)).encode()
        return "".join([_ONE_BYTE_LENGTHS[len(value)] + value for value in values]).encode()
    return b"".join(map(text, values))


_ONE_BYTE = 128
"""Lengths below it are one byte, an ASCII character."""
_ONE_BYTE_LENGTHS = [chr(length) for length in range(_ONE_BYTE)]


def numbers(code: str, values: Sequence[int]) -> bytes:
    """Values of a column of integers; `code` as in `struct`: q for Int64 and DateTime64, I for UInt32 and so on."""
    return pack(f"<{len(values)}{code}", *values)


def int128s(values: Sequence[int]) -> bytes:
    """Values of a Decimal(38, 9) column, in nanos.

    Usual values are not negative and fit in 64 bits: many of those are packed at once, the rest one by one.
    """
    if not values or min(values) < 0 or max(values) >= _BIG:
        return b"".join([value.to_bytes(16, "little", signed=True) for value in values])
    whole = len(values) - len(values) % _AT_ONCE
    packed = [_small_int128s(*values[first : first + _AT_ONCE]) for first in range(0, whole, _AT_ONCE)]
    packed += [value.to_bytes(16, "little") for value in values[whole:]]
    return b"".join(packed)


_AT_ONCE = 50
_small_int128s = Struct("<" + "q8x" * _AT_ONCE).pack
_BIG = 1 << 63


class Column(NamedTuple):
    """One column of a block: values in the form of its type, in as many pieces as there are."""

    name: str
    type: str
    values: Iterable[bytes]


def sized(sizes: Iterable[int], *values: Iterable[bytes]) -> Iterable[bytes]:
    """Values of an Array or Map column: the elements of each row, then all elements (of a Map keys, then values)."""
    ends = list(accumulate(sizes))
    return chain([numbers("Q", ends)], *values)


def block(columns: Sequence[Column], rows: int) -> bytes:
    """One block; several may follow each other in one insert."""
    parts = [varint(len(columns)), varint(rows)]
    for column in columns:
        parts += (text(column.name), text(column.type))
        parts += column.values
    return b"".join(parts)
