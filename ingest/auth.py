"""Who sends, and whose events they may send."""

from __future__ import annotations

from aiohttp import web

from metering.errors import Unavailable
from service.auth import principal_of, require
from tenancy.keys import Principal


async def sender_of(request: web.Request) -> Principal:
    """The key's principal. Raises Problem 401 without a valid key, 403 without the scope `ingest`; Unavailable."""
    try:
        principal = await principal_of(request)
    except Unavailable as error:
        raise Unavailable("keys cannot be checked at the moment") from error
    require(principal, "ingest")
    return principal


def share_of(principal: Principal) -> str:
    """In whose name bytes in flight are counted: the tenant's; for a platform key its own."""
    return principal.tenant or f"key {principal.key_id}"
