from __future__ import annotations

import asyncio
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cli import send as send_verb
from cli.errors import CommandError
from cli.events_file import EventsFile
from cli.main import run
from cli.send_journal import Journal
from ingest.client.sender import Receipt, Sender
from ingest.client.transport import Reply
from tests.support import eventually

from .conftest import Asked, FakeSystem


def _gateway(asked: Asked) -> Reply:
    """Accepts all but lines with `bad`."""
    events = asked.body.split(b"\n")
    errors = [
        {"index": index, "id": None, "code": "invalid-json", "detail": "not [JSON]"}
        for index, event in enumerate(events)
        if b"bad" in event
    ]
    body = {
        "accepted": len(events) - len(errors),
        "rejected": len(errors),
        "errors": errors,
        "positions": [[0, len(events)]],
    }
    return Reply(202, {}, json.dumps(body).encode())


def _sent(system: FakeSystem) -> list[bytes]:
    return [line for asked in system.asked if asked.method == "POST" for line in asked.body.split(b"\n")]


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(send_verb, "BATCH_EVENTS", 4)
    path = tmp_path / "events.ndjson"
    path.write_bytes(b"\n".join(b'{"id":"%d"}' % number for number in range(10)))
    return path


def test_a_file_is_sent_and_the_result_says_so(
    system: FakeSystem, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    system.on("GET", "/v1/applied", {"epoch": 1, "partitions": {}})
    system.call("POST", "/v1/events", _gateway)

    code = run(["send", str(file), "--data-dir", str(tmp_path), "--json"])

    assert code == 0
    assert json.loads(capsys.readouterr().out) == {"sent": 10, "accepted": 10, "rejected": 0, "errors": []}
    assert sorted(_sent(system)) == sorted(file.read_bytes().split(b"\n"))


def test_rejected_events_are_listed_by_their_place_in_the_file_and_make_it_1(
    system: FakeSystem, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    system.on("GET", "/v1/applied", {"epoch": 1, "partitions": {}})
    system.call("POST", "/v1/events", _gateway)
    file.write_bytes(file.read_bytes() + b"\nbad one")

    code = run(["send", str(file), "--data-dir", str(tmp_path), "--json"])

    result = json.loads(capsys.readouterr().out)
    assert code == 1
    assert (result["sent"], result["accepted"], result["rejected"]) == (11, 10, 1)
    assert result["errors"] == [{"index": 10, "id": None, "code": "invalid-json", "detail": "not [JSON]"}]
    assert run(["send", str(file), "--data-dir", str(tmp_path)]) == 1
    assert "event 11: invalid-json not [JSON]" in capsys.readouterr().out


def test_waiting_ends_when_every_position_is_applied(
    system: FakeSystem, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(send_verb, "POLL_SECONDS", 0)
    for applied in (-1, -1, 3, 4):
        system.on("GET", "/v1/applied", {"epoch": 1, "partitions": {"0": applied}})
    system.call("POST", "/v1/events", _gateway)

    code = run(["send", str(file), "--wait", "30", "--data-dir", str(tmp_path), "--json"])

    assert code == 0
    assert json.loads(capsys.readouterr().out)["applied"] is True
    assert len([asked for asked in system.asked if asked.method == "GET"]) == 4


def test_what_is_not_applied_in_time_makes_it_1(
    system: FakeSystem, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(send_verb, "POLL_SECONDS", 0)
    system.on("GET", "/v1/applied", {"epoch": 1, "partitions": {"0": 2}})
    system.call("POST", "/v1/events", _gateway)

    code = run(["send", str(file), "--wait", "0.01", "--data-dir", str(tmp_path), "--json"])

    assert code == 1
    assert json.loads(capsys.readouterr().out)["applied"] is False


def test_an_interrupted_send_goes_on_and_a_complete_one_begins_anew(
    system: FakeSystem, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    system.on("GET", "/v1/applied", {"epoch": 1, "partitions": {}})
    system.call(
        "POST", "/v1/events", lambda asked: _gateway(asked) if b'"8"' not in asked.body else Reply(403, {}, b"")
    )
    command = ["send", str(file), "--data-dir", str(tmp_path), "--json"]

    assert run(command) == 2
    system.answers["POST", "/v1/events"] = [_gateway]
    system.asked.clear()
    assert run(command) == 0

    assert _sent(system) == [b'{"id":"8"}', b'{"id":"9"}']
    assert json.loads(capsys.readouterr().out)["sent"] == 10
    assert list((tmp_path / "sends").iterdir()) == []
    system.asked.clear()
    assert run(command) == 0
    assert len(_sent(system)) == 10


def test_another_epoch_begins_at_the_beginning(system: FakeSystem, file: Path, tmp_path: Path) -> None:
    system.on("GET", "/v1/applied", {"epoch": 1, "partitions": {}})
    system.on("GET", "/v1/applied", {"epoch": 2, "partitions": {}})
    system.call(
        "POST", "/v1/events", lambda asked: _gateway(asked) if b'"8"' not in asked.body else Reply(403, {}, b"")
    )
    command = ["send", str(file), "--data-dir", str(tmp_path), "--json"]
    assert run(command) == 2
    system.answers["POST", "/v1/events"] = [_gateway]
    system.asked.clear()

    assert run(command) == 0

    assert len(_sent(system)) == 10


def test_long_silence_makes_it_3_and_says_that_nothing_is_lost(
    system: FakeSystem, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(send_verb, "Sender", partial(Sender, patience_seconds=0.0))
    system.on("GET", "/v1/applied", {"epoch": 1, "partitions": {}})
    system.silent("POST", "/v1/events")

    assert run(["send", str(file), "--data-dir", str(tmp_path)]) == 3
    assert "run the same command again" in " ".join(capsys.readouterr().err.split())


class Gate:
    """A sender whose batches are answered when told, in any order."""

    def __init__(self) -> None:
        self.under_way: dict[bytes, asyncio.Future[Receipt]] = {}
        self.retries = 0

    async def send(self, events: list[bytes]) -> Receipt:
        future: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        self.under_way[events[0]] = future
        return await future


async def test_several_batches_are_under_way_and_only_the_prefix_without_a_gap_is_remembered(
    file: Path, tmp_path: Path
) -> None:
    gate: Any = Gate()
    journal = Journal(tmp_path, "one")
    sending = asyncio.create_task(send_verb.send_batches(EventsFile(file), gate, journal))
    await eventually(lambda: len(gate.under_way) == 3)

    gate.under_way[b'{"id":"4"}'].set_result(Receipt(4, 0))
    await eventually(lambda: journal.waiting == 1)
    assert journal.progress.sent == 0
    gate.under_way[b'{"id":"0"}'].set_result(Receipt(4, 0))
    gate.under_way[b'{"id":"8"}'].set_exception(CommandError(3, "gone"))
    with pytest.raises(CommandError, match="gone"):
        await sending

    journal.save()
    assert Journal(tmp_path, "one").resumed_from == 8
    assert Journal(tmp_path, "another").resumed_from == 0
