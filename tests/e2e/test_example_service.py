"""The example service on a whole system: each preset of the demo catalog, asked and used as a service does it."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient, TestServer

from enforcement.client import Gate
from examples.guest_services import CALL_SECONDS, GuestServices
from ingest.client import Emitter
from tests.e2e.system import ROOT, RunningSystem, system_up
from tests.support import eventually

SMALL, LARGE = "pension", "hafen"


@pytest.fixture(scope="module")
def system() -> Iterator[RunningSystem]:
    with (
        tempfile.TemporaryDirectory() as folder,
        system_up(Path(folder) / "data", "--catalog", str(ROOT / "catalog.yaml")) as running,
    ):
        for tenant, plan in ((SMALL, "starter"), (LARGE, "professional")):
            assert running.tallygate("tenant", "create", tenant, "--plan", plan).code == 0
        yield running


class Service:
    """The service as its guests' apps meet it, and the gate as the service meets it."""

    def __init__(self, client: TestClient[Any, Any], gate: Gate) -> None:
        self._client = client
        self.gate = gate

    async def post(self, path: str, hotel: str = SMALL, **body: Any) -> tuple[int, Any]:
        """Status and body."""
        response = await self._client.post(path, json=body, headers={"X-Hotel": hotel})
        return response.status, await response.json(content_type=None)

    async def guests(self, key: str) -> ClientResponse:
        """One request of a hotel's own system."""
        return await self._client.get("/v2/guests", headers={"X-Hotel": SMALL, "X-Api-Key": key})

    async def uses(self, feature: str, hotel: str, used: str, reserved: str = "0") -> bool:
        """Whether the gate says so; AssertionError says what it says instead."""
        answer = await self.gate.check(hotel, feature, 0)
        assert (answer.used, answer.reserved) == (used, reserved)
        return True


@pytest.fixture
async def service(system: RunningSystem) -> AsyncIterator[Service]:
    key, url = system.ready["admin_key"], system.ready["gate"]
    app = GuestServices(
        Gate(url, key, budget=5.0, reserve_budget=5.0), Emitter(system.ready["ingest"], key, source="/guest-services")
    ).app()
    async with TestClient(TestServer(app)) as client, Gate(url, key, budget=5.0) as gate:
        yield Service(client, gate)


def _call(id: str, language: str = "de", property: str = "garmisch") -> dict[str, str]:
    return {"id": id, "guest": "guest-7", "language": language, "property": property}


async def test_calls_hold_what_they_may_use_and_count_what_they_used(service: Service) -> None:
    assert await service.post("/calls", **_call("a", "ja")) == (403, _denial("language", "group-not-entitled"))
    status, begun = await service.post("/calls", **_call("a"))
    assert (status, begun) == (201, {"seconds": CALL_SECONDS, "left_after": "35400"})
    assert await service.post("/calls/a/end", seconds=90) == (200, {})
    await eventually(lambda: service.uses("voice", SMALL, "90"), timeout=30, what="the call is counted, its hold gone")
    # As many more as are left: 35,910 s hold 59 calls of ten minutes.
    answers = [await service.post("/calls", **_call(f"b{number}")) for number in range(60)]
    assert [status for status, _ in answers] == [201] * 59 + [403]
    assert answers[-1][1]["type"].endswith("/limit-reached")
    for number in range(59):
        await service.post(f"/calls/b{number}/end", seconds="0.5")
    await eventually(lambda: service.uses("voice", SMALL, "119.5"), timeout=30, what="all holds are gone")


async def test_requests_of_every_kind_are_taken_and_counted(service: Service) -> None:
    for priority in ("normal", "urgent"):
        asked = {"guest": "guest-7", "priority": priority, "department": "spa", "property": "garmisch"}
        assert await service.post("/requests", LARGE, **asked) == (201, {"priority": priority, "billed": False})
    await eventually(lambda: service.uses("guest-requests", LARGE, "2"), timeout=30, what="two requests")
    await eventually(lambda: service.uses("priority-requests", LARGE, "1"), timeout=30, what="an urgent one")


async def test_seats_are_a_gauge(service: Service) -> None:
    assert await service.post("/seats", now=0, wanted=10) == (200, {"seats": 10})
    await eventually(lambda: service.uses("staff-seats", SMALL, "10"), timeout=30, what="ten seats")
    assert (await service.post("/seats", now=10, wanted=11))[0] == 403
    assert await service.post("/seats", now=10, wanted=4) == (200, {"seats": 4})
    await eventually(lambda: service.uses("staff-seats", SMALL, "4"), timeout=30, what="four seats")
    assert await service.post("/seats", now=4, wanted=9) == (200, {"seats": 9})


async def test_voices_are_cloned_where_the_plan_has_it_and_not_too_many(service: Service) -> None:
    assert await service.post("/voices") == (403, _denial("voice-cloning", "not-entitled"))
    answers = [await service.post("/voices", LARGE) for _ in range(6)]
    assert [status for status, _ in answers] == [201] * 5 + [429]


async def test_one_more_location_needs_a_plan_for_it(service: Service) -> None:
    for hotel, more in ((SMALL, 403), (LARGE, 201)):
        await service.post("/calls", hotel, **_call(f"first-{hotel}"))
        await service.post(f"/calls/first-{hotel}/end", hotel, seconds=1)
        await eventually(lambda hotel=hotel: service.uses("locations", hotel, "1"), timeout=30, what="a location")  # type: ignore[misc]
        assert (await service.post("/locations", hotel))[0] == more


async def test_a_hotels_systems_are_slowed_down_each_for_itself(service: Service) -> None:
    answers = await asyncio.gather(*(service.guests("housekeeping") for _ in range(60)))
    statuses = [answer.status for answer in answers]
    assert statuses.count(200) >= 20 and statuses.count(429) > 0
    assert all("Retry-After" in answer.headers for answer in answers if answer.status == 429)
    await eventually(lambda: _ok(service), timeout=10, what="another key is not slowed down for long")


async def _ok(service: Service) -> bool:
    return (await service.guests("front-desk")).status == 200


def _denial(feature: str, reason: str) -> dict[str, Any]:
    detail = f"{feature}: {reason.replace('-', ' ')}"
    return {"type": f"https://tallygate.dev/problems/{reason}", "title": "not allowed", "status": 403, "detail": detail}
