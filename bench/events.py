"""The usual event of about 310 bytes, three meters by bench/catalog.yaml.

Bodies are made beforehand. In each stands one placeholder per id that a request replaces by its own number: one pass
over the bytes makes a batch unique.
"""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime

TEMPLATE = b"RRRRRRRR"
_LANGUAGES = ("de", "en", "fr", "it", "ja", "es", "zh", "ar")
_SPREAD_SECONDS = 600


def body(tenant: str, size: int, now: float) -> bytes:
    """`size` events of one tenant in the ten minutes before `now` (seconds since 1970): an array, or one event."""
    if size == 1:
        return _event(tenant, 0, now)
    return b"[" + b",".join([_event(tenant, number, now) for number in range(size)]) + b"]"


def numbered(template: bytes, number: int) -> bytes:
    """The body of request `number`: identities that no other number has."""
    return template.replace(TEMPLATE, b"%08x" % (number & 0xFFFFFFFF))


def _event(tenant: str, number: int, now: float) -> bytes:
    at = datetime.fromtimestamp(now - random.random() * _SPREAD_SECONDS, UTC).isoformat(timespec="milliseconds")
    event = {
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
    return json.dumps(event, separators=(",", ":")).encode()
