"""Publishes every tenant's compiled entitlements to Redis, where gates find them; again after a flush."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Collection
from importlib import resources

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from metering import keys
from metering.catalog import Catalog
from metering.clock import Clock, SystemClock
from metering.entitlement import CompiledGrant, TenantSnapshot, compile_snapshot, encode
from metering.errors import Unavailable
from metering.grants import published
from metering.period import BillingTerm
from tenancy import changes, grants, tenants
from tenancy.catalogs import Catalogs
from tenancy.database import Database
from tenancy.grants import GrantRow
from tenancy.subscriptions import history, in_force, terms_of

_log = structlog.get_logger(__name__)
_TELL = resources.files("tenancy").joinpath("lua/tell_changed.lua").read_text()
_FINISH = resources.files("tenancy").joinpath("lua/finish_publishing.lua").read_text()
_POLL_SECONDS = 0.5
_LEASE_MS = 5_000
_AT_ONCE = 1000
_NEVER = 1 << 62
_NOTHING = -1


class Publisher:
    """Follows the change log. One per system is enough; of several one publishes and the others wait."""

    def __init__(self, database: Database, redis: Redis, clock: Clock | None = None) -> None:
        self._database = database
        self._redis = redis
        self._clock = clock or SystemClock()
        self.trouble: str | None = "nothing published yet"
        self._token = secrets.token_hex(8).encode()
        self._due = 0
        self._again: int | None = None

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
            except Exception as error:
                _log.exception("snapshots cannot be published")
                self.trouble = repr(error)
            await asyncio.sleep(_POLL_SECONDS)

    async def publish_changed(self) -> int:
        """Publish what changed since the last time, everything if Redis remembers none; returns how many tenants.

        Raises Unavailable.
        """
        try:
            return await self._publish_changed()
        except (RedisError, OSError) as error:
            raise Unavailable(f"Redis: {error}") from error

    async def _publish_changed(self) -> int:
        remembered = await self._redis.get(keys.SNAPSHOTS)
        done = _NOTHING if remembered is None else int(remembered)
        if self._again is not None:
            done = min(done, self._again)
        async with self._database.transaction() as connection:
            newest, changed = await changes.since(connection, done)
        # Nobody changes anything at the instant at which a subscription begins that was made for later.
        now = self._clock.now_ms()
        begins = now >= self._due
        if (newest == done and not begins) or not await self._my_turn():
            return 0
        # Until it is known to stand: what another publisher tells to be done may hold an older copy written here.
        self._again = done
        # A change log shorter than what was published is another one: SQL was put back to a backup.
        all_anew = begins or done == _NOTHING or newest < done or None in changed
        snapshots, due = await self._compile(now, None if all_anew else changed)
        for first in range(0, len(snapshots), _AT_ONCE):
            some = snapshots[first : first + _AT_ONCE]
            pipe = self._redis.pipeline(transaction=False)
            for snapshot in some:
                pipe.set(keys.snapshot(snapshot.tenant), encode(snapshot))
            pipe.pexpire(keys.PUBLISHING, _LEASE_MS)
            await pipe.execute()
            told = (keys.CHANGED_SNAPSHOTS, keys.SNAPSHOT_CHANGES, *(snapshot.tenant for snapshot in some))
            await self._redis.eval(_TELL, 2, *told)
        # Last, so that a crash before it publishes again.
        if await self._redis.eval(_FINISH, 2, keys.SNAPSHOTS, keys.PUBLISHING, self._token, newest):
            self._again, self._due = None, due
        return len(snapshots)

    async def _my_turn(self) -> bool:
        if await self._redis.set(keys.PUBLISHING, self._token, nx=True, px=_LEASE_MS):
            return True
        return bool(await self._redis.get(keys.PUBLISHING) == self._token)  # SQL failed when it was published last

    async def _compile(self, now: int, only: Collection[str | None] | None) -> tuple[list[TenantSnapshot], int]:
        """The snapshots of these tenants (None: all), and the instant at which one of all is to change by itself."""
        newest = await Catalogs(self._database).latest()
        catalog, version = (newest.catalog, newest.version) if newest else (Catalog(), 0)
        subscriptions = await history(self._database)
        grants_of = await grants.of(self._database)
        due = min((one.since for own in subscriptions.values() for one in own if one.since > now), default=_NEVER)
        snapshots = []
        for tenant in await tenants.every(self._database):
            if only is not None and tenant.name not in only:
                continue
            own = subscriptions.get(tenant.name, [])
            current = in_force(own, now)
            plan = current.plan if current else None
            terms = terms_of(own)
            given = _published(grants_of.get(tenant.name, []), catalog, plan, terms, now)
            trial_ends = current.trial_ends if current else None
            snapshots.append(
                compile_snapshot(tenant.name, tenant.status, plan, terms, catalog, version, trial_ends, given)
            )
        return snapshots, due


def _published(
    own: list[GrantRow], catalog: Catalog, plan: str | None, terms: tuple[BillingTerm, ...], now: int
) -> dict[str, tuple[CompiledGrant, ...]]:
    """A tenant's grants by feature, of the features that its plan limits."""
    rights = catalog.plans[plan].entitlements if plan in catalog.plans else {}
    found: dict[str, tuple[CompiledGrant, ...]] = {}
    for row in own:
        right = rights.get(row.feature)
        if right is None or right.period is None or right.limit is None:
            continue
        told = published(row.grant, row.rest, right.period, terms, now)
        if told is not None:
            found[row.feature] = (*found.get(row.feature, ()), told)
    return found
