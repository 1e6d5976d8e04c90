"""The retention timer of a real worker: by the setting and by the tenants' own days, while events are counted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from tenancy import tenants
from tests.chaos.conftest import Stage
from tests.support import eventually

OFTEN = {"TALLYGATE_STREAMS_RETENTION_SECONDS": "0.2", "TALLYGATE_STREAMS_RETENTION_DAYS": "30"}
COLUMNS = ["epoch", "partition", "offset", "line", "tenant", "reason", "detail", "payload", "received", "clock"]


async def test_a_worker_clears_what_is_due_and_totals_stay_exact(stage: Stage) -> None:
    database = stage.engines.database
    await tenants.create(database, "brief", "test")
    await tenants.set_payload_days(database, "brief", 2, "test")
    now = datetime.now(UTC)
    letters = [
        [0, 0, offset, 0, tenant, "negative", "", "payload", now - timedelta(days=age), now]
        for offset, (tenant, age) in enumerate([("brief", 1), ("brief", 4), ("usual", 4), ("usual", 40)])
    ]
    await stage.clickhouse.insert("dead_letters", letters, column_names=COLUMNS)
    query = "SELECT tenant, offset FROM dead_letters FINAL WHERE epoch = 0 AND payload != '' ORDER BY offset"

    async def kept() -> list[tuple[Any, ...]]:
        return [tuple(row) for row in (await stage.clickhouse.query(query)).result_rows]

    assert len(await kept()) == 4
    worker = stage.engines.worker("worker", **OFTEN)
    worker.start()
    await stage.workload.produce(frames=6)

    async def cleared() -> bool:
        assert await kept() == [("brief", 0), ("usual", 2)]
        return True

    await eventually(cleared, timeout=30, interval=0.2, what=worker.output()[-2000:])
    payloads = await stage.clickhouse.query("SELECT count() FROM usage_events WHERE event = ''")
    assert payloads.result_rows[0][0] == 0
    await stage.clickhouse.command("ALTER TABLE dead_letters DELETE WHERE epoch = 0", settings={"mutations_sync": 1})
    await stage.exact()
