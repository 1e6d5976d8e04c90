"""contracts.md, "ingest": what is accepted, what is refused and how, and what either leaves in the log."""

from __future__ import annotations

import asyncio
import gzip
import json
import sys
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from metering.clock import DAY_MS, SystemClock, iso
from tests.contract.ingest.sender import BATCH, EVENT, Sender, event

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

NDJSON = "application/x-ndjson"


def ago(milliseconds: int) -> str:
    return iso(SystemClock().now_ms() - milliseconds)


async def refused(sender: Sender, status: int, code: str, body: Any, *, mark: str = "", **more: Any) -> Any:
    """The request is refused with this problem, and nothing whose id begins with `mark` is in the log."""
    answer = await sender.post(body, **more)
    assert (answer.status, answer.code) == (status, code), answer.body
    if mark:
        assert not any(id.startswith(mark) for id in await sender.logged())
    return answer


# What is accepted


@pytest.mark.parametrize("content_type", [EVENT, "application/json"])
async def test_one_event_is_accepted_with_its_position(sender: Sender, content_type: str) -> None:
    sent = event()
    answer = await sender.post(sent, content_type)
    assert answer.status == 202
    ((partition, offset),) = answer.body.pop("positions")
    assert answer.body == {"accepted": 1, "rejected": 0, "errors": [], "epoch": 1}
    (record,) = [r for r in await sender.gateway.broker.records() if (r.partition, r.offset) == (partition, offset)]
    assert record.key == b"grand"
    assert record.events == [sent]


@pytest.mark.parametrize("content_type", [BATCH, "application/json"])
async def test_a_batch_becomes_one_frame_that_says_what_it_is(sender: Sender, content_type: str) -> None:
    before = SystemClock().now_ms()
    sent = [event() for _ in range(100)]
    answer = await sender.post(sent, content_type)
    assert (answer.status, answer.body["accepted"], len(answer.body["positions"])) == (202, 100, 1)
    (record,) = [r for r in await sender.gateway.broker.records() if sent[0] in r.events]
    assert record.events == sent
    assert record.header.count == 100
    assert record.header.catalog_version == 1
    assert record.header.received is not None and before <= record.header.received <= SystemClock().now_ms()


async def test_ndjson_is_accepted(sender: Sender) -> None:
    sent = [event(), event()]
    body = b"\n".join(json.dumps(e).encode() for e in sent) + b"\r\n"
    answer = await sender.post(body, NDJSON)
    assert (answer.status, answer.body["accepted"]) == (202, 2)
    logged = await sender.logged()
    assert [logged[e["id"]] for e in sent] == [1, 1]


@pytest.mark.parametrize(("encoding", "compress"), [("gzip", gzip.compress), ("zstd", zstd.compress)])
@pytest.mark.parametrize("count", [1, 2_000])
async def test_bodies_may_be_compressed(sender: Sender, encoding: str, compress: Any, count: int) -> None:
    body = compress(msgspec.json.encode([event() for _ in range(count)]))
    answer = await sender.post(body, **{"Content-Encoding": encoding})
    assert (answer.status, answer.body["accepted"]) == (202, count)


async def test_a_body_may_come_in_chunks_without_a_length(sender: Sender) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        text = msgspec.json.encode([event(), event()])
        for i in range(0, len(text), 50):
            yield text[i : i + 50]

    assert (await sender.post(chunks())).body["accepted"] == 2


async def test_a_large_request_becomes_several_frames_and_every_event_is_there_once(sender: Sender) -> None:
    sent = [event(data={"seconds": 1, "note": "x" * 1000}) for _ in range(3_000)]
    answer = await sender.post(sent)
    assert (answer.status, answer.body["accepted"], len(answer.body["positions"])) == (202, 3_000, 4)
    logged = await sender.logged()
    assert all(logged[e["id"]] == 1 for e in sent)
    assert all(len(r.value) <= 900_000 for r in await sender.gateway.broker.records())


async def test_ten_thousand_events_are_the_most(sender: Sender) -> None:
    sent = [event(id=f"most-{i}", data={"seconds": 1}) for i in range(10_001)]
    assert (await sender.post(sent[1:])).body["accepted"] == 10_000
    await refused(sender, 413, "too-many-events", [e | {"id": f"over-{e['id']}"} for e in sent], mark="over-")


