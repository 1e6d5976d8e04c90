"""A usage event: a CloudEvent 1.0 in JSON, judged strictly and kept as it was received.

Two paths with one meaning. `parse` defines what is accepted and why not. `parse_usual` takes many usual events at once
in about a microsecond each, and answers None when it cannot vouch for all of them. It proves that no member is unknown
or repeated by counting: in compact JSON each member has its `":`, so occurrences of `":` are never fewer than members;
when there are just as many as the members we decoded, none was lost (nor nested). tests/properties proves that both
agree.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from operator import itemgetter
from typing import Any, NoReturn, cast

import msgspec
from msgspec import UNSET, UnsetType

from metering.clock import DAY_MS, MINUTE_MS, SECOND_MS, to_ms
from metering.errors import InvalidEvent

RESERVED_TYPES = "tallygate."


class Limits(msgspec.Struct, frozen=True):
    """How large an event may be. The writer's are wider than any gateway's: it must not kill what was accepted."""

    attribute_bytes: int = 256
    data_bytes: int = 64 * 1024
    nesting: int = 16


WRITER_LIMITS = Limits(attribute_bytes=4096, data_bytes=1024 * 1024, nesting=64)
GATEWAY_AHEAD_MS = 5 * MINUTE_MS
WRITER_AHEAD_MS = 10 * MINUTE_MS
"""The writer's lead: twice the gateway's, so that skewed clocks kill nothing that was accepted."""
LATE_MS = 35 * DAY_MS


class UsageEvent(msgspec.Struct, gc=False, frozen=True):
    """A valid event. `time` in ms UTC, None where the sender left it out; `data` has Decimals for JSON fractions."""

    id: str
    source: str
    type: str
    time: int | None
    subject: str | None
    tenant: str | None
    data: Any
    extensions: dict[str, Any] | None

    def attribute(self, name: str) -> Any:
        """A CloudEvents attribute or extension by its bare name; None if absent."""
        if name in _CORE:
            return getattr(self, name)
        return self.extensions.get(name) if self.extensions else None


_CORE = frozenset({"id", "source", "type", "subject", "tenant"})
_Text = str | None | UnsetType


class _Wire(msgspec.Struct, gc=False):
    specversion: str
    id: str
    source: str
    type: str
    time: _Text = UNSET
    subject: _Text = UNSET
    datacontenttype: _Text = UNSET
    dataschema: _Text = UNSET
    tenant: _Text = UNSET
    data: Any = UNSET


_decode_wires = msgspec.json.Decoder(_Wire, float_hook=Decimal).decode_lines
_decode_any = msgspec.json.Decoder(float_hook=Decimal).decode


def compact(document: bytes) -> bytes:
    """JSON without insignificant white space and as valid UTF-8; raises InvalidEvent (`invalid-json`)."""
    try:
        if not document.isascii():
            document.decode("utf-8")
        return msgspec.json.format(document, indent=-1)
    except UnicodeDecodeError as error:
        raise InvalidEvent("invalid-utf8", f"byte {error.start} is not valid UTF-8") from None
    except RecursionError:
        raise InvalidEvent("too-deep", "nested too deeply") from None
    except msgspec.DecodeError as error:
        raise InvalidEvent("invalid-json", str(error)) from None


class Events(msgspec.Struct, gc=False, frozen=True):
    """Events side by side: one list per attribute, as in UsageEvent; none of them has extensions."""

    ids: list[str]
    sources: list[str]
    types: list[str]
    times: list[int | None]
    subjects: list[str | None]
    tenants: list[str | None]
    datas: list[Any]


def parse_usual(raws: Sequence[bytes], limits: Limits) -> Events | None:
    """Events from *compact* JSON, or None where one of them needs a closer look (`parse`)."""
    if (
        b"" in raws
        or set(map(_first_byte, raws)) != _OPENED
        or set(map(_last_byte, raws)) != _CLOSED
        or len(max(raws, key=len)) > limits.data_bytes
        or limits.attribute_bytes < _PLAIN_BYTES
        or limits.nesting < _FLAT
    ):
        return None
    text = b"\n".join(raws)
    if b"[" in text:
        return None
    try:
        # No string holds a line break and nothing is an array, so where `}` ends a line and `{` begins the next one
        # event ends and another begins: with as many events as lines, each line is one.
        wires = _decode_wires(text)
    except (msgspec.DecodeError, ArithmeticError, RecursionError):
        return None
    count = len(raws)
    ids, sources, types = [w.id for w in wires], [w.source for w in wires], [w.type for w in wires]
    texts, subjects = [w.time for w in wires], [w.subject for w in wires]
    tenants, content_types = [w.tenant for w in wires], [w.datacontenttype for w in wires]
    datas = [w.data for w in wires]
    members = 4 * count + sum(map(_there, (texts, subjects, tenants, content_types)))
    if set(map(type, datas)) == _OBJECTS:
        members += count + sum(map(len, datas))
    else:
        members += sum([data is not UNSET for data in datas]) + sum([len(data) for data in datas if type(data) is dict])
        datas = [None if data is UNSET else data for data in datas]
    if (
        len(wires) != count
        or not _nothing_lost(text, members, texts)
        or [w.specversion for w in wires].count("1.0") != count
        or not _all_plain(ids)
        or not all(map(_known_source, set(sources)))
        or not all(map(_known_type, set(types)))
        or not _USUAL_CONTENT.issuperset(content_types)
    ):
        return None
    times, plain_subjects, plain_tenants = _instants(texts), _optional(subjects), _optional(tenants)
    if times is None or plain_subjects is None or plain_tenants is None:
        return None
    return Events(ids, _shared(sources), _shared(types), times, plain_subjects, plain_tenants, datas)


def _nothing_lost(text: bytes, members: int, times: list[_Text]) -> bool:
    """Whether `text` has no more members than those decoded. Any colon is one more than members need, but for the two
    in each time; only where strings have colons too the dearer count decides."""
    usual = [len(time) for time in times if type(time) is str].count(_TIME_LENGTH)
    return text.count(b":") == members + 2 * usual or text.count(b'":') == members


_TIME_LENGTH = len("2026-11-23T10:00:00.123Z")  # valid times of this length have two colons
_first_byte, _last_byte = itemgetter(0), itemgetter(-1)
_OPENED, _CLOSED, _OBJECTS, _TEXTS = {ord("{")}, {ord("}")}, {dict}, {str}
_PLAIN_BYTES = 256
_FLAT = 3  # without arrays and unknown members, `data` can only hold empty objects
_USUAL_CONTENT = frozenset({UNSET, "application/json"})


def _instants(texts: list[_Text]) -> list[int | None] | None:
    try:
        # Milliseconds in UTC, as most senders write it: 2026-11-23T10:00:00.123Z
        return [_minute(t[:17]) + _SECONDS[t[17:20]] + _MILLISECONDS[t[20:]] for t in texts]  # type: ignore[index,operator]
    except (KeyError, TypeError):
        pass
    times: list[int | None] = []
    for text in texts:
        time = _instant(text) if type(text) is str and len(text) <= 64 else None
        if time is None and type(text) is str:
            return None
        times.append(time)
    return times


def _shared(texts: list[str]) -> list[str]:
    """The same, as one object where all are equal: who looks at them later finds it in the processor's cache."""
    return texts if len(set(texts)) > 1 else texts[:1] * len(texts)


