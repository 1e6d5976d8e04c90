from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cli.main import run
from cli.system import System, find_system
from metering.clock import DAY_MS, SystemClock, parse_iso

from .conftest import FakeSystem

ALLOWED: dict[str, Any] = {
    "allowed": True,
    "reason": "within-limit",
    "feature": "voice",
    "used": "1200",
    "limit": "36000",
    "remaining": "34800",
    "resets_at": "2026-12-01T00:00:00Z",
    "source": "redis",
    "as_of": "2026-11-23T10:00:00Z",
}


def test_check_answers_0_for_yes(system: FakeSystem, capsys: pytest.CaptureFixture[str]) -> None:
    system.on("POST", "/v1/check", ALLOWED)

    assert run(["check", "adler", "voice", "--amount", "300", "--data-dir", "."]) == 0

    assert json.loads(system.asked[0].body) == {"tenant": "adler", "feature": "voice", "amount": 300}
    assert system.asked[0].headers["Authorization"] == "Bearer tg_admin"
    out = capsys.readouterr().out
    assert "allowed" in out and "1,200 of 36,000" in out


def test_check_answers_1_for_no_and_prints_the_answer(system: FakeSystem, capsys: pytest.CaptureFixture[str]) -> None:
    denied = {**ALLOWED, "allowed": False, "reason": "limit-reached"}
    system.on("POST", "/v1/check", denied)

    assert run(["check", "adler", "voice", "--data-dir", ".", "--json"]) == 1

    assert json.loads(capsys.readouterr().out) == denied


def test_fractional_amounts_stay_exact(system: FakeSystem) -> None:
    system.on("POST", "/v1/check", ALLOWED)

    run(["check", "adler", "voice", "--amount", "0.1", "--data-dir", "."])

    assert json.loads(system.asked[0].body)["amount"] == "0.1"


def test_nothing_running_is_3_and_says_what_to_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("TALLYGATE_URL", raising=False)

    assert run(["check", "adler", "voice", "--data-dir", str(tmp_path / "nothing")]) == 3

    assert "tallygate up" in capsys.readouterr().err


def test_a_system_that_was_stopped_is_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _state(tmp_path, ready=False)

    assert run(["tenant", "list", "--data-dir", str(tmp_path)]) == 3

    assert "stopped, or not ready yet" in capsys.readouterr().err


def test_a_system_that_does_not_answer_is_3(system: FakeSystem, capsys: pytest.CaptureFixture[str]) -> None:
    system.silent("GET", "/v1/tenants")

    assert run(["tenant", "list", "--data-dir", ".", "--json"]) == 3

    captured = capsys.readouterr()
    assert captured.out == ""
    assert "does not answer" in json.loads(captured.err)["error"]


@pytest.mark.parametrize("arguments", [["check"], ["check", "a"], ["nonsense"], ["usage", "a", "--source", "stars"]])
def test_wrong_use_is_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2


def test_a_refusal_is_2_with_every_detail(system: FakeSystem, capsys: pytest.CaptureFixture[str]) -> None:
    problem = {"detail": "no such plan", "errors": [{"path": "plan", "detail": "known: starter [old]"}]}
    system.on("POST", "/v1/tenants", problem, 422)

    assert run(["tenant", "create", "adler", "--plan", "x", "--data-dir", "."]) == 2

    err = capsys.readouterr().err
    assert "no such plan" in err and "plan: known: starter [old]" in err


