"""A catalog is validated whole: every mistake at once, each with its path."""

from __future__ import annotations

from pathlib import Path

import pytest

from metering.catalog import Catalog, Feature, Limit, from_json, parse_catalog, to_json
from metering.errors import InvalidCatalog
from metering.rate import Rate

WHOLE = """
meters:
  voice_seconds: {event: call.completed, aggregation: sum, value: $.duration_seconds, unit: second, scale: 3,
                  group_by: {language: $.language, property: $.property}}
  languages: {event: call.completed, aggregation: unique, value: $.language}
  priority_requests: {event: request.created, aggregation: count, filter: {$.priority: [high, urgent], subject: x}}
  flagged: {event: request.created, aggregation: count, filter: {$.flag: true, $.level: [1, 1.50, 2026-11-23]}}
  balance: {event: account.set, aggregation: latest, value: $.a.b, signed: true}
features:
  voice: {meter: voice_seconds}
  languages: {meter: languages}
  voice-cloning: {}
  max-upload-mb: {static: true}
plans:
  starter:
    stripe_price: price_123
    entitlements:
      voice: {limit: 36000.5, period: billing, on_exceed: block, on_unknown: closed, alert_at: [0.8, 1.0]}
      languages: {limit: 2, period: month}
      max-upload-mb: {value: 20.50}
      voice-cloning: false
  professional:
    entitlements: {voice: {period: day, on_exceed: warn}, languages: {period: hour}, voice-cloning: true}
"""


def problems(text: str) -> dict[str, str]:
    with pytest.raises(InvalidCatalog) as caught:
        parse_catalog(text)
    return {problem.path: problem.detail for problem in caught.value.problems}


def test_a_whole_catalog_is_read() -> None:
    catalog = parse_catalog(WHOLE)
    voice = catalog.meters["voice_seconds"]
    assert (voice.event, voice.aggregation, voice.value, voice.scale) == (
        "call.completed",
        "sum",
        "$.duration_seconds",
        3,
    )
    assert voice.group_by == {"language": "$.language", "property": "$.property"}
    assert catalog.meters["flagged"].filter == {"$.flag": ("true",), "$.level": ("1", "1.5", "2026-11-23")}
    assert catalog.features["max-upload-mb"].static
    starter = catalog.plans["starter"]
    assert starter.stripe_price == "price_123"
    right = starter.entitlements["voice"]
    assert (right.limit, right.period, right.on_exceed, right.on_unknown, right.alert_at) == (
        "36000.5",
        "billing",
        "block",
        "closed",
        ("0.8", "1"),
    )
    assert starter.entitlements["languages"].on_exceed == "block"
    assert starter.entitlements["max-upload-mb"].value == "20.50"
    assert "voice-cloning" not in starter.entitlements
    assert "voice-cloning" in catalog.plans["professional"].entitlements


def test_a_catalog_reads_back_as_it_was_stored() -> None:
    catalog = parse_catalog(WHOLE)
    assert from_json(to_json(catalog)) == catalog


def test_counters_exist_for_the_periods_that_plans_use() -> None:
    catalog = parse_catalog(WHOLE)
    assert catalog.periods_of("voice_seconds") == ("day", "billing")
    assert catalog.periods_of("languages") == ("hour", "month")
    assert catalog.periods_of("priority_requests") == ()


def test_an_empty_catalog_counts_nothing() -> None:
    assert parse_catalog("") == Catalog()


def test_the_projects_own_catalog_is_valid() -> None:
    text = (Path(__file__).parents[3] / "catalog.yaml").read_text()
    assert parse_catalog(text).plans


