"""Seeded events of several tenants, new, repeated, late, voided and bad, with an account of what has to come of them.

The account counts by hand and imports nothing of the code under test but names of Kafka things.
"""

from __future__ import annotations

import json
import random
import time
from collections import defaultdict
from datetime import UTC, datetime
from typing import Any

from aiokafka import AIOKafkaProducer
from clickhouse_connect.driver.asyncclient import AsyncClient
from redis.asyncio import Redis

from metering import frame, keys, topics
from metering.partition import partition_of
from tests.engines import Engines

CATALOG = """
meters:
  calls: {event: call, aggregation: count}
  seconds: {event: call, aggregation: sum, value: $.n, scale: 3, group_by: {language: $.l}}
  languages: {event: call, aggregation: unique, value: $.l}
  longest: {event: call, aggregation: max, value: $.n, scale: 3}
  mean: {event: call, aggregation: avg, value: $.n, scale: 3}
features: {c: {meter: calls}, s: {meter: seconds}, l: {meter: languages}, x: {meter: longest}, a: {meter: mean}}
plans:
  p:
    entitlements:
      c: {limit: 1000000, period: lifetime}
      s: {limit: 1000000000, period: lifetime}
      l: {period: lifetime}
      x: {period: lifetime}
      a: {period: lifetime}
"""
TENANTS = [f"hotel-{n}" for n in range(7)]
HOUR_S = 3600
STANDING = "type = 'call' AND voided = 0 AND (tenant, version) NOT IN (SELECT tenant, target FROM usage_voids)"
"""Rows of calls that no void took."""


