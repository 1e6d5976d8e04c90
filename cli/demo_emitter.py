"""One service of one hotel: sends its messages in order, batch by batch, at the day's pace."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from decimal import Decimal
from typing import Any

from cli.sender import Receipt, Sender
from local.demo_account import Account, plain
from local.demo_workload import Message

BATCH = 40
BATCH_OF_ASKED = 10
"""Smaller where the gate is asked: it cannot know what was not reported yet."""
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

    def add(self, batch: Sequence[Message], receipt: Receipt) -> None:
        """Count an answered batch."""
        refused = {error["index"] for error in receipt.errors}
        for index, message in enumerate(batch):
            if index not in refused:
                self.accepted[message.type] += 1
                self.resent[message.type] += message.fate == "resent"
        self.rejected += receipt.rejected
        self.reasons.update(error["code"] for error in receipt.errors)
        for partition, offset in receipt.positions:
            self.positions[partition] = max(offset, self.positions.get(partition, -1))


class Emitter:
    """With `ask`, each call is made only if the gate allows it; one that is not made leaves the account too."""

    def __init__(self, tenant: str, sender: Sender, tally: Tally, account: Account, ask: Ask | None = None) -> None:
        self._tenant = tenant
        self._sender = sender
        self._tally = tally
        self._account = account
        self._ask = ask
        self._not_made: set[str] = set()
        self._unsent = Decimal(0)

    async def run(self, messages: Sequence[Message], lasts_seconds: float) -> None:
        """Send them all, in not less than `lasts_seconds`."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        size = BATCH_OF_ASKED if self._ask else BATCH
        for first in range(0, len(messages), size):
            due = began + lasts_seconds * first / len(messages)
            await asyncio.sleep(max(0.0, due - loop.time()))
            planned = messages[first : first + size]
            batch = [message for message in planned if await self._takes_place(message)]
            if batch:
                self._tally.add(batch, await self._sender.send([message.line for message in batch]))
            self._tally.done += len(planned)
            self._unsent = Decimal(0)

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
