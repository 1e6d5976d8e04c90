"""Quantities are resolved once, here, by the catalog version that validated the frame; SQL only aggregates them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import chain, compress
from operator import itemgetter
from types import MappingProxyType
from typing import Any, TypeVar

import msgspec

from metering import quantity
from metering.catalog import Catalog, Meter
from metering.errors import InvalidEvent
from metering.event import Events, UsageEvent
from metering.label import text_of
from metering.quantity import LIMIT, ONE, InvalidQuantity

MAX_DIMENSION_BYTES = 256
T = TypeVar("T")
K = TypeVar("K", bound=Hashable)
_Lookup = Callable[[UsageEvent], Any]


class Resolved(msgspec.Struct, gc=False):
    """What an event gives to the meters of its type. Nanos per meter; values of `unique` meters; dimensions by name."""

    quantities: dict[str, int]
    uniques: dict[str, str]
    dimensions: dict[str, str]


class Columns(msgspec.Struct, gc=False):
    """What events of one type give to the same meters: `Resolved` side by side, one list per meter and dimension.

    `at` are the indexes of the events, rising; `reservations` what they name (metering/reservation.py), of all or none.
    """

    at: Sequence[int]
    quantities: dict[str, list[int]]
    uniques: dict[str, list[str]]
    dimensions: dict[str, list[str]]
    reservations: Sequence[str] = ()

    @classmethod
    def of_one(cls, at: int, resolved: Resolved, reservation: str | None = None) -> Columns:
        """Of a single event."""
        return cls(
            [at],
            {name: [value] for name, value in resolved.quantities.items()},
            {name: [value] for name, value in resolved.uniques.items()},
            {name: [value] for name, value in resolved.dimensions.items()},
            () if reservation is None else [reservation],
        )

    def names(self) -> tuple[str, ...]:
        """What columns there are, an empty name between the kinds."""
        reserved = ("", "") if self.reservations else ()
        return (*self.quantities, "", *self.uniques, "", *self.dimensions, *reserved)

    def moved(self, by: int) -> Columns:
        """The same of events whose indexes are greater."""
        at = [at + by for at in self.at]
        return Columns(at, self.quantities, self.uniques, self.dimensions, self.reservations)

    @classmethod
    def joined(cls, pieces: Sequence[Columns]) -> Columns:
        """All of `pieces`, which have the same names, one after the other."""
        if len(pieces) == 1:
            return pieces[0]

        def join(parts: Sequence[dict[str, list[T]]]) -> dict[str, list[T]]:
            return {name: list(chain.from_iterable([part[name] for part in parts])) for name in parts[0]}

        return cls(
            list(chain.from_iterable([piece.at for piece in pieces])),
            join([piece.quantities for piece in pieces]),
            join([piece.uniques for piece in pieces]),
            join([piece.dimensions for piece in pieces]),
            list(chain.from_iterable([piece.reservations for piece in pieces])),
        )

    def take(self, new: Mapping[int, int]) -> Columns:
        """Only the events whose index is in `new`, under the index that it says."""
        kept = [number for number, at in enumerate(self.at) if at in new]

        def pick(columns: dict[str, list[T]]) -> dict[str, list[T]]:
            return {name: [values[number] for number in kept] for name, values in columns.items()}

        at = [new[self.at[number]] for number in kept]
        reservations = [self.reservations[number] for number in kept] if self.reservations else ()
        return Columns(at, pick(self.quantities), pick(self.uniques), pick(self.dimensions), reservations)


UNMETERED = Resolved({}, {}, {})


class CompiledMeter:
    """A meter with its paths turned into lookups."""

    __slots__ = ("filters", "meter", "name", "path", "unique", "value")

    def __init__(self, name: str, meter: Meter) -> None:
        self.name = name
        self.meter = meter
        self.unique = meter.aggregation == "unique"
        self.path = meter.value
        self.value = _lookup(meter.value) if meter.value else None
        self.filters = tuple((path, _lookup(path), frozenset(wanted)) for path, wanted in meter.filter.items())


class _EventType:
    """All that the meters of one event type want."""

    __slots__ = ("dimensions", "filtered", "meters")

    def __init__(self, meters: dict[str, Meter]) -> None:
        self.meters = tuple(CompiledMeter(name, meter) for name, meter in meters.items())
        self.filtered = any(compiled.filters for compiled in self.meters)
        paths = {name: path for meter in meters.values() for name, path in meter.group_by.items()}
        self.dimensions = tuple((name, path, _lookup(path)) for name, path in paths.items())

    def passing(self, events: Events, at: Sequence[int]) -> Iterable[tuple[tuple[CompiledMeter, ...], Sequence[int]]]:
        """The events by which of the meters want them."""
        if not self.filtered:
            return [(self.meters, at)]
        masks: list[list[bool]] = []
        for compiled in self.meters:
            mask = [True] * len(at)
            for path, _, wanted in compiled.filters:
                values = _values(events, path, at)
                mask = [passes and text_of(value) in wanted for passes, value in zip(mask, values, strict=True)]
            masks.append(mask)
        split = _grouped(list(zip(*masks, strict=True)))
        return [(tuple(compress(self.meters, mask)), [at[index] for index in inside]) for mask, inside in split]

    def columns(self, events: Events, meters: tuple[CompiledMeter, ...], at: Sequence[int]) -> Columns:
        """What the events at `at` give to `meters`. Raises InvalidEvent, without saying for which."""
        ones = [ONE] * len(at)
        found = Columns(at, {}, {}, {})
        for compiled in meters:
            if compiled.path is None:
                found.quantities[compiled.name] = ones
                continue
            values = _values(events, compiled.path, at)
            kinds = set(map(type, values))
            if compiled.unique:
                found.quantities[compiled.name] = ones
                if kinds != _TEXT or len(max(values, key=len)) > _SURELY_SHORT:
                    values = [_distinct(value, compiled) for value in values]
                found.uniques[compiled.name] = values
            elif kinds == _INTEGER and min(values) >= 0 and max(values) < LIMIT:
                found.quantities[compiled.name] = [value * ONE for value in values]
            else:
                found.quantities[compiled.name] = [_quantity(value, compiled) for value in values]
        if meters:
            for name, path, _ in self.dimensions:
                values = _values(events, path, at)
                if set(map(type, values)) != _TEXT or len(max(values, key=len)) > _SURELY_SHORT:
                    values = [_dimension(value, name) for value in values]
                found.dimensions[name] = values
        return found


_TEXT, _INTEGER = {str}, {int}
_SURELY_SHORT = 64
"""Characters that never have more than MAX_DIMENSION_BYTES bytes."""


class CompiledCatalog:
    """One catalog version, ready to resolve events.

    `filled`: meters of later versions that the past is to be filled in with. They count what this version let pass: an
    event that one of them can't use counts to the others.
    """

    def __init__(self, version: int, catalog: Catalog, filled: Mapping[str, Meter] = MappingProxyType({})) -> None:
        self.version = version
        self.catalog = catalog
        by_type: dict[str, dict[str, Meter]] = {}
        for name, meter in catalog.meters.items():
            by_type.setdefault(meter.event, {})[name] = meter
        self._types = {type: _EventType(meters) for type, meters in by_type.items()}
        self._filled: dict[str, list[_EventType]] = {}
        for name, meter in filled.items():
            if name not in catalog.meters:
                self._filled.setdefault(meter.event, []).append(_EventType({name: meter}))

    def resolve_usual(self, events: Events) -> list[Columns] | None:
        """What `resolve` says of each of many usual events, or None where it refuses one."""
        resolved: list[Columns] = []
        try:
            for type, at in _grouped(events.types):
                wanted = self._types.get(type)
                if type in self._filled:
                    return None
                if wanted is None:
                    resolved.append(Columns(at, {}, {}, {}))
                    continue
                for passing, inside in wanted.passing(events, at):
                    resolved.append(wanted.columns(events, passing, inside))
        except InvalidEvent:
            return None
        return resolved

    def resolve(self, event: UsageEvent) -> Resolved:
        """Quantities of one event. Raises InvalidEvent when a meter wants it but it has no usable value."""
        wanted = self._types.get(event.type)
        found = UNMETERED if wanted is None else _resolved(wanted, event)
        for late in self._filled.get(event.type, ()):
            with suppress(InvalidEvent):
                more = _resolved(late, event)
                found = Resolved(
                    found.quantities | more.quantities,
                    found.uniques | more.uniques,
                    more.dimensions | found.dimensions,
                )
        return found


def _resolved(wanted: _EventType, event: UsageEvent) -> Resolved:
    quantities: dict[str, int] = {}
    uniques: dict[str, str] = {}
    for compiled in wanted.meters:
        if not _passes(compiled, event):
            continue
        if compiled.value is None:
            quantities[compiled.name] = ONE
        elif compiled.unique:
            uniques[compiled.name] = _distinct(compiled.value(event), compiled)
            quantities[compiled.name] = ONE
        else:
            quantities[compiled.name] = _quantity(compiled.value(event), compiled)
    dimensions = {name: _dimension(look(event), name) for name, _, look in wanted.dimensions} if quantities else {}
    return Resolved(quantities, uniques, dimensions)


def _grouped(keys: Sequence[K]) -> Iterable[tuple[K, Sequence[int]]]:
    """Each distinct key with the indexes where it stands."""
    distinct = set(keys)
    if len(distinct) == 1:
        return [(keys[0], range(len(keys)))]
    found: dict[K, list[int]] = {}
    for index, key in enumerate(keys):
        found.setdefault(key, []).append(index)
    return found.items()


def _passes(compiled: CompiledMeter, event: UsageEvent) -> bool:
    return all(text_of(look(event)) in wanted for _, look, wanted in compiled.filters)


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


def _dimension(value: Any, name: str) -> str:
    return "" if value is None else _label(value, name)


_ATTRIBUTES = {"id": "ids", "source": "sources", "type": "types", "subject": "subjects", "tenant": "tenants"}


def _values(events: Events, path: str, at: Sequence[int]) -> list[Any]:
    """What stands at `path` in the events at `at`, None where nothing does (see `_lookup`)."""
    whole = len(at) == len(events.ids)
    if not path.startswith("$"):
        if path not in _ATTRIBUTES:
            return [None] * len(at)
        column = getattr(events, _ATTRIBUTES[path])
        return column if whole else [column[index] for index in at]
    values = events.datas if whole else [events.datas[index] for index in at]
    for step in path[2:].split("."):
        try:
            values = list(map(itemgetter(step), values))
        except (KeyError, TypeError):  # not every event has it
            values = [value.get(step) if type(value) is dict else None for value in values]
    return values


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
