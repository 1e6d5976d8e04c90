"""The demo against a running system: tenants and keys, emitters at work, the gate asked all the while, the verdict."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from cli.api import Api
from cli.demo_emitter import HotelService, Tally
from cli.demo_verdict import EventsRow, MeterRow, events_row, meter_rows
from cli.errors import NO, UNREACHABLE, CommandError
from cli.send import wait_applied
from cli.system import System
from local.demo_account import plain
from local.demo_workload import BLOCKED_FEATURE, BLOCKED_TENANT, HOTELS, SOURCES, Day
from metering.clock import DAY_MS, iso

LASTS_SECONDS = 10.0
MESSAGES_A_SECOND = 1_000
"""How fast the day goes by at most: slow enough to watch the counters move."""
LOOK_SECONDS = 0.3
KNOWN_SECONDS = 15.0
APPLY_SECONDS = 60.0
ANCHOR_MS = 10 * DAY_MS
"""How long before the day its tenants' billing periods began: far enough that the whole day lies in one."""


class DemoRun:
    """What has happened so far is in its attributes; the view reads them."""

    def __init__(self, admin: Api, day: Day) -> None:
        self.day = day
        self.tallies = {hotel.tenant: Tally() for hotel in HOTELS}
        self.counters: dict[str, dict[str, Any]] = {}
        self.gate: dict[str, dict[str, Any]] = {}
        self.meter_rows: list[MeterRow] = []
        self.events_rows: list[EventsRow] = []
        self._admin = admin
        self._hotels: dict[str, Api] = {}

    async def prepare(self) -> None:
        """Create the hotels on their plans, with a key each, and wait until the gate knows them."""
        system = self._admin.system
        for hotel in HOTELS:
            anchor = iso(self.day.now_ms - ANCHOR_MS)
            body = {"name": hotel.tenant, "plan": hotel.plan, "anchor": anchor}
            await self._admin.console("POST", "/v1/tenants", body)
            scopes = {"scopes": ["ingest", "check", "read"]}
            made = await self._admin.console("POST", f"/v1/tenants/{hotel.tenant}/keys", scopes)
            own = System(system.console, made["key"], system.ingest, system.gate)
            self._hotels[hotel.tenant] = Api(own, self._admin.transport)
        deadline = time.monotonic() + KNOWN_SECONDS
        for hotel in HOTELS:
            while not (answer := await self._ask(hotel.tenant, "1"))["allowed"]:
                if time.monotonic() > deadline:
                    raise CommandError(
                        UNREACHABLE,
                        f"After {KNOWN_SECONDS:g} s the gate still does not know {hotel.tenant}: {answer['reason']}.",
                        "The logs of gate and console say why.",
                    )
                await asyncio.sleep(0.1)

    async def emit(self) -> None:
        """Send the day, all emitters at once, and look at gate and counters meanwhile; ends when all is counted."""
        looking = asyncio.create_task(self._look())
        try:
            lasts = min(LASTS_SECONDS, self.day.messages / MESSAGES_A_SECOND)
            async with asyncio.TaskGroup() as emitters:
                for (tenant, name), messages in self.day.emitters.items():
                    service = await self._service(tenant, name)
                    emitters.create_task(service.run(messages, lasts))
            positions: dict[int, int] = {}
            for tally in self.tallies.values():
                for partition, offset in tally.positions.items():
                    positions[partition] = max(offset, positions.get(partition, -1))
            if not await wait_applied(self._admin, positions, APPLY_SECONDS):
                raise CommandError(
                    NO,
                    f"What was accepted was not counted within {APPLY_SECONDS:g} s.",
                    "The writer's log says why.",
                )
        except* CommandError as failed:
            raise failed.exceptions[0] from None
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)

    async def judge(self) -> None:
        """Fill `meter_rows`, `events_rows` and the gate's last word."""
        for tenant, tally in self.tallies.items():
            api, account = self._hotels[tenant], self.day.account
            ledger = await api.console("GET", "/v1/usage", tenant=tenant, source="ledger")
            counters = await api.console("GET", "/v1/usage", tenant=tenant, source="counters")
            self.counters[tenant] = counters["meters"]
            self.meter_rows += meter_rows(tenant, account, tally.accepted, tally.resent, ledger, counters)
            self.events_rows.append(events_row(tenant, account, tally.accepted.total(), tally.rejected, ledger))
            self.gate[tenant] = await self._ask(tenant, self.one_more_call(tenant))

    def one_more_call(self, tenant: str) -> str:
        """How many seconds of voice the last question is about."""
        return plain(self.day.longest_call[tenant])

    @property
    def done(self) -> int:
        """Messages that are dealt with."""
        return sum(tally.done for tally in self.tallies.values())

    @property
    def blocked(self) -> bool:
        """Whether the gate denies just the hotel that used up its plan."""
        return all(answer["allowed"] != (tenant == BLOCKED_TENANT) for tenant, answer in self.gate.items())

    @property
    def agrees(self) -> bool:
        """Whether account, gateway, ledger, counters and gate agree."""
        totals = all(row.agrees for row in self.meter_rows) and all(row.agrees for row in self.events_rows)
        return self.blocked and totals

    def result(self, seconds: float) -> dict[str, Any]:
        """For programs; `seconds` is how long sending and counting took."""
        return {
            "agrees": self.agrees,
            "messages": self.day.messages,
            "seconds": round(seconds, 3),
            "events": [{**row._asdict(), "agrees": row.agrees} for row in self.events_rows],
            "meters": [{**row._asdict(), "agrees": row.agrees} for row in self.meter_rows],
            "calls_denied": self.tallies[BLOCKED_TENANT].calls_denied,
            "gate": self.gate,
        }

    async def _service(self, tenant: str, name: str) -> HotelService:
        api, tally = self._hotels[tenant], self.tallies[tenant]
        asks = tenant == BLOCKED_TENANT and name == SOURCES["call.completed"]

        async def ask(seconds: str) -> dict[str, Any]:
            answer = self.gate[tenant] = await self._ask(tenant, seconds)
            return answer

        url, key = await api.ingest_url(), api.system.key
        return HotelService(tenant, url, key, api.transport, tally, self.day.account, ask if asks else None)

    async def _look(self) -> None:
        """Counters and the gate's answers, as they change. What cannot be seen now is looked at again later."""
        while True:
            for tenant, api in self._hotels.items():
                try:
                    usage = await api.console("GET", "/v1/usage", tenant=tenant, source="counters")
                    self.counters[tenant] = usage["meters"]
                    if tenant != BLOCKED_TENANT:
                        self.gate[tenant] = await self._ask(tenant, "1")
                except CommandError:
                    continue
            await asyncio.sleep(LOOK_SECONDS)

    async def _ask(self, tenant: str, seconds: str) -> dict[str, Any]:
        question = {"tenant": tenant, "feature": BLOCKED_FEATURE, "amount": seconds}
        answer: dict[str, Any] = await self._hotels[tenant].gate("POST", "/v1/check", question)
        return answer
