"""The catalog versions that a schedule goes through: all seven aggregations, all period kinds."""

from __future__ import annotations

from metering.catalog import parse_catalog
from metering.meter import CompiledCatalog

_METERS = """
  calls: {event: call, aggregation: count}
  seconds: {event: call, aggregation: sum, value: $.n, scale: 2, group_by: {language: $.l}}
  least: {event: call, aggregation: min, value: $.n, scale: 2}
  most: {event: call, aggregation: max, value: $.n, scale: 2}
  mean: {event: call, aggregation: avg, value: $.n, scale: 2}
  languages: {event: call, aggregation: unique, value: $.l}
  last: {event: call, aggregation: latest, value: $.n, scale: 2}
  visits: {event: visit, aggregation: count}
"""
_MORE = "  later: {event: call, aggregation: sum, value: $.n, scale: 2}\n"
_USED = {
    "calls": ("hour", "lifetime"),
    "seconds": ("day", "billing"),
    "least": ("month",),
    "most": ("day",),
    "mean": ("billing",),
    "languages": ("day", "lifetime"),
    "last": ("month",),
    "visits": ("hour",),
}


def _catalog(version: int, meters: str, used: dict[str, tuple[str, ...]]) -> CompiledCatalog:
    features = "".join(f"  {name.replace('_', '-')}: {{meter: {name}}}\n" for name in used)
    plans = ""
    for number in range(max(map(len, used.values()))):
        plans += f"  plan{number}:\n    entitlements:\n"
        for name, kinds in used.items():
            if number < len(kinds):
                plans += f"      {name}: {{period: {kinds[number]}}}\n"
    return CompiledCatalog(version, parse_catalog(f"meters:\n{meters}features:\n{features}plans:\n{plans}"))


VERSIONS = [
    _catalog(1, _METERS, _USED),
    _catalog(2, _METERS + _MORE, {**_USED, "later": ("day", "lifetime")}),
    _catalog(3, _METERS + _MORE, {**_USED, "later": ("month",), "calls": ("day", "lifetime"), "visits": ("billing",)}),
]
