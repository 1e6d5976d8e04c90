"""The emitter: takes events quickly, and sends them in batches until they are answered."""

from __future__ import annotations

import asyncio
import logging
import math
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from ingest.client.buffer import Buffer, EmitterFull, MemoryBuffer
from ingest.client.refusals import Refusal
from ingest.client.sender import NotAllowed, Receipt, Sender
from ingest.client.spool import Spool
from ingest.client.transport import HttpTransport, Transport
from metering.clock import Clock, SystemClock, iso
from metering.errors import InvalidEvent, TallygateError

MEMORY_BYTES = 64 * 1024 * 1024
SPOOL_BYTES = 1024 * 1024 * 1024
BATCH_EVENTS = 1_000
BATCH_BYTES = 1024 * 1024
SYNC_SECONDS = 1.0
"""How often a spool is told to survive a power cut."""
_ANSWER_SECONDS = 30.0
_TROUBLE_SECONDS = 5.0
"""Pause after what is nobody's busyness: a key that may not, a spool that cannot be read."""
_log = logging.getLogger(__name__)


class EmitterClosed(TallygateError):
    """The emitter is closed, or was not opened: it takes no event."""


class Emitter:
    """Sends usage events to one gateway. `async with` opens and closes it; it belongs to one event loop.

    Every event gets its identity (id, source) and its time when it is emitted, so however often it has to be sent, it
    counts once. Delivery goes on in the background: what is busy (Retry-After is honoured) or away is tried again
    for ever, and `trouble` says why. What the gateway refuses for good (422) holds nothing up: it is handed to
    `on_refused`, which by default logs it, and kept in the spool's refused.ndjson.

    Without a spool, events live in memory and end with the process. With `spool`, a directory of this emitter's
    own, an event is on disk when `emit` returns: it survives SIGKILL and goes out when the next emitter opens the
    directory. A power cut takes at most what was emitted in the last second or so.
    """

    def __init__(
        self,
        url: str,
        key: str,
        *,
        source: str | None = None,
        spool: Path | str | None = None,
        most_bytes: int | None = None,
        full_seconds: float = 5.0,
        linger_seconds: float = 0.05,
        drain_seconds: float = 10.0,
        on_refused: Callable[[Refusal], object] | None = None,
        transport: Transport | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Does nothing yet. `url`: of the gateway; `key`: with the scope `ingest`.

        `source` stands in for events that name none. `most_bytes` may wait, in memory (64 MiB) or on disk (1 GiB);
        when that is full, `emit` waits up to `full_seconds`. A batch goes out when it is full or its first event has
        waited for `linger_seconds`. `close` tries for `drain_seconds` to get rid of everything. A `transport` that
        was given is not closed.
        """
        self.trouble: str | None = None
        """Why nothing gets through at the moment; None while all is well."""
        self.positions: dict[int, int] = {}
        """Where in the log what was accepted ends: partition → greatest offset, of the newest epoch."""
        self._url = url
        self._headers = {"Authorization": f"Bearer {key}", "User-Agent": "tallygate-emitter"}
        self._source = source
        self._spool = None if spool is None else Path(spool)
        self._most_bytes = most_bytes
        self._full_seconds = full_seconds
        self._linger_seconds = linger_seconds
        self._drain_seconds = drain_seconds
        self._on_refused = on_refused or _log_refusal
        self._given_transport = transport
        self._clock = clock or SystemClock()
        self._buffer: Buffer | None = None
        self._wanted = 0.0
        self._epoch = 0
        self._arrived = asyncio.Event()
        self._answered = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self) -> Emitter:
        """Take the spool and begin to send what it holds. Raises SpoolInUse, Unavailable if it cannot be used."""
        if self._spool is None:
            self._buffer = MemoryBuffer(self._most_bytes or MEMORY_BYTES)
        else:
            self._buffer = await Spool.open(self._spool, self._most_bytes or SPOOL_BYTES, self._clock)
        self._transport = self._given_transport or HttpTransport(connections=1, timeout_seconds=_ANSWER_SECONDS)
        self._sender = Sender(self._transport, self._url, self._headers, math.inf, self._in_trouble)
        self._tasks = [asyncio.create_task(self._send_all(self._buffer)), asyncio.create_task(self._sync(self._buffer))]
        return self

    async def emit(self, event: Mapping[str, Any]) -> str:
        """Take an event and answer its id; it is sent soon.

        `event`: CloudEvents attributes and `data`; `type` is needed, and `source` where the emitter has none.
        Quantities in `data` may be int, Decimal or decimal strings, which arrive as they are written.

        Raises EmitterFull if for `full_seconds` there was no room, InvalidEvent without `type` or any source, Refused
        if it is larger than the buffer can ever take, TypeError if it is no JSON, Unavailable if the spool's disk
        fails, EmitterClosed. Whatever is raised, the event was not taken.
        """
        given = {name: value for name, value in event.items() if value is not None}
        whole = {"specversion": "1.0", "id": str(uuid.uuid4()), "time": iso(self._clock.now_ms()), **given}
        if self._source is not None:
            whole.setdefault("source", self._source)
        for name in ("type", "source"):
            if name not in whole:
                raise InvalidEvent("missing-attribute", f"the event has no `{name}`")
        await self._take(msgspec.json.encode(whole))
        return str(whole["id"])

    async def emit_json(self, event: bytes) -> None:
        """Take an event that is JSON already, on one line, with an id and a time of its own, and send it as it is.

        Raises ValueError for a blank line or several, else as `emit`.
        """
        if b"\n" in event or not event.strip():
            raise ValueError("an event is one line of JSON")
        await self._take(event)

    @property
    def emitted(self) -> int:
        """How many events were taken, those of earlier processes with the same spool too: where a sender goes on that
        was killed before it could note what it had emitted."""
        return self._opened.appended

    @property
    def waiting(self) -> int:
        """How many events are not answered yet, those of an earlier process in the same spool too."""
        return self._opened.appended - self._opened.acknowledged

    async def flush(self) -> None:
        """Returns when everything that was emitted before is answered, however long that takes.

        Raises EmitterClosed if `close` gave up on it.
        """
        buffer = self._opened
        self._wanted = target = buffer.appended
        self._arrived.set()
        while buffer.acknowledged < target:
            if not self._tasks:
                raise EmitterClosed(f"closed before all was answered; {self.trouble or 'there was no time left'}")
            await self._answered.wait()

    async def close(self) -> int:
        """Take nothing more, send for at most `drain_seconds`, and answer how many events were not answered.

        Those stay in the spool for the next emitter; without one they are lost, and the log says so.
        """
        buffer, self._buffer = self._opened, None
        self._wanted = math.inf
        self._arrived.set()
        self._wake_waiting()
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._drain_seconds):
                    while buffer.acknowledged < buffer.appended:
                        await self._answered.wait()
        finally:
            left = await self._end(buffer)
        if left:
            fate = "are lost" if self._spool is None else f"stay in {self._spool}"
            _log.warning("%d usage events were not sent and %s: %s", left, fate, self.trouble or "no time left")
        return left

    async def _end(self, buffer: Buffer) -> int:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        self._wake_waiting()
        await buffer.sync()
        buffer.close()
        if self._given_transport is None:
            await self._transport.close()
        return buffer.appended - buffer.acknowledged

    async def __aenter__(self) -> Emitter:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def _opened(self) -> Buffer:
        if self._buffer is None:
            raise EmitterClosed("open the emitter first (`async with`); a closed one takes nothing more")
        return self._buffer

    async def _take(self, event: bytes) -> None:
        """Into the buffer, when there is room."""
        deadline: float | None = None
        while True:
            buffer = self._opened
            try:
                buffer.append(event)
                break
            except EmitterFull:
                loop = asyncio.get_running_loop()
                deadline = deadline or loop.time() + self._full_seconds
                if loop.time() >= deadline:
                    raise
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(deadline):
                        await self._answered.wait()
        waiting = buffer.appended - buffer.acknowledged
        if waiting == 1 or waiting >= BATCH_EVENTS:
            self._arrived.set()

    async def _send_all(self, buffer: Buffer) -> None:
        """Batch by batch, until cancelled."""
        while True:
            try:
                await self._batch_is_due(buffer)
                await self._send(buffer)
            except NotAllowed as error:
                self._in_trouble(str(error))
                await asyncio.sleep(_TROUBLE_SECONDS)
            except Exception as error:
                _log.exception("usage events cannot be sent at the moment")
                self.trouble = str(error)
                await asyncio.sleep(_TROUBLE_SECONDS)

    async def _batch_is_due(self, buffer: Buffer) -> None:
        """Returns when a batch is full, or wanted by `flush`, or its first event has waited long enough."""
        loop = asyncio.get_running_loop()
        deadline: float | None = None
        while (waiting := buffer.appended - buffer.acknowledged) < BATCH_EVENTS and (
            not waiting or buffer.acknowledged >= self._wanted
        ):
            if waiting:
                deadline = deadline or loop.time() + self._linger_seconds
                if loop.time() >= deadline:
                    return
            self._arrived.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(deadline):
                    await self._arrived.wait()

    async def _send(self, buffer: Buffer) -> None:
        """One batch. The effects in order, with what a crash right after each leaves behind:

        1. The gateway has it: it is sent again, and every event of it is a duplicate.
        2. Refused events are set aside: they are sent, refused and set aside again; the file has them twice.
        3. They are reported: the same.
        4. The batch is acknowledged: nothing.
        """
        events = buffer.read(BATCH_EVENTS, BATCH_BYTES)
        if events:
            receipt = await self._sender.send(events)
            refusals = [
                Refusal(events[error["index"]], str(error.get("code")), str(error.get("detail")))
                for error in receipt.errors
            ]
            buffer.set_aside(refusals)
            for refusal in refusals:
                self._report(refusal)
            buffer.acknowledge()
            self._reached(receipt)
            if self.trouble is not None:
                _log.info("usage events flow again")
                self.trouble = None
        self._wake_waiting()

    def _report(self, refusal: Refusal) -> None:
        try:
            self._on_refused(refusal)
        except Exception:
            _log.exception("on_refused failed")

    def _reached(self, receipt: Receipt) -> None:
        if receipt.epoch > self._epoch:
            self._epoch = receipt.epoch
            self.positions.clear()
        for partition, offset in receipt.positions:
            self.positions[partition] = max(offset, self.positions.get(partition, -1))

    def _in_trouble(self, trouble: str) -> None:
        if self.trouble is None:
            _log.warning("usage events have to wait: %s", trouble)
        self.trouble = trouble

    def _wake_waiting(self) -> None:
        """Let everybody who waits for answers look again."""
        self._answered.set()
        self._answered = asyncio.Event()

    async def _sync(self, buffer: Buffer) -> None:
        """Once in a while, until cancelled."""
        while True:
            await asyncio.sleep(SYNC_SECONDS)
            try:
                await buffer.sync()
            except OSError as error:
                _log.error("the spool may not survive a power cut: %s", error)


def _log_refusal(refusal: Refusal) -> None:
    event = refusal.event.decode(errors="replace")
    _log.warning("a usage event was refused: %s: %s: %s", refusal.code, refusal.detail, event)
