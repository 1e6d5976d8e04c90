"""A request's body and headers → the events in it, each as compact JSON bytes. Judges form, not content.

CloudEvents HTTP binding 1.0: structured, batched and binary mode; and NDJSON, one structured event a line.
"""

from __future__ import annotations

import base64
import re
import sys
import zlib
from collections.abc import Iterable, Mapping
from urllib.parse import unquote_to_bytes

import msgspec

from metering.errors import InvalidEvent
from metering.event import compact
from service.problems import Problem

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

EVENT = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
JSON = "application/json"
NDJSON = "application/x-ndjson"
ACCEPTED = (EVENT, BATCH, JSON, NDJSON)

_CHUNK = 64 * 1024
_ZSTD_OPTIONS: dict[int, int] = {zstd.DecompressionParameter.window_log_max: 23}
"""RFC 9659: 8 MiB is the largest window of the content encoding; more would be memory at the sender's command."""

_slice = msgspec.json.Decoder(list[msgspec.Raw]).decode
_JSON_TYPE = re.compile(r"[a-z0-9.\-]+/(?:[a-z0-9.\-]+\+)?json")
_PARAMETERS = re.compile(r';\s*([\w\-]+)\s*=\s*"?([^";]*)"?')
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_BINARY_MARKS = ("ce-specversion", "ce-id", "ce-source", "ce-type")


class Batch(msgspec.Struct):
    """Events in the order they were sent. Where one is `b""`, `broken` says by its index why it could not be read."""

    events: list[bytes]
    broken: dict[int, InvalidEvent] = {}


def decompress(body: bytes, encoding: str, limit: int) -> bytes:
    """Undo a Content-Encoding. Never holds more than `limit` bytes of output.

    Raises Problem 413 (`body-too-large`) past the limit, 415 for an unknown encoding, 400 for a broken stream.
    """
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return body
    try:
        if name in ("gzip", "x-gzip"):
            return b"".join(_gunzip(body, limit))
        if name == "zstd":
            return b"".join(_unzstd(body, limit))
    except (zlib.error, zstd.ZstdError, EOFError) as error:
        raise Problem(400, "invalid-encoding", f"the body is not valid {name}: {error}") from None
    raise Problem(
        415,
        "unsupported-encoding",
        "Content-Encoding may be gzip or zstd",
        headers={"Accept-Encoding": "gzip, zstd"},
    )


def _gunzip(body: bytes, limit: int) -> Iterable[bytes]:
    left = limit
    while body:  # a gzip file may have several members
        stream = zlib.decompressobj(wbits=31)
        rest = body
        while not stream.eof:
            piece = stream.decompress(rest, min(_CHUNK, left + 1))
            rest = stream.unconsumed_tail
            if not piece and not rest and not stream.eof:
                raise EOFError("it ends too early")
            left -= len(piece)
            _check_left(left, limit)
            yield piece
        body = stream.unused_data


def _unzstd(body: bytes, limit: int) -> Iterable[bytes]:
    left = limit
    while body:
        stream = zstd.ZstdDecompressor(options=_ZSTD_OPTIONS)
        rest = body
        while not stream.eof:
            piece = stream.decompress(rest, min(_CHUNK, left + 1))
            rest = b""
            if not piece and stream.needs_input and not stream.eof:
                raise EOFError("it ends too early")
            left -= len(piece)
            _check_left(left, limit)
            yield piece
        body = stream.unused_data


def _check_left(left: int, limit: int) -> None:
    if left < 0:
        raise Problem(413, "body-too-large", f"the decompressed body may have {limit} bytes")


