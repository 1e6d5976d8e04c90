"""`/openapi.json`: what stands in a package's openapi.yaml."""

from __future__ import annotations

from importlib.resources import files

import msgspec
import yaml
from aiohttp import web


def add_openapi_route(app: web.Application, package: str) -> None:
    """Serve the document of `package`, encoded once."""
    document = msgspec.json.encode(yaml.safe_load(files(package).joinpath("openapi.yaml").read_bytes()))

    async def openapi(request: web.Request) -> web.Response:
        return web.Response(body=document, content_type="application/json")

    app.router.add_get("/openapi.json", openapi)
