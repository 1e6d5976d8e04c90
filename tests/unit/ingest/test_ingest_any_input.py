"""Whatever is sent, the gateway answers with a problem or a verdict; nothing else comes out, and nothing gets lost."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from ingest import decode
from ingest.verdict import Rules, judge
from metering.catalog import parse_catalog
from metering.clock import DAY_MS
from metering.event import GATEWAY_AHEAD_MS, LATE_MS, Limits
from metering.meter import CompiledCatalog
from service.problems import Problem

NOW = 1_795_600_000_000
RULES = Rules("grand", False, Limits(), GATEWAY_AHEAD_MS, LATE_MS, DAY_MS)
CATALOG = CompiledCatalog(
    1,
    parse_catalog("""
meters:
  seconds: {event: call, aggregation: sum, value: $.seconds, scale: 3, group_by: {language: $.language}}
  callers: {event: call, aggregation: unique, value: subject, filter: {$.kind: [a, 1, true]}}
"""),
)

values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
events = st.fixed_dictionaries(
    {"specversion": st.just("1.0"), "id": st.text(max_size=8), "source": st.just("/a"), "type": st.just("call")},
    optional={
        "time": st.text(max_size=30) | st.just("2026-11-23T10:00:00Z"),
        "subject": values,
        "tenant": values,
        "data": st.fixed_dictionaries({"seconds": values, "language": values, "kind": values}) | values,
        "ext": values,
    },
)


def judged(content_type: str, body: bytes) -> int | None:
    """How many events it held, each of them judged; None if it was refused as a whole."""
    headers = CIMultiDict({"Content-Type": content_type})
    try:
        batch = decode.events_of(headers, headers.items(), body)
    except Problem as problem:
        assert problem.status in (400, 415, 422)
        return None
    verdict = judge(batch.events, batch.broken, RULES, CATALOG, {}, NOW)
    accepted = [raw for lines in verdict.accepted.values() for raw in lines]
    assert len(accepted) + len(verdict.errors) == len(batch.events)
    for raw in accepted:
        assert b"\n" not in raw
        json.loads(raw.decode())
    msgspec.json.encode(verdict.errors)
    return len(batch.events)


@given(st.sampled_from(decode.ACCEPTED), st.binary())
def test_any_bytes_get_an_answer(content_type: str, body: bytes) -> None:
    judged(content_type, body)


@given(st.lists(events | values, min_size=1, max_size=4), st.data())
def test_a_damaged_batch_gets_an_answer(batch: list[Any], data: st.DataObject) -> None:
    body = bytearray(json.dumps(batch, ensure_ascii=data.draw(st.booleans())).encode("utf-8", "surrogatepass"))
    for _ in range(data.draw(st.integers(0, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    judged(decode.BATCH, bytes(body))


@given(st.lists(events | values, max_size=4))
def test_white_space_makes_no_difference(batch: list[Any]) -> None:
    headers = CIMultiDict({"Content-Type": decode.BATCH})
    texts = [json.dumps(batch, separators=(",", ":")), json.dumps(batch), json.dumps(batch, indent=3)]
    answers = []
    for text in texts:
        try:
            answers.append(decode.events_of(headers, (), text.encode()).events)
        except Problem as problem:
            answers.append([problem.code.encode()])
    assert answers[0] == answers[1] == answers[2]


@given(st.lists(events, max_size=4))
def test_lines_and_arrays_hold_the_same_events(batch: list[Any]) -> None:
    lines = [json.dumps(one).encode() for one in batch]
    if b"\\ud" in b"".join(lines):  # half a surrogate pair: no valid JSON text, and in an array that is all of it
        return
    assert judged(decode.NDJSON, b"\n".join(lines)) == judged(decode.BATCH, b"[" + b",".join(lines) + b"]")


@given(st.dictionaries(st.from_regex(r"ce-[a-z0-9_\-]{1,10}", fullmatch=True), st.text(max_size=12)), st.binary())
def test_any_ce_headers_get_an_answer(attributes: dict[str, str], body: bytes) -> None:
    given = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/a", "ce-type": "call"} | attributes
    headers = CIMultiDict(given)
    for content_type in ("application/json", "text/plain", "image/png", 'text/plain; charset="utf-8"'):
        headers["Content-Type"] = content_type
        batch = decode.events_of(headers, headers.items(), body)
        assert len(batch.events) == 1
        judge(batch.events, batch.broken, RULES, CATALOG, {}, NOW)
