"""What could not be counted is found, put right and counted; and every event can be traced, as a user does both."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from metering import topics
from metering.partition import partition_of
from tests.e2e.system import ROOT, RunningSystem, system_up
from tests.support import eventually, wait_until

PARTITIONS = 8


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSystem]:
    with system_up(tmp_path_factory.mktemp("letters") / "data", "--catalog", str(ROOT / "catalog.yaml")) as running:
        yield running


def _tenant(system: RunningSystem, name: str) -> str:
    assert system.tallygate("tenant", "create", name, "--plan", "starter").code == 0
    return str(system.tallygate("key", "create", name, "--scope", "ingest,read,void,admin").json["key"])


def _call(id: str, seconds: Any, **more: Any) -> dict[str, Any]:
    data = {"duration_seconds": seconds, "language": "de", "property": "berlin", "concurrent": 1}
    return {"specversion": "1.0", "id": id, "source": "/voice", "type": "call.completed", "data": data, **more}


async def _produce(system: RunningSystem, tenant: str, value: bytes) -> None:
    """As a foreign producer does, past the gateway and its judgement."""
    producer = AIOKafkaProducer(bootstrap_servers=system.ready["kafka"], acks="all", enable_idempotence=False)
    await producer.start()
    try:
        await producer.send_and_wait(
            topics.events(1), value, key=tenant.encode(), partition=partition_of(tenant, PARTITIONS)
        )
    finally:
        await producer.stop()


def _send(system: RunningSystem, key: str, folder: Path, *events: dict[str, Any]) -> None:
    file = folder / f"{events[0]['id']}.ndjson"
    file.write_text("\n".join(json.dumps(event) for event in events))
    assert system.tallygate("send", str(file), "--wait", "30", key=key).code == 0


def _seconds(system: RunningSystem, tenant: str, key: str) -> str:
    meters = system.tallygate("usage", tenant, "--meter", "voice_seconds", key=key).json["meters"]
    return str(meters["voice_seconds"]["total"])


async def test_a_dead_letter_is_put_right_and_counts_once(system: RunningSystem, tmp_path: Path) -> None:
    key, other = _tenant(system, "careless"), _tenant(system, "neighbour")
    await _produce(system, "careless", json.dumps(_call("bad", -5)).encode())
    await _produce(system, "careless", json.dumps(_call("worse", "many")).encode())

    def listed() -> list[dict[str, Any]]:
        letters: list[dict[str, Any]] = system.tallygate("dead", "list", key=key).json["letters"]
        return letters if len(letters) == 2 else []

    worse, bad = await eventually(listed, timeout=30)
    assert json.loads(bad["payload"])["id"] == "bad"
    assert system.tallygate("dead", "show", bad["id"], key=key).json["detail"] == bad["detail"]
    first = system.tallygate("dead", "list", "--limit", "1", key=key).json["letters"]
    assert [letter["id"] for letter in first] == [worse["id"]]
    for command in ("show", "replay", "drop"):
        assert system.tallygate("dead", command, bad["id"], key=other).code == 2

    refused = system.tallygate("dead", "replay", bad["id"], key=key)
    assert refused.code == 2 and "negative" in refused.stderr
    assert len(listed()) == 2
    right = tmp_path / "right.json"
    right.write_text(json.dumps(_call("bad", 5)))
    for _ in range(2):
        assert system.tallygate("dead", "replay", bad["id"], "--file", str(right), key=key).code == 0
    wait_until(lambda: _seconds(system, "careless", key) == "5", timeout=20)

    assert system.tallygate("dead", "drop", worse["id"], key=key).code == 0
    assert system.tallygate("dead", "list", key=key).json["letters"] == []
    done = system.tallygate("dead", "list", "--all", key=key).json["letters"]
    assert [letter["done"]["action"] for letter in done] == ["dropped", "replayed"]
    traced = system.tallygate("trace", "careless", "bad", key=key).json
    assert [event["status"] for event in traced["events"]] == ["counted"]
    assert [letter["letter"] for letter in traced["dead"]] == [bad["id"]]


async def test_a_letter_of_a_whole_record_is_replayed_as_all_its_events(system: RunningSystem) -> None:
    key = _tenant(system, "misrouted")
    lines = b"\n".join(json.dumps(_call(f"m-{number}", 10)).encode() for number in range(3))
    producer = AIOKafkaProducer(bootstrap_servers=system.ready["kafka"], acks="all", enable_idempotence=False)
    await producer.start()
    wrong = (partition_of("misrouted", PARTITIONS) + 1) % PARTITIONS
    await producer.send_and_wait(topics.events(1), lines, key=b"misrouted", partition=wrong)
    await producer.stop()

    def listed() -> Any:
        return system.tallygate("dead", "list", "--tenant", "misrouted").json["letters"]

    (letter,) = await eventually(listed, timeout=30)
    assert (letter["reason"], letter["position"]["line"]) == ("wrong-partition", None)
    assert system.tallygate("dead", "replay", letter["id"]).json["accepted"] == 3  # with the admin's key
    wait_until(lambda: _seconds(system, "misrouted", key) == "30", timeout=20)


def test_an_event_is_traced_from_its_position_to_its_void(system: RunningSystem, tmp_path: Path) -> None:
    key, other = _tenant(system, "curious"), _tenant(system, "stranger")
    _send(system, key, tmp_path, _call("kept", 60), _call("taken", 7), _call("plain", 1, type="unknown.type"))
    assert system.tallygate("void", "curious", "taken", key=key).code == 0
    assert system.tallygate("void", "curious", "to-come", "--source", "/voice", key=key).code == 0
    wait_until(lambda: _seconds(system, "curious", key) == "60", timeout=20)

    (kept,) = system.tallygate("trace", "curious", "kept", "--source", "/voice", key=key).json["events"]
    assert kept["quantities"]["voice_seconds"] == "60" and kept["dimensions"]["language"] == "de"
    assert (kept["status"], kept["voided"], kept["reported"]) == ("counted", None, None)
    assert kept["window"]["included"] is False
    answer = system.tallygate("trace", "curious", "taken", key=key).json
    (taken,), (void,) = answer["events"], answer["voids"]
    assert (taken["status"], taken["voided"]["by"]["id"]) == ("voided", void["id"])
    assert void["names"] == {"id": "taken", "source": "/voice", "hour": None}
    (itself,) = system.tallygate("trace", "curious", void["id"], key=key).json["events"]
    assert (itself["status"], itself["voids"]["id"]) == ("void", "taken")
    (plain,) = system.tallygate("trace", "curious", "plain", key=key).json["events"]
    assert (plain["status"], plain["quantities"]) == ("counted", {})
    awaited = system.tallygate("trace", "curious", "to-come", key=key).json
    assert (awaited["events"], [void["names"]["id"] for void in awaited["voids"]]) == ([], ["to-come"])
    _send(system, key, tmp_path, _call("to-come", 9))
    (late,) = system.tallygate("trace", "curious", "to-come", key=key).json["events"]
    assert late["voided"]["when"] == "on arrival"
    assert system.tallygate("trace", "curious", "never", key=key).code == 2
    assert system.tallygate("trace", "curious", "kept", key=other).code == 2
