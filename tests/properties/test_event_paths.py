"""The fast path of an event means what the strict one says."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from metering import event
from metering.errors import InvalidEvent
from metering.event import WRITER_LIMITS, Limits, UsageEvent
from tests.properties.documents import TIMES, Member, event_texts, usual_members

LIMITS = st.sampled_from(
    [Limits(), WRITER_LIMITS, Limits(attribute_bytes=64, data_bytes=64, nesting=2), Limits(data_bytes=8, nesting=3)]
)
HEAD = '{"specversion":"1.0","id":"a","source":"s","type":"t"'


def usual(raws: list[bytes], limits: Limits) -> list[UsageEvent] | None:
    """What parse_usual takes, event by event."""
    events = event.parse_usual(raws, limits)
    if events is None:
        return None
    nothing = [None] * len(events.ids)
    columns = (*(getattr(events, name) for name in events.__struct_fields__), nothing)
    return [UsageEvent(*attributes) for attributes in zip(*columns, strict=True)]


@given(event_texts(), LIMITS)
@example(HEAD + ',"data":1e99999999999999999999}', Limits())
@example(HEAD + ',"time":"2026-11-23 10:00:00Z"}', Limits())
@example(HEAD + ',"time":"2026-11-23T10:00:00+0530"}', Limits())
@example(HEAD + ',"time":"2026-11-23T10:00:00.' + "0" * 300 + 'Z"}', Limits())
@example(HEAD + ',"subject":"' + "😀" * 64 + '"}', Limits(attribute_bytes=64))
@example(HEAD + ',"data":{"a":' + "[" * 20 + "]" * 20 + "}}", Limits())
@example(HEAD + ',"data":{"a":{}}}', Limits(nesting=2))
@example(HEAD + ',"i\\u0064":"b"}', Limits())
@example(HEAD + ',"data":{"a":1,"\\u0061":1}}', Limits())
@example(HEAD + ',"subject":"a\\":b"}', Limits())
def test_what_the_usual_path_takes_is_what_the_strict_one_accepts(text: str, limits: Limits) -> None:
    try:
        raw = event.compact(text.encode("utf-8", "surrogatepass"))
    except InvalidEvent:
        return
    taken = usual([raw], limits)
    assert taken is None or taken == [event.parse(raw, limits)]


@given(st.lists(event_texts(), min_size=2, max_size=5))
@example([HEAD + ',"data":{"a":"}', '{"b":"}}', HEAD + "}" + HEAD + "}"])
@example([HEAD + "}" + HEAD + "}", "{", "}"])
@example([HEAD + "},", HEAD + "}"])
def test_many_at_once_are_what_each_is_alone(texts: list[str]) -> None:
    raws = [text.replace("\n", " ").encode("utf-8", "surrogatepass") for text in texts]
    taken = usual(raws, WRITER_LIMITS)
    assert taken is None or taken == [event.parse(event.compact(raw), WRITER_LIMITS) for raw in raws]


def as_written(text: str | bytes) -> object:
    """JSON with repeats, order and digits of numbers kept."""
    return json.loads(text, object_pairs_hook=tuple, parse_float=str, parse_int=str)


@given(event_texts())
def test_compacting_changes_white_space_and_nothing_else(text: str) -> None:
    try:
        raw = event.compact(text.encode("utf-8", "surrogatepass"))
    except InvalidEvent:
        return
    assert as_written(raw) == as_written(text)
    assert b"\n" not in raw
    assert event.compact(raw) == raw


@given(TIMES | st.text("0123456789-:.TZtz+W ", min_size=20, max_size=24))
@example("2026-11-23T10:00:00z")
@example("2026-11-23T10:00:60Z")
@example("2026-11-23T24:00:00.000Z")
def test_a_time_read_by_its_minute_is_the_time(text: str) -> None:
    assert event._instant(text) == event._careful_instant(text)


@given(usual_members())
def test_an_accepted_event_says_what_its_json_says(members: list[Member]) -> None:
    raw = ("{" + ",".join(f"{name}:{value}" for name, value in members) + "}").encode()
    try:
        accepted = event.parse(event.compact(raw), Limits())
    except InvalidEvent:
        return
    document = json.loads(raw)
    for name in ("id", "source", "type", "subject", "tenant"):
        assert accepted.attribute(name) == document.get(name)


@pytest.mark.parametrize(
    "rest",
    [
        "}",
        ',"time":"2026-11-23T10:00:00.123Z"}',
        ',"time":null,"subject":"room-7","tenant":"grand","datacontenttype":"application/json"}',
        ',"data":{"seconds":12.5,"language":"de","empty":{},"none":null}}',
        ',"data":"text"}',
    ],
)
def test_usual_events_are_taken_at_once(rest: str) -> None:
    raw = (HEAD + rest).encode()
    assert usual([raw] * 3, Limits()) == [event.parse(raw, Limits())] * 3
