"""What the gateway counts about itself; documented in docs/metrics.md."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

REQUESTS = Counter("tallygate_ingest_requests", "Requests to /v1/events by HTTP status.", ["status"])
ACCEPTED = Counter("tallygate_ingest_events_accepted", "Events acknowledged with 202.")
REFUSED = Counter("tallygate_ingest_events_refused", "Events listed as errors, by code.", ["code"])
PUBLISH_SECONDS = Histogram(
    "tallygate_ingest_publish_seconds",
    "From the first frame of a request handed to the producer to the broker's last acknowledgement.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
IN_FLIGHT = Gauge("tallygate_ingest_inflight_bytes", "Bodies held at the moment.")
