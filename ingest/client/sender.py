"""One batch of events to the gateway, until it is answered: what is busy or away is tried again, with jitter."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from ingest.client.transport import NoAnswerError, Reply, Transport, retry_after
from metering.errors import Refused, Unavailable

_FIRST_WAIT, _LONGEST_WAIT = 0.1, 10.0
_LONGEST_RETRY_AFTER = 3600.0
_BAD_BATCH = frozenset({400, 413, 422})
_SLOW_DOWN = frozenset({408, 429})
"""The gateway is there, and a later request may do better; all 5xx too, but those do not prove that it is there."""


class Receipt(msgspec.Struct):
    """What the gateway answered. Indexes in `errors` count from the first event of the batch."""

    accepted: int
    rejected: int
    errors: list[dict[str, Any]] = []
    positions: list[tuple[int, int]] = []
    epoch: int = 0


_decode_receipt = msgspec.json.Decoder(Receipt).decode


class NotAllowed(Refused):
    """The gateway takes no events from this sender, whatever they are: unknown key, missing scope, wrong address."""

    def __init__(self, reply: Reply, url: str) -> None:
        problem = _problem(reply)
        super().__init__(problem.code, f"{url} answered {reply.status}: {problem.detail}")
        self.reply = reply
        self.url = url


class Silence(Unavailable):
    """For longer than the sender's patience nothing but silence and 5xx came back."""


class Sender:
    """Shared by all requests of one run, so that patience is measured over all of them."""

    def __init__(
        self,
        transport: Transport,
        ingest_url: str,
        headers: Mapping[str, str],
        patience_seconds: float = 60.0,
        on_wait: Callable[[str], object] = lambda trouble: None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`on_wait` is told before each pause what the trouble is."""
        self.retries = 0
        self._transport = transport
        self._url = ingest_url.rstrip("/") + "/v1/events"
        self._headers = {**headers, "Content-Type": "application/x-ndjson", "Prefer": "handling=lenient"}
        self._patience = patience_seconds
        self._on_wait = on_wait
        self._sleep = sleep
        self._monotonic = monotonic
        self._random = random.Random()  # noqa: S311 (spreads retries)
        self._last_answer = monotonic()

    async def send(self, events: Sequence[bytes]) -> Receipt:
        """Send JSON texts without line ends, none of them blank. Raises NotAllowed, and Silence if patience ends."""
        body = b"\n".join(events)
        attempt = 0
        while True:
            wait: float | None = None
            try:
                reply = await self._transport.request("POST", self._url, self._headers, body)
            except NoAnswerError as error:
                trouble = f"{self._url} does not answer: {error}"
            else:
                if reply.status == 202 and (receipt := _receipt(reply, len(events))) is not None:
                    self._last_answer = self._monotonic()
                    return receipt
                if reply.status in _BAD_BATCH:
                    self._last_answer = self._monotonic()
                    return await self._refused(events, reply)
                if reply.status not in _SLOW_DOWN and reply.status != 202 and reply.status < 500:
                    raise NotAllowed(reply, self._url)
                if reply.status in _SLOW_DOWN:
                    self._last_answer = self._monotonic()
                wait = retry_after(reply)
                trouble = f"{self._url} answered {reply.status}: {_problem(reply).detail}"
            if self._monotonic() - self._last_answer > self._patience:
                raise Silence(f"{trouble}. Gave up after {self._patience:g} s.")
            self._on_wait(trouble)
            await self._sleep(self._pause(attempt, wait))
            attempt += 1
            self.retries += 1

    def _pause(self, attempt: int, wait: float | None) -> float:
        """Retry-After and a little, so that not all come back at once; else exponential with full jitter."""
        if wait is not None:
            return min(wait, _LONGEST_RETRY_AFTER) + self._random.uniform(0, 0.5)
        longest: float = min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** min(attempt, 10))
        return self._random.uniform(0.5, 1) * longest

    async def _refused(self, events: Sequence[bytes], reply: Reply) -> Receipt:
        """A refusal of the whole batch: halves tell the guilty event from the others."""
        if len(events) > 1:
            middle = len(events) // 2
            left, right = await self.send(events[:middle]), await self.send(events[middle:])
            shifted = [{**error, "index": error["index"] + middle} for error in right.errors]
            return Receipt(
                left.accepted + right.accepted,
                left.rejected + right.rejected,
                left.errors + shifted,
                left.positions + right.positions,
                max(left.epoch, right.epoch),
            )
        problem = _problem(reply)
        return Receipt(0, 1, [{"index": 0, "id": problem.id, "code": problem.code, "detail": problem.detail}])


def _receipt(reply: Reply, sent: int) -> Receipt | None:
    """The receipt for `sent` events; None for a 202 of somebody else who stands between us and the gateway."""
    try:
        receipt = _decode_receipt(reply.body)
        refused = {error["index"] for error in receipt.errors}
    except (ValueError, LookupError, RecursionError):
        return None
    whole = receipt.accepted + receipt.rejected == sent and len(refused) == receipt.rejected
    return receipt if whole and refused <= set(range(sent)) else None


class _Problem(NamedTuple):
    code: str
    detail: str
    id: str | None


def _problem(reply: Reply) -> _Problem:
    """A problem document; the first event's error goes before what is said of the whole."""
    try:
        problem = msgspec.json.decode(reply.body)
        first = (problem.get("errors") or [{}])[0]
        code = first.get("code") or problem.get("type", "").rsplit("/", 1)[-1] or str(reply.status)
        detail = first.get("detail") or problem.get("detail") or problem.get("title") or ""
        return _Problem(code, detail, first.get("id"))
    except (ValueError, AttributeError, LookupError, TypeError, RecursionError):
        return _Problem(str(reply.status), reply.body[:200].decode(errors="replace"), None)
