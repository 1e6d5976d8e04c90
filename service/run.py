"""Start and end of an aiohttp process: its public port, its own ops port, a graceful stop on SIGTERM and SIGINT."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from typing import Any

import structlog
import uvloop
from aiohttp import web
from aiohttp.typedefs import Middleware

from service import logs, shortcut
from service.health import Health, add_ops_routes
from service.ops import OpsServer

HEALTH = web.AppKey("health", Health)
_log = structlog.get_logger(__name__)


def new_app(health: Health, middlewares: list[Middleware], max_body: int = 1024**2) -> web.Application:
    """An application with the operational routes; `max_body` in bytes."""
    app = web.Application(middlewares=middlewares, client_max_size=max_body)
    app[HEALTH] = health
    add_ops_routes(app, health)
    return app


def serve(
    service: str,
    app: web.Application,
    host: str,
    port: int,
    ops_port: int | None = None,
    unix_socket: str | None = None,
    drain_seconds: float = 10.0,
    auto_decompress: bool = True,
    answer: shortcut.Answer | None = None,
) -> None:
    """Run until SIGTERM or SIGINT, then stop accepting and wait up to `drain_seconds` for requests under way.

    Several processes may share `port` (SO_REUSEPORT); `ops_port` is this process's own, for probes and metrics.
    `unix_socket` is a path; its file gets mode 0660.
    Without `auto_decompress` handlers see bodies as they were sent, and bound what comes out of them themselves.
    `answer` is asked before handlers are.
    """
    logs.configure(service)
    uvloop.run(_serve(app, host, port, ops_port, unix_socket, drain_seconds, auto_decompress, answer))


async def _serve(
    app: web.Application,
    host: str,
    port: int,
    ops_port: int | None,
    unix_socket: str | None,
    drain_seconds: float,
    auto_decompress: bool,
    answer: shortcut.Answer | None,
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    options: Any = {
        "access_log": None,
        "shutdown_timeout": drain_seconds,
        "auto_decompress": auto_decompress,
    }
    runner = web.AppRunner(app, **options) if answer is None else shortcut.Runner(app, answer, **options)
    await runner.setup()
    ops = None if ops_port is None else OpsServer(app[HEALTH], host, ops_port)
    try:
        await web.TCPSite(runner, host, port, reuse_port=True).start()
        if ops is not None:
            await ops.start()
        if unix_socket is not None:
            mask = os.umask(0o117)  # before it exists, so that nobody slips in
            try:
                await web.UnixSite(runner, unix_socket).start()
            finally:
                os.umask(mask)
        gc.collect()
        gc.freeze()  # else each full collection walks all imported code again: 75 ms in which nothing is answered
        _log.info("listening", host=host, port=port, ops_port=ops_port)
        await stop.wait()
        _log.info("stopping")
    finally:
        await runner.cleanup()
        if ops is not None:
            await ops.stop()
