"""Quantities are resolved once, here, by the catalog version that validated the frame; SQL only aggregates them."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec

from metering import quantity
from metering.catalog import Catalog, Meter
from metering.errors import InvalidEvent
from metering.event import UsageEvent
from metering.period import PeriodKind
from metering.quantity import ONE, InvalidQuantity

MAX_DIMENSION_BYTES = 256
_Lookup = Callable[[UsageEvent], Any]


class Resolved(msgspec.Struct, gc=False):
    """What an event gives to the meters of its type. Nanos per meter; values of `unique` meters; dimensions by name."""

    quantities: dict[str, int]
    uniques: dict[str, str]
    dimensions: dict[str, str]


UNMETERED = Resolved({}, {}, {})


class CompiledMeter:
    """A meter with its paths turned into lookups."""

    __slots__ = ("filters", "group_by", "meter", "name", "periods", "value")

    def __init__(self, name: str, meter: Meter, periods: tuple[PeriodKind, ...]) -> None:
        self.name = name
        self.meter = meter
        self.periods = periods
        self.value = _lookup(meter.value) if meter.value else None
        self.group_by = tuple((dimension, _lookup(path)) for dimension, path in meter.group_by.items())
        self.filters = tuple((_lookup(path), frozenset(map(_text, wanted))) for path, wanted in meter.filter.items())


class CompiledCatalog:
    """One catalog version, ready to resolve events."""

    def __init__(self, version: int, catalog: Catalog) -> None:
        self.version = version
        self.catalog = catalog
        self.meters = {name: CompiledMeter(name, m, catalog.periods_of(name)) for name, m in catalog.meters.items()}
        self._by_type: dict[str, tuple[CompiledMeter, ...]] = {}
        for compiled in self.meters.values():
            event = compiled.meter.event
            self._by_type[event] = (*self._by_type.get(event, ()), compiled)

    def resolve(self, event: UsageEvent) -> Resolved:
        """Quantities of one event. Raises InvalidEvent when a meter wants it but it has no usable value."""
        meters = self._by_type.get(event.type)
        if meters is None:
            return UNMETERED
        quantities: dict[str, int] = {}
        uniques: dict[str, str] = {}
        dimensions: dict[str, str] = {}
        for compiled in meters:
            if compiled.filters and not all(_text(look(event)) in wanted for look, wanted in compiled.filters):
                continue
            name = compiled.name
            if compiled.value is None:
                quantities[name] = ONE
            else:
                value = compiled.value(event)
                if value is None:
                    raise InvalidEvent("missing-value", f"meter {name} needs {compiled.meter.value}")
                if compiled.meter.aggregation == "unique":
                    uniques[name] = _label(value, name, compiled.meter.value)
                    quantities[name] = ONE
                else:
                    try:
                        quantities[name] = quantity.parse(value, compiled.meter.scale, compiled.meter.signed)
                    except InvalidQuantity as error:
                        detail = f"meter {name}, {compiled.meter.value}: {error.detail}"
                        raise InvalidEvent(error.code, detail) from None
            for dimension, look in compiled.group_by:
                if dimension not in dimensions:
                    value = look(event)
                    dimensions[dimension] = "" if value is None else _label(value, name, dimension)
        return Resolved(quantities, uniques, dimensions)


def _lookup(path: str) -> _Lookup:
    if not path.startswith("$"):
        return lambda event: event.attribute(path)
    steps = path[2:].split(".")
    if len(steps) == 1:
        only = steps[0]

        def direct(event: UsageEvent) -> Any:
            data = event.data
            return data.get(only) if type(data) is dict else None

        return direct

    def walk(event: UsageEvent) -> Any:
        here = event.data
        for step in steps:
            if type(here) is not dict:
                return None
            here = here.get(step)
        return here

    return walk


def _text(value: Any) -> str | None:
    """A scalar as the text that filters and dimensions compare; None for what is absent or no scalar."""
    if type(value) is str:
        return value
    if type(value) is bool:
        return "true" if value else "false"
    if type(value) is int:
        return str(value)
    if type(value) is Decimal:
        if abs(value.adjusted()) > 64:  # 1e400 must not become 400 digits
            return None
        text = format(value, "f")
        return text.rstrip("0").rstrip(".") if "." in text else text
    return None


def _label(value: Any, meter: str, where: str | None) -> str:
    text = _text(value)
    if text is None:
        raise InvalidEvent("invalid-value", f"meter {meter}: {where} must be a string, number or boolean")
    if len(text) > 64 and len(text.encode("utf-8", "surrogatepass")) > MAX_DIMENSION_BYTES:
        raise InvalidEvent("invalid-value", f"meter {meter}: {where} may have {MAX_DIMENSION_BYTES} bytes")
    return text
