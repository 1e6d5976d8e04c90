"""A request's headers and body → compact events."""

from __future__ import annotations

import gzip
import json
import sys
import zlib
from collections.abc import Callable

import msgspec
import pytest
from multidict import CIMultiDict

from ingest import decode
from metering.errors import InvalidEvent
from metering.event import Limits, parse
from service.problems import Problem

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

EVENT = {"specversion": "1.0", "id": "1", "source": "/pms", "type": "call.completed"}
LIMIT = 1_000_000
Compress = Callable[[bytes], bytes]


def events_of(content_type: str | None, body: bytes, *headers: tuple[str, str]) -> decode.Batch:
    items = CIMultiDict(headers)
    if content_type is not None:
        items["Content-Type"] = content_type
    return decode.events_of(items, items.items(), body)


def binary(body: bytes, content_type: str | None = "application/json", **attributes: str) -> dict[str, object]:
    given = {"specversion": "1.0", "id": "1", "source": "/pms", "type": "call.completed", **attributes}
    batch = events_of(content_type, body, *((f"CE-{name}", value) for name, value in given.items()))
    if batch.broken:
        raise batch.broken[0]
    parse(batch.events[0], Limits())
    document: dict[str, object] = json.loads(batch.events[0])
    return document


def problem_of(content_type: str | None, body: bytes, *headers: tuple[str, str]) -> Problem:
    with pytest.raises(Problem) as caught:
        events_of(content_type, body, *headers)
    return caught.value


@pytest.mark.parametrize("content_type", [decode.EVENT, decode.JSON, "Application/JSON; charset=UTF-8"])
def test_one_event_may_come_structured_or_as_plain_json(content_type: str) -> None:
    assert events_of(content_type, json.dumps(EVENT, indent=2).encode()).events == [msgspec.json.encode(EVENT)]


@pytest.mark.parametrize("content_type", [decode.BATCH, decode.JSON])
@pytest.mark.parametrize("indent", [None, 1])
def test_an_array_is_a_batch_and_each_event_comes_out_compact(content_type: str, indent: int | None) -> None:
    body = json.dumps([EVENT, {**EVENT, "id": "Zürich 2", "data": {"a": [1, 2]}}], indent=indent, ensure_ascii=False)
    assert events_of(content_type, body.encode()).events == [
        msgspec.json.encode(EVENT),
        '{"specversion":"1.0","id":"Zürich 2","source":"/pms","type":"call.completed","data":{"a":[1,2]}}'.encode(),
    ]


def test_a_compact_array_is_only_cut_never_rewritten() -> None:
    body = b'[{"b":1.50,"a":"\\u0041"},[],"x"]'
    assert events_of(decode.BATCH, body).events == [b'{"b":1.50,"a":"\\u0041"}', b"[]", b'"x"']


def test_ndjson_lines_are_read_one_by_one() -> None:
    batch = events_of(decode.NDJSON, b'{"a": 1}\r\n\n  \n{"a":\n{"b":2}\n{"c":"\xff"}')
    assert batch.events == [b'{"a":1}', b"", b'{"b":2}', b""]
    assert {index: error.code for index, error in batch.broken.items()} == {1: "invalid-json", 3: "invalid-utf8"}


