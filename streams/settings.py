"""Settings of the streams worker."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from metering.clock import HOUR_MS

PREFIX = "TALLYGATE_STREAMS"


class Settings(Struct, frozen=True):
    """What a worker can be told by its environment."""

    kafka: Annotated[str, Meta(description="bootstrap server, host:port")]
    clickhouse: Annotated[str, Meta(description="ClickHouse's HTTP address, http://host:port")]
    redis: Annotated[str, Meta(description="Redis or Valkey, redis://host:port/0")]
    sql: Annotated[str, Meta(description="SQLAlchemy async URL of the control plane's database")]
    data_dir: Annotated[str, Meta(description="where Faust keeps its working files")] = ".data"
    host: Annotated[str, Meta(description="address of the ops port")] = "127.0.0.1"
    ops_port: Annotated[int, Meta(description="port of /livez, /readyz and /metrics")] = 8084
    dedupe_hours: Annotated[int, Meta(ge=6, le=24 * 35, description="dedupe window in hours")] = 24
    batch_records: Annotated[int, Meta(ge=1, le=10_000, description="records of a partition in one batch")] = 300
    batch_bytes: Annotated[int, Meta(ge=100_000, description="bytes of values in one batch")] = 4_000_000
    session_ms: Annotated[int, Meta(ge=1000, description="a silent worker loses its partitions after this")] = 10_000
    rollup_seconds: Annotated[float, Meta(gt=0, description="how often sealed and late hours are looked for")] = 10.0
    rollup_settle_seconds: Annotated[
        float, Meta(ge=0, description="how long an hour is left alone after a late record before it is computed again")
    ] = 30.0
    reconcile_seconds: Annotated[
        float, Meta(gt=0, description="how often all stores are compared; at most a twentieth of the time goes into it")
    ] = 600.0
    retention_days: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(description="payloads of events and dead letters are kept so many days; for ever if not set"),
    ] = None
    retention_seconds: Annotated[float, Meta(gt=0, description="how often payloads to be cleared are looked for")] = (
        3600.0
    )
    check_seconds: Annotated[float, Meta(gt=0, description="how often an idle partition looks at its state")] = 1.0

    @property
    def bucket_ms(self) -> int:
        """Width of a digest bucket: a quarter of the window, so that five live ones always cover it."""
        return self.dedupe_hours * HOUR_MS // 4
