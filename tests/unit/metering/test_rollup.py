"""Which hours a local window is made of, when an hour window is computed, what its revision means."""

from __future__ import annotations

from datetime import tzinfo
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.clock import HOUR_MS, SECOND_MS, from_ms, iso, parse_iso
from metering.period import Period, zone_of
from metering.position import version_of
from metering.rollup import LONGEST_WAIT, Touch, WindowKind, cut_hours, is_sealed, revision_of, windows

ZONES = ["UTC", "Europe/Berlin", "Asia/Kolkata", "America/Sao_Paulo", "Australia/Lord_Howe", "Pacific/Apia", "+05:30"]


def lengths(kind: WindowKind, zone: str, start: str, end: str) -> list[float]:
    """In hours."""
    periods = windows(kind, zone_of(zone), parse_iso(start), parse_iso(end))
    return [(period.end - period.start) / HOUR_MS for period in periods]


def test_a_day_has_23_hours_in_spring_and_25_in_autumn() -> None:
    assert lengths("day", "Europe/Berlin", "2026-03-27T23:00:00Z", "2026-03-30T22:00:00Z") == [24, 23, 24]
    assert lengths("day", "Europe/Berlin", "2026-10-23T22:00:00Z", "2026-10-26T23:00:00Z") == [24, 25, 24]
    assert len(lengths("hour", "Europe/Berlin", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z")) == 25


def test_a_day_whose_midnight_is_skipped_begins_at_its_first_instant() -> None:
    zone = zone_of("America/Sao_Paulo")
    days = list(windows("day", zone, parse_iso("2018-11-03T03:00:00Z"), parse_iso("2018-11-06T02:00:00Z")))
    assert [from_ms(day.start).astimezone(zone).hour for day in days] == [0, 1, 0]
    assert [(day.end - day.start) // HOUR_MS for day in days] == [24, 23, 24]


def test_a_date_that_a_zone_left_out_is_no_window() -> None:
    assert lengths("day", "Pacific/Apia", "2011-12-29T10:00:00Z", "2011-12-31T10:00:00Z") == [24, 24]


def test_months_follow_the_local_calendar() -> None:
    found = windows(
        "month", zone_of("Asia/Kolkata"), parse_iso("2026-01-15T00:00:00Z"), parse_iso("2026-03-10T00:00:00Z")
    )
    assert [iso(month.start) for month in found] == [
        "2026-01-15T00:00:00.000Z",
        "2026-01-31T18:30:00.000Z",
        "2026-02-28T18:30:00.000Z",
    ]


def test_where_a_clock_moves_by_half_an_hour_an_hour_is_short_and_the_next_ones_are_full_again() -> None:
    assert lengths("hour", "Australia/Lord_Howe", "2026-04-04T13:00:00Z", "2026-04-04T16:30:00Z") == [1, 1, 0.5, 1]


INSTANTS = st.integers(0, parse_iso("2100-01-01T00:00:00Z") // SECOND_MS).map(lambda seconds: seconds * SECOND_MS)


@given(
    zone=st.sampled_from(ZONES),
    kind=st.sampled_from(["hour", "day", "month"]),
    start=INSTANTS,
    hours=st.floats(0.01, 5000),
)
def test_windows_cover_what_is_asked_without_gap_or_overlap(
    zone: str, kind: WindowKind, start: int, hours: float
) -> None:
    end = start + int(hours * HOUR_MS)
    found = list(windows(kind, zone_of(zone), start, end))
    assert (found[0].start, found[-1].end) == (start, end)
    assert all(left.end == right.start for left, right in pairwise(found))
    assert all(period.start < period.end for period in found)
    inner = [period.start for period in found[1:]]
    assert all(_begins(kind, zone_of(zone), at) for at in inner)


def _begins(kind: WindowKind, zone: tzinfo, at: int) -> bool:
    """Whether the local clock shows a new hour, day or month at `at` that it did not show just before."""
    before, now = (from_ms(instant).astimezone(zone) for instant in (at - 1, at))
    parts = {"hour": 4, "day": 3, "month": 2}[kind]
    shown = [(*moment.timetuple()[:parts], moment.utcoffset()) for moment in (before, now)]
    return shown[0] != shown[1]


def test_hours_that_are_cut_are_those_that_an_edge_lies_inside() -> None:
    half = HOUR_MS // 2
    assert cut_hours([Period(10 * HOUR_MS, 20 * HOUR_MS)]) == set()
    assert cut_hours([Period(10 * HOUR_MS + half, 20 * HOUR_MS), Period(20 * HOUR_MS, 21 * HOUR_MS + 1)]) == {10, 21}


@pytest.mark.parametrize(("clock", "sealed"), [(12 * HOUR_MS - 1, False), (12 * HOUR_MS, True)])
def test_an_hour_seals_an_hour_after_its_end(clock: int, sealed: bool) -> None:
    assert is_sealed(11 * HOUR_MS, clock) is sealed
    assert is_sealed(11 * HOUR_MS - 1, clock) is sealed, "what ends inside of an hour seals with it"


def test_revisions_are_ordered_like_positions_and_are_read_off_a_rows_version() -> None:
    records = [(1, 0), (1, 5), (1, 1 << 35), (2, 0), (7, 3)]
    revisions = [revision_of(*record) for record in records]
    assert revisions == sorted(set(revisions))
    for epoch, offset in records:
        for line in (0, 16383):
            assert ((1 << 64) - 1 - version_of(epoch, offset, line)) >> 14 == revision_of(epoch, offset)


def test_a_window_settles_when_it_is_left_alone_or_has_waited_for_long() -> None:
    touch = Touch(7, since=100, lately=100)
    assert not touch.has_settled(129, 30)
    assert touch.has_settled(130, 30)
    busy = touch._replace(lately=100 + LONGEST_WAIT * 30)
    assert busy.has_settled(100 + LONGEST_WAIT * 30, 30)
    assert not busy._replace(since=101).has_settled(100 + LONGEST_WAIT * 30, 30)
