"""What all tests share: Hypothesis profiles, and the promise that unit and property tests touch nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.socket_guard import no_sockets

WITHOUT_SOCKETS = tuple(Path(__file__).parent / folder for folder in ("unit", "properties"))

# The machine may be busy: how long an example takes says nothing about it.
settings.register_profile("dev", deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("dev"), derandomize=True, max_examples=200)
settings.register_profile("long", settings.get_profile("dev"), max_examples=5000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """A unit or property test that opens a socket fails."""
    if not any(folder in item.path.parents for folder in WITHOUT_SOCKETS):
        return (yield)
    with no_sockets():
        return (yield)
