"""202 means durable: with the broker frozen, dead or forgetful nothing is acknowledged, and the gateway says why."""

from __future__ import annotations

import asyncio
import signal

from aiohttp import ClientError

from tenancy.epochs import Epochs
from tests.contract.ingest.sender import Answer, Sender, event
from tests.integration.ingest.gateway import Broker, Gateway
from tests.support import eventually


async def not_ready(gateway: Gateway, part: str, because: str) -> None:
    async def says_so() -> bool:
        ready, failures = await asyncio.to_thread(gateway.ready)
        return not ready and because in failures.get(part, "")

    await eventually(says_so, timeout=15, what=f"readiness names {part}: {because}")


async def ready(gateway: Gateway) -> None:
    await asyncio.to_thread(gateway.wait_ready)


def later(answer: Answer) -> bool:
    return answer.status == 503 and int(answer.headers["Retry-After"]) >= 1


async def test_a_frozen_broker_acknowledges_nothing_and_loses_nothing(
    gateway: Gateway, broker: Broker, sender: Sender
) -> None:
    gateway.start(publish_seconds="1")
    await ready(gateway)
    before = event()
    assert (await sender.post([before])).status == 202

    broker.signal(signal.SIGSTOP)
    unsure = event()
    assert later(await sender.post([unsure]))
    await not_ready(gateway, "broker", "does not answer")
    assert later(await sender.post([event()]))

    broker.signal(signal.SIGCONT)
    await ready(gateway)
    assert (await sender.post([unsure])).status == 202
    logged = await sender.logged()
    assert logged[before["id"]] == 1
    assert logged[unsure["id"]] in (1, 2)  # the one that was not acknowledged may have arrived as well


async def test_whatever_happens_to_the_broker_every_acknowledged_event_is_in_the_log(
    gateway: Gateway, broker: Broker, sender: Sender
) -> None:
    gateway.start(publish_seconds="2")
    await ready(gateway)
    acknowledged: list[str] = []
    stop = asyncio.Event()

    async def emit() -> None:
        while not stop.is_set():
            sent = event()
            try:
                answer = await sender.post([sent])
            except ClientError:
                continue
            if answer.status == 202:
                acknowledged.append(sent["id"])
            else:
                assert later(answer)
                await asyncio.sleep(0.05)

    emitters = [asyncio.create_task(emit()) for _ in range(8)]
    for _ in range(3):
        enough = len(acknowledged) + 20
        await eventually(lambda: len(acknowledged) > enough, timeout=20)  # noqa: B023 (awaited in this turn)
        broker.signal(signal.SIGSTOP)
        await not_ready(gateway, "broker", "does not answer")
        broker.signal(signal.SIGCONT)
        await ready(gateway)
    stop.set()
    await asyncio.gather(*emitters)
    logged = await sender.logged()
    assert [id for id in acknowledged if id not in logged] == []


async def test_a_broker_that_lost_its_log_is_refused_until_a_new_epoch_begins(
    gateway: Gateway, broker: Broker, sender: Sender
) -> None:
    gateway.start(publish_seconds="1")
    await ready(gateway)
    assert (await sender.post([event()])).body["epoch"] == 1

    broker.stop()
    await not_ready(gateway, "broker", "does not answer")
    assert later(await sender.post([event()]))

    await asyncio.to_thread(broker.start)
    await not_ready(gateway, "broker", "usage.events.1 is not there")
    assert later(await sender.post([event()]))
    assert "usage.events.1" not in await broker.topics()  # nobody began it anew by asking for it

    await broker.create_topic(2)
    async with gateway.database() as database:
        await Epochs(database).begin(4)
    await ready(gateway)
    sent = event()
    answer = await sender.post([sent])
    assert (answer.status, answer.body["epoch"]) == (202, 2)
    ((partition, offset),) = answer.body["positions"]
    (record,) = await broker.records(epoch=2)
    assert (record.partition, record.offset, record.events) == (partition, offset, [sent])


async def test_a_new_epoch_is_followed_without_an_interruption(
    gateway: Gateway, broker: Broker, sender: Sender
) -> None:
    gateway.start()
    await ready(gateway)
    assert (await sender.post([event()])).body["epoch"] == 1
    await broker.create_topic(2, partitions=7)
    async with gateway.database() as database:
        await Epochs(database).begin(7)

    async def in_epoch_2() -> bool:
        answer = await sender.post([event(), event(tenant="grand")])
        assert answer.status == 202
        return bool(answer.body["epoch"] == 2)

    await eventually(in_epoch_2)
    assert {r.key for r in await broker.records(epoch=2, partitions=7)} == {b"grand"}


async def test_a_topic_with_other_partitions_than_its_epoch_is_not_written_to(
    gateway: Gateway, broker: Broker, sender: Sender
) -> None:
    gateway.start()
    await ready(gateway)
    await broker.create_topic(2, partitions=3)
    async with gateway.database() as database:
        await Epochs(database).begin(4)
    await not_ready(gateway, "broker", "has 3 partitions, its epoch 4")
    assert later(await sender.post([event()]))
    assert await broker.records(epoch=2, partitions=3) == []


async def test_a_gateway_may_start_before_its_broker(gateway: Gateway, broker: Broker, sender: Sender) -> None:
    broker.stop()
    gateway.start()
    await not_ready(gateway, "broker", "cannot be reached")
    assert later(await sender.post([event()]))
    async with sender.session.get(gateway.ops_url + "/livez") as response:
        assert response.status == 200
    await asyncio.to_thread(broker.start)
    await broker.create_topic(1)
    await ready(gateway)
    assert (await sender.post([event()])).status == 202
