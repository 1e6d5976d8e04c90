"""Totals from the ledger (exact, any time) and from the counters (open periods, fast)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import RedisError

from metering import counter, keys
from metering.catalog import Catalog, Meter
from metering.clock import iso
from metering.errors import Unavailable
from metering.partition import partition_of
from metering.period import GRACE_MS, BillingTerm, PeriodKind, period_of, terms_from
from usage.aggregates import Aggregates, of_nothing
from usage.ask import ask, query

_TOTALS = query("totals")
_ACCOUNT = query("account")
_NAMED = query("named")
_HEADS = query("heads")
LAST_MS = 4_291_747_199_000
"""2105-12-31, where the ledger's times end."""


class Selection(NamedTuple):
    """Which events: of one of these subjects (all if there are none), with one of the values in each dimension."""

    subjects: Sequence[str] = ()
    filters: Mapping[str, Sequence[str]] = {}

    def parameters(self) -> dict[str, Any]:
        """As the queries take it."""
        filters = [(dimension, list(values)) for dimension, values in self.filters.items()]
        return {"subjects": list(self.subjects), "filters": filters}


EVERYTHING = Selection()


class Account(NamedTuple):
    """What became of a tenant's events. `events` were counted, voids themselves and those voided afterwards among them;
    `voided` were taken back, on arrival or afterwards."""

    events: int
    duplicates: int
    dead: int
    voided: int


class Head(NamedTuple):
    """The last record of a partition in the ledger: its offset, the clock after it, when it was written (ms UTC)."""

    offset: int
    clock: int
    written: int


class NamedEvent(NamedTuple):
    """An event that bears an id: its time in ms UTC, and whether no void took it back."""

    source: str
    time: int
    type: str
    standing: bool


class UsageReader:
    """Reads ClickHouse. Every method raises Unavailable when it does not answer."""

    def __init__(self, client: Any) -> None:
        self._client = client

    async def account(self, tenant: str) -> Account:
        """Of a tenant, ever."""
        (row,) = await self._rows(_ACCOUNT, tenant=tenant)
        return Account(*row)

    async def heads(self, epoch: int) -> dict[int, Head]:
        """Of the partitions of an epoch that have records."""
        rows = await self._rows(_HEADS, epoch=epoch)
        return {partition: Head(*head) for partition, *head in rows}

    async def named(self, tenant: str, id: str, source: str | None) -> list[NamedEvent]:
        """The tenant's events with this id (and source), the earliest first; the first hundred."""
        rows = await self._rows(_NAMED, tenant=tenant, id=id, source=source or "")
        return [NamedEvent(source, time, type, bool(standing)) for source, time, type, standing in rows]

    async def totals(
        self,
        tenant: str,
        name: str,
        meter: Meter,
        start: int,
        end: int,
        group_by: str | None = None,
        selection: Selection = EVERYTHING,
    ) -> dict[str, Any]:
        """`{"total": …, "groups": {value: …}}` of a meter over [start, end) in ms UTC, as exact decimal strings.

        Of a meter without events, min, max, avg and latest are None.
        """
        asked = {"tenant": tenant, "meter": name, "start": start, "end": min(end, LAST_MS), **selection.parameters()}
        rows = [Aggregates(*row) for row in await self._rows(_TOTALS, group_by="", **asked)]
        total = rows[0].result(meter.aggregation, meter.scale) if rows else of_nothing(meter.aggregation)
        result: dict[str, Any] = {"total": total}
        if group_by is not None:
            groups = [Aggregates(*row) for row in await self._rows(_TOTALS, group_by=group_by, **asked)]
            result["groups"] = {row.value: row.result(meter.aggregation, meter.scale) for row in groups}
        return result

    async def _rows(self, query: str, **parameters: Any) -> list[tuple[Any, ...]]:
        return await ask(self._client, query, **parameters)


class CounterReader:
    """Reads the counters in Redis. Every method raises Unavailable when it does not answer."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def totals(
        self, tenant: str, catalog: Catalog, terms: tuple[BillingTerm, ...], now: int, meters: list[str]
    ) -> dict[str, dict[PeriodKind, dict[str, Any]]]:
        """meter → period kind → `{"total", "from", "to"}` of the periods in which `now` lies, the shortest first.

        A meter has counters of the periods that plans use; one without is left out.
        Raises Unavailable while the state is being rebuilt, or counts other billing periods than those of `terms`: its
        numbers are not the tenant's.
        """
        try:
            epoch: Any = await self._redis.get(keys.EPOCH)
            if epoch is None:
                raise Unavailable("the counters are being rebuilt")
            number, partitions = map(int, epoch.split(b":"))
            at = (number, partition_of(tenant, partitions))
            pipe = self._redis.pipeline(transaction=True)
            pipe.exists(keys.applied(*at))
            pipe.hgetall(keys.counters(*at, tenant))
            pipe.hget(keys.counted_terms(*at), tenant)
            applied, texts, counted_by = await pipe.execute()
        except (RedisError, OSError) as error:
            raise Unavailable(f"Redis: {error}") from error
        if not applied:
            raise Unavailable("the counters are being rebuilt")
        counted = terms_from((counted_by or b"").decode())
        result: dict[str, dict[PeriodKind, dict[str, Any]]] = {}
        for name in meters:
            meter = catalog.meters[name]
            for kind in catalog.periods_of(name):
                period = period_of(kind, now, terms)
                just_begun = not texts and period.start >= now - GRACE_MS  # its counter would still be there
                if period_of(kind, now, counted) != period and not just_begun:
                    raise Unavailable("the counters are being counted anew, by other billing terms")
                text = texts.get(keys.counter_field(name, kind, period.start).encode())
                total = of_nothing(meter.aggregation)
                if text is not None:
                    total = counter.decode_result(meter.aggregation, text.decode(), meter.scale)
                entry: dict[str, Any] = {"total": total, "from": iso(period.start), "to": iso(min(period.end, LAST_MS))}
                if text is not None and counter.is_approximate(meter.aggregation, text.decode()):
                    entry["approximate"] = True
                result.setdefault(name, {})[kind] = entry
        return result
