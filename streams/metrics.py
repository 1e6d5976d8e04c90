"""Metrics of the writer and of rollups (docs/metrics.md)."""

from __future__ import annotations

import time
from collections import Counter as Tally
from collections.abc import Sequence
from contextlib import suppress

from prometheus_client import Counter, Gauge, Histogram

from streams.dedupe import Judged

EVENTS = Counter("tallygate_writer_events", "Events by what became of them", ["outcome"])
VOIDS = Counter("tallygate_writer_voids", "Events that a void took back after they were counted")
FRAMES = Counter("tallygate_writer_frames", "Records accounted for")
FRESHNESS = Gauge("tallygate_writer_freshness_seconds", "From received to applied, of the oldest event just applied")
VISIBLE_SECONDS = Histogram(
    "tallygate_writer_visible_seconds",
    "From received by the gateway to applied, a record",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600),
)
DEAD = Counter("tallygate_writer_dead", "Dead letters of applied batches, by reason", ["reason"])
BATCH_EVENTS = Histogram(
    "tallygate_writer_batch_events",
    "Events in an applied batch",
    buckets=(1, 10, 100, 1_000, 3_000, 10_000, 30_000, 100_000),
)
STEP_SECONDS = Histogram(
    "tallygate_writer_step_seconds",
    "A step of a batch, waiting included",
    ["step"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
RECOVERIES = Counter(
    "tallygate_writer_recoveries", "Times a partition found where to go on: from its state or rebuilt", ["how"]
)
HALTS = Counter("tallygate_writer_halts", "Partitions that stopped for good")
LAG = Gauge("tallygate_writer_lag_records", "Records not yet applied", ["partition"])
CONFLICTS = Counter(
    "tallygate_conflicts", "Resends that say something else than what was counted; some are found twice"
)
DRIFT = Gauge("tallygate_drift", "What two stores said otherwise at the last reconciliation", ["pair"])
RECONCILED = Gauge("tallygate_reconciled_timestamp_seconds", "When this process last reconciled its partitions")
CROSSINGS = Counter("tallygate_crossings", "Crossings that Kafka acknowledged; some are told twice")
ALERTS = Counter("tallygate_alerts", "Crossings read from Kafka by what became of them", ["outcome"])
DECISIONS = Counter(
    "tallygate_decisions", "Messages of gates' decisions read from Kafka by what became of them", ["outcome"]
)
RETENTION_REWRITES = Counter("tallygate_retention_rewrites", "Rewrites of a table or month that cleared payloads")
ROLLUP_WINDOWS = Counter("tallygate_rollup_windows", "Hour windows computed from the ledger")
ROLLUP_SECONDS = Histogram("tallygate_rollup_seconds", "One look at all partitions for windows to compute")


class Steps:
    """Times the steps of one batch, one after the other."""

    def __init__(self) -> None:
        self._since = time.perf_counter()

    def done(self, step: str) -> None:
        """`step` has ended and the next one begins."""
        now = time.perf_counter()
        STEP_SECONDS.labels(step).observe(now - self._since)
        self._since = now


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
    now = time.time()
    FRESHNESS.set(max(0.0, now - min(frame.received for frame, _ in judged) / 1000))
    for frame, _ in judged:
        VISIBLE_SECONDS.observe(max(0.0, now - frame.received / 1000))
    BATCH_EVENTS.observe(sum(frame.events for frame, _ in judged))
    EVENTS.labels("counted").inc(sum(len(verdict.counted) for _, verdict in judged))
    EVENTS.labels("duplicate").inc(sum(verdict.duplicates for _, verdict in judged))
    EVENTS.labels("voided").inc(sum(len(verdict.voided) for _, verdict in judged))
    dead = Tally(letter.reason for frame, verdict in judged for letter in (*frame.dead, *verdict.refused))
    EVENTS.labels("dead").inc(dead.total())
    for reason, count in dead.items():
        DEAD.labels(reason).inc(count)
    VOIDS.inc(sum(len(verdict.voidings) for _, verdict in judged))