def _there(texts: list[_Text]) -> int:
    return len(texts) if set(map(type, texts)) == _TEXTS else len(texts) - texts.count(UNSET)


def _optional(texts: list[_Text]) -> list[str | None] | None:
    """With None for what is not there; None if one that is there needs a closer look."""
    distinct = set(texts)
    there = [text for text in distinct if type(text) is str]
    if there and not _all_plain(there):
        return None
    return [None if text is UNSET else text for text in texts] if UNSET in distinct else cast(list[str | None], texts)


def _all_plain(texts: list[str]) -> bool:
    """Surely valid: printable, and at most _PLAIN_BYTES in UTF-8. False only means: look closer."""
    return "" not in texts and len(max(texts, key=len)) <= 64 and "".join(texts).isprintable()


@lru_cache(maxsize=8192)
def _known_source(source: str) -> bool:
    return _all_plain([source]) and _URI_REFERENCE.fullmatch(source) is not None


@lru_cache(maxsize=8192)
def _known_type(type: str) -> bool:
    return _all_plain([type])


_URI_REFERENCE = re.compile(r"(?:[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=\u00a0-\U0010fffd]|%[0-9A-Fa-f]{2})+")
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:.+")
_MEDIA_TYPE = re.compile(r"[\w.+\-^`|~!#$%&'*]+/[\w.+\-^`|~!#$%&'*]+(?:\s*;.*)?")
_EXTENSION = re.compile(r"[a-z0-9]+")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_HOUR, _MINUTE = r"(?:[01]\d|2[0-3])", r"[0-5]\d"
_TIME = re.compile(
    rf"\d{{4}}-\d\d-\d\d[Tt]{_HOUR}:{_MINUTE}:{_MINUTE}(?:\.\d+)?(?:[Zz]|[+-]{_HOUR}:{_MINUTE})", re.ASCII
)


