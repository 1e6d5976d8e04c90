"""The run in order: a system, its tenants, the emitters at work while processes are killed, and then the verdict."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from cli.api import Api, open_api
from cli.demo_system import DemoSystem
from cli.errors import CommandError
from cli.system import System, read_state
from local.drain import drained
from metering.clock import DAY_MS, HOUR_MS, iso
from streams.ledger import connect
from tests.chaos.run.account import Account
from tests.chaos.run.emitter import Errand, Job
from tests.chaos.run.emitters import Emitters
from tests.chaos.run.killer import KINDS, Kill, Killer
from tests.chaos.run.verdict import Verdict, judge, read_log
from tests.chaos.run.workload import Workload
from tests.e2e.system import ROOT

TENANTS = [f"hotel-{number:02}" for number in range(12)]
_EMITTERS = 3
_PLAN = "enterprise"
_SETTINGS = {
    "TALLYGATE_STREAMS_SESSION_MS": "3000",
    "TALLYGATE_STREAMS_ROLLUP_SECONDS": "2",
    "TALLYGATE_STREAMS_ROLLUP_SETTLE_SECONDS": "2",
}
"""Workers notice each other's death sooner, and rollups are computed while processes are still being killed."""
_SURPLUS = 0.5
"""Of the events between two kills, this share may be on its way when the next one comes."""
_APPLY_SECONDS = 900.0
_SAME_SECONDS = 15.0
"""Rollups come a little after the ledger: a verdict is the last when it did not change for so long."""

Tell = Callable[[int, int], None]
"""Told again and again: events answered, processes killed."""


class Options(NamedTuple):
    """`events` in all, `each` kind of process killed so often. `kafka`: as for `tallygate up`; the embedded broker,
    whose log lives in memory, is never killed. `plant_loss`: one event is lost on its way."""

    data_dir: Path
    events: int
    seed: int
    each: int
    kafka: str | None
    plant_loss: bool = False


class Outcome(NamedTuple):
    """Seconds from the first event until all were answered, and until all were counted."""

    options: Options
    kills: list[Kill]
    sent_seconds: float
    counted_seconds: float
    in_log: int
    verdict: Verdict


async def run(options: Options, tell: Tell) -> Outcome:
    """Leaves no process behind. Raises CommandError, EmitterDied or AssertionError if it cannot be finished."""
    os.environ.update(_SETTINGS)
    now_ms = int(time.time() * 1000)
    slots = options.events // len(TENANTS)
    accounts = [Account(Workload(options.seed, tenant, slots, now_ms)) for tenant in TENANTS]
    workers = {"ingest": 2, "streams": 2}
    system = await DemoSystem.start(options.data_dir, options.kafka, ROOT / "catalog.yaml", workers)
    emitters: Emitters | None = None
    try:
        async with open_api(system.address) as api:
            jobs = await _jobs(api, system.address, options, accounts, now_ms)
            emitters = Emitters(options.data_dir / "emitters", jobs)
            stage = _Stage(options, api, accounts, emitters, now_ms, tell)
            await system.unless_it_stops(stage.play())
            return stage.outcome()
    finally:
        if emitters is not None:
            await emitters.stop()
        await system.stop()


async def _jobs(api: Api, address: System, options: Options, accounts: list[Account], now_ms: int) -> dict[str, Job]:
    """Tenants on their plan, with keys, spread over the emitters."""
    errands: list[Errand] = []
    for number, account in enumerate(accounts):
        anchor = iso(now_ms // HOUR_MS * HOUR_MS - 10 * DAY_MS)
        await api.console("POST", "/v1/tenants", {"name": account.tenant, "plan": _PLAN, "anchor": anchor})
        scopes = {"scopes": ["ingest", "void"]}
        key = (await api.console("POST", f"/v1/tenants/{account.tenant}/keys", scopes))["key"]
        lost = account.once if options.plant_loss and number == 0 else -1
        errands.append(Errand(account.tenant, key, account.slots, lost))
    return {
        f"emitter-{number}": Job(str(address.ingest), options.seed, now_ms, errands[number::_EMITTERS])
        for number in range(_EMITTERS)
    }


class _Stage:
    """One run with everything it needs."""

    def __init__(
        self, options: Options, api: Api, accounts: list[Account], emitters: Emitters, now_ms: int, tell: Tell
    ) -> None:
        self._options = options
        self._api = api
        self._accounts = accounts
        self._emitters = emitters
        self._now_ms = now_ms
        self._tell = tell
        self._slots = sum(account.slots for account in accounts)
        self._began = time.monotonic()
        self._killer = Killer(options.seed, options.data_dir, emitters, self._began)
        self._outcome: Outcome | None = None

    def outcome(self) -> Outcome:
        """After `play`."""
        assert self._outcome is not None
        return self._outcome

    async def play(self) -> None:
        """Send, kill, wait, judge."""
        kinds = [kind for kind in KINDS if kind != "kafka" or self._options.kafka]
        plan = self._killer.plan(kinds, self._options.each)
        segments = len(plan) + 1
        self._emitters.allow((1 + _SURPLUS) / segments)
        self._emitters.start()
        for number, kind in enumerate(plan, 1):
            await self._answered(self._slots * number / segments)
            await self._killer.strike(kind)
            self._emitters.allow(min(1.0, (number + 1 + _SURPLUS) / segments))
        self._emitters.allow(1.0)
        await self._answered(self._slots)
        await self._emitters.finished()
        sent = time.monotonic() - self._began
        await self._killer.all_ready()
        state = read_state(self._options.data_dir)
        writers = [url for name, url in state["ops"].items() if name.startswith("streams-")]
        if not await drained(writers, _APPLY_SECONDS):
            raise CommandError(1, f"What was accepted was not counted within {_APPLY_SECONDS:g} s.", "See the logs.")
        counted = time.monotonic() - self._began
        applied = await self._api.console("GET", "/v1/applied")
        log = await read_log(state["kafka"], applied["epoch"], applied["count"])
        verdict = await self._last_verdict(state["clickhouse"], log)
        self._outcome = Outcome(self._options, self._killer.kills, sent, counted, log.total(), verdict)

    async def _answered(self, events: float) -> None:
        """Return when the gateways have answered so many."""
        while True:
            _, answered = self._emitters.progress()
            self._tell(answered, len(self._killer.kills))
            if answered >= int(events):
                return
            await asyncio.sleep(0.05)

    async def _last_verdict(self, clickhouse: str, log: Counter[str]) -> Verdict:
        refused = Counter({account.tenant: self._emitters.refused(account.tenant) for account in self._accounts})
        client = await connect(clickhouse)
        try:
            last, since = Verdict([], []), time.monotonic()
            while True:
                verdict = await judge(self._api, client, self._accounts, log, refused, self._now_ms)
                if verdict != last:
                    last, since = verdict, time.monotonic()
                if verdict.agrees or time.monotonic() - since > _SAME_SECONDS:
                    return verdict
                await asyncio.sleep(1)
        finally:
            with suppress(OSError):
                await client.close()