async def test_pretty_printed_data_is_accepted_and_stands_on_one_line_once(sender: Sender) -> None:
    sent = event(data={"seconds": 3, "nested": {"a": [1, 2]}, "text": "line\nbreak"})
    for content_type, body in ((EVENT, sent), (BATCH, [sent | {"id": sent["id"] + "b"}])):
        assert (await sender.post(json.dumps(body, indent=4).encode(), content_type)).body["accepted"] == 1
    logged = await sender.logged()
    assert (logged[sent["id"]], logged[sent["id"] + "b"]) == (1, 1)


async def test_unknown_types_and_extensions_are_kept_as_received(sender: Sender) -> None:
    body = b'{"specversion":"1.0","id":"kept-1","source":"/a","type":"not.metered","amount":3,"data":{"n":1.50}}'
    assert (await sender.post(body, EVENT)).status == 202
    assert body in [line for r in await sender.gateway.broker.records() for line in r.value.split(b"\n")]


async def test_a_missing_time_stays_missing(sender: Sender) -> None:
    sent = [event(), event() | {"time": None}]
    assert (await sender.post(sent)).status == 202
    lines = [line for r in await sender.gateway.broker.records() for line in r.events]
    assert all(e in lines for e in sent)


# Lenient


async def test_one_bad_in_a_hundred_refuses_all_and_names_it(sender: Sender) -> None:
    sent = [event(id=f"strict-{i}") for i in range(100)]
    sent[41]["data"] = {"seconds": -1}
    answer = await refused(sender, 422, "invalid-events", sent, mark="strict-")
    ((error),) = answer.body["errors"]
    assert (error["index"], error["id"], error["code"]) == (41, "strict-41", "negative")
    assert "seconds" in error["detail"]


@pytest.mark.parametrize("preference", ["handling=lenient", "respond-async, Handling=lenient; wait=10"])
async def test_lenient_handling_accepts_the_others(sender: Sender, preference: str) -> None:
    sent = [event() for _ in range(100)]
    sent[41]["data"] = {"seconds": -1}
    answer = await sender.post(sent, Prefer=preference)
    assert (answer.status, answer.body["accepted"], answer.body["rejected"]) == (202, 99, 1)
    assert answer.codes == [(41, "negative")]
    assert answer.headers["Preference-Applied"] == "handling=lenient"
    logged = await sender.logged()
    assert [i for i, e in enumerate(sent) if e["id"] not in logged] == [41]


async def test_lenient_handling_of_broken_lines_accepts_the_others(sender: Sender) -> None:
    good = event()
    body = b'{"broken":\n' + json.dumps(good).encode() + b'\n{"id":"\xff"}\n[]'
    answer = await sender.post(body, NDJSON, Prefer="handling=lenient")
    assert (answer.body["accepted"], answer.codes) == (
        1,
        [(0, "invalid-json"), (2, "invalid-utf8"), (3, "not-an-event")],
    )
    assert (await sender.logged())[good["id"]] == 1


async def test_lenient_handling_of_bad_events_only_accepts_nothing(sender: Sender) -> None:
    answer = await sender.post([event(source=None)], Prefer="handling=lenient")
    assert answer.status == 202
    assert (answer.body["accepted"], answer.body["positions"], answer.codes) == (0, [], [(0, "missing-attribute")])


async def test_errors_of_a_large_batch_keep_their_places(sender: Sender) -> None:
    sent = [event(source="not a uri" if i % 1000 == 999 else "/a") for i in range(3_000)]
    answer = await sender.post(sent)
    assert answer.codes == [(999, "invalid-attribute"), (1999, "invalid-attribute"), (2999, "invalid-attribute")]


# Requests that are no events


@pytest.mark.parametrize(
    ("status", "code", "content_type", "body"),
    [
        (400, "invalid-json", EVENT, b'{"specversion":"1.0",'),
        (400, "invalid-json", BATCH, b'[{"id":"1"},{"id":]'),
        (400, "invalid-json", EVENT, b""),
        (400, "invalid-json", EVENT, b'{"data":{"seconds":NaN}}'),
        (400, "invalid-json", BATCH, b'[{"data":{"seconds":-Infinity}}]'),
        (400, "invalid-utf8", EVENT, b'{"id":"\xc3\x28"}'),
        (422, "too-deep", EVENT, b'{"data":' + b"[" * 50_000 + b"]" * 50_000 + b"}"),
        (422, "too-deep", BATCH, b"[" * 1_000_000),
        (422, "empty-batch", BATCH, b"[]"),
        (422, "empty-batch", NDJSON, b"\n\n"),
        (400, "not-a-batch", BATCH, b"{}"),
        (400, "not-an-event", EVENT, b"[]"),
        (415, "unsupported-media-type", "text/plain", b"{}"),
        (415, "unsupported-media-type", "application/x-www-form-urlencoded", b"a=b"),
        (415, "unsupported-media-type", None, b"{}"),
        (413, "body-too-large", BATCH, b"[" + b" " * 10_000_000 + b"]"),
    ],
)
async def test_a_body_that_holds_no_events_has_its_own_problem(
    sender: Sender, status: int, code: str, content_type: str | None, body: bytes
) -> None:
    await refused(sender, status, code, body, content_type=content_type)


