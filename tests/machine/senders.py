"""Events as senders write them: new, sent again with or without changes, voids, and what can't be counted."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from metering.clock import HOUR_MS, MINUTE_MS, iso

VOID = "tallygate.void"
IDS = 14
"""Few, so that names meet by themselves."""


class Event(NamedTuple):
    """What a sender says. `time` in ms or None; a void names `source` and `id` in its data."""

    id: str
    type: str
    time: int | None
    data: dict[str, Any]

    def encode(self) -> bytes:
        """Compact JSON."""
        body: dict[str, Any] = {"specversion": "1.0", "id": self.id, "source": "/s", "type": self.type}
        if self.time is not None:
            body["time"] = iso(self.time)
        return json.dumps({**body, "data": self.data}, separators=(",", ":")).encode()


Spec = tuple[Any, ...]
"""An event in a schedule: its kind and what that needs (tests/machine/schedule.py)."""
Sent = tuple[str, Event]
"""Tenant, and what it sent."""


def made(spec: Spec, now: int, tenant: str, sent: list[Sent]) -> Event | bytes:
    """The event of a spec; bytes where it is none."""
    kind, *given = spec
    if kind == "new":
        number, ago, type, n, language = given
        return Event(f"e{number}", type, None if ago is None else now - ago, {"n": n, "l": language})
    if kind == "again":
        return _again(now, tenant, sent, *given)
    if kind == "void":
        return _void(now, tenant, sent, *given)
    return _bad(now, *given)


def _again(now: int, tenant: str, sent: list[Sent], which: int, change: str, ago: int, n: str) -> Event:
    mine = [event for name, event in sent if name == tenant or change == "tenant"]
    event = mine[which % len(mine)] if mine else Event("e0", "call", now, {"n": n, "l": "a"})
    if change == "time":
        return event._replace(time=now - ago)
    if change == "type":
        return event._replace(type="visit" if event.type == "call" else "call", data={"n": n, "l": "b"})
    if change == "data" and event.type == "call":
        return event._replace(data={"n": n, "l": "c"})
    return event


def _void(now: int, tenant: str, sent: list[Sent], number: int, aim: str, which: int, with_time: bool) -> Event:
    mine = [event for name, event in sent if name == tenant and (event.type == VOID) == (aim == "void")]
    target = mine[which % len(mine)] if mine and aim != "future" else Event(f"e{which % IDS}", "call", now, {})
    data: dict[str, Any] = {"source": "/s", "id": target.id}
    if with_time and target.time is not None:
        data["hour"] = iso(target.time - target.time % HOUR_MS)
    return Event(f"v{number}", VOID, None, data)


def _bad(now: int, problem: str, number: int) -> Event | bytes:
    id = f"e{number}"
    if problem == "json":
        return b'{"specversion":"1.0",'
    if problem == "reserved":
        return Event(id, "tallygate.other", None, {})
    if problem == "void":
        return Event(id, VOID, None, {"id": "e1"})
    if problem == "too early":
        return Event(id, "call", now + 11 * MINUTE_MS, {"n": 1, "l": "a"})
    return Event(id, "call", None, {"l": "a"})
