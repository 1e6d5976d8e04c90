"""A tenant comes to shares of its limit and is listed with them, once each, while the system runs as users run it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

from tests.e2e.system import ROOT, RunningSystem, system_up
from tests.support import wait_until


def _send(system: RunningSystem, key: str, file: Path, id: str, seconds: int) -> None:
    data = {"duration_seconds": seconds, "language": "de", "property": "berlin", "concurrent": 1}
    head = {"specversion": "1.0", "id": id, "source": "/voice", "type": "call.completed"}
    file.write_text(json.dumps({**head, "time": datetime.now(UTC).isoformat(), "data": data}))
    assert system.tallygate("send", str(file), "--wait", "30", key=key).code == 0


def _voice(system: RunningSystem) -> list[tuple[str, str]]:
    """(threshold, used), the newest first."""
    answer = system.tallygate("alerts", "thirsty").json
    return [(one["threshold"], one["used"]) for one in answer["alerts"] if one["feature"] == "voice"]


def test_shares_of_a_limit_are_listed_when_usage_comes_to_them(tmp_path: Path) -> None:
    with system_up(tmp_path / "data", "--catalog", str(ROOT / "catalog.yaml")) as system:
        assert system.tallygate("tenant", "create", "thirsty", "--plan", "starter").code == 0
        key = str(system.tallygate("key", "create", "thirsty", "--scope", "ingest,read").json["key"])
        file = tmp_path / "calls.json"
        _send(system, key, file, "a", 28_799)
        assert system.tallygate("alerts", "thirsty").json == {"tenant": "thirsty", "alerts": []}
        _send(system, key, file, "b", 1)
        wait_until(lambda: _voice(system) == [("0.8", "28800")], timeout=20, what="the first share")
        _send(system, key, file, "b", 1)
        _send(system, key, file, "c", 10_000)
        wait_until(lambda: _voice(system) == [("1", "38800"), ("0.8", "28800")], timeout=20, what="the whole limit")
