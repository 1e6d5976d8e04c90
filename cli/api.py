"""The HTTP APIs as commands use them: addresses, the key, retries while busy, problems as errors for people."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

import msgspec

from cli.errors import UNREACHABLE, WRONG_USE, CommandError
from cli.system import System
from ingest.client.transport import HttpTransport, NoAnswerError, Reply, Transport, retry_after

BUSY = frozenset({429, 502, 503, 504})
_ATTEMPTS = 4
_LONGEST_WAIT = 5.0


class Api:
    """One system as one caller sees it."""

    def __init__(self, system: System, transport: Transport) -> None:
        self.system = system
        self.transport = transport
        self._addresses: dict[str, str] | None = None

    async def console(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        """Ask the console; answers the decoded JSON body. Raises CommandError."""
        return await self._ask(self.system.console, method, path, body, query)

    async def gate(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        """Ask the gate; answers the decoded JSON body. Raises CommandError."""
        return await self._ask(await self.gate_url(), method, path, body, query)

    async def ingest_url(self) -> str:
        """Where events go."""
        return self.system.ingest or await self._address("ingest")

    async def gate_url(self) -> str:
        """Where checks go."""
        return self.system.gate or await self._address("gate")

    def headers(self) -> dict[str, str]:
        """What every request carries."""
        return {"Authorization": f"Bearer {self.system.key}", "Accept": "application/json", "User-Agent": "tallygate"}

    async def _address(self, service: str) -> str:
        if self._addresses is None:
            self._addresses = await self.console("GET", "/v1/addresses")
        try:
            return self._addresses[service].rstrip("/")
        except (KeyError, TypeError, AttributeError):
            raise CommandError(
                UNREACHABLE,
                f"The console at {self.system.console} does not know where {service} is.",
                "Start the console with TALLYGATE_CONSOLE_INGEST_URL and TALLYGATE_CONSOLE_GATE_URL.",
            ) from None

    async def _ask(self, base: str, method: str, path: str, body: Any, query: Mapping[str, Any]) -> Any:
        chosen = [(name, value) for name, value in query.items() if value is not None]
        url = base + path + ("?" + urlencode(chosen, doseq=True) if chosen else "")
        headers = self.headers()
        if isinstance(body, bytes):
            headers["Content-Type"] = "application/yaml"
        elif body is not None:
            headers["Content-Type"] = "application/json"
            body = msgspec.json.encode(body)
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                reply = await self.transport.request(method, url, headers, body)
            except NoAnswerError as error:
                raise CommandError(
                    UNREACHABLE,
                    f"{base} does not answer: {error}",
                    "Is it running? `tallygate status` shows it, `tallygate up` starts it.",
                ) from error
            if reply.status < 300:
                return msgspec.json.decode(reply.body) if reply.body.strip() else None
            if reply.status not in BUSY or attempt == _ATTEMPTS:
                raise problem_error(reply, url)
            await asyncio.sleep(min(retry_after(reply) or 0.2 * 2**attempt, _LONGEST_WAIT))
        raise AssertionError("unreachable")


_NEXT_STEPS = {
    401: "Check TALLYGATE_KEY: unknown, revoked and expired keys look alike. `tallygate key create` makes a new one.",
    403: "Use a key with that scope: `tallygate key create TENANT --scope …`.",
}


def problem_error(reply: Reply, url: str) -> CommandError:
    """A problem+json answer as the error that ends a command."""
    try:
        problem = msgspec.json.decode(reply.body)
        detail = problem.get("detail") or problem.get("title") or ""
        listed = problem.get("errors") or ()
    except (msgspec.DecodeError, AttributeError):
        detail, listed = reply.body[:200].decode(errors="replace"), ()
    if reply.status in BUSY or reply.status >= 500:
        return CommandError(
            UNREACHABLE, f"{url} answered {reply.status}: {detail}", "`tallygate status` shows what is not ready."
        )
    details = [_detail(item) for item in listed]
    return CommandError(
        WRONG_USE, detail or f"{url} answered {reply.status}", _NEXT_STEPS.get(reply.status, ""), details
    )


def _detail(item: Any) -> str:
    if not isinstance(item, dict):
        return str(item)
    where = item.get("path") or item.get("index") or item.get("id")
    return f"{where}: {item.get('detail', '')}" if where is not None else str(item.get("detail", item))


@asynccontextmanager
async def open_api(system: System) -> AsyncIterator[Api]:
    """An Api with its own connections."""
    transport = HttpTransport()
    try:
        yield Api(system, transport)
    finally:
        await transport.close()
