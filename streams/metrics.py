"""Metrics of the writer and of rollups (docs/metrics.md)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress

from prometheus_client import Counter, Gauge, Histogram

from streams.dedupe import Judged

EVENTS = Counter("tallygate_writer_events", "Events by what became of them", ["outcome"])
VOIDS = Counter("tallygate_writer_voids", "Events that a void took back after they were counted")
FRAMES = Counter("tallygate_writer_frames", "Records accounted for")
FRESHNESS = Gauge("tallygate_writer_freshness_seconds", "From received to applied, of the oldest event just applied")
LAG = Gauge("tallygate_writer_lag_records", "Records not yet applied", ["partition"])
DRIFT = Gauge("tallygate_drift", "What two stores said otherwise at the last reconciliation", ["pair"])
RECONCILED = Gauge("tallygate_reconciled_timestamp_seconds", "When this process last reconciled its partitions")
CROSSINGS = Counter("tallygate_crossings", "Crossings that Kafka acknowledged; some are told twice")
ALERTS = Counter("tallygate_alerts", "Crossings read from Kafka by what became of them", ["outcome"])
RETENTION_REWRITES = Counter("tallygate_retention_rewrites", "Rewrites of a table or month that cleared payloads")
ROLLUP_WINDOWS = Counter("tallygate_rollup_windows", "Hour windows computed from the ledger")
ROLLUP_SECONDS = Histogram("tallygate_rollup_seconds", "One look at all partitions for windows to compute")


def observe_lag(partition: str, lag: int | None) -> None:
    """Show a partition's lag, and nothing while it is unknown: zero would be a claim."""
    if lag is not None:
        LAG.labels(partition).set(lag)
        return
    with suppress(KeyError):
        LAG.remove(partition)


def observe_batch(judged: Sequence[Judged]) -> None:
    """Count one applied batch."""
    FRAMES.inc(len(judged))
    FRESHNESS.set(max(0.0, time.time() - min(frame.received for frame, _ in judged) / 1000))
    EVENTS.labels("counted").inc(sum(len(verdict.counted) for _, verdict in judged))
    EVENTS.labels("duplicate").inc(sum(verdict.duplicates for _, verdict in judged))
    EVENTS.labels("voided").inc(sum(len(verdict.voided) for _, verdict in judged))
    EVENTS.labels("dead").inc(sum(len(frame.dead) + len(verdict.refused) for frame, verdict in judged))
    VOIDS.inc(sum(len(verdict.voidings) for _, verdict in judged))
