"""What an operator can set for the gateway: `TALLYGATE_INGEST_<FIELD>`, and the addresses that all services share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import limits
import msgspec
from msgspec import Meta

from metering import settings
from metering.clock import DAY_MS, SECOND_MS
from metering.errors import InvalidSettings
from metering.event import WRITER_AHEAD_MS, WRITER_LIMITS, Limits
from metering.frame import MAX_FRAME_BYTES

PREFIX = "TALLYGATE_INGEST"


class Settings(msgspec.Struct, frozen=True):
    """Sizes in bytes. Upper bounds keep it within what the writer takes: that must not kill what was accepted."""

    kafka: Annotated[str, Meta(description="broker, host:port", min_length=1)]
    sql: Annotated[str, Meta(description="SQLAlchemy async URL of tenants, keys, catalogs and epochs", min_length=1)]
    kafka_embedded: Annotated[bool, Meta(description="the broker has no idempotent producers")] = False
    host: Annotated[str, Meta(description="address to listen on")] = "127.0.0.1"
    port: Annotated[int, Meta(description="public port, shared by all workers", ge=1, le=65535)] = 8080
    ops_port: Annotated[
        int | None, Meta(description="probes and metrics of the first worker; the others take the ports after it")
    ] = None
    body_bytes: Annotated[int, Meta(description="request body as sent", ge=1024)] = 4 * 1024 * 1024
    decompressed_bytes: Annotated[int, Meta(description="request body after decompression", ge=1024)] = 16 * 1024 * 1024
    body_seconds: Annotated[float, Meta(description="time a request body may take to arrive", gt=0)] = 30.0
    max_events: Annotated[int, Meta(description="events of one request", ge=1, le=100_000)] = 10_000
    attribute_bytes: Annotated[
        int, Meta(description="one attribute of an event", ge=64, le=WRITER_LIMITS.attribute_bytes)
    ] = 256
    data_bytes: Annotated[int, Meta(description="`data` of an event", ge=1, le=MAX_FRAME_BYTES // 2)] = 64 * 1024
    nesting: Annotated[int, Meta(description="nesting of an event", ge=2, le=WRITER_LIMITS.nesting)] = 16
    ahead_seconds: Annotated[
        int, Meta(description="how far in the future `time` may lie", ge=0, le=WRITER_AHEAD_MS // 2 // SECOND_MS)
    ] = 300
    late_days: Annotated[int, Meta(description="how far back `time` may lie without `backfill`", ge=1)] = 35
    inflight_bytes: Annotated[int, Meta(description="bodies held at a time by one process", ge=1024)] = (
        256 * 1024 * 1024
    )
    tenant_inflight_bytes: Annotated[int, Meta(description="a tenant's share of that", ge=1024)] = 64 * 1024 * 1024
    request_rate: Annotated[str, Meta(description="requests per key and process, like 500/second; empty: no limit")] = (
        ""
    )
    backfill_rate: Annotated[
        str, Meta(description="events older than a day per tenant and process; the ledger is asked for each of them")
    ] = "240000/minute"
    publish_seconds: Annotated[float, Meta(description="longest wait for the broker's acknowledgement", gt=0)] = 10.0
    drain_seconds: Annotated[float, Meta(description="time for requests under way when stopping", ge=0)] = 15.0

    def event_limits(self) -> Limits:
        """How large an event may be."""
        return Limits(self.attribute_bytes, self.data_bytes, self.nesting)

    @property
    def ahead_ms(self) -> int:
        """How far in the future an event's time may lie."""
        return self.ahead_seconds * SECOND_MS

    @property
    def late_ms(self) -> int:
        """How far in the past an event's time may lie without `backfill`."""
        return self.late_days * DAY_MS


def load(environment: Mapping[str, str]) -> Settings:
    """Raises InvalidSettings with every mistake, also those between variables."""
    read = settings.load(Settings, PREFIX, environment)
    problems = [*_contradictions(read)]
    if problems:
        raise InvalidSettings(problems)
    return read


def _contradictions(read: Settings) -> list[str]:
    problems = []
    if read.decompressed_bytes < read.body_bytes:
        problems.append(f"{PREFIX}_DECOMPRESSED_BYTES must not be below {PREFIX}_BODY_BYTES")
    if read.tenant_inflight_bytes < read.body_bytes + read.decompressed_bytes:
        problems.append(f"{PREFIX}_TENANT_INFLIGHT_BYTES must hold one body, compressed and decompressed")
    if read.inflight_bytes < read.tenant_inflight_bytes:
        problems.append(f"{PREFIX}_INFLIGHT_BYTES must not be below {PREFIX}_TENANT_INFLIGHT_BYTES")
    for name in ("request_rate", "backfill_rate"):
        text = getattr(read, name)
        try:
            rate = limits.parse(text) if text else None
        except ValueError:
            problems.append(f"{PREFIX}_{name.upper()}={text!r}: a rate like 500/second is needed")
            continue
        if name == "backfill_rate" and rate is not None and rate.amount < read.max_events:
            problems.append(f"{PREFIX}_BACKFILL_RATE must let one full request pass")
    return problems
