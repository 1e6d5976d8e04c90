"""A gate that was stopped or killed answers at once when it is back, and says how old its knowledge is."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from enforcement.mirror import Epoch, Mirror, Reading
from enforcement.warm_start import WarmStart
from metering.entitlement import compile_snapshot, encode
from tests.integration.enforcement.conftest import CATALOG, NOW, TERMS


def filled() -> Mirror:
    mirror = Mirror(1000)
    mirror.move(Epoch(3, 2))
    for number in range(250):
        name = f"hotel-{number}"
        mirror.plan(name, encode(compile_snapshot(name, "active", "starter", TERMS, CATALOG, 1)))
    mirror.plan("nobody", None)
    for number, partition in enumerate(mirror.partitions):
        own = mirror.of_partition(number)
        counters = {name: {"calls:hour:0": name[-1]} for name in own}
        holds = {name: {"voice:a": f"held {1000 * number + 1000} 60000 {NOW + 1}"} for name in own}
        assert mirror.accepts(number, Reading(7, "x", counters, dict.fromkeys(own, TERMS), holds, 3, NOW))
        mirror.verified(number, partition.gaps, NOW, NOW)
    mirror.plans_fresh = NOW + 1
    return mirror


async def test_what_is_known_is_known_after_a_restart(tmp_path: Path) -> None:
    path, before, after = tmp_path / "gate.memory", filled(), Mirror(1000)
    await WarmStart(before, path).save()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert WarmStart(after, path).load() == 251
    assert list(after.tenants) == list(before.tenants)
    for name, tenant in before.tenants.items():
        its = after.tenants[name]
        assert (its.snapshot, its.counters, its.terms) == (tenant.snapshot, tenant.counters, tenant.terms)
        if tenant.counters is not None:
            held = tenant.reserved("voice", NOW)
            assert its.reserved("voice", NOW) == held
            assert held or tenant.snapshot is None
            assert after.knowledge(its) == before.knowledge(tenant)
    assert all(partition.missed for partition in after.partitions)  # it has to be read again


@pytest.mark.parametrize("content", [b"", b"garbage", b"{}\n", b'{"format":2}\n'])
async def test_a_file_that_cannot_be_read_is_as_good_as_none(tmp_path: Path, content: bytes) -> None:
    path, mirror = tmp_path / "gate.memory", Mirror(10)
    assert WarmStart(mirror, path).load() == 0
    path.write_bytes(content)
    assert WarmStart(mirror, path).load() == 0
    assert not mirror.tenants


async def test_a_file_that_ends_too_early_is_as_good_as_none(tmp_path: Path) -> None:
    path, mirror = tmp_path / "gate.memory", Mirror(1000)
    await WarmStart(filled(), path).save()
    path.write_bytes(path.read_bytes()[:-1])
    assert WarmStart(mirror, path).load() == 0
    assert not mirror.tenants


async def test_a_torn_write_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "gate.memory"
    await WarmStart(filled(), path).save()
    path.with_name("gate.memory.new").write_bytes(b"half")
    mirror = Mirror(1000)
    assert WarmStart(mirror, path).load() == 251
