"""`/v1/alerts`: each crossing once, the newest first, and nobody else's."""

from __future__ import annotations

from typing import Any

from metering.crossing import Crossing, Threshold, crossing
from metering.period import LIFETIME, Period, PeriodKind
from metering.quantity import ONE
from tenancy import alerts
from tests.integration.console.conftest import Api

DAY = Period(1_795_392_000_000, 1_795_478_400_000)


def found(tenant: str, share: str, at: int, kind: PeriodKind = "day", period: Period = DAY) -> Crossing:
    threshold = Threshold(80 * ONE, "voice", share, "100")
    return crossing(tenant, "seconds", kind, period, threshold, 80 * ONE + at, DAY.start + at)


async def tenant(api: Api, name: str) -> str:
    await api.must("POST", "/v1/tenants", {"name": name})
    return await api.key(name, "read")


async def test_alerts_are_listed_once_the_newest_first(api: Api) -> None:
    key = await tenant(api, "grand")
    assert await alerts.write(api.database, found("grand", "0.8", 1))
    assert await alerts.write(api.database, found("grand", "1", 3, "lifetime", LIFETIME))
    assert not await alerts.write(api.database, found("grand", "0.8", 2))
    answer = await api.must("GET", "/v1/alerts", key=key)
    assert [(one["threshold"], one["used"]) for one in answer["alerts"]] == [
        ("1", "80.000000003"),
        ("0.8", "80.000000001"),
    ]
    assert answer["alerts"][0]["to"] is None
    assert answer["alerts"][1] == {
        "id": found("grand", "0.8", 9).id,
        "feature": "voice",
        "meter": "seconds",
        "period": "day",
        "from": "2026-11-23T00:00:00.000Z",
        "to": "2026-11-24T00:00:00.000Z",
        "threshold": "0.8",
        "limit": "100",
        "used": "80.000000001",
        "at": "2026-11-23T00:00:00.001Z",
    }
    newest = await api.must("GET", "/v1/alerts?tenant=grand&limit=1")
    assert newest["alerts"] == answer["alerts"][:1]


async def test_another_tenants_alerts_are_not_there(api: Api) -> None:
    await tenant(api, "grand")
    key = await tenant(api, "other")
    await alerts.write(api.database, found("grand", "0.8", 1))
    assert (await api.must("GET", "/v1/alerts", key=key))["alerts"] == []
    assert (await api.ask("GET", "/v1/alerts?tenant=grand", key=key))[0] == 404
    assert (await api.ask("GET", "/v1/alerts", key=await api.key("grand", "ingest")))[0] == 403


async def test_a_limit_that_is_none_is_refused(api: Api) -> None:
    key = await tenant(api, "grand")
    answers: list[tuple[int, Any]] = [
        await api.ask("GET", f"/v1/alerts?limit={n}", key=key) for n in ("0", "x", "1001")
    ]
    assert [status for status, _ in answers] == [422, 422, 422]
