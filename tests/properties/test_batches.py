"""Any interleaving, repetition and batching of events gives the totals of counting distinct identities by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from metering import frame as frames_of
from metering.catalog import parse_catalog
from metering.clock import HOUR_MS, iso
from metering.meter import CompiledCatalog
from metering.period import DEFAULT_TERMS
from metering.quantity import ONE
from streams.dedupe import LedgerKey, Window, decide, late_keys
from streams.frame import Frame, Record, decode
from streams.tally import CountedMeters, tally
from streams.voids import Voids

CATALOG = CompiledCatalog(
    1,
    parse_catalog("""
meters:
  calls: {event: call, aggregation: count}
  seconds: {event: call, aggregation: sum, value: $.n}
  languages: {event: call, aggregation: unique, value: $.l}
features: {calls: {meter: calls}, seconds: {meter: seconds}, languages: {meter: languages}}
plans:
  p: {entitlements: {calls: {period: lifetime}, seconds: {period: lifetime}, languages: {period: lifetime}}}
"""),
)
METERS = CountedMeters(CATALOG.catalog)
WINDOW = Window(6 * HOUR_MS)
NOW = 1_795_428_000_000


class Partition:
    """The stores of one partition as plain values, with the real decisions in between."""

    def __init__(self) -> None:
        self.clock = 0
        self.buckets: dict[int, set[bytes]] = {}
        self.rows: dict[LedgerKey, tuple[int, int]] = {}
        self.counters: dict[str, object] = {}
        self.duplicates = 0

    def batch(self, records: Sequence[Record]) -> None:
        frames: list[Frame] = []
        for record in records:
            frames.append(decode(record, self.clock, 0, 1, lambda version, at: CATALOG))
            self.clock = frames[-1].clock
        digests = [digest for frame in frames for digest in frame.entries.digests]
        known = [
            (bucket, [int(d in self.buckets.get(bucket, ())) for d in digests])
            for bucket in WINDOW.live(frames[0].clock, frames[-1].clock)
        ]
        late = {key: self.rows[key] for key in late_keys(frames, WINDOW) if key in self.rows}
        judged = decide(frames, WINDOW, known, late, Voids({}, {}))
        self.duplicates += sum(verdict.duplicates for _, verdict in judged)
        for frame, verdict in judged:
            counted = verdict.counted
            for index, line in enumerate(counted.lines):
                identity = (frame.tenant, counted.hour(index), counted.sources[index], counted.ids[index])
                self.rows[identity] = (frame.offset, line)
            self.buckets.setdefault(WINDOW.bucket(frame.clock), set()).update(counted.digests)
        for delta in tally(judged, METERS, lambda tenant: DEFAULT_TERMS, 1, 0).values():
            for key, value in delta.items():
                if isinstance(value, set):
                    self.counters[key.meter] = self.counters.get(key.meter, set()) | value  # type: ignore[operator]
                else:
                    self.counters[key.meter] = self.counters.get(key.meter, 0) + value
        for bucket in [b for b in self.buckets if b < WINDOW.oldest(self.clock)]:
            del self.buckets[bucket]


def event(id: int, time: int, n: int) -> bytes:
    body = {"specversion": "1.0", "id": f"e{id}", "source": "/s", "type": "call", "time": iso(time)}
    return json.dumps({**body, "data": {"n": n, "l": "abc"[n % 3]}}, separators=(",", ":")).encode()


def record(offset: int, timestamp: int, events: Sequence[bytes]) -> Record:
    value = b"\n".join(events)
    return Record(offset, timestamp, b"acme", value, frames_of.headers(len(events), 1, timestamp))


resends_within_the_window = st.lists(
    st.tuples(
        st.integers(0, 12),  # identity
        st.integers(-40, 5).map(lambda minutes: minutes * 60_000),  # time, before or after the record's
        st.integers(0, 20 * 3_600_000),  # when it is sent: all within one window
    ),
    min_size=1,
    max_size=40,
)


@given(sends=resends_within_the_window, cuts=st.lists(st.integers(1, 7), min_size=1), frame_size=st.integers(1, 5))
def test_within_the_window_an_identity_counts_once_whatever_changed(
    sends: list[tuple[int, int, int]], cuts: list[int], frame_size: int
) -> None:
    sends.sort(key=lambda send: send[2])
    records = []
    for offset, first in enumerate(range(0, len(sends), frame_size)):
        group = sends[first : first + frame_size]
        at = NOW + group[0][2]
        records.append(record(offset, at, [event(id, at + shift, id) for id, shift, _ in group]))
    partition = run(records, cuts)
    identities = {id for id, _, _ in sends}
    assert partition.counters["calls"] == len(identities) * ONE
    assert partition.counters["seconds"] == sum(identities) * ONE
    assert partition.counters["languages"] == {"abc"[id % 3] for id in identities}
    assert partition.duplicates == len(sends) - len(identities)


resends_for_ever = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 10 * 24 * 3_600_000)), min_size=1, max_size=40)


@given(sends=resends_for_ever, cuts=st.lists(st.integers(1, 7), min_size=1))
def test_a_resend_with_the_same_time_counts_once_for_ever(sends: list[tuple[int, int]], cuts: list[int]) -> None:
    sends.sort(key=lambda send: send[1])
    records = [record(offset, NOW + at, [event(id, NOW - id * 1_800_000, id)]) for offset, (id, at) in enumerate(sends)]
    partition = run(records, cuts)
    identities = {id for id, _ in sends}
    assert partition.counters["calls"] == len(identities) * ONE
    assert len(partition.rows) == len(identities)


changed_resends = st.lists(
    st.tuples(
        st.integers(0, 4),
        st.integers(-30 * 3_600_000, 300_000),
        st.integers(0, 6 * 24 * 3_600_000),
    ),
    min_size=1,
    max_size=40,
)


@given(sends=changed_resends, cuts=st.lists(st.integers(1, 7), min_size=1), frame_size=st.integers(1, 5))
def test_batch_boundaries_never_matter(sends: list[tuple[int, int, int]], cuts: list[int], frame_size: int) -> None:
    sends.sort(key=lambda send: send[2])
    records = []
    for offset, first in enumerate(range(0, len(sends), frame_size)):
        group = sends[first : first + frame_size]
        at = NOW + group[0][2]
        records.append(record(offset, at, [event(id, at + shift, id) for id, shift, _ in group]))
    one_by_one, batched = run(records, [1]), run(records, cuts)
    assert one_by_one.rows == batched.rows
    assert one_by_one.buckets == batched.buckets
    assert one_by_one.counters == batched.counters
    assert one_by_one.duplicates == batched.duplicates


def run(records: list[Record], cuts: list[int]) -> Partition:
    partition = Partition()
    first, turn = 0, 0
    while first < len(records):
        size = cuts[turn % len(cuts)]
        partition.batch(records[first : first + size])
        first, turn = first + size, turn + 1
    return partition
