from __future__ import annotations

import pytest

from metering import counter
from metering.counter import Distinct
from metering.position import Position


@pytest.mark.parametrize(
    ("aggregation", "state", "text", "result"),
    [
        ("sum", 12_500_000_000, "12.5", "12.5"),
        ("count", 3_000_000_000, "3", "3"),
        ("min", -1, "-0.000000001", "-0.000000001"),
        ("max", 0, "0", "0"),
        ("avg", (12_500_000_000, 3), "12.5/3", "4.166667"),
        ("unique", Distinct(17, False), "17", "17"),
        ("unique", Distinct(1_000_000, True), "1000000~", "1000000"),
        (
            "latest",
            ((1_795_428_000_123, Position(1, 2, 3, 4)), 12_500_000_000),
            "12.5@1795428000123@1.2.3.4",
            "12.5",
        ),
    ],
)
def test_a_counter_reads_back_as_written(aggregation: str, state: object, text: str, result: str) -> None:
    assert counter.encode(aggregation, state) == text
    assert counter.decode(aggregation, text) == state
    assert counter.decode_result(aggregation, text, 0) == result


def test_only_a_capped_unique_counter_is_approximate() -> None:
    assert counter.is_approximate("unique", "1000000~")
    assert not counter.is_approximate("unique", "17")
    assert not counter.is_approximate("sum", "17")
