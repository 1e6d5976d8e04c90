"""What the gate knows by heart: plans and counters of the tenants that were asked about, as Redis had them. No I/O.

Each partition's feed keeps its tenants' counters up to date (metering/feed.py). Where a message is missing, the
partition is `missed` until everything known of it was read again; meanwhile answers go by what is known, and say as of
when.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from typing import NamedTuple

from enforcement.holds import Holds
from enforcement.remembered import Remembered
from metering import keys
from metering.catalog import Limit
from metering.decision import NOTHING, Knowledge, Used, UsedIn, used_of
from metering.entitlement import CompiledEntitlement, TenantSnapshot, decode
from metering.feed import FeedMessage
from metering.partition import partition_of
from metering.period import DEFAULT_TERMS, GRACE_MS, BillingTerm, Period, period_of
from metering.reservation import nanos_of

_field = lru_cache(maxsize=1 << 14)(keys.counter_field)
Terms = tuple[BillingTerm, ...]
NEVER = -2
"""Stands before any offset: nothing was heard of that partition."""


NOBODIES = 5_000
"""Names of no tenant that are remembered: more than are asked about in one go."""


class Epoch(NamedTuple):
    """Where counters stand."""

    number: int
    partitions: int


class Reading(NamedTuple):
    """What one transaction read of a partition: where it stood (None: it is being rebuilt), by tenant counters, the
    billing terms by which they are counted and holds, the number of the last change of a hold, and the instant (ms UTC)
    before which everything that was accepted is in the counters."""

    applied: int | None
    sequence: str
    counters: Mapping[str, Mapping[str, str]]
    terms: Mapping[str, Terms]
    holds: Mapping[str, Mapping[str, str]]
    number: int
    vouched: int


class Partition:
    """How far a partition's feed was followed."""

    __slots__ = ("applied", "fresh", "gaps", "heard", "missed", "number", "sequence")

    def __init__(self) -> None:
        self.applied = NEVER
        self.sequence = ""
        self.number = 0
        """Of the last change of a hold."""
        self.missed = True
        self.gaps = 0
        """How often something was missed: who reads everything again looks whether it happened meanwhile."""
        self.heard = 0
        """Instant (ms UTC) at which it was last heard of."""
        self.fresh = 0
        """Instant (ms UTC) before which all that was accepted is in what is known of its tenants."""

    def refresh(self, as_of: int, now: int) -> None:
        """What is known is as of `as_of`, or later; a clock that was put back makes nothing fresher than now."""
        self.fresh = max(min(self.fresh, now), min(as_of, now))


