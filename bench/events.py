"""The usual event of about 290 bytes; a batch holds one placeholder per id that each request replaces by a number."""

from __future__ import annotations

import json
import random
import time
from datetime import UTC, datetime

TEMPLATE = b"RRRRRRRR"
"""Eight bytes in every id: replaced whole, so that a batch is made unique by one pass over its bytes."""
_LANGUAGES = ("de", "en", "fr", "it", "ja", "es", "zh", "ar")


def batch(tenant: str, size: int) -> bytes:
    """A JSON array of `size` events of one tenant."""
    return b"[" + b",".join(event(tenant, number) for number in range(size)) + b"]"


def event(tenant: str, number: int) -> bytes:
    """One call, somewhere in the last ten minutes."""
    at = datetime.fromtimestamp(time.time() - random.random() * 600, UTC).isoformat(timespec="milliseconds")
    body = {
        "specversion": "1.0",
        "id": f"{TEMPLATE.decode()}-{number:04d}",
        "source": "/pms/berlin",
        "type": "call.completed",
        "time": at.replace("+00:00", "Z"),
        "subject": f"room-{random.randrange(300)}",
        "datacontenttype": "application/json",
        "tenant": tenant,
        "data": {
            "duration_seconds": random.randrange(5, 900),
            "language": random.choice(_LANGUAGES),
            "property": "berlin",
            "guest": f"g-{random.randrange(10_000)}",
        },
    }
    return json.dumps(body, separators=(",", ":")).encode()
