"""Rules of ledger.md, each taken out of the writer by itself: the machine has to notice every one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any
from unittest.mock import AsyncMock, patch

from metering.period import BillingTerm
from streams import dedupe, recovery, replay, writer
from streams.control import ControlPlane
from streams.dedupe import Judged, LedgerKey, Verdict, Window
from streams.frame import Frame
from streams.replay import PartitionReplay
from streams.state import Applied, Operation, PartitionState
from streams.tally import Counting
from streams.voids import Name, NamedRow, Voids
from streams.wire import command, pack
from tests.machine import measured
from tests.machine.ledger_twin import LedgerTwin, Tables
from tests.machine.schedule import Action

_apply = PartitionState.apply
_rebuild_chunk, _finish_rebuild = PartitionState.rebuild_chunk, PartitionState.finish_rebuild
_decide, _late_rows, _named_rows = dedupe.decide, LedgerTwin.late_rows, LedgerTwin.named_rows


def _no_fence() -> AbstractContextManager[Any]:
    """Step 4 applies wherever the state stands."""

    async def apply(self: PartitionState, expected: int, config: str, *rest: Any) -> bool:
        found = await self.applied()
        return await _apply(self, expected if found is None else found.offset, await self.config() or config, *rest)

    return patch.object(PartitionState, "apply", apply)


def _missing_is_accepted() -> AbstractContextManager[Any]:
    """Step 4 takes a missing `applied` for the one it expects."""

    async def apply(self: PartitionState, expected: int, config: str, *rest: Any) -> bool:
        if await self.applied() is None:
            missing = Operation(b"HSET", self._applied, pack(["offset", expected, "checksum", 0, "clock", 0]))
            await self._wire.transaction([_command(missing), command(pack(["SET", self._config, config]))])
        return await _apply(self, expected, config, *rest)

    return patch.object(PartitionState, "apply", apply)


def _config_is_not_fenced() -> AbstractContextManager[Any]:
    """Step 4 applies counters to a state that was counted by other meters or terms."""

    async def apply(self: PartitionState, expected: int, config: str, *rest: Any) -> bool:
        return await _apply(self, expected, await self.config() or config, *rest)

    return patch.object(PartitionState, "apply", apply)


def _command(operation: Operation) -> bytes:
    return command(pack([operation.command, operation.key]), operation.arguments)


def _own_rows_are_seen() -> AbstractContextManager[Any]:
    """An event takes a row at its own position for another's."""

    async def late_rows(
        self: LedgerTwin, wanted: Iterable[LedgerKey], mark: int, upto: int
    ) -> tuple[dict[LedgerKey, tuple[int, int]], bool]:
        found, complete = await _late_rows(self, wanted, mark, upto)
        return dict.fromkeys(found, (-1, 0)), complete

    return patch.object(LedgerTwin, "late_rows", late_rows)


def _one_clock_for_a_batch() -> AbstractContextManager[Any]:
    """A digest counts if its bucket is live at the clock of the batch's first record."""

    class Blurred(Window, frozen=True):
        first: int = 0

        def oldest(self, clock: int) -> int:
            return super().oldest(self.first)

    def decide(frames: Sequence[Frame], window: Window, *rest: Any) -> list[Judged]:
        return _decide(frames, Blurred(window.bucket_ms, frames[0].clock), *rest)

    return patch.object(writer, "decide", decide)


def _no_lead() -> AbstractContextManager[Any]:
    """The ledger is asked only for what lies before the oldest live bucket, without the writer's lead."""

    def horizon(self: Window, clock: int) -> int:
        return self.oldest(clock) * self.bucket_ms

    return patch.object(Window, "horizon", horizon)


def _earlier_decisions_are_not_seen() -> AbstractContextManager[Any]:
    """Each record of a batch is judged by what was stored before the batch."""

    def decide(frames: Sequence[Frame], window: Window, known: Any, *rest: Any) -> list[Judged]:
        judged, first = [], 0
        for frame in frames:
            own = [(bucket, answers[first : first + len(frame.entries)]) for bucket, answers in known]
            judged += _decide([frame], window, own, *rest)
            first += len(frame.entries)
        return judged

    return patch.object(writer, "decide", decide)


