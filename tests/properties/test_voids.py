"""Voids by the real decision agree with a reader of the log who takes one event after the other, however it is cut."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from metering import frame as frames_of
from metering.catalog import parse_catalog
from metering.clock import HOUR_MS, iso
from metering.identity import digest
from metering.meter import CompiledCatalog
from metering.period import DEFAULT_TERMS
from metering.quantity import ONE
from streams.dedupe import Window, decide, late_keys
from streams.frame import Frame, Record, decode
from streams.tally import CountedMeters, take_back, tally
from streams.voids import NamedRow, Voids, merged, named_in

CATALOG = CompiledCatalog(
    1,
    parse_catalog("""
meters:
  calls: {event: call, aggregation: count}
  seconds: {event: call, aggregation: sum, value: $.n}
  mean: {event: call, aggregation: avg, value: $.n}
  languages: {event: call, aggregation: unique, value: $.l}
features: {c: {meter: calls}, s: {meter: seconds}, m: {meter: mean}, l: {meter: languages}}
plans:
  p:
    entitlements: {c: {period: lifetime}, s: {period: lifetime}, m: {period: lifetime}, l: {period: lifetime}}
"""),
)
METERS = CountedMeters(CATALOG.catalog)
WINDOW = Window(6 * HOUR_MS)
NOW = 1_795_428_000_000
DAY = 24 * HOUR_MS

Sent = tuple[str, int, int, int | None]
"""("call" or "void", which identity, hours before NOW, hours before NOW that a void names)"""


class Reader:
    """The log read by hand: one event after the other, dictionaries, no digests, no batches."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, int], bool] = {}  # (id, hour) → does it stand?
        self.lately: dict[str, int] = {}  # id → bucket of the clock in which it last got a row
        self.waiting: list[tuple[str, int | None]] = []
        self.duplicates = self.dead = self.voided = 0

    def read(self, sent: Sent, clock: int) -> None:
        kind, number, ago, names = sent
        id, hour, bucket = f"{kind}{number}", (NOW - ago * HOUR_MS) // HOUR_MS, clock // WINDOW.bucket_ms
        known = id in self.lately and self.lately[id] > bucket - 5
        late = hour * HOUR_MS < WINDOW.horizon(clock)
        if known or (late and (id, hour) in self.rows):
            self.duplicates += 1
            return
        if kind == "void":
            target = f"call{number}"
            named = None if names is None else (NOW - names * HOUR_MS) // HOUR_MS
            below = [row for row in self.rows if row[0] == target and named in (None, row[1])]
            standing = [row for row in below if self.rows[row]]
            if named is None and len(standing) > 1:
                self.dead += 1
                return
            for row in standing:
                self.rows[row] = False
            self.waiting.append((target, named))
        stands = not any(target == id and named in (None, hour) for target, named in self.waiting)
        self.voided += not stands
        self.rows[id, hour] = stands
        self.lately[id] = bucket


