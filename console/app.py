"""Composition of the console process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from urllib.parse import urlsplit

import clickhouse_connect
import structlog
from aiohttp import web
from clickhouse_connect.driver.exceptions import ClickHouseError
from redis.asyncio import Redis

from console.api import catalog, system, tenants, usage
from console.deps import CATALOGS, COUNTERS, DATABASE, EPOCHS, REDIS, SETTINGS, USAGE
from console.settings import Settings
from metering.clock import SystemClock
from service.auth import KEY_RING
from service.health import Health
from service.openapi import add_openapi_route
from service.problems import problem_middleware
from service.run import HEALTH, new_app
from tenancy.catalogs import Catalogs
from tenancy.database import Database
from tenancy.epochs import Epochs
from tenancy.keys import KeyRing
from tenancy.snapshots import Publisher
from usage.reader import CounterReader, UsageReader

_log = structlog.get_logger(__name__)
_PROBE_SECONDS = 2.0
_STALE_SECONDS = 6.0


def build(settings: Settings) -> web.Application:
    """The application; it connects when it starts."""
    app = new_app(Health(), [problem_middleware])
    app[SETTINGS] = settings
    app.cleanup_ctx.extend([_stores, _publishing])
    add_openapi_route(app, "console")
    for resource in (tenants, catalog, usage, system):
        app.add_routes(resource.routes)
    return app


async def _stores(app: web.Application) -> AsyncIterator[None]:
    settings = app[SETTINGS]
    database = Database(settings.sql)
    await database.open()
    redis: Redis = Redis.from_url(settings.redis, protocol=3, socket_timeout=5, socket_connect_timeout=2)
    url = urlsplit(settings.clickhouse)
    clickhouse = None
    while clickhouse is None:
        try:
            clickhouse = await clickhouse_connect.get_async_client(
                host=url.hostname,
                port=url.port or 8123,
                username=url.username or "default",
                password=url.password or "",
                autogenerate_session_id=False,
                send_receive_timeout=10,
            )
        except (ClickHouseError, OSError) as error:
            _log.warning("waiting for ClickHouse", reason=str(error))
            await asyncio.sleep(0.5)
    app[DATABASE] = database
    app[CATALOGS] = Catalogs(database)
    app[EPOCHS] = Epochs(database)
    app[KEY_RING] = KeyRing(database, SystemClock())
    app[REDIS] = redis
    app[USAGE] = UsageReader(clickhouse)
    app[COUNTERS] = CounterReader(redis)
    answered = {"clickhouse": time.monotonic()}

    async def probe() -> None:
        while True:
            with suppress(ClickHouseError, OSError):
                if await clickhouse.ping():
                    answered["clickhouse"] = time.monotonic()
            await asyncio.sleep(_PROBE_SECONDS)

    def failure() -> str | None:
        silent = time.monotonic() - answered["clickhouse"]
        return f"ClickHouse has not answered for {silent:.0f} s" if silent > _STALE_SECONDS else None

    app[HEALTH].add("clickhouse", failure)
    probing = asyncio.create_task(probe())
    yield
    probing.cancel()
    await clickhouse.close()
    await redis.aclose()
    await database.close()


async def _publishing(app: web.Application) -> AsyncIterator[None]:
    publisher = Publisher(app[DATABASE], app[REDIS])
    app[HEALTH].add("snapshots", lambda: publisher.trouble)
    task = asyncio.create_task(publisher.run())
    yield
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
