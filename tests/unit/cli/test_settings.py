from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.main import run
from cli.settings import SERVICES


def test_every_variable_of_every_service_is_documented(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["settings", "--json"]) == 0

    listed = json.loads(capsys.readouterr().out)["settings"]
    assert {entry["service"] for entry in listed} == {"command line", "migrate", *SERVICES}
    assert {
        "TALLYGATE_URL",
        "TALLYGATE_KEY",
        "TALLYGATE_KAFKA",
        "TALLYGATE_BOOTSTRAP_KEY",
        "TALLYGATE_CONSOLE_PORT",
    } <= {entry["variable"] for entry in listed}
    assert [entry["variable"] for entry in listed if not entry["description"]] == []


def test_migrate_names_every_store_that_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("KAFKA", "CLICKHOUSE", "SQL", "CATALOG", "BOOTSTRAP_KEY"):
        monkeypatch.delenv(f"TALLYGATE_{name}", raising=False)

    assert run(["migrate"]) == 2

    err = capsys.readouterr().err
    assert all(f"TALLYGATE_{name} is not set" in err for name in ("KAFKA", "CLICKHOUSE", "SQL"))


def test_migrate_touches_nothing_while_the_catalog_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    catalog = tmp_path / "catalog.yaml"
    catalog.write_text("meters: {m: {event: e}}")
    sql = tmp_path / "sql.db"
    for name, value in {"KAFKA": "x:1", "CLICKHOUSE": "http://x:1", "SQL": f"sqlite+aiosqlite:///{sql}"}.items():
        monkeypatch.setenv(f"TALLYGATE_{name}", value)
    monkeypatch.setenv("TALLYGATE_CATALOG", str(catalog))

    assert run(["migrate"]) == 2

    assert "meters.m.aggregation" in capsys.readouterr().err
    assert not sql.exists()