class Partition:
    """The stores of one partition as plain values, with the real decisions in between."""

    def __init__(self) -> None:
        self.clock = 0
        self.buckets: dict[int, set[bytes]] = {}
        self.rows: dict[Any, tuple[int, int]] = {}
        self.named: dict[tuple[str, str, str], dict[int, NamedRow]] = {}
        self.index: dict[bytes, dict[int, int]] = {}
        self.counters: dict[str, Any] = {}
        self.uncounted: set[str] = set()
        self.duplicates = self.dead = self.voided = 0

    def batch(self, records: Sequence[Record]) -> None:
        frames: list[Frame] = []
        for record in records:
            frames.append(decode(record, self.clock, 0, 1, lambda version, at: CATALOG))
            self.clock = frames[-1].clock
        marks = [mark for frame in frames for mark in frame.entries.digests]
        known = [
            (bucket, [int(mark in self.buckets.get(bucket, ())) for mark in marks])
            for bucket in WINDOW.live(frames[0].clock, frames[-1].clock)
        ]
        late = {key: self.rows[key] for key in late_keys(frames, WINDOW) if key in self.rows}
        names = named_in(frames)
        voids = Voids(self.index, {name: list(self.named.get(name, {}).values()) for name in names})
        judged = decide(frames, WINDOW, known, late, voids)
        deltas = tally(judged, METERS, lambda tenant: DEFAULT_TERMS, 1, 0)
        self.uncounted |= {key.meter for _, key in take_back(deltas, judged, METERS, lambda tenant: DEFAULT_TERMS)}
        for delta in deltas.values():
            for key, value in delta.items():
                if isinstance(value, int):
                    self.counters[key.meter] = self.counters.get(key.meter, 0) + value
                elif isinstance(value, tuple):
                    old = self.counters.get(key.meter, (0, 0))
                    self.counters[key.meter] = (old[0] + value[0], old[1] + value[1])
        for frame, verdict in judged:
            self.duplicates += verdict.duplicates
            self.dead += len(verdict.refused)
            self.voided += len(verdict.voided)
            for entries, stands in ((verdict.counted, True), (verdict.voided, False)):
                self.buckets.setdefault(WINDOW.bucket(frame.clock), set()).update(entries.digests)
                for index, line in enumerate(entries.lines):
                    name, at = (frame.tenant, entries.sources[index], entries.ids[index]), (frame.offset, line)
                    self.rows[(frame.tenant, entries.hour(index), *name[1:])] = at
                    row = NamedRow(*at, 1, entries.types[index], entries.times[index], entries.nanos(index), stands)
                    self.named.setdefault(name, {})[entries.hour(index)] = row
            for one in verdict.voidings:
                of = self.named[frame.tenant, one.target.source, one.target.id]
                of[one.row.time // HOUR_MS] = one.row._replace(standing=False)
        self.index |= merged(self.index, voids.added, self.clock)
        for bucket in [b for b in self.buckets if b < WINDOW.oldest(self.clock)]:
            del self.buckets[bucket]


def line(sent: Sent) -> bytes:
    kind, number, ago, names = sent
    body: dict[str, Any] = {"specversion": "1.0", "id": f"{kind}{number}", "source": "/s"}
    body["time"] = iso(NOW - ago * HOUR_MS)
    if kind == "call":
        body |= {"type": "call", "data": {"n": number + 1, "l": "abc"[number % 3]}}
    else:
        data = {"source": "/s", "id": f"call{number}"}
        body |= {"type": "tallygate.void"}
        body["data"] = data if names is None else {**data, "time": iso(NOW - names * HOUR_MS)}
    return json.dumps(body, separators=(",", ":")).encode()


hours_ago = st.sampled_from([0, 1, 40, 90])
calls = st.tuples(st.just("call"), st.integers(0, 4), hours_ago, st.none())
takes = st.tuples(st.just("void"), st.integers(0, 4), hours_ago, st.none() | hours_ago)


@given(
    frames=st.lists(st.lists(calls | takes, min_size=1, max_size=4), min_size=1, max_size=14),
    gaps=st.lists(st.sampled_from([0, 0, HOUR_MS, 5 * HOUR_MS, 2 * DAY]), min_size=14, max_size=14),
    cuts=st.lists(st.integers(1, 5), min_size=1),
)
def test_batches_decide_like_a_reader_of_one_event_after_the_other(
    frames: list[list[Sent]], gaps: list[int], cuts: list[int]
) -> None:
    reader, records, at = Reader(), [], NOW
    for offset, (events, gap) in enumerate(zip(frames, gaps, strict=False)):
        at += gap
        value = b"\n".join(map(line, events))
        records.append(Record(offset, at, b"acme", value, frames_of.headers(len(events), 1, at)))
        for sent in events:
            reader.read(sent, at)
    partition, first, turn = Partition(), 0, 0
    while first < len(records):
        size = cuts[turn % len(cuts)]
        partition.batch(records[first : first + size])
        first, turn = first + size, turn + 1
    found = {(name[2], hour): row.standing for name, rows in partition.named.items() for hour, row in rows.items()}
    assert found == reader.rows
    counted = (partition.duplicates, partition.dead, partition.voided)
    assert counted == (reader.duplicates, reader.dead, reader.voided)
    worth = [int(id[4:]) + 1 for (id, _), stands in reader.rows.items() if stands and id.startswith("call")]
    assert partition.counters.get("calls", 0) == len(worth) * ONE
    assert partition.counters.get("seconds", 0) == sum(worth) * ONE
    assert partition.counters.get("mean", (0, 0)) == (sum(worth) * ONE, len(worth))
    assert partition.uncounted <= {"languages"}


def test_a_void_names_its_event_by_tenant_source_and_id() -> None:
    partition = Partition()
    for offset, sent in enumerate([("call", 1, 0, None), ("void", 1, 0, None)]):
        partition.batch([Record(offset, NOW, b"acme", line(sent), frames_of.headers(1, 1, NOW))])
    assert list(partition.index) == [digest("acme", "/s", "call1")]
    assert partition.counters["calls"] == 0
    assert partition.uncounted == {"languages"}
