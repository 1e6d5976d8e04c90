"""Catalog versions: immutable once applied, in effect a few seconds later so that every process knows them by then."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import CursorResult, Row, delete, insert, select

from metering.catalog import Catalog, from_json, parse_catalog, to_json
from metering.errors import CatalogProblem, InvalidCatalog, Refused
from metering.meter import CompiledCatalog
from tenancy import audit, changes
from tenancy.database import Database
from tenancy.tables import catalog_fills, catalogs

EFFECTIVE_AFTER_MS = 3_000
_NONE = CompiledCatalog(0, Catalog())
_NEWEST = select(catalogs).order_by(catalogs.c.version.desc()).limit(1)


class CatalogVersion(msgspec.Struct, frozen=True):
    """One applied catalog; `effective_from` in ms UTC, `source` as it was written."""

    version: int
    catalog: Catalog
    effective_from: int
    source: str


class Catalogs:
    """The table of versions. Every method raises Unavailable when SQL does not answer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def apply(self, text: str, now: int, actor: str = "system") -> CatalogVersion:
        """Make a new version, unless the newest has the same content. Raises InvalidCatalog with every mistake."""
        catalog = parse_catalog(text)
        async with self._database.writing() as connection:
            newest = _one(await connection.execute(_NEWEST))
            if newest is not None:
                if newest.catalog == catalog:
                    return newest
                _refuse_changed_meaning(newest.catalog, catalog)
            effective = now if newest is None else max(now + EFFECTIVE_AFTER_MS, newest.effective_from + 1)
            made = CatalogVersion(newest.version + 1 if newest else 1, catalog, effective, text)
            await connection.execute(
                insert(catalogs).values(
                    version=made.version, content=to_json(catalog), source=text, effective_from=effective
                )
            )
            await changes.note(connection, None)
            await audit.record(connection, actor, "catalog.apply", None, version=made.version)
        return made

    async def latest(self) -> CatalogVersion | None:
        """The newest version, in effect or about to be."""
        async with self._database.transaction() as connection:
            return _one(await connection.execute(_NEWEST))

    async def get(self, version: int) -> CatalogVersion | None:
        """One version."""
        async with self._database.transaction() as connection:
            return _one(await connection.execute(select(catalogs).where(catalogs.c.version == version)))

    async def fill(self, meter: str, now: int, actor: str) -> int:
        """Let a meter of the version in effect at `now` count what earlier versions let pass; answers the instant from
        which on it is known everywhere. Repeatable. Raises Refused (`unknown-meter`) where that version has none."""
        query = select(catalogs).where(catalogs.c.effective_from <= now).order_by(catalogs.c.version.desc()).limit(1)
        async with self._database.writing() as connection:
            current = _one(await connection.execute(query))
            if current is None or meter not in current.catalog.meters:
                raise Refused("unknown-meter", f"the catalog in effect has no meter {meter}")
            since = now + EFFECTIVE_AFTER_MS
            await connection.execute(delete(catalog_fills).where(catalog_fills.c.meter == meter))
            await connection.execute(insert(catalog_fills).values(meter=meter, version=current.version, since=since))
            await audit.record(connection, actor, "catalog.fill", None, meter=meter, version=current.version)
        return since

    async def fills(self) -> dict[str, int]:
        """Meters that the past is filled in with → the version whose definition counts."""
        async with self._database.transaction() as connection:
            rows = await connection.execute(select(catalog_fills.c.meter, catalog_fills.c.version))
            return {row.meter: row.version for row in rows}

    async def after(self, version: int) -> list[CatalogVersion]:
        """The versions newer than `version`, oldest first."""
        query = select(catalogs).where(catalogs.c.version > version).order_by(catalogs.c.version)
        async with self._database.transaction() as connection:
            return [_version(row) for row in await connection.execute(query)]


def _one(rows: CursorResult[Any]) -> CatalogVersion | None:
    row = rows.first()
    return None if row is None else _version(row)


def _version(row: Row[Any]) -> CatalogVersion:
    return CatalogVersion(row.version, from_json(row.content), row.effective_from, row.source)


def _refuse_changed_meaning(old: Catalog, new: Catalog) -> None:
    """A meter's counters and past rows can't change their aggregation or scale: that is another meter."""
    problems = [
        CatalogProblem(f"meters.{name}.{part}", f"was {getattr(before, part)}; make a meter with another name")
        for name, before in old.meters.items()
        if name in new.meters
        for part in ("event", "aggregation", "scale")
        if getattr(before, part) != getattr(new.meters[name], part)
    ]
    if problems:
        raise InvalidCatalog(problems)


class CatalogView:
    """All versions, cached in a process; versions never change, so only new ones are read."""

    def __init__(self, database: Database) -> None:
        self._catalogs = Catalogs(database)
        self._versions: list[tuple[int, CompiledCatalog]] = []
        self.fills: dict[str, int] = {}

    async def refresh(self) -> None:
        """Read what is new. Raises Unavailable."""
        for one in await self._catalogs.after(self._newest()):
            if one.version > self._newest():  # else another refresh added it meanwhile
                self._versions.append((one.effective_from, CompiledCatalog(one.version, one.catalog)))
        fills = await self._catalogs.fills()
        if fills != self.fills:
            self.fills = fills
            self._versions = [(since, self._filled(compiled)) for since, compiled in self._versions]

    def _filled(self, compiled: CompiledCatalog) -> CompiledCatalog:
        """A version with the meters of later ones that count in it too."""
        later = {one.version: one.catalog.meters for _, one in self._versions if one.version > compiled.version}
        meters = {meter: later[version][meter] for meter, version in self.fills.items() if version in later}
        return CompiledCatalog(compiled.version, compiled.catalog, meters)

    def _newest(self) -> int:
        return self._versions[-1][1].version if self._versions else 0

    def current(self, now_ms: int) -> CompiledCatalog:
        """The newest version in effect at `now_ms`; version 0, which is empty, before the first."""
        for effective_from, compiled in reversed(self._versions):
            if effective_from <= now_ms:
                return compiled
        return _NONE

    async def version(self, number: int) -> CompiledCatalog | None:
        """One version, read from SQL if it isn't known yet. Raises Unavailable."""
        if number == 0:
            return _NONE
        for attempt in range(2):
            for _, compiled in self._versions:
                if compiled.version == number:
                    return compiled
            if attempt == 0:
                await self.refresh()
        return None
