"""The document says what there is: no route without a word, no word without a route."""

from __future__ import annotations

from importlib.resources import files

import yaml

from console.app import build
from console.settings import Settings

OPERATIONAL = {"/livez", "/readyz", "/metrics", "/openapi.json"}


def test_the_document_names_every_route_and_method() -> None:
    app = build(Settings(clickhouse="http://127.0.0.1:1", redis="redis://127.0.0.1:1/0", sql="sqlite+aiosqlite:///x"))
    served = {
        (route.resource.canonical, route.method.lower())
        for route in app.router.routes()
        if route.resource is not None and route.method != "HEAD" and route.resource.canonical not in OPERATIONAL
    }
    document = yaml.safe_load(files("console").joinpath("openapi.yaml").read_text())
    told = {
        (path, method)
        for path, item in document["paths"].items()
        for method in item
        if method in ("get", "put", "post", "delete")
    }
    assert told == served
