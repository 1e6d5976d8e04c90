from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cli.main import run
from ingest.client.transport import Reply

from .conftest import FakeSystem

METRICS = b"""# TYPE tallygate_writer_lag_records gauge
tallygate_writer_lag_records{partition="0"} 3.0
tallygate_writer_lag_records{partition="1"} 4.0
# TYPE tallygate_writer_freshness_seconds gauge
tallygate_writer_freshness_seconds 0.3
# TYPE tallygate_writer_visible_seconds histogram
tallygate_writer_visible_seconds_bucket{le="0.1"} 60.0
tallygate_writer_visible_seconds_bucket{le="0.25"} 98.0
tallygate_writer_visible_seconds_bucket{le="0.5"} 100.0
tallygate_writer_visible_seconds_bucket{le="+Inf"} 100.0
"""
READY = {"ready": True, "failures": {}}


@pytest.fixture
def state(system: FakeSystem, tmp_path: Path) -> dict[str, Any]:
    described: dict[str, Any] = {
        "ready": True,
        "ingest": "http://ingest",
        "gate": "http://gate",
        "console": "http://console",
        "kafka": "127.0.0.1:9092",
        "admin_key": "tg_admin",
        "processes": {"ingest-0": os.getpid(), "streams-0": os.getpid(), "kafka": os.getpid()},
        "ops": {"ingest-0": "http://ops/i", "streams-0": "http://ops/s"},
    }
    (tmp_path / "tallygate.json").write_bytes(msgspec.json.encode(described))
    system.call("GET", "/s/metrics", lambda asked: Reply(200, {}, METRICS))
    system.on("GET", "/v1/applied", {"epoch": 1, "count": 2, "partitions": {}})
    return described


def test_a_ready_system_is_0_and_told_with_its_lag(
    system: FakeSystem, state: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    system.on("GET", "/i/readyz", READY)
    system.on("GET", "/s/readyz", READY)

    assert run(["status", "--data-dir", ".", "--json"]) == 0

    found = json.loads(capsys.readouterr().out)
    assert found["ready"] is True
    assert found["lag"] == 7
    assert found["writers"] == {
        "streams-0": {
            "lag": 7,
            "partitions": {"0": 3, "1": 4},
            "freshness_seconds": 0.3,
            "freshness_p50_seconds": 0.1,
            "freshness_p99_seconds": 0.5,
        }
    }
    assert (found["freshness_p50_seconds"], found["freshness_p99_seconds"]) == (0.1, 0.5)
    assert found["processes"] == state["processes"]
    assert set(found["readiness"]) == {"ingest-0", "streams-0"}


def test_a_partition_whose_lag_is_unknown_makes_the_sum_unknown(
    system: FakeSystem, state: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    system.on("GET", "/i/readyz", READY)
    system.on("GET", "/s/readyz", READY)
    system.answers["GET", "/v1/applied"].clear()
    system.on("GET", "/v1/applied", {"epoch": 1, "count": 3, "partitions": {}})

    assert run(["status", "--data-dir", ".", "--json"]) == 0

    assert json.loads(capsys.readouterr().out)["lag"] is None


def test_one_process_that_is_not_ready_makes_it_1_and_says_why(
    system: FakeSystem, state: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    system.on("GET", "/i/readyz", READY)
    system.on("GET", "/s/readyz", {"ready": False, "failures": {"partition 3": "stuck: no progress"}}, 503)

    assert run(["status", "--data-dir", "."]) == 1

    out = capsys.readouterr().out
    assert "partition 3: stuck: no progress" in out and "not ready" in out
    assert "tg_admin" not in out


def test_one_process_that_does_not_answer_makes_it_1(
    system: FakeSystem, state: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    system.silent("GET", "/i/readyz")
    system.on("GET", "/s/readyz", READY)

    assert run(["status", "--data-dir", ".", "--json"]) == 1

    assert json.loads(capsys.readouterr().out)["readiness"]["ingest-0"]["ready"] is False


def test_a_system_that_is_gone_is_3(
    system: FakeSystem, state: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    system.silent("GET", "/i/readyz")
    system.silent("GET", "/s/readyz")

    assert run(["status", "--data-dir", "."]) == 3

    assert "tallygate up" in capsys.readouterr().err


def test_from_outside_the_public_addresses_are_asked(
    system: FakeSystem, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TALLYGATE_URL", "http://far/")
    monkeypatch.setenv("TALLYGATE_KEY", "tg_mine")
    system.on("GET", "/v1/addresses", {"ingest": "http://far-ingest/", "gate": "http://far-gate"})
    system.on("GET", "/readyz", READY)

    assert run(["status", "--json"]) == 0

    found = json.loads(capsys.readouterr().out)
    assert found["ingest"] == "http://far-ingest"
    assert found["lag"] is None
    assert {asked.url for asked in system.asked} == {
        "http://far/v1/addresses",
        "http://far-ingest/readyz",
        "http://far-gate/readyz",
        "http://far/readyz",
    }
