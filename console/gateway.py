"""Events that the console sends: through the gateway like everybody's, with the key of whoever asks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import msgspec
from aiohttp import web

from console.deps import SETTINGS
from metering.errors import Unavailable
from service.problems import Problem

SESSION = web.AppKey("ingest_session", aiohttp.ClientSession)
_SECONDS = 15
_RELAYED = ("Retry-After", "RateLimit")


async def session(app: web.Application) -> AsyncIterator[None]:
    """The connections to the gateway."""
    app[SESSION] = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_SECONDS))
    yield
    await app[SESSION].close()


async def send(request: web.Request, body: bytes, content_type: str) -> dict[str, Any]:
    """What the gateway answers with 202. Raises Problem as the gateway put it, or Unavailable."""
    headers = {"Authorization": request.headers["Authorization"], "Content-Type": content_type}
    url = request.app[SETTINGS].ingest_url.rstrip("/") + "/v1/events"
    try:
        async with request.app[SESSION].post(url, data=body, headers=headers) as answer:
            said = msgspec.json.decode(await answer.read())
            if answer.status == 202:
                accepted: dict[str, Any] = said
                return accepted
            relayed = {name: answer.headers[name] for name in _RELAYED if name in answer.headers}
            code = str(said.get("type", "")).rpartition("/")[2] or "refused"
            raise Problem(answer.status, code, str(said.get("detail", "")), relayed, errors=said.get("errors", []))
    except (aiohttp.ClientError, TimeoutError, OSError, msgspec.DecodeError) as error:
        raise Unavailable(f"the gateway at {url}: {error!r}") from error
