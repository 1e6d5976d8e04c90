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


class Yardstick:
    """The loop, run before and after each row: a shared machine is not equally fast for ten minutes."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.windows = [_events_per_second(seconds)]

    def around(self) -> float:
        """Run it once more; events per second, the mean of this time and the last."""
        self.windows.append(_events_per_second(self._seconds))
        return (self.windows[-2] + self.windows[-1]) / 2


def _events_per_second(seconds: float) -> float:
    decode = msgspec.json.Decoder(list[_Event]).decode
    encode = msgspec.json.Encoder().encode
    sent = numbered(body("tenant-0", 100, time.time()), 0)
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        for event in decode(sent):
            blake2b(f"t\0{event.source}\0{event.id}".encode(), digest_size=16).digest()
            encode(event)
        count += 100
    return count / (time.perf_counter() - began)