class Tenant:
    """What is known of one tenant. `counters` None: they are not known."""

    __slots__ = (
        "_used",
        "answers",
        "counters",
        "holds",
        "home",
        "moved",
        "seen",
        "snapshot",
        "terms",
        "text",
        "version",
    )

    def __init__(self, text: bytes | None, snapshot: TenantSnapshot | None, home: int) -> None:
        self.home = home
        """Number of the partition on which its counters stand."""
        self.text = text
        self.snapshot = snapshot
        self.counters: dict[str, str] | None = None
        self.terms = DEFAULT_TERMS
        """The billing terms by which counters are counted."""
        self.moved = False
        """Its plan has other billing terms: a counter may be missing, or cut, that the writer will bring."""
        self.version = NEVER
        """The offset as of which the counters were read: messages up to it say nothing new."""
        self.seen = 0
        """Instant (ms UTC) as of which what is known of it is, where that is later than that of its partition."""
        self.holds = Holds()
        self.answers: dict[str, Remembered] = {}
        """By feature; of what is known now."""
        self._used: dict[str, Used] = {}

    def reserved(self, feature: str, now: int) -> int:
        """What is held of a feature, in nanos. `now`: the instant as of which counters are known, for a hold that ends
        later may have usage that is not counted yet."""
        right = None if self.snapshot is None else self.snapshot.entitlements.get(feature)
        return nanos_of(self.holds.units(feature, now), right.scale) if right is not None and right.reservable else 0

    def used_at(self, now: int) -> UsedIn:
        """What was used in periods that are open at `now` (ms UTC), as far as it is known."""
        return partial(self._used_if_counted, now) if self.moved else self._used_of

    def _used_if_counted(self, now: int, right: CompiledEntitlement, limit: Limit, period: Period) -> Used | None:
        """Where the plan has other terms: of a billing period that is not counted nothing is known. Unless it has just
        begun, and there is no counter at all: those of an hour ago would still be there."""
        if limit.period == "billing" and period_of("billing", period.start, self.terms) != period:
            just_begun = period.start >= now - GRACE_MS
            return NOTHING if just_begun and self.counters is not None and not self.counters else None
        return self._used_of(right, limit, period)

    def _used_of(self, right: CompiledEntitlement, limit: Limit, period: Period) -> Used | None:
        if self.counters is None:
            return None
        field = _field(limit.meter or right.meter or "", limit.period, period.start)
        known = self._used.get(field)
        if known is None:
            text = self.counters.get(field)
            if text is None:
                return NOTHING
            known = self._used[field] = used_of(right.aggregation or "sum", text)
        return known

    def planned(self, text: bytes | None) -> None:
        """Its snapshot as it stands. Decodes it only when it changed."""
        if self.text != text:
            self.text, self.snapshot = text, None if text is None else decode(text)
            self._compare_terms()

    def read(self, counters: Mapping[str, str], terms: Terms, version: int) -> None:
        """All counters, counted by these billing terms, as of `version`."""
        self.counters = dict(counters)
        self.terms = terms
        self.version = version
        self._used.clear()
        self._compare_terms()

    def _compare_terms(self) -> None:
        self.moved = self.snapshot is not None and self.terms != self.snapshot.terms
        self.answers.clear()

    def told(self, texts: Sequence[str | None]) -> None:
        """Field, value, field, value… of counters that changed."""
        if self.counters is None:
            return
        self.answers.clear()
        for field, text in zip(texts[::2], texts[1::2], strict=True):
            assert field is not None
            self._used.pop(field, None)
            if text is None:
                self.counters.pop(field, None)
            else:
                if field not in self.counters:
                    self._forget_closed(field)
                self.counters[field] = text

    def _forget_closed(self, new: str) -> None:
        """Of periods that the clock has closed nobody tells. When one begins, what is older than it goes, but for the
        last two: usage of the hour before comes for a while, and that of the next one may come early."""
        assert self.counters is not None
        meter_and_kind = new.rpartition(":")[0] + ":"
        begins = len(meter_and_kind)
        older = [
            int(field[begins:])
            for field in self.counters
            if field.startswith(meter_and_kind) and int(field[begins:]) < int(new[begins:])
        ]
        for start in sorted(older)[:-2]:
            field = f"{meter_and_kind}{start}"
            del self.counters[field]
            self._used.pop(field, None)

    def read_holds(self, holds: Mapping[str, str], number: int) -> None:
        """All holds, as of change `number`."""
        self.holds.read(holds, number)
        self.answers.clear()

    def told_hold(self, field: str, text: str, now: int) -> None:
        """One changed; empty: it is gone."""
        self.holds.told(field, text, now)
        self.answers.clear()


