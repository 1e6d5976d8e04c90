"""What a writer leaves alone that is not its own any more; its laws are in tests/machine."""

from __future__ import annotations

from unittest.mock import AsyncMock, Mock

import pytest

from metering.catalog import parse_catalog
from metering.crossing import thresholds_of
from metering.keys import counter_field
from streams.control import ControlPlane
from streams.settings import Settings
from streams.state import Applied, PartitionState
from streams.tally import CountedMeters, Counting
from streams.writer import Moved, PartitionWriter

CATALOG = parse_catalog("""
meters: {calls: {event: call, aggregation: count}}
features: {calls: {meter: calls}}
plans: {p: {entitlements: {calls: {limit: 9, period: lifetime, alert_at: [0.5]}}}}
""")


def _compares(counted_as: str) -> tuple[PartitionWriter, AsyncMock]:
    """A writer that is to compare a tenant's counters, which stand there counted in this way."""
    state, control = AsyncMock(PartitionState), Mock(ControlPlane)
    state.counters.return_value = (
        Applied(-1, 0, 0),
        counted_as,
        [{counter_field("calls", "lifetime", 0).encode(): b"7"}],
    )
    control.counting.return_value = Counting(CountedMeters(CATALOG), {}, "its own")
    control.thresholds.return_value = thresholds_of(CATALOG, "p")
    settings = Settings(kafka="", clickhouse="", redis="", sql="")
    writer = PartitionWriter(1, 0, 1, Mock(), state, Mock(), control, Mock(), AsyncMock(), settings)
    writer.compare_tenant("t")
    return writer, state


async def test_counters_that_are_counted_another_way_are_not_compared() -> None:
    writer, state = _compares("by another writer")
    with pytest.raises(Moved):
        await writer._compare()
    state.push_now.assert_not_called()
    writer, state = _compares("its own")
    await writer._compare()
    ((crossings,), _) = state.push_now.call_args
    assert [crossing.tenant for crossing in crossings] == ["t"]
