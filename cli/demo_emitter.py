"""One service of one hotel: emits its messages in order, batch by batch, at the day's pace."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from cli.errors import UNREACHABLE, CommandError
from ingest.client import Emitter, Refusal
from ingest.client.transport import Transport
from local.demo_account import Account, plain
from local.demo_workload import Message

BATCH = 40
BATCH_OF_ASKED = 10
"""Smaller where the gate is asked: it cannot know what was not reported yet."""
PATIENCE_SECONDS = 60.0
"""An emitter goes on for ever; the demo does not."""
Ask = Callable[[str], Awaitable[dict[str, Any]]]
"""Asks the gate for so many seconds of voice, a decimal string."""


class Tally:
    """What became of one hotel's messages so far, as the gateway and the gate answered."""

    def __init__(self) -> None:
        self.done = 0
        self.accepted: Counter[str] = Counter()
        self.resent: Counter[str] = Counter()
        self.rejected = 0
        self.reasons: Counter[str] = Counter()
        self.calls_made = 0
        self.calls_denied = 0
        self.positions: dict[int, int] = {}

    def add(self, batch: Sequence[Message], refusals: Sequence[Refusal], positions: Mapping[int, int]) -> None:
        """Count an answered batch, of which `refusals` were refused; the log has the others up to `positions`."""
        refused = {refusal.event for refusal in refusals}
        for message in batch:
            if message.line not in refused:
                self.accepted[message.type] += 1
                self.resent[message.type] += message.fate == "resent"
        self.rejected += len(refusals)
        self.reasons.update(refusal.code for refusal in refusals)
        for partition, offset in positions.items():
            self.positions[partition] = max(offset, self.positions.get(partition, -1))


class HotelService:
    """With `ask`, each call is made only if the gate allows it; one that is not made leaves the account too."""

    def __init__(
        self,
        tenant: str,
        ingest_url: str,
        key: str,
        transport: Transport,
        tally: Tally,
        account: Account,
        ask: Ask | None = None,
    ) -> None:
        self._tenant = tenant
        self._refusals: list[Refusal] = []
        self._emitter = Emitter(ingest_url, key, transport=transport, on_refused=self._refusals.append, drain_seconds=0)
        self._tally = tally
        self._account = account
        self._ask = ask
        self._not_made: set[str] = set()
        self._unsent = Decimal(0)

    async def run(self, messages: Sequence[Message], lasts_seconds: float) -> None:
        """Send them all, in not less than `lasts_seconds`. Raises CommandError if the gateway does not take them."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        size = BATCH_OF_ASKED if self._ask else BATCH
        async with self._emitter:
            for first in range(0, len(messages), size):
                due = began + lasts_seconds * first / len(messages)
                await asyncio.sleep(max(0.0, due - loop.time()))
                planned = messages[first : first + size]
                await self._send([message for message in planned if await self._takes_place(message)])
                self._tally.done += len(planned)
                self._unsent = Decimal(0)

    async def _send(self, batch: Sequence[Message]) -> None:
        """Returns when it is answered."""
        for message in batch:
            await self._emitter.emit_json(message.line)
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self._emitter.flush()
        except TimeoutError:
            trouble = self._emitter.trouble or "The gateway is slow."
            raise CommandError(
                UNREACHABLE,
                f"After {PATIENCE_SECONDS:g} s there is no answer yet. {trouble}",
                "The logs of gateway and broker say why.",
            ) from None
        self._tally.add(batch, self._refusals, self._emitter.positions)
        self._refusals.clear()

    async def _takes_place(self, message: Message) -> bool:
        if self._ask is None or message.fate == "refused":
            return True
        if message.fate == "resent":
            if message.name in self._not_made:
                self._account.resent[self._tenant] -= 1
                return False
            return True
        seconds = Decimal(str(json.loads(message.line, parse_float=Decimal)["data"]["duration_seconds"]))
        # The gate cannot know of the calls that wait here to be reported.
        if (await self._ask(plain(self._unsent + seconds)))["allowed"]:
            self._unsent += seconds
            self._tally.calls_made += 1
            return True
        self._tally.calls_denied += 1
        self._not_made.add(message.name)
        self._account.withdraw(self._tenant, message.name)
        return False
