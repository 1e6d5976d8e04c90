"""The catalog: meters, features and plans. Validated whole, every mistake at once with its path; versions never change.

Forms and rules: contracts.md, "Catalog".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Literal

import msgspec
import yaml

from metering import aggregation, period, quantity
from metering.aggregation import AggregationName
from metering.clock import SECOND_MS
from metering.errors import CatalogProblem, InvalidCatalog, Refused
from metering.label import text_of
from metering.period import PeriodKind
from metering.rate import PERIODS, Rate

METER_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
FEATURE_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
TENANT_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_PATH = re.compile(r"\$(?:\.[A-Za-z_][A-Za-z0-9_-]*)+|[a-z0-9]+")

OnExceed = Literal["block", "allow", "warn"]
OnUnknown = Literal["closed", "open"]
_VALUELESS = ("count",)
_RESERVABLE = ("sum", "count")
_HOLDABLE = 1 << 53
"""Redis adds holds up as doubles: exact below this, in units of the meter's scale."""
_STALENESS_SECONDS = 86_400
_FASTEST = 10**9
Groups = tuple[tuple[str, tuple[str, ...]], ...]
"""Dimensions and the values meant of each."""
METERED = ("id", "source", "type", "subject", "tenant")
"""The attributes that paths may name, besides extensions."""
_UNMETERED = frozenset({"specversion", "time", "datacontenttype", "dataschema", "data", "receivedat"})


class Meter(msgspec.Struct, frozen=True):
    """The rule turning events of one type into a quantity. Paths are `$.a.b` into data or a bare attribute name.

    `filter` holds the accepted values as metering/label.py writes them.
    """

    event: str
    aggregation: AggregationName
    value: str | None = None
    unit: str | None = None
    scale: int = 0
    signed: bool = False
    group_by: dict[str, str] = {}
    filter: dict[str, tuple[str, ...]] = {}


class Feature(msgspec.Struct, frozen=True):
    """What a plan grants: metered (`meter`), a fixed value (`static`), or a plain yes.

    `shadow`: the gate allows what it would deny, and counts it. `reservable`: usage can be held before it happens.
    """

    meter: str | None = None
    static: bool = False
    shadow: bool = False
    reservable: bool = False


class Limit(msgspec.Struct, frozen=True, omit_defaults=True):
    """At most `limit` (a decimal string in the meter's unit, None: unlimited) in a period.

    With a `meter` of its own, which counts a part of what the feature's does, it is for the `groups` of that part.
    """

    limit: str | None
    period: PeriodKind
    on_exceed: OnExceed = "block"
    meter: str | None = None
    groups: Groups = ()

    def concerns(self, groups: Mapping[str, str]) -> bool:
        """Whether what is asked for may be of this limit's groups: a dimension that is not named may be anything."""
        return all(dimension not in groups or groups[dimension] in values for dimension, values in self.groups)


class Entitlement(msgspec.Struct, frozen=True):
    """A plan's right to a feature. `limit` is a decimal string in the meter's unit; None: unlimited.

    `further` limits hold beside it; with knowledge older than `max_staleness` (ms) `on_unknown` decides. It is a right
    to these `groups` only, and to be asked about no faster than at `rates`.
    """

    limit: str | None = None
    period: PeriodKind | None = None
    on_exceed: OnExceed = "block"
    on_unknown: OnUnknown = "closed"
    alert_at: tuple[str, ...] = ()
    value: Any = None
    further: tuple[Limit, ...] = ()
    max_staleness: int | None = None
    groups: Groups = ()
    rates: tuple[Rate, ...] = ()

    @property
    def limits(self) -> tuple[Limit, ...]:
        """All limits of a metered feature, the main one first."""
        return () if self.period is None else (Limit(self.limit, self.period, self.on_exceed), *self.further)


class Plan(msgspec.Struct, frozen=True):
    """Entitlements by feature name."""

    entitlements: dict[str, Entitlement]
    stripe_price: str | None = None


