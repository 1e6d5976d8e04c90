"""The worker process: one Faust app that hosts the writer, rollups, operations, retention and derived streams."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import faust
from mode import Service

from service.health import Health
from service.ops import OpsServer
from streams.derived import DerivedStreams
from streams.operation_worker import OperationWorker
from streams.retention_worker import RetentionWorker
from streams.rollup_worker import RollupWorker
from streams.settings import Settings
from streams.worker import LedgerWriter
from streams.writer import PartitionWriter, Probe, no_probe


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
    writers: dict[tuple[int, int], PartitionWriter] = {}
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

    # Agents have an app of their own (streams/derived.py), and a consumer refuses to subscribe to nothing.
    app.producer_only = True

    @app.service
    class OpsPort(Ops):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(settings, health, **kwargs)

    @app.service
    class Writer(LedgerWriter):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(settings, health, serving, writers, probe, **kwargs)

    @app.service
    class Rollups(RollupWorker):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(settings, health, serving, **kwargs)

    @app.service
    class Operations(OperationWorker):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(settings, writers, **kwargs)

    @app.service
    class Payloads(RetentionWorker):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(settings, health, serving, **kwargs)

    @app.service
    class Derived(DerivedStreams):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(settings, health, probe, **kwargs)

    return app
