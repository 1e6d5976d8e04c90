"""`POST /v1/check` from memory, past the web framework (service/shortcut.py), as handlers.post_check answers it."""

from __future__ import annotations

import time

from aiohttp import web

from enforcement import handlers, metrics, requests
from metering.errors import Refused
from service.auth import KEY_RING, known_principal
from service.problems import Problem
from service.shortcut import Answer, Head

_PATH = "/v1/check"


def answer_for(app: web.Application) -> Answer:
    """What the gate of `app` can answer at once."""
    took = metrics.REQUEST_SECONDS.labels(_PATH)

    def answer(head: Head, body: bytes, by_unix_socket: bool) -> bytes | None:
        if head.path != _PATH or head.method != "POST":
            return None
        began = time.perf_counter()
        principal = handlers.LOCAL if by_unix_socket else known_principal(app[KEY_RING], head.authorization)
        if principal is None or not principal.may("check"):
            return None
        own = None if principal.platform or principal is handlers.LOCAL else principal.tenant
        try:
            content = app[handlers.GATE].encoded(requests.check_of(body, own))
        except (Problem, Refused):
            return None  # the usual way says what is wrong
        if content is not None:
            took.observe(time.perf_counter() - began)
        return content

    return answer
