"""`/livez`, `/readyz` and `/metrics` on a port of their own, answered by a thread.

So they answer while the event loop is held up, and readiness can say that it is. What checks and metrics read is read
from this thread.
"""

from __future__ import annotations

import asyncio
import socket
import socketserver
import threading
import time
from contextlib import suppress
from functools import partial
from http.server import BaseHTTPRequestHandler

from service.health import Health, answer

_BEAT_SECONDS = 0.5
_HELD_UP_SECONDS = 5.0
_IDLE_SECONDS = 60.0


class OpsServer:
    """The port of one process. `start` and `stop` belong to its event loop, whose turning it watches."""

    def __init__(self, health: Health, host: str, port: int) -> None:
        self._health = health
        self._address = (host, port)
        self._server: _Server | None = None
        self._beating: asyncio.Task[None] | None = None
        self._beat = time.monotonic()
        health.add("loop", self._failure)

    async def start(self) -> None:
        """Listen. Raises OSError when the port can't be had."""
        self._beating = asyncio.create_task(self._turn(), name="beat")
        host, port = self._address
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        self._server = _Server(found[0][0], self._address, self._health)
        threading.Thread(target=partial(self._server.serve_forever, 0.1), name="ops", daemon=True).start()

    async def stop(self) -> None:
        """Close the port."""
        if self._server is not None:
            await asyncio.to_thread(self._server.shutdown)
            self._server.server_close()
        if self._beating is not None:
            self._beating.cancel()
            with suppress(asyncio.CancelledError):
                await self._beating

    async def _turn(self) -> None:
        while True:
            self._beat = time.monotonic()
            await asyncio.sleep(_BEAT_SECONDS)

    def _failure(self) -> str | None:
        held_up = time.monotonic() - self._beat
        return f"the event loop has not turned for {held_up:.0f} s" if held_up > _HELD_UP_SECONDS else None


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, family: int, address: tuple[str, int], health: Health) -> None:
        self.address_family = family
        super().__init__(address, partial(_Handler, health))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _IDLE_SECONDS

    def __init__(self, health: Health, *connection: object) -> None:
        self._health = health
        super().__init__(*connection)  # type: ignore[arg-type]  # whatever the server hands over

    def do_GET(self) -> None:
        """Answer one request."""
        status, content_type, body = answer(self.path.partition("?")[0], self._health)
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Probes are no news."""
