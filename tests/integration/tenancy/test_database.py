"""The schema, and transactions of several processes at once."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, func, insert, select

from metering.errors import Unavailable
from tenancy import changes, tenants
from tenancy.database import Database
from tenancy.epochs import Epoch, Epochs
from tenancy.tables import api_keys, audit, metadata
from tenancy.tables import changes as change_log
from tests.support import free_port

MIGRATE = "import sys; from tenancy.migrations import upgrade; upgrade(sys.argv[1])"


def test_several_processes_may_migrate_at_once(url: str) -> None:
    processes = [
        subprocess.Popen([sys.executable, "-c", MIGRATE, url], stderr=subprocess.PIPE, text=True) for _ in range(3)
    ]
    for process in processes:
        _, errors = process.communicate()
        assert process.returncode == 0, errors


async def test_the_migrations_make_exactly_the_tables_that_the_code_uses(database: Database) -> None:
    def compare(connection: Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(connection), metadata))

    async with database.transaction() as connection:
        differences = await connection.run_sync(compare)
    assert [one for one in differences if "comment" not in str(one)] == []


async def test_what_a_writer_read_stays_true_until_it_commits(database: Database) -> None:
    """Each adds one to what it read; a writer that read before another wrote would lose one, or be refused."""

    async def one_more() -> None:
        async with database.writing() as connection:
            counted = (await connection.execute(select(func.count()).select_from(change_log))).scalar_one()
            await asyncio.sleep(0)
            await changes.note(connection, f"t{counted}")

    await asyncio.gather(*(one_more() for _ in range(30)))
    async with database.transaction() as connection:
        names = (await connection.execute(select(change_log.c.tenant))).scalars().all()
    assert sorted(map(str, names)) == sorted(f"t{number}" for number in range(30))


async def test_change_numbers_are_committed_in_their_order(database: Database) -> None:
    """Else whoever follows the log would pass over a number that is committed later."""
    first_has_its_number, go_on = asyncio.Event(), asyncio.Event()

    async def first() -> None:
        async with database.writing() as connection:
            await changes.note(connection, "first")
            first_has_its_number.set()
            await go_on.wait()

    async def second() -> None:
        await first_has_its_number.wait()
        async with database.writing() as connection:
            await changes.note(connection, "second")

    both = asyncio.gather(first(), second())
    await first_has_its_number.wait()
    seen: list[set[str | None]] = []
    number = 0
    for _ in range(3):
        async with database.transaction() as connection:
            number, names = await changes.since(connection, number)
        seen.append(names)
    go_on.set()
    await both
    async with database.transaction() as connection:
        _, names = await changes.since(connection, number)
    assert seen == [set(), set(), set()]
    assert names == {"first", "second"}


async def test_a_reader_does_not_wait_for_a_writer(database: Database) -> None:
    async with database.writing() as connection:
        await changes.note(connection, "t")
        async with asyncio.timeout(2):
            assert await tenants.every(database) == []


async def test_a_database_that_cannot_be_reached_is_unavailable() -> None:
    away = Database(f"postgresql+asyncpg://nobody@127.0.0.1:{free_port()}/nothing")
    await away.open()
    with pytest.raises(Unavailable):
        await tenants.every(away)
    await away.close()


async def test_a_schema_that_is_not_there_yet_is_unavailable(url: str) -> None:
    empty = Database(url)
    await empty.open()
    with pytest.raises(Unavailable):
        await tenants.every(empty)
    await empty.close()


async def test_errors_tell_no_values(database: Database) -> None:
    row = {"id": "a" * 12, "digest": b"very-secret-digest", "tenant": "nobody", "scopes": "read", "created": 1}
    with pytest.raises(Exception, match="api_keys") as caught:
        async with database.writing() as connection:
            await connection.execute(insert(api_keys).values(**row))
    assert "very-secret-digest" not in str(caught.value)


async def test_epochs_begin_one_after_another_and_are_audited(database: Database) -> None:
    epochs = Epochs(database)
    assert await epochs.current() is None
    await asyncio.gather(*(epochs.begin(4) for _ in range(3)))
    assert await epochs.begin(8, number=9) == Epoch(9, 8, "open")
    await epochs.mark(3, "closing")
    assert [(one.epoch, one.status) for one in await epochs.all()] == [
        (1, "open"),
        (2, "open"),
        (3, "closing"),
        (9, "open"),
    ]
    async with database.transaction() as connection:
        actions = (await connection.execute(select(audit.c.action))).scalars().all()
    assert actions == ["epoch.begin"] * 4 + ["epoch.mark"]