class Catalog(msgspec.Struct, frozen=True):
    """One immutable version's content."""

    meters: dict[str, Meter] = {}
    features: dict[str, Feature] = {}
    plans: dict[str, Plan] = {}

    def periods_of(self, meter: str) -> tuple[PeriodKind, ...]:
        """The period kinds for which counters of `meter` exist: those that any plan's entitlement uses."""
        used = {
            limit.period
            for plan in self.plans.values()
            for name, entitlement in plan.entitlements.items()
            for limit in entitlement.limits
            if (limit.meter or self.features[name].meter) == meter
        }
        return tuple(kind for kind in period.KINDS if kind in used)


_MERGE = "tag:yaml.org,2002:merge"


class _Loader(yaml.SafeLoader):
    """YAML with exact fractions, dates as text and without repeated keys."""


def _exact_number(loader: _Loader, node: yaml.ScalarNode) -> Decimal:
    text = str(loader.construct_scalar(node))
    try:
        return Decimal(text.replace("_", ""))
    except ArithmeticError:
        raise yaml.YAMLError(f"{text!r} is no decimal number (line {node.start_mark.line + 1})") from None


def _plain_text(loader: _Loader, node: yaml.ScalarNode) -> str:
    return str(loader.construct_scalar(node))


def _distinct_mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    names = [loader.construct_object(key) for key, _ in node.value if key.tag != _MERGE]
    for name in names:
        if names.count(name) > 1:
            raise yaml.YAMLError(f"the key {name!r} stands twice (line {node.start_mark.line + 1})")
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:float", _exact_number)
_Loader.add_constructor("tag:yaml.org,2002:timestamp", _plain_text)
_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _distinct_mapping)


def parse_catalog(text: str | bytes) -> Catalog:
    """YAML (or JSON, which is YAML) → Catalog. Raises InvalidCatalog with every mistake."""
    try:
        document = yaml.load(text, Loader=_Loader)  # noqa: S506 (_Loader is a SafeLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InvalidCatalog([CatalogProblem("catalog", f"not readable as YAML: {error}")]) from None
    return _Reader().catalog(document)


def to_json(catalog: Catalog) -> bytes:
    """The stored form; `from_json` reads it back."""
    return msgspec.json.encode(catalog)


def from_json(text: bytes) -> Catalog:
    """What `to_json` wrote."""
    return msgspec.json.decode(text, type=Catalog)


