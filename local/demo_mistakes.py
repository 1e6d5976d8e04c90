"""Events as bad emitters send them: each must be refused by the gateway and never counted."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

Event = dict[str, Any]


def encode(event: Event) -> bytes:
    """Compact JSON on one line."""
    return json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode()


def _with(event: Event, **attributes: Any) -> bytes:
    return encode({**event, **attributes})


def _without(event: Event, name: str) -> bytes:
    return encode({key: value for key, value in event.items() if key != name})


def _with_duration(event: Event, duration: Any) -> bytes:
    return _with(event, data={**event["data"], "duration_seconds": duration})


MISTAKES: tuple[Callable[[Event], bytes], ...] = (
    lambda call: encode(call)[:-20],
    lambda call: _without(call, "id"),
    lambda call: _with(call, specversion="0.3"),
    lambda call: _with(call, time="2999-01-01T00:00:00Z"),
    lambda call: _with(call, receivedat="2026-01-01T00:00:00Z"),
    lambda call: _with(call, tenant="somebody-else"),
    lambda call: encode(call)[:-1] + b',"id":"twice"}',
    lambda call: _with_duration(call, -60),
    lambda call: _with_duration(call, "NaN"),
    lambda call: _with_duration(call, "60.0001"),
    lambda call: _with_duration(call, "1e400"),
    lambda call: _with_duration(call, None),
)
"""Each turns a good `call.completed` into a bad line."""
