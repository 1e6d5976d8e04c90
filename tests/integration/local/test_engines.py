"""The embedded engines as `tallygate up` runs them: what they keep when killed, and what not."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from redis.asyncio import Redis

from local import apache_kafka, tansu, valkey
from local.ports import HOST, free_ports
from local.process import ProcessSpec
from local.supervisor import Supervisor
from tests.support import eventually


class Engine:
    """One engine under a supervisor of its own."""

    def __init__(self, engine: ModuleType, folder: Path) -> None:
        self._supervisor = Supervisor(folder / "logs", on_restart=self._came_back)
        self._engine, self._folder = engine, folder
        self._back: list[str] = []
        self.port = free_ports(1)[0]

    async def start(self) -> None:
        argv = self._engine.command(self.port, self._folder / "data")
        await self._supervisor.start(
            ProcessSpec("engine", argv, dict(os.environ), partial(self._engine.ready, self.port))
        )

    async def kill_and_wait(self) -> None:
        """SIGKILL; returns when the supervisor has it running again."""
        before = len(self._back)
        os.kill(self._supervisor.pids["engine"], signal.SIGKILL)
        await eventually(lambda: len(self._back) > before, timeout=60)

    async def stop(self) -> None:
        await self._supervisor.stop()

    async def _came_back(self, name: str) -> None:
        self._back.append(name)


@pytest.fixture
async def redis_engine(tmp_path: Path) -> AsyncIterator[Engine]:
    engine = Engine(valkey, tmp_path)
    try:
        await engine.start()
        yield engine
    finally:
        await engine.stop()


async def test_valkey_keeps_what_it_acknowledged_when_it_is_killed(redis_engine: Engine) -> None:
    async with Redis(host=HOST, port=redis_engine.port) as client:
        for number in range(1000):
            await client.set(f"key:{number}", number)
        await redis_engine.kill_and_wait()
        assert await client.dbsize() == 1000
        assert await client.get("key:999") == b"999"


async def test_valkey_evicts_nothing_and_takes_no_snapshots(redis_engine: Engine) -> None:
    async with Redis(host=HOST, port=redis_engine.port, decode_responses=True) as client:
        settings = await client.config_get("maxmemory-policy", "save", "appendonly", "appendfsync", "bind")
    assert settings == {
        "maxmemory-policy": "noeviction",
        "save": "",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "bind": HOST,
    }


async def test_the_embedded_broker_serves_and_forgets_when_it_is_killed(tmp_path: Path) -> None:
    engine = Engine(tansu, tmp_path)
    try:
        await engine.start()
        await _fill(engine.port)
        assert await _read(engine.port) == [b"0", b"1", b"2"]
        await engine.kill_and_wait()
        assert await _topics(engine.port) == set()
    finally:
        await engine.stop()


@pytest.mark.kafka
async def test_apache_kafka_keeps_what_it_acknowledged_when_it_is_killed(tmp_path: Path) -> None:
    try:
        apache_kafka.fetch()
    except apache_kafka.MavenUnavailable as error:
        pytest.skip(f"Apache Kafka can't be had here: {error}")
    engine = Engine(apache_kafka, tmp_path)
    try:
        await engine.start()
        await _fill(engine.port)
        await engine.kill_and_wait()
        assert await _read(engine.port) == [b"0", b"1", b"2"]
        await engine.stop()
        again = Engine(apache_kafka, tmp_path)
        try:
            await again.start()
            assert await _read(again.port) == [b"0", b"1", b"2"], "after an orderly stop, on another port"
        finally:
            await again.stop()
    finally:
        await engine.stop()


def test_a_machine_without_maven_is_told_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(apache_kafka.MavenUnavailable, match="needs `java`, which is not installed"):
        apache_kafka.fetch(tmp_path / "home")


def test_a_maven_that_reaches_nothing_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("java", "mvn"):
        program = tmp_path / name
        program.write_text("#!/bin/sh\necho '[INFO] Trying'\necho '[ERROR] Could not transfer artifact'\nexit 1\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(apache_kafka.MavenUnavailable, match="Could not transfer artifact"):
        apache_kafka.fetch(tmp_path / "home")
    assert not (tmp_path / "home" / "jars").exists(), "half a download is none"


async def _fill(port: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=f"{HOST}:{port}")
    await admin.start()
    try:
        await admin.create_topics([NewTopic("events", 1, 1)])
    finally:
        await admin.close()
    async with AIOKafkaProducer(bootstrap_servers=f"{HOST}:{port}", acks="all") as producer:
        for number in range(3):
            await producer.send_and_wait("events", str(number).encode(), partition=0)


async def _read(port: int) -> list[bytes | None]:
    """The first three records."""
    consumer = AIOKafkaConsumer(bootstrap_servers=f"{HOST}:{port}", auto_offset_reset="earliest")
    await consumer.start()
    try:
        consumer.assign([TopicPartition("events", 0)])
        return [(await consumer.getone()).value for _ in range(3)]
    finally:
        await consumer.stop()


async def _topics(port: int) -> set[str]:
    admin = AIOKafkaAdminClient(bootstrap_servers=f"{HOST}:{port}")
    await admin.start()
    try:
        return set(await admin.list_topics())
    finally:
        await admin.close()
