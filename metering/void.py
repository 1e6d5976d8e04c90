"""A void takes an event back: an event of type `tallygate.void` whose data names the other one.

    {"source": "/pms/berlin", "id": "call-17", "time": "2026-11-23T10:20:00Z"}

`time` (or `hour`) is needed only where two events bear the name: any instant in the hour of the one that is meant.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from metering.clock import HOUR_MS, parse_iso
from metering.errors import InvalidEvent
from metering.event import UsageEvent

VOID = "tallygate.void"


class Target(NamedTuple):
    """What a void names; `hour` in hours since 1970, None where the name is enough."""

    source: str
    id: str
    hour: int | None


def target_of(event: UsageEvent) -> Target:
    """The target of an event of type VOID. Raises InvalidEvent (`invalid-void`)."""
    data = event.data if type(event.data) is dict else {}
    source, id = data.get("source"), data.get("id")
    if type(source) is not str or type(id) is not str or not source or not id:
        raise InvalidEvent("invalid-void", '`data` names the event to void: {"source": "…", "id": "…"}')
    hours = {_hour(data[name], name) for name in ("time", "hour") if data.get(name) is not None}
    if len(hours) > 1:
        raise InvalidEvent("invalid-void", "`time` and `hour` in `data` differ; leave one out")
    return Target(source, id, hours.pop() if hours else None)


def _hour(value: object, name: str) -> int:
    try:
        return parse_iso(str(value)) // HOUR_MS
    except ValueError:
        raise InvalidEvent("invalid-void", f"`{name}` in `data` must be like 2026-11-23T10:20:00Z") from None


def dimensions(target: Target) -> dict[str, str]:
    """How the row of a void keeps its target: payloads are purged one day, dimensions stay."""
    hour = "" if target.hour is None else str(target.hour)
    return {"void_source": target.source, "void_id": target.id, "void_hour": hour}


def target_in(kept: Mapping[str, str]) -> Target:
    """What `dimensions` made."""
    hour = kept["void_hour"]
    return Target(kept["void_source"], kept["void_id"], int(hour) if hour else None)
