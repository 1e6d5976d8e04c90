"""`make peers` in short: both sides answer the same load as expected. Nothing is said of speed."""

from __future__ import annotations

import pytest

from bench import golang
from bench.golang import GoUnavailable
from bench.peers import OURS, THEIRS, Plan, measure


async def test_our_gate_and_envoys_ratelimit_answer_the_same_load() -> None:
    try:
        programs = golang.pace(), golang.ratelimit()
    except GoUnavailable as error:
        pytest.skip(str(error))
    plan = Plan(tenants=200, rate=200, windows=2, seconds=1)
    sides = await measure(plan, *programs)
    assert list(sides)[:2] == [OURS, THEIRS]
    for name in (OURS, THEIRS):
        assert [window.sent for window in sides[name].windows] == [200, 200]
        assert [window.wrong for window in sides[name].windows] == [0, 0]
        assert sides[name].middle("p99") > 0
    (reserved,) = list(sides.values())[2:]
    assert sum(window.sent for window in reserved.windows) == 400
    assert sum(window.wrong for window in reserved.windows) < 400  # on a busy machine Redis may not answer in time
