"""Where to go on: from the state in Redis if log and ledger agree with it, else from a rebuild at P. Never by skipping.

Read in this order: the log's start, A = `applied`, P = the ledger's gapless prefix, then the record at A or P.
"""

from __future__ import annotations

import secrets
from typing import NamedTuple

import structlog

from metering.errors import Halt, Unavailable
from metering.frame import checksum
from streams import metrics
from streams.control import ControlPlane
from streams.dedupe import Window
from streams.ledger import PartitionLedger
from streams.log import PartitionLog
from streams.rebuild import counter_operations, digest_operations, void_operations
from streams.state import Applied, PartitionState
from streams.tally import Counting
from streams.vitals import Vitals

_log = structlog.get_logger(__name__)

FAR_BEHIND = 200_000
"""Records between A and P from which on a rebuild is quicker than meeting their rows again."""


class Recovered(NamedTuple):
    """Go on behind `applied`; the ledger was verified up to `mark`; `closed_at`: closing frame's offset or -1."""

    applied: Applied
    mark: int
    closed_at: int


class Recovery:
    """Finds where one partition goes on, and rebuilds its state where it has to."""

    def __init__(
        self,
        epoch: int,
        partition: int,
        partitions: int,
        log: PartitionLog,
        state: PartitionState,
        ledger: PartitionLedger,
        control: ControlPlane,
        window: Window,
    ) -> None:
        self._name = f"epoch {epoch} partition {partition}"
        self._partition = partition
        self._partitions = partitions
        self._log = log
        self._state = state
        self._ledger = ledger
        self._control = control
        self._window = window

    async def run(self, counting: Counting, vitals: Vitals) -> Recovered:
        """`counting`: how counters are to be counted.

        Raises Halt when the log can't be gone on with, Unavailable when something does not answer.
        """
        start = await self._log.start()
        applied = await self._state.applied()
        prefix = await self._ledger.prefix(await self._ledger.mark())
        await self._ledger.set_mark(prefix)
        closed_at = await self._ledger.closing_at()
        if applied is not None and applied.offset <= prefix < applied.offset + FAR_BEHIND:
            same = await self._state.config() == counting.fingerprint
            if same and await self._holds(applied.offset, applied.checksum, start):
                metrics.RECOVERIES.labels("resumed").inc()
                return Recovered(applied, applied.offset, closed_at if closed_at <= applied.offset else -1)
        applied = await self._rebuild(prefix, start, counting, vitals)
        metrics.RECOVERIES.labels("rebuilt").inc()
        return Recovered(applied, prefix, closed_at if closed_at <= prefix else -1)

    async def _holds(self, offset: int, expected: int, start: int) -> bool:
        """Whether the log holds the record that was applied last, or begins with the first that wasn't."""
        if offset == -1:
            return start == 0
        if offset < start:
            return False
        record = await self._log.record_at(offset)
        return record is not None and checksum(record.key, record.value, record.timestamp) == expected

    async def _rebuild(self, prefix: int, start: int, counting: Counting, vitals: Vitals) -> Applied:
        applied = await self._verified(prefix, start)
        vitals.recovering(f"rebuilding the state at offset {prefix} from the ledger")
        token = secrets.token_hex(8)
        _log.info("rebuilding", where=self._name, offset=prefix)
        counted = await self._state.counted_upto()
        if counted is not None and counted > prefix:  # the holds of what is behind are gone, and so is what it used
            await self._state.distrust_holds()
        if not await self._state.begin_rebuild(token):
            raise Unavailable("another rebuild has begun")
        if not await self._ledger.rows_match_frames(prefix):
            raise Unavailable(f"{self._name}: the ledger's rows do not yet match its frames up to offset {prefix}")
        number = 1
        for chunks in (
            digest_operations(self._state, self._ledger, self._window, applied.clock, prefix),
            void_operations(self._state, self._ledger, applied.clock, prefix),
            counter_operations(self._state, self._ledger, counting, applied.clock, prefix),
        ):
            async for operations in chunks:
                number += 1
                if not await self._state.rebuild_chunk(token, number, operations):
                    raise Unavailable("another rebuild has begun")
        number += 1
        counted_by = [*self._state.set_counting(counting, counting.terms), self._state.set_sequence(token)]
        if not await self._state.rebuild_chunk(token, number, counted_by):
            raise Unavailable("another rebuild has begun")
        if not await self._state.finish_rebuild(token, number, applied):
            raise Unavailable("another rebuild has begun")
        _log.info("rebuilt", where=self._name, offset=prefix, chunks=number)
        return applied

    async def _verified(self, prefix: int, start: int) -> Applied:
        """The `applied` of a state rebuilt at `prefix`, after making sure that the log goes on right behind it."""
        if start > prefix + 1:
            raise Halt(
                f"{self._name}: the log begins at offset {start}, but the ledger ends at {prefix}: the records between "
                "are gone from both. Put back a newer copy of ClickHouse, or accept the loss by beginning a new epoch "
                "with `tallygate migrate --new-epoch`."
            )
        if prefix == -1:
            return Applied(-1, 0, await self._ledger.clock_before_epoch())
        frame = await self._ledger.frame_at(prefix)
        if frame is None:
            raise Unavailable(f"{self._name}: the ledger changed while it was read")
        if start <= prefix:
            record = await self._log.record_at(prefix)
            if record is None:
                raise Halt(
                    f"{self._name}: the ledger has records up to offset {prefix}, the log ends before it. The broker "
                    "lost data or the topic was made anew: begin a new epoch with `tallygate migrate --new-epoch`."
                )
            if checksum(record.key, record.value, record.timestamp) != frame.checksum:
                raise Halt(
                    f"{self._name}: the log holds another record at offset {prefix} than the ledger has counted. The "
                    "topic was made anew under its old name: begin a new epoch with `tallygate migrate --new-epoch`."
                )
        return Applied(prefix, frame.checksum, frame.clock)
