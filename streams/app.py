"""The worker process: one Faust app (worker, command line, later derived streams) that hosts the writer and rollups."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import faust
from mode import Service

from service.health import Health
from service.ops import OpsServer
from streams.rollup_worker import RollupWorker
from streams.settings import Settings
from streams.worker import LedgerWriter
from streams.writer import Probe, no_probe


class Ops(Service):  # type: ignore[misc]
    """`/livez`, `/readyz`, `/metrics` on the ops port."""

    def __init__(self, settings: Settings, health: Health, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._server = OpsServer(health, settings.host, settings.ops_port)

    async def on_start(self) -> None:
        """Listen before the writer starts: while it waits for its dependencies, readiness says for which."""
        await self._server.start()

    async def on_stop(self) -> None:
        """Close the port."""
        await self._server.stop()


def build(settings: Settings, probe: Probe = no_probe) -> faust.App:
    """The app with its services. Nothing is connected before it starts.

    The money path is no Faust agent (docs/adr/0003): the writer is a service around a plain consumer.
    """
    health = Health()
    serving: set[tuple[int, int]] = set()
    app = faust.App(
        "tallygate-streams",
        broker=f"aiokafka://{settings.kafka}",
        datadir=Path(settings.data_dir) / "faust",
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        table_standby_replicas=0,
        consumer_auto_offset_reset="earliest",
    )

    # No agent reads a topic yet, and Faust's own consumer refuses to subscribe to nothing.
    app.producer_only = True

    @app.service
    class Operations(Ops):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(settings, health, **kwargs)

    @app.service
    class Writer(LedgerWriter):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(settings, health, serving, probe, **kwargs)

    @app.service
    class Rollups(RollupWorker):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(settings, health, serving, **kwargs)

    return app