async def test_ten_megabytes_in_chunks_are_refused_too(sender: Sender) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(160):
            yield b" " * 65_536

    await refused(sender, 413, "body-too-large", chunks())


@pytest.mark.parametrize(("encoding", "compress"), [("gzip", gzip.compress), ("zstd", zstd.compress)])
async def test_a_zip_bomb_is_refused(sender: Sender, encoding: str, compress: Any) -> None:
    bomb = compress(b"[" + b" " * 200_000_000 + b"]")
    await refused(sender, 413, "body-too-large", bomb, **{"Content-Encoding": encoding})


@pytest.mark.parametrize(
    ("status", "code", "encoding"), [(400, "invalid-encoding", "gzip"), (415, "unsupported-encoding", "br")]
)
async def test_broken_and_unknown_encodings_are_refused(sender: Sender, status: int, code: str, encoding: str) -> None:
    await refused(sender, status, code, b"[]", **{"Content-Encoding": encoding})


async def test_other_methods_and_paths_answer_with_problems(sender: Sender) -> None:
    async with sender.session.get(sender.gateway.events_url) as response:
        assert (response.status, response.headers["Allow"]) == (405, "POST")
        assert response.content_type == "application/problem+json"
    async with sender.session.post(f"{sender.gateway.url}/v1/nothing") as response:
        assert response.status == 404


# Events that cannot be counted


RAW = '{"specversion":"1.0","id":"raw-%s","source":"/a","type":"call.completed",%s}'


@pytest.mark.parametrize(
    ("code", "bad"),
    [
        ("specversion", event(specversion="0.3")),
        ("specversion", event(specversion=None)),
        ("missing-attribute", event(id=None)),
        ("invalid-attribute", event(id="")),
        ("invalid-attribute", event(id=17)),
        ("invalid-attribute", event(subject="a\x00b")),
        ("attribute-too-long", event(subject="x" * 257)),
        ("data-too-large", event(data={"seconds": 1, "x": "y" * 65_536})),
        ("missing-value", event(data=None)),
        ("not-a-number", event(data={"seconds": "NaN"})),
        ("not-a-number", event(data={"seconds": "Infinity"})),
        ("negative", event(data={"seconds": -1})),
        ("too-precise", event(data={"seconds": "1.0001"})),
        ("too-large", event(data={"seconds": 10**18})),
        ("too-large", event(data={"seconds": 2**64})),
        ("too-large", event(data={"seconds": 10**400})),
        ("too-large", RAW % ("1", '"data":{"seconds":1e400}')),
        ("too-precise", RAW % ("2", '"data":{"seconds":1e-400}')),
        ("duplicate-member", RAW % ("3", '"id":"again"')),
        ("duplicate-member", RAW % ("4", '"data":{"seconds":1,"seconds":2}')),
        ("duplicate-member", RAW % ("5", '"data":{"seconds":1,"sec\\u006fnds":2}')),
        ("too-deep", RAW % ("6", '"data":' + "[" * 16 + "]" * 16)),
        ("too-deep", RAW % ("7", '"data":' + "[" * 200 + "]" * 200)),
        ("invalid-time", event(time="23.11.2026")),
        ("invalid-time", event(time="2026-11-23T10:00:00")),
        ("time-out-of-range", event(time="2196-11-23T10:00:00Z")),
        ("time-out-of-range", event(time=iso(0))),
        ("reserved-attribute", event(receivedat="2026-11-23T10:00:00Z")),
        ("reserved-attribute", event(tenant="inn")),
        ("reserved-attribute", event(tenant="no-such-tenant")),
        ("missing-scope", event(type="tallygate.void")),
        ("reserved-type", event(type="tallygate.anything")),
    ],
)
async def test_each_mistake_in_an_event_has_its_own_code_and_nothing_is_logged(
    sender: Sender, code: str, bad: dict[str, Any] | str
) -> None:
    before = await sender.logged()
    body = bad.encode() if isinstance(bad, str) else msgspec.json.encode(bad)
    answer = await sender.post(body, EVENT)
    assert (answer.status, answer.code, answer.codes) == (422, "invalid-events", [(0, code)])
    answer = await sender.post(b"[" + body + b"," + msgspec.json.encode(event()) + b"]", BATCH)
    assert (answer.status, answer.code, answer.codes) == (422, "invalid-events", [(0, code)])
    assert await sender.logged() == before


