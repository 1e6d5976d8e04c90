"""How far a `send` came, on disk, so that an interrupted one goes on: one small file per (file, key, epoch)."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import msgspec

from ingest.client.sender import Receipt

ERRORS_KEPT = 1000


class Progress(msgspec.Struct):
    """What the acknowledged prefix of the file came to. `positions`: partition → greatest offset."""

    sent: int = 0
    accepted: int = 0
    rejected: int = 0
    errors: list[dict[str, Any]] = []
    positions: dict[int, int] = {}

    def add(self, first: int, events: int, receipt: Receipt) -> None:
        """Count the next batch, whose first event has the index `first` in the file."""
        self.sent += events
        self.accepted += receipt.accepted
        self.rejected += receipt.rejected
        room = ERRORS_KEPT - len(self.errors)
        self.errors += [{**error, "index": first + error["index"]} for error in receipt.errors[: max(0, room)]]
        for partition, offset in receipt.positions:
            self.positions[partition] = max(offset, self.positions.get(partition, -1))


class Journal:
    """Receipts may come in any order; only the prefix without a gap is kept. What came after a gap is sent again,
    and the ledger counts that once."""

    def __init__(self, directory: Path, *identity: str) -> None:
        """`identity`: whatever makes this send another one than others. It is hashed, never stored."""
        name = hashlib.blake2b("\0".join(identity).encode(), digest_size=16).hexdigest()
        self._path = directory / "sends" / f"{name}.json"
        self._early: dict[int, tuple[int, Receipt]] = {}
        self._dirty = False
        try:
            self.progress = msgspec.json.decode(self._path.read_bytes(), type=Progress)
        except (OSError, msgspec.MsgspecError):
            self.progress = Progress()
        self.resumed_from = self.progress.sent

    def add(self, first: int, events: int, receipt: Receipt) -> None:
        """The batch of `events` events that begins at index `first` was answered."""
        self._early[first] = (events, receipt)
        while self.progress.sent in self._early:
            start = self.progress.sent
            self.progress.add(start, *self._early.pop(start))
            self._dirty = True

    @property
    def waiting(self) -> int:
        """Batches that were answered before one that stands before them."""
        return len(self._early)

    def save(self) -> None:
        """Write what changed, whole or not at all."""
        if not self._dirty:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        new = self._path.with_suffix(".new")
        new.write_bytes(msgspec.json.encode(self.progress))
        os.replace(new, self._path)
        self._dirty = False

    def finish(self) -> None:
        """The file is through: the next send of it begins at its beginning."""
        self._path.unlink(missing_ok=True)
        self._dirty = False