def _refuse(code: str, detail: str) -> NoReturn:
    raise InvalidEvent(code, detail)


def parse(raw: bytes, limits: Limits) -> UsageEvent:
    """One event from *compact* JSON (see `compact`). Raises InvalidEvent with a code and what to change."""
    document = _members_of(raw, limits)
    version = document.get("specversion")
    if version != "1.0":
        _refuse("specversion", '`specversion` must be "1.0"')
    for name in ("id", "source", "type"):
        if document.get(name) is None:
            _refuse("missing-attribute", f"`{name}` is required")
    for name, value in document.items():
        if name not in ("data", "data_base64") and value is not None:
            _check_attribute(name, value, limits)
    if "receivedat" in document:
        _refuse("reserved-attribute", "`receivedat` is set by Tallygate; leave it out")
    if not _URI_REFERENCE.fullmatch(document["source"]):
        _refuse("invalid-attribute", "`source` must be a URI reference, like /pms/berlin")
    data = document.get("data")
    if document.get("data_base64") is not None:
        if data is not None:
            _refuse("invalid-attribute", "`data` and `data_base64` exclude each other")
        _check_base64(document["data_base64"], limits)
    elif data is not None and len(raw) > limits.data_bytes and len(_raw_data(raw)) > limits.data_bytes:
        _refuse("data-too-large", f"`data` may have {limits.data_bytes} bytes")
    extensions = {k: v for k, v in document.items() if k not in _ATTRIBUTES and v is not None}
    return UsageEvent(
        document["id"],
        document["source"],
        document["type"],
        _time_of(document.get("time")),
        document.get("subject"),
        document.get("tenant"),
        data,
        extensions or None,
    )


_ATTRIBUTES = frozenset(_Wire.__struct_fields__) | {"data_base64", "receivedat"}


def _members_of(raw: bytes, limits: Limits) -> dict[str, Any]:
    """The event as a dict, after looking at every member for repeats and at the depth."""
    if raw.count(b"{") + raw.count(b"[") > limits.nesting and _depth(raw) > limits.nesting:
        _refuse("too-deep", f"nesting deeper than {limits.nesting}")
    try:
        document = _decode_any(raw)
    except RecursionError:
        _refuse("too-deep", f"nesting deeper than {limits.nesting}")
    except msgspec.DecodeError as error:
        _refuse("invalid-json", str(error))
    except ArithmeticError:  # Decimal's own limit: an exponent of more than 18 digits
        _refuse("invalid-json", "a number's exponent is out of range")
    if type(document) is not dict:
        _refuse("not-an-event", "an event is a JSON object")
    if raw.count(b'":') != _member_count(document):  # a member may be repeated, or a string holds what looks like one
        try:
            json.loads(raw, object_pairs_hook=_distinct, parse_int=str, parse_float=str)
        except (ValueError, RecursionError) as error:
            _refuse("invalid-json", str(error))
    return document


def _member_count(value: Any) -> int:
    """Members of all objects in a decoded value."""
    if type(value) is dict:
        return len(value) + sum([_member_count(part) for part in value.values() if type(part) in _NESTED])
    return sum([_member_count(part) for part in value if type(part) in _NESTED])


_NESTED = frozenset({dict, list})


def _distinct(pairs: list[tuple[str, Any]]) -> None:
    names = [name for name, _ in pairs]
    if len(set(names)) != len(names):
        repeated = next(name for name in names if names.count(name) > 1)
        _refuse("duplicate-member", f"the member {repeated!r} stands twice in one object")


def _depth(raw: bytes) -> int:
    """Nesting of a JSON text, counted over its brackets outside of strings."""
    depth = deepest = 0
    for bracket in re.sub(rb'"(?:[^"\\]|\\.)*"', b"", raw):
        if bracket in b"{[":
            depth += 1
            deepest = max(deepest, depth)
        elif bracket in b"}]":
            depth -= 1
    return deepest


