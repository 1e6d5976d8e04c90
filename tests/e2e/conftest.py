"""The brokers that end-to-end tests run on."""

from __future__ import annotations

import pytest

from tests.support import own_kafka

APACHE = own_kafka()


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
