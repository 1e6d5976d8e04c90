"""The system under test: the engines and services of `tallygate up` as processes, one gateway and one worker."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import psutil

from bench.load import Outcome, Task
from bench.memory import MIB
from bench.progress import Progress
from local.apache_kafka import MavenUnavailable, fetch
from local.instance import new_key
from local.layout import Layout, SystemOptions
from local.supervisor import Supervisor, say

CATALOG = Path(__file__).with_name("catalog.yaml")
WORKER = "streams-0"
_STUCK_SECONDS = 60.0
_SETTLE_SECONDS, _LOOK_SECONDS = 30.0, 1.0
_IDLE_SHARE = 0.15
"""Of a core: what all processes use when they only wait."""


class System:
    """A running system: its addresses, and the few things that rows do with it."""

    def __init__(self, layout: Layout, supervisor: Supervisor, key: str, folder: Path) -> None:
        addresses = layout.addresses()
        self.ingest: str = addresses["ingest"]
        self.redis: str = addresses["redis"]
        self.folder = folder
        self.key = key
        self.broker = "embedded broker (Tansu)" if layout.embedded_broker else "Apache Kafka"
        self.on_disk = not layout.embedded_broker
        self.epoch = self.partitions = 0
        self._console: str = addresses["console"]
        self.clickhouse: str = addresses["clickhouse"]
        self._supervisor = supervisor
        self._specs = {spec.name: spec for spec in layout.services()}

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Ask the console; its JSON."""
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._console + path, data, headers, method=method)
        return json.loads(await asyncio.to_thread(_read, request))

    async def sql(self, query: str) -> str:
        """What the ledger answers, as text."""
        answer = await asyncio.to_thread(_read, urllib.request.Request(self.clickhouse, query.encode()))
        return answer.decode().strip()

    def progress(self) -> Progress:
        """How far the counters are."""
        return Progress(self.redis, self.epoch, self.partitions)

    async def stop_worker(self) -> None:
        """End the worker; what gateways accept waits in the log."""
        await self._supervisor.stop_one(WORKER)

    async def start_worker(self, replaced: Sequence[str] | None = None) -> None:
        """Start the worker, with another command line if one is given (a profiler); returns when it is ready."""
        spec = self._specs[WORKER]
        await self._supervisor.start(spec if replaced is None else replace(spec, argv=replaced))

    async def load(self, **task: Any) -> Outcome:
        """Run the load generator beside; its outcome."""
        wanted = Task(
            url=self.ingest, key=self.key, redis=self.redis, epoch=self.epoch, partitions=self.partitions, **task
        )
        process = await asyncio.create_subprocess_exec(  # bench stands in the checkout only: run there
            *python("bench.load"), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, cwd=CATALOG.parents[1]
        )
        answer, _ = await process.communicate(msgspec.json.encode(wanted))
        if process.returncode:
            raise RuntimeError(f"the load generator ended with {process.returncode}; see above")
        return msgspec.json.decode(answer, type=Outcome)

    async def follow(self, records: int) -> list[tuple[float, float]]:
        """(monotonic time, records applied) until `records` are. Raises TimeoutError when nothing moves any more."""
        samples: list[tuple[float, float]] = []
        moved = time.monotonic()
        async with self.progress() as progress:
            while not samples or samples[-1][1] < records:
                applied, now = await progress.records(), time.monotonic()
                if not samples or applied > samples[-1][1]:
                    moved = now
                elif now - moved > _STUCK_SECONDS:
                    raise TimeoutError(f"the writer stays at {applied} of {records} records")
                samples.append((now, applied))
                await asyncio.sleep(0.05)
        return samples

    async def settle(self) -> None:
        """Wait until its processes have nothing left to do (merges), at most _SETTLE_SECONDS."""
        for _ in range(int(_SETTLE_SECONDS / _LOOK_SECONDS)):
            before = sum(self.cpu_seconds().values())
            await asyncio.sleep(_LOOK_SECONDS)
            if sum(self.cpu_seconds().values()) - before < _IDLE_SHARE * _LOOK_SECONDS:
                return

    def cpu_seconds(self) -> Mapping[str, float]:
        """CPU seconds that each process has used so far, and those of load generators that have ended as `load`."""
        ended = os.times()
        used = {"load": ended.children_user + ended.children_system}
        for name, family in self._families().items():
            used[name] = sum(sum(process.cpu_times()[:2]) for process in family)
        return used

    def send(self, name: str, number: signal.Signals) -> None:
        """A signal to one of its processes: SIGSTOP freezes it, SIGCONT wakes it."""
        os.kill(self._supervisor.pids[name], number)

    def memory(self) -> Mapping[str, float]:
        """MiB of memory that each process holds now, with its children."""
        return {
            name: sum(float(process.memory_info().rss) for process in family) / MIB
            for name, family in self._families().items()
        }

    def _families(self) -> dict[str, list[psutil.Process]]:
        return {
            name: [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
            for name, pid in self._supervisor.pids.items()
            if psutil.pid_exists(pid)
        }


@asynccontextmanager
async def running() -> AsyncIterator[System]:
    """Start, wait until ready, stop in order. On Apache Kafka where Maven can fetch it, else on the embedded broker."""
    kafka: str | None = "apache"
    try:
        fetch()
    except MavenUnavailable as error:
        say(f"on the embedded broker: {error}")
        kafka = None
    with tempfile.TemporaryDirectory(prefix="tallygate-bench-") as folder:
        data = Path(folder)
        layout = await Layout.choose(SystemOptions(data, "auto", kafka, CATALOG))
        supervisor = Supervisor(data / "logs")
        key = new_key()
        try:
            await supervisor.start(*await asyncio.to_thread(layout.engines))
            await supervisor.run_once(layout.migration(key))
            await supervisor.start(*layout.services())
            system = System(layout, supervisor, key, data)
            where = await system.ask("GET", "/v1/applied")
            system.epoch, system.partitions = where["epoch"], where["count"]
            yield system
        finally:
            await supervisor.stop()


def _read(request: urllib.request.Request) -> bytes:
    with urllib.request.urlopen(request, timeout=300) as answer:
        content: bytes = answer.read()
    return content


def python(module: str) -> list[str]:
    """The command that runs one of our modules."""
    return [sys.executable, "-m", module]
