from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from pathlib import Path

import pytest

from local.demo_account import RULES, Account, MeterRule, plain
from local.demo_workload import BLOCKED_SECONDS, BLOCKED_TENANT, DAY_MS, HOTELS, Day
from metering.aggregation import AGGREGATIONS, Sample, merge
from metering.catalog import parse_catalog
from metering.errors import Refused
from metering.event import GATEWAY_AHEAD_MS, LATE_MS, Limits, check_time, compact, parse
from metering.meter import CompiledCatalog
from metering.position import Position

NOW = 1_795_435_200_000
CATALOG = CompiledCatalog(1, parse_catalog((Path(__file__).parents[3] / "catalog.yaml").read_text()))


def _same(day: Day) -> list[list[tuple[bytes, str]]]:
    return [[(message.line, message.fate) for message in messages] for messages in day.emitters.values()]


def test_a_seed_gives_the_same_day_and_another_seed_another() -> None:
    assert _same(Day(3, 900, NOW)) == _same(Day(3, 900, NOW))
    assert _same(Day(3, 900, NOW)) != _same(Day(4, 900, NOW))


@pytest.mark.parametrize("seed", range(3))
def test_the_gateways_rules_judge_each_message_as_it_was_meant(seed: int) -> None:
    day = Day(seed, 3000, NOW)
    for (tenant, _), messages in day.emitters.items():
        for message in messages:
            try:
                event = parse(compact(message.line), Limits())
                CATALOG.resolve(event)
                assert event.time is not None
                check_time(event.time, NOW, GATEWAY_AHEAD_MS, LATE_MS)
                accepted = event.tenant in (None, tenant)
            except Refused:
                accepted = False
            assert accepted == (message.fate != "refused"), message


@pytest.mark.parametrize("start", [0, NOW - DAY_MS // 3])
def test_the_account_agrees_with_counting_the_messages_by_the_catalog(start: int) -> None:
    day = Day(7, 3000, NOW)
    states: dict[tuple[str, str], object] = defaultdict(lambda: None)
    for (tenant, _), messages in day.emitters.items():
        for number, message in enumerate(messages):
            if message.fate != "counted":
                continue
            event = parse(compact(message.line), Limits())
            assert event.time is not None
            if event.time < start:
                continue
            resolved = CATALOG.resolve(event)
            for meter, nanos in resolved.quantities.items():
                aggregation = AGGREGATIONS[CATALOG.catalog.meters[meter].aggregation]
                sample = Sample(nanos, resolved.uniques.get(meter), event.time, Position(1, 0, number, 0))
                states[tenant, meter] = merge(aggregation, states[tenant, meter], aggregation.of(sample))

    for hotel in HOTELS:
        for rule in RULES:
            made = CATALOG.catalog.meters[rule.name]
            state = states[hotel.tenant, rule.name]
            counted = None if state is None else AGGREGATIONS[made.aggregation].result(state, made.scale)
            assert day.account.total(hotel.tenant, rule, start) == counted, (hotel.tenant, rule.name)


def test_every_meter_of_the_catalog_is_in_the_account() -> None:
    assert {rule.name: rule.event for rule in RULES} == {
        name: meter.event for name, meter in CATALOG.catalog.meters.items()
    }


def test_the_account_knows_how_many_of_each_fate_there_are() -> None:
    day = Day(1, 2000, NOW)
    for hotel in HOTELS:
        fates = [m.fate for (tenant, _), messages in day.emitters.items() if tenant == hotel.tenant for m in messages]
        assert fates.count("counted") == day.account.distinct[hotel.tenant] > 0
        assert fates.count("resent") == day.account.resent[hotel.tenant] > 0
        assert fates.count("refused") == day.account.refused[hotel.tenant] > 0
    assert abs(day.messages - 2000) < 20


def test_the_small_hotel_uses_more_voice_than_its_plan_grants() -> None:
    limit = CATALOG.catalog.plans["starter"].entitlements["voice"].limit
    assert limit is not None
    used = Day(1, 500, NOW).account.total(BLOCKED_TENANT, RULES[0])
    assert used is not None
    assert Decimal(limit) * Decimal("1.1") < Decimal(used) < BLOCKED_SECONDS * Decimal("1.3")


def test_a_planted_loss_is_in_the_account_but_not_among_the_messages() -> None:
    whole, planted = Day(1, 2000, NOW), Day(1, 2000, NOW, plant_loss=True)
    assert planted.messages == whole.messages - 1
    assert planted.account.distinct == whole.account.distinct
    for hotel in HOTELS:
        for rule in RULES:
            assert planted.account.total(hotel.tenant, rule) == whole.account.total(hotel.tenant, rule)


def test_numbers_are_written_in_one_way() -> None:
    assert [plain(Decimal(text)) for text in ("12.500", "100", "1E+2", "-0.10")] == ["12.5", "100", "100", "-0.1"]


def test_an_average_is_rounded_half_even_at_six_more_decimals() -> None:
    account = Account()
    for value in (1, 2, 2):
        account.add("a", "m", f"e{value}", 0, value)
    assert account.total("a", MeterRule("m", "average", "e", 0)) == "1.666667"
    assert account.total("a", MeterRule("m", "average", "e", 0), start=1) is None
