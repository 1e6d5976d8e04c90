"""Each verb against a real system, as a user types it."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.e2e.system import ROOT, RunningSystem, run_tallygate, system_up
from tests.support import wait_until


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSystem]:
    with system_up(tmp_path_factory.mktemp("system") / "data", "--catalog", str(ROOT / "catalog.yaml")) as running:
        yield running


def _tenant(system: RunningSystem, name: str, plan: str = "starter") -> str:
    """A new tenant's key."""
    made = system.tallygate("tenant", "create", name, "--plan", plan)
    assert made.code == 0, made.stderr
    key = system.tallygate("key", "create", name, "--scope", "ingest,check,read")
    assert key.code == 0, key.stderr
    return str(key.json["key"])


def _call(number: int, seconds: object = 60) -> dict[str, object]:
    return {
        "specversion": "1.0",
        "id": f"call-{number}",
        "source": "/voice",
        "type": "call.completed",
        "time": datetime.now(UTC).isoformat(),
        "data": {"duration_seconds": seconds, "language": "de", "property": "berlin", "concurrent": 1},
    }


def test_status_says_what_up_said_and_that_all_are_ready(system: RunningSystem) -> None:
    status = system.tallygate("status")

    assert status.code == 0
    for name in ("ready", "ingest", "gate", "console", "clickhouse", "redis", "kafka", "admin_key", "processes"):
        assert status.json[name] == system.ready[name]
    assert set(system.ready["processes"]) == {
        "kafka",
        "clickhouse",
        "redis",
        "streams-0",
        "gate-0",
        "console",
        "ingest-0",
    }
    wait_until(lambda: system.tallygate("status").json["lag"] == 0, timeout=20, what="nothing left to apply")
    state = system.data_dir / "tallygate.json"
    assert state.stat().st_mode & 0o777 == 0o600


def test_usage_up_to_a_hard_limit_turns_the_gates_yes_into_no(system: RunningSystem, tmp_path: Path) -> None:
    key = _tenant(system, "limit")
    wait_until(lambda: system.tallygate("check", "limit", "voice", key=key).code == 0, timeout=15)
    calls = tmp_path / "calls.json"
    calls.write_text(json.dumps([_call(number, "3599.999") for number in range(10)], indent=2))

    assert system.tallygate("send", str(calls), "--wait", "30", key=key).code == 0

    def denied() -> bool:
        return system.tallygate("check", "limit", "voice", key=key).code == 1

    wait_until(denied, timeout=10)
    answer = system.tallygate("check", "limit", "voice", key=key).json
    assert (answer["used"], answer["limit"], answer["remaining"]) == ("35999.99", "36000", "0.01")
    assert system.tallygate("check", "limit", "voice", "--amount", "0.01", key=key).code == 0
    counters = system.tallygate("usage", "limit", "--meter", "voice_seconds", "--source", "counters", key=key).json
    assert counters["meters"]["voice_seconds"]["total"] == "35999.99"


def test_a_grant_adds_to_the_limit_until_it_is_ended(system: RunningSystem) -> None:
    key = _tenant(system, "granted")

    def limit_is(wanted: str) -> bool:
        return bool(system.tallygate("check", "granted", "voice", key=key).json["limit"] == wanted)

    wait_until(lambda: limit_is("36000"), timeout=15)
    assert system.tallygate("grant", "create", "granted", "voice", "64.5", "--rollover", "none", "--id", "x").code == 0
    wait_until(lambda: limit_is("36064.5"), timeout=5)
    (listed,) = system.tallygate("grant", "list", "granted").json["grants"]
    assert (listed["id"], listed["amount"], listed["left"], listed["rollover"]) == ("x", "64.5", "64.5", "0")
    assert system.tallygate("grant", "create", "granted", "voice", "7", "--id", "x").code == 2
    assert system.tallygate("grant", "end", "granted", "x").code == 0
    wait_until(lambda: limit_is("36000"), timeout=5)


def test_bad_events_are_listed_and_the_good_ones_counted(system: RunningSystem, tmp_path: Path) -> None:
    key = _tenant(system, "mixed")
    lines = [json.dumps(_call(1)), '{"specversion":', json.dumps(_call(2, -5)), json.dumps(_call(3))]
    file = tmp_path / "mixed.ndjson.gz"
    file.write_bytes(gzip.compress("\n".join(lines).encode()))

    sent = system.tallygate("send", str(file), "--wait", "30", key=key)

    assert sent.code == 1
    assert (sent.json["sent"], sent.json["accepted"], sent.json["rejected"]) == (4, 2, 2)
    assert [(error["index"], error["code"]) for error in sent.json["errors"]] == [
        (1, "invalid-json"),
        (2, "negative"),
    ]
    usage = system.tallygate("usage", "mixed", "--meter", "voice_calls", key=key).json
    assert usage["meters"]["voice_calls"]["total"] == "2"


