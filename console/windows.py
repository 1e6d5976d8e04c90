"""Usage by hour, day or month of a time zone: how a question becomes windows, and rows become pages."""

from __future__ import annotations

import base64
from datetime import tzinfo
from itertools import islice
from typing import Any

import msgspec
from aiohttp import web

from console.deps import EPOCHS, WINDOWS, instant
from metering.catalog import Catalog
from metering.clock import SystemClock, from_ms, iso
from metering.partition import partition_of
from metering.period import zone_of
from metering.rollup import WINDOW_KINDS, WindowKind, windows
from service.problems import Problem
from usage.reader import LAST_MS, Selection
from usage.windows import Freshness, Page, WindowRow

_LIMIT, _MOST = 100, 1000
_QUERIES = 20
"""For one page. Where groups are rare, a thousand windows may hold none."""


class Cursor(msgspec.Struct, frozen=True, array_like=True):
    """Where the next page begins: see usage.windows.Page."""

    meter: str
    start: int
    value: str | None

    def text(self) -> str:
        """As clients carry it."""
        return base64.urlsafe_b64encode(msgspec.json.encode(self)).decode()


class Question(msgspec.Struct, frozen=True):
    """What is asked about each meter; `start` and `end` in ms UTC."""

    kind: WindowKind
    zone: tzinfo
    start: int
    end: int
    group_by: str | None
    selection: Selection
    limit: int
    cursor: Cursor | None


def question_of(request: web.Request, meters: list[str], group_by: str | None, selection: Selection) -> Question:
    """Raises Problem 422 for what can't be understood."""
    query = request.query
    if query["window"] not in WINDOW_KINDS:
        raise Problem(422, "invalid-window", f"window is one of: {', '.join(WINDOW_KINDS)}")
    kind: WindowKind = query["window"]
    try:
        zone = zone_of(query.get("tz", "UTC"))
    except ValueError as error:
        advice = "an IANA name like Europe/Berlin, or an offset like +05:30 (in a URL + is written %2B)"
        raise Problem(422, "invalid-time-zone", f"tz: {error}; it is {advice}") from None
    start, end = instant("from", query.get("from")), instant("to", query.get("to"))
    if start is None:
        raise Problem(422, "invalid-query", "windows begin somewhere: say from")
    if end is None:
        now = SystemClock().now_ms()
        end = next(windows(kind, zone, now, LAST_MS)).end
    start, end = max(start, 0), min(end, LAST_MS)
    if start >= end:
        raise Problem(422, "invalid-query", "from must be before to")
    limit = query.get("limit", str(_LIMIT))
    if not limit.isdecimal() or not 1 <= int(limit) <= _MOST:
        raise Problem(422, "invalid-limit", f"limit is a number of rows from 1 to {_MOST}")
    cursor = Cursor(meters[0], start, None) if meters else None
    if "cursor" in query:
        try:
            cursor = msgspec.json.decode(base64.urlsafe_b64decode(query["cursor"]), type=Cursor)
        except (ValueError, msgspec.DecodeError):
            raise Problem(422, "invalid-cursor", "cursor is the `next` of the page before") from None
        if cursor.meter not in meters or not start <= cursor.start < end:
            raise Problem(422, "invalid-cursor", "this cursor belongs to another question")
    return Question(kind, zone, start, end, group_by, selection, int(limit), cursor)


async def page_of(
    request: web.Request, tenant: str, catalog: Catalog, meters: list[str], asked: Question
) -> dict[str, Any]:
    """`{"rows": […], "next": cursor or null}`; a page of groups may be short, and yet have a next one.

    Raises Unavailable.
    """
    epochs = await request.app[EPOCHS].all()
    places = [(epoch.epoch, partition_of(tenant, epoch.partitions)) for epoch in epochs]
    fresh = await request.app[WINDOWS].freshness(tenant, places)
    rows: list[dict[str, Any]] = []
    cursor = asked.cursor
    for _ in range(_QUERIES):
        if cursor is None or len(rows) == asked.limit:
            break
        name, meter = cursor.meter, catalog.meters[cursor.meter]
        group_by = asked.group_by if asked.group_by in meter.group_by else None
        room = asked.limit - len(rows)
        local = windows(asked.kind, asked.zone, cursor.start, asked.end)
        periods = list(islice(local, room if group_by is None else _MOST))
        page = Page(cursor.start, cursor.value, room + 1)
        reader = request.app[WINDOWS]
        found = await reader.rows(tenant, name, meter, periods, fresh, page, group_by, asked.selection)
        rows += [_view(name, row, group_by, asked.zone, fresh) for row in found[:room]]
        if len(found) > room:
            cursor = Cursor(name, found[room - 1].period.start, found[room - 1].value)
        elif periods[-1].end < asked.end:
            cursor = Cursor(name, periods[-1].end, None)
        else:
            following = meters[meters.index(name) + 1 :]
            cursor = Cursor(following[0], asked.start, None) if following else None
    return {"rows": rows, "next": cursor and cursor.text()}


def _view(name: str, row: WindowRow, group_by: str | None, zone: tzinfo, fresh: Freshness) -> dict[str, Any]:
    place = fresh.place
    return {
        "meter": name,
        "from": _local(row.period.start, zone),
        "to": _local(row.period.end, zone),
        **({} if group_by is None else {"group": row.value}),
        "total": row.total,
        "sealed": fresh.is_sealed(row.period),
        "clock": place and iso(place.clock),
        "position": place and {"epoch": place.epoch, "partition": place.partition, "offset": place.offset},
    }


def _local(at: int, zone: tzinfo) -> str:
    return from_ms(at).astimezone(zone).isoformat(timespec="milliseconds").replace("+00:00", "Z")
