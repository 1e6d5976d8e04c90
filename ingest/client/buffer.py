"""What was emitted and is not answered yet, in order: a port, and the buffer that lives in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Protocol

from ingest.client.refusals import Refusal
from metering.errors import Refused, TryLater


class EmitterFull(TryLater):
    """There is no room for another event; the event was not taken. Emit it again later, or give more room."""


class Buffer(Protocol):
    """Port. Records are numbered from 0 on as they are appended; one reader takes them off at the other end.

    `acknowledged` is the number of the oldest record that is not answered, `appended` that of the next one to come.
    """

    @property
    def appended(self) -> int: ...

    @property
    def acknowledged(self) -> int: ...

    def append(self, record: bytes) -> None:
        """Keep a record. Raises EmitterFull, Refused if it can never fit, Unavailable if it cannot be kept."""
        ...

    def read(self, most: int, most_bytes: int) -> list[bytes]:
        """The oldest unanswered records: at most `most`, and at most `most_bytes` unless the first alone is larger."""
        ...

    def acknowledge(self) -> None:
        """What `read` gave last is answered: forget it."""
        ...

    def set_aside(self, refusals: Sequence[Refusal]) -> None:
        """Keep what was refused, if this buffer keeps anything."""
        ...

    async def sync(self) -> None:
        """Make what was appended so far survive a power cut, if it survives anything."""
        ...

    def close(self) -> None:
        """Let it go. What is not answered stays only where it is kept on disk."""
        ...


class MemoryBuffer:
    """Ends with the process."""

    def __init__(self, most_bytes: int) -> None:
        self.acknowledged = 0
        self._most_bytes = most_bytes
        self._records: deque[bytes] = deque()
        self._bytes = 0
        self._read = 0

    @property
    def appended(self) -> int:
        """See Buffer."""
        return self.acknowledged + len(self._records)

    def append(self, record: bytes) -> None:
        """See Buffer."""
        if len(record) > self._most_bytes:
            raise Refused("event-too-large", f"an event may have {self._most_bytes} bytes, the whole buffer")
        if self._bytes + len(record) > self._most_bytes:
            raise EmitterFull(f"{len(self._records)} events wait to be sent, and there is no room for more", 1)
        self._records.append(record)
        self._bytes += len(record)

    def read(self, most: int, most_bytes: int) -> list[bytes]:
        """See Buffer."""
        taken: list[bytes] = []
        for record in self._records:
            if taken and (len(taken) == most or len(record) > most_bytes):
                break
            taken.append(record)
            most_bytes -= len(record)
        self._read = len(taken)
        return taken

    def acknowledge(self) -> None:
        """See Buffer."""
        for _ in range(self._read):
            self._bytes -= len(self._records.popleft())
        self.acknowledged += self._read
        self._read = 0

    def set_aside(self, refusals: Sequence[Refusal]) -> None:
        """See Buffer: nothing is kept, the emitter has reported them."""

    async def sync(self) -> None:
        """See Buffer: there is nothing to do."""

    def close(self) -> None:
        """See Buffer."""
