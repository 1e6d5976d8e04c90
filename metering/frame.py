"""A frame is one Kafka record: 1..n events of one tenant as NDJSON, compact and valid UTF-8, at most 900 kB.

A foreign producer may write one event per record without headers; such a record is a frame too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from zlib import crc32

import msgspec

SCHEMA = b"1"
MAX_FRAME_BYTES = 900_000
MAX_FRAME_EVENTS = 10_000

Headers = Sequence[tuple[str, bytes | None]]


class FrameHeader(msgspec.Struct, frozen=True):
    """What the headers of a record say; None where a foreign producer said nothing. `received` in ms UTC."""

    count: int | None = None
    catalog_version: int | None = None
    received: int | None = None
    closing: bool = False


def frames(events: Sequence[bytes]) -> list[tuple[bytes, int]]:
    """Split compact events into frame values, each with its count."""
    if len(events) <= MAX_FRAME_EVENTS and sum(map(len, events)) + len(events) <= MAX_FRAME_BYTES:
        return [(b"\n".join(events), len(events))] if events else []
    result: list[tuple[bytes, int]] = []
    lines: list[bytes] = []
    size = 0
    for event in events:
        if lines and (size + len(event) + 1 > MAX_FRAME_BYTES or len(lines) == MAX_FRAME_EVENTS):
            result.append((b"\n".join(lines), len(lines)))
            lines, size = [], 0
        lines.append(event)
        size += len(event) + 1
    if lines:
        result.append((b"\n".join(lines), len(lines)))
    return result


def headers(count: int, catalog_version: int, received: int) -> list[tuple[str, bytes]]:
    """Headers of a frame that the gateway validated by `catalog_version` at `received` (ms UTC)."""
    return [
        ("tg-schema", SCHEMA),
        ("tg-count", b"%d" % count),
        ("tg-catalog", b"%d" % catalog_version),
        ("tg-received", b"%d" % received),
    ]


CLOSING_HEADERS: list[tuple[str, bytes]] = [("tg-schema", SCHEMA), ("tg-closing", b"1")]
"""Headers of the record that ends a partition of an epoch; it has neither key nor value."""


def read_headers(items: Headers) -> FrameHeader:
    """Raises ValueError when headers are there but make no sense (a foreign producer's own are ignored)."""
    own = {name: value for name, value in items if name.startswith("tg-")}
    if not own:
        return FrameHeader()
    if own.get("tg-schema") != SCHEMA:
        raise ValueError("unknown tg-schema")
    if "tg-closing" in own:
        return FrameHeader(closing=True)
    return FrameHeader(
        count=_number(own, "tg-count"),
        catalog_version=_number(own, "tg-catalog"),
        received=_number(own, "tg-received"),
    )


def _number(own: Mapping[str, bytes | None], name: str) -> int | None:
    if name not in own:
        return None
    value = own[name]
    if value is None or not value.isdigit() or len(value) > 15:  # no header of ours is longer; instants have 13 digits
        raise ValueError(f"{name} is no number")
    return int(value)


def checksum(key: bytes | None, value: bytes | None, timestamp: int) -> int:
    """CRC-32 over a record: tells whether the log still holds the record that was applied."""
    return crc32(value or b"", crc32(b"%d:%b\0" % (timestamp, key or b"")))
