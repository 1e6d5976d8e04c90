"""An operator proves that everything agrees, breaks it, mends it, and lets a new meter count the past."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
import yaml

from tests.e2e.system import ROOT, RunningSystem, system_up
from tests.support import wait_until


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSystem]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TALLYGATE_STREAMS_ROLLUP_SECONDS", "0.3")
        patch.setenv("TALLYGATE_STREAMS_ROLLUP_SETTLE_SECONDS", "0.1")
        with system_up(tmp_path_factory.mktemp("proof") / "data", "--catalog", str(ROOT / "catalog.yaml")) as running:
            yield running


def _send(system: RunningSystem, tenant: str, folder: Path, count: int, hours: int = 5) -> str:
    assert system.tallygate("tenant", "create", tenant, "--plan", "starter").code == 0
    key = str(system.tallygate("key", "create", tenant, "--scope", "ingest,read").json["key"])
    at = datetime.now(UTC) - timedelta(hours=hours)
    events = [
        {
            "specversion": "1.0",
            "id": f"c-{number}",
            "source": "/voice",
            "type": "call.completed",
            "time": (at + timedelta(seconds=number)).isoformat(),
            "data": {"duration_seconds": number, "language": "de", "property": "berlin", "concurrent": 1},
        }
        for number in range(1, count + 1)
    ]
    file = folder / f"{tenant}.ndjson"
    file.write_text("\n".join(json.dumps(event) for event in events))
    assert system.tallygate("send", str(file), "--wait", "30", key=key).code == 0
    return key


def _sql(system: RunningSystem, statement: str) -> str:
    with urlopen(Request(system.ready["clickhouse"], data=statement.encode())) as answer:
        text: str = answer.read().decode()
        return text


def test_a_lost_row_is_found_and_read_again_from_the_log(system: RunningSystem, tmp_path: Path) -> None:
    key = _send(system, "audited", tmp_path, 20)
    healthy = system.tallygate("reconcile")
    assert (healthy.code, healthy.json["errors"]) == (0, []), healthy.stdout
    assert [pair["drift"] for pair in healthy.json["pairs"]] == [0] * 5

    _sql(system, "DELETE FROM usage_events WHERE tenant = 'audited' AND id = 'c-7'")
    broken = system.tallygate("reconcile")
    assert broken.code == 1
    assert {pair["pair"]: pair["left"] for pair in broken.json["pairs"]}["frames-rows"] == 1
    now = datetime.now(UTC)
    span = ("--from", (now - timedelta(hours=1)).isoformat(), "--to", (now + timedelta(hours=1)).isoformat())
    replayed = system.tallygate("replay", *span)
    assert (replayed.code, replayed.json["differences"]["usage_events"]["missing"]) == (1, 1)

    mended = system.tallygate("reconcile", "--repair")
    assert mended.code == 0, mended.stdout
    assert system.tallygate("reconcile").code == 0
    assert system.tallygate("replay", *span).code == 0
    total = system.tallygate("usage", "audited", "--meter", "voice_seconds", key=key).json["meters"]["voice_seconds"]
    assert total["total"] == str(sum(range(1, 21)))


def test_counters_are_made_again(system: RunningSystem, tmp_path: Path) -> None:
    key = _send(system, "recounted", tmp_path, 5, hours=0)
    for arguments in (("--tenant", "recounted"), ()):
        assert system.tallygate("rebuild", "counters", *arguments).code == 0
        answer = system.tallygate("usage", "recounted", "--source", "counters", key=key).json
        assert answer["meters"]["voice_seconds"]["total"] == "15"
    assert system.tallygate("rebuild", "counters", "--tenant", "nobody").code == 2


def test_a_meter_that_came_later_counts_the_past_when_it_is_told_to(system: RunningSystem, tmp_path: Path) -> None:
    key = _send(system, "grown", tmp_path, 10)
    catalog = yaml.safe_load((ROOT / "catalog.yaml").read_text())
    catalog["meters"]["short_calls"] = {
        "event": "call.completed",
        "aggregation": "sum",
        "value": "$.duration_seconds",
        "group_by": {"house": "$.property"},
    }
    catalog["features"]["shortness"] = {"meter": "short_calls"}
    for plan in catalog["plans"].values():
        plan["entitlements"]["shortness"] = {"limit": 1_000_000, "period": "lifetime"}
    file = tmp_path / "catalog.yaml"
    file.write_text(yaml.safe_dump(catalog))
    assert system.tallygate("catalog", "apply", str(file)).code == 0

    def known() -> bool:
        return "short_calls" in system.tallygate("usage", "grown", key=key).json["meters"]

    wait_until(known, timeout=20)
    assert system.tallygate("usage", "grown", key=key).json["meters"]["short_calls"]["total"] == "0"
    wait_until(lambda: system.tallygate("rebuild", "counters", "--meter", "short_calls").code == 0, timeout=20)

    ledger = system.tallygate("usage", "grown", "--meter", "short_calls", "--group-by", "house", key=key).json
    assert ledger["meters"]["short_calls"] == {"total": "55", "groups": {"berlin": "55"}}
    counters = system.tallygate("usage", "grown", "--source", "counters", key=key).json["meters"]
    assert counters["short_calls"]["total"] == "55"
    window = ("--window", "day", "--from", (datetime.now(UTC) - timedelta(days=1)).isoformat())
    rows = system.tallygate("usage", "grown", "--meter", "short_calls", *window, key=key).json["rows"]
    assert sum(int(row["total"]) for row in rows) == 55
    assert system.tallygate("rebuild", "counters", "--meter", "short_calls").json["filled"] == 0
    assert system.tallygate("reconcile").code == 0
    assert system.tallygate("rebuild", "counters", "--meter", "no_such").code == 2
