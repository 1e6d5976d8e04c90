"""A void takes an event back from every total, as a user does it and as a service does it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.system import ROOT, RunningSystem, system_up
from tests.support import wait_until


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSystem]:
    with system_up(tmp_path_factory.mktemp("voids") / "data", "--catalog", str(ROOT / "catalog.yaml")) as running:
        yield running


def _tenant(system: RunningSystem, name: str) -> str:
    assert system.tallygate("tenant", "create", name, "--plan", "starter").code == 0
    return str(system.tallygate("key", "create", name, "--scope", "ingest,check,read,void").json["key"])


def _call(id: str, seconds: int, source: str = "/voice", language: str = "de", age: int = 0) -> dict[str, Any]:
    at = datetime.now(UTC) - timedelta(hours=age)
    data = {"duration_seconds": seconds, "language": language, "property": "berlin", "concurrent": seconds}
    head = {"specversion": "1.0", "id": id, "source": source, "type": "call.completed", "time": at.isoformat()}
    return {**head, "data": data}


def _send(system: RunningSystem, key: str, folder: Path, *events: dict[str, Any]) -> None:
    file = folder / f"{events[0]['id']}-{events[0]['source'].strip('/')}.ndjson"
    file.write_text("\n".join(json.dumps(event) for event in events))
    assert system.tallygate("send", str(file), "--wait", "30", key=key).code == 0


def _totals(system: RunningSystem, tenant: str, key: str) -> dict[str, tuple[Any, Any]]:
    """Meter → total by the ledger, total by the counters."""
    ledger, counters = (
        system.tallygate("usage", tenant, "--source", source, key=key).json["meters"]
        for source in ("ledger", "counters")
    )
    return {name: (ledger[name]["total"], counter["total"]) for name, counter in counters.items()}


def test_a_voided_event_leaves_every_total_and_repeating_it_changes_nothing(
    system: RunningSystem, tmp_path: Path
) -> None:
    key = _tenant(system, "corrected")
    _send(system, key, tmp_path, _call("a", 60), _call("b", 300, language="ja"), _call("c", 5))
    before = _totals(system, "corrected", key)
    assert before["voice_seconds"] == ("365", "365")

    for _ in range(2):
        voided = system.tallygate("void", "corrected", "b", "--reason", "test call", key=key)
        assert voided.code == 0, voided.stderr

    def gone() -> bool:
        return _totals(system, "corrected", key)["voice_seconds"] == ("65", "65")

    wait_until(gone, timeout=20)
    after = _totals(system, "corrected", key)
    assert all(ledger == counter for ledger, counter in after.values()), after
    assert after["voice_calls"] == ("2", "2")
    assert after["voice_languages"] == ("1", "1")
    _send(system, key, tmp_path, _call("b", 300, language="ja", age=1))
    assert _totals(system, "corrected", key) == after


def test_an_event_may_be_voided_before_it_comes(system: RunningSystem, tmp_path: Path) -> None:
    key = _tenant(system, "forewarned")
    assert system.tallygate("void", "forewarned", "later", "--source", "/voice").code == 0  # with the admin's key
    _send(system, key, tmp_path, _call("later", 60), _call("other", 7))
    assert _totals(system, "forewarned", key)["voice_seconds"] == ("7", "7")


def test_what_is_not_one_event_is_refused_with_what_it_could_be(system: RunningSystem, tmp_path: Path) -> None:
    key = _tenant(system, "ambiguous")
    _send(system, key, tmp_path, _call("same", 1), _call("same", 2, source="/desk"))

    several = system.tallygate("void", "ambiguous", "same", key=key)
    assert several.code == 2
    assert "name one by `source` and `time`" in several.stderr
    assert system.tallygate("void", "ambiguous", "nobody", key=key).code == 2
    assert system.tallygate("void", "ambiguous", "same", "--source", "/desk", key=key).code == 0
    wait_until(lambda: _totals(system, "ambiguous", key)["voice_seconds"] == ("1", "1"), timeout=20)


def test_a_void_cannot_be_voided(system: RunningSystem, tmp_path: Path) -> None:
    key = _tenant(system, "final")
    _send(system, key, tmp_path, _call("x", 9))
    made = system.tallygate("void", "final", "x", key=key).json["void"]
    wait_until(lambda: _totals(system, "final", key)["voice_seconds"] == ("0", "0"), timeout=20)
    again = system.tallygate("void", "final", made, key=key)
    assert again.code == 2
    assert "can't be voided" in again.stderr


def test_a_key_without_the_scope_voids_nothing(system: RunningSystem, tmp_path: Path) -> None:
    key = _tenant(system, "guarded")
    _send(system, key, tmp_path, _call("x", 9))
    plain = system.tallygate("key", "create", "guarded", "--scope", "ingest,read").json["key"]
    assert system.tallygate("void", "guarded", "x", key=plain).code == 2
    other = _tenant(system, "stranger")
    assert system.tallygate("void", "guarded", "x", key=other).code == 2
    assert _totals(system, "guarded", key)["voice_seconds"] == ("9", "9")
