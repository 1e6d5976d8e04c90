"""The demo against a running system: tenants and keys, emitters at work, the gate asked all the while, the verdict."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from typing import Any

from cli.api import Api
from cli.demo_verdict import EventsRow, MeterRow, events_row, meter_rows
from cli.errors import NO, CommandError
from cli.send import wait_applied
from cli.sender import Sender
from cli.system import System
from local.demo_workload import BLOCKED_FEATURE, BLOCKED_TENANT, HOTELS, Day, Hotel, Message
from metering.clock import DAY_MS, iso

BATCH = 40
LASTS_SECONDS = 10.0
"""How fast the day goes by, at least: slow enough to watch the counters move."""
LOOK_SECONDS = 0.3
APPLY_SECONDS = 60.0
ANCHOR_MS = 10 * DAY_MS
"""How long before the day its tenants' billing periods began: far enough that the whole day lies in one."""


class DemoRun:
    """What has happened so far is in its attributes; the view reads them."""

    def __init__(self, admin: Api, day: Day) -> None:
        self.day = day
        self.sent: Counter[str] = Counter()
        self.accepted: dict[str, Counter[str]] = defaultdict(Counter)
        self.resent: dict[str, Counter[str]] = defaultdict(Counter)
        self.rejected: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.retries = 0
        self.counters: dict[str, dict[str, Any]] = {}
        self.gate: dict[str, dict[str, Any]] = {}
        self.denied_after: int | None = None
        self.meter_rows: list[MeterRow] = []
        self.events_rows: list[EventsRow] = []
        self._admin = admin
        self._keys: dict[str, str] = {}
        self._positions: dict[int, int] = {}

    async def prepare(self) -> None:
        """Create the hotels on their plans, with a key each."""
        for hotel in HOTELS:
            anchor = iso(self.day.now_ms - ANCHOR_MS)
            body = {"name": hotel.tenant, "plan": hotel.plan, "anchor": anchor}
            await self._admin.console("POST", "/v1/tenants", body)
            made = await self._admin.console(
                "POST", f"/v1/tenants/{hotel.tenant}/keys", {"scopes": ["ingest", "check", "read"]}
            )
            self._keys[hotel.tenant] = made["key"]

    async def emit(self) -> None:
        """Send the day, all emitters at once, and look at gate and counters meanwhile; ends when all is counted."""
        looking = asyncio.create_task(self._look())
        try:
            async with asyncio.TaskGroup() as emitters:
                for (tenant, _), messages in self.day.emitters.items():
                    emitters.create_task(self._emitter(tenant, messages))
            if not await wait_applied(self._admin, self._positions, APPLY_SECONDS):
                raise CommandError(
                    NO,
                    f"What was accepted was not counted within {APPLY_SECONDS:g} s.",
                    "The processes' logs in the data directory say why.",
                )
        except* CommandError as failed:
            raise failed.exceptions[0] from None
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)

    async def judge(self) -> None:
        """Fill `meter_rows`, `events_rows` and the gate's last word."""
        for hotel in HOTELS:
            tenant = hotel.tenant
            api = self._as(hotel)
            ledger = await api.console("GET", "/v1/usage", tenant=tenant, source="ledger")
            counters = await api.console("GET", "/v1/usage", tenant=tenant, source="counters")
            self.counters[tenant] = counters["meters"]
            self.meter_rows += meter_rows(
                tenant, self.day.account, self.accepted[tenant], self.resent[tenant], ledger, counters
            )
            accepted = self.accepted[tenant].total()
            self.events_rows.append(events_row(tenant, self.day.account, accepted, self.rejected[tenant], ledger))
            self.gate[tenant] = await self._ask(hotel)

    @property
    def blocked(self) -> bool:
        """Whether the gate denies just the hotel that used up its plan."""
        return all(self.gate[hotel.tenant]["allowed"] != (hotel.tenant == BLOCKED_TENANT) for hotel in HOTELS)

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
            "gate": self.gate,
        }

    async def _emitter(self, tenant: str, messages: list[Message]) -> None:
        sender = Sender(
            self._admin.transport,
            await self._admin.ingest_url(),
            {"Authorization": f"Bearer {self._keys[tenant]}"},
        )
        loop = asyncio.get_running_loop()
        began = loop.time()
        for first in range(0, len(messages), BATCH):
            batch = messages[first : first + BATCH]
            due = began + LASTS_SECONDS * first / len(messages)
            await asyncio.sleep(max(0.0, due - loop.time()))
            before = sender.retries
            receipt = await sender.send([message.line for message in batch])
            self.retries += sender.retries - before
            refused = {error["index"] for error in receipt.errors}
            for index, message in enumerate(batch):
                if index not in refused:
                    self.accepted[tenant][message.type] += 1
                    self.resent[tenant][message.type] += message.fate == "resent"
            self.rejected[tenant] += receipt.rejected
            self.reasons.update(error["code"] for error in receipt.errors)
            self.sent[tenant] += len(batch)
            for partition, offset in receipt.positions:
                self._positions[partition] = max(offset, self._positions.get(partition, -1))

    async def _look(self) -> None:
        """Counters and the gate's answers, as they change. What cannot be seen now is looked at again later."""
        while True:
            for hotel in HOTELS:
                try:
                    usage = await self._as(hotel).console("GET", "/v1/usage", tenant=hotel.tenant, source="counters")
                    self.counters[hotel.tenant] = usage["meters"]
                    answer = self.gate[hotel.tenant] = await self._ask(hotel)
                except CommandError:
                    continue
                if hotel.tenant == BLOCKED_TENANT and not answer["allowed"] and self.denied_after is None:
                    self.denied_after = self.sent[hotel.tenant]
            await asyncio.sleep(LOOK_SECONDS)

    async def _ask(self, hotel: Hotel) -> dict[str, Any]:
        question = {"tenant": hotel.tenant, "feature": BLOCKED_FEATURE, "amount": 60}
        answer: dict[str, Any] = await self._as(hotel).gate("POST", "/v1/check", question)
        return answer

    def _as(self, hotel: Hotel) -> Api:
        """The API as this hotel sees it."""
        system = self._admin.system
        own = System(system.console, self._keys[hotel.tenant], system.ingest, system.gate)
        return Api(own, self._admin.transport)