def _check_attribute(name: str, value: Any, limits: Limits) -> None:
    if name in _ATTRIBUTES:
        if type(value) is not str:
            _refuse("invalid-attribute", f"`{name}` must be a string")
    elif not _EXTENSION.fullmatch(name):
        _refuse("invalid-attribute", f"attribute names are lower-case letters and digits: {name[:64]!r}")
    elif type(value) is int:
        if not -(2**31) <= value < 2**31:
            _refuse("invalid-attribute", f"`{name}` must fit in 32 bits; send larger numbers as strings")
        return
    elif type(value) is bool:
        return
    elif type(value) is not str:
        _refuse("invalid-attribute", f"`{name}` must be a string, integer or boolean")
    if not value:
        _refuse("invalid-attribute", f"`{name}` must not be empty")
    if len(value.encode("utf-8", "surrogatepass")) > limits.attribute_bytes:
        _refuse("attribute-too-long", f"`{name}` may have {limits.attribute_bytes} bytes")
    if _CONTROL.search(value):
        _refuse("invalid-attribute", f"`{name}` holds a control character")
    if name == "datacontenttype" and not _MEDIA_TYPE.fullmatch(value):
        _refuse("invalid-attribute", "`datacontenttype` must be a media type, like application/json")
    if name == "dataschema" and not _URI.fullmatch(value):
        _refuse("invalid-attribute", "`dataschema` must be an absolute URI")


def _check_base64(value: Any, limits: Limits) -> None:
    if type(value) is not str or not re.fullmatch(r"[A-Za-z0-9+/]*={0,2}", value) or len(value) % 4:
        _refuse("invalid-attribute", "`data_base64` must be a base64 string")
    if len(value) * 3 // 4 > limits.data_bytes:
        _refuse("data-too-large", f"`data_base64` may decode to {limits.data_bytes} bytes")


class _DataOnly(msgspec.Struct, gc=False):
    data: msgspec.Raw = msgspec.Raw(b"")


def _raw_data(raw: bytes) -> bytes:
    return bytes(msgspec.json.decode(raw, type=_DataOnly).data)


def _time_of(value: str | None) -> int | None:
    if value is None:
        return None
    time = _instant(value)
    if time is None:
        _refuse("invalid-time", "`time` must be RFC 3339 with an offset, like 2026-11-23T10:00:00Z")
    return time


def _instant(text: str) -> int | None:
    """RFC 3339 with an offset → ms UTC, finer digits cut; None for anything else."""
    length = len(text)
    if length == 24:
        seconds, rest = _SECONDS.get(text[17:20]), _MILLISECONDS.get(text[20:])
    elif length == 20:
        seconds, rest = _SECONDS_Z.get(text[17:]), 0
    else:
        return _careful_instant(text)
    if seconds is None or rest is None:
        return _careful_instant(text)
    minute = _minute(text[:17])
    return None if minute is None else minute + seconds + rest


_SECONDS = {f"{second:02d}.": second * SECOND_MS for second in range(60)}
_SECONDS_Z = {f"{second:02d}Z": second * SECOND_MS for second in range(60)}
_MILLISECONDS = {f"{millisecond:03d}Z": millisecond for millisecond in range(1000)}


@lru_cache(maxsize=8192)
def _minute(text: str) -> int | None:
    """`2026-11-23T10:00:` in UTC."""
    return _careful_instant(text + "00Z")


def _careful_instant(text: str) -> int | None:
    if not _TIME.fullmatch(text):
        return None
    try:
        return to_ms(datetime.fromisoformat(text.upper()))
    except ValueError:
        return None


def check_time(time: int, now: int, ahead_ms: int, late_ms: int | None) -> None:
    """Raise InvalidEvent (`time-out-of-range`) unless `time` lies at most `ahead_ms` after and `late_ms` before `now`.

    `late_ms` None: any past since 1970 (the ledger's clock begins there).
    """
    if time > now + ahead_ms:
        _refuse("time-out-of-range", f"`time` is more than {ahead_ms // MINUTE_MS} min in the future")
    if time < 0:
        _refuse("time-out-of-range", "`time` is before 1970")
    if late_ms is not None and time < now - late_ms:
        _refuse("time-out-of-range", f"`time` is more than {late_ms // DAY_MS} days old; that needs `backfill`")
