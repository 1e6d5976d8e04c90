"""What the writer needs from the control plane, refreshed while it runs: catalog versions and subscription terms."""

from __future__ import annotations

from hashlib import blake2b

from metering.clock import Clock
from metering.meter import CompiledCatalog
from metering.partition import partition_of
from metering.period import BillingTerm
from streams.frame import MissingCatalog
from streams.tally import CountedMeters
from tenancy.catalogs import CatalogView
from tenancy.subscriptions import SubscriptionView


class ControlPlane:
    """Catalogs and terms as this process knows them."""

    def __init__(self, catalogs: CatalogView, subscriptions: SubscriptionView, clock: Clock) -> None:
        self._catalogs = catalogs
        self._subscriptions = subscriptions
        self._clock = clock
        self._known: dict[int, CompiledCatalog] = {}
        self.generation = 0
        self.meters = CountedMeters(catalogs.current(clock.now_ms()).catalog)

    async def refresh(self) -> set[str]:
        """Look for changes; returns the tenants whose billing terms changed. `generation` counts what has to be
        counted anew: changed terms, and meters that got counters or lost them."""
        fills = self._catalogs.fills
        await self._catalogs.refresh()
        if self._catalogs.fills != fills:
            self._known.clear()
        changed = await self._subscriptions.refresh()
        meters = CountedMeters(self._catalogs.current(self._clock.now_ms()).catalog)
        if changed or meters.of != self.meters.of:
            self.generation += 1
        self.meters = meters
        return changed

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

    def terms(self, tenant: str) -> tuple[BillingTerm, ...]:
        """A tenant's dated billing terms."""
        return self._subscriptions.terms(tenant)

    def terms_of(self, partition: int, partitions: int) -> dict[str, tuple[BillingTerm, ...]]:
        """The tenants of a partition that have terms of their own."""
        every = self._subscriptions.all_terms()
        return {tenant: own for tenant, own in every.items() if partition_of(tenant, partitions) == partition}

    def fingerprint(self, partition: int, partitions: int, bucket_ms: int) -> str:
        """Changes whenever the state of the partition would have to be made differently from the same log."""
        terms = sorted(self.terms_of(partition, partitions).items())
        text = repr((bucket_ms, sorted(self.meters.of.items()), terms))
        return blake2b(text.encode(), digest_size=8).hexdigest()
