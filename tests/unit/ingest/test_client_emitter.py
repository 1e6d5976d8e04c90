"""The emitter against a gateway without sockets. With a real one: tests/integration/ingest/test_emitter.py."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from ingest.client import Emitter, EmitterClosed, EmitterFull, Refusal, emitter
from ingest.client.transport import NoAnswerError, Reply
from metering.errors import InvalidEvent, Refused
from tests.support import SetClock, eventually

NOON = 1_795_435_200_000
CALL = {"type": "call.completed", "data": {"seconds": 1}}


class Gateway:
    """Takes everything but events with `"bad"`. `away` answers nothing, `denying` knows no key, `held` waits."""

    def __init__(self) -> None:
        self.away = self.denying = False
        self.requests: list[list[bytes]] = []
        self.go = asyncio.Event()
        self.go.set()

    async def request(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Reply:
        assert (method, url, headers["Authorization"]) == ("POST", "http://ingest/v1/events", "Bearer tg_x")
        lines = (body or b"").split(b"\n")
        self.requests.append(lines)
        await self.go.wait()
        if self.away:
            raise NoAnswerError("refused")
        if self.denying:
            return Reply(401, {}, b'{"type": "x/unauthorized", "detail": "unknown key"}')
        errors = [
            {"index": index, "id": None, "code": "negative", "detail": "no"}
            for index, line in enumerate(lines)
            if b'"bad"' in line
        ]
        accepted = len(lines) - len(errors)
        answer = {"accepted": accepted, "rejected": len(errors), "errors": errors, "positions": [[3, 7]], "epoch": 1}
        return Reply(202, {}, json.dumps(answer).encode())

    async def close(self) -> None:
        raise AssertionError("it was lent")

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line, parse_float=Decimal) for lines in self.requests for line in lines]


@pytest.fixture
async def gateway() -> Gateway:
    return Gateway()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emitter, "_TROUBLE_SECONDS", 0.01)


def _emitter(gateway: Gateway, **options: Any) -> Emitter:
    usual: dict[str, Any] = {"source": "/voice", "linger_seconds": 0.01, "drain_seconds": 5}
    return Emitter("http://ingest/", "tg_x", transport=gateway, **{**usual, **options})


async def test_an_event_gets_its_identity_and_its_time_when_it_is_emitted(gateway: Gateway) -> None:
    clock = SetClock(NOON)
    async with _emitter(gateway, clock=clock) as emitting:
        id = await emitting.emit({"type": "call.completed", "subject": "guest-1", "data": {"seconds": Decimal("0.10")}})
        clock.advance(60_000)
        await emitting.flush()

    assert gateway.events == [
        {
            "specversion": "1.0",
            "id": id,
            "time": "2026-11-23T12:00:00.000Z",
            "source": "/voice",
            "type": "call.completed",
            "subject": "guest-1",
            "data": {"seconds": "0.10"},
        }
    ]


async def test_what_the_event_says_goes_before_every_default(gateway: Gateway) -> None:
    own = {"id": "1", "source": "/own", "time": "2026-01-01T00:00:00Z", "type": "t"}
    async with _emitter(gateway) as emitting:
        assert await emitting.emit({**own, "subject": None}) == "1"

    assert gateway.events == [{"specversion": "1.0", **own}]


async def test_a_repeated_request_repeats_the_same_bytes(gateway: Gateway) -> None:
    gateway.away = True
    async with _emitter(gateway) as emitting:
        await emitting.emit(CALL)
        await eventually(lambda: len(gateway.requests) == 2)
        assert emitting.trouble == "http://ingest/v1/events does not answer: refused"
        gateway.away = False
        await emitting.flush()
        assert emitting.trouble is None

    assert len({line for lines in gateway.requests for line in lines}) == 1


async def test_events_travel_together_in_order_and_in_bounded_batches(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(emitter, "BATCH_EVENTS", 100)
    async with _emitter(gateway, linger_seconds=60) as emitting:
        ids = [await emitting.emit(CALL) for _ in range(250)]
        await eventually(lambda: emitting.waiting == 50, what="full batches do not linger")
        await emitting.flush()

    assert [len(lines) for lines in gateway.requests] == [100, 100, 50]
    assert [event["id"] for event in gateway.events] == ids


async def test_a_lone_event_does_not_wait_for_long(gateway: Gateway) -> None:
    async with _emitter(gateway, linger_seconds=0.05) as emitting:
        await emitting.emit(CALL)
        await emitting.emit(CALL)
        await eventually(lambda: emitting.waiting == 0, timeout=5)

    assert [len(lines) for lines in gateway.requests] == [2]


async def test_a_full_buffer_makes_emit_wait_and_then_say_so(gateway: Gateway) -> None:
    gateway.go.clear()
    async with _emitter(gateway, most_bytes=1000, full_seconds=0.05) as emitting:
        taken = 0
        with pytest.raises(EmitterFull):
            while True:
                await emitting.emit(CALL)
                taken += 1
        assert taken == emitting.waiting > 2
        gateway.go.set()
        await emitting.flush()
        await emitting.emit(CALL)

    assert len(gateway.events) == taken + 1


async def test_emit_goes_on_when_there_is_room_again(gateway: Gateway) -> None:
    gateway.go.clear()
    async with _emitter(gateway, most_bytes=1000, full_seconds=60) as emitting:

        async def emit_many() -> None:
            for _ in range(50):
                await emitting.emit(CALL)

        emitted = asyncio.create_task(emit_many())
        await eventually(lambda: gateway.requests)
        assert not emitted.done()
        gateway.go.set()
        await emitted

    assert len({event["id"] for event in gateway.events}) == 50


async def test_a_refused_event_is_reported_and_holds_nothing_up(gateway: Gateway) -> None:
    refused: list[Refusal] = []

    def failing(refusal: Refusal) -> None:
        refused.append(refusal)
        raise RuntimeError("not my day")

    async with _emitter(gateway, on_refused=failing) as emitting:
        for type in ("good", "bad", "good", "bad", "good"):
            await emitting.emit({"type": type})
        await emitting.flush()
        assert emitting.waiting == 0
        assert emitting.positions == {3: 7}

    assert len(gateway.events) == 5
    assert [(json.loads(refusal.event)["type"], refusal.code, refusal.detail) for refusal in refused] == [
        ("bad", "negative", "no")
    ] * 2


async def test_a_refused_event_is_logged_whole_where_nobody_asked_for_it(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        async with _emitter(gateway) as emitting:
            id = await emitting.emit({"type": "bad"})

    assert "negative" in caplog.text and id in caplog.text


async def test_while_the_key_is_refused_events_wait_and_the_trouble_is_said_once(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    gateway.denying = True
    with caplog.at_level(logging.WARNING):
        async with _emitter(gateway) as emitting:
            await emitting.emit(CALL)
            await eventually(lambda: len(gateway.requests) == 3)
            assert emitting.waiting == 1
            assert "answered 401: unknown key" in str(emitting.trouble)
            gateway.denying = False
            await emitting.flush()
            assert (emitting.waiting, emitting.trouble) == (0, None)

    assert caplog.text.count("have to wait") == 1


async def test_closing_sends_what_waits(gateway: Gateway) -> None:
    emitting = await _emitter(gateway, linger_seconds=60).open()
    for _ in range(3):
        await emitting.emit(CALL)

    assert await emitting.close() == 0
    assert len(gateway.events) == 3


async def test_closing_gives_up_after_a_while_and_says_what_is_lost(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    gateway.away = True
    emitting = await _emitter(gateway, drain_seconds=0.05).open()
    await emitting.emit(CALL)
    flushing = asyncio.create_task(emitting.flush())
    await eventually(lambda: gateway.requests)
    with caplog.at_level(logging.WARNING):
        assert await emitting.close() == 1

    assert "1 usage events were not sent and are lost" in caplog.text
    with pytest.raises(EmitterClosed, match="refused"):
        await flushing
    with pytest.raises(EmitterClosed):
        await emitting.emit(CALL)


async def test_who_waits_for_room_is_told_that_the_emitter_closes(gateway: Gateway) -> None:
    gateway.go.clear()
    emitting = await _emitter(gateway, most_bytes=200, full_seconds=60, drain_seconds=0).open()
    await emitting.emit(CALL)
    stuck = asyncio.create_task(emitting.emit(CALL))
    await eventually(lambda: gateway.requests)
    await emitting.close()

    with pytest.raises(EmitterClosed):
        await stuck


async def test_an_emitter_that_was_not_opened_takes_nothing(gateway: Gateway) -> None:
    with pytest.raises(EmitterClosed):
        await _emitter(gateway).emit(CALL)


async def test_what_a_spool_holds_goes_out_with_the_next_emitter(gateway: Gateway, tmp_path: Path) -> None:
    gateway.away = True
    first = await _emitter(gateway, spool=tmp_path, drain_seconds=0).open()
    ids = [await first.emit({"type": type}) for type in ("good", "bad")]
    assert await first.close() == 2
    gateway.away = False
    gateway.requests.clear()

    async with _emitter(gateway, spool=str(tmp_path)) as second:
        assert second.waiting == 2
        ids.append(await second.emit(CALL))

    assert [event["id"] for event in gateway.events] == ids
    (line,) = (tmp_path / "refused.ndjson").read_bytes().splitlines()
    assert json.loads(line)["event"]["id"] == ids[1]


async def test_the_next_emitter_of_a_spool_knows_how_many_events_were_emitted(gateway: Gateway, tmp_path: Path) -> None:
    async with _emitter(gateway, spool=tmp_path) as first:
        await first.emit(CALL)
        await first.flush()
        gateway.away = True
        await first.emit(CALL)
        assert first.emitted == 2

    async with _emitter(gateway, spool=tmp_path, drain_seconds=0) as second:
        assert second.emitted == 2
        await second.emit(CALL)
        assert second.emitted == 3


async def test_a_spool_that_cannot_be_written_now_delays_and_loses_nothing(
    gateway: Gateway, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with _emitter(gateway, spool=tmp_path) as emitting:
        (tmp_path / "refused.ndjson").mkdir()
        await emitting.emit({"type": "bad"})
        await eventually(lambda: len(gateway.requests) == 2)
        assert emitting.waiting == 1
        assert "Is a directory" in str(emitting.trouble)
        (tmp_path / "refused.ndjson").rmdir()
        await emitting.flush()
        assert emitting.trouble is None

    assert (tmp_path / "refused.ndjson").read_bytes().count(b"\n") == 1


def _without(name: str) -> dict[str, Any]:
    return {key: value for key, value in {**CALL, "source": "/own"}.items() if key != name}


@pytest.mark.parametrize(
    ("event", "error"),
    [
        (_without("type"), InvalidEvent),
        (_without("source"), InvalidEvent),
        ({**CALL, "source": "/own", "data": {"x": object()}}, TypeError),
        ({**CALL, "source": "/own", "data": "x" * 2000}, Refused),
    ],
    ids=["no type", "no source", "no JSON", "too large"],
)
async def test_what_is_no_event_is_not_taken(gateway: Gateway, event: dict[str, Any], error: type[Exception]) -> None:
    async with _emitter(gateway, source=None, most_bytes=1000) as emitting:
        with pytest.raises(error):
            await emitting.emit(event)
        assert emitting.waiting == 0


async def test_json_goes_out_as_it_is_whatever_it_is(gateway: Gateway) -> None:
    line = b'{"id": "1",  "id": "2", no JSON}'
    async with _emitter(gateway) as emitting:
        await emitting.emit_json(line)

    assert gateway.requests == [[line]]


@pytest.mark.parametrize("lines", [b"", b" \t\r", b"{}\n", b"{}\n{}"], ids=str)
async def test_json_that_is_not_one_line_is_not_taken(gateway: Gateway, lines: bytes) -> None:
    async with _emitter(gateway) as emitting:
        with pytest.raises(ValueError, match="one line"):
            await emitting.emit_json(lines)
        assert emitting.waiting == 0