def _frames_first_and_trusted() -> AbstractContextManager[Any]:
    """The account of a record is written before its rows, and P trusts it."""
    held: dict[LedgerTwin, Sequence[bytes]] = {}
    insert_events, insert_frames = LedgerTwin.insert_events, LedgerTwin.insert_frames

    async def later(self: LedgerTwin, blocks: Sequence[bytes]) -> None:
        held[self] = blocks

    async def first(self: LedgerTwin, blocks: Sequence[bytes]) -> None:
        await insert_frames(self, blocks)
        await insert_events(self, held.pop(self, ()))

    both = ExitStack()
    both.enter_context(_rows_are_not_looked_for())
    both.enter_context(patch.object(LedgerTwin, "insert_events", later))
    both.enter_context(patch.object(LedgerTwin, "insert_frames", first))
    return both


def _rows_are_not_looked_for() -> AbstractContextManager[Any]:
    """P is the gapless prefix of usage_frames, whether their rows are there or not."""

    def prefix(self: Tables, epoch: int, partition: int, mark: int) -> int:
        while (epoch, partition, mark + 1) in self.frames:
            mark += 1
        return mark

    async def matches(self: LedgerTwin, upto: int) -> bool:
        return True

    both = ExitStack()
    both.enter_context(patch.object(Tables, "prefix", prefix))
    both.enter_context(patch.object(LedgerTwin, "rows_match_frames", matches))
    return both


def _no_token() -> AbstractContextManager[Any]:
    """A rebuild's chunks are accepted whoever's they are and whatever came before."""

    async def current(self: PartitionState, token: str, number: int) -> tuple[str, int]:
        (text,) = await self._wire.transaction([_command(Operation(b"GET", self._rebuild, pack([])))])
        if text is None:
            return token, number
        standing, _, before = text.decode().partition(":")
        return standing, int(before)

    async def rebuild_chunk(self: PartitionState, token: str, number: int, operations: Sequence[Operation]) -> bool:
        token, before = await current(self, token, number - 1)
        return await _rebuild_chunk(self, token, before + 1, operations)

    async def finish_rebuild(self: PartitionState, token: str, chunks: int, applied: Applied) -> bool:
        return await _finish_rebuild(self, *await current(self, token, chunks), applied)

    both = ExitStack()
    both.enter_context(patch.object(PartitionState, "rebuild_chunk", rebuild_chunk))
    both.enter_context(patch.object(PartitionState, "finish_rebuild", finish_rebuild))
    return both


def _applied_is_never_behind_the_ledger() -> AbstractContextManager[Any]:
    """Recovery goes on from `applied` though the ledger came back older than it."""
    run = recovery.Recovery.run

    async def trusting(self: recovery.Recovery, counting: Counting, vitals: Any) -> recovery.Recovered:
        found = await self._state.applied()
        if found is None:
            return await run(self, counting, vitals)
        return recovery.Recovered(found, found.offset, -1)

    return patch.object(recovery.Recovery, "run", trusting)


def _incomplete_answers_count() -> AbstractContextManager[Any]:
    """An answer of the ledger counts though it lacks records that were applied."""

    async def late_rows(self: LedgerTwin, wanted: Iterable[LedgerKey], mark: int, upto: int) -> Any:
        return (await _late_rows(self, wanted, mark, upto))[0], True

    async def named_rows(self: LedgerTwin, names: Iterable[Name], mark: int, upto: int) -> Any:
        return (await _named_rows(self, names, mark, upto))[0], True

    both = ExitStack()
    both.enter_context(patch.object(LedgerTwin, "late_rows", late_rows))
    both.enter_context(patch.object(LedgerTwin, "named_rows", named_rows))
    return both


def _no_void_index() -> AbstractContextManager[Any]:
    """Voids do not wait for what comes after them."""
    return patch.object(Voids, "await_it", lambda self, mark, hour, clock: False)


def _void_index_is_not_rebuilt() -> AbstractContextManager[Any]:
    """A rebuild leaves the void index empty."""

    async def none(*_: Any) -> AsyncIterator[list[Operation]]:
        for nothing in list[list[Operation]]():
            yield nothing

    return patch.object(recovery, "void_operations", none)


def _voids_see_all() -> AbstractContextManager[Any]:
    """A void sees rows that stand above what was applied."""

    async def named_rows(
        self: LedgerTwin, names: Iterable[Name], mark: int, upto: int
    ) -> tuple[dict[Name, list[NamedRow]], bool]:
        _, complete = await _named_rows(self, names, mark, upto)
        return (await _named_rows(self, names, mark, 1 << 35))[0], complete

    return patch.object(LedgerTwin, "named_rows", named_rows)