def test_a_busy_console_is_asked_again(
    system: FakeSystem, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    system.on("GET", "/v1/tenants", {"detail": "later"}, 503)
    system.on("GET", "/v1/tenants", {"tenants": [{"name": "adler", "plan": "starter", "status": "active"}]})

    assert run(["tenant", "list", "--data-dir", "."]) == 0

    assert "adler" in capsys.readouterr().out


def test_usage_asks_for_what_was_named_and_shows_groups(system: FakeSystem, capsys: pytest.CaptureFixture[str]) -> None:
    answer = {
        "tenant": "adler",
        "events": 3,
        "duplicates": 1,
        "dead": 0,
        "meters": {"voice_seconds": {"total": "12345.678", "groups": {"de": "12000", "": "345.678"}}},
    }
    system.on("GET", "/v1/usage", answer)

    code = run(
        [
            "usage",
            "adler",
            "--meter",
            "voice_seconds",
            "--group-by",
            "language",
            "--from",
            "2026-11-01T00:00:00Z",
            "--data-dir",
            ".",
        ]
    )

    assert code == 0
    assert system.asked[0].url == (
        "http://console/v1/usage?tenant=adler&meter=voice_seconds&from=2026-11-01T00%3A00%3A00Z"
        "&group_by=language&source=ledger"
    )
    out = capsys.readouterr().out
    assert "12,345.678" in out and "345.678" in out and "1 duplicates" in out


def test_usage_by_window_asks_for_page_after_page_and_shows_what_is_open(
    system: FakeSystem, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"meter": "voice_seconds", "from": "2026-10-25T00:00:00.000+02:00", "to": "…", "clock": None}
    head = {"tenant": "adler", "window": "day", "tz": "Europe/Berlin"}
    first, second = row | {"total": "12345.5", "sealed": True}, row | {"total": None, "sealed": False}
    for page in ({"rows": [first], "next": "more"}, {"rows": [second], "next": None}) * 2:
        system.on("GET", "/v1/usage", head | page)
    command = ["usage", "adler", "--window", "day", "--tz", "Europe/Berlin", "--from", "2026-10-25T00:00:00Z"]
    command += ["--filter", "language=de", "--filter", "language=a=b", "--subject", "room 7", "--data-dir", "."]

    assert run(command) == 0

    base = (
        "http://console/v1/usage?tenant=adler&limit=1000{}&from=2026-10-25T00%3A00%3A00Z&source=ledger"
        "&subject=room+7&window=day&tz=Europe%2FBerlin&filter%5Blanguage%5D=de&filter%5Blanguage%5D=a%3Db"
    )
    assert [asked.url for asked in system.asked] == [base.format(""), base.format("&cursor=more")]
    out = capsys.readouterr().out
    assert "12,345.5" in out and out.count("open") == 1
    assert run([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == head | {"rows": [first, second]}


def test_a_filter_without_a_value_is_wrong_use(system: FakeSystem) -> None:
    assert run(["usage", "adler", "--filter", "language", "--data-dir", "."]) == 2
    assert not system.asked


def test_keys_are_made_with_their_scopes_and_revoked_by_id(
    system: FakeSystem, capsys: pytest.CaptureFixture[str]
) -> None:
    system.on("POST", "/v1/tenants/adler/keys", {"key": "tg_text", "id": "abc", "scopes": ["ingest", "read"]}, 201)
    system.on("DELETE", "/v1/tenants/adler/keys/abc", status=204)

    assert run(["key", "create", "adler", "--scope", "ingest, read", "--data-dir", "."]) == 0
    assert run(["key", "revoke", "adler", "abc", "--data-dir", "."]) == 0

    assert json.loads(system.asked[0].body) == {"scopes": ["ingest", "read"]}
    assert "tg_text" in capsys.readouterr().out


def test_a_bad_catalog_never_leaves_and_every_mistake_is_listed(
    system: FakeSystem, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "catalog.yaml"
    file.write_text("meters: {m: {event: e, aggregation: mode}}\nfeatures: {f: {meter: nowhere}}\n")

    assert run(["catalog", "apply", str(file), "--data-dir", "."]) == 2

    err = capsys.readouterr().err
    assert "meters.m.aggregation" in err and "features.f.meter" in err
    assert system.asked == []


def test_a_good_catalog_is_applied_as_it_is_written(
    system: FakeSystem, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "catalog.yaml"
    file.write_text("# mine\nmeters: {m: {event: e, aggregation: count}}\n")
    system.on("PUT", "/v1/catalog", {"version": 4, "effective_from": "2026-11-23T10:00:00Z"})

    assert run(["catalog", "apply", str(file), "--data-dir", "."]) == 0

    assert system.asked[0].body == file.read_bytes()
    assert "version 4" in capsys.readouterr().out


def _state(path: Path, ready: bool = True) -> None:
    state = {"ready": ready, "console": "http://c/", "ingest": "http://i", "gate": "http://g", "admin_key": "stored"}
    (path / "tallygate.json").write_bytes(msgspec.json.encode(state))


def test_a_named_data_directory_wins_over_the_environment(tmp_path: Path) -> None:
    _state(tmp_path)

    found = find_system(tmp_path, {"TALLYGATE_URL": "http://elsewhere", "TALLYGATE_KEY": "mine"})

    assert found == System("http://c", "mine", "http://i", "http://g")


def test_a_stored_key_never_goes_to_an_address_from_the_environment(
    system: FakeSystem, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TALLYGATE_URL", "http://elsewhere")

    assert run(["tenant", "list"]) == 2

    assert system.asked == []
    assert "TALLYGATE_KEY" in capsys.readouterr().err


def test_help_teaches_with_examples(capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["up"], ["send"], ["usage"], ["check"], ["key", "create"], ["catalog", "apply"], ["migrate"]):
        assert run([*command, "--help"]) == 0
        out = capsys.readouterr().out
        assert "Examples" in out and f"tallygate {' '.join(command)}" in out


def test_alerts_are_listed_with_what_was_used_of_which_limit(
    system: FakeSystem, capsys: pytest.CaptureFixture[str]
) -> None:
    alert = {
        "id": "7f",
        "feature": "voice",
        "meter": "voice_seconds",
        "period": "month",
        "from": "2026-11-01T00:00:00.000Z",
        "to": "2026-12-01T00:00:00.000Z",
        "threshold": "0.8",
        "limit": "36000",
        "used": "28812.5",
        "at": "2026-11-23T10:00:00.000Z",
    }
    system.on("GET", "/v1/alerts", {"tenant": "adler", "alerts": [alert]})
    system.on("GET", "/v1/alerts", {"tenant": "adler", "alerts": []})

    assert run(["alerts", "adler", "--limit", "7", "--data-dir", "."]) == 0

    assert system.asked[0].url == "http://console/v1/alerts?tenant=adler&limit=7"
    out = capsys.readouterr().out
    assert all(text in out for text in ("voice", "0.8", "28,812.5", "36,000", "month", "2026-11-01"))
    assert run(["alerts", "adler", "--data-dir", "."]) == 0
    assert "alert_at" in capsys.readouterr().out


@pytest.mark.parametrize(("text", "days"), [("90", 90), ("default", None)])
def test_a_tenants_payloads_are_kept_as_long_as_it_is_told(system: FakeSystem, text: str, days: int | None) -> None:
    system.on("PUT", "/v1/tenants/adler/retention", {"name": "adler", "payload_days": days})

    assert run(["tenant", "update", "adler", "--payload-days", text, "--data-dir", "."]) == 0

    assert json.loads(system.asked[0].body) == {"payload_days": days}


def test_days_that_are_no_number_are_wrong_use(system: FakeSystem) -> None:
    assert run(["tenant", "update", "adler", "--payload-days", "many", "--data-dir", "."]) == 2
    assert system.asked == []


def test_a_grant_is_asked_for_in_the_api_s_words(system: FakeSystem, capsys: pytest.CaptureFixture[str]) -> None:
    system.on("POST", "/v1/tenants/adler/grants", {"id": "x", "amount": "64.5"})

    arguments = ["--rollover", "none", "--priority", "5", "--id", "x", "--data-dir", "."]
    assert run(["grant", "create", "adler", "voice", "64.5", *arguments]) == 0

    wanted = {"feature": "voice", "amount": "64.5", "priority": 5, "rollover": "0", "id": "x"}
    assert json.loads(system.asked[0].body) == wanted
    assert "64.5 more of voice" in capsys.readouterr().out


def test_a_trial_ends_so_many_days_from_now_and_is_one_of_a_plan(system: FakeSystem) -> None:
    system.on("POST", "/v1/tenants", {"name": "adler"})
    before = SystemClock().now_ms()

    assert run(["tenant", "create", "adler", "--plan", "starter", "--trial-days", "14", "--data-dir", "."]) == 0
    assert run(["tenant", "create", "adler", "--trial-days", "14", "--data-dir", "."]) == 2

    ends = parse_iso(json.loads(system.asked[0].body)["trial_ends"])
    assert before + 14 * DAY_MS <= ends <= SystemClock().now_ms() + 14 * DAY_MS
