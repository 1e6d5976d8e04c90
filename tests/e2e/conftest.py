"""The brokers that end-to-end tests run on."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from sqlalchemy import insert

from tenancy import migrations
from tenancy.database import Database
from tenancy.tables import epochs

APACHE = os.environ.get("TALLYGATE_TEST_KAFKA")


@pytest.fixture(
    params=[
        pytest.param(None, id="embedded"),
        pytest.param(
            APACHE,
            id="apache",
            marks=[
                pytest.mark.kafka,
                pytest.mark.skipif(not APACHE, reason="TALLYGATE_TEST_KAFKA names no Apache Kafka"),
            ],
        ),
    ]
)
def kafka_options(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, ...]:
    """What to add to `tallygate up` on `tmp_path / "data"`."""
    if request.param is None:
        return ()
    asyncio.run(_begin_behind_other_tests(request.param, tmp_path / "data"))
    return ("--kafka", request.param)


async def _begin_behind_other_tests(kafka: str, data_dir: Path) -> None:
    """A system of its own counts epochs from 1; on a broker that others used before, it has to go on behind theirs."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        names = await admin.list_topics()
    finally:
        await admin.close()
    used = [int(name.rsplit(".", 1)[1]) for name in names if name.startswith("usage.events.")]
    if not used:
        return
    url = f"sqlite+aiosqlite:///{data_dir / 'tallygate.db'}"
    await asyncio.to_thread(migrations.upgrade, url)
    database = Database(url)
    await database.open()
    try:
        row = {"epoch": max(used) + 1, "partitions": 1, "status": "closed", "created": 0}
        async with database.transaction() as connection:
            await connection.execute(insert(epochs).values(row))
    finally:
        await database.close()
