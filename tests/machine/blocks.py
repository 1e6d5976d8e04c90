"""ClickHouse's Native format read back: the rows of the blocks that streams/rows.py writes."""

from __future__ import annotations

from collections.abc import Sequence
from struct import calcsize, unpack_from
from typing import Any

Row = dict[str, Any]

_NUMBERS = {"UInt8": "B", "UInt16": "H", "UInt32": "I", "UInt64": "Q", "Int32": "i", "DateTime64(3, 'UTC')": "q"}
_UNIT = 16


def rows_of(block: bytes) -> list[Row]:
    """One block; instants in ms, quantities in nanos."""
    reader = _Reader(block)
    columns, count = reader.varint(), reader.varint()
    found: list[Row] = [{} for _ in range(count)]
    for _ in range(columns):
        name, type = reader.text(), reader.text()
        for row, value in zip(found, reader.values(type, count), strict=True):
            row[name] = value
    assert reader.at == len(block)
    return found


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    def varint(self) -> int:
        number = shift = 0
        while True:
            byte = self._data[self.at]
            self.at += 1
            number |= (byte & 127) << shift
            if byte < 128:
                return number
            shift += 7

    def text(self) -> str:
        size = self.varint()
        self.at += size
        return self._data[self.at - size : self.at].decode("utf-8", "backslashreplace")

    def values(self, type: str, count: int) -> Sequence[Any]:
        if type == "String":
            return [self.text() for _ in range(count)]
        if code := _NUMBERS.get(type):
            found = unpack_from(f"<{count}{code}", self._data, self.at)
            self.at += calcsize(f"<{count}{code}")
            return found
        if type == "Decimal(38, 9)":
            self.at += _UNIT * count
            pieces = range(self.at - _UNIT * count, self.at, _UNIT)
            return [int.from_bytes(self._data[at : at + _UNIT], "little", signed=True) for at in pieces]
        ends = self.values("UInt64", count)
        starts = [0, *ends[:-1]]
        total = ends[-1] if count else 0
        if type.startswith("Array("):
            flat = self.values(type[len("Array(") : -1], total)
            return [list(flat[start:end]) for start, end in zip(starts, ends, strict=True)]
        assert type.startswith("Map(String, ")
        names, flat = self.values("String", total), self.values(type[len("Map(String, ") : -1], total)
        pairs = list(zip(names, flat, strict=True))
        return [dict(pairs[start:end]) for start, end in zip(starts, ends, strict=True)]
