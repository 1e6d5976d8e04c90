"""A spool under any sequence of writing, answering and crashing at any byte: every record that was taken and is not
answered is there, in order."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ingest.client import EmitterFull
from ingest.client.segment import packed
from ingest.client.spool import Spool
from metering.clock import SystemClock

MOST_BYTES = 4_000
RECORD = st.binary(min_size=1, max_size=200)
FRACTION = st.floats(0, 1, exclude_max=True)


class SpoolMachine(RuleBasedStateMachine):
    """`taken`: number → record, of all that must still be there; `answered`: the first number that is not."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.taken: dict[int, bytes] = {}
        self.answered = 0
        self.open()

    def open(self) -> None:
        self.spool = asyncio.run(Spool.open(self.directory, MOST_BYTES, SystemClock()))

    def segments(self) -> list[Path]:
        return sorted(self.directory.glob("*.events"))

    @property
    def waiting(self) -> list[bytes]:
        return [record for number, record in sorted(self.taken.items()) if number >= self.answered]

    def numbers_in(self, file: Path) -> list[tuple[int, int]]:
        """Number of each record in a segment, with the offset behind it."""
        found, number, end = [], int(file.stem), 0
        while number in self.taken and end < file.stat().st_size:
            end += len(packed(self.taken[number]))
            found.append((number, end))
            number += 1
        return found

    @rule(records=st.lists(RECORD, min_size=1, max_size=8))
    def emit(self, records: list[bytes]) -> None:
        self.append(records)

    def append(self, records: list[bytes]) -> None:
        for record in records:
            number = self.spool.appended
            try:
                self.spool.append(record)
            except EmitterFull:
                assert self.waiting, "full, and nothing that could make room"
                assert sum(file.stat().st_size for file in self.segments()) + len(packed(record)) > MOST_BYTES
                return
            self.taken[number] = record

    @rule(most=st.integers(1, 12), most_bytes=st.integers(1, 1000), meanwhile=st.lists(RECORD, max_size=4))
    def answer(self, most: int, most_bytes: int, meanwhile: list[bytes]) -> None:
        batch = self.spool.read(most, most_bytes)
        assert batch == self.waiting[: len(batch)]
        assert bool(batch) == bool(self.waiting)
        self.append(meanwhile)
        self.spool.acknowledge()
        self.answered = self.spool.acknowledged

    @rule()
    def killed(self) -> None:
        self.spool.close()
        self.open()

    @rule(record=RECORD, fraction=FRACTION)
    def killed_while_appending(self, record: bytes, fraction: float) -> None:
        self.spool.close()
        torn = packed(record)
        with self.segments()[-1].open("ab") as file:
            file.write(torn[: int(len(torn) * fraction)])
        self.open()

    @rule(fraction=FRACTION)
    def power_cut(self, fraction: float) -> None:
        """The end of the last segment was not synced: it is cut at any byte."""
        self.spool.close()
        file = self.segments()[-1]
        left = int(file.stat().st_size * fraction)
        for number, end in self.numbers_in(file):
            if end > left:
                del self.taken[number]
        os.truncate(file, left)
        self.open()

    @rule()
    def note_lost(self) -> None:
        self.spool.close()
        (self.directory / "acknowledged").write_bytes(b"\xff" * 12)
        self.open()
        assert self.spool.acknowledged <= self.answered
        self.answered = self.spool.acknowledged

    @precondition(lambda self: any(file.stat().st_size for file in self.segments()))
    @rule(which=FRACTION, where=FRACTION, flip=st.integers(1, 255))
    def a_byte_went_bad(self, which: float, where: float, flip: int) -> None:
        """The record it is in, and those behind it in its file, are set aside; all others are there."""
        self.spool.close()
        files = [file for file in self.segments() if file.stat().st_size]
        file = files[int(len(files) * which)]
        content = bytearray(file.read_bytes())
        at = int(len(content) * where)
        content[at] ^= flip
        file.write_bytes(content)
        bad = [number for number, end in self.numbers_in(file) if end > at]
        self.open()
        self.spool.read(1000, MOST_BYTES)
        unanswered = [self.taken[number] for number in bad if number >= self.answered]
        aside = b"".join(path.read_bytes() for path in self.directory.glob("*.damaged"))
        assert all(record in aside for record in unanswered[1 if bad[0] >= self.answered else 0 :])
        for number in bad:
            del self.taken[number]
        self.answered = max(self.answered, self.spool.acknowledged)

    @invariant()
    def everything_not_answered_is_there_in_order(self) -> None:
        assert self.spool.read(10_000, 10 * MOST_BYTES) == self.waiting

    @invariant()
    def the_disk_is_bounded(self) -> None:
        assert sum(file.stat().st_size for file in self.segments()) <= MOST_BYTES

    def teardown(self) -> None:
        self.spool.close()
        shutil.rmtree(self.directory)


TestSpool = SpoolMachine.TestCase
