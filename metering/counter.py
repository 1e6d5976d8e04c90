"""Counters as they stand in Redis: exact decimal strings, one codec per aggregation.

    sum, count, min, max  "12.5"                avg     "12.5/3" (sum/count)
    unique                "17", "1000000~" (~: approximate, the set of values is capped)
    latest                "12.5@1795428000123@epoch.partition.offset.line"

In the writer a counter's state is that of metering/aggregation.py, but for `unique`, which is `Distinct`: how many
values there are, the values themselves standing in a Redis set.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from metering import quantity
from metering.position import Position

UNIQUE_CAP = 1_000_000
"""Past it a counter of distinct values is approximate; the ledger stays exact."""


class Distinct(NamedTuple):
    """State of a `unique` counter."""

    size: int
    approximate: bool


def encode(aggregation: str, state: Any) -> str:
    """A state → the text in Redis."""
    if aggregation == "avg":
        total, count = state
        return f"{quantity.render(total)}/{count}"
    if aggregation == "unique":
        return f"{state.size}~" if state.approximate else str(state.size)
    if aggregation == "latest":
        (time, position), nanos = state
        return f"{quantity.render(nanos)}@{time}@{'.'.join(map(str, position))}"
    return quantity.render(state)


def decode(aggregation: str, text: str) -> Any:
    """What `encode` wrote."""
    if aggregation == "avg":
        total, _, count = text.partition("/")
        return quantity.from_text(total), int(count)
    if aggregation == "unique":
        return Distinct(int(text.rstrip("~")), text.endswith("~"))
    if aggregation == "latest":
        value, time, position = text.split("@")
        return (int(time), Position(*map(int, position.split(".")))), quantity.from_text(value)
    return quantity.from_text(text)


def level(aggregation: str, state: Any) -> int:
    """A counter's value in nanos, an average's rounded down: for comparing it with a threshold."""
    if aggregation == "avg":
        total, count = state
        return int(total // count)
    if aggregation == "unique":
        return int(state.size) * quantity.ONE
    if aggregation == "latest":
        return int(state[1])
    return int(state)


def decode_result(aggregation: str, text: str, scale: int) -> str:
    """The text in Redis → the counter's value as an exact decimal string."""
    if aggregation == "avg":
        total, count = decode(aggregation, text)
        return quantity.average(total, count, scale)
    if aggregation == "unique":
        return text.rstrip("~")
    if aggregation == "latest":
        return text.partition("@")[0]
    return text


def is_approximate(aggregation: str, text: str) -> bool:
    """Whether the counter gave up exactness."""
    return aggregation == "unique" and text.endswith("~")