@pytest.mark.parametrize(
    ("content_type", "body", "status", "code"),
    [
        (decode.EVENT, b'{"specversion"', 400, "invalid-json"),
        (decode.EVENT, b"", 400, "invalid-json"),
        (decode.BATCH, b'[{"a":1},{"b":]', 400, "invalid-json"),
        (decode.BATCH, b'[{"a":1}] []', 400, "invalid-json"),
        (decode.BATCH, b'[{"a":NaN}]', 400, "invalid-json"),
        (decode.BATCH, b'[{"a":Infinity}]', 400, "invalid-json"),
        (decode.BATCH, b'[{"a":"\xff"}]', 400, "invalid-utf8"),
        (decode.BATCH, '[{"a":1}]'.encode("utf-16"), 400, "invalid-utf8"),
        (decode.BATCH, b'{"a":1}', 400, "not-a-batch"),
        (decode.EVENT, b'[{"a":1}]', 400, "not-an-event"),
        (decode.BATCH, b"[" * 100_000, 422, "too-deep"),
        (decode.BATCH, b'[ {"a":' + b"[" * 100_000, 422, "too-deep"),
        ("text/plain", b"{}", 415, "unsupported-media-type"),
        ("application/cloudevents+avro", b"{}", 415, "unsupported-media-type"),
        (None, b"{}", 415, "unsupported-media-type"),
        ("application/json; charset=latin-1", b"{}", 415, "unsupported-charset"),
    ],
)
def test_what_is_no_events_at_all_has_its_own_problem(
    content_type: str | None, body: bytes, status: int, code: str
) -> None:
    problem = problem_of(content_type, body)
    assert (problem.status, problem.code) == (status, code)


def test_structured_mode_goes_before_ce_headers() -> None:
    assert events_of(decode.EVENT, b'{"a":1}', ("ce-id", "9"), ("ce-specversion", "1.0")).events == [b'{"a":1}']


def test_binary_mode_takes_attributes_from_headers_and_keeps_the_json_body() -> None:
    assert binary(b'{ "seconds": 12.50 }', time="2026-11-23T10:00:00Z", myext="7") == {
        **EVENT,
        "time": "2026-11-23T10:00:00Z",
        "myext": "7",
        "datacontenttype": "application/json",
        "data": {"seconds": 12.5},
    }


def test_binary_mode_without_a_content_type_is_json() -> None:
    assert binary(b'{"a":1}', content_type=None) == {**EVENT, "data": {"a": 1}}


def test_binary_mode_without_a_body_has_no_data() -> None:
    assert binary(b"") == {**EVENT, "datacontenttype": "application/json"}


@pytest.mark.parametrize(
    ("content_type", "body", "member"),
    [
        ("application/vnd.hotel+json", b"[1]", {"data": [1]}),
        ("text/plain", "Zürich".encode(), {"data": "Zürich"}),
        ("text/plain; charset=utf-8", b"a\nb", {"data": "a\nb"}),
        ("text/plain", b"\xff", {"data_base64": "/w=="}),
        ("text/plain; charset=latin-1", b"a", {"data_base64": "YQ=="}),
        ("application/octet-stream", b"\x00\x01", {"data_base64": "AAE="}),
    ],
)
def test_binary_mode_carries_any_media_type(content_type: str, body: bytes, member: dict[str, object]) -> None:
    assert binary(body, content_type) == {**EVENT, "datacontenttype": content_type, **member}


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("Euro %E2%82%AC %F0%9F%98%80", "Euro € 😀"),
        ("%22quoted%22 100%25", '"quoted" 100%'),
        ("%2525", "%25"),
        ('"an \\"older\\" sender %41"', 'an "older" sender A'),
        ("100% sure", "100% sure"),
        ("Zürich", "Zürich"),
    ],
)
def test_header_values_are_percent_decoded_once_as_utf8(header: str, value: str) -> None:
    assert binary(b"", subject=header)["subject"] == value


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ([("ce-id", "1"), ("ce-id", "2")], "duplicate-member"),
        ([("ce-id", "1"), ("ce-subject", "%FF")], "invalid-utf8"),
        ([("ce-id", "1"), ("ce-subject", "\udcff")], "invalid-utf8"),
        ([("ce-id", "1"), ("ce-data", "{}")], "invalid-attribute"),
        ([("ce-id", "1"), ("ce-datacontenttype", "text/xml")], "invalid-attribute"),
    ],
)
def test_a_bad_binary_event_is_an_error_of_that_event(headers: list[tuple[str, str]], code: str) -> None:
    batch = events_of("application/json", b"{}", *headers)
    assert batch.events == [b""]
    assert batch.broken[0].code == code


