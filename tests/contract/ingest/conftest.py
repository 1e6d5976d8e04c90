"""One gateway process for all contract tests; the log tells each test what its own requests left there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest

from tests.contract.ingest.sender import Sender
from tests.integration.ingest.gateway import Broker, Gateway, run
from tests.support import free_port


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A ready gateway with its broker."""
    broker = Broker(free_port())
    gateway = Gateway(tmp_path_factory.mktemp("gateway"), broker)
    try:
        broker.start()
        run(broker.create_topic(1))
        gateway.seed()
        gateway.start()
        gateway.wait_ready()
        yield gateway
    finally:
        gateway.stop()
        broker.stop()


@pytest.fixture
async def sender(gateway: Gateway) -> AsyncIterator[Sender]:
    """Sends requests and looks into the log."""
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        yield Sender(gateway, session)
