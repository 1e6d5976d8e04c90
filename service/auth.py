"""`Authorization: Bearer <key>` → who asks and what they may. The same for every service."""

from __future__ import annotations

from aiohttp import web

from service.problems import Problem
from tenancy.keys import KeyRing, Principal

KEY_RING = web.AppKey("key_ring", KeyRing)


async def principal_of(request: web.Request) -> Principal:
    """Who asks. Raises Problem 401 (`unauthorized`) without a valid key; unknown, revoked and expired look alike."""
    header = request.headers.get("Authorization", "")
    scheme, _, key = header.partition(" ")
    principal = None
    if scheme.lower() == "bearer" and key:
        principal = await request.app[KEY_RING].authenticate(key.strip())
    if principal is None:
        raise Problem(
            401,
            "unauthorized",
            "a valid key is needed: Authorization: Bearer tg_…",
            headers={"WWW-Authenticate": 'Bearer realm="tallygate"'},
        )
    return principal


def known_principal(ring: KeyRing, header: str) -> Principal | None:
    """Who the key in an `Authorization` header is, if that is known without looking it up; None says nothing."""
    scheme, _, key = header.partition(" ")
    return ring.known(key.strip()) if scheme.lower() == "bearer" else None


def require(principal: Principal, scope: str) -> None:
    """Raise Problem 403 (`missing-scope`) unless the key has `scope`; `platform` has them all."""
    if not principal.may(scope):
        raise Problem(403, "missing-scope", f"this key lacks the scope `{scope}`")
