"""Publishes every tenant's compiled entitlements to Redis, where gates find them; again after a flush."""

from __future__ import annotations

import asyncio

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from metering import keys
from metering.catalog import Catalog
from metering.clock import SystemClock
from metering.entitlement import TenantSnapshot, compile_snapshot, encode
from metering.errors import Unavailable
from tenancy import changes, tenants
from tenancy.catalogs import Catalogs
from tenancy.database import Database
from tenancy.subscriptions import history, terms_of

_log = structlog.get_logger(__name__)
_POLL_SECONDS = 0.5
_AT_ONCE = 1000
_NEVER = 1 << 62


class Publisher:
    """Follows the change log. One per system is enough; several do no harm."""

    def __init__(self, database: Database, redis: Redis) -> None:
        self._database = database
        self._redis = redis
        self.trouble: str | None = "nothing published yet"
        self._due: int | None = None

    async def run(self) -> None:
        """Publish until cancelled; `trouble` says what is wrong."""
        while True:
            try:
                await self.publish_changed()
                self.trouble = None
            except Unavailable as error:
                if self.trouble is None:
                    _log.warning("snapshots wait", reason=str(error))
                self.trouble = str(error)
            await asyncio.sleep(_POLL_SECONDS)

    async def publish_changed(self) -> int:
        """Publish what changed since the last time, everything if Redis remembers none; returns how many tenants."""
        try:
            remembered = await self._redis.get(keys.SNAPSHOTS)
            done = -1 if remembered is None else int(remembered)
            async with self._database.transaction() as connection:
                newest, changed = await changes.since(connection, done)
            # Nobody changes anything at the instant at which a subscription begins that was made for later.
            begins = self._due is None or SystemClock().now_ms() >= self._due
            if newest == done and not begins:
                return 0
            only = None if begins or done < 0 or None in changed else {name for name in changed if name is not None}
            snapshots = await self._compile(only)
            for first in range(0, len(snapshots), _AT_ONCE):
                pipe = self._redis.pipeline(transaction=False)
                for snapshot in snapshots[first : first + _AT_ONCE]:
                    pipe.set(keys.snapshot(snapshot.tenant), encode(snapshot))
                await pipe.execute()
            # Last, so that a crash before it publishes again.
            await self._redis.set(keys.SNAPSHOTS, newest)
        except (RedisError, OSError) as error:
            raise Unavailable(f"Redis: {error}") from error
        return len(snapshots)

    async def _compile(self, only: set[str] | None) -> list[TenantSnapshot]:
        """The plan that counts is that of the newest subscription already begun."""
        now = SystemClock().now_ms()
        newest = await Catalogs(self._database).latest()
        catalog, version = (newest.catalog, newest.version) if newest else (Catalog(), 0)
        subscriptions = await history(self._database)
        later = [one.since for own in subscriptions.values() for one in own if one.since > now]
        self._due = min(later, default=_NEVER)
        snapshots = []
        for tenant in await tenants.every(self._database):
            if only is not None and tenant.name not in only:
                continue
            own = subscriptions.get(tenant.name, [])
            begun = [subscription for subscription in own if subscription.since <= now]
            plan = begun[-1].plan if begun else None
            snapshots.append(compile_snapshot(tenant.name, tenant.status, plan, terms_of(own), catalog, version))
        return snapshots
