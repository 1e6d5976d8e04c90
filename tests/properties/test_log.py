"""Frames, partitions and positions: what the log relies on."""

from __future__ import annotations

from contextlib import suppress

import aiokafka.partitioner
from hypothesis import given
from hypothesis import strategies as st

from metering import frame
from metering.partition import murmur2, partition_of
from metering.position import MAX_EPOCH, MAX_INDEX, Position, version_of

LINES = st.lists(st.binary(min_size=1, max_size=40).filter(lambda line: b"\n" not in line), max_size=30)


@given(LINES)
def test_frames_hold_all_events_in_order(events: list[bytes]) -> None:
    parts = frame.frames(events)
    assert [line for value, _ in parts for line in value.split(b"\n")] == events
    assert [count for _, count in parts] == [value.count(b"\n") + 1 for value, _ in parts]


@given(st.lists(st.integers(1, 400_000), max_size=12))
def test_no_frame_is_larger_than_a_record_may_be(sizes: list[int]) -> None:
    parts = frame.frames([b"x" * size for size in sizes])
    assert all(len(value) <= frame.MAX_FRAME_BYTES for value, _ in parts)
    assert sum(count for _, count in parts) == len(sizes)


@given(st.integers(1, 10_000), st.integers(0, 10**6), st.integers(0, 10**14))
def test_headers_are_read_as_they_were_written(count: int, version: int, received: int) -> None:
    items = [("traceparent", b"x"), *frame.headers(count, version, received)]
    assert frame.read_headers(items) == frame.FrameHeader(count, version, received)


@given(st.lists(st.tuples(st.sampled_from(["tg-schema", "tg-count", "tg-received", "x"]), st.none() | st.binary())))
def test_any_headers_are_read_or_a_value_error(items: list[tuple[str, bytes | None]]) -> None:
    with suppress(ValueError):
        frame.read_headers(items)


@given(st.binary(max_size=40))
def test_murmur2_agrees_with_the_client_librarys(data: bytes) -> None:
    assert murmur2(data) == aiokafka.partitioner.murmur2(data) & 0x7FFFFFFF


@given(st.from_regex(r"[a-z0-9][a-z0-9-]{0,62}", fullmatch=True), st.integers(1, 1000))
def test_a_tenants_partition_exists(tenant: str, partitions: int) -> None:
    assert 0 <= partition_of(tenant, partitions) < partitions


POSITIONS = st.builds(
    Position, st.integers(0, MAX_EPOCH), st.just(0), st.integers(0, 2**36 - 1), st.integers(0, MAX_INDEX)
)
NEAR = st.builds(Position, st.integers(0, 2), st.just(0), st.integers(0, 2), st.integers(0, 2))


@given(POSITIONS | NEAR, POSITIONS | NEAR)
def test_the_earlier_position_has_the_greater_version(one: Position, other: Position) -> None:
    def version(position: Position) -> int:
        return version_of(position.epoch, position.offset, position.line)

    assert (one < other) == (version(one) > version(other))
    assert 0 <= version(one) < 2**64
