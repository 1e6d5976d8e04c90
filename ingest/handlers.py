"""`POST /v1/events`: authenticate, admit, decode, judge, publish, answer. 202 only when the broker has every frame."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
from aiohttp import web

from ingest import auth, decode, metrics
from ingest.admission import Admission, Hold, Rate
from ingest.control import Control
from ingest.publisher import Positions, Publisher
from ingest.settings import Settings
from ingest.verdict import EventError, Rules, Verdict, judge, merge
from metering.clock import DAY_MS, Clock
from metering.meter import CompiledCatalog
from service.problems import Problem
from tenancy.keys import Principal

SETTINGS = web.AppKey("settings", Settings)
CLOCK = web.AppKey("clock", Clock)
CONTROL = web.AppKey("control", Control)
PUBLISHER = web.AppKey("publisher", Publisher)
ADMISSION = web.AppKey("admission", Admission)
REQUEST_RATE = web.AppKey("request_rate", Rate)
BACKFILL_RATE = web.AppKey("backfill_rate", Rate)

_SLICE = 500
"""Events judged before others get their turn: about a millisecond."""
_THREAD_BYTES = 32 * 1024
"""Compressed bodies from this size on are inflated in a thread."""


class Accepted(msgspec.Struct):
    """The body of 202. `positions` are [partition, offset] of the frames in the log of `epoch`."""

    accepted: int
    rejected: int
    errors: list[EventError]
    positions: Positions
    epoch: int


async def post_events(request: web.Request) -> web.Response:
    """The contract is contracts.md, "ingest"."""
    app = request.app
    settings = app[SETTINGS]
    principal = await auth.sender_of(request)
    fields = await app[REQUEST_RATE].spend(principal.key_id)
    size = request.content_length
    if size is not None and size > settings.body_bytes:
        raise _too_large(settings)
    held = settings.body_bytes if size is None else size
    with app[ADMISSION].hold(auth.share_of(principal), held) as hold:
        body = await _body(request, settings, hold)
        batch = decode.events_of(request.headers, request.headers.items(), body)
        verdict, catalog, now = await _judged(app, principal, batch)
        lenient = _lenient(request)
        if verdict.errors:
            _count(verdict.errors)
            if not lenient:
                raise _refused(len(batch.events), verdict.errors)
        if verdict.old:
            fields |= await app[BACKFILL_RATE].spend(auth.share_of(principal), verdict.old)
        answer = await _published(app[PUBLISHER], verdict, catalog, now)
    if lenient:
        fields["Preference-Applied"] = "handling=lenient"
    return web.Response(
        status=202, body=msgspec.json.encode(answer), content_type="application/json", headers=fields or None
    )


async def _body(request: web.Request, settings: Settings, hold: Hold) -> bytes:
    try:
        if request.content.is_eof():  # small bodies come with their headers
            body = await request.read()
        else:
            async with asyncio.timeout(settings.body_seconds):
                body = await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise _too_large(settings) from None
    except (ConnectionError, web.RequestPayloadError):
        raise Problem(400, "incomplete-body", "the connection ended before the body did") from None
    except TimeoutError:
        raise Problem(408, "body-too-slow", f"the body must arrive within {settings.body_seconds:g} s") from None
    encoding = request.headers.get("Content-Encoding")
    if encoding is None:
        return body
    hold.resize(len(body) + settings.decompressed_bytes)
    limit = settings.decompressed_bytes
    if len(body) < _THREAD_BYTES:
        body = decode.decompress(body, encoding, limit)
    else:
        body = await asyncio.to_thread(decode.decompress, body, encoding, limit)
    hold.resize(len(body))
    return body


def _too_large(settings: Settings) -> Problem:
    return Problem(413, "body-too-large", f"a body may have {settings.body_bytes} bytes")


async def _judged(
    app: web.Application, principal: Principal, batch: decode.Batch
) -> tuple[Verdict, CompiledCatalog, int]:
    settings, control = app[SETTINGS], app[CONTROL]
    if not batch.events:
        raise Problem(422, "empty-batch", "there is no event in it")
    if len(batch.events) > settings.max_events:
        raise Problem(413, "too-many-events", f"a request may have {settings.max_events} events")
    now = app[CLOCK].now_ms()
    catalog = control.catalog(now)
    rules = _rules(principal, settings)
    verdict = await _judge(batch, rules, catalog, control, now)
    while verdict.unseen:
        await control.look_up(verdict.unseen)
        verdict = await _judge(batch, rules, catalog, control, now)
    return verdict, catalog, now


def _rules(principal: Principal, settings: Settings) -> Rules:
    return Rules(
        tenant=principal.tenant,
        may_void=principal.may("void"),
        limits=settings.event_limits(),
        ahead_ms=settings.ahead_ms,
        late_ms=None if principal.may("backfill") else settings.late_ms,
        old_ms=DAY_MS,
    )


async def _judge(batch: decode.Batch, rules: Rules, catalog: CompiledCatalog, control: Control, now: int) -> Verdict:
    events = batch.events
    if len(events) <= _SLICE:
        return judge(events, batch.broken, rules, catalog, control.tenants, now)
    verdicts = []
    for first in range(0, len(events), _SLICE):
        part = events[first : first + _SLICE]
        verdicts.append(judge(part, batch.broken, rules, catalog, control.tenants, now, first))
        await asyncio.sleep(0)
    return merge(verdicts)


def _lenient(request: web.Request) -> bool:
    """RFC 7240: preferences in any number of fields, by commas; the first of a kind counts."""
    if "Prefer" not in request.headers:
        return False
    for preference in ",".join(request.headers.getall("Prefer")).split(","):
        name, _, value = preference.partition(";")[0].partition("=")
        if name.strip().lower() == "handling":
            return value.strip().strip('"').lower() == "lenient"
    return False


def _count(errors: Sequence[EventError]) -> None:
    for error in errors:
        metrics.REFUSED.labels(error.code).inc()


def _refused(total: int, errors: Sequence[EventError]) -> Problem:
    return Problem(
        422,
        "invalid-events",
        f"{len(errors)} of {total} events cannot be counted, so none was accepted",
        errors=errors,
    )


async def _published(publisher: Publisher, verdict: Verdict, catalog: CompiledCatalog, now: int) -> Accepted:
    count = sum(map(len, verdict.accepted.values()))
    with metrics.PUBLISH_SECONDS.time():
        epoch, positions = await publisher.publish(verdict.accepted, catalog.version, now)
    metrics.ACCEPTED.inc(count)
    return Accepted(count, len(verdict.errors), verdict.errors, positions, epoch)
