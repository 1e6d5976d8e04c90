"""Keys: made, kept as a hash, cached, revoked, and used while SQL is away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from metering.clock import SystemClock
from metering.errors import Refused, Unavailable
from tenancy import tenants
from tenancy.database import Database
from tenancy.keys import KeyRing, create_key, ensure_bootstrap_key, list_keys, revoke_key
from tenancy.tables import api_keys, audit
from tests.support import SetClock, eventually

READ = frozenset({"read"})
NOW = 1_795_000_000_000
BOOTSTRAP = f"tg_{'a' * 12}_{'A' * 32}"


class Unreliable(Database):
    """A database that a test may freeze or break, and that counts what it was asked."""

    asked = 0
    broken = False

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.answers = asyncio.Event()
        self.answers.set()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        self.asked += 1
        if self.broken:
            raise Unavailable("SQL: broken")
        await self.answers.wait()
        async with super().transaction() as connection:
            yield connection


class Seconds:
    """A monotonic clock that stands where it was set."""

    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


class Stage:
    """A key ring with its database and clocks, and a key of tenant `grand`."""

    def __init__(self, database: Unreliable, key: str, key_id: str) -> None:
        self.database, self.key, self.key_id = database, key, key_id
        self.clock, self.seconds = SetClock(NOW), Seconds()
        self.ring = KeyRing(database, self.clock, self.seconds)

    async def allowed(self, key: str | None = None) -> bool:
        """Whether the key is known."""
        return await self.ring.authenticate(self.key if key is None else key) is not None


@pytest.fixture
async def stage(url: str, database: Database) -> AsyncIterator[Stage]:
    await tenants.create(database, "grand", "test")
    key, key_id = await create_key(database, "grand", READ)
    unreliable = Unreliable(url)
    await unreliable.open()
    yield Stage(unreliable, key, key_id)
    await unreliable.close()


async def test_a_key_says_who_asks_and_only_its_hash_is_kept(database: Database) -> None:
    await tenants.create(database, "grand", "test")
    key, key_id = await create_key(database, "grand", frozenset({"read", "ingest"}), actor="somebody")
    principal = await KeyRing(database, SystemClock()).authenticate(key)
    assert principal is not None
    assert (principal.key_id, principal.tenant, principal.scopes) == (key_id, "grand", frozenset({"read", "ingest"}))
    secret = key.split("_")[2]
    async with database.transaction() as connection:
        rows = [*(await connection.execute(select(api_keys))).all(), *(await connection.execute(select(audit))).all()]
    assert secret not in str(rows)
    assert key_id in str(rows)


@pytest.mark.parametrize(
    ("tenant", "scopes"),
    [
        ("grand", set()),
        ("grand", {"read", "everything"}),
        ("grand", {"platform"}),
        (None, {"read"}),
    ],
)
async def test_a_key_has_known_scopes_and_one_owner(database: Database, tenant: str | None, scopes: set[str]) -> None:
    await tenants.create(database, "grand", "test")
    with pytest.raises(Refused) as caught:
        await create_key(database, tenant, frozenset(scopes))
    assert caught.value.code == "invalid-scope"


async def test_what_is_no_key_is_refused_without_asking_sql(stage: Stage) -> None:
    for text in ("", "tg_", stage.key[:-1], stage.key + "A", stage.key.upper(), f" {stage.key}", "tg_ü" * 20):
        assert not await stage.allowed(text)
    assert stage.database.asked == 0


async def test_a_wrong_secret_and_an_unknown_id_are_refused(stage: Stage) -> None:
    assert not await stage.allowed(f"{stage.key[:-1]}{'a' if stage.key[-1] != 'a' else 'b'}")
    assert not await stage.allowed(BOOTSTRAP)
    assert await stage.allowed()


async def test_an_expired_key_is_refused_from_that_millisecond_on(database: Database, stage: Stage) -> None:
    key, _ = await create_key(database, "grand", READ, expires_ms=NOW + 1)
    assert await stage.allowed(key)
    stage.clock.advance(1)
    assert not await stage.allowed(key)


async def test_a_key_in_use_is_looked_up_once_for_all_and_then_once_a_second(stage: Stage) -> None:
    assert all(await asyncio.gather(*(stage.allowed() for _ in range(50))))
    assert stage.database.asked == 1
    stage.seconds.at += 0.9
    assert await stage.allowed()
    assert stage.database.asked == 1
    stage.seconds.at += 0.2
    assert await stage.allowed()
    assert await stage.allowed()
    assert stage.database.asked == 1, "answered from memory while it is looked up beside"
    await eventually(lambda: stage.database.asked == 2)


async def test_who_need_not_wait_is_told_at_once_and_the_key_is_looked_up_beside(
    database: Database, stage: Stage
) -> None:
    assert stage.ring.known(stage.key) is None
    assert await stage.allowed()
    stage.seconds.at += 1.1
    assert stage.ring.known(stage.key) is not None
    assert stage.ring.known(stage.key[:-1]) is None
    await eventually(lambda: stage.database.asked == 2)
    stage.seconds.at += 2.1
    assert stage.ring.known(stage.key) is None, "SQL is to be waited for"
    stage.database.broken = True
    assert await stage.allowed()
    assert stage.ring.known(stage.key) is not None, "SQL does not answer: nobody waits for it"
    stage.database.broken = False
    await revoke_key(database, stage.key_id, "grand", "test")
    stage.seconds.at += 1.1
    assert stage.ring.known(stage.key) is not None
    await eventually(lambda: stage.ring.known(stage.key) is None)


async def test_a_revoked_key_stops_working_within_two_seconds(database: Database, stage: Stage) -> None:
    assert await stage.allowed()
    assert await revoke_key(database, stage.key_id, "grand", "test")
    stage.seconds.at += 2.1
    assert not await stage.allowed()
    assert not await revoke_key(database, stage.key_id, "grand", "test"), "it is revoked already"
    assert [one.revoked is not None for one in await list_keys(database, "grand")] == [True]


async def test_a_key_is_not_revoked_in_anothers_name(database: Database, stage: Stage) -> None:
    await tenants.create(database, "plaza", "test")
    assert not await revoke_key(database, stage.key_id, "plaza", "test")
    assert not await revoke_key(database, stage.key_id, None, "test")
    assert await stage.allowed()


async def test_a_key_made_after_it_was_unknown_works_within_two_seconds(database: Database, stage: Stage) -> None:
    assert not await stage.allowed(BOOTSTRAP)
    await ensure_bootstrap_key(database, BOOTSTRAP)
    stage.seconds.at += 2.1
    assert await stage.allowed(BOOTSTRAP)


async def test_known_keys_work_for_five_minutes_while_sql_is_away_and_others_are_unavailable(stage: Stage) -> None:
    assert await stage.allowed()
    stage.database.broken = True
    for _ in range(29):
        stage.seconds.at += 10
        assert await stage.allowed()
    with pytest.raises(Unavailable):
        await stage.allowed(BOOTSTRAP)
    stage.seconds.at += 11
    with pytest.raises(Unavailable):
        await stage.allowed()
    stage.database.broken = False
    assert await stage.allowed()


async def test_while_sql_hangs_only_the_first_wait_for_it_and_not_long(stage: Stage) -> None:
    assert await stage.allowed()
    stage.database.answers.clear()
    stage.seconds.at += 10
    began = time.monotonic()
    assert all(await asyncio.gather(*(stage.allowed() for _ in range(20))))
    assert time.monotonic() - began < 2
    stage.seconds.at += 0.6
    async with asyncio.timeout(0.2):
        assert await stage.allowed()
    stage.database.answers.set()
    await eventually(stage.allowed)


async def test_a_key_revoked_long_after_an_outage_is_not_taken_once_more(database: Database, stage: Stage) -> None:
    assert await stage.allowed()
    stage.database.broken = True
    stage.seconds.at += 10
    assert await stage.allowed()
    stage.database.broken = False
    await revoke_key(database, stage.key_id, "grand", "test")
    stage.seconds.at += 100
    assert not await stage.allowed()


async def test_guessing_keys_does_not_push_out_those_in_use(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenancy.keys._CACHED_KEYS", 10)
    assert await stage.allowed()
    for number in range(25):
        assert not await stage.allowed(f"tg_{'b' * 11}{'abcdefghijklmnopqrstuvwxyz'[number]}_{'A' * 32}")
    asked = stage.database.asked
    assert await stage.allowed()
    assert stage.database.asked == asked


async def test_the_bootstrap_key_is_the_platforms_and_a_revoked_one_stays_revoked(database: Database) -> None:
    await asyncio.gather(*(ensure_bootstrap_key(database, BOOTSTRAP) for _ in range(3)))
    principal = await KeyRing(database, SystemClock()).authenticate(BOOTSTRAP)
    assert principal is not None
    assert principal.platform
    assert principal.tenant is None
    with pytest.raises(Refused):
        await ensure_bootstrap_key(database, f"tg_{'a' * 12}_{'B' * 32}")
    with pytest.raises(Refused):
        await ensure_bootstrap_key(database, "secret")
    assert await revoke_key(database, "a" * 12, None, "test")
    await ensure_bootstrap_key(database, BOOTSTRAP)
    assert await KeyRing(database, SystemClock()).authenticate(BOOTSTRAP) is None