def _duplicates_refresh() -> AbstractContextManager[Any]:
    """A duplicate's digest goes into the bucket of its own clock."""
    original = dedupe.digests_by_bucket

    def digests_by_bucket(judged: Sequence[Judged], window: Window, clock: int) -> dict[int, list[bytes]]:
        return original([(frame, Verdict(frame.entries)) for frame, _ in judged], window, clock)

    return patch.object(writer, "digests_by_bucket", digests_by_bucket)


def _old_config_is_trusted() -> AbstractContextManager[Any]:
    """Recovery and step 4 go on from counters that other meters or terms made."""
    original = recovery.Recovery.run

    async def run(self: recovery.Recovery, counting: Counting, vitals: Any) -> recovery.Recovered:
        with patch.object(self._state, "config", AsyncMock(return_value=counting.fingerprint)):
            return await original(self, counting, vitals)

    both = ExitStack()
    both.enter_context(_config_is_not_fenced())
    both.enter_context(patch.object(recovery.Recovery, "run", run))
    return both


class _Newest(Mapping[str, tuple[BillingTerm, ...]]):
    def __init__(self, control: ControlPlane) -> None:
        self._of = control._subscriptions.all_terms

    def __getitem__(self, tenant: str) -> tuple[BillingTerm, ...]:
        return self._of()[tenant]

    def __iter__(self) -> Iterator[str]:
        return iter(self._of())

    def __len__(self) -> int:
        return len(self._of())


def _newest_terms() -> AbstractContextManager[Any]:
    """A batch is counted by the newest terms, whichever its counters are counted by."""
    original = ControlPlane.counting

    def counting(self: ControlPlane, *at: int) -> Counting:
        return original(self, *at)._replace(terms=_Newest(self))

    return patch.object(ControlPlane, "counting", counting)


def _all_changes_are_counted() -> AbstractContextManager[Any]:
    """Whatever was heard of while a tenant was counted anew is taken for counted."""
    original = writer.PartitionWriter._count_anew

    async def count_anew(self: writer.PartitionWriter) -> None:
        await original(self)
        self._generation = self._control.generation

    return patch.object(writer.PartitionWriter, "_count_anew", count_anew)


def _a_replay_goes_on_over_a_hole() -> AbstractContextManager[Any]:
    """A replay does not look whether the ledger is whole below its stretch."""
    return patch.object(PartitionReplay, "_whole_below", AsyncMock())


def _a_replay_knows_no_voids() -> AbstractContextManager[Any]:
    """A replay does not know what voids before its stretch wait for."""
    return patch.object(replay, "void_index", AsyncMock(return_value={}))


FOUND_BY_CHANCE: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "step 4 is not fenced": _no_fence,
    "a missing applied is accepted": _missing_is_accepted,
    "an event sees the row at its own position": _own_rows_are_seen,
    "a digest counts if live at the batch's first clock": _one_clock_for_a_batch,
    "earlier decisions of a batch are not seen": _earlier_decisions_are_not_seen,
    "a duplicate refreshes its digest": _duplicates_refresh,
    "frames are written first, and trusted": _frames_first_and_trusted,
    "P does not look for rows": _rows_are_not_looked_for,
    "an applied beyond the ledger is trusted": _applied_is_never_behind_the_ledger,
    "voids do not wait": _no_void_index,
    "the void index is not rebuilt": _void_index_is_not_rebuilt,
    "a void sees rows above what was applied": _voids_see_all,
    "a replay knows no voids": _a_replay_knows_no_voids,
}
MADE_TO_MEASURE: dict[str, tuple[Callable[[], AbstractContextManager[Any]], list[Action]]] = {
    "step 4 does not look how counters are counted": (_config_is_not_fenced, measured.OTHER_TERMS),
    "counters made by other meters or terms are trusted": (_old_config_is_trusted, measured.NEW_TERMS),
    "a batch is counted by the newest terms": (_newest_terms, measured.TERMS_AMID_A_BATCH),
    "a change is lost while another is counted": (_all_changes_are_counted, measured.TERMS_TWICE),
    "an answer of an incomplete ledger counts": (_incomplete_answers_count, measured.OLDER_LEDGER),
    "the ledger is asked without the writer's lead": (_no_lead, measured.EARLY_EVENT),
    "a rebuild has no token": (_no_token, measured.TWO_REBUILDS),
    "a replay goes on over a hole": (_a_replay_goes_on_over_a_hole, measured.OVER_A_HOLE),
}
"""Chance meets these once in many thousands of schedules."""
