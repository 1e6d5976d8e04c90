"""The machine quiets what writers log; other tests of the same process want to hear it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog


@pytest.fixture(autouse=True)
def _heard_again() -> Iterator[None]:
    before = structlog.get_config()
    yield
    structlog.configure(**before)
