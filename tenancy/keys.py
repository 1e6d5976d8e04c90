"""API keys: `tg_<id>_<secret>`. SQL holds a SHA-256 of the whole text; with 190 random bits no slow hash is needed."""

from __future__ import annotations

import asyncio
import hmac
import math
import re
import secrets
import string
import time
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from typing import NamedTuple

import msgspec
from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

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
STALE_SECONDS = 300.0  # how long known keys go on working while SQL does not answer
_PATIENCE_SECONDS = 0.5  # how long the first request then waits
_RETRY_SECONDS = 0.5
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
    async with database.writing() as connection:
        await _insert(connection, text, tenant, scopes, expires_ms, actor)
    return text, key_id


async def ensure_bootstrap_key(database: Database, text: str) -> None:
    """Make the platform key that the operator brought along valid; one that was revoked stays so.

    Raises Refused (`invalid-key`).
    """
    match = _TEXT.fullmatch(text)
    if match is None:
        raise Refused("invalid-key", "a key looks like tg_<12 of a-z2-7>_<32 letters and digits>")
    async with database.writing() as connection:
        found = (await connection.execute(select(api_keys.c.digest).where(api_keys.c.id == match[1]))).first()
        if found is None:
            await _insert(connection, text, None, frozenset({"platform"}), None, "system")
        elif not hmac.compare_digest(found.digest, _digest(text)):
            raise Refused("invalid-key", f"there is another key with the id {match[1]}")


async def _insert(
    connection: AsyncConnection, text: str, tenant: str | None, scopes: frozenset[str], expires: int | None, actor: str
) -> None:
    key_id = text.split("_")[1]
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
    await audit.record(connection, actor, "key.create", tenant, key=key_id, scopes=sorted(scopes), expires=expires)


async def revoke_key(database: Database, key_id: str, tenant: str | None, actor: str) -> bool:
    """Revoke a key of `tenant` (None: of the platform); False if there is none."""
    mine = api_keys.c.tenant == tenant if tenant is not None else api_keys.c.tenant.is_(None)
    async with database.writing() as connection:
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


class _Known(msgspec.Struct, frozen=True):
    principal: Principal | None
    digest: bytes
    expires: int | None
    looked: float


class _LookUp(NamedTuple):
    task: asyncio.Task[_Known]
    began: float


class KeyRing:
    """Authenticates keys from a small cache in front of SQL.

    A revoked key stops working within 5 s (2 s while SQL answers readily). While it does not answer, keys seen in the
    last 5 min go on working, and only the first who ask wait for it. Keys that nobody knows are remembered apart:
    guessing does not push out those in use.
    """

    def __init__(self, database: Database, clock: Clock, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._clock = clock
        self._monotonic = monotonic
        self._known: dict[str, _Known] = {}
        self._unknown: dict[str, _Known] = {}
        self._looking: dict[str, _LookUp] = {}
        self._failed = -math.inf

    async def authenticate(self, key: str) -> Principal | None:
        """Who this key is; None for unknown, revoked and expired ones alike. Raises Unavailable."""
        match = _TEXT.fullmatch(key)
        return None if match is None else self._verified(await self._find(match[1]), key)

    def known(self, key: str) -> Principal | None:
        """Who this key is, if that need not be waited for; None says nothing about it. For use within a loop."""
        match = _TEXT.fullmatch(key)
        known = None if match is None else self._recent(match[1], self._monotonic())
        return None if known is None else self._verified(known, key)

    def _verified(self, known: _Known, key: str) -> Principal | None:
        if known.principal is None or not hmac.compare_digest(known.digest, _digest(key)):
            return None
        if known.expires is not None and known.expires <= self._clock.now_ms():
            return None
        return known.principal

    async def _find(self, key_id: str) -> _Known:
        now = self._monotonic()
        unknown = self._unknown.get(key_id)
        if unknown is not None and now - unknown.looked <= _FRESH_SECONDS:
            return unknown
        recent = self._recent(key_id, now)
        if recent is not None:
            return recent
        known, looking = self._known.get(key_id), self._look_up(key_id)
        if known is None or now - known.looked >= STALE_SECONDS:
            return await asyncio.shield(looking.task)
        patience = _PATIENCE_SECONDS - (now - looking.began)
        if patience > 0:
            with suppress(Unavailable, TimeoutError):
                return await asyncio.wait_for(asyncio.shield(looking.task), patience)
        return known

    def _recent(self, key_id: str, now: float) -> _Known | None:
        """What is known of a key, unless SQL is to be waited for; what is a little old is looked up meanwhile."""
        known = self._known.get(key_id)
        if known is None:
            return None
        age, failed = now - known.looked, now - self._failed
        if age >= STALE_SECONDS or (age > _FRESH_SECONDS and failed > _FRESH_SECONDS):
            return None
        if age > _FRESH_SECONDS / 2 and failed >= _RETRY_SECONDS:
            self._look_up(key_id)
        return known

    def _look_up(self, key_id: str) -> _LookUp:
        """One look-up at a time for a key, however many requests wait for it, or none."""
        looking = self._looking.get(key_id)
        if looking is None:
            task = asyncio.create_task(self._read(key_id))
            task.add_done_callback(lambda done: self._looked(key_id, done))
            looking = self._looking[key_id] = _LookUp(task, self._monotonic())
        return looking

    def _looked(self, key_id: str, task: asyncio.Task[_Known]) -> None:
        del self._looking[key_id]
        if task.cancelled() or task.exception() is not None:
            self._failed = self._monotonic()

    async def _read(self, key_id: str) -> _Known:
        asked = self._monotonic()
        async with self._database.transaction() as connection:
            row = (await connection.execute(select(api_keys).where(api_keys.c.id == key_id))).first()
        if row is None or row.revoked is not None:
            self._known.pop(key_id, None)
            return _remember(self._unknown, key_id, _Known(None, b"", None, asked))
        principal = Principal(key_id, row.tenant, frozenset(row.scopes.split(",")))
        self._unknown.pop(key_id, None)
        return _remember(self._known, key_id, _Known(principal, row.digest, row.expires, asked))


def _remember(cache: dict[str, _Known], key_id: str, known: _Known) -> _Known:
    if len(cache) >= _CACHED_KEYS:
        cache.clear()
    cache[key_id] = known
    return known
