from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from metering.clock import SystemClock, from_ms, iso, parse_iso, to_ms


def test_instants_go_there_and_back() -> None:
    assert iso(1_795_428_000_123) == "2026-11-23T10:00:00.123Z"
    assert parse_iso("2026-11-23T11:00:00.123+01:00") == 1_795_428_000_123
    assert from_ms(1_795_428_000_123) == datetime(2026, 11, 23, 10, 0, 0, 123_000, UTC)


def test_what_is_finer_than_a_millisecond_is_cut_towards_the_past() -> None:
    assert to_ms(datetime(1970, 1, 1, 0, 0, 0, 999, UTC)) == 0
    assert to_ms(datetime(1970, 1, 1, tzinfo=UTC) - timedelta(microseconds=1)) == -1


def test_a_time_without_an_offset_is_refused() -> None:
    with pytest.raises(ValueError, match="no UTC offset"):
        parse_iso("2026-11-23T10:00:00")


def test_the_system_clock_agrees_with_the_machine() -> None:
    assert abs(SystemClock().now_ms() - to_ms(datetime.now(UTC))) < 60_000
