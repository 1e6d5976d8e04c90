"""Composition of the console process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

from aiohttp import web
from redis.asyncio import Redis

from console import gateway
from console.api import (
    alerts,
    catalog,
    decisions,
    grants,
    keys,
    letters,
    operations,
    system,
    tenants,
    trace,
    usage,
    voids,
)
from console.burns import Burns
from console.clickhouse import ClickHouse
from console.deps import (
    CATALOGS,
    COUNTERS,
    DATABASE,
    DECISIONS,
    EPOCHS,
    LETTERS,
    OPERATIONS,
    REDIS,
    SETTINGS,
    TRACER,
    USAGE,
    WINDOWS,
)
from console.settings import Settings
from metering.clock import SystemClock
from service.auth import KEY_RING
from service.health import Health
from service.openapi import add_openapi_route
from service.problems import problem_middleware
from service.run import new_app
from service.watch import Watch
from tenancy.catalogs import Catalogs
from tenancy.database import Database
from tenancy.epochs import Epochs
from tenancy.keys import KeyRing
from tenancy.operations import Operations
from tenancy.snapshots import Publisher
from usage.decisions import DecisionReader
from usage.letters import Letters
from usage.reader import CounterReader, UsageReader
from usage.trace import Tracer
from usage.windows import WindowReader

_CLICKHOUSE = web.AppKey("clickhouse", ClickHouse)
_BURNS = web.AppKey("burns", Burns)
_PUBLISHER = web.AppKey("publisher", Publisher)
_WATCHES = web.AppKey("watches", list[Watch])


def build(settings: Settings) -> web.Application:
    """The application; it connects when it starts, and starts whether or not others are there."""
    database = Database(settings.sql)
    redis: Redis = Redis.from_url(settings.redis, protocol=3, socket_timeout=5, socket_connect_timeout=2)
    clickhouse = ClickHouse(settings.clickhouse)
    publisher = Publisher(database, redis)

    watches = {
        "clickhouse": Watch("ClickHouse", clickhouse.ping),
        "redis": Watch("Redis", redis.ping),
        "sql": Watch("SQL", database.ping),
    }
    health = Health()
    for name, watch in watches.items():
        health.add(name, watch.failure)
    health.add("snapshots", lambda: publisher.trouble)

    app = new_app(health, [problem_middleware])
    app[SETTINGS] = settings
    app[DATABASE] = database
    app[CATALOGS] = Catalogs(database)
    app[EPOCHS] = Epochs(database)
    app[OPERATIONS] = Operations(database)
    app[KEY_RING] = KeyRing(database, SystemClock())
    app[REDIS] = redis
    app[TRACER] = Tracer(clickhouse)
    app[USAGE] = UsageReader(clickhouse)
    app[WINDOWS] = WindowReader(clickhouse)
    app[_BURNS] = burns = Burns(database, app[WINDOWS], SystemClock())
    health.add("grants", lambda: burns.trouble)
    app[LETTERS] = Letters(clickhouse)
    app[DECISIONS] = DecisionReader(clickhouse)
    app[COUNTERS] = CounterReader(redis)
    app[_CLICKHOUSE] = clickhouse
    app[_PUBLISHER] = publisher
    app[_WATCHES] = list(watches.values())
    app.cleanup_ctx.extend([_stores, gateway.session, _running])
    add_openapi_route(app, "console")
    for resource in (
        tenants,
        grants,
        keys,
        catalog,
        usage,
        voids,
        trace,
        letters,
        alerts,
        decisions,
        operations,
        system,
    ):
        app.add_routes(resource.routes)
    return app


async def _stores(app: web.Application) -> AsyncIterator[None]:
    await app[DATABASE].open()
    yield
    await app[_CLICKHOUSE].close()
    await app[REDIS].aclose()
    await app[DATABASE].close()


async def _running(app: web.Application) -> AsyncIterator[None]:
    running = [app[_PUBLISHER].run(), app[_BURNS].run(), *(watch.run() for watch in app[_WATCHES])]
    tasks = [asyncio.create_task(one) for one in running]
    yield
    for task in tasks:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