def events_of(headers: Mapping[str, str], header_items: Iterable[tuple[str, str]], body: bytes) -> Batch:
    """The events of a decompressed body. `header_items` are all headers, also repeated ones.

    Raises Problem 415 for a content type we do not take, 400 for a body that is no JSON or no batch of events.
    """
    content_type = headers.get("Content-Type")
    media = (content_type or "").partition(";")[0].strip().lower()
    if not media.startswith("application/cloudevents") and any(mark in headers for mark in _BINARY_MARKS):
        try:
            return Batch([_binary_event(header_items, content_type, media, body)])
        except InvalidEvent as error:
            return Batch([b""], {0: error})
    if media not in ACCEPTED:
        accepted = ", ".join(ACCEPTED)
        raise Problem(
            415,
            "unsupported-media-type",
            f"Content-Type must be one of {accepted}, or binary mode with ce-* headers",
            headers={"Accept-Post": accepted},
        )
    charset = parameters(content_type or "").get("charset", "utf-8")
    if charset.lower() not in ("utf-8", "utf8", "us-ascii"):
        raise Problem(415, "unsupported-charset", "JSON is sent as UTF-8")
    if media == NDJSON:
        return _lines(body)
    try:
        document = body if body.startswith(b"[") and _is_compact(body) else compact(body)
        if not document.startswith(b"["):
            if media == BATCH:
                raise Problem(400, "not-a-batch", f"{BATCH} is a JSON array of events")
            return Batch([document])
        if media == EVENT:
            raise Problem(400, "not-an-event", f"{EVENT} is one event; send arrays as {BATCH}")
        return Batch([bytes(raw) for raw in _slice(document)])
    except InvalidEvent as error:
        raise Problem(422 if error.code == "too-deep" else 400, error.code, error.detail) from None
    except msgspec.DecodeError as error:
        raise Problem(400, "invalid-json", str(error)) from None
    except RecursionError:
        raise Problem(422, "too-deep", "nested too deeply") from None


def _is_compact(body: bytes) -> bool:
    """Surely without white space and valid UTF-8; False only means: let `compact` see to it."""
    return body.isascii() and not (b" " in body or b"\n" in body or b"\t" in body or b"\r" in body)


def _lines(body: bytes) -> Batch:
    events: list[bytes] = []
    broken: dict[int, InvalidEvent] = {}
    for line in body.split(b"\n"):
        if not line or line.isspace():
            continue
        try:
            events.append(compact(line))
        except InvalidEvent as error:
            broken[len(events)] = error
            events.append(b"")
    return Batch(events, broken)


def parameters(content_type: str) -> dict[str, str]:
    """Parameters of a media type, names in lower case."""
    return {name.lower(): value.strip() for name, value in _PARAMETERS.findall(content_type)}


def _binary_event(items: Iterable[tuple[str, str]], content_type: str | None, media: str, body: bytes) -> bytes:
    """Binary mode as one JSON event: attributes from `ce-*` headers, the body as `data`."""
    attributes: dict[str, str] = {}
    for header, value in items:
        name = header.lower()
        if not name.startswith("ce-"):
            continue
        name = name[3:]
        if name in attributes:
            raise InvalidEvent("duplicate-member", f"the header ce-{name} stands twice")
        if name in ("data", "data_base64", "datacontenttype"):
            raise InvalidEvent(
                "invalid-attribute", f"ce-{name} is no attribute; data is the body, its type Content-Type"
            )
        attributes[name] = _header_value(name, value)
    if content_type is not None:
        attributes["datacontenttype"] = content_type
    document = msgspec.json.encode(attributes)
    if not body:
        return document
    return b"%b,%b}" % (document[:-1], _binary_data(media if content_type is not None else JSON, content_type, body))


def _binary_data(media: str, content_type: str | None, body: bytes) -> bytes:
    """The member that carries the body: JSON as it is, text as a string, anything else as base64."""
    if _JSON_TYPE.fullmatch(media):
        return b'"data":' + compact(body)
    if media.startswith("text/") and parameters(content_type or "").get("charset", "utf-8").lower() == "utf-8":
        try:
            return b'"data":' + msgspec.json.encode(body.decode())
        except UnicodeDecodeError:
            pass
    return b'"data_base64":"' + base64.b64encode(body) + b'"'


def _header_value(name: str, value: str) -> str:
    """HTTP binding 3.1.3.2: undo double quotes (older senders), then one round of percent-decoding, as UTF-8."""
    quoted = _QUOTED.fullmatch(value)
    if quoted:
        value = re.sub(r"\\(.)", r"\1", quoted[1])
    try:
        if "%" in value:
            return unquote_to_bytes(value).decode()
        value.encode()
        return value
    except UnicodeError:
        raise InvalidEvent("invalid-utf8", f"the header ce-{name} is not valid UTF-8") from None
