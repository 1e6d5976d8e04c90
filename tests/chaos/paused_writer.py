"""A streams worker that stops for good, or freezes itself, the first time it comes to a numbered effect."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from streams.__main__ import run

EFFECT = os.environ["PAUSE_AT"]
MARKER = Path(os.environ["PAUSE_MARKER"])
FREEZE = os.environ.get("PAUSE_FREEZE") == "1"


async def probe(effect: str) -> None:
    """Reached `effect`: say so, then wait (for SIGKILL, or until the marker is taken away)."""
    if effect != EFFECT or MARKER.with_suffix(".done").exists():
        return
    MARKER.with_suffix(".done").touch()
    MARKER.touch()  # noqa: ASYNC240
    if FREEZE:
        os.kill(os.getpid(), signal.SIGSTOP)
        return
    while MARKER.exists():  # noqa: ASYNC110, ASYNC240 (another process takes it away)
        await asyncio.sleep(0.01)


if __name__ == "__main__":
    run(probe)
