"""Everything that is known of one identity: where it was counted, what for, and what became of it since."""

from __future__ import annotations

from typing import Any, NamedTuple

from metering.position import Position
from usage.ask import ask, query
from usage.letters import LetterId

_EVENTS = query("trace_events")
_VOIDS = query("trace_voids")
_LETTERS = query("trace_letters")


class TracedEvent(NamedTuple):
    """A row of the ledger. Instants in ms UTC, quantities as exact decimals by meter.

    `voided`: marked on arrival; `taken_back`: the position of the void that took it back later. `revision` of its
    hour's rollup, 0 if there is none; it has the row in it from `counted_at` on.
    """

    source: str
    type: str
    time: int
    subject: str
    received: int
    clock: int
    catalog_version: int
    quantities: dict[str, str]
    uniques: dict[str, str]
    dimensions: dict[str, str]
    voided: bool
    position: Position
    taken_back: Position | None
    revision: int
    counted_at: int


class TracedVoid(NamedTuple):
    """A void that names the identity; what it names stands in `dimensions` (metering/void.py)."""

    source: str
    id: str
    dimensions: dict[str, str]
    position: Position


class TracedLetter(NamedTuple):
    """A dead letter of the identity."""

    id: LetterId
    detail: str
    received: int


class Trace(NamedTuple):
    """What was found, each list the earliest first."""

    events: list[TracedEvent]
    voids: list[TracedVoid]
    letters: list[TracedLetter]

    def __bool__(self) -> bool:
        return bool(self.events or self.voids or self.letters)


class Tracer:
    """Looks through the ledger. A lookup by id reads the rows of its tenant."""

    def __init__(self, client: Any) -> None:
        self._client = client

    async def trace(self, tenant: str, id: str, source: str | None) -> Trace:
        """All events of the tenant with this id (and source). Raises Unavailable."""
        asked = {"tenant": tenant, "id": id, "source": source or ""}
        events = [_event(row) for row in await ask(self._client, _EVENTS, **asked)]
        voids = [
            TracedVoid(source, id, dimensions, Position(*at))
            for source, id, dimensions, *at in await ask(self._client, _VOIDS, **asked)
        ]
        letters = [TracedLetter(LetterId(*row[:5]), *row[5:]) for row in await ask(self._client, _LETTERS, **asked)]
        return Trace(events, voids, letters)


def _event(row: tuple[Any, ...]) -> TracedEvent:
    source, type, time, subject, received, clock, catalog_version, quantities, uniques, dimensions, voided = row[:11]
    was_taken, *by = row[15:20]
    revision, counted_at = row[20:]
    return TracedEvent(
        *(source, type, time, subject, received, clock, catalog_version, quantities, uniques, dimensions),
        bool(voided),
        Position(*row[11:15]),
        Position(*by) if was_taken else None,
        revision,
        counted_at,
    )
