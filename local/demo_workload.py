"""A day at three hotels as CloudEvents, with what real emitters do: resends, late and unordered events, mistakes.

The same seed and the same `now_ms` give the same day. Quantities go out both as JSON numbers and as decimal strings.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal, NamedTuple

from local.demo_account import Account
from local.demo_mistakes import MISTAKES, encode

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
EVENTS_MIN = 500
"""Fewer messages are no day: each hotel is to have every kind of event."""

Fate = Literal["counted", "resent", "refused"]


class Hotel(NamedTuple):
    """A tenant of the demo: its plan, its share of all messages, and its character."""

    tenant: str
    plan: str
    share: float
    properties: tuple[str, ...]
    languages: tuple[str, ...]
    guests: int
    seats: int


HOTELS = (
    Hotel("pension-alpenblick", "starter", 0.2, ("garmisch",), ("de", "en", "it"), 40, 7),
    Hotel("hafenhotels-nord", "professional", 0.3, ("hamburg", "kiel"), ("de", "en", "da", "sv", "pl"), 400, 35),
    Hotel(
        "grand-metropole",
        "enterprise",
        0.5,
        ("paris", "dubai", "tokyo", "new-york"),
        ("en", "fr", "ar", "ja", "zh", "es", "pt", "ru", "hi", "ko", "de", "it"),
        3000,
        240,
    ),
)
BLOCKED_TENANT, BLOCKED_FEATURE = HOTELS[0].tenant, "voice"
"""Who runs into a hard limit: its plan grants 36,000 seconds of voice, its guests want about BLOCKED_SECONDS."""
BLOCKED_SECONDS = 45_000

SOURCES = {
    "call.completed": "voice-concierge",
    "request.created": "guest-app",
    "request.resolved": "guest-app",
    "staff.seats": "staff-portal",
    "api.request": "api-gateway",
}
"""Event type → the service that emits it."""

_MIX = {
    "call.completed": 0.3,
    "request.created": 0.2,
    "request.resolved": 0.12,
    "staff.seats": 0.02,
    "api.request": 0.36,
}
_RESENT, _LATE, _BAD = 0.05, 0.03, 0.015
_BUSY = (1, 1, 1, 1, 1, 2, 4, 7, 9, 8, 7, 6, 6, 6, 6, 8, 9, 9, 10, 10, 8, 6, 4, 2)
"""How busy each hour (UTC) of the day is, up to 10."""
_DEPARTMENTS = ("housekeeping", "concierge", "maintenance", "restaurant", "spa")
_PRIORITIES = ("low", "normal", "normal", "normal", "high", "urgent")
_ENDPOINTS = ("/v2/reservations", "/v2/guests", "/v2/folios", "/v2/rooms")
_STATUSES = (200, 200, 200, 200, 201, 304, 404, 429)


class Message(NamedTuple):
    """One line of NDJSON, the event's name within its tenant and its type, and what ought to become of it."""

    line: bytes
    name: str
    type: str
    fate: Fate


