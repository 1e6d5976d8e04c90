"""Sending usage events from a service written in Python.

    from decimal import Decimal
    from ingest.client import Emitter

    async def main() -> None:
        async with Emitter(
            "http://127.0.0.1:8080", key, source="voice-concierge", spool="/var/spool/voice-concierge"
        ) as emitter:
            await emitter.emit(
                {"type": "call.completed", "subject": "guest-12", "data": {"duration_seconds": Decimal("187.5")}}
            )

`emit` returns as soon as the event is on disk; sending, repeating and waiting for a busy gateway go on behind it. The
event survives the death of the process, and counts once however often it has to be sent.
"""

from ingest.client.buffer import EmitterFull
from ingest.client.emitter import Emitter, EmitterClosed
from ingest.client.refusals import Refusal
from ingest.client.spool import SpoolInUse

__all__ = ["Emitter", "EmitterClosed", "EmitterFull", "Refusal", "SpoolInUse"]
