from __future__ import annotations

import json
from typing import Any

import pytest

from ingest.client.sender import NotAllowed, Sender, Silence
from ingest.client.transport import Reply, retry_after
from tests.unit.cli.conftest import Asked, FakeSystem

ACCEPTED = {"accepted": 2, "rejected": 0, "errors": [], "positions": [[1, 7]]}


class Time:
    """Sleeping only moves the clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def monotonic(self) -> float:
        return self.now


def _sender(fake: FakeSystem, time: Time, patience: float = 60.0) -> Sender:
    key = {"Authorization": "Bearer tg_x"}
    return Sender(fake, "http://ingest", key, patience, sleep=time.sleep, monotonic=time.monotonic)


async def test_a_batch_goes_out_as_lenient_ndjson_and_comes_back_as_a_receipt() -> None:
    fake, time = FakeSystem(), Time()
    fake.on("POST", "/v1/events", ACCEPTED, 202)

    receipt = await _sender(fake, time).send([b'{"id":"1"}', b'{"id":"2"}'])

    assert (receipt.accepted, receipt.rejected, receipt.positions) == (2, 0, [(1, 7)])
    asked = fake.asked[0]
    assert asked.body == b'{"id":"1"}\n{"id":"2"}'
    assert asked.headers["Prefer"] == "handling=lenient"
    assert asked.headers["Content-Type"] == "application/x-ndjson"


async def test_a_busy_gateway_is_asked_again_not_before_it_said() -> None:
    fake, time = FakeSystem(), Time()
    fake.on("POST", "/v1/events", {"detail": "busy"}, 429, {"Retry-After": "7"})
    fake.on("POST", "/v1/events", ACCEPTED, 202)
    sender = _sender(fake, time)

    await sender.send([b"{}", b"{}"])

    assert len(time.slept) == 1 and 7 <= time.slept[0] <= 7.5
    assert sender.retries == 1


async def test_silence_is_waited_out_with_growing_uneven_pauses() -> None:
    fake, time = FakeSystem(), Time()
    for _ in range(6):
        fake.silent("POST", "/v1/events")
    fake.on("POST", "/v1/events", ACCEPTED, 202)

    await _sender(fake, time).send([b"{}", b"{}"])

    assert len(time.slept) == 6
    assert time.slept[5] > time.slept[0]
    assert len(set(time.slept)) == 6


async def test_long_silence_ends_it() -> None:
    fake, time = FakeSystem(), Time()
    fake.silent("POST", "/v1/events")

    with pytest.raises(Silence, match="does not answer"):
        await _sender(fake, time, patience=30).send([b"{}"])

    assert 30 < time.now < 60


async def test_being_told_to_wait_is_no_silence() -> None:
    fake, time = FakeSystem(), Time()
    for _ in range(20):
        fake.on("POST", "/v1/events", {"detail": "slow down"}, 429, {"Retry-After": "10"})
    fake.on("POST", "/v1/events", ACCEPTED, 202)

    receipt = await _sender(fake, time, patience=30).send([b"{}", b"{}"])

    assert receipt.accepted == 2


@pytest.mark.parametrize("status", [401, 403, 404, 200])
async def test_a_key_that_may_not_ends_it_at_once(status: int) -> None:
    fake, time = FakeSystem(), Time()
    fake.on("POST", "/v1/events", {"detail": "no"}, status)

    with pytest.raises(NotAllowed) as ended:
        await _sender(fake, time).send([b"{}"])

    assert ended.value.reply.status == status
    assert time.slept == []


async def test_a_batch_refused_whole_is_halved_until_only_the_guilty_event_is_left_out() -> None:
    fake, time = FakeSystem(), Time()

    def judge(asked: Asked) -> Reply:
        events = asked.body.split(b"\n")
        if b"bad" in events:
            problem: Any = {"type": "https://tallygate.dev/problems/body-too-large", "detail": "too large"}
            return Reply(413, {}, json.dumps(problem).encode())
        body: Any = {"accepted": len(events), "rejected": 0, "errors": [], "positions": [[0, len(fake.asked)]]}
        return Reply(202, {}, json.dumps(body).encode())

    fake.call("POST", "/v1/events", judge)

    receipt = await _sender(fake, time).send([b"a", b"b", b"c", b"bad", b"e"])

    assert (receipt.accepted, receipt.rejected) == (4, 1)
    assert receipt.errors == [{"index": 3, "id": None, "code": "body-too-large", "detail": "too large"}]


@pytest.mark.parametrize(
    "body",
    [
        b"<html>Welcome to our hotel's network</html>",
        b"[]",
        b'{"accepted": 1, "rejected": 0}',
        b'{"accepted": 1, "rejected": 1, "errors": []}',
        b'{"accepted": 1, "rejected": 1, "errors": [{"index": 2}]}',
    ],
)
async def test_a_202_that_does_not_account_for_every_event_is_no_receipt(body: bytes) -> None:
    fake, time = FakeSystem(), Time()
    fake.call("POST", "/v1/events", lambda asked: Reply(202, {}, body))
    fake.on("POST", "/v1/events", ACCEPTED, 202)

    receipt = await _sender(fake, time).send([b"{}", b"{}"])

    assert receipt.accepted == 2
    assert len(time.slept) == 1


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7),
        ({"Retry-After": "Mon, 23 Nov 2026 10:01:30 GMT", "Date": "Mon, 23 Nov 2026 10:00:00 GMT"}, 90),
        ({"Retry-After": "Mon, 23 Nov 2026 09:00:00 GMT", "Date": "Mon, 23 Nov 2026 10:00:00 GMT"}, 0),
        ({"Retry-After": "Mon, 23 Nov 2026 10:01:30 GMT"}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "²"}, None),
        ({}, None),
    ],
    ids=str,
)
def test_retry_after_is_seconds_or_a_date_read_by_the_answers_own(headers: dict[str, str], seconds: int | None) -> None:
    assert retry_after(Reply(503, headers, b"")) == seconds


async def test_no_answer_makes_it_wait_for_more_than_an_hour() -> None:
    fake, time = FakeSystem(), Time()
    fake.on("POST", "/v1/events", {"detail": "busy"}, 503, {"Retry-After": "99999999999"})
    fake.on("POST", "/v1/events", ACCEPTED, 202)

    await _sender(fake, time, patience=float("inf")).send([b"{}", b"{}"])

    assert time.now < 3601
