"""From samples over time to one value per window; and the bench's HTTP answers, however they are cut."""

from __future__ import annotations

import pytest

from bench import http
from bench.events import body, numbered
from bench.windows import percentile, percentiles, rates

ANSWER = b'HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\ncontent-length: 15\r\n\r\n{"accepted":10}'


def test_a_steady_count_has_the_same_rate_in_every_window() -> None:
    assert rates([(float(at), at * 10.0) for at in range(21)], 5, 15, 5) == pytest.approx([10] * 5)


def test_between_samples_a_count_is_interpolated_and_outside_it_stands_still() -> None:
    assert rates([(0, 0), (4, 8), (10, 8)], 1, 13, 3) == pytest.approx([6 / 4, 0, 0])


def test_percentiles_take_each_window_by_itself_and_leave_empty_ones_out() -> None:
    values = [(at / 10, float(at)) for at in range(10)] + [(2.5, 7.0), (3.0, 99.0)]
    assert percentiles(values, 0, 3, 3, 0.99) == [9.0, 7.0]


def test_a_percentile_is_a_value_that_was_seen() -> None:
    assert percentile([3, 1, 2], 0.5) == 2
    assert percentile(range(1, 101), 0.99) == 99


def test_an_answer_is_read_when_it_has_come_whole() -> None:
    assert http.parse(ANSWER) == (202, b'{"accepted":10}')
    assert all(http.parse(ANSWER[:end]) is None for end in range(len(ANSWER)))


def test_numbered_bodies_share_no_identity() -> None:
    sent = body("acme", 100, 1_795_600_000.0)
    ids = [line.split(b'"')[0] for number in (1, 2) for line in numbered(sent, number).split(b'"id":"')[1:]]
    assert len(set(ids)) == len(ids) == 200