@pytest.mark.parametrize(("body", "code"), [(b"{", "invalid-json"), (b'1,"id":"2"', "invalid-json")])
def test_a_binary_body_cannot_smuggle_members_into_the_event(body: bytes, code: str) -> None:
    with pytest.raises(InvalidEvent) as caught:
        binary(body)
    assert caught.value.code == code


def gzipped(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


@pytest.mark.parametrize(("encoding", "compress"), [("gzip", gzipped), ("x-gzip", gzipped), ("zstd", zstd.compress)])
def test_bodies_may_be_compressed_in_one_or_several_frames(encoding: str, compress: Compress) -> None:
    data = bytes(range(256)) * 2000
    assert decode.decompress(compress(data), encoding, LIMIT) == data
    assert decode.decompress(compress(data) + compress(b"more"), encoding, LIMIT) == data + b"more"
    assert decode.decompress(compress(b"x" * LIMIT), encoding, LIMIT) == b"x" * LIMIT


@pytest.mark.parametrize(("encoding", "compress"), [("gzip", gzipped), ("zstd", zstd.compress)])
def test_a_zip_bomb_is_refused_at_the_limit(encoding: str, compress: Compress) -> None:
    bomb = compress(b"\0" * 50_000_000)
    assert len(bomb) < 60_000
    for body in (bomb, compress(b"x" * (LIMIT + 1)), compress(b"x" * LIMIT) + compress(b"x")):
        with pytest.raises(Problem) as caught:
            decode.decompress(body, encoding, LIMIT)
        assert (caught.value.status, caught.value.code) == (413, "body-too-large")


def test_nothing_is_inflated_past_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    inflated = 0
    real = zlib.decompressobj

    class Watched:
        def __init__(self, wbits: int) -> None:
            self._stream = real(wbits)

        def __getattr__(self, name: str) -> object:
            return getattr(self._stream, name)

        def decompress(self, data: bytes, longest: int) -> bytes:
            nonlocal inflated
            piece = self._stream.decompress(data, longest)
            inflated += len(piece)
            return piece

    bomb = gzipped(b"\0" * 50_000_000)
    monkeypatch.setattr(zlib, "decompressobj", Watched)
    with pytest.raises(Problem):
        decode.decompress(bomb, "gzip", LIMIT)
    assert inflated == LIMIT + 1


@pytest.mark.parametrize(
    ("encoding", "body", "status", "code"),
    [
        ("gzip", b"not gzip", 400, "invalid-encoding"),
        ("gzip", gzipped(b"x" * 1000)[:-9], 400, "invalid-encoding"),
        ("gzip", gzipped(b"x" * 1000) + b"junk", 400, "invalid-encoding"),
        ("zstd", b"not zstd", 400, "invalid-encoding"),
        ("zstd", zstd.compress(b"x" * 1000)[:-2], 400, "invalid-encoding"),
        ("br", b"", 415, "unsupported-encoding"),
        ("gzip, zstd", b"", 415, "unsupported-encoding"),
    ],
)
def test_broken_and_unknown_encodings_say_so(encoding: str, body: bytes, status: int, code: str) -> None:
    with pytest.raises(Problem) as caught:
        decode.decompress(body, encoding, LIMIT)
    assert (caught.value.status, caught.value.code) == (status, code)


def test_a_zstd_frame_cannot_ask_for_a_huge_window() -> None:
    options: dict[int, int] = {zstd.CompressionParameter.window_log: 27, zstd.CompressionParameter.content_size_flag: 0}
    compressor = zstd.ZstdCompressor(options=options)
    body = compressor.compress(b"x" * 100) + compressor.flush()
    with pytest.raises(Problem) as caught:
        decode.decompress(body, "zstd", LIMIT)
    assert caught.value.code == "invalid-encoding"
