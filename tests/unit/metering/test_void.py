"""What a void may name."""

from __future__ import annotations

from typing import Any

import pytest

from metering.clock import HOUR_MS
from metering.errors import InvalidEvent
from metering.event import UsageEvent
from metering.void import VOID, Target, dimensions, target_in, target_of


def void(data: Any) -> UsageEvent:
    return UsageEvent("v1", "/desk", VOID, 0, None, None, data, None)


@pytest.mark.parametrize(
    ("more", "hour"),
    [
        ({}, None),
        ({"time": None, "reason": "test call"}, None),
        ({"time": "1970-01-01T02:59:59.999Z"}, 2),
        ({"hour": "1970-01-01T04:00:00+02:00"}, 2),
        ({"time": "1970-01-01T02:10:00Z", "hour": "1970-01-01T02:00:00Z"}, 2),
    ],
)
def test_a_target_is_a_name_and_maybe_an_hour(more: dict[str, Any], hour: int | None) -> None:
    target = target_of(void({"source": "/pms", "id": "call-1", **more}))
    assert target == Target("/pms", "call-1", hour)
    assert target_in(dimensions(target)) == target


@pytest.mark.parametrize(
    "data",
    [
        None,
        "call-1",
        {},
        {"id": "call-1"},
        {"source": "/pms"},
        {"source": "", "id": "call-1"},
        {"source": "/pms", "id": 5},
        {"source": "/pms", "id": "call-1", "time": "yesterday"},
        {"source": "/pms", "id": "call-1", "time": "2026-11-23T10:00:00"},
        {"source": "/pms", "id": "call-1", "time": HOUR_MS},
        {"source": "/pms", "id": "call-1", "time": "1970-01-01T02:10:00Z", "hour": "1970-01-01T03:00:00Z"},
    ],
)
def test_a_void_that_names_nothing_clearly_is_refused(data: Any) -> None:
    with pytest.raises(InvalidEvent) as refused:
        target_of(void(data))
    assert refused.value.code == "invalid-void"
