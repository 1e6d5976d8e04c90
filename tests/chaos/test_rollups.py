"""Rollups of a real worker: killed again and again while events come, late ones among them, they end as the ledger."""

from __future__ import annotations

from typing import Any

from tests.chaos.conftest import Stage
from tests.chaos.workload import STANDING
from tests.support import eventually

OFTEN = {"TALLYGATE_STREAMS_ROLLUP_SECONDS": "0.1", "TALLYGATE_STREAMS_ROLLUP_SETTLE_SECONDS": "0"}
SEALED = "toStartOfHour(time) <= now() - INTERVAL 3 HOUR"
"""For sure; the workload has events that are 30 and 400 hours old."""
LEDGER = f"""
SELECT tenant, toStartOfHour(time) AS hour, dimensions['language'], toString(sum(quantities['seconds'])),
       toInt64(count()), toString(max(quantities['longest'])), arraySort(groupUniqArray(uniques['languages']))
FROM usage_events FINAL WHERE {SEALED} AND {STANDING} GROUP BY ALL ORDER BY ALL
"""
ROLLUPS = """
SELECT tenant, hour, dimensions['language'], toString(sumIf(total, meter = 'seconds')),
       toInt64(sumIf(events, meter = 'calls')), toString(maxIf(greatest, meter = 'longest')),
       arraySort(groupUniqArrayArrayIf(distinct, meter = 'languages'))
FROM usage_hourly FINAL
JOIN (SELECT tenant, hour, max(revision) AS standing FROM usage_windows GROUP BY ALL) AS newest USING (tenant, hour)
WHERE revision >= standing AND hour <= now() - INTERVAL 3 HOUR GROUP BY ALL ORDER BY ALL
"""


async def test_rollups_of_a_worker_that_is_killed_again_and_again_are_what_the_ledger_says(stage: Stage) -> None:
    async def rows(query: str) -> list[Any]:
        return list((await stage.clickhouse.query(query)).result_rows)

    async def agree() -> bool:
        ledger, rollups = await rows(LEDGER), await rows(ROLLUPS)
        assert len(ledger) > 20
        assert rollups == ledger
        return True

    for turn in range(3):
        worker = stage.engines.worker(f"worker-{turn}", **OFTEN)
        worker.start()
        await stage.workload.produce(frames=15)
        await eventually(worker.ready, timeout=30)
        done = len(await rows("SELECT 1 FROM usage_windows"))
        await eventually(lambda done=done: _more(stage, done), timeout=30, what="windows are computed")  # type: ignore[misc]
        await stage.workload.produce(frames=15)  # killed while these are under way
        worker.kill()
    stage.engines.worker("last", **OFTEN).start()
    await stage.exact()
    await eventually(agree, timeout=30, interval=0.2)


async def _more(stage: Stage, done: int) -> bool:
    return len((await stage.clickhouse.query("SELECT 1 FROM usage_windows")).result_rows) > done
