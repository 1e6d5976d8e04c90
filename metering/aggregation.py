"""The seven aggregations in memory. Each has one SQL form (usage/aggregates.py); tests prove them equal.

A state is a plain value and None is the empty one:

    sum, count  nanos                   min, max  nanos
    avg         (nanos, events)         unique    frozenset of values
    latest      ((time, version-inverted position), nanos)

`merge` is associative and commutative with None as its unit, so states can be built in any order and any grouping.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from metering import quantity
from metering.position import Position

AggregationName = Literal["sum", "count", "min", "max", "avg", "unique", "latest"]
NAMES: tuple[AggregationName, ...] = ("sum", "count", "min", "max", "avg", "unique", "latest")

State = Any


class Sample(NamedTuple):
    """What one event gives to one meter: nanos (1 for count and unique) and, for unique, the value."""

    nanos: int
    value: str | None
    time: int
    position: Position


class Aggregation(NamedTuple):
    """`of` one sample → state, `merge` two states, `result` a state → exact decimal string (None: no events)."""

    name: AggregationName
    of: Callable[[Sample], State]
    merge: Callable[[State, State], State]
    result: Callable[[State, int], str | None]


def merge(aggregation: Aggregation, left: State | None, right: State | None) -> State | None:
    """Merge with None as the empty state."""
    if left is None:
        return right
    if right is None:
        return left
    return aggregation.merge(left, right)


def _plain(state: int, scale: int) -> str:
    return quantity.render(state)


AGGREGATIONS: dict[str, Aggregation] = {
    "sum": Aggregation("sum", lambda s: s.nanos, lambda a, b: a + b, _plain),
    "count": Aggregation("count", lambda s: quantity.ONE, lambda a, b: a + b, _plain),
    "min": Aggregation("min", lambda s: s.nanos, min, _plain),
    "max": Aggregation("max", lambda s: s.nanos, max, _plain),
    "avg": Aggregation(
        "avg",
        lambda s: (s.nanos, 1),
        lambda a, b: (a[0] + b[0], a[1] + b[1]),
        lambda state, scale: quantity.average(state[0], state[1], scale),
    ),
    "unique": Aggregation(
        "unique",
        lambda s: frozenset((s.value,)),
        lambda a, b: a | b,
        lambda state, scale: str(len(state)),
    ),
    "latest": Aggregation(
        "latest",
        lambda s: ((s.time, s.position), s.nanos),
        max,
        lambda state, scale: quantity.render(state[1]),
    ),
}
