"""Derived streams: a Faust app with agents, inside the worker and apart from the money path.

Faust starts its services only when its consumer has its partitions, and ends the whole app when a commit fails or the
broker is away. Neither may hold up or end the writer, so the agents have an app of their own, which is begun anew
whenever it ends.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import faust
import structlog
from mode import Service

from service.health import Health
from streams.alerts import add_alerts
from streams.settings import Settings
from streams.writer import Probe, no_probe
from tenancy.database import Database

_log = structlog.get_logger(__name__)

GROUP = "tallygate-derived"
_PAUSE_SECONDS = 1.0
_AWAY_SECONDS = 60.0
_GOODBYE_SECONDS = 5.0


class DerivedStreams(Service):  # type: ignore[misc]
    """Runs the agents, again and again if it has to be."""

    def __init__(self, settings: Settings, health: Health, probe: Probe = no_probe, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._settings = settings
        self._probe = probe
        self._database = Database(settings.sql)
        self._app: faust.App | None = None
        self._seen = time.monotonic()
        health.add("derived", self._failure)

    async def on_start(self) -> None:
        """SQL is connected to when it is needed."""
        await self._database.open()

    async def on_stop(self) -> None:
        """What is under way is begun again by whoever gets the partition: it was not acknowledged."""
        await self._end()
        await self._database.close()

    @Service.task  # type: ignore[untyped-decorator]
    async def _run(self) -> None:
        while not self.should_stop:
            self._app = self._build()
            try:
                await self._app.start()
                while not (self.should_stop or self._app.should_stop):
                    self._seen = time.monotonic()
                    await self.sleep(_PAUSE_SECONDS)
            except Exception as error:
                _log.warning("derived streams wait", reason=repr(error))
            await self._end()
            await self.sleep(_PAUSE_SECONDS)

    def _build(self) -> faust.App:
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
        add_alerts(app, self._database, self._probe)
        return app

    async def _end(self) -> None:
        app, self._app = self._app, None
        if app is None:
            return
        try:
            async with asyncio.timeout(_GOODBYE_SECONDS):
                await app.stop()
        except Exception as error:
            _log.warning("derived streams ended badly", reason=repr(error))

    def _failure(self) -> str | None:
        away = time.monotonic() - self._seen
        return f"crossings have not been read for {away:.0f} s" if away > _AWAY_SECONDS else None
