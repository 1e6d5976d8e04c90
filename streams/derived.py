"""Derived streams: a Faust app with agents, inside the worker and apart from the money path.

Faust starts its services only when its consumer has its partitions, crashes the whole app when a commit fails or the
broker is away, and then leaves tasks behind that no cancelling ends. None of this may hold up or end the writer, so the
agents have an app of their own, in a thread and an event loop of its own. It is begun anew whenever it ends.
"""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import faust
import structlog
from mode import Service

from service.health import Health
from streams.alerts import add_alerts
from streams.decisions import add_decisions
from streams.settings import Settings
from streams.writer import Probe, no_probe
from tenancy.database import Database

_log = structlog.get_logger(__name__)

GROUP = "tallygate-derived"
_PAUSE_SECONDS = 1.0
_LOOK_SECONDS = 0.2
_AWAY_SECONDS = 60.0
_GOODBYE_SECONDS = 5.0


class DerivedStreams(Service):  # type: ignore[misc]
    """Runs the agents, again and again if it has to be."""

    def __init__(self, settings: Settings, health: Health, probe: Probe = no_probe, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._settings = settings
        self._probe = probe
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="derived", daemon=True)
        self._seen = time.monotonic()
        self.app: faust.App | None = None
        health.add("derived", self._failure)

    async def on_start(self) -> None:
        """Begin; nothing is waited for."""
        self._thread.start()

    async def on_stop(self) -> None:
        """What is under way is begun again by whoever gets the partition: it was not acknowledged."""
        self._ending.set()
        await asyncio.to_thread(self._thread.join, 2 * _GOODBYE_SECONDS)

    def _run(self) -> None:
        while not self._ending.is_set():
            loop = asyncio.new_event_loop()
            try:
                loop.run_until_complete(self._serve())
            except Exception as error:
                _log.warning("derived streams wait", reason=repr(error))
            _abandon(loop)
            self._ending.wait(_PAUSE_SECONDS)

    async def _serve(self) -> None:
        """Run an app until it is told to stop or has crashed."""
        database = Database(self._settings.sql)
        await database.open()
        self.app = app = self._build(database)
        try:
            await app.start()
            while not (self._ending.is_set() or app.should_stop):
                self._seen = time.monotonic()
                await asyncio.sleep(_LOOK_SECONDS)
            if app.crashed:
                _log.warning("derived streams have crashed and begin anew", reason=repr(app.crash_reason))
        finally:
            async with asyncio.timeout(_GOODBYE_SECONDS):
                await app.stop()
            await database.close()

    def _build(self, database: Database) -> faust.App:
        app = faust.App(
            GROUP,
            broker=f"aiokafka://{self._settings.kafka}",
            datadir=Path(self._settings.data_dir) / "faust-derived",
            web_enabled=False,
            topic_disable_leader=True,
            topic_allow_declare=False,
            table_standby_replicas=0,
            consumer_auto_offset_reset="earliest",
            broker_session_timeout=self._settings.session_ms / 1000,
            broker_heartbeat_interval=self._settings.session_ms / 5000,
        )
        add_alerts(app, database, self._probe)
        add_decisions(app, self._settings.clickhouse)
        return app

    def _failure(self) -> str | None:
        away = time.monotonic() - self._seen
        return f"crossings have not been read for {away:.0f} s" if away > _AWAY_SECONDS else None


def _abandon(loop: asyncio.AbstractEventLoop) -> None:
    """Close it, with whatever does not end: nothing in it is waited for any more."""
    loop.set_exception_handler(lambda loop, context: None)  # of tasks that are destroyed while they wait
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    if left:
        loop.run_until_complete(asyncio.wait(left, timeout=_PAUSE_SECONDS))
    loop.close()
