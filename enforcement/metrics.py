"""What the gate counts about itself; documented in docs/metrics.md."""

from __future__ import annotations

from functools import cache

from prometheus_client import Counter, Gauge, Histogram

CHECKS = Counter(
    "tallygate_gate_checks",
    "Checks answered and reservations granted or refused, by reason and by where the answer came from.",
    ["reason", "source"],
)
REQUEST_SECONDS = Histogram(
    "tallygate_gate_request_seconds",
    "From a request's arrival to its answer, by route.",
    ["route"],
    buckets=(0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1),
)
SHADOW_DENIALS = Counter(
    "tallygate_gate_shadow_denials", "Checks that would have been denied but for the feature's shadow mode.", ["reason"]
)
_checks = cache(CHECKS.labels)  # a child is looked up faster by us than by its parent
_shadow_denials = cache(SHADOW_DENIALS.labels)


def answered(reason: str, source: str, shadowed: bool) -> None:
    """Count a check."""
    _checks(reason, source).inc()
    if shadowed:
        _shadow_denials(reason).inc()


RESERVATIONS = Counter(
    "tallygate_gate_reservations", "Reservations, commits and releases, by what became of them.", ["outcome"]
)
TENANTS = Gauge("tallygate_gate_tenants", "Tenants that the gate knows by heart.")
STALENESS = Gauge("tallygate_gate_staleness_seconds", "Age of the oldest of what the gate knows.")
DECISIONS_LOST = Counter(
    "tallygate_gate_decisions_lost", "Checks that are missing in the counts of decisions: Kafka was away for too long."
)
RESYNCS = Counter("tallygate_gate_resyncs", "Partitions of which all known tenants were read again.")
READS_FAILED = Counter("tallygate_gate_redis_reads_failed", "Reads that Redis did not answer in time, or at all.")
REDIS_UP = Gauge("tallygate_gate_redis_up", "1 while Redis answers.")
