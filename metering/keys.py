"""Redis keys, built here and nowhere else.

All state of a partition carries one hash tag `{epoch.partition}`, so that one call touches one slot of a cluster.
Tenants, meters and kinds come from closed alphabets without `:`; anything else would have to be escaped here.
"""

from __future__ import annotations

from typing import cast

from metering.period import PeriodKind


def _partition(epoch: int, partition: int, rest: str) -> str:
    return f"tg:{{{epoch}.{partition}}}:{rest}"


def applied(epoch: int, partition: int) -> str:
    """Hash: `offset`, `checksum`, `clock` of the last applied record. Missing while the state is being rebuilt."""
    return _partition(epoch, partition, "applied")


def rebuild(epoch: int, partition: int) -> str:
    """String `token:chunk` of the rebuild that is going on."""
    return _partition(epoch, partition, "rebuild")


def digests(epoch: int, partition: int, bucket: int) -> str:
    """Set of 16-byte identities counted while the partition clock was in `bucket`."""
    return _partition(epoch, partition, f"d:{bucket}")


def counters(epoch: int, partition: int, tenant: str) -> str:
    """Hash of a tenant's counters: field `counter_field(...)` → encoded aggregation state."""
    return _partition(epoch, partition, f"c:{tenant}")


def counter_field(meter: str, kind: str, start: int) -> str:
    """Field of one counter; `start` of the period in ms UTC."""
    return f"{meter}:{kind}:{start}"


def split_counter_field(field: str) -> tuple[str, PeriodKind, int]:
    """(meter, kind, start) of a `counter_field`."""
    meter, kind, start = field.split(":")
    return meter, cast(PeriodKind, kind), int(start)


def uniques(epoch: int, partition: int, tenant: str, field: str) -> str:
    """Set of the distinct values behind a `unique` counter."""
    return _partition(epoch, partition, f"u:{tenant}:{field}")


def voids(epoch: int, partition: int) -> str:
    """Hash: digest of a name that a void gave → `hour:instant,…`, until when it waits for the event of that hour (-1:
    of any)."""
    return _partition(epoch, partition, "voids")


def expiries(epoch: int, partition: int) -> str:
    """Sorted set of all that ends: `d:bucket`, `c:tenant:field`, `v:digest` and `h:tenant:feature:id` (of a hold that
    was counted) → instant of the clock at which it is dropped.

    It names every key of the partition's state, so that a rebuild can drop them without scanning the server.
    """
    return _partition(epoch, partition, "expiries")


def config(epoch: int, partition: int) -> str:
    """String: fingerprint of the meters and billing terms by which the counters were counted, then the `counted_kind`
    of all that have counters, each between blanks."""
    return _partition(epoch, partition, "config")


def counted_kind(meter: str, kind: str) -> str:
    """What the fields of a meter's counters of one kind of period begin with."""
    return f"{meter}:{kind}"


def counted_terms(epoch: int, partition: int) -> str:
    """Hash: tenant → the billing terms by which its counters were counted (metering/period.py: terms_text), of those
    that have a subscription."""
    return _partition(epoch, partition, "terms")


def sequence(epoch: int, partition: int) -> str:
    """String: another one than before says that the state was repaired, though `applied` may be the same."""
    return _partition(epoch, partition, "sequence")


def vouched(epoch: int, partition: int) -> str:
    """String: instant (ms UTC) before which everything that was accepted is in the counters, by the writer's word."""
    return _partition(epoch, partition, "vouched")


def outbox(epoch: int, partition: int) -> str:
    """Hash: id → message (metering/crossing.py) of the crossings that Kafka has not acknowledged yet."""
    return _partition(epoch, partition, "outbox")


def feed(epoch: int, partition: int) -> str:
    """Channel on which the writer tells what it applied (streams/feed.py)."""
    return _partition(epoch, partition, "feed")


def holds(epoch: int, partition: int, tenant: str) -> str:
    """Hash of what a tenant has reserved: field `feature:id` → text (metering/reservation.py)."""
    return _partition(epoch, partition, f"h:{tenant}")


def counted(epoch: int, partition: int, tenant: str) -> str:
    """Hash of reservations whose usage is in the counters: field `feature:id` → nothing. Apart from `holds`, which are
    few at a time and are looked at all at once."""
    return _partition(epoch, partition, f"hc:{tenant}")


def holding(epoch: int, partition: int) -> str:
    """Hash that vouches for a partition's holds: `run` (of the server that has all of them), `since` (instant in ms
    from which reservations are allowed), `latest` (until when a hold may last), `number` of the last change told on
    `holds_feed`, and `counted`: the offset up to which holds had been ended as counted when `applied` last went."""
    return _partition(epoch, partition, "holding")


def holds_feed(epoch: int, partition: int) -> str:
    """Channel on which changed holds are told (metering/reservation.py)."""
    return _partition(epoch, partition, "holds")


EPOCH = "tg:epoch"
"""String `epoch:partitions`: where readers find the state now. Written by the writer, again after a flush."""

SNAPSHOTS = "tg:snapshots"
"""String: how far the tenants' snapshots were published; missing after a flush, so tenancy publishes all again."""

CHANGED_SNAPSHOTS = f"tg:{{{SNAPSHOTS}}}:changed"
"""Sorted set: tenant → the value that SNAPSHOT_CHANGES had when its snapshot was last written."""

SNAPSHOT_CHANGES = f"tg:{{{SNAPSHOTS}}}:changes"
"""Number that grows whenever snapshots are written. Both live in the slot of SNAPSHOTS, and go with it in a flush."""

PUBLISHING = f"tg:{{{SNAPSHOTS}}}:publishing"
"""String: token of the process that publishes snapshots just now. It lives in the slot of SNAPSHOTS."""


def snapshot(tenant: str) -> str:
    """JSON of a tenant's compiled entitlements (metering/entitlement.py)."""
    return f"tg:tenant:{tenant}"
