"""One file of a spool: consecutive records, each with its length and checksum, only ever appended to.

Record: length of the payload and CRC-32 of length and payload, 4 bytes each, big-endian; then the payload, never empty.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

SUFFIX = ".events"
_HEADER = struct.Struct(">II")
_LENGTH = struct.Struct(">I")


class Damaged(Exception):
    """What stands at `offset` is no record: the beginning of one, as a killed process leaves it, or worse."""

    def __init__(self, path: Path, offset: int) -> None:
        super().__init__(f"{path}: no record at byte {offset}")
        self.offset = offset


def packed(record: bytes) -> bytes:
    """A record as it stands in the file."""
    length = _LENGTH.pack(len(record))
    return _HEADER.pack(len(record), crc32(record, crc32(length))) + record


def write_whole(descriptor: int, data: bytes) -> None:
    """Append all of it, or, where that fails with an OSError, nothing."""
    size = os.fstat(descriptor).st_size
    left = memoryview(data)
    try:
        while left:
            left = left[os.write(descriptor, left) :]
    except OSError:
        os.ftruncate(descriptor, size)
        raise


class Segment:
    """`first` is the number of its first record; it is the file's name. `size` in bytes."""

    def __init__(self, directory: Path, first: int) -> None:
        self.first = first
        self.path = directory / f"{first:020d}{SUFFIX}"
        self.size = self.path.stat().st_size if self.path.exists() else 0

    @classmethod
    def all_in(cls, directory: Path) -> list[Segment]:
        """Those that are there, in the order of their records."""
        return [cls(directory, first) for first in sorted(int(path.stem) for path in directory.glob("*" + SUFFIX))]

    def open(self) -> int:
        """A descriptor to append to it; the file is created, readable by its owner only."""
        return os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def records(self, offset: int = 0) -> Iterator[tuple[bytes, int]]:
        """Records from byte `offset` on, each with the offset behind it. Raises Damaged."""
        with self.path.open("rb") as file:
            file.seek(offset)
            while head := file.read(_HEADER.size):
                length, checksum = _HEADER.unpack(head) if len(head) == _HEADER.size else (0, 0)
                record = file.read(length) if length <= self.size - offset else b""
                if not length or crc32(record, crc32(head[: _LENGTH.size])) != checksum or len(record) < length:
                    raise Damaged(self.path, offset)
                offset += _HEADER.size + length
                yield record, offset

    def cut(self, offset: int) -> Path:
        """Move everything from `offset` on into a file of its own beside it, and answer which."""
        aside = self.path.with_suffix(f".{offset}.damaged")
        with self.path.open("r+b") as file:
            file.seek(offset)
            aside.write_bytes(file.read())
            file.truncate(offset)
        self.size = offset
        return aside
