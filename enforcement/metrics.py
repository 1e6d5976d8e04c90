"""What the gate counts about itself; documented in docs/metrics.md."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

CHECKS = Counter(
    "tallygate_gate_checks", "Checks answered, by reason and by where the answer came from.", ["reason", "source"]
)
REQUEST_SECONDS = Histogram(
    "tallygate_gate_request_seconds",
    "From a request's arrival to its answer, by route.",
    ["route"],
    buckets=(0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1),
)
READS_FAILED = Counter("tallygate_gate_redis_reads_failed", "Reads that Redis did not answer in time, or at all.")
REDIS_UP = Gauge("tallygate_gate_redis_up", "1 while Redis answers.")
