"""Errors as `application/problem+json` (RFC 9457) with a stable `type`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from math import ceil
from typing import Any

import msgspec
import structlog
from aiohttp import web

from metering.errors import Refused, TryLater, Unavailable

CONTENT_TYPE = "application/problem+json"
_TYPE = "https://tallygate.dev/problems/"
_log = structlog.get_logger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Problem(Exception):
    """Raise to answer `status` with the problem `code`; `extra` members stand beside the standard ones."""

    def __init__(
        self, status: int, code: str, detail: str, headers: dict[str, str] | None = None, **extra: Any
    ) -> None:
        super().__init__(f"{status} {code}: {detail}")
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = headers or {}
        self.extra = extra

    def response(self) -> web.Response:
        """The HTTP answer."""
        body = {
            "type": _TYPE + self.code,
            "title": self.code.replace("-", " "),
            "status": self.status,
            "detail": self.detail,
            **self.extra,
        }
        return web.Response(
            status=self.status, body=msgspec.json.encode(body), content_type=CONTENT_TYPE, headers=self.headers
        )


def retry_later(status: int, code: str, detail: str, retry_after: float) -> Problem:
    """429 or 503 that says when to come back (whole seconds, at least 1)."""
    return Problem(status, code, detail, headers={"Retry-After": str(max(1, ceil(retry_after)))})


@web.middleware
async def problem_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every error into a problem; what nobody expected is logged and answered 500 without its text."""
    try:
        return await handler(request)
    except Problem as problem:
        return problem.response()
    except Refused as error:
        return Problem(422, error.code, error.detail).response()
    except TryLater as error:
        return retry_later(429, "try-later", error.detail, error.retry_after).response()
    except Unavailable as error:
        # Drivers put addresses and statements into their messages: those are for the log, not for clients.
        _log.warning("unavailable", method=request.method, path=request.path, reason=str(error))
        return retry_later(503, "unavailable", "a store does not answer now; try again", 1).response()
    except web.HTTPException as error:
        if error.status < 400:
            raise
        code = error.reason.lower().replace(" ", "-")
        headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else None
        return Problem(error.status, code, error.text or error.reason, headers=headers).response()
    except Exception:
        _log.exception("unexpected error", method=request.method, path=request.path)
        return Problem(500, "internal-error", "an unexpected error; it was logged").response()
