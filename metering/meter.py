"""Quantities are resolved once, here, by the catalog version that validated the frame; SQL only aggregates them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from metering import quantity
from metering.catalog import Catalog, Meter
from metering.errors import InvalidEvent
from metering.event import UsageEvent
from metering.label import text_of
from metering.quantity import LIMIT, ONE, InvalidQuantity

MAX_DIMENSION_BYTES = 256
_Lookup = Callable[[UsageEvent], Any]


class Resolved(msgspec.Struct, gc=False):
    """What an event gives to the meters of its type. Nanos per meter; values of `unique` meters; dimensions by name."""

    quantities: dict[str, int]
    uniques: dict[str, str]
    dimensions: dict[str, str]


UNMETERED = Resolved({}, {}, {})
_NOTHING: dict[str, str] = {}
"""Shared by events that have none; nobody adds to it."""


class CompiledMeter:
    """A meter with its paths turned into lookups. `member`: its value's name where that is a member of data itself."""

    __slots__ = ("filters", "member", "meter", "name", "unique", "value")

    def __init__(self, name: str, meter: Meter) -> None:
        self.name = name
        self.meter = meter
        self.unique = meter.aggregation == "unique"
        self.member = _member(meter.value)
        self.value = _lookup(meter.value) if meter.value else None
        self.filters = tuple((_lookup(path), frozenset(wanted)) for path, wanted in meter.filter.items())


class _EventType:
    """All that the meters of one event type want."""

    __slots__ = ("dimensions", "meters", "unique")

    def __init__(self, meters: dict[str, Meter]) -> None:
        self.meters = tuple(CompiledMeter(name, meter) for name, meter in meters.items())
        self.unique = any(compiled.unique for compiled in self.meters)
        paths = {name: path for meter in meters.values() for name, path in meter.group_by.items()}
        self.dimensions = tuple((name, _member(path), _lookup(path)) for name, path in paths.items())


class CompiledCatalog:
    """One catalog version, ready to resolve events."""

    def __init__(self, version: int, catalog: Catalog) -> None:
        self.version = version
        self.catalog = catalog
        by_type: dict[str, dict[str, Meter]] = {}
        for name, meter in catalog.meters.items():
            by_type.setdefault(meter.event, {})[name] = meter
        self._types = {type: _EventType(meters) for type, meters in by_type.items()}

    def resolve(self, event: UsageEvent) -> Resolved:
        """Quantities of one event. Raises InvalidEvent when a meter wants it but it has no usable value.

        Small values of the usual kinds are looked up and converted in place: this runs twice for every event.
        """
        wanted = self._types.get(event.type)
        if wanted is None:
            return UNMETERED
        data: dict[str, Any] = event.data if type(event.data) is dict else {}
        quantities: dict[str, int] = {}
        uniques: dict[str, str] = {} if wanted.unique else _NOTHING
        dimensions: dict[str, str] = {} if wanted.dimensions else _NOTHING
        for compiled in wanted.meters:
            if compiled.filters and not _passes(compiled, event):
                continue
            name = compiled.name
            if compiled.value is None:
                quantities[name] = ONE
                continue
            value = data.get(compiled.member) if compiled.member is not None else compiled.value(event)
            if compiled.unique:
                uniques[name] = value if type(value) is str and len(value) <= 64 else _distinct(value, compiled)
                quantities[name] = ONE
            elif type(value) is int and 0 <= value < LIMIT:
                quantities[name] = value * ONE
            else:
                quantities[name] = _quantity(value, compiled)
        if quantities:
            for name, member, look in wanted.dimensions:
                value = data.get(member) if member is not None else look(event)
                if type(value) is str and len(value) <= 64:
                    dimensions[name] = value
                else:
                    dimensions[name] = "" if value is None else _label(value, name)
        return Resolved(quantities, uniques, dimensions)


def _passes(compiled: CompiledMeter, event: UsageEvent) -> bool:
    return all(text_of(look(event)) in wanted for look, wanted in compiled.filters)


def _required(value: Any, compiled: CompiledMeter) -> None:
    if value is None:
        raise InvalidEvent("missing-value", f"meter {compiled.name} needs {compiled.meter.value}")


def _quantity(value: Any, compiled: CompiledMeter) -> int:
    _required(value, compiled)
    try:
        return quantity.parse(value, compiled.meter.scale, compiled.meter.signed)
    except InvalidQuantity as error:
        detail = f"meter {compiled.name}, {compiled.meter.value}: {error.detail}"
        raise InvalidEvent(error.code, detail) from None


def _distinct(value: Any, compiled: CompiledMeter) -> str:
    _required(value, compiled)
    return _label(value, f"meter {compiled.name}: {compiled.meter.value}")


def _member(path: str | None) -> str | None:
    """`$.name` → `name`."""
    return path[2:] if path is not None and path.startswith("$.") and "." not in path[2:] else None


def _lookup(path: str) -> _Lookup:
    if not path.startswith("$"):
        return lambda event: event.attribute(path)
    steps = path[2:].split(".")

    def walk(event: UsageEvent) -> Any:
        here = event.data
        for step in steps:
            if type(here) is not dict:
                return None
            here = here.get(step)
        return here

    return walk


def _label(value: Any, where: str) -> str:
    text = text_of(value)
    if text is None:
        raise InvalidEvent("invalid-value", f"{where} must be a string, number or boolean")
    if len(text) > 64 and len(text.encode("utf-8", "surrogatepass")) > MAX_DIMENSION_BYTES:
        raise InvalidEvent("invalid-value", f"{where} may have {MAX_DIMENSION_BYTES} bytes")
    return text
