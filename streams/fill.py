"""A meter that came later is filled in for the past: rows are resolved once more, by the writer's own function."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from metering.errors import InvalidEvent, Unavailable
from metering.rollup import HourWindow
from streams.frame import Frame, entry
from streams.ledger import UnfilledRow
from streams.reconcile import Stores
from streams.rows import EventRows, event_blocks, event_rows

_AT_ONCE = 5_000


class Filled(NamedTuple):
    """How many rows count to the meter now, how many don't (it does not want them, or has no use for their value), how
    many have lost their payload, and the windows that count differently."""

    filled: int
    unwanted: int
    without_payload: int
    windows: set[HourWindow]


async def fill(stores: Stores, meter: str, told: Callable[[int], None]) -> Filled:
    """Fill in `meter` for the tenants of a partition. Repeatable: a row that was filled is not met again.

    A row is replaced by one with its key and its version: of those the later one stands. Raises Unavailable.
    """
    version = stores.control.fills.get(meter)
    definition = stores.control.catalog(None, stores.control.now()).catalog.meters.get(meter)
    if version is None or definition is None:
        raise Unavailable(f"this worker does not know yet that {meter} is to be filled in")
    made: list[EventRows] = []
    filled = unwanted = without_payload = 0
    windows: set[HourWindow] = set()
    async for block in stores.ledger.unfilled(meter, definition.event, version):
        for row in block:
            if not row.event:
                without_payload += 1
                continue
            rows = await _resolved(stores, row, meter)
            if rows is None:
                unwanted += 1
                continue
            made += rows
            filled += 1
            windows.add(HourWindow(row.tenant, row.hour))
            if len(made) >= _AT_ONCE:
                await stores.ledger.insert_events(event_blocks(made))
                made.clear()
        told(filled + unwanted + without_payload)
    await stores.ledger.insert_events(event_blocks(made))
    return Filled(filled, unwanted, without_payload, windows)


async def _resolved(stores: Stores, row: UnfilledRow, meter: str) -> list[EventRows] | None:
    """The row as the writer would make it today; None if the meter gets nothing of it."""
    await stores.control.fetch(row.catalog_version)
    frame = Frame(row.offset, row.tenant, row.clock, row.received, 0, row.catalog_version)
    try:
        one = entry(row.line, row.event, frame, stores.control.catalog(row.catalog_version, row.clock))
    except InvalidEvent:  # its payload is not what was counted any more
        return None
    if meter not in one.resolved[0].quantities:
        return None
    return event_rows(frame, one, row.epoch, row.partition, voided=bool(row.voided))
