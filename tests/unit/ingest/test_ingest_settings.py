"""The gateway's environment, read once and whole."""

from __future__ import annotations

import pytest

from ingest import settings
from metering.errors import InvalidSettings

NEEDED = {"TALLYGATE_KAFKA": "localhost:9092", "TALLYGATE_SQL": "sqlite+aiosqlite:///x.db"}


def problems_of(**environment: str) -> str:
    with pytest.raises(InvalidSettings) as caught:
        settings.load(NEEDED | environment)
    return "\n".join(caught.value.problems)


def test_the_defaults_are_those_of_the_contract() -> None:
    read = settings.load(NEEDED)
    assert (read.port, read.body_bytes, read.decompressed_bytes, read.max_events) == (8080, 2**22, 2**24, 10_000)
    limits = read.event_limits()
    assert (limits.attribute_bytes, limits.data_bytes, limits.nesting) == (256, 65_536, 16)
    assert (read.ahead_ms, read.late_ms) == (300_000, 35 * 86_400_000)


def test_every_mistake_is_reported_at_once() -> None:
    with pytest.raises(InvalidSettings) as caught:
        settings.load({"TALLYGATE_INGEST_PORT": "x", "TALLYGATE_INGEST_NESTING": "65"})
    named = [problem.split("=")[0].split(" ")[0] for problem in caught.value.problems]
    assert named == ["TALLYGATE_KAFKA", "TALLYGATE_SQL", "TALLYGATE_INGEST_PORT", "TALLYGATE_INGEST_NESTING"]


def test_limits_cannot_be_set_wider_than_what_the_writer_takes() -> None:
    for name, value in (("ATTRIBUTE_BYTES", "4097"), ("DATA_BYTES", "2000000"), ("AHEAD_SECONDS", "301")):
        assert f"TALLYGATE_INGEST_{name}" in problems_of(**{f"TALLYGATE_INGEST_{name}": value})


def test_contradictions_between_settings_are_mistakes_too() -> None:
    assert "DECOMPRESSED_BYTES" in problems_of(TALLYGATE_INGEST_DECOMPRESSED_BYTES="1024")
    assert "TENANT_INFLIGHT_BYTES" in problems_of(TALLYGATE_INGEST_TENANT_INFLIGHT_BYTES="1024")
    assert "INGEST_INFLIGHT_BYTES" in problems_of(TALLYGATE_INGEST_INFLIGHT_BYTES="1024")
    assert "REQUEST_RATE" in problems_of(TALLYGATE_INGEST_REQUEST_RATE="fast")
    assert "BACKFILL_RATE" in problems_of(TALLYGATE_INGEST_BACKFILL_RATE="10/second")
