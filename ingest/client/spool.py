"""A buffer on disk: what was appended survives SIGKILL of the process, and is sent by the next one.

In its directory, which one emitter owns at a time:

    00000000000000000000.events   segments (see segment.py), named by the number of their first record
    acknowledged                  the number of the oldest unanswered record, and its checksum
    refused.ndjson                what the gateway refused for good (see refusals.py)
    *.damaged                     bytes that stood where a record should be, moved out of the way
    lock                          held as long as the owner lives

What may be lost. A killed process: nothing, since the kernel has every record before `append` returns; the beginning of
one whose `append` did not return is cut off. A power cut: what was appended after the last `sync`. What was answered is
noted afterwards, so whatever happens in between is sent again, with the same identity.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from zlib import crc32

from ingest.client.buffer import EmitterFull
from ingest.client.refusals import Refusal, RefusedFile
from ingest.client.segment import Damaged, Segment, packed, write_whole
from metering.clock import Clock, iso
from metering.errors import Halt, Refused, Unavailable

_log = logging.getLogger(__name__)
_NOTE = struct.Struct(">QI")
_LEAST_SEGMENTS = 8
_SEGMENT_BYTES = 16 * 1024 * 1024
_LOCK_SECONDS = 2.0
"""A killed process may take a moment to end."""


class SpoolInUse(Halt):
    """Another emitter, of this process or another one, sends from this spool."""

    def __init__(self, directory: Path) -> None:
        super().__init__(f"another emitter uses the spool {directory}: give each emitter a directory of its own")


class Spool:
    """A Buffer (see there) in files. They may have `most_bytes`; refused events may go past that, and then fill it."""

    def __init__(self, directory: Path, most_bytes: int, clock: Clock, lock: int) -> None:
        """Use `open`."""
        self._directory = directory
        self._most_bytes = most_bytes
        self._segment_bytes = min(_SEGMENT_BYTES, most_bytes // _LEAST_SEGMENTS)
        self._clock = clock
        self._lock = lock
        self._note = os.open(directory / "acknowledged", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._refused = RefusedFile(directory / "refused.ndjson")
        self._refused_bytes = self._refused.size
        self._segments = Segment.all_in(directory)
        noted = self._noted()
        self.appended = self._recover_end(noted)
        self.acknowledged, self._offset = self._recover_start(noted)
        self._read = (self.acknowledged, self._offset)
        self._active = self._segments[-1].open()
        self._active_synced = False
        self._unsynced: list[int] = []

    @classmethod
    async def open(cls, directory: Path, most_bytes: int, clock: Clock) -> Spool:
        """Take the directory, which is made if need be. Raises SpoolInUse, Unavailable if it cannot be used."""
        try:
            os.makedirs(directory, exist_ok=True, mode=0o700)
            lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                await _hold(lock, directory)
                return cls(directory, most_bytes, clock, lock)
            except BaseException:
                os.close(lock)
                raise
        except OSError as error:
            raise Unavailable(f"the spool {directory} cannot be used: {error.strerror}") from error

    def append(self, record: bytes) -> None:
        """See Buffer."""
        written = packed(record)
        if len(written) > self._segment_bytes:
            raise Refused("event-too-large", f"an event may have {self._segment_bytes} bytes in this spool")
        if not self._has_room(len(written)):
            self._refused_bytes = self._refused.size  # somebody may have moved it away
            if not self._has_room(len(written)):
                raise EmitterFull(self._why_full(), 1)
        try:
            if self._segments[-1].size + len(written) > self._segment_bytes:
                self._roll()
            write_whole(self._active, written)
        except OSError as error:
            raise Unavailable(f"the spool {self._directory} cannot be written: {error.strerror}") from error
        self._segments[-1].size += len(written)
        self._active_synced = False
        self.appended += 1

    def read(self, most: int, most_bytes: int) -> list[bytes]:
        """See Buffer."""
        taken: list[bytes] = []
        number, offset, at = self.acknowledged, self._offset, 0
        while True:
            try:
                for record, end in self._segments[at].records(offset):
                    if taken and (len(taken) == most or len(record) > most_bytes):
                        self._read = (number, offset)
                        return taken
                    taken.append(record)
                    most_bytes -= len(record)
                    number, offset = number + 1, end
            except Damaged as damage:
                if at + 1 == len(self._segments):
                    self._roll()  # the numbers of what is cut off are not given again
                _cut(self._segments[at], damage)
            at += 1
            if at == len(self._segments):
                break
            number, offset = self._segments[at].first, 0
        self._read = (number, offset)
        if not taken:  # all that was left is damaged
            self.acknowledge()
        return taken

    def acknowledge(self) -> None:
        """See Buffer."""
        number, offset = self._read
        os.pwrite(self._note, _note(number), 0)
        self._drop_answered(number)
        self.acknowledged = number
        self._offset = 0 if number == self._segments[0].first else offset

    def set_aside(self, refusals: Sequence[Refusal]) -> None:
        """See Buffer. Raises OSError."""
        if refusals:
            self._refused.append(refusals, iso(self._clock.now_ms()))
            self._refused_bytes = self._refused.size

    async def sync(self) -> None:
        """See Buffer. Raises OSError."""
        if not self._active_synced:
            self._unsynced.append(os.dup(self._active))
            self._active_synced = True
        descriptors, self._unsynced = self._unsynced, []
        if descriptors:
            await asyncio.to_thread(_sync, [*descriptors, os.open(self._directory, os.O_RDONLY)])

    def close(self) -> None:
        """See Buffer."""
        for descriptor in (*self._unsynced, self._active, self._note, self._lock):
            os.close(descriptor)

    def _has_room(self, more: int) -> bool:
        return sum(segment.size for segment in self._segments) + self._refused_bytes + more <= self._most_bytes

    def _why_full(self) -> str:
        waiting = f"{self.appended - self.acknowledged} events wait in the spool {self._directory}"
        if self._refused_bytes * 2 < self._most_bytes:
            return f"{waiting}, and its {self._most_bytes} bytes are used up"
        return f"{waiting}; {self._refused.path.name} takes most of its {self._most_bytes} bytes: move it away"

    def _roll(self) -> None:
        """Go on in a new segment."""
        segment = Segment(self._directory, self.appended)
        descriptor = segment.open()
        self._unsynced.append(self._active)
        self._active, self._active_synced = descriptor, False
        self._segments.append(segment)

    def _drop_answered(self, number: int) -> None:
        """Remove segments of which every record lies before `number`; the one that is written to stays."""
        while len(self._segments) > 1 and self._segments[1].first <= number:
            self._segments.pop(0).path.unlink()

    def _recover_end(self, noted: int) -> int:
        """The number that the next record gets. Never one that was answered: a power cut may have taken records that
        were answered, and what then got their numbers would pass for answered."""
        number = 0
        if self._segments:
            last = self._segments[-1]
            number = last.first
            try:
                for _ in last.records():
                    number += 1
            except Damaged as damage:
                _cut(last, damage)
        if noted > number or not self._segments:
            number = noted
            self._segments.append(Segment(self._directory, number))
            os.close(self._segments[-1].open())
        return number

    def _recover_start(self, noted: int) -> tuple[int, int]:
        """Number of the oldest unanswered record, and its offset in the first segment that is kept."""
        self._drop_answered(noted)
        oldest = self._segments[0]
        number, offset = oldest.first, 0
        try:
            for _, end in oldest.records():
                if number >= noted:
                    break
                number, offset = number + 1, end
        except Damaged as damage:
            _cut(oldest, damage)
        return number, offset

    def _noted(self) -> int:
        """What `acknowledged` says; 0 if it says nothing sensible: then what is still there is sent again."""
        note = os.pread(self._note, _NOTE.size, 0)
        number = int.from_bytes(note[:8], "big")
        if note and note != _note(number):
            _log.warning("spool %s: what was answered is not readable; all of it is sent again", self._directory)
            return 0
        return number


def _note(number: int) -> bytes:
    return _NOTE.pack(number, crc32(number.to_bytes(8, "big")))


def _cut(segment: Segment, damage: Damaged) -> None:
    bytes_left = segment.size - damage.offset
    _log.warning("%s: the %d bytes from there on were moved to %s", damage, bytes_left, segment.cut(damage.offset))


def _sync(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


async def _hold(lock: int, directory: Path) -> None:
    deadline = asyncio.get_running_loop().time() + _LOCK_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if asyncio.get_running_loop().time() >= deadline:
                raise SpoolInUse(directory) from None
        await asyncio.sleep(0.05)
