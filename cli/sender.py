"""One batch of events to the gateway, until it is answered: what is busy or away is tried again, with jitter."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec

from cli.api import BUSY, problem_error, retry_after
from cli.errors import UNREACHABLE, CommandError
from cli.transport import NoAnswerError, Reply, Transport

_FIRST_WAIT, _LONGEST_WAIT = 0.1, 10.0
_BAD_BATCH = frozenset({400, 413, 422})


class Receipt(msgspec.Struct):
    """What the gateway answered. Indexes in `errors` count from the first event of the batch."""

    accepted: int
    rejected: int
    errors: list[dict[str, Any]] = []
    positions: list[tuple[int, int]] = []


_decode_receipt = msgspec.json.Decoder(Receipt).decode


class Sender:
    """Shared by all requests of one run, so that patience is measured over all of them."""

    def __init__(
        self,
        transport: Transport,
        ingest_url: str,
        headers: Mapping[str, str],
        patience_seconds: float = 60.0,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Gives up with CommandError when for `patience_seconds` nothing but silence and 5xx came back."""
        self.retries = 0
        self._transport = transport
        self._url = ingest_url + "/v1/events"
        self._headers = {**headers, "Content-Type": "application/x-ndjson", "Prefer": "handling=lenient"}
        self._patience = patience_seconds
        self._sleep = sleep
        self._monotonic = monotonic
        self._random = random.Random()  # noqa: S311 (spreads retries)
        self._last_answer = monotonic()

    async def send(self, events: Sequence[bytes]) -> Receipt:
        """Send JSON texts without line ends. Raises CommandError if the key may not, or nobody answers for long."""
        body = b"\n".join(events)
        attempt = 0
        while True:
            wait: float | None = None
            try:
                reply = await self._transport.request("POST", self._url, self._headers, body)
            except NoAnswerError as error:
                trouble = f"{self._url} does not answer: {error}"
            else:
                if reply.status == 202:
                    self._last_answer = self._monotonic()
                    return _decode_receipt(reply.body)
                if reply.status in _BAD_BATCH:
                    self._last_answer = self._monotonic()
                    return await self._refused(events, reply)
                if reply.status not in BUSY and reply.status < 500:
                    raise problem_error(reply, self._url)
                if reply.status == 429:
                    self._last_answer = self._monotonic()
                wait = retry_after(reply)
                trouble = str(problem_error(reply, self._url))
            if self._monotonic() - self._last_answer > self._patience:
                raise CommandError(
                    UNREACHABLE,
                    f"{trouble}. Gave up after {self._patience:g} s.",
                    "Nothing is lost: run the same command again when the gateway is back, it goes on from here.",
                )
            await self._sleep(self._pause(attempt, wait))
            attempt += 1
            self.retries += 1

    def _pause(self, attempt: int, wait: float | None) -> float:
        """Retry-After and a little, so that not all come back at once; else exponential with full jitter."""
        if wait is not None:
            return wait + self._random.uniform(0, 0.5)
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
            )
        return Receipt(0, 1, [_only_error(reply)])


def _only_error(reply: Reply) -> dict[str, Any]:
    try:
        problem = msgspec.json.decode(reply.body)
        listed = problem.get("errors") or [{}]
        code = listed[0].get("code") or str(problem.get("type", "")).rsplit("/", 1)[-1]
        return {
            "index": 0,
            "id": listed[0].get("id"),
            "code": code,
            "detail": listed[0].get("detail") or problem.get("detail", ""),
        }
    except (msgspec.DecodeError, AttributeError, LookupError):
        return {"index": 0, "id": None, "code": str(reply.status), "detail": reply.body[:200].decode(errors="replace")}