class Workload:
    """Produces frames straight to Kafka, as gateways do, and remembers what each identity is worth."""

    def __init__(self, engines: Engines, seed: int) -> None:
        self._engines = engines
        self._random = random.Random(seed)
        self._number = 0
        self._sent: list[tuple[str, bytes]] = []
        self.counted: dict[str, dict[str, tuple[int, str]]] = defaultdict(dict)
        self.events = 0
        self.dead = 0
        self.voids = 0
        self.voided = 0
        self._unsent: dict[str, list[bytes]] = defaultdict(list)

    async def produce(self, frames: int, size: int = 20) -> bool:
        """Send `frames` mixed frames; True when the broker has them all."""
        producer = AIOKafkaProducer(bootstrap_servers=self._engines.kafka, acks="all")
        epoch = self._engines.epoch
        try:
            await producer.start()
            for _ in range(frames):
                tenant = self._random.choice(TENANTS)
                lines = [self._line(tenant) for _ in range(size)]
                self.events += len(lines)
                await producer.send_and_wait(
                    topics.events(epoch.epoch),
                    b"\n".join(lines),
                    key=tenant.encode(),
                    partition=partition_of(tenant, epoch.partitions),
                    headers=frame.headers(len(lines), 1, int(time.time() * 1000)),
                )
            return True
        finally:
            await producer.stop()

    def _line(self, tenant: str) -> bytes:
        dice = self._random.random()
        mine = [line for owner, line in self._sent[-500:] if owner == tenant]
        if dice < 0.25 and mine:
            return self._random.choice(mine)  # a resend, maybe of this very frame
        if dice < 0.32:
            self.dead += 1
            return self._random.choice([b'{"specversion":"1.0"}', b"garbage", self._event(tenant, 0, -5)])
        if dice < 0.40:
            line = self._void(tenant, before_it=dice < 0.34)
            self._sent.append((tenant, line))
            return line
        if dice < 0.44 and self._unsent[tenant]:
            self.voided += 1
            return self._unsent[tenant].pop()
        age = self._random.choice([0, 0, 60, 2 * HOUR_S, 30 * HOUR_S, 400 * HOUR_S])
        line = self._event(tenant, age, self._random.randrange(1, 100_000))
        self._sent.append((tenant, line))
        return line

    def _event(self, tenant: str, age: int, thousandths: int) -> bytes:
        self._number += 1
        identity, language = f"e{self._number}", self._random.choice(["de", "en", "fr", "ja"])
        if thousandths > 0:
            self.counted[tenant][identity] = (thousandths, language)
        at = datetime.fromtimestamp(time.time() - age, UTC).isoformat(timespec="milliseconds")
        text = f"{thousandths / 1000:.3f}"
        body: dict[str, Any] = {"specversion": "1.0", "id": identity, "source": "/pms", "type": "call", "time": at}
        return json.dumps({**body, "data": {"n": text, "l": language}}, separators=(",", ":")).encode()

    def _void(self, tenant: str, before_it: bool) -> bytes:
        """A void of an event that counts, or of one that is sent later."""
        self.voids += 1
        if before_it or not self.counted[tenant]:
            self._unsent[tenant].append(self._event(tenant, 0, 1000))
            named, _ = self.counted[tenant].popitem()
        else:
            named = self._random.choice(list(self.counted[tenant]))
            del self.counted[tenant][named]
            self.voided += 1
        body = {"specversion": "1.0", "id": f"v{self.voids}", "source": "/desk", "type": "tallygate.void"}
        return json.dumps({**body, "data": {"source": "/pms", "id": named}}, separators=(",", ":")).encode()

    def expected(self, tenant: str) -> dict[str, Any]:
        """The totals of a tenant, counted by hand."""
        values = [value for value, _ in self.counted[tenant].values()]
        return {
            "calls": len(values),
            "seconds": sum(values),
            "languages": len({language for _, language in self.counted[tenant].values()}),
            "longest": max(values, default=0),
            "mean": (sum(values), len(values)),
        }

    async def differences(self, clickhouse: AsyncClient, redis: Redis) -> list[str]:
        """What ledger, counters and frames say otherwise than the account; empty when all agree."""
        wrong: list[str] = []
        epoch = self._engines.epoch
        for tenant in self.counted:
            want = self.expected(tenant)
            rows = await clickhouse.query(
                "SELECT toInt64(count()), toInt64(sum(quantities['seconds']) * 1000), "
                "toInt64(uniqExact(uniques['languages'])), toInt64(max(quantities['longest']) * 1000) "
                f"FROM usage_events FINAL WHERE tenant = {{tenant:String}} AND {STANDING}",
                parameters={"tenant": tenant},
            )
            ledger = rows.result_rows[0]
            if ledger != (want["calls"], want["seconds"], want["languages"], want["longest"]):
                wrong.append(f"ledger of {tenant}: {ledger}, expected {want}")
            at = (epoch.epoch, partition_of(tenant, epoch.partitions))
            fields: Any = await redis.hgetall(keys.counters(*at, tenant))
            counters = {name.decode().split(":")[0]: text.decode() for name, text in fields.items()}
            total, _, count = counters.get("mean", "0/0").partition("/")
            found = {
                "calls": int(counters.get("calls", 0)),
                "seconds": round(float(counters.get("seconds", 0)) * 1000),
                "languages": int(counters.get("languages", 0)),
                "longest": round(float(counters.get("longest", 0)) * 1000),
                "mean": (round(float(total) * 1000), int(count)),
            }
            if found != want:
                wrong.append(f"counters of {tenant}: {found}, expected {want}")
        accounted = (
            await clickhouse.query(
                "SELECT toInt64(sum(events)), toInt64(sum(counted + voided)), toInt64(sum(voided + voids)), "
                "toInt64(sum(dead)), toInt64(countIf(counted + duplicates + voided + dead != events)) "
                "FROM usage_frames FINAL"
            )
        ).result_rows[0]
        # Whether a void or its event came first is the log's business: a stale gateway's frames move behind others.
        rows = sum(len(own) for own in self.counted.values()) + self.voided + self.voids
        want_frames = (self.events, rows, self.voided, self.dead, 0)
        if accounted != want_frames:
            wrong.append(f"frames: {accounted}, expected {want_frames}")
        letters = (await clickhouse.query("SELECT toInt64(count()) FROM dead_letters FINAL")).result_rows[0][0]
        if letters != self.dead:
            wrong.append(f"dead letters: {letters}, expected {self.dead}")
        return wrong
