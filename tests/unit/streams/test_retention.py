"""Which payloads are due, by day."""

from __future__ import annotations

from metering.clock import DAY_MS, parse_iso
from streams.retention import Cutoffs, cutoffs

NOON = parse_iso("2026-11-23T12:00:00Z")


def test_days_are_whole_ones_so_that_a_month_is_rewritten_once_a_day() -> None:
    due = cutoffs({"grand": 1, "inn": 30}, 7, NOON)
    assert due.of == {"grand": parse_iso("2026-11-22T00:00:00Z"), "inn": parse_iso("2026-10-24T00:00:00Z")}
    assert due.otherwise == parse_iso("2026-11-16T00:00:00Z")
    assert cutoffs({"grand": 1, "inn": 30}, 7, NOON + DAY_MS // 4) == due


def test_without_days_payloads_are_kept_for_ever() -> None:
    assert cutoffs({}, None, NOON) == Cutoffs({}, 0)
    assert cutoffs({}, None, NOON).newest == 0
    assert cutoffs({"grand": 36_500}, None, NOON).of == {"grand": 0}


def test_the_newest_is_the_latest_of_all() -> None:
    assert cutoffs({"grand": 1, "inn": 30}, 7, NOON).newest == parse_iso("2026-11-22T00:00:00Z")
    assert cutoffs({"inn": 30}, 7, NOON).newest == parse_iso("2026-11-16T00:00:00Z")
