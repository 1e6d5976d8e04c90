"""The real engines as processes of a test: started, frozen, killed, put back to a backup, and stopped at the end."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp
from redis.asyncio import Redis

from local import apache_kafka, tansu, valkey
from streams.epochs import ensure_epoch
from streams.ledger import connect, migrate
from tenancy import migrations
from tenancy.catalogs import Catalogs
from tenancy.database import Database
from tenancy.epochs import Epoch, Epochs
from tests.support import eventually, free_port, own_kafka

ROOT = Path(__file__).parent.parent
APACHE = own_kafka()


class Program:
    """One process that the test may freeze, wake, kill and start again."""

    def __init__(self, name: str, argv: Sequence[str], log: Path, env: dict[str, str] | None = None) -> None:
        self.name = name
        self._argv = list(argv)
        self._log = log
        self.environment = {**os.environ, **(env or {})}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it (again)."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._argv, stdout=log, stderr=log, env=self.environment, cwd=ROOT)

    def send(self, number: signal.Signals) -> None:
        """SIGSTOP freezes it, SIGCONT wakes it."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def ended(self) -> bool:
        """Whether it has ended."""
        return self._process is not None and self._process.poll() is not None

    def output(self) -> str:
        """All it said."""
        return self._log.read_text(errors="replace")


class Engines:
    """Broker, ClickHouse, Redis and SQL of one test, under `folder`."""

    def __init__(self, folder: Path, kafka: str | None, sql: str | None = None) -> None:
        """`kafka`: None for the embedded broker, `apache` for an Apache Kafka of this test's own, or HOST:PORT. `sql`:
        the URL of an empty database, None for SQLite."""
        self.folder = folder
        self.redis_port, self.clickhouse_port, kafka_port = free_port(), free_port(), free_port()
        self.kafka = kafka if kafka and ":" in kafka else f"127.0.0.1:{kafka_port}"
        self.sql = sql or f"sqlite+aiosqlite:///{folder}/control.db"
        self.broker: Program | None = None
        if kafka == "apache":
            self.broker = self._program("kafka", apache_kafka.command(kafka_port, folder / "kafka"))
        elif kafka is None:
            self.broker = self._program("kafka", tansu.command(kafka_port, folder / "tansu"))
        self.redis = self._program("redis", valkey.command(self.redis_port, folder / "redis"))
        clickhouse = [sys.executable, "-m", "local.clickhouse", "--port", str(self.clickhouse_port)]
        self.clickhouse = self._program("clickhouse", [*clickhouse, "--path", str(folder / "clickhouse")])
        self._programs: list[Program] = [p for p in (self.broker, self.redis, self.clickhouse) if p]
        self._embedded = kafka is None
        self.database = Database(self.sql)
        self.epoch = Epoch(0, 0, "open")

    def _program(self, name: str, argv: Sequence[str], env: dict[str, str] | None = None) -> Program:
        return Program(name, argv, self.folder / f"{name}.log", env)

    def use_broker(self, argv: Sequence[str]) -> None:
        """Another command for the embedded broker, before `start`."""
        self._programs = [program for program in self._programs if program is not self.broker]
        self.broker = self._program("kafka", argv)
        self._programs.insert(0, self.broker)

    @property
    def environment(self) -> dict[str, str]:
        """What a process of ours needs to find them."""
        return {
            "TALLYGATE_KAFKA": self.kafka,
            "TALLYGATE_CLICKHOUSE": f"http://127.0.0.1:{self.clickhouse_port}",
            "TALLYGATE_REDIS": f"redis://127.0.0.1:{self.redis_port}/0",
            "TALLYGATE_SQL": self.sql,
            "TALLYGATE_DATA_DIR": str(self.folder),
            **({"TALLYGATE_KAFKA_EMBEDDED": "1"} if self._embedded else {}),
        }

    async def start(self, catalog: str, partitions: int) -> None:
        """Start all, apply `catalog`, begin an epoch that no other test has used."""
        for program in self._programs:
            program.start()
        await asyncio.to_thread(migrations.upgrade, self.sql)
        await self.database.open()
        await Catalogs(self.database).apply(catalog, 0)
        try:
            await eventually(lambda: self.ping("clickhouse"), timeout=30, what="ClickHouse answers")
        except AssertionError as error:
            ports = f"Redis {self.redis_port}, ClickHouse {self.clickhouse_port}, Kafka {self.kafka}"
            raise AssertionError(f"{error}; {ports}; it said {self.clickhouse.output()[-2000:]!r}") from error
        client = await connect(self.environment["TALLYGATE_CLICKHOUSE"])
        await migrate(client)
        await client.close()
        await eventually(self._begin(partitions), timeout=30)

    def _begin(self, partitions: int) -> Any:
        async def begin() -> bool:
            async with Redis.from_url(self.environment["TALLYGATE_REDIS"]) as redis:
                self.epoch = await ensure_epoch(self.kafka, Epochs(self.database), partitions, redis=redis)
            return True

        return begin

    async def ping(self, name: str) -> bool:
        """Whether ClickHouse answers."""
        assert name == "clickhouse"
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{self.clickhouse_port}/ping") as answer,
        ):
            return answer.status == 200

    def worker(self, name: str, module: Sequence[str] = ("-m", "streams"), **env: str) -> Worker:
        """A real streams worker, not yet started."""
        return self.service(name, module, "STREAMS", **{"TALLYGATE_STREAMS_SESSION_MS": "2000", **env})

    def service(self, name: str, module: Sequence[str], prefix: str, **env: str) -> Worker:
        """A process of ours, not yet started. Its settings are `TALLYGATE_<prefix>_…`."""
        port = free_port()
        settings = {f"TALLYGATE_{prefix}_OPS_PORT": str(port), **env}
        worker = Worker(name, [sys.executable, *module], self.folder / f"{name}.log", {**self.environment, **settings})
        worker.port = port
        self._programs.append(worker)
        return worker

    def backup(self, program: Program, folder: str) -> None:
        """Copy a killed engine's data."""
        shutil.rmtree(self.folder / f"{folder}.backup", ignore_errors=True)
        shutil.copytree(self.folder / folder, self.folder / f"{folder}.backup", symlinks=True)

    def put_back(self, folder: str) -> None:
        """Replace a killed engine's data by its backup."""
        shutil.rmtree(self.folder / folder)
        shutil.copytree(self.folder / f"{folder}.backup", self.folder / folder, symlinks=True)

    async def stop(self) -> None:
        """Leave nothing running."""
        await self.database.close()
        for program in reversed(self._programs):
            program.kill()


class Worker(Program):
    """A process of ours with its health."""

    port = 0

    async def failures(self) -> dict[str, str]:
        """What readiness complains of; empty when ready."""
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{self.port}/readyz") as answer,
        ):
            failures: dict[str, str] = (await answer.json())["failures"]
            assert answer.status == (503 if failures else 200)
            return failures

    async def metrics(self) -> str:
        """What it counts, as text."""
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{self.port}/metrics") as answer,
        ):
            return await answer.text()

    async def alive(self) -> bool:
        """Whether it says that it runs."""
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{self.port}/livez") as answer,
        ):
            return answer.status == 200

    async def ready(self) -> bool:
        """Whether readiness complains of nothing."""
        return not await self.failures()

    async def unready(self) -> bool:
        """Whether readiness complains of something."""
        return bool(await self.failures())
