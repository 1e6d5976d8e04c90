"""What an event may and may not be, each refusal with its own code."""

from __future__ import annotations

from decimal import Decimal

import pytest

from metering.clock import DAY_MS, MINUTE_MS
from metering.errors import InvalidEvent
from metering.event import GATEWAY_AHEAD_MS, LATE_MS, Limits, check_time, compact, parse

HEAD = '{"specversion":"1.0","id":"a","source":"/pms/berlin","type":"call.completed"'


def refusal(text: str | bytes, limits: Limits | None = None) -> InvalidEvent:
    raw = text.encode() if isinstance(text, str) else text
    with pytest.raises(InvalidEvent) as caught:
        parse(compact(raw), limits or Limits())
    return caught.value


def test_a_whole_event_is_read() -> None:
    event = parse(
        compact(
            (
                HEAD + ', "time": "2026-11-23T10:00:00.123+01:00", "subject": "room-7", "tenant": "grand",'
                ' "reservationid": "r-1", "sampled": true, "priority": 3, "dropped": null,'
                ' "data": {"seconds": 12.50, "rooms": [1, 2]}}'
            ).encode()
        ),
        Limits(),
    )
    assert (event.id, event.source, event.type) == ("a", "/pms/berlin", "call.completed")
    assert event.time == 1795424400123
    assert (event.subject, event.tenant) == ("room-7", "grand")
    assert event.data == {"seconds": Decimal("12.50"), "rooms": [1, 2]}
    assert event.extensions == {"reservationid": "r-1", "sampled": True, "priority": 3}
    assert event.attribute("reservationid") == "r-1"
    assert event.attribute("subject") == "room-7"
    assert event.attribute("dropped") is None


def test_a_fraction_keeps_every_digit() -> None:
    event = parse((HEAD + ',"data":{"n":12345678901234567890.123456789}}').encode(), Limits())
    assert event.data["n"] == Decimal("12345678901234567890.123456789")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("{", "invalid-json"),
        ("", "invalid-json"),
        ("[]", "not-an-event"),
        ('"event"', "not-an-event"),
        ("{}", "specversion"),
        (HEAD.replace("1.0", "0.3") + "}", "specversion"),
        (HEAD.replace('"1.0"', "1.0") + "}", "specversion"),
        (HEAD.replace('"id":"a",', "") + "}", "missing-attribute"),
        (HEAD.replace('"id":"a"', '"id":null') + "}", "missing-attribute"),
        (HEAD.replace('"id":"a"', '"id":""') + "}", "invalid-attribute"),
        (HEAD.replace('"id":"a"', '"id":7') + "}", "invalid-attribute"),
        (HEAD.replace("/pms/berlin", "/pms berlin") + "}", "invalid-attribute"),
        (HEAD + ',"id":"b"}', "duplicate-member"),
        (HEAD + ',"data":{"a":1,"a":2}}', "duplicate-member"),
        (HEAD + ',"data":{"x":[{"a":1,"a":2}]}}', "duplicate-member"),
        (HEAD + ',"subject":"a\\u0000b"}', "invalid-attribute"),
        (HEAD + ',"subject":""}', "invalid-attribute"),
        (HEAD + ',"subject":"' + "x" * 257 + '"}', "attribute-too-long"),
        (HEAD + ',"subject":"' + "ß" * 129 + '"}', "attribute-too-long"),
        (HEAD + ',"Room":"7"}', "invalid-attribute"),
        (HEAD + ',"room":1.5}', "invalid-attribute"),
        (HEAD + ',"room":2147483648}', "invalid-attribute"),
        (HEAD + ',"room":{"a":1}}', "invalid-attribute"),
        (HEAD + ',"receivedat":"2026-11-23T10:00:00Z"}', "reserved-attribute"),
        (HEAD + ',"dataschema":"relative"}', "invalid-attribute"),
        (HEAD + ',"datacontenttype":"json"}', "invalid-attribute"),
        (HEAD + ',"data":{},"data_base64":"AAAA"}', "invalid-attribute"),
        (HEAD + ',"data_base64":"AAA"}', "invalid-attribute"),
        (HEAD + ',"data":{"n":NaN}}', "invalid-json"),
        (HEAD + ',"data":{"n":Infinity}}', "invalid-json"),
        (HEAD + ',"data":{"n":1e99999999999999999999}}', "invalid-json"),
        (HEAD + ',"data":"' + "x" * 65536 + '"}', "data-too-large"),
        (HEAD + ',"data":' + "[" * 16 + "]" * 16 + "}", "too-deep"),
        (HEAD + ',"data":' + "[" * 100_000 + "]" * 100_000 + "}", "too-deep"),
    ],
)
def test_a_bad_event_is_refused_with_its_own_code(text: str, code: str) -> None:
    assert refusal(text).code == code


