"""Repairs of one partition: the ledger from the log by a replay, state and rollups from the ledger."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple

from metering.partition import partition_of
from metering.rollup import HourWindow, revision_of
from streams.ledger import PartitionLedger
from streams.reconcile import Stores, Stretch
from streams.replay import PartitionReplay, Told
from streams.shadow import Difference, Shadow
from streams.state import PartitionState
from tenancy.epochs import Epoch


class Newest(NamedTuple):
    """Where tenants live now: what is made from the ledger is made there."""

    epoch: Epoch
    state: Callable[[int], PartitionState]
    ledger: Callable[[int], PartitionLedger]


async def replayed(stores: Stores, shadow: Shadow, stretch: Stretch, told: Told) -> dict[str, Difference]:
    """Decide a stretch once more and compare. The shadow stays. Raises Halt where that can't be done."""
    inserts = await shadow.open()
    beside = PartitionLedger(shadow.client, inserts, stores.epoch, stores.partition, stores.partitions)
    replay = PartitionReplay(stores, beside)
    await replay.run(*stretch, told)
    differences = await shadow.differences(*stretch)
    await replay.confirm(*stretch)
    return differences


async def apply(
    stores: Stores, shadow: Shadow, differences: dict[str, Difference], stretch: Stretch, newest: Newest
) -> bool:
    """Make the ledger what the shadow says, and what is made from the ledger; whether something had to be mended.

    Repeatable: the windows stay with the shadow, so whoever goes on after a break knows them though nothing differs any
    more.
    """
    touched = await shadow.remember(await shadow.touched(differences, *stretch))
    await shadow.apply(differences, *stretch)
    for partition in sorted({partition_of(window.tenant, newest.epoch.partitions) for window in touched}):
        await newest.state(partition).forget()
    await compute_anew(stores, sorted(touched), newest)
    return bool(touched) or any(one.missing or one.surplus for one in differences.values())


async def compute_anew(stores: Stores, windows: Sequence[HourWindow], newest: Newest) -> None:
    """Compute windows again, at the revision up to which the ledger is complete for their tenants."""
    by_partition: dict[int, list[HourWindow]] = defaultdict(list)
    for window in windows:
        by_partition[partition_of(window.tenant, newest.epoch.partitions)].append(window)
    for partition, own in by_partition.items():
        head = await newest.ledger(partition).head()
        await stores.rollups.compute_anew(own, revision_of(newest.epoch.epoch, 0) + head)