class _Reader:
    """Walks the document once and collects what is wrong."""

    def __init__(self) -> None:
        self.problems: list[CatalogProblem] = []

    def wrong(self, path: str, detail: str) -> None:
        self.problems.append(CatalogProblem(path, detail))

    def catalog(self, document: object) -> Catalog:
        root = self.mapping("catalog", document, {"meters", "features", "plans"})
        meters = {
            name: self.meter(f"meters.{name}", body)
            for name, body in self.named("meters", root.get("meters"), METER_NAME)
        }
        self.dimensions(meters)
        features = {
            name: self.feature(f"features.{name}", body, meters)
            for name, body in self.named("features", root.get("features"), FEATURE_NAME)
        }
        plans = {
            name: self.plan(f"plans.{name}", body, features, meters)
            for name, body in self.named("plans", root.get("plans"), FEATURE_NAME)
        }
        if self.problems:
            raise InvalidCatalog(self.problems)
        return Catalog(meters, features, plans)

    def mapping(self, path: str, value: object, allowed: set[str]) -> Mapping[str, Any]:
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.wrong(path, "a mapping is needed here")
            return {}
        for name in value:
            if name not in allowed:
                self.wrong(f"{path}.{name}", f"unknown; known here: {', '.join(sorted(allowed))}")
        return value

    def named(self, path: str, value: object, pattern: re.Pattern[str]) -> list[tuple[str, object]]:
        if value is None:
            return []
        if not isinstance(value, dict):
            self.wrong(path, "a mapping of names is needed here")
            return []
        for name in value:
            if not isinstance(name, str) or not pattern.fullmatch(name):
                self.wrong(f"{path}.{name}", f"a name must match {pattern.pattern}")
        return [(str(name), body) for name, body in value.items()]

    def choice(self, path: str, value: object, choices: tuple[str, ...], default: Any) -> Any:
        if value is None:
            return default
        if value not in choices:
            self.wrong(path, f"must be one of {', '.join(choices)}")
            return default
        return value

    def path(self, path: str, value: object) -> str:
        if not isinstance(value, str) or not _PATH.fullmatch(value):
            self.wrong(path, "must be a path like $.a.b into data, or an attribute's bare name")
            return "$.invalid"
        if value in _UNMETERED:
            self.wrong(
                path, f"the attribute {value} cannot be metered; one of {', '.join(METERED)} or an extension can"
            )
        return value

    def text(self, path: str, value: object) -> str | None:
        if value is not None and (not isinstance(value, str) or not value):
            self.wrong(path, "must be a string")
            return None
        return value

    def filter(self, path: str, value: object) -> dict[str, tuple[str, ...]]:
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.wrong(path, "a mapping of path to value or list of values is needed")
            return {}
        return {
            self.path(f"{path}.{where}", where): self.wanted(f"{path}.{where}", wanted)
            for where, wanted in value.items()
        }

    def wanted(self, path: str, value: object) -> tuple[str, ...]:
        values = value if isinstance(value, list) else [value]
        texts = tuple(text for text in map(text_of, values) if text is not None)
        if not texts or len(texts) < len(values):
            self.wrong(path, "strings, numbers and booleans can be compared, and at least one is needed")
        return texts

    def meter(self, path: str, body: object) -> Meter:
        known = {"event", "aggregation", "value", "unit", "scale", "signed", "group_by", "filter"}
        m = self.mapping(path, body, known)
        event = m.get("event")
        if not isinstance(event, str) or not event:
            self.wrong(f"{path}.event", "the event type to count is required")
            event = "invalid"
        name = self.choice(f"{path}.aggregation", m.get("aggregation"), aggregation.NAMES, "count")
        if "aggregation" not in m:
            self.wrong(f"{path}.aggregation", f"required: one of {', '.join(aggregation.NAMES)}")
        value = None
        if m.get("aggregation") not in aggregation.NAMES:
            pass  # whether a value is needed is not known
        elif name in _VALUELESS:
            if m.get("value") is not None:
                self.wrong(f"{path}.value", f"{name} takes no value")
        else:
            value = self.path(f"{path}.value", m.get("value"))
        scale = m.get("scale", 0)
        if type(scale) is not int or not 0 <= scale <= quantity.SCALE:
            self.wrong(f"{path}.scale", "decimals kept: an integer from 0 to 9")
            scale = 0
        signed = m.get("signed", False)
        if type(signed) is not bool:
            self.wrong(f"{path}.signed", "must be true or false")
        group_by = {
            dimension: self.path(f"{path}.group_by.{dimension}", where)
            for dimension, where in self.named(f"{path}.group_by", m.get("group_by"), METER_NAME)
        }
        filters = self.filter(f"{path}.filter", m.get("filter"))
        unit = self.text(f"{path}.unit", m.get("unit"))
        return Meter(event, name, value, unit, scale, bool(signed), group_by, filters)

    def dimensions(self, meters: dict[str, Meter]) -> None:
        """A row stores each dimension once, so meters of one event type must mean the same by one name."""
        seen: dict[tuple[str, str], tuple[str, str]] = {}
        for name, meter in meters.items():
            for dimension, where in meter.group_by.items():
                other, there = seen.setdefault((meter.event, dimension), (name, where))
                if there != where:
                    self.wrong(
                        f"meters.{name}.group_by.{dimension}",
                        f"meters.{other} takes {dimension} of {meter.event} from {there}; use another name",
                    )

    def feature(self, path: str, body: object, meters: dict[str, Meter]) -> Feature:
        f = self.mapping(path, body, {"meter", "static", "shadow", "reservable"})
        meter = f.get("meter")
        if meter is not None and (not isinstance(meter, str) or meter not in meters):
            self.wrong(f"{path}.meter", f"no meter {meter!r} in this catalog")
            meter = None
        static = f.get("static", False)
        if type(static) is not bool:
            self.wrong(f"{path}.static", "must be true or false")
        elif static and meter is not None:
            self.wrong(path, "a feature is metered or static, not both")
        reservable = self.switch(f"{path}.reservable", f.get("reservable"))
        if reservable and (meter is None or meters[meter].aggregation not in _RESERVABLE or meters[meter].signed):
            self.wrong(f"{path}.reservable", "only what a sum or count meters, never negative, can be reserved")
        return Feature(meter, bool(static), self.switch(f"{path}.shadow", f.get("shadow")), reservable)

    def switch(self, path: str, value: object) -> bool:
        if value is not None and type(value) is not bool:
            self.wrong(path, "must be true or false")
        return value is True

    def plan(self, path: str, body: object, features: dict[str, Feature], meters: dict[str, Meter]) -> Plan:
        p = self.mapping(path, body, {"stripe_price", "entitlements"})
        entitlements: dict[str, Entitlement] = {}
        for name, right in self.named(f"{path}.entitlements", p.get("entitlements"), FEATURE_NAME):
            where = f"{path}.entitlements.{name}"
            if name not in features:
                self.wrong(where, f"no feature {name!r} in this catalog")
                continue
            feature = features[name]
            if right is False:
                continue
            entitlements[name] = self.entitlement(where, right, feature, meters)
        return Plan(entitlements, self.text(f"{path}.stripe_price", p.get("stripe_price")))

    def entitlement(self, path: str, body: object, feature: Feature, meters: dict[str, Meter]) -> Entitlement:
        if feature.static:
            e = self.mapping(path, body, {"value", "on_unknown", "max_staleness"})
            if e.get("value") is None:
                self.wrong(f"{path}.value", "a static feature needs a value")
            return Entitlement(
                value=self.static(f"{path}.value", e.get("value")),
                on_unknown=self.unknown(path, e),
                max_staleness=self.staleness(path, e),
            )
        if feature.meter is None:
            known = {"groups", "rates", "on_unknown", "max_staleness"}
            e = {} if body is True else self.mapping(path, body, known)
            return Entitlement(
                groups=self.groups(path, e.get("groups"), None),
                rates=self.rates(path, e.get("rates")),
                on_unknown=self.unknown(path, e),
                max_staleness=self.staleness(path, e),
            )
        known = {"limit", "period", "on_exceed", "on_unknown", "alert_at", "limits", "max_staleness", "groups", "rates"}
        e = self.mapping(path, body, known)
        main = self.limit(path, e, feature, meters)
        further = e.get("limits") or []
        if not isinstance(further, list):
            self.wrong(f"{path}.limits", "a list of further limits, like [{limit: 10, period: hour}]")
            further = []
        parts = [
            self.limit(where, self.mapping(where, one, {"limit", "period", "on_exceed", "meter"}), feature, meters)
            for where, one in ((f"{path}.limits[{i}]", one) for i, one in enumerate(further))
        ]
        kinds = [(main.period, main.meter), *((one.period, one.meter) for one in parts)]
        for i, kind in enumerate(kinds[1:]):
            if kind in kinds[: i + 1]:
                self.wrong(f"{path}.limits[{i}].period", f"there is a limit for {kind[0]} already")
        alerts = e.get("alert_at") or []
        if not isinstance(alerts, list):
            self.wrong(f"{path}.alert_at", "a list of shares of the limit, like [0.8, 1.0]")
            alerts = []
        return Entitlement(
            limit=main.limit,
            period=main.period,
            on_exceed=main.on_exceed,
            on_unknown=self.unknown(path, e),
            alert_at=tuple(self.amount(f"{path}.alert_at[{i}]", share) for i, share in enumerate(alerts)),
            further=tuple(parts),
            max_staleness=self.staleness(path, e),
            groups=self.groups(path, e.get("groups"), meters[feature.meter]),
            rates=self.rates(path, e.get("rates")),
        )

    def unknown(self, path: str, e: Mapping[str, Any]) -> OnUnknown:
        policy: OnUnknown = self.choice(f"{path}.on_unknown", e.get("on_unknown"), ("closed", "open"), "closed")
        return policy

    def staleness(self, path: str, e: Mapping[str, Any]) -> int | None:
        """In ms."""
        seconds = e.get("max_staleness")
        if seconds is None:
            return None
        if type(seconds) is not int or not 1 <= seconds <= _STALENESS_SECONDS:
            self.wrong(f"{path}.max_staleness", f"seconds: an integer from 1 to {_STALENESS_SECONDS}")
            return None
        return seconds * SECOND_MS

    def groups(self, path: str, value: object, meter: Meter | None) -> Groups:
        """What of a feature is granted. Those of a metered one are dimensions of its meter."""
        groups = []
        for dimension, wanted in self.named(f"{path}.groups", value, METER_NAME):
            where = f"{path}.groups.{dimension}"
            if meter is not None and dimension not in meter.group_by:
                self.wrong(where, "the feature's meter has no such dimension in `group_by`")
            groups.append((dimension, self.wanted(where, wanted)))
        return tuple(groups)

    def rates(self, path: str, value: object) -> tuple[Rate, ...]:
        if value is not None and not isinstance(value, list):
            self.wrong(f"{path}.rates", "a list of rates, like [{limit: 20, period: second, by: subject}]")
            return ()
        rates = []
        for i, one in enumerate(value or []):
            where = f"{path}.rates[{i}]"
            r = self.mapping(where, one, {"limit", "period", "by"})
            limit = r.get("limit")
            if type(limit) is not int or not 1 <= limit <= _FASTEST:
                self.wrong(f"{where}.limit", f"how many checks: an integer from 1 to {_FASTEST}")
                limit = 1
            kind = self.choice(f"{where}.period", r.get("period"), tuple(PERIODS), "second")
            if r.get("period") is None:
                self.wrong(f"{where}.period", f"required: one of {', '.join(PERIODS)}")
            rates.append(
                Rate(str(limit), kind, self.choice(f"{where}.by", r.get("by"), ("tenant", "subject"), "tenant"))
            )
        return tuple(rates)

    def part(self, path: str, name: object, feature: Feature, meters: dict[str, Meter]) -> tuple[str, Groups] | None:
        """A meter of a part of what the feature's meter counts, and what part: told by its filter."""
        whole = meters[feature.meter or ""]
        part = meters.get(name) if isinstance(name, str) else None
        if part is None:
            self.wrong(path, f"no meter {name!r} in this catalog")
            return None
        same = ("event", "aggregation", "value", "scale", "signed")
        differs = [field for field in same if getattr(part, field) != getattr(whole, field)]
        dimensions = {where: dimension for dimension, where in whole.group_by.items()}
        beyond = [where for where in part.filter if where not in dimensions and where not in whole.filter]
        beyond += [where for where, values in whole.filter.items() if not {*part.filter.get(where, "?")} <= {*values}]
        rest = {where: values for where, values in part.filter.items() if where in dimensions}
        if differs:
            self.wrong(path, f"{name} is to count a part of {feature.meter}, but differs in {', '.join(differs)}")
        elif beyond or not rest:
            self.wrong(path, f"{name} needs a `filter` on paths in `group_by` of {feature.meter}, and on no others")
        elif feature.reservable:
            self.wrong(path, "a feature that can be reserved has limits of its own meter only: holds have no groups")
        return str(name), tuple((dimensions[where], values) for where, values in rest.items())

    def limit(self, path: str, body: Mapping[str, Any], feature: Feature, meters: dict[str, Meter]) -> Limit:
        kind = self.choice(f"{path}.period", body.get("period"), period.KINDS, "lifetime")
        if body.get("period") is None:
            self.wrong(f"{path}.period", f"required: one of {', '.join(period.KINDS)}")
        limit = None
        if body.get("limit") is not None:
            limit = self.amount(f"{path}.limit", body["limit"])
            scale = meters[feature.meter].scale if feature.meter else 0
            if feature.reservable and quantity.from_text(limit) * 10**scale // quantity.ONE >= _HOLDABLE:
                self.wrong(
                    f"{path}.limit", "too large for a feature that can be reserved: 2^53 units of the meter's scale"
                )
        exceed = self.choice(f"{path}.on_exceed", body.get("on_exceed"), ("block", "allow", "warn"), "block")
        part = self.part(f"{path}.meter", body["meter"], feature, meters) if body.get("meter") is not None else None
        return Limit(limit, kind, exceed, *(part or ()))

    def static(self, path: str, value: object) -> Any:
        """Any JSON; what JSON has no exact form for (fractions) becomes a string."""
        try:
            return msgspec.json.decode(msgspec.json.encode(value))
        except (TypeError, ValueError) as error:
            self.wrong(path, f"no JSON value: {error}")
            return None

    def amount(self, path: str, value: object) -> str:
        try:
            return quantity.render(quantity.parse(value, quantity.SCALE, signed=False))
        except Refused as error:
            self.wrong(path, "must not be negative" if error.code == "negative" else error.detail)
            return "0"
