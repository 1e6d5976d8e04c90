"""`tallygate migrate`: prepares the stores before processes start. Offline: it talks to the stores themselves."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
from msgspec import Meta

from cli import output
from cli.catalog import read_catalog
from cli.errors import UNREACHABLE, WRONG_USE, CommandError
from cli.options import DataDir, Json, examples
from metering import settings
from metering.clock import SystemClock
from metering.errors import InvalidSettings, Refused, Unavailable

if TYPE_CHECKING:
    from tenancy.catalogs import Catalogs

EXAMPLES = examples(
    "tallygate migrate",
    "tallygate migrate --partitions 16",
)


class Stores(msgspec.Struct, frozen=True):
    """What `migrate` reads from the environment."""

    kafka: Annotated[str, Meta(description="broker, host:port")]
    clickhouse: Annotated[str, Meta(description="ClickHouse's HTTP address, http://host:port")]
    sql: Annotated[str, Meta(description="SQLAlchemy async URL of the control plane's database")]
    redis: Annotated[str, Meta(description="where usage is reserved, redis://…; without it a new epoch waits")] = ""
    catalog: Annotated[str, Meta(description="a catalog file, applied if it changed")] = ""
    bootstrap_key: Annotated[str, Meta(description="a platform key that has to exist")] = ""


PREFIX = "TALLYGATE"
_SECONDS = 5.0
"""Longest wait for Redis, without which a new epoch can begin."""


def migrate(
    partitions: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Begin an epoch with so many, if it is not what it has", show_default=False
        ),
    ] = None,
    new_epoch: Annotated[
        bool,
        typer.Option("--new-epoch", help="Begin a new epoch anyway; what a halted log still held is lost"),
    ] = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Bring the stores up to date: SQL and ClickHouse schemas, the catalog, the log's epoch.

    Safe to repeat, and to run while processes work. Reads TALLYGATE_KAFKA, TALLYGATE_CLICKHOUSE, TALLYGATE_SQL, and
    if set TALLYGATE_REDIS, TALLYGATE_CATALOG and TALLYGATE_BOOTSTRAP_KEY.
    """
    try:
        stores = settings.load(Stores, PREFIX, os.environ)
    except InvalidSettings as error:
        raise CommandError(WRONG_USE, "The stores are not named.", "Set the variables below.", error.problems) from None
    text = read_catalog(Path(stores.catalog)) if stores.catalog else None
    try:
        _upgrade_sql(stores.sql)
        done = asyncio.run(_migrate(stores, text, partitions, new_epoch))
    except Refused as error:
        raise CommandError(WRONG_USE, error.detail, "Correct it and run this again; it is safe to repeat.") from None
    except (Unavailable, OSError) as error:
        raise CommandError(
            UNREACHABLE, f"A store cannot be reached: {error}", "Start it and run this again; it is safe to repeat."
        ) from error
    output.show(done, as_json, _summary(done))


def _upgrade_sql(url: str) -> None:
    from sqlalchemy.exc import SQLAlchemyError

    from tenancy.migrations import upgrade

    try:
        upgrade(url)
    except SQLAlchemyError as error:
        raise Unavailable(f"SQL: {error}") from error


async def _migrate(
    stores: Stores, catalog_text: bytes | None, partitions: int | None, new_epoch: bool
) -> dict[str, Any]:
    from redis.asyncio import Redis

    from streams.epochs import ensure_epoch
    from streams.ledger import connect
    from streams.ledger import migrate as migrate_ledger
    from tenancy.catalogs import Catalogs
    from tenancy.database import Database
    from tenancy.epochs import Epochs
    from tenancy.keys import ensure_bootstrap_key

    database = Database(stores.sql)
    await database.open()
    try:
        client = await connect(stores.clickhouse)
        try:
            await migrate_ledger(client)
        finally:
            await client.close()
        if stores.bootstrap_key:
            await ensure_bootstrap_key(database, stores.bootstrap_key)
        version = await _apply_catalog(Catalogs(database), catalog_text)
        async with AsyncExitStack() as opened:
            redis = None
            if stores.redis:
                client = Redis.from_url(stores.redis, socket_connect_timeout=_SECONDS, socket_timeout=_SECONDS)
                redis = await opened.enter_async_context(client)
            epoch = await ensure_epoch(stores.kafka, Epochs(database), partitions, new_epoch, redis)
        return {"epoch": epoch.epoch, "partitions": epoch.partitions, "catalog_version": version}
    finally:
        await database.close()


async def _apply_catalog(catalogs: Catalogs, text: bytes | None) -> int | None:
    """The newest version, after applying `text` if it says something else."""
    if text is not None:
        return (await catalogs.apply(text.decode(), SystemClock().now_ms())).version
    latest = await catalogs.latest()
    return latest.version if latest is not None else None


def _summary(done: Mapping[str, Any]) -> str:
    catalog = f"catalog version {done['catalog_version']}" if done["catalog_version"] else "no catalog yet"
    return f"[green]✓[/] up to date: epoch {done['epoch']} with {done['partitions']} partitions, {catalog}"