async def test_times_at_the_edges_are_fine_and_backfill_reaches_further(sender: Sender) -> None:
    assert (await sender.post([event(time=ago(-290_000)), event(time=ago(35 * DAY_MS - 10_000))])).status == 202
    old = [event(time="2015-05-17T10:05:03Z")]
    assert (await sender.post(old)).codes == [(0, "time-out-of-range")]
    assert (await sender.post(old, key="backfill")).status == 202


async def test_a_void_needs_its_scope(sender: Sender) -> None:
    void = event(type="tallygate.void", data={"source": "/pms/berlin", "id": "1"})
    assert (await sender.post([void], key="void")).status == 202


# Keys


@pytest.mark.parametrize("key", [None, "expired", "revoked", "tg_aaaaaaaaaaaa_" + "x" * 32, "nonsense", ""])
async def test_unknown_expired_and_revoked_keys_look_alike(sender: Sender, key: str | None) -> None:
    answer = await refused(sender, 401, "unauthorized", [event(id="unauthorized-1")], mark="unauthorized-", key=key)
    other = await sender.post([event()], key="tg_bbbbbbbbbbbb_" + "y" * 32)
    assert answer.body == other.body
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


async def test_a_key_without_the_scope_is_forbidden(sender: Sender) -> None:
    await refused(sender, 403, "missing-scope", [event()], key="reader")


async def test_the_key_gives_the_tenant_and_its_own_name_may_be_repeated(sender: Sender) -> None:
    sent = [event(), event(tenant="inn")]
    assert (await sender.post(sent, key="inn")).status == 202
    (record,) = [r for r in await sender.gateway.broker.records() if sent[0] in r.events]
    assert record.key == b"inn"


async def test_another_tenants_name_answers_like_one_that_does_not_exist(sender: Sender) -> None:
    same = event()
    answers = [await sender.post([same | {"tenant": name}]) for name in ("inn", "no-such-tenant")]
    assert answers[0].body == answers[1].body


async def test_a_platform_key_sends_for_several_tenants_at_once(sender: Sender) -> None:
    sent = [event(tenant="grand"), event(tenant="inn"), event(tenant="grand")]
    answer = await sender.post(sent, key="platform")
    assert (answer.status, answer.body["accepted"], len(answer.body["positions"])) == (202, 3, 2)
    records = [r for r in await sender.gateway.broker.records() if any(e in r.events for e in sent)]
    assert {r.key: r.events for r in records} == {b"grand": [sent[0], sent[2]], b"inn": [sent[1]]}


async def test_a_platform_key_names_tenants_that_exist(sender: Sender) -> None:
    answer = await sender.post([event(tenant="nobody"), event(), event(tenant="inn")], key="platform")
    assert (answer.status, answer.codes) == (422, [(0, "unknown-tenant"), (1, "missing-tenant")])


# What every service has


async def test_the_gateway_describes_and_observes_itself(sender: Sender) -> None:
    await sender.post([event(source=None)])
    await sender.post([event()])
    for base in (sender.gateway.url, sender.gateway.ops_url):
        for path in ("/livez", "/readyz", "/metrics"):
            async with sender.session.get(base + path) as response:
                assert response.status == 200
                text = await response.text()
    for name in (
        'tallygate_ingest_requests_total{status="202"}',
        "tallygate_ingest_events_accepted_total",
        'tallygate_ingest_events_refused_total{code="missing-attribute"}',
        "tallygate_ingest_publish_seconds_bucket",
        "tallygate_ingest_inflight_bytes 0.0",
    ):
        assert name in text
    async with sender.session.get(sender.gateway.url + "/openapi.json") as response:
        document = await response.json()
    assert document["openapi"].startswith("3.1")
    assert "/v1/events" in document["paths"]


async def test_many_requests_at_once_all_end_in_the_log(sender: Sender) -> None:
    sent = [[event() for _ in range(10)] for _ in range(200)]
    keys = ["grand", "inn"]
    answers = await asyncio.gather(*(sender.post(batch, key=keys[i % 2]) for i, batch in enumerate(sent)))
    assert {answer.status for answer in answers} == {202}
    logged = await sender.logged()
    assert all(logged[e["id"]] == 1 for batch in sent for e in batch)
