"""Catalog versions: immutable, applied one after another, in effect a little later."""

from __future__ import annotations

import asyncio

import pytest

from metering.errors import InvalidCatalog
from tenancy.catalogs import EFFECTIVE_AFTER_MS, Catalogs, CatalogVersion, CatalogView
from tenancy.database import Database

NOW = 1_795_000_000_000


def catalog(limit: int, meter: str = "aggregation: count") -> str:
    return f"""
meters:
  calls: {{event: call, {meter}}}
features: {{calls: {{meter: calls}}}}
plans:
  small: {{entitlements: {{calls: {{limit: {limit}, period: month}}}}}}
"""


async def test_the_first_version_is_in_effect_at_once_and_later_ones_after_everybody_had_time_to_see_them(
    database: Database,
) -> None:
    catalogs, view = Catalogs(database), CatalogView(database)
    assert await catalogs.latest() is None
    assert view.current(NOW).version == 0
    first = await catalogs.apply(catalog(1), NOW)
    second = await catalogs.apply(catalog(2), NOW + 10)
    third = await catalogs.apply(catalog(3), NOW + 10)
    await view.refresh()
    assert (first.effective_from, second.effective_from) == (NOW, NOW + 10 + EFFECTIVE_AFTER_MS)
    assert third.effective_from > second.effective_from, "an order in which they were in effect"
    in_effect = {at: view.current(at).version for at in (NOW - 1, NOW, second.effective_from - 1)}
    assert in_effect == {NOW - 1: 0, NOW: 1, second.effective_from - 1: 1}
    assert view.current(second.effective_from).version == 2
    assert view.current(third.effective_from).version == 3


async def test_the_same_content_is_no_new_version_however_it_is_written(database: Database) -> None:
    catalogs = Catalogs(database)
    await catalogs.apply(catalog(1), NOW)
    again = await catalogs.apply("# a remark\n" + catalog(1).replace("limit: 1,", 'limit: "1",'), NOW + 1)
    assert again.version == 1
    assert again.source == catalog(1)


async def test_versions_applied_at_once_follow_each_other(database: Database) -> None:
    made = await asyncio.gather(*(Catalogs(database).apply(catalog(limit), NOW) for limit in range(1, 9)))
    assert sorted(one.version for one in made) == list(range(1, 9))
    effective = [one.effective_from for one in await Catalogs(database).after(0)]
    assert effective == sorted(set(effective))


async def test_every_version_stays_as_it_was(database: Database) -> None:
    catalogs = Catalogs(database)
    made = [await catalogs.apply(catalog(limit), NOW) for limit in (1, 2, 3)]
    assert await catalogs.get(2) == made[1]
    assert await catalogs.get(4) is None
    assert await catalogs.latest() == made[2]
    assert await catalogs.after(1) == made[1:]


@pytest.mark.parametrize(
    ("changed", "path"),
    [
        ("aggregation: sum, value: $.n", "meters.calls.aggregation"),
        ("aggregation: max, value: $.n, scale: 2", "meters.calls.aggregation"),
        ("aggregation: count, scale: 3", "meters.calls.scale"),
    ],
)
async def test_a_meter_keeps_its_meaning(database: Database, changed: str, path: str) -> None:
    catalogs = Catalogs(database)
    await catalogs.apply(catalog(1), NOW)
    with pytest.raises(InvalidCatalog) as caught:
        await catalogs.apply(catalog(1, changed), NOW)
    assert path in {problem.path for problem in caught.value.problems}
    assert (await catalogs.latest() or pytest.fail()).version == 1


async def test_a_view_never_goes_back_when_it_is_refreshed_twice_at_once(database: Database) -> None:
    catalogs, view = Catalogs(database), CatalogView(database)
    late = NOW + 10 * EFFECTIVE_AFTER_MS

    read, go_on = asyncio.Event(), asyncio.Event()

    class Slow(Catalogs):
        """What it read takes its time to arrive."""

        async def after(self, version: int) -> list[CatalogVersion]:
            found = await super().after(version)
            read.set()
            await go_on.wait()
            return found

    view._catalogs = Slow(database)
    await catalogs.apply(catalog(1), NOW)
    slow = asyncio.create_task(view.refresh())
    await read.wait()
    view._catalogs = catalogs
    await catalogs.apply(catalog(2), NOW)
    await view.refresh()
    go_on.set()
    await slow
    await view.refresh()
    assert view.current(late).version == 2


async def test_a_view_finds_a_version_that_it_has_not_seen(database: Database) -> None:
    view = CatalogView(database)
    await Catalogs(database).apply(catalog(1), NOW)
    found = await view.version(1)
    assert found is not None
    assert found.version == 1
    assert await view.version(2) is None
    assert (await view.version(0) or pytest.fail()).catalog.meters == {}
