"""What the writer needs from the control plane, refreshed while it runs: catalog versions and subscription terms."""

from __future__ import annotations

from hashlib import blake2b
from typing import NamedTuple

from metering import keys
from metering.catalog import Catalog
from metering.clock import Clock
from metering.crossing import Thresholds, thresholds_of
from metering.meter import CompiledCatalog
from metering.partition import partition_of
from streams.frame import MissingCatalog
from streams.tally import CountedMeters, Counting
from tenancy.catalogs import CatalogView
from tenancy.subscriptions import SubscriptionView

_STATE = 2
"""What a partition's state consists of: another number, and every partition is rebuilt from the ledger."""


class Changed(NamedTuple):
    """Tenants whose billing terms changed, and those whose counters are compared with other thresholds than before."""

    terms: set[str]
    thresholds: set[str]


class ControlPlane:
    """Catalogs, terms and plans as this process knows them."""

    def __init__(self, catalogs: CatalogView, subscriptions: SubscriptionView, clock: Clock) -> None:
        self._catalogs = catalogs
        self._subscriptions = subscriptions
        self._clock = clock
        self._known: dict[int, CompiledCatalog] = {}
        self._plans: dict[str, str] = {}
        self._plans_seen = (0, 0)
        self.generation = 0
        self._follow(catalogs.current(clock.now_ms()).catalog)

    async def refresh(self) -> Changed:
        """Look for changes. `generation` counts what has to be counted anew: changed terms, and meters that got
        counters or lost them."""
        fills = self._catalogs.fills
        await self._catalogs.refresh()
        if self._catalogs.fills != fills:
            self._known.clear()
        terms = await self._subscriptions.refresh()
        now = self._clock.now_ms()
        before, plans = self.meters, self._plans
        self._plans = self._plans_at(now)
        thresholds = {tenant for tenant, plan in self._plans.items() if plans.get(tenant) != plan}
        catalog = self._catalogs.current(now).catalog
        if catalog is not self._catalog:
            self._follow(catalog)
            thresholds = set(self._plans)
        if terms or before.of != self.meters.of:
            self.generation += 1
        return Changed(terms, thresholds)

    def _follow(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self.meters = CountedMeters(catalog)
        self._thresholds = {plan: thresholds_of(catalog, plan) for plan in catalog.plans}

    def _plans_at(self, now: int) -> dict[str, str]:
        """Looked through only when something changed or a subscription begins."""
        number, due = self._plans_seen
        if number == self._subscriptions.number and now < due:
            return self._plans
        self._plans_seen = (self._subscriptions.number, self._subscriptions.next_change(now))
        return self._subscriptions.plans(now)

    @property
    def fills(self) -> dict[str, int]:
        """Meters that the past is filled in with → the catalog version that defines them."""
        return self._catalogs.fills

    def now(self) -> int:
        """The wall clock, in ms UTC."""
        return self._clock.now_ms()

    def catalog(self, version: int | None, timestamp: int) -> CompiledCatalog:
        """The version a frame names, or for header-less records the newest in effect at its timestamp."""
        if version is None:
            return self._catalogs.current(timestamp)
        found = self._known.get(version)
        if found is None:
            raise MissingCatalog(version)
        return found

    async def fetch(self, version: int) -> bool:
        """Get a version that `catalog` missed; False while the control plane has none."""
        found = await self._catalogs.version(version)
        if found is not None:
            self._known[version] = found
        return found is not None

    def thresholds(self, tenant: str) -> Thresholds:
        """What the counters of a tenant are compared with: by its plan now, in the newest catalog."""
        return self._thresholds.get(self._plans.get(tenant, ""), {})

    def watched(self, partition: int, partitions: int) -> set[str]:
        """The tenants of a partition whose plan has thresholds."""
        plans = {plan for plan, thresholds in self._thresholds.items() if thresholds}
        return {
            tenant
            for tenant, plan in self._plans.items()
            if plan in plans and partition_of(tenant, partitions) == partition
        }

    def counting(self, partition: int, partitions: int, bucket_ms: int) -> Counting:
        """How the counters of a partition are to be counted, as of now."""
        every = self._subscriptions.all_terms()
        terms = {tenant: own for tenant, own in every.items() if partition_of(tenant, partitions) == partition}
        text = repr((_STATE, bucket_ms, sorted(self.meters.of.items()), sorted(terms.items())))
        counted = [keys.counted_kind(meter, kind) for meter, (_, kinds) in self.meters.of.items() for kind in kinds]
        fingerprint = " ".join([blake2b(text.encode(), digest_size=8).hexdigest(), *sorted(counted), ""])
        return Counting(self.meters, terms, fingerprint)
