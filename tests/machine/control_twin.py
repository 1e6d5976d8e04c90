"""The control plane in memory: catalog versions, billing terms, epochs; and what a process knows of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from metering.errors import Unavailable
from metering.meter import CompiledCatalog
from metering.period import DEFAULT_TERMS, FOREVER, BillingTerm
from streams.frame import Record
from tenancy.epochs import Epoch, Status
from tests.machine.gate import Gate


class Plane:
    """What stands in SQL."""

    def __init__(self, first: CompiledCatalog) -> None:
        self.catalogs: list[tuple[int, CompiledCatalog]] = [(0, first)]
        self.terms: dict[str, tuple[BillingTerm, ...]] = {}
        self.epochs: list[Epoch] = []

    def current(self, at: int) -> CompiledCatalog:
        """The newest version in effect at `at` ms."""
        return next(compiled for since, compiled in reversed(self.catalogs) if since <= at)


class CatalogsTwin:
    """tenancy's CatalogView: new versions are heard of when it is refreshed."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane
        self._known = list(plane.catalogs)
        self.fills: dict[str, int] = {}

    async def refresh(self) -> None:
        """Hear of what is new."""
        self._known = list(self._plane.catalogs)

    def current(self, now_ms: int) -> CompiledCatalog:
        """The newest known version in effect."""
        return next(compiled for since, compiled in reversed(self._known) if since <= now_ms)

    async def version(self, number: int) -> CompiledCatalog | None:
        """One version."""
        await self.refresh()
        return next((compiled for _, compiled in self._known if compiled.version == number), None)


class SubscriptionsTwin:
    """tenancy's SubscriptionView."""

    def __init__(self, plane: Plane, known: Mapping[str, tuple[BillingTerm, ...]] | None = None) -> None:
        self._plane = plane
        self._known = dict(plane.terms if known is None else known)
        self.number = 0

    async def refresh(self) -> set[str]:
        """The tenants whose terms changed."""
        fresh = dict(self._plane.terms)
        changed = {name for name in fresh.keys() | self._known.keys() if fresh.get(name) != self._known.get(name)}
        self._known = fresh
        return changed

    def terms(self, tenant: str) -> tuple[BillingTerm, ...]:
        """A tenant's terms."""
        return self._known.get(tenant, DEFAULT_TERMS)

    def plans(self, at: int) -> dict[str, str]:
        """None: no counter has a threshold."""
        return {}

    def next_change(self, at: int) -> int:
        """Never."""
        return FOREVER

    def all_terms(self) -> dict[str, tuple[BillingTerm, ...]]:
        """Of those that have some."""
        return self._known


class EpochsTwin:
    """tenancy's Epochs."""

    def __init__(self, plane: Plane, gate: Gate) -> None:
        self._plane = plane
        self._gate = gate

    async def all(self) -> list[Epoch]:
        """Oldest first."""
        return await self._gate.through("epochs", lambda: list(self._plane.epochs), _never)

    async def current(self) -> Epoch | None:
        """The newest."""
        return (await self.all())[-1]

    async def mark(self, epoch: int, status: Status) -> None:
        """Change a status."""
        self._plane.epochs = [
            Epoch(one.epoch, one.partitions, status) if one.epoch == epoch else one for one in self._plane.epochs
        ]


class Append(Protocol):
    """Appends to the log of (epoch, partition): key, value, headers."""

    def __call__(self, epoch: int, partition: int, key: bytes, value: bytes, headers: Any) -> Record: ...


class ProducerTwin:
    """aiokafka's producer as far as a writer moves records on."""

    def __init__(self, append: Append, gate: Gate, away: Callable[[], Exception]) -> None:
        self._append = append
        self._gate = gate
        self._away = away

    async def send_and_wait(self, topic: str, value: bytes, *, key: bytes, partition: int, headers: Any) -> None:
        """Append a record."""
        epoch = int(topic.rsplit(".", 1)[1])
        effect = lambda: self._append(epoch, partition, key, value, tuple(headers))  # noqa: E731
        await self._gate.through("produce", effect, self._away)


def _never() -> Exception:
    return Unavailable("SQL: gone")
