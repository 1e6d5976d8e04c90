"""What the API's handlers find on the application, and who may see whose things."""

from __future__ import annotations

from typing import Any

from aiohttp import web
from redis.asyncio import Redis

from console.settings import Settings
from service.auth import principal_of, require
from service.problems import Problem
from tenancy import tenants
from tenancy.catalogs import Catalogs
from tenancy.database import Database
from tenancy.epochs import Epochs
from tenancy.keys import Principal
from tenancy.tenants import Tenant
from usage.reader import CounterReader, UsageReader

SETTINGS = web.AppKey("settings", Settings)
DATABASE = web.AppKey("database", Database)
CATALOGS = web.AppKey("catalogs", Catalogs)
EPOCHS = web.AppKey("epochs", Epochs)
REDIS: web.AppKey[Any] = web.AppKey("redis", Redis)
USAGE = web.AppKey("usage", UsageReader)
COUNTERS = web.AppKey("counters", CounterReader)


async def platform(request: web.Request) -> Principal:
    """The principal, who must be the platform's."""
    principal = await principal_of(request)
    require(principal, "platform")
    return principal


async def tenant_of(request: web.Request, name: str, scope: str) -> tuple[Principal, Tenant]:
    """The principal and the tenant `name`, whom it must be or the platform's, with `scope`.

    Another tenant's name answers exactly like a name that does not exist: 404.
    """
    principal = await principal_of(request)
    require(principal, scope)
    if principal.platform or principal.tenant == name:
        tenant = await tenants.get(request.app[DATABASE], name)
        if tenant is not None:
            return principal, tenant
    raise Problem(404, "not-found", f"no tenant {name}")


async def body_of(request: web.Request) -> dict[str, Any]:
    """The JSON object in the body. Raises Problem 400."""
    try:
        body = await request.json()
    except (ValueError, UnicodeDecodeError):
        raise Problem(400, "invalid-json", "the body must be a JSON object") from None
    if not isinstance(body, dict):
        raise Problem(400, "invalid-json", "the body must be a JSON object")
    return body
