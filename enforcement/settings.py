"""What an operator can set for the gate: `TALLYGATE_GATE_<FIELD>`, and the addresses that all services share."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

PREFIX = "TALLYGATE_GATE"


class Settings(msgspec.Struct, frozen=True):
    """One gate process."""

    redis: Annotated[str, Meta(description="where counters and plans are read, redis://…", min_length=1)]
    sql: Annotated[str, Meta(description="SQLAlchemy async URL of the keys", min_length=1)]
    kafka: Annotated[
        str | None, Meta(description="host:port where decisions are told; without it nobody counts them")
    ] = None
    host: Annotated[str, Meta(description="address to listen on")] = "127.0.0.1"
    port: Annotated[int, Meta(description="public port, shared by several gates", ge=1, le=65535)] = 8081
    ops_port: Annotated[int | None, Meta(description="this process's own port for probes and metrics")] = None
    socket: Annotated[str | None, Meta(description="also a Unix socket, mode 0660: who may open it needs no key")] = (
        None
    )
    redis_seconds: Annotated[
        float, Meta(description="longest wait for Redis when a tenant is asked about for the first time", gt=0)
    ] = 0.05
    redis_connections: Annotated[
        int, Meta(description="connections to Redis for checks, and as many for reservations", ge=4)
    ] = 16
    tenants: Annotated[
        int, Meta(description="tenants known by heart; whom nobody asks for longest goes first", ge=1)
    ] = 20_000
    memory: Annotated[
        str | None, Meta(description="file in which what is known survives a restart; every gate needs its own")
    ] = None
    reservation_seconds: Annotated[
        float,
        Meta(description="longest reservation; after Redis lost data nothing is reserved for so long", gt=0, le=900),
    ] = 900.0
    holds: Annotated[
        int, Meta(description="reservations of one tenant at a time; Redis looks at all of them each time", ge=1)
    ] = 2000
    batch_checks: Annotated[int, Meta(description="checks of one batch", ge=1, le=10_000)] = 1000
    drain_seconds: Annotated[float, Meta(description="time for requests under way when stopping", ge=0)] = 10.0