class Day:
    """Messages by (tenant, emitting service) in sending order, and the account of what they must add up to."""

    def __init__(self, seed: int, messages: int, now_ms: int, plant_loss: bool = False) -> None:
        """About `messages` (≥ EVENTS_MIN) in all. `plant_loss`: one event is in the account but is never sent."""
        self.account = Account()
        self.emitters: dict[tuple[str, str], list[Message]] = {}
        self.longest_call: dict[str, Decimal] = {}
        self._random = random.Random(seed)  # noqa: S311 (a reproducible day, nothing secret)
        self.now_ms = now_ms
        self._seat_reports: set[int] = set()
        for hotel in HOTELS:
            self._add_hotel(hotel, round(messages * hotel.share))
        if plant_loss:
            self._lose_one()

    @property
    def messages(self) -> int:
        """How many messages there are to send."""
        return sum(map(len, self.emitters.values()))

    def _add_hotel(self, hotel: Hotel, count: int) -> None:
        bad, resent = round(count * _BAD), round(count * _RESENT)
        kinds = [kind for kind, share in _MIX.items() for _ in range(round((count - bad - resent) * share))]
        self._random.shuffle(kinds)
        timed: dict[str, list[tuple[float, Message]]] = {service: [] for service in SOURCES.values()}
        for number, kind in enumerate(kinds):
            name = f"{kind}-{number}"
            time, data, subject = self._event(hotel, name, kind, kinds)
            event = self._cloud_event(hotel, kind, name, time, subject, data)
            timed[SOURCES[kind]].append((self._sent_at(time), Message(encode(event), name, kind, "counted")))
        self.account.distinct[hotel.tenant] += len(kinds)
        originals = [(at, message) for sent in timed.values() for at, message in sent]
        for at, message in self._random.choices(originals, k=resent):
            again = at + self._random.expovariate(1 / HOUR_MS)
            timed[SOURCES[message.type]].append((again, message._replace(fate="resent")))
        self.account.resent[hotel.tenant] += resent
        for number in range(bad):
            name, kind = f"bad-{number}", "call.completed"
            line = MISTAKES[number % len(MISTAKES)](
                self._cloud_event(hotel, kind, name, self._moment(), "guest-0", _SAMPLE_CALL)
            )
            timed[SOURCES[kind]].append((self._moment(), Message(line, name, kind, "refused")))
        self.account.refused[hotel.tenant] += bad
        for service, sent in timed.items():
            sent.sort(key=lambda pair: pair[0])
            self.emitters[hotel.tenant, service] = [message for _, message in sent]

    def _moment(self) -> int:
        """A millisecond of the past 24 h, more likely in busy hours; a few are one or two days older."""
        while True:
            time = self.now_ms - 1 - int(self._random.random() * DAY_MS)
            if self._random.random() * 10 < _BUSY[time // HOUR_MS % 24]:
                break
        return time - self._random.choice((1, 2)) * DAY_MS if self._random.random() < _LATE / 5 else time

    def _sent_at(self, time: int) -> float:
        """Emitters send a little out of order, and some events hours late."""
        late = self._random.uniform(2, 12) * HOUR_MS if self._random.random() < _LATE else 0.0
        return time + self._random.expovariate(1 / 30_000) + late

    def _event(self, hotel: Hotel, name: str, kind: str, kinds: list[str]) -> tuple[int, dict[str, Any], str]:
        """(time, data, subject) of a new event, already written down in the account."""
        pick, time = self._random, self._moment()
        guest, house = f"guest-{pick.randrange(hotel.guests)}", pick.choice(hotel.properties)

        def count(meter: str, value: Decimal | int = 1, thing: str = "") -> None:
            self.account.add(hotel.tenant, meter, name, time, value, thing)

        if kind == "call.completed":
            seconds, language = self._call_seconds(hotel, kinds), pick.choice(hotel.languages)
            concurrent = pick.randrange(1, 3 + len(hotel.properties) * 4)
            count("voice_seconds", seconds)
            count("voice_calls")
            count("voice_languages", thing=language)
            count("locations", thing=house)
            count("concurrent_calls", concurrent)
            data = {"duration_seconds": self._written(seconds), "language": language, "concurrent": concurrent}
            return time, {**data, "property": house}, guest
        if kind == "request.created":
            priority = pick.choice(_PRIORITIES)
            count("guest_requests")
            count("requesting_guests", thing=guest)
            if priority in ("high", "urgent"):
                count("priority_requests")
            return time, {"priority": priority, "department": pick.choice(_DEPARTMENTS), "property": house}, guest
        if kind == "request.resolved":
            minutes = Decimal(pick.randrange(100, 9_000)).scaleb(-2)
            count("resolution_minutes", minutes)
            count("fastest_resolution", minutes)
            return time, {"minutes": self._written(minutes), "department": pick.choice(_DEPARTMENTS)}, guest
        if kind == "staff.seats":
            time = self._unshared(time)
            seats = hotel.seats + pick.randrange(-2, 3)
            count("staff_seats", seats)
            return time, {"seats": seats}, house
        size = pick.randrange(200, 60_000)
        count("api_calls")
        count("api_bytes", size)
        return time, {"endpoint": pick.choice(_ENDPOINTS), "status": pick.choice(_STATUSES), "bytes": size}, house

    def _call_seconds(self, hotel: Hotel, kinds: list[str]) -> Decimal:
        """Two minutes or so; at the small hotel as long as it takes to use up the plan."""
        mean = BLOCKED_SECONDS / kinds.count("call.completed") if hotel.tenant == BLOCKED_TENANT else 110.0
        seconds = Decimal(int(mean * 1000 * self._random.uniform(0.6, 1.4))).scaleb(-3)
        self.longest_call[hotel.tenant] = max(seconds, self.longest_call.get(hotel.tenant, seconds))
        return seconds

    def _written(self, number: Decimal) -> float | str:
        """As a JSON number or a decimal string: senders do both. So few digits come out of a float as they went in."""
        return float(number) if self._random.random() < 0.7 else str(number)

    def _unshared(self, time: int) -> int:
        """Of two reports of one millisecond neither is the last: give each its own."""
        while time in self._seat_reports:
            time -= 1
        self._seat_reports.add(time)
        return time

    def _cloud_event(
        self, hotel: Hotel, kind: str, name: str, time: int, subject: str, data: dict[str, Any]
    ) -> dict[str, Any]:
        at = datetime.fromtimestamp(time // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        return {
            "specversion": "1.0",
            "id": name,
            "source": f"/{hotel.tenant}/{SOURCES[kind]}",
            "type": kind,
            "subject": subject,
            "time": f"{at}.{time % 1000:03d}Z",
            "data": data,
        }

    def _lose_one(self) -> None:
        """Take away an event that is sent only once."""
        messages = self.emitters[HOTELS[1].tenant, "voice-concierge"]
        resent = {message.line for message in messages if message.fate == "resent"}
        messages.remove(self._random.choice([m for m in messages if m.fate == "counted" and m.line not in resent]))


_SAMPLE_CALL = {"duration_seconds": 60, "language": "de", "concurrent": 1, "property": "garmisch"}
