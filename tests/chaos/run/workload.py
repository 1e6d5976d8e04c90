"""What one tenant sends, slot by slot: events, resends of them, voids before and after what they void. Pure.

A slot is a function of the seed, the tenant and its number: a killed emitter goes on in the middle, and the account is
made of the same slots without asking anybody what was sent.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Literal, NamedTuple

HOUR_MS = 3_600_000
RECENT_HOURS, LATE_HOURS, LATEST_DAYS = 6, 20, 30
"""Most events are of the last full hours; late ones of some hours up to so many days ago."""
_OUT_OF = 1 << 16
_RESENT, _VOIDS, _LATE = int(0.05 * _OUT_OF), int(0.01 * _OUT_OF), int(0.05 * _OUT_OF)
_NEAR, _FAR = 60, 20_000
"""Slots between an event and its resend or void: within a batch, or long after it."""
_LANGUAGES = ("de", "en", "fr", "it", "es", "ja", "zh", "ar", "ru", "pt", "hi", "ko")
_PROPERTIES = ("paris", "dubai", "tokyo", "kiel")
_PRIORITIES = ("low", "normal", "normal", "normal", "high", "urgent")
_DEPARTMENTS = ("housekeeping", "concierge", "maintenance", "spa")
_ENDPOINTS = ("/v2/reservations", "/v2/guests", "/v2/rooms")
_STATUSES = (200, 200, 201, 404)
_GUESTS = 300
_DRAWS = struct.Struct(">16H")

Draws = tuple[int, ...]
Counts = tuple[tuple[str, int, str], ...]
"""What an event is worth: (meter, quantity in units of the meter's last decimal, or the thing it names)."""


class Slot(NamedTuple):
    """`event`: the slot of the event that this is about, its own for a new one. `changed`: resent with another time."""

    kind: Literal["new", "resend", "void"]
    event: int
    changed: bool = False


class Workload:
    """The slots 0 to `slots` - 1 of one tenant. `now_ms`: when the run began."""

    def __init__(self, seed: int, tenant: str, slots: int, now_ms: int) -> None:
        self.tenant = tenant
        self.slots = slots
        self._prefix = f"{seed}/{tenant}/"
        this_hour = now_ms // HOUR_MS
        self._recent = [this_hour - 1 - back for back in range(RECENT_HOURS)]
        step = LATEST_DAYS * 24 // LATE_HOURS
        self._late = [this_hour - RECENT_HOURS - 1 - step * back - seed % step for back in range(LATE_HOURS)]

    def slot(self, number: int) -> Slot:
        """What is sent there."""
        return self._slot(number, self._draws(number))

    def line(self, number: int) -> bytes:
        """It as JSON on one line."""
        draws = self._draws(number)
        slot = self._slot(number, draws)
        if slot.kind == "void":
            data = f'{{"source":"/{self.tenant}","id":"e{slot.event}"}}'
            return _event(f"v{number}", f"/{self.tenant}/desk", "tallygate.void", None, "desk", data)
        own = draws if slot.event == number else self._draws(slot.event)
        type, data, _ = _KINDS[own[3] % len(_KINDS)](own)
        time = self._time(draws if slot.changed else own)
        subject = _guest(own) if type == "request.created" else _PROPERTIES[own[9] % 4]
        return _event(f"e{slot.event}", f"/{self.tenant}", type, time, subject, data)

    def worth(self, number: int) -> tuple[int, Counts]:
        """The time (ms UTC) of a new event, and what it counts."""
        draws = self._draws(number)
        return self._time(draws), _KINDS[draws[3] % len(_KINDS)](draws)[2]

    def _draws(self, number: int) -> Draws:
        return _DRAWS.unpack(blake2b(f"{self._prefix}{number}".encode(), digest_size=32).digest())

    def _slot(self, number: int, draws: Draws) -> Slot:
        about = draws[0]
        if about < _RESENT + _VOIDS:
            distance = 1 + draws[1] % (_NEAR if draws[2] % 2 else _FAR)
            ahead = about >= _RESENT and draws[4] % 2 == 0
            event = number + distance if ahead else number - distance
            # What it is about has to be an event of its own; else this slot is one itself.
            if 0 <= event < self.slots and self._draws(event)[0] >= _RESENT + _VOIDS:
                return Slot("void", event) if about >= _RESENT else Slot("resend", event, draws[4] % 4 == 0)
        return Slot("new", number)

    def _time(self, draws: Draws) -> int:
        hours = self._late if draws[5] < _LATE else self._recent
        return hours[draws[6] % len(hours)] * HOUR_MS + (draws[7] << 16 | draws[8]) % HOUR_MS


def _event(id: str, source: str, type: str, time: int | None, subject: str, data: str) -> bytes:
    at = "" if time is None else f'"time":"{_iso(time)}",'
    head = f'{{"specversion":"1.0","id":"{id}","source":"{source}","type":"{type}",{at}"subject":"{subject}"'
    return f'{head},"data":{data}}}'.encode()


def _iso(time: int) -> str:
    seconds, milliseconds = divmod(time, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{milliseconds:03d}Z"


def _guest(draws: Draws) -> str:
    return f"guest-{draws[9] % _GUESTS}"


def _number(units: int, scale: int, draws: Draws) -> str:
    """As a JSON number or as a decimal string: senders do both."""
    whole, part = divmod(units, 10**scale)
    text = f"{whole}.{part:0{scale}d}"
    return f'"{text}"' if draws[10] % 2 else text


def _call(draws: Draws) -> tuple[str, str, Counts]:
    thousandths, language, concurrent = 1 + draws[11] * 5, _LANGUAGES[draws[12] % 12], 1 + draws[13] % 20
    place = _PROPERTIES[draws[14] % 4]
    data = (
        f'{{"duration_seconds":{_number(thousandths, 3, draws)},"language":"{language}","concurrent":{concurrent},'
        f'"property":"{place}"}}'
    )
    meters = ("voice_seconds", thousandths, ""), ("voice_calls", 1, ""), ("voice_languages", 0, language)
    return "call.completed", data, (*meters, ("locations", 0, place), ("concurrent_calls", concurrent, ""))


def _request(draws: Draws) -> tuple[str, str, Counts]:
    priority = _PRIORITIES[draws[11] % 6]
    data = f'{{"priority":"{priority}","department":"{_DEPARTMENTS[draws[12] % 4]}"}}'
    meters = ("guest_requests", 1, ""), ("requesting_guests", 0, _guest(draws))
    return (
        "request.created",
        data,
        (*meters, *([("priority_requests", 1, "")] if priority in ("high", "urgent") else [])),
    )


def _resolved(draws: Draws) -> tuple[str, str, Counts]:
    hundredths = 50 + draws[11] % 9_000
    data = f'{{"minutes":{_number(hundredths, 2, draws)},"department":"{_DEPARTMENTS[draws[12] % 4]}"}}'
    return "request.resolved", data, (("resolution_minutes", hundredths, ""), ("fastest_resolution", hundredths, ""))


def _seats(draws: Draws) -> tuple[str, str, Counts]:
    seats = draws[11] % 300
    return "staff.seats", f'{{"seats":{seats}}}', (("staff_seats", seats, ""),)


def _api(draws: Draws) -> tuple[str, str, Counts]:
    size = 200 + draws[11]
    endpoint, status = _ENDPOINTS[draws[12] % 3], _STATUSES[draws[13] % 4]
    data = f'{{"endpoint":"{endpoint}","status":{status},"bytes":{size}}}'
    return "api.request", data, (("api_calls", 1, ""), ("api_bytes", size, ""))


_KINDS: tuple[Callable[[Draws], tuple[str, str, Counts]], ...] = (_call, _call, _request, _resolved, _seats, _api, _api)
"""(type, data as JSON, what it counts)."""
