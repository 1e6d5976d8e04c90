"""Reservations: what may be held, and how holds stand in Redis. Pure; Lua only compares and adds below 2^53.

Quantities of holds are integers in units of the meter's scale (12.5 at scale 3 is 12500). A hold is a text:

    held AMOUNT TTL EXPIRES         granted, its usage not yet known
    committed AMOUNT TTL EXPIRES    the usage happened; its event is on its way

TTL in ms, EXPIRES in ms of Redis' own clock. One that an event in the counters names is gone, and remembered as counted
(metering/keys.py) for COUNTED_MS. A change is told as `NUMBER TENANT FEATURE:ID TEXT`, the text empty for
one that is gone; numbers rise by one within a partition.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from metering import keys, quantity
from metering.clock import HOUR_MS, MINUTE_MS
from metering.decision import Standing
from metering.entitlement import CompiledEntitlement
from metering.errors import Refused

ATTRIBUTE = "reservationid"
"""The extension attribute in which a usage event names its reservation."""
MOST_UNITS = (1 << 53) - 1
"""Integers up to it are exact in Lua, whose numbers are doubles."""
LONGEST_MS = 15 * MINUTE_MS
"""No hold is longer, and none is kept longer after its commit."""
COUNTED_MS = HOUR_MS
"""How long it is remembered that a hold was counted: longer than any could last."""
_ID = re.compile(r"[A-Za-z0-9_:-]{1,128}")


class HoldName(NamedTuple):
    """A hold of one feature of one tenant; `id` is the caller's own or was drawn."""

    tenant: str
    feature: str
    id: str

    @property
    def text(self) -> str:
        """`tenant.feature.id`, by which callers and events name it."""
        return ".".join(self)

    @property
    def field(self) -> str:
        """Its field in keys.holds."""
        return f"{self.feature}:{self.id}"


def name_of(text: str) -> HoldName | None:
    """What `HoldName.text` made; None: no hold has such a name."""
    tenant, _, rest = text.partition(".")
    feature, _, id = rest.partition(".")
    return HoldName(tenant, feature, id) if tenant and feature and _ID.fullmatch(id) else None


def name_for(tenant: str, feature: str, given: str) -> HoldName:
    """The name of a hold whose id the caller gave, bare or whole. Raises Refused (`invalid-id`)."""
    bare = given.removeprefix(f"{tenant}.{feature}.")
    if not _ID.fullmatch(bare):
        raise Refused("invalid-id", "an id has 1 to 128 letters, digits, `_`, `-` or `:`")
    return HoldName(tenant, feature, bare)


def field_named(tenant: str, feature: str, text: str) -> str | None:
    """The field of the hold of `feature` that an event of `tenant` names, bare or whole; None: it names another's."""
    if _ID.fullmatch(text):
        return f"{feature}:{text}"
    name = name_of(text)
    return name.field if name is not None and name[:2] == (tenant, feature) else None


def units_of(nanos: int, scale: int) -> int:
    """Nanos → units of a scale, rounded down."""
    return nanos // _unit(scale)


def nanos_of(units: int, scale: int) -> int:
    """Units of a scale → nanos."""
    return units * _unit(scale)


def _unit(scale: int) -> int:
    return int(10 ** (quantity.SCALE - scale))


def bound(right: CompiledEntitlement, at: Standing, binding: bool) -> tuple[str, str]:
    """What Lua compares at one limit: the field of its counter, and the most that may be used and held together, in
    units; empty where nothing binds."""
    field = keys.counter_field(right.meter or "", at.limit.period, at.period.start)
    if not binding or at.allowance is None or at.limit.on_exceed != "block":
        return field, ""
    return field, str(min(units_of(at.allowance, right.scale), MOST_UNITS))


class Hold(NamedTuple):
    """Something held: `units` until `expires` (ms UTC)."""

    units: int
    expires: int


def hold_of(text: str) -> Hold | None:
    """A hold's text → what it holds; None: it is gone."""
    if not text:
        return None
    _, units, _, expires = text.split(" ")
    return Hold(int(units), int(expires))


def holds_of(texts: Mapping[str, str]) -> dict[str, Hold]:
    """The whole hash → what is held, by field."""
    return {field: hold for field, text in texts.items() if (hold := hold_of(text)) is not None}
