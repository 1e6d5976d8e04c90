"""The counters of one partition: what stands in Redis, cached exactly, and what a batch makes of it.

The cache may be trusted because one writer owns the partition and step 4 refuses when `applied` moved without it; it is
dropped on every recovery.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

from metering import aggregation, counter
from metering.counter import UNIQUE_CAP, Distinct
from metering.crossing import Crossing
from metering.period import GRACE_MS, Period
from streams.crossings import Watch
from streams.state import Applied, Operation, PartitionState
from streams.tally import CountedMeters, CounterKey, Deltas, Uncounted

_CACHED_COUNTERS = 500_000
_CACHED_MEMBERS = 2_000_000
NO_MEAN = (0, 0)
"""State of an avg counter whose events were all voided: there is no such counter."""

Change = tuple[CounterKey, Any, list[bytes]]
"""A counter's new state and, for `unique`, the values that are new."""


def value_digest(value: str) -> bytes:
    """16 bytes that stand for a distinct value in its set."""
    return blake2b(value.encode("utf-8", "surrogatepass"), digest_size=16).digest()


class Changes:
    """What one batch does to the counters: computed before the ledger is written, kept after step 4 took it."""

    def __init__(self) -> None:
        self.by_tenant: dict[str, list[Change]] = {}
        self.texts: dict[str, list[str]] = {}
        self.new: list[tuple[int, str, str]] = []
        self.emptied: list[Uncounted] = []
        self.crossed: list[Crossing] = []

    def set(self, tenant: str, change: Change, aggregation: str) -> None:
        """A counter's new state."""
        key, value, _ = change
        self.by_tenant.setdefault(tenant, []).append(change)
        self.texts.setdefault(tenant, []).extend((key.field, counter.encode(aggregation, value)))

    def told(self) -> dict[str, Sequence[str | None]]:
        """What the feed tells of it (metering/feed.py)."""
        told: dict[str, Sequence[str | None]] = {**self.texts}
        for tenant, key in self.emptied:
            told[tenant] = (*told.get(tenant, ()), key.field, None)
        return told

    def operations(self, state: PartitionState) -> list[Operation]:
        """The Redis commands."""
        operations = [
            state.add_uniques(tenant, key.field, members)
            for tenant, changes in self.by_tenant.items()
            for key, _, members in changes
            if members
        ]
        operations += [state.set_counters(tenant, texts) for tenant, texts in self.texts.items()]
        operations += [state.drop_counter(tenant, key.field) for tenant, key in self.emptied]
        if self.new:
            operations.append(state.expire_counters(self.new))
        if self.crossed:
            operations.append(state.push(self.crossed))
        return operations


class CounterCache:
    """Exact states of counters by tenant, and values known to stand in the sets of `unique` ones."""

    def __init__(self) -> None:
        self._states: dict[tuple[str, CounterKey], Any] = {}
        self._members: dict[tuple[str, CounterKey], set[bytes]] = {}
        self._member_count = 0

    def clear(self) -> None:
        """Forget everything: the state may have been replaced."""
        self._states.clear()
        self._members.clear()
        self._member_count = 0

    async def prepare(
        self,
        deltas: Deltas,
        uncounted: set[Uncounted],
        meters: CountedMeters,
        state: PartitionState,
        expected: Applied,
        clock: int,
        watch: Watch,
    ) -> Changes | None:
        """Merge `deltas` into what stands there, asking Redis for what isn't cached. None: `applied` has moved.

        Counters that `clock` has closed are left out: the same batch drops them. So are those `uncounted`: they are
        counted anew.
        """
        wanted: list[tuple[str, CounterKey, Any]] = [
            (tenant, key, delta)
            for tenant, counters in deltas.items()
            for key, delta in counters.items()
            if Period(key.start, key.end).is_open(clock) and (tenant, key) not in uncounted
        ]
        if not await self._load(wanted, meters, state, expected):
            return None
        changes = Changes()
        for tenant, key, delta in wanted:
            old = self._states[tenant, key]
            value: Any
            members: list[bytes] = []
            kind = meters.aggregation(key.meter)
            if kind == "unique":
                known = self._members.get((tenant, key), set())
                fresh = sorted({digest for value in delta if (digest := value_digest(value)) not in known})
                value, members = _extend(old, fresh)
            else:
                value = aggregation.merge(aggregation.AGGREGATIONS[kind], old, delta)
            if kind == "avg" and value == NO_MEAN:
                changes.emptied.append((tenant, key))
                continue
            changes.set(tenant, (key, value, members), kind)
            changes.crossed += watch.crossed(tenant, key, old, value)
            if old is None:
                changes.new.append((key.end + GRACE_MS, tenant, key.field))
        return changes

    def keep(self, changes: Changes, uncounted: set[Uncounted]) -> None:
        """Remember what step 4 has taken, and not what it counted anew."""
        for slot in (*changes.emptied, *uncounted):
            self._states.pop(slot, None)
            self._member_count -= len(self._members.pop(slot, ()))
        if len(self._states) > _CACHED_COUNTERS or self._member_count > _CACHED_MEMBERS:
            self.clear()
        for tenant, counters in changes.by_tenant.items():
            for key, value, members in counters:
                self._states[tenant, key] = value
                if members:
                    self._remember((tenant, key), members)

    def _remember(self, slot: tuple[str, CounterKey], members: Sequence[bytes]) -> None:
        known = self._members.setdefault(slot, set())
        self._member_count -= len(known)
        known.update(members)
        self._member_count += len(known)

    async def _load(
        self,
        wanted: Sequence[tuple[str, CounterKey, Any]],
        meters: CountedMeters,
        state: PartitionState,
        expected: Applied,
    ) -> bool:
        missing: dict[str, list[CounterKey]] = {}
        unknown: list[tuple[str, CounterKey, list[bytes]]] = []
        for tenant, key, delta in wanted:
            if (tenant, key) not in self._states:
                missing.setdefault(tenant, []).append(key)
            if meters.aggregation(key.meter) == "unique":
                known = self._members.get((tenant, key), set())
                digests = [d for value in delta if (d := value_digest(value)) not in known]
                if digests:
                    unknown.append((tenant, key, digests))
        if not missing and not unknown:
            return True
        answer = await state.ask_counters(
            [(tenant, [key.field for key in keys]) for tenant, keys in missing.items()],
            [(tenant, key.field, digests) for tenant, key, digests in unknown],
        )
        if answer.applied != expected:
            return False
        for (tenant, keys), texts in zip(missing.items(), answer.texts, strict=True):
            for key, text in zip(keys, texts, strict=True):
                kind = meters.aggregation(key.meter)
                self._states[tenant, key] = None if text is None else counter.decode(kind, text.decode())
        for (tenant, key, digests), present in zip(unknown, answer.members, strict=True):
            self._remember((tenant, key), [d for d, there in zip(digests, present, strict=True) if there])
        return True


def _extend(old: Distinct | None, fresh: list[bytes]) -> tuple[Distinct, list[bytes]]:
    size, approximate = old or Distinct(0, False)
    room = UNIQUE_CAP - size
    if len(fresh) > room:
        return Distinct(UNIQUE_CAP, True), fresh[:room]
    return Distinct(size + len(fresh), approximate), fresh