def test_a_send_that_was_killed_goes_on_and_every_event_counts_once(system: RunningSystem, tmp_path: Path) -> None:
    key = _tenant(system, "resumed", "enterprise")
    count = 60_000
    file = tmp_path / "many.ndjson"
    file.write_text("\n".join(json.dumps(_call(number, 1)) for number in range(count)))
    command = [sys.executable, "-m", "cli", "send", str(file), "--data-dir", str(system.data_dir), "--json"]
    sending = subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "TALLYGATE_KEY": key}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    wait_until(lambda: list((system.data_dir / "sends").glob("*.json")) or sending.poll() is not None, timeout=60)
    assert sending.poll() is None, "it was through before it could be killed"
    sending.kill()
    sending.communicate()

    sent = system.tallygate("send", str(file), "--wait", "60", key=key)

    assert sent.code == 0, sent.stderr
    assert "going on after" in sent.stderr
    assert (sent.json["sent"], sent.json["accepted"]) == (count, count)
    usage = system.tallygate("usage", "resumed", "--meter", "voice_seconds", key=key).json
    assert usage["events"] == count
    assert usage["meters"]["voice_seconds"]["total"] == str(count)


def test_keys_are_listed_without_secrets_and_a_revoked_one_soon_opens_nothing(system: RunningSystem) -> None:
    key = _tenant(system, "keys")
    (listed,) = system.tallygate("key", "list", "keys").json["keys"]
    assert listed["scopes"] == ["check", "ingest", "read"]
    assert key not in json.dumps(listed)

    assert system.tallygate("key", "revoke", "keys", listed["id"]).code == 0

    wait_until(lambda: system.tallygate("usage", "keys", key=key).code == 2, timeout=10, what="the key refused")


def test_another_tenants_things_look_like_things_that_do_not_exist(system: RunningSystem) -> None:
    key = _tenant(system, "curious")
    _tenant(system, "private")

    theirs = system.tallygate("usage", "private", key=key)
    nobodys = system.tallygate("usage", "nobody", key=key)

    assert theirs.code == nobodys.code == 2
    assert theirs.stderr.replace("private", "X") == nobodys.stderr.replace("nobody", "X")


def test_the_catalog_is_shown_and_a_new_version_applied_whole(system: RunningSystem, tmp_path: Path) -> None:
    before = system.tallygate("catalog", "show").json
    file = tmp_path / "catalog.yaml"
    file.write_text(
        (ROOT / "catalog.yaml").read_text().replace("max-upload-mb: {value: 20}", "max-upload-mb: {value: 25}")
    )

    applied = system.tallygate("catalog", "apply", str(file))

    assert applied.code == 0
    assert applied.json["version"] == before["version"] + 1
    after = system.tallygate("catalog", "show").json
    assert after["catalog"]["plans"]["starter"]["entitlements"]["max-upload-mb"]["value"] == 25


def test_from_elsewhere_the_console_s_url_and_a_key_are_enough(system: RunningSystem, tmp_path: Path) -> None:
    key = _tenant(system, "far-away")
    environment = {**os.environ, "TALLYGATE_URL": system.ready["console"], "TALLYGATE_KEY": key}
    file = tmp_path / "one.json"
    file.write_text(json.dumps(_call(1)))

    def far(*arguments: str) -> int:
        return run_tallygate(*arguments, environment=environment).code

    assert far("send", str(file), "--wait", "30") == 0
    assert far("usage", "far-away") == 0
    assert far("status") == 0
    wait_until(lambda: far("check", "far-away", "voice") == 0, timeout=15)


def test_a_second_system_on_the_same_directory_is_refused(system: RunningSystem) -> None:
    second = run_tallygate("up", "--ports", "auto", "--data-dir", str(system.data_dir))

    assert second.code == 2
    assert "already runs" in second.stderr


def test_what_the_gate_decided_is_counted(system: RunningSystem) -> None:
    key = _tenant(system, "asker")
    for feature, times in (("voice-cloning", 3), ("max-upload-mb", 2), ("teleport", 1)):
        for _ in range(times):
            system.tallygate("check", "asker", feature, key=key)

    def counted() -> bool:
        answer = system.tallygate("decisions", "asker", "--window", "hour", key=key)
        assert answer.code == 0, answer.stderr
        found = {(row["feature"], row["allowed"], row["reason"]): row["checks"] for row in answer.json["rows"]}
        return found == {
            ("voice-cloning", False, "not-entitled"): 3,
            ("max-upload-mb", True, "granted"): 2,
            ("", False, "unknown-feature"): 1,
        }

    wait_until(counted, timeout=30, what="six checks by feature and reason")
    (cloning,) = system.tallygate("decisions", "asker", "--feature", "voice-cloning", key=key).json["rows"]
    assert cloning["checks"] == 3
    assert system.tallygate("decisions", "nobody").code != 0
