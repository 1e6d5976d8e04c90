"""Settings of the console."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

PREFIX = "TALLYGATE_CONSOLE"


class Settings(Struct, frozen=True):
    """What a console can be told by its environment."""

    clickhouse: Annotated[str, Meta(description="ClickHouse's HTTP address, http://host:port")]
    redis: Annotated[str, Meta(description="Redis or Valkey, redis://host:port/0")]
    sql: Annotated[str, Meta(description="SQLAlchemy async URL of the control plane's database")]
    host: Annotated[str, Meta(description="address to listen on")] = "127.0.0.1"
    port: Annotated[int, Meta(description="port of the API")] = 8082
    ops_port: Annotated[int | None, Meta(description="this process's own port for probes and metrics")] = None
    ingest_url: Annotated[str, Meta(description="where clients find the gateway")] = "http://127.0.0.1:8080"
    gate_url: Annotated[str, Meta(description="where clients find the gate")] = "http://127.0.0.1:8081"
