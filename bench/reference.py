"""The yardstick: a bare loop on one core: msgspec decode of a batch of 100, blake2b identity, encode (design §8)."""

from __future__ import annotations

import time
from hashlib import blake2b

import msgspec

from bench.events import body, numbered


class _Event(msgspec.Struct, gc=False):
    id: str
    source: str
    type: str
    specversion: str
    time: str | None = None
    subject: str | None = None
    datacontenttype: str | None = None
    tenant: str | None = None
    data: msgspec.Raw = msgspec.Raw()


def reference(windows: int, seconds: float) -> list[float]:
    """Events per second of each window."""
    decode = msgspec.json.Decoder(list[_Event]).decode
    encode = msgspec.json.Encoder().encode
    sent = numbered(body("tenant-0", 100, time.time()), 0)
    rates = []
    for _ in range(windows):
        count, began = 0, time.perf_counter()
        while time.perf_counter() - began < seconds:
            for event in decode(sent):
                blake2b(f"t\0{event.source}\0{event.id}".encode(), digest_size=16).digest()
                encode(event)
            count += 100
        rates.append(count / (time.perf_counter() - began))
    return rates
