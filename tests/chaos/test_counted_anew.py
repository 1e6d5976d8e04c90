"""Counters follow a changed catalog and changed billing terms, counted anew from the ledger while events arrive."""

from __future__ import annotations

import time
from typing import Any

from metering import keys
from metering.partition import partition_of
from metering.period import BillingTerm, period_of, terms_from
from tenancy import subscriptions, tenants
from tenancy.catalogs import Catalogs
from tenancy.subscriptions import terms_of
from tests.chaos.conftest import Stage
from tests.chaos.workload import CATALOG, STANDING, TENANTS
from tests.support import eventually


def now_ms() -> int:
    return int(time.time() * 1000)


async def counted(stage: Stage, tenant: str, start: int, end: int) -> int:
    query = (
        f"SELECT toInt64(count()) FROM usage_events FINAL WHERE tenant = {{tenant:String}} AND {STANDING} "
        "AND time >= fromUnixTimestamp64Milli({start:Int64}) AND time < fromUnixTimestamp64Milli({end:Int64})"
    )
    parameters = {"tenant": tenant, "start": start, "end": end}
    return int((await stage.clickhouse.query(query, parameters=parameters)).result_rows[0][0])


async def counter(stage: Stage, tenant: str, kind: str, start: int) -> int:
    epoch = stage.engines.epoch
    key = keys.counters(epoch.epoch, partition_of(tenant, epoch.partitions), tenant)
    text: Any = await stage.redis.hget(key, keys.counter_field("calls", kind, start))
    return int(text or 0)


async def test_a_period_that_a_new_catalog_brings_is_counted_from_the_ledger(stage: Stage) -> None:
    worker = stage.engines.worker("worker")
    worker.start()
    await stage.workload.produce(frames=10)
    await stage.exact()
    catalog = CATALOG + "  q:\n    entitlements:\n      c: {limit: 5, period: month}\n"
    await Catalogs(stage.engines.database).apply(catalog, now_ms())
    month = period_of("month", now_ms())

    async def agrees() -> bool:
        for tenant in stage.workload.counted:
            if await counter(stage, tenant, "month", month.start) != await counted(stage, tenant, *month):
                return False
        return True

    await eventually(agrees, timeout=20)
    await stage.workload.produce(frames=10)
    await eventually(lambda: _settled(stage), timeout=20)
    await eventually(agrees, timeout=20)


async def test_counters_of_a_billing_period_follow_the_tenants_anchor(stage: Stage) -> None:
    await Catalogs(stage.engines.database).apply(CATALOG.replace("lifetime", "billing"), 0)
    worker = stage.engines.worker("worker")
    worker.start()
    await stage.workload.produce(frames=10)
    await eventually(lambda: _settled(stage), timeout=30)
    tenant = TENANTS[0]
    anchor = now_ms() - 20 * 3_600_000
    await tenants.create(stage.engines.database, tenant, "test")
    await subscriptions.assign(stage.engines.database, tenant, "p", "test", anchor=anchor, time_zone="Asia/Kolkata")
    period = period_of("billing", now_ms(), (BillingTerm(0, anchor, "Asia/Kolkata"),))

    async def agrees() -> bool:
        want = await counted(stage, tenant, *period)
        return 0 < want == await counter(stage, tenant, "billing", period.start)

    await eventually(agrees, timeout=20)
    await stage.workload.produce(frames=10)
    await eventually(lambda: _settled(stage), timeout=20)
    await eventually(agrees, timeout=20)
    epoch = stage.engines.epoch
    key = keys.counted_terms(epoch.epoch, partition_of(tenant, epoch.partitions))
    own: Any = await stage.redis.hget(key, tenant)
    assert terms_from(own.decode()) == terms_of((await subscriptions.history(stage.engines.database))[tenant])


async def _settled(stage: Stage) -> bool:
    """Whether the ledger has accounted for every event that was sent."""
    rows = await stage.clickhouse.query("SELECT toInt64(sum(events)) FROM usage_frames FINAL")
    return bool(rows.result_rows[0][0] == stage.workload.events)
