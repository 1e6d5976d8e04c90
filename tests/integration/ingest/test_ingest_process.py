"""The gateway as a process: draining, workers on one port, rates and shares, keys and catalogs that change."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import psutil

from metering.clock import SystemClock
from tenancy import keys
from tenancy.catalogs import Catalogs
from tests.contract.ingest.sender import Answer, Sender, event
from tests.integration.ingest.gateway import Broker, Gateway
from tests.support import eventually


async def ready(gateway: Gateway, worker: int = 0) -> None:
    await asyncio.to_thread(gateway.wait_ready, worker)


async def holds(sender: Sender, *batches: list[dict[str, Any]]) -> None:
    """Returns when the gateway has taken on just these requests."""
    size = sum(len(msgspec.json.encode(batch)) for batch in batches)

    async def so_much() -> bool:
        return await in_flight(sender) == size

    await eventually(so_much, what=f"{size} bytes in flight")


async def in_flight(sender: Sender) -> float:
    async with sender.session.get(sender.gateway.ops_url + "/metrics") as response:
        text = await response.text()
    (line,) = [line for line in text.splitlines() if line.startswith("tallygate_ingest_inflight_bytes ")]
    return float(line.split()[1])


async def test_sigterm_answers_what_is_under_way_and_takes_nothing_new(
    gateway: Gateway, broker: Broker, sender: Sender
) -> None:
    gateway.start()
    await ready(gateway)
    broker.signal(signal.SIGSTOP)
    sent = [event() for _ in range(5)]
    under_way = [asyncio.create_task(sender.post([e])) for e in sent]
    await holds(sender, *([e] for e in sent))
    assert gateway.process is not None
    gateway.process.terminate()

    async def refuses() -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        except ConnectionRefusedError:
            return True
        writer.close()
        return False

    await eventually(refuses)
    assert not any(task.done() for task in under_way)
    broker.signal(signal.SIGCONT)
    answers = await asyncio.gather(*under_way)
    assert {answer.status for answer in answers} == {202}
    assert await asyncio.to_thread(gateway.process.wait, 10) == 0
    logged = await sender.logged()
    assert all(e["id"] in logged for e in sent)


async def test_past_its_share_a_tenant_gets_429_and_another_is_still_served(
    gateway: Gateway, broker: Broker, sender: Sender
) -> None:
    sizes = {"body_bytes": "4096", "decompressed_bytes": "4096", "tenant_inflight_bytes": "8192"}
    gateway.start(inflight_bytes="12000", publish_seconds="10", **sizes)
    await ready(gateway)
    broker.signal(signal.SIGSTOP)
    large = [[event(data={"seconds": 1, "x": "y" * 3600})] for _ in range(4)]
    held = [asyncio.create_task(sender.post(batch, key="grand")) for batch in large[:2]]
    await holds(sender, *large[:2])
    answer = await sender.post(large[2], key="grand")
    assert (answer.status, answer.code, answer.headers["Retry-After"]) == (429, "share-exhausted", "1")
    held.append(asyncio.create_task(sender.post(large[2], key="inn")))
    await holds(sender, *large[:3])
    answer = await sender.post(large[3], key="inn")
    assert (answer.status, answer.code, answer.headers["Retry-After"]) == (503, "overloaded", "1")
    broker.signal(signal.SIGCONT)
    assert {a.status for a in await asyncio.gather(*held)} == {202}
    assert await in_flight(sender) == 0


async def test_a_key_has_its_rate_of_requests_and_hears_where_it_stands(gateway: Gateway, sender: Sender) -> None:
    gateway.start(request_rate="3/minute")
    await ready(gateway)
    answers = [await sender.post([event()]) for _ in range(4)]
    assert [answer.status for answer in answers] == [202, 202, 202, 429]
    assert answers[0].headers["RateLimit-Policy"] == '"requests";q=3;w=60'
    assert answers[0].headers["RateLimit"].startswith('"requests";r=2;t=')
    assert answers[3].code == "too-many-requests"
    assert int(answers[3].headers["Retry-After"]) >= 1
    assert answers[3].headers["RateLimit"].startswith('"requests";r=0;t=')
    assert (await sender.post([event()], key="inn")).status == 202


async def test_a_tenants_backfill_has_its_rate_and_its_present_is_not_held_up(gateway: Gateway, sender: Sender) -> None:
    gateway.start(backfill_rate="10/hour", max_events="10")
    await ready(gateway)
    old = [event(time="2020-01-01T00:00:00Z") for _ in range(6)]
    assert (await sender.post(old, key="backfill")).status == 202
    answer = await sender.post(old, key="backfill")
    assert (answer.status, answer.code) == (429, "too-much-backfill")
    assert answer.headers["Retry-After"]
    assert (await sender.post([event()], key="backfill")).status == 202


async def test_a_body_that_never_ends_is_given_up(gateway: Gateway, sender: Sender) -> None:
    gateway.start(body_seconds="0.3")
    await ready(gateway)
    done = asyncio.Event()

    async def dribble() -> AsyncIterator[bytes]:
        yield b"["
        await done.wait()

    answer: Answer = await sender.post(dribble())
    done.set()
    assert (answer.status, answer.code) == (408, "body-too-slow")


async def test_a_revoked_key_is_refused_within_five_seconds(gateway: Gateway, sender: Sender) -> None:
    gateway.start()
    await ready(gateway)
    assert (await sender.post([event()])).status == 202
    async with gateway.database() as database:
        await keys.revoke_key(database, gateway.ids["grand"], "grand", "test")
    revoked = time.monotonic()

    async def refused() -> bool:
        return (await sender.post([event()])).status == 401

    await eventually(refused)
    assert time.monotonic() - revoked < 5


async def test_a_new_catalog_comes_into_force_without_a_restart(gateway: Gateway, sender: Sender) -> None:
    gateway.start()
    await ready(gateway)
    sent = event(type="upload.finished", data={"bytes": "many"})
    assert (await sender.post([sent])).status == 202
    async with gateway.database() as database:
        catalog = "meters: {bytes: {event: upload.finished, aggregation: sum, value: $.bytes}}"
        await Catalogs(database).apply(catalog, SystemClock().now_ms())

    async def refused() -> bool:
        return (await sender.post([sent])).status == 422

    await eventually(refused)
    good = event(type="upload.finished", data={"bytes": 3})
    assert (await sender.post([good])).status == 202
    (record,) = [r for r in await gateway.broker.records() if good in r.events]
    assert record.header.catalog_version == 2


def workers_of(gateway: Gateway) -> list[psutil.Process]:
    assert gateway.process is not None
    return psutil.Process(gateway.process.pid).children()


async def test_workers_share_the_port_and_a_dead_one_is_started_again(gateway: Gateway, sender: Sender) -> None:
    gateway.start("--workers", "2")
    await ready(gateway, 0)
    await ready(gateway, 1)
    first, second = workers_of(gateway)
    answers = await asyncio.gather(*(sender.post([event()]) for _ in range(40)))
    assert {answer.status for answer in answers} == {202}

    first.kill()
    await eventually(lambda: len({p.pid for p in workers_of(gateway)} - {first.pid, second.pid}) == 1)
    await ready(gateway, 0)
    assert (await sender.post([event()])).status == 202
    workers = workers_of(gateway)
    assert await asyncio.to_thread(gateway.stop) == 0
    assert not any(worker.is_running() for worker in workers)


async def test_no_worker_outlives_its_master(gateway: Gateway) -> None:
    gateway.start("--workers", "2")
    await ready(gateway, 0)
    await ready(gateway, 1)
    workers = workers_of(gateway)
    assert await asyncio.to_thread(gateway.stop, signal.SIGKILL) == -signal.SIGKILL
    await eventually(lambda: not any(w.is_running() and w.status() != psutil.STATUS_ZOMBIE for w in workers))


def test_wrong_settings_are_all_named_and_the_exit_code_is_2() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TALLYGATE_")}
    ended = subprocess.run(
        [sys.executable, "-m", "ingest"],
        env=environment | {"TALLYGATE_INGEST_PORT": "none"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 2
    for variable in ("TALLYGATE_KAFKA", "TALLYGATE_SQL", "TALLYGATE_INGEST_PORT"):
        assert variable in ended.stderr
