"""Whether the writers have written everything that was acknowledged: asked once no gateway runs any more."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence

from local.probes import http_ok, http_text
from metering import topics

_TOPIC = re.escape(topics.events(0).removesuffix("0"))
_LAG = re.compile(rf'^tallygate_writer_lag_records\{{partition="{_TOPIC}(\d+)/\d+"\}} (\S+)$', re.MULTILINE)
_FRAMES = re.compile(r"^tallygate_writer_frames_total (\S+)$", re.MULTILINE)
_INTERVAL = 0.2
_SETTLED_SECONDS = 1.5
"""Longer than the writers take to tell their lag anew."""


async def drained(writers: Sequence[str], patience_seconds: float) -> bool:
    """Wait until the writers (ops URLs) have nothing left to do. False if that is not seen in time."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience_seconds
    progress, since = -1.0, loop.time()
    while loop.time() < deadline:
        try:
            texts = await asyncio.gather(*map(_metrics, writers))
        except OSError:  # TimeoutError is one
            texts = []
        frames, lag = sum(map(_frames, texts)), _lag("\n".join(texts))
        if not texts or lag > 0 or frames != progress:
            progress, since = frames, loop.time()
        elif loop.time() - since >= _SETTLED_SECONDS:
            return True
        await asyncio.sleep(_INTERVAL)
    return False


async def _metrics(writer: str) -> str:
    """Raises OSError while it does not answer or is not ready: until it has recovered it does not know its lag."""
    if not await http_ok(f"{writer}/readyz"):
        raise ConnectionError(f"{writer} is not ready")
    return await http_text(f"{writer}/metrics")


def _frames(text: str) -> float:
    return sum(map(float, _FRAMES.findall(text)))


def _lag(text: str) -> float:
    """In the newest epoch: what is left of older ones is gone with the broker that had it."""
    by_epoch: dict[int, float] = {}
    for epoch, lag in _LAG.findall(text):
        by_epoch[int(epoch)] = by_epoch.get(int(epoch), 0.0) + float(lag)
    return by_epoch[max(by_epoch)] if by_epoch else 0.0