def test_invalid_utf8_is_refused() -> None:
    assert refusal(HEAD.encode() + b',"subject":"\xff"}').code == "invalid-utf8"


@pytest.mark.parametrize(
    "text",
    [
        HEAD + ',"subject":"' + "x" * 256 + '"}',
        HEAD + ',"data":' + "[" * 15 + "]" * 15 + "}",
        HEAD + ',"data":"' + "x" * 65534 + '"}',
        HEAD + ',"data":"[[[[[[[[[[[[[[[[[[[[{"}',
        HEAD + ',"data_base64":"AAAA"}',
        HEAD + ',"dataschema":"https://example.com/schema","datacontenttype":"text/plain; charset=utf-8"}',
        HEAD + ',"time":null,"subject":null,"tenant":null,"data":null}',
        HEAD.replace("/pms/berlin", "urn:hotel:grand%20inn") + "}",
    ],
)
def test_the_edge_of_what_is_allowed_is_allowed(text: str) -> None:
    parse(compact(text.encode()), Limits())


def test_pretty_printing_and_line_breaks_in_data_do_not_matter() -> None:
    pretty = (HEAD + ',\n  "data": {\r\n\t"a": [1,\n 2]}\n}\n').encode()
    plain = (HEAD + ',"data":{"a":[1,2]}}').encode()
    assert compact(pretty) == plain
    assert parse(compact(pretty), Limits()) == parse(plain, Limits())


@pytest.mark.parametrize(
    ("time", "instant"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2026-11-23T10:00:00Z", 1795428000000),
        ("2026-11-23t10:00:00z", 1795428000000),
        ("2026-11-23T10:00:00.9999Z", 1795428000999),
        ("2026-11-23T10:00:00.1234567891234Z", 1795428000123),
        ("2026-11-23T15:30:00+05:30", 1795428000000),
        ("2026-11-23T10:00:00-00:00", 1795428000000),
        ("1969-12-31T23:59:59.9999Z", -1),
    ],
)
def test_times_are_rfc_3339_and_cut_to_milliseconds(time: str, instant: int) -> None:
    assert parse((HEAD + f',"time":"{time}"}}').encode(), Limits()).time == instant


@pytest.mark.parametrize(
    "time",
    [
        "yesterday",
        "2026-11-23",
        "2026-11-23T10:00:00",
        "2026-11-23 10:00:00Z",
        "2026-11-23T10:00:00+0530",
        "2026-11-23T10:00:00,5Z",
        "2026-11-23T10:00:00.Z",
        "2026-11-23T10:00:000.Z",
        "2026-11-23T24:00:00.000Z",
        "2026-11-23T23:59:60.000Z",
        "2026-02-30T10:00:00.000Z",
        "2026-W48-1T10:00:00.000Z",
        "0000-01-01T00:00:00.000Z",
        "1795428000",
    ],
)
def test_other_times_are_refused(time: str) -> None:
    assert refusal(HEAD + f',"time":"{time}"}}').code == "invalid-time"


def test_limits_are_those_given() -> None:
    assert refusal(HEAD + ',"data":[[1]]}', Limits(nesting=2)).code == "too-deep"
    assert refusal(HEAD + ',"subject":"' + "😀" * 64 + '"}', Limits(attribute_bytes=64)).code == "attribute-too-long"
    assert refusal(HEAD + ',"data":"abc"}', Limits(data_bytes=4)).code == "data-too-large"


def test_a_time_may_be_a_little_ahead_and_some_weeks_late() -> None:
    now = 1_795_428_000_000
    check_time(now + GATEWAY_AHEAD_MS, now, GATEWAY_AHEAD_MS, LATE_MS)
    check_time(now - LATE_MS, now, GATEWAY_AHEAD_MS, LATE_MS)
    check_time(0, now, GATEWAY_AHEAD_MS, None)
    for time, late in ((now + 5 * MINUTE_MS + 1, LATE_MS), (now - 35 * DAY_MS - 1, LATE_MS), (-1, None)):
        with pytest.raises(InvalidEvent) as caught:
            check_time(time, now, GATEWAY_AHEAD_MS, late)
        assert caught.value.code == "time-out-of-range"
