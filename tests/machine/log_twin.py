"""The log of one partition in memory, behind the questions that streams/log.py answers from the broker."""

from __future__ import annotations

from metering.errors import Halt, Unavailable
from streams.frame import Record
from tests.machine.gate import Gate


class Log:
    """What the broker holds: records from offset `start` on."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.start = 0

    @property
    def end(self) -> int:
        """The offset of the next record."""
        return len(self.records)

    def append(self, record: Record) -> None:
        """At the end, with the timestamp it bears."""
        assert record.offset == self.end
        self.records.append(record)


class LogTwin:
    """What a reader has of it. `most`: records that a read gives, whatever it is asked for."""

    def __init__(self, log: Log, gate: Gate, most: int = 1 << 20) -> None:
        self._log = log
        self._gate = gate
        self._most = most
        self.next = 0

    async def start(self) -> int:
        """The oldest offset."""
        return await self._gate.through("log start", lambda: self._log.start, _away)

    def seek(self, offset: int) -> None:
        """Go on reading at `offset`."""
        self.next = offset

    async def read(self, limit: int, wait_ms: int) -> list[Record]:
        """Up to `limit` records."""

        def effect() -> list[Record]:
            if not self._log.start <= self.next <= self._log.end:
                raise Halt(f"offset {self.next} is out of the log's range")
            records = self._log.records[self.next : self.next + min(limit, self._most)]
            self.next += len(records)
            return records

        return await self._gate.through("read", effect, _away)

    async def record_at(self, offset: int) -> Record | None:
        """The record at `offset`."""

        def effect() -> Record | None:
            return self._log.records[offset] if self._log.start <= offset < self._log.end else None

        self.seek(offset)
        return await self._gate.through("record_at", effect, _away)

    def caught_up(self, offset: int) -> int | None:
        """Nobody asks a twin how fresh its reader is."""
        return None

    def lag(self) -> int | None:
        """Records not yet read."""
        return max(0, self._log.end - self.next)


def _away() -> Exception:
    return Unavailable("Kafka: gone")
