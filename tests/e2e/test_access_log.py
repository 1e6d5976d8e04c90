"""Ten thousand real requests through the real command: known totals, from ledger and counters, once and twice."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.system import ROOT, RunningSystem, system_up

DATA = ROOT.parent / "shared" / "data" / "access-log-2015-05.ndjson.gz"
EVENTS, BYTES, VISITORS = 10_000, "2747282740", "1753"
BY_STATUS = {"200": 9126, "304": 445, "404": 213, "301": 164, "206": 45, "500": 3, "403": 2, "416": 2}
BY_DAY = {"2015-05-17": 1632, "2015-05-18": 2893, "2015-05-19": 2896, "2015-05-20": 2579}
CATALOG = """
meters:
  requests: {event: http.request, aggregation: count, group_by: {status: $.status}}
  bytes: {event: http.request, aggregation: sum, value: $.bytes, unit: byte, group_by: {status: $.status}}
  visitors: {event: http.request, aggregation: unique, value: subject, group_by: {status: $.status}}
features:
  requests: {meter: requests}
  traffic: {meter: bytes}
  visitors: {meter: visitors}
plans:
  web:
    entitlements:
      requests: {period: lifetime}
      traffic: {period: lifetime}
      visitors: {period: lifetime}
"""


@pytest.fixture
def access_log() -> Path:
    if not DATA.exists():
        message = f"{DATA} is not there: the access log's known totals were not checked"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return DATA


@pytest.fixture
def system(tmp_path: Path, kafka_options: tuple[str, ...]) -> Iterator[RunningSystem]:
    catalog = tmp_path / "catalog.yaml"
    catalog.write_text(CATALOG)
    with system_up(tmp_path / "data", "--catalog", str(catalog), *kafka_options) as running:
        yield running


def test_the_access_log_gives_exactly_its_known_totals_and_a_second_time_the_same(
    access_log: Path, system: RunningSystem
) -> None:
    assert system.tallygate("tenant", "create", "webshop", "--plan", "web").code == 0
    made = system.tallygate("key", "create", "webshop", "--scope", "ingest,backfill,read")
    assert made.code == 0, made.stderr
    key = made.json["key"]

    for duplicates in (0, EVENTS):
        sent = system.tallygate("send", str(access_log), "--wait", "60", key=key)
        assert sent.code == 0, sent.stderr
        assert sent.json == {"sent": EVENTS, "accepted": EVENTS, "rejected": 0, "errors": [], "applied": True}

        ledger = system.tallygate("usage", "webshop", "--group-by", "status", key=key).json
        assert (ledger["events"], ledger["duplicates"], ledger["dead"]) == (EVENTS, duplicates, 0)
        assert {name: meter["total"] for name, meter in ledger["meters"].items()} == {
            "requests": str(EVENTS),
            "bytes": BYTES,
            "visitors": VISITORS,
        }
        assert ledger["meters"]["requests"]["groups"] == {status: str(count) for status, count in BY_STATUS.items()}
        assert sum(int(part) for part in ledger["meters"]["bytes"]["groups"].values()) == int(BYTES)

        counters = system.tallygate("usage", "webshop", "--source", "counters", key=key).json
        assert {name: meter["total"] for name, meter in counters["meters"].items()} == {
            "requests": str(EVENTS),
            "bytes": BYTES,
            "visitors": VISITORS,
        }

    for day, count in BY_DAY.items():
        next_day = f"2015-05-{int(day[-2:]) + 1}"
        span = ("--from", f"{day}T00:00:00Z", "--to", f"{next_day}T00:00:00Z")
        usage = system.tallygate("usage", "webshop", "--meter", "requests", *span, key=key)
        assert usage.json["meters"]["requests"]["total"] == str(count)
