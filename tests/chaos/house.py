"""A whole Tallygate for tests: every engine in a process of its own, and one process of each service."""

from __future__ import annotations

import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from tests.chaos.workload import CATALOG
from tests.engines import Engines, Worker
from tests.integration.tenancy.postgres import Postgres, find
from tests.support import eventually, free_port

NOTICED_SECONDS = 10
"""From the moment an engine is gone until readiness says so."""


class House(NamedTuple):
    """Every engine in a process of its own, and one process of each service."""

    engines: Engines
    sql: Postgres | None
    services: dict[str, Worker]

    async def all_ready(self) -> None:
        for name, service in self.services.items():
            await eventually(service.ready, timeout=60, what=f"{name} is ready")

    async def notices(self, engine: str, names: set[str], within: float = NOTICED_SECONDS) -> None:
        """Those of `names`, and only those, say within the time that `engine` is away; all go on living."""
        gone = time.monotonic()
        for name in names:
            left = within - (time.monotonic() - gone)
            await eventually(self._says(name, engine), timeout=left, what=f"{name} says that {engine} is away")
        for name, service in self.services.items():
            assert await service.alive()
            if name not in names:
                assert await service.failures() == {}

    def _says(self, name: str, engine: str) -> Callable[[], object]:
        async def says() -> bool:
            failures = await self.services[name].failures()
            said = " ".join([*failures, *failures.values()]).lower().replace("kafka", "broker")
            return engine in said

        return says


@asynccontextmanager
async def furnished(tmp_path: Path) -> AsyncIterator[House]:
    """Started; stopped at the end."""
    programs = find()
    sql = Postgres(programs) if programs else None
    engines = Engines(tmp_path, None, sql.database() if sql else None)
    try:
        await engines.start(CATALOG, partitions=2)
        services = {"streams": engines.worker("streams")}
        for name, package in (("ingest", "ingest"), ("gate", "enforcement"), ("console", "console")):
            own_port = {f"TALLYGATE_{name.upper()}_PORT": str(free_port())}
            services[name] = engines.service(name, ("-m", package), name.upper(), **own_port)
        for service in services.values():
            service.start()
        yield House(engines, sql, services)
    finally:
        await engines.stop()
        if sql is not None:
            sql.send(signal.SIGCONT)
            sql.stop()
