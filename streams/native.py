"""Columns in ClickHouse's Native format, built from Python lists: a block is bytes, never row objects.

Types may be plainer than the table's (String for LowCardinality(String)): ClickHouse converts on insert.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate, chain
from struct import Struct, pack
from typing import Any


def varint(number: int) -> bytes:
    """LEB128, ClickHouse's VarUInt."""
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


_LENGTHS = [varint(number) for number in range(1 << 12)]


def blob(data: bytes) -> bytes:
    """One String value: its length and its bytes."""
    size = len(data)
    return (_LENGTHS[size] if size < 4096 else varint(size)) + data


def text(value: str) -> bytes:
    """One String value of text."""
    return blob(value.encode("utf-8", "backslashreplace"))


def blobs(values: Sequence[bytes]) -> list[bytes]:
    """Many String values as parts to be joined: the bytes themselves are not copied before."""
    lengths = [_LENGTHS[size] if size < 4096 else varint(size) for size in map(len, values)]
    return list(chain.from_iterable(zip(lengths, values, strict=True)))


def texts(values: Sequence[str]) -> bytes:
    """Many String values of text: their `text` one after the other."""
    sizes = set(map(len, values))
    if max(sizes) < _ONE_BYTE and "".join(values).isascii():
        if len(sizes) == 1:
            length = chr(sizes.pop())
            return (length + length.join(values)).encode()
        return "".join([_ONE_BYTE_LENGTHS[len(value)] + value for value in values]).encode()
    return b"".join(map(text, values))


_ONE_BYTE = 128
"""Lengths below it are one byte, an ASCII character."""
_ONE_BYTE_LENGTHS = [chr(length) for length in range(_ONE_BYTE)]


def _numbers(code: str) -> Callable[[Sequence[Any]], bytes]:
    return lambda values: pack(f"<{len(values)}{code}", *values)


_AT_ONCE = 64
_small_int128s = Struct("<" + "q8x" * _AT_ONCE).pack
_BIG = 1 << 63


def _int128(values: Sequence[int]) -> bytes:
    """Usual values are not negative and fit in 64 bits: many of those are packed at once, the rest one by one."""
    if not values or min(values) < 0 or max(values) >= _BIG:
        return b"".join([value.to_bytes(16, "little", signed=True) for value in values])
    whole = len(values) - len(values) % _AT_ONCE
    packed = [_small_int128s(*values[first : first + _AT_ONCE]) for first in range(0, whole, _AT_ONCE)]
    packed += [value.to_bytes(16, "little") for value in values[whole:]]
    return b"".join(packed)


def _strings(values: Sequence[bytes]) -> bytes:
    """Values are `blob` or `text` already."""
    return b"".join(values)


_WRITERS: dict[str, Callable[[Sequence[Any]], bytes]] = {
    "String": _strings,
    "DateTime64(3, 'UTC')": _numbers("q"),
    "UInt8": _numbers("B"),
    "UInt16": _numbers("H"),
    "UInt32": _numbers("I"),
    "UInt64": _numbers("Q"),
    "Int32": _numbers("i"),
    "Decimal(38, 9)": _int128,
}


class Column:
    """One column of a block: `values` in the form that its type's writer takes (ints, or `text` for String)."""

    def __init__(self, name: str, type: str) -> None:
        self.values: list[Any] = []
        self._head = text(name) + text(type)
        self._write = _WRITERS[type]

    def encode(self) -> bytes:
        """Name, type and data."""
        return self._head + self._write(self.values)


class MapColumn:
    """A Map(String, …) column: for each row how many pairs, then all keys and all values.

    Keys, and values `of_text`, may stand many in one item.
    """

    def __init__(self, name: str, value_type: str) -> None:
        self.of_text = value_type == "String"
        self.sizes: list[int] = []
        self.keys: list[bytes] = []
        self.values: list[Any] = []
        self._head = text(name) + text(f"Map(String, {value_type})")
        self._write = _WRITERS[value_type]

    def encode(self) -> bytes:
        """Name, type and data."""
        ends = pack(f"<{len(self.sizes)}Q", *accumulate(self.sizes))
        return self._head + ends + b"".join(self.keys) + self._write(self.values)


class ArrayColumn:
    """An Array(UInt32) column."""

    def __init__(self, name: str) -> None:
        self.sizes: list[int] = []
        self.values: list[int] = []
        self._head = text(name) + text("Array(UInt32)")

    def encode(self) -> bytes:
        """Name, type and data."""
        ends = pack(f"<{len(self.sizes)}Q", *accumulate(self.sizes))
        return self._head + ends + pack(f"<{len(self.values)}I", *self.values)


def block(columns: Sequence[Column | MapColumn | ArrayColumn], rows: int) -> bytes:
    """One block; several may follow each other in one insert."""
    return varint(len(columns)) + varint(rows) + b"".join([column.encode() for column in columns])
