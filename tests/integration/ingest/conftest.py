"""A broker and a gateway for each test, since these tests take them apart."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.contract.ingest.sender import Sender
from tests.integration.ingest.gateway import Broker, Gateway, run
from tests.support import free_port


@pytest.fixture
def broker() -> Iterator[Broker]:
    """A running broker with the topic of epoch 1."""
    broker = Broker(free_port())
    try:
        broker.start()
        run(broker.create_topic(1))
        yield broker
    finally:
        broker.stop()


@pytest.fixture
def gateway(broker: Broker, tmp_path: Path) -> Iterator[Gateway]:
    """A gateway with its SQL seeded, not started."""
    gateway = Gateway(tmp_path, broker)
    gateway.seed()
    try:
        yield gateway
    finally:
        gateway.kill()


@pytest.fixture
async def sender(gateway: Gateway) -> AsyncIterator[Sender]:
    """Requests to that gateway, each on a connection of its own."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True, limit=0)) as session:
        yield Sender(gateway, session)
