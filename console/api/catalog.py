"""`/v1/catalog`: immutable versions."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from console.deps import CATALOGS, platform
from metering.clock import SystemClock, iso
from metering.errors import InvalidCatalog
from service.auth import principal_of, require
from service.problems import Problem
from tenancy.catalogs import CatalogVersion

routes = web.RouteTableDef()


def _view(one: CatalogVersion) -> dict[str, Any]:
    return {
        "version": one.version,
        "effective_from": iso(one.effective_from),
        "catalog": msgspec.to_builtins(one.catalog),
    }


@routes.get("/v1/catalog")
async def newest(request: web.Request) -> web.Response:
    """The newest version."""
    require(await principal_of(request), "read")
    one = await request.app[CATALOGS].latest()
    if one is None:
        raise Problem(404, "not-found", "no catalog was applied yet; tallygate catalog apply FILE")
    return web.json_response(_view(one))


@routes.get(r"/v1/catalog/{version:\d{1,9}}")
async def one_version(request: web.Request) -> web.Response:
    """One version, for as long as the system lives."""
    require(await principal_of(request), "read")
    one = await request.app[CATALOGS].get(int(request.match_info["version"]))
    if one is None:
        raise Problem(404, "not-found", f"no catalog version {request.match_info['version']}")
    return web.json_response(_view(one))


@routes.put("/v1/catalog")
async def apply(request: web.Request) -> web.Response:
    """Apply a catalog in YAML or JSON (platform); 422 lists every mistake with its path."""
    principal = await platform(request)
    try:
        text = (await request.read()).decode()
    except UnicodeDecodeError:
        raise Problem(400, "invalid-utf8", "a catalog is UTF-8 text") from None
    try:
        made = await request.app[CATALOGS].apply(text, SystemClock().now_ms(), principal.key_id)
    except InvalidCatalog as error:
        errors = [{"path": problem.path, "detail": problem.detail} for problem in error.problems]
        raise Problem(422, error.code, f"{len(errors)} mistakes in the catalog", errors=errors) from None
    return web.json_response(_view(made))
