"""What the API's handlers find on the application, who may see whose things, and how bodies and instants are read."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from aiohttp import web
from redis.asyncio import Redis

from console.settings import Settings
from metering.clock import parse_iso
from service.auth import principal_of, require
from service.problems import Problem
from tenancy import tenants
from tenancy.catalogs import Catalogs
from tenancy.database import Database
from tenancy.epochs import Epochs
from tenancy.keys import Principal
from tenancy.operations import Operations
from tenancy.tenants import Tenant
from usage.decisions import DecisionReader
from usage.letters import Letters
from usage.reader import CounterReader, UsageReader
from usage.trace import Tracer
from usage.windows import WindowReader

SETTINGS = web.AppKey("settings", Settings)
DATABASE = web.AppKey("database", Database)
CATALOGS = web.AppKey("catalogs", Catalogs)
EPOCHS = web.AppKey("epochs", Epochs)
OPERATIONS = web.AppKey("operations", Operations)
REDIS: web.AppKey[Any] = web.AppKey("redis", Redis)
TRACER = web.AppKey("tracer", Tracer)
USAGE = web.AppKey("usage", UsageReader)
WINDOWS = web.AppKey("windows", WindowReader)
LETTERS = web.AppKey("letters", Letters)
DECISIONS = web.AppKey("decisions", DecisionReader)
COUNTERS = web.AppKey("counters", CounterReader)

B = TypeVar("B")


async def platform(request: web.Request) -> Principal:
    """The principal, who must be the platform's."""
    principal = await principal_of(request)
    require(principal, "platform")
    return principal


async def tenant_of(request: web.Request, name: str | None, scope: str) -> tuple[Principal, Tenant]:
    """The principal and the tenant `name` (None: the key's own), whom it must be or the platform's, with `scope`.

    Another tenant's name answers exactly like a name that does not exist: 404.
    """
    principal = await principal_of(request)
    require(principal, scope)
    name = principal.tenant if name is None else name
    if name is None:
        raise Problem(422, "invalid-query", "a platform key names the tenant")
    if principal.platform or principal.tenant == name:
        tenant = await tenants.get(request.app[DATABASE], name)
        if tenant is not None:
            return principal, tenant
    raise Problem(404, "not-found", f"no tenant {name}")


async def body_of(request: web.Request, form: type[B]) -> B:
    """The JSON body as `form`, a Struct. Raises Problem 400 (no JSON) or 422 (another form)."""
    try:
        return msgspec.json.decode(await request.read(), type=form)
    except msgspec.ValidationError as error:
        raise Problem(422, "invalid-body", str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Problem(400, "invalid-json", "the body must be a JSON object") from None


def instant(name: str, text: str | None) -> int | None:
    """RFC 3339 → ms UTC, None stays. Raises Problem 422 naming the field."""
    if text is None:
        return None
    try:
        return parse_iso(text)
    except (ValueError, OverflowError) as error:
        raise Problem(422, "invalid-time", f"{name}: {error}") from None
