"""The brokers that end-to-end tests run on."""

from __future__ import annotations

import os

import pytest

APACHE = os.environ.get("TALLYGATE_TEST_KAFKA")


@pytest.fixture(
    params=[
        pytest.param(None, id="embedded"),
        pytest.param(
            APACHE,
            id="apache",
            marks=[
                pytest.mark.kafka,
                pytest.mark.skipif(not APACHE, reason="TALLYGATE_TEST_KAFKA names no Apache Kafka"),
            ],
        ),
    ]
)
def kafka_options(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """What to add to `tallygate up`."""
    return ("--kafka", request.param) if request.param else ()