def test_every_mistake_is_reported_at_once_with_its_path() -> None:
    found = problems("""
meters:
  Voice: {event: x, aggregation: count}
  a: {aggregation: sum}
  b: {event: x, aggregation: median, value: $.a}
  c: {event: x, aggregation: count, value: $.a}
  d: {event: x, aggregation: sum, value: a.b, scale: 10, signed: 1, unit: [s], colour: red}
  e: {event: x, aggregation: sum, value: time}
  f: {event: x, aggregation: count, group_by: {Bad: $.a, good: $..b}, filter: {$.p: [], $.q: null, $.r: {a: 1}}}
  g: {event: x}
  h: 7
features:
  one: {meter: nothing}
  two: {meter: [c]}
  three: {meter: c, static: true}
  four: {static: yes please}
  five: {meter: c}
plans:
  p:
    stripe_price: [1]
    entitlements:
      six: {limit: 1}
      five: {limit: -1, period: week, on_exceed: stop, on_unknown: maybe, alert_at: [x]}
      four: {value: 1}
  q: {entitlements: [one]}
extras: {}
""")
    assert found.keys() == {
        "catalog.extras",
        "meters.Voice",
        "meters.a.event",
        "meters.a.value",
        "meters.b.aggregation",
        "meters.c.value",
        "meters.d.value",
        "meters.d.scale",
        "meters.d.signed",
        "meters.d.unit",
        "meters.d.colour",
        "meters.e.value",
        "meters.f.group_by.Bad",
        "meters.f.group_by.good",
        "meters.f.filter.$.p",
        "meters.f.filter.$.q",
        "meters.f.filter.$.r",
        "meters.g.aggregation",
        "meters.h",
        "meters.h.event",
        "meters.h.aggregation",
        "features.one.meter",
        "features.two.meter",
        "features.three",
        "features.four.static",
        "plans.p.stripe_price",
        "plans.p.entitlements.six",
        "plans.p.entitlements.five.limit",
        "plans.p.entitlements.five.period",
        "plans.p.entitlements.five.on_exceed",
        "plans.p.entitlements.five.on_unknown",
        "plans.p.entitlements.five.alert_at[0]",
        "plans.q.entitlements",
    }


def test_a_metered_entitlement_needs_a_period_and_a_static_one_a_value() -> None:
    head = "meters: {m: {event: e, aggregation: count}}\nfeatures: {f: {meter: m}, s: {static: true}}\n"
    found = problems(head + "plans: {p: {entitlements: {f: {limit: 1}, s: {}}}}")
    assert found.keys() == {"plans.p.entitlements.f.period", "plans.p.entitlements.s.value"}


def test_one_dimension_of_an_event_type_means_one_path() -> None:
    found = problems("""
meters:
  a: {event: x, aggregation: count, group_by: {room: $.room}}
  b: {event: x, aggregation: count, group_by: {room: $.room_number}}
  c: {event: y, aggregation: count, group_by: {room: $.other}}
""")
    assert found == {"meters.b.group_by.room": "meters.a takes room of x from $.room; use another name"}


@pytest.mark.parametrize(
    "text",
    [
        "meters: {m: {event: e}, m: {event: f}}",
        "meters: {[a]: 1}",
        "a: &x [*x]",
        "a: .nan",
        "a: !!int x",
        "a: !!python/object:os.system x",
        "{",
        "\x00",
        "[" * 5000,
    ],
)
def test_what_is_no_yaml_is_one_problem_of_the_catalog(text: str) -> None:
    assert problems(text).keys() == {"catalog"}


def test_merged_mappings_and_anchors_work() -> None:
    catalog = parse_catalog("meters: {a: &a {event: e, aggregation: count}, b: {<<: *a, unit: call}}")
    assert catalog.meters["b"].event == "e"
    assert catalog.meters["b"].unit == "call"


def test_a_feature_may_have_further_limits_a_mode_and_a_staleness() -> None:
    catalog = parse_catalog("""
meters: {seconds: {event: call, aggregation: sum, value: $.s, scale: 3}}
features: {voice: {meter: seconds, shadow: true, reservable: true}}
plans:
  starter:
    entitlements:
      voice:
        limit: 36000
        period: billing
        max_staleness: 30
        limits: [{limit: 600, period: hour, on_exceed: warn}, {period: day}]
""")
    assert catalog.features["voice"] == Feature("seconds", shadow=True, reservable=True)
    right = catalog.plans["starter"].entitlements["voice"]
    assert right.further == (Limit("600", "hour", "warn"), Limit(None, "day"))
    assert right.max_staleness == 30_000
    assert catalog.periods_of("seconds") == ("hour", "day", "billing")
    assert from_json(to_json(catalog)) == catalog