class Mirror:
    """At most `size` tenants; whom nobody asked for longest goes first. Names that nobody bears are without number: of
    them the last NOBODIES are kept beside."""

    def __init__(self, size: int) -> None:
        self._size = size
        self.epoch: Epoch | None = None
        self.partitions: list[Partition] = []
        self.tenants: OrderedDict[str, Tenant] = OrderedDict()
        self._nobodies: OrderedDict[str, None] = OrderedDict()
        """Those of them that are no tenants."""
        self.plans_fresh = 0
        """Instant (ms UTC) as of which all plans that are known were so."""

    # What is asked

    def find(self, tenant: str) -> Tenant | None:
        """A tenant that is known."""
        found = self.tenants.get(tenant)
        if found is not None and found.text is not None:
            self.tenants.move_to_end(tenant)
        return found

    @property
    def fresh(self) -> int:
        """Instant (ms UTC) as of which all that is known was so."""
        return min([self.plans_fresh, *(partition.fresh for partition in self.partitions)])

    def knowledge(self, tenant: Tenant) -> Knowledge:
        """How old what is known of a tenant is."""
        known = tenant.counters is not None and not tenant.moved
        return Knowledge("memory", self.as_of(tenant), "unavailable" if known else "recovering")

    def as_of(self, tenant: Tenant) -> int:
        """Instant (ms UTC) as of which what is known of a tenant was so."""
        as_of = self.plans_fresh
        if tenant.counters is not None:
            fresh = self.partitions[tenant.home].fresh
            if fresh < as_of:
                as_of = fresh
        return as_of if as_of > tenant.seen else tenant.seen

    # What is learned

    def move(self, epoch: Epoch) -> None:
        """Counters stand elsewhere from now on. What was known stays in use until it was read there."""
        self.epoch = epoch
        before = min((one.fresh for one in self.partitions), default=0)
        self.partitions = [Partition() for _ in range(epoch.partitions)]
        for one in self.partitions:
            one.fresh = before
        for name, tenant in self.tenants.items():
            tenant.version = NEVER
            tenant.holds.number = NEVER
            tenant.home = partition_of(name, epoch.partitions)

    def plan(self, name: str, text: bytes | None) -> Tenant:
        """A tenant's snapshot as it stands; None: there is no such tenant."""
        known = self.tenants.get(name)
        if known is None:
            home = 0 if self.epoch is None else partition_of(name, self.epoch.partitions)
            known = self.tenants[name] = Tenant(text, None if text is None else decode(text), home)
            if text is None:
                self._nobodies[name] = None
        else:
            known.planned(text)
            if text is not None:
                self._nobodies.pop(name, None)
        if len(self._nobodies) > NOBODIES:
            del self.tenants[self._nobodies.popitem(last=False)[0]]
        while len(self.tenants) - len(self._nobodies) > self._size:
            self._nobodies.pop(self.tenants.popitem(last=False)[0], None)
        return known

    def hear(self, number: int, message: FeedMessage, now: int) -> None:
        """A message of partition `number`'s feed came at `now`."""
        partition = self.partitions[number]
        partition.heard = now
        if message.sequence != partition.sequence:
            self._replaced(number, message.sequence, message.applied, message.as_of)
        elif message.prev != partition.applied and message.applied > partition.applied:
            self.miss(number)
        if message.held is not None and message.held > partition.number:
            self.miss(number)  # its changes were told before it
        partition.applied = max(message.applied, partition.applied)
        for name, texts in message.counters.items():
            tenant = self.tenants.get(name)
            if tenant is not None and message.applied > tenant.version:
                tenant.told(texts)
        for name, fields in message.counted.items():
            tenant = self.tenants.get(name)
            if tenant is not None and message.applied > tenant.version:
                for field in fields:
                    tenant.told_hold(field, "", now)
        if not partition.missed:
            partition.refresh(message.as_of, now)

    def hear_hold(self, number: int, message: bytes, now: int) -> None:
        """A hold of partition `number` changed (metering/reservation.py)."""
        partition = self.partitions[number]
        change, name, field, text = message.decode().split(" ", 3)
        if int(change) > partition.number + 1:
            self.miss(number)
        partition.number = max(partition.number, int(change))
        tenant = self.tenants.get(name)
        if tenant is not None and int(change) > tenant.holds.number:
            tenant.told_hold(field, text, min(now, partition.fresh))

    def miss(self, number: int) -> None:
        """Something was not heard, or nothing for too long."""
        partition = self.partitions[number]
        partition.missed = True
        partition.gaps += 1

    def is_behind(self, number: int, reading: Reading) -> bool:
        """Whether the feed has told newer things than what was read: then it has to be read again."""
        partition = self.partitions[number]
        if reading.applied is None or reading.sequence != partition.sequence:
            return False
        return reading.applied < partition.applied or reading.number < partition.number

    def accepts(self, number: int, reading: Reading) -> bool:
        """Take what was read of partition `number`, unless it is being rebuilt or behind."""
        partition = self.partitions[number]
        if reading.applied is None or self.is_behind(number, reading):
            return False
        if reading.sequence != partition.sequence:
            self._replaced(number, reading.sequence, reading.applied, reading.vouched)
        for name, counters in reading.counters.items():
            tenant = self.tenants.get(name)
            if tenant is not None:
                tenant.read(counters, reading.terms[name], reading.applied)
                tenant.seen = min(tenant.seen, reading.vouched)
                tenant.read_holds(reading.holds[name], reading.number)
        return True

    def _replaced(self, number: int, sequence: str, applied: int, as_of: int) -> None:
        """The counters were replaced, maybe by those of an earlier position, as of an earlier instant."""
        self.miss(number)
        partition = self.partitions[number]
        partition.applied, partition.sequence = applied, sequence
        partition.fresh = min(partition.fresh, as_of)

    def begin_again(self, number: int, position: Reading) -> int:
        """All that is known of partition `number` is read from now on: how often it has missed something until then."""
        partition = self.partitions[number]
        self.miss(number)
        if position.applied is not None:  # what a silent writer told last, nobody will hear
            partition.applied = max(partition.applied, position.applied)
        partition.number = max(partition.number, position.number)
        return partition.gaps

    def went_back(self, number: int, told: int, position: Reading) -> None:
        """Change `told` of a hold was heard before `position` was asked for: where that has an earlier one, Redis has
        lost some, and begins to number them anew."""
        if position.number < told:
            self.miss(number)
            self.partitions[number].number = position.number

    def verified(self, number: int, gaps: int, now: int, vouched: int) -> bool:
        """Everything known of partition `number` was read since `now`, when the writer vouched for what was accepted
        before `vouched`; False when it has missed more than `gaps` times meanwhile, so that has to be done again."""
        partition = self.partitions[number]
        if partition.gaps != gaps:
            return False
        partition.missed = False
        partition.heard = now
        partition.refresh(vouched, now)
        return True

    def is_as(self, number: int, reading: Reading) -> bool:
        """Whether the partition stands where its feed was followed to, with nothing missed."""
        partition = self.partitions[number]
        at = (partition.applied, partition.sequence, partition.number)
        return not partition.missed and at == (reading.applied, reading.sequence, reading.number)

    def of_partition(self, number: int) -> list[str]:
        """The tenants that are known and live there."""
        return [name for name, tenant in self.tenants.items() if tenant.home == number]
