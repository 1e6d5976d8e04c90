from __future__ import annotations

import pytest

from metering import frame
from metering.frame import FrameHeader, checksum, frames, headers, read_headers


def test_events_of_a_request_share_a_frame() -> None:
    assert frames([b'{"a":1}', b'{"b":2}']) == [(b'{"a":1}\n{"b":2}', 2)]


def test_no_events_make_no_frame() -> None:
    assert frames([]) == []


def test_a_request_too_large_for_a_record_becomes_several() -> None:
    parts = frames([b"x" * 500_000, b"y" * 399_998, b"z" * 3])
    assert [(len(value), count) for value, count in parts] == [(899_999, 2), (3, 1)]


def test_a_frame_has_at_most_as_many_events_as_positions_can_tell() -> None:
    assert [count for _, count in frames([b"1"] * (frame.MAX_FRAME_EVENTS + 1))] == [frame.MAX_FRAME_EVENTS, 1]


def test_headers_are_read_as_they_were_written() -> None:
    assert read_headers(headers(7, 3, 1_795_428_000_000)) == FrameHeader(7, 3, 1_795_428_000_000)
    assert read_headers(frame.CLOSING_HEADERS) == FrameHeader(closing=True)


def test_foreign_headers_are_ignored() -> None:
    assert read_headers([]) == FrameHeader()
    assert read_headers([("traceparent", b"00-..."), ("empty", None)]) == FrameHeader()


@pytest.mark.parametrize(
    "items",
    [
        [("tg-count", b"1")],
        [("tg-schema", b"2"), ("tg-count", b"1")],
        [("tg-schema", None)],
        *([("tg-schema", b"1"), ("tg-count", value)] for value in (b"", None, b"-1", b" 1", b"1_0", b"x", b"9" * 400)),
    ],
)
def test_headers_that_make_no_sense_are_a_value_error(items: list[tuple[str, bytes | None]]) -> None:
    with pytest.raises(ValueError, match="tg-"):
        read_headers(items)


def test_the_checksum_tells_records_apart() -> None:
    records = [(b"k", b"v", 1), (b"k", b"v", 2), (b"k", b"w", 1), (b"l", b"v", 1), (None, b"v", 1), (b"k", None, 1)]
    assert len({checksum(*record) for record in records}) == len(records)
    assert checksum(b"k", b"v", 1) == checksum(b"k", b"v", 1)
