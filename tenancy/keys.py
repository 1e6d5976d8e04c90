"""API keys: `tg_<id>_<secret>`. SQL holds a SHA-256 of the whole text; with 190 random bits no slow hash is needed."""

from __future__ import annotations

import asyncio
import hmac
import re
import secrets
import string
import time
from hashlib import sha256

import msgspec
from sqlalchemy import insert, select, update

from metering.clock import Clock, SystemClock
from metering.errors import Refused, Unavailable
from tenancy import audit
from tenancy.database import Database
from tenancy.tables import api_keys

SCOPES = frozenset({"ingest", "backfill", "void", "check", "read", "admin", "platform"})
_TEXT = re.compile(r"tg_([a-z2-7]{12})_[A-Za-z0-9]{32}")
_ID_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
_SECRET_ALPHABET = string.ascii_letters + string.digits
_FRESH_SECONDS = 2.0  # a revoked key stops working within this
_STALE_SECONDS = 300.0  # how long known keys go on working while SQL can't be reached
_CACHED_KEYS = 50_000


class Principal(msgspec.Struct, frozen=True):
    """Who asks: a tenant's key, or (tenant None) one of the platform."""

    key_id: str
    tenant: str | None
    scopes: frozenset[str]

    @property
    def platform(self) -> bool:
        """Whether the key speaks for the platform: all tenants, all scopes."""
        return "platform" in self.scopes

    def may(self, scope: str) -> bool:
        """Whether the key has `scope`."""
        return scope in self.scopes or self.platform


class KeyInfo(msgspec.Struct, frozen=True):
    """What can be told of a key; instants in ms UTC."""

    id: str
    tenant: str | None
    scopes: list[str]
    created: int
    expires: int | None
    revoked: int | None


def _digest(text: str) -> bytes:
    return sha256(text.encode()).digest()


async def create_key(
    database: Database,
    tenant: str | None,
    scopes: frozenset[str],
    expires_ms: int | None = None,
    actor: str = "system",
) -> tuple[str, str]:
    """A new key → (its text, shown this once, and its id). Raises Refused (`invalid-scope`)."""
    unknown = scopes - SCOPES
    if unknown or not scopes:
        raise Refused(
            "invalid-scope", f"scopes are {', '.join(sorted(SCOPES))}; got {', '.join(sorted(unknown)) or 'none'}"
        )
    if ("platform" in scopes) != (tenant is None):
        raise Refused("invalid-scope", "a key belongs to one tenant, or has the scope `platform`")
    key_id = "".join(secrets.choice(_ID_ALPHABET) for _ in range(12))
    text = f"tg_{key_id}_{''.join(secrets.choice(_SECRET_ALPHABET) for _ in range(32))}"
    await _insert(database, text, tenant, scopes, expires_ms, actor)
    return text, key_id


async def ensure_bootstrap_key(database: Database, text: str) -> None:
    """Make the platform key that the operator brought along valid. Raises Refused (`invalid-key`)."""
    match = _TEXT.fullmatch(text)
    if match is None:
        raise Refused("invalid-key", "a key looks like tg_<12 of a-z2-7>_<32 letters and digits>")
    async with database.transaction() as connection:
        found = (await connection.execute(select(api_keys.c.digest).where(api_keys.c.id == match[1]))).first()
    if found is None:
        await _insert(database, text, None, frozenset({"platform"}), None, "system")


async def _insert(
    database: Database, text: str, tenant: str | None, scopes: frozenset[str], expires: int | None, actor: str
) -> None:
    key_id = text.split("_")[1]
    async with database.transaction() as connection:
        await connection.execute(
            insert(api_keys).values(
                id=key_id,
                digest=_digest(text),
                tenant=tenant,
                scopes=",".join(sorted(scopes)),
                created=SystemClock().now_ms(),
                expires=expires,
                revoked=None,
            )
        )
        await audit.record(connection, actor, "key.create", tenant, key=key_id, scopes=sorted(scopes))


async def revoke_key(database: Database, key_id: str, tenant: str | None, actor: str) -> bool:
    """Revoke a key of `tenant` (None: of the platform); False if there is none."""
    mine = api_keys.c.tenant == tenant if tenant is not None else api_keys.c.tenant.is_(None)
    async with database.transaction() as connection:
        result = await connection.execute(
            update(api_keys)
            .where(api_keys.c.id == key_id, mine, api_keys.c.revoked.is_(None))
            .values(revoked=SystemClock().now_ms())
        )
        if result.rowcount:
            await audit.record(connection, actor, "key.revoke", tenant, key=key_id)
        return bool(result.rowcount)


async def list_keys(database: Database, tenant: str | None) -> list[KeyInfo]:
    """The keys of `tenant` (None: of the platform), newest first; never their secrets."""
    mine = api_keys.c.tenant == tenant if tenant is not None else api_keys.c.tenant.is_(None)
    async with database.transaction() as connection:
        rows = (await connection.execute(select(api_keys).where(mine).order_by(api_keys.c.created.desc()))).all()
    return [KeyInfo(row.id, row.tenant, row.scopes.split(","), row.created, row.expires, row.revoked) for row in rows]


class _Known(msgspec.Struct):
    principal: Principal | None
    digest: bytes
    expires: int | None
    looked: float


class KeyRing:
    """Authenticates keys from a small cache in front of SQL."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._known: dict[str, _Known] = {}
        self._looking: dict[str, asyncio.Task[_Known]] = {}

    async def authenticate(self, key: str) -> Principal | None:
        """Who this key is; None for unknown, revoked and expired ones alike.

        A revoked key stops working within 2 s. While SQL can't be reached, keys seen in the last 5 min go on working;
        raises Unavailable for others.
        """
        match = _TEXT.fullmatch(key)
        if match is None:
            return None
        known = self._known.get(match[1])
        age = time.monotonic() - known.looked if known else _STALE_SECONDS
        if known is None or age > _FRESH_SECONDS:
            try:
                known = await self._shared_look_up(match[1])
            except Unavailable:
                if known is None or age > _STALE_SECONDS:
                    raise
        if known.principal is None or not hmac.compare_digest(known.digest, _digest(key)):
            return None
        if known.expires is not None and known.expires <= self._clock.now_ms():
            return None
        return known.principal

    async def _shared_look_up(self, key_id: str) -> _Known:
        """One look-up at a time for a key, however many requests wait for it."""
        task = self._looking.get(key_id)
        if task is None:
            task = self._looking[key_id] = asyncio.create_task(self._look_up(key_id))
            task.add_done_callback(lambda done: self._looking.pop(key_id, None))
        return await asyncio.shield(task)

    async def _look_up(self, key_id: str) -> _Known:
        async with self._database.transaction() as connection:
            row = (await connection.execute(select(api_keys).where(api_keys.c.id == key_id))).first()
        principal = None
        if row is not None and row.revoked is None:
            principal = Principal(key_id, row.tenant, frozenset(row.scopes.split(",")))
        known = _Known(principal, row.digest if row else b"", row.expires if row else None, time.monotonic())
        if len(self._known) >= _CACHED_KEYS:
            self._known.clear()
        self._known[key_id] = known
        return known