def test_mistakes_in_further_limits_are_named() -> None:
    found = problems("""
meters:
  seconds: {event: call, aggregation: sum, value: $.s, scale: 3}
  balance: {event: call, aggregation: sum, value: $.b, signed: true}
  tongues: {event: call, aggregation: unique, value: $.l}
features:
  voice: {meter: seconds, reservable: true, shadow: 1}
  balance: {meter: balance, reservable: true}
  tongues: {meter: tongues, reservable: true}
  cloning: {reservable: true}
plans:
  starter:
    entitlements:
      voice:
        limit: 9007199254740.992
        period: billing
        max_staleness: 0
        limits: [{limit: 1, period: billing}, {limit: -1, period: hour, color: red}, {limit: 3}, 7]
      balance: {limit: 1, period: hour, limits: 5, max_staleness: soon}
""")
    assert sorted(found) == [
        "features.balance.reservable",
        "features.cloning.reservable",
        "features.tongues.reservable",
        "features.voice.shadow",
        "plans.starter.entitlements.balance.limits",
        "plans.starter.entitlements.balance.max_staleness",
        "plans.starter.entitlements.voice.limit",
        "plans.starter.entitlements.voice.limits[0].period",
        "plans.starter.entitlements.voice.limits[1].color",
        "plans.starter.entitlements.voice.limits[1].limit",
        "plans.starter.entitlements.voice.limits[2].period",
        "plans.starter.entitlements.voice.limits[3]",
        "plans.starter.entitlements.voice.limits[3].period",
        "plans.starter.entitlements.voice.max_staleness",
    ]


GROUPED = """
meters:
  seconds: &whole {event: call, aggregation: sum, value: $.s, scale: 3, group_by: {language: $.language, room: room}}
  far: {<<: *whole, filter: {$.language: [ja, zh]}}
  far_suites: {<<: *whole, filter: {$.language: [ja, zh], room: suite}}
  anything: {<<: *whole}
  elsewhere: {<<: *whole, filter: {$.floor: 1}}
  calls: {event: call, aggregation: count, filter: {$.language: ja}}
features:
  voice: {meter: seconds}
  far: {meter: far}
  held: {meter: seconds, reservable: true}
  speak: {}
plans:
  starter:
    entitlements:
"""


def test_a_right_may_be_to_some_groups_with_limits_for_parts_and_rates() -> None:
    catalog = parse_catalog(
        GROUPED
        + """
      voice:
        limit: 36000
        period: billing
        groups: {language: [en, ja, zh]}
        limits: [{limit: 600, period: billing, meter: far}, {limit: 60, period: hour, meter: far_suites}]
        rates: [{limit: 20, period: second}, {limit: 5, period: minute, by: subject}]
      speak: {groups: {language: de, level: [1, 2]}, rates: [{limit: 1, period: hour}]}
"""
    )
    rights = catalog.plans["starter"].entitlements
    languages = ("language", ("ja", "zh"))
    assert rights["voice"].further == (
        Limit("600", "billing", meter="far", groups=(languages,)),
        Limit("60", "hour", meter="far_suites", groups=(languages, ("room", ("suite",)))),
    )
    assert rights["voice"].groups == (("language", ("en", "ja", "zh")),)
    assert rights["voice"].rates == (Rate("20", "second"), Rate("5", "minute", "subject"))
    assert rights["speak"].groups == (("language", ("de",)), ("level", ("1", "2")))
    assert catalog.periods_of("far") == ("billing",)
    assert catalog.periods_of("far_suites") == ("hour",)
    assert catalog.periods_of("calls") == ()
    assert from_json(to_json(catalog)) == catalog


def test_mistakes_in_groups_and_rates_are_named() -> None:
    found = problems(
        GROUPED
        + """
      voice:
        period: day
        groups: {floor: 1, language: {}}
        limits:
          - {limit: 1, period: hour, meter: calls}
          - {limit: 1, period: hour, meter: anything}
          - {limit: 1, period: hour, meter: elsewhere}
          - {limit: 1, period: hour, meter: nothing}
          - {limit: 1, period: day, meter: far}
          - {limit: 1, period: day, meter: far}
        rates: [{limit: 0, period: second}, {limit: 1}, {limit: 1, period: day, by: room}, 7]
      held: {period: day, limits: [{limit: 1, period: day, meter: far}]}
      far: {period: day, limits: [{limit: 1, period: day, meter: seconds}]}
      speak: {groups: [de], rates: 5, limit: 1}
"""
    )
    start = "plans.starter.entitlements."
    assert sorted(path.removeprefix(start) for path in found) == [
        "far.limits[0].meter",
        "held.limits[0].meter",
        "speak.groups",
        "speak.limit",
        "speak.rates",
        "voice.groups.floor",
        "voice.groups.language",
        "voice.limits[0].meter",
        "voice.limits[1].meter",
        "voice.limits[2].meter",
        "voice.limits[3].meter",
        "voice.limits[5].period",
        "voice.rates[0].limit",
        "voice.rates[1].period",
        "voice.rates[2].by",
        "voice.rates[2].period",
        "voice.rates[3]",
        "voice.rates[3].limit",
        "voice.rates[3].period",
    ]
    assert "differs in aggregation, value, scale" in found[f"{start}voice.limits[0].meter"]
