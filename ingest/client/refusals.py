"""What the gateway will never take, and the file in which a spool keeps it for people to look at."""

from __future__ import annotations

import os
from collections.abc import Sequence
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import NamedTuple

import msgspec

from ingest.client.segment import write_whole


class Refusal(NamedTuple):
    """An event (JSON) that the gateway refused for good, and why."""

    event: bytes
    code: str
    detail: str


class RefusedFile:
    """NDJSON: {"at", "code", "detail", "event"} a line; `event` is a string where it was no JSON. `size` in bytes.

    It may be moved away at any time: the next refusal begins a new one.
    """

    def __init__(self, path: Path) -> None:
        """Takes away a last line that was cut short: its event was not acknowledged and will be refused again."""
        self.path = path
        if self.size:
            with path.open("r+b") as file:
                with mmap(file.fileno(), 0, access=ACCESS_READ) as text:
                    whole = text.rfind(b"\n") + 1
                file.truncate(whole)

    @property
    def size(self) -> int:
        """As it is now."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def append(self, refusals: Sequence[Refusal], at: str) -> None:
        """They survive a power cut when this returns. Raises OSError, and then nothing was added."""
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            write_whole(descriptor, b"".join(_line(refusal, at) for refusal in refusals))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _line(refusal: Refusal, at: str) -> bytes:
    try:
        event: msgspec.Raw | str = msgspec.Raw(msgspec.json.format(refusal.event.decode(), indent=-1))
    except (ValueError, RecursionError):
        event = refusal.event.decode(errors="replace")
    return msgspec.json.encode({"at": at, "code": refusal.code, "detail": refusal.detail, "event": event}) + b"\n"
