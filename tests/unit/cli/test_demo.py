from __future__ import annotations

import io

import pytest
from rich.console import Console

from cli import demo_run, send
from cli.api import Api
from cli.demo_run import DemoRun
from cli.demo_view import LiveView, report
from cli.system import System
from local.demo_account import RULES
from local.demo_workload import BLOCKED_TENANT, HOTELS, Day
from metering.clock import DAY_MS, HOUR_MS

from .fake_tallygate import FakeTallygate

MIDMONTH = 1_795_435_200_000
FIRST_OF_MONTH = 1_796_083_200_000
SYSTEM = System("http://console", "key-of-platform", "http://ingest", "http://gate")


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_run, "LASTS_SECONDS", 0.0)
    monkeypatch.setattr(send, "POLL_SECONDS", 0.0)


async def _demo(fake: FakeTallygate, plant_loss: bool = False) -> DemoRun:
    run = DemoRun(Api(SYSTEM, fake), Day(5, 1500, fake.now, plant_loss))
    await run.prepare()
    await run.emit()
    await run.judge()
    return run


@pytest.mark.parametrize("now", [MIDMONTH, FIRST_OF_MONTH, FIRST_OF_MONTH + HOUR_MS, FIRST_OF_MONTH + DAY_MS], ids=str)
async def test_all_agree_also_where_the_day_crosses_a_period_s_end(now: int) -> None:
    run = await _demo(FakeTallygate(now))

    assert [row for row in run.meter_rows if not row.agrees] == []
    assert [row for row in run.events_rows if not row.agrees] == []
    assert len(run.meter_rows) == len(RULES) * len(HOTELS)


async def test_the_hotel_that_used_up_its_plan_is_denied_and_no_other() -> None:
    run = await _demo(FakeTallygate(MIDMONTH))

    assert run.agrees
    assert [tenant for tenant, answer in run.gate.items() if not answer["allowed"]] == [BLOCKED_TENANT]


async def test_a_planted_loss_is_noticed() -> None:
    run = await _demo(FakeTallygate(MIDMONTH), plant_loss=True)

    assert not run.agrees
    assert "voice_calls" in {row.meter for row in run.meter_rows if not row.agrees}


async def test_an_event_lost_after_it_was_accepted_is_noticed() -> None:
    assert not (await _demo(FakeTallygate(MIDMONTH, forget=1))).agrees


async def test_resends_counted_twice_are_noticed() -> None:
    assert not (await _demo(FakeTallygate(MIDMONTH, twice=True))).agrees


async def test_a_limit_that_does_not_block_is_noticed() -> None:
    run = await _demo(FakeTallygate(MIDMONTH))
    run.gate[BLOCKED_TENANT] = {**run.gate[BLOCKED_TENANT], "allowed": True}

    assert not run.agrees


async def test_the_report_shows_the_denial_and_every_total() -> None:
    run = await _demo(FakeTallygate(MIDMONTH))
    page = Console(file=io.StringIO(), width=160)

    page.print(LiveView(run))
    page.print(report(run))

    assert isinstance(page.file, io.StringIO)
    text = page.file.getvalue()
    assert "denied" in text and "limit-reached" in text
    for row in run.meter_rows:
        assert row.meter in text
    assert "✗" not in text.replace("✗ denied", "")
