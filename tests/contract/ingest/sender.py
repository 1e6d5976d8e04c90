"""What the contract tests send, and how they read the answers."""

from __future__ import annotations

import uuid
from typing import Any, NamedTuple

import aiohttp
import msgspec

from tests.integration.ingest.gateway import Gateway

EVENT = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"


def event(**members: Any) -> dict[str, Any]:
    """A good event with an id of its own; None leaves a member out."""
    usual = {
        "specversion": "1.0",
        "id": uuid.uuid4().hex,
        "source": "/pms/berlin",
        "type": "call.completed",
        "data": {"seconds": 12.5, "language": "de"},
    }
    return {name: value for name, value in (usual | members).items() if value is not None}


class Answer(NamedTuple):
    """A response."""

    status: int
    headers: Any
    body: Any

    @property
    def code(self) -> str:
        """The stable end of a problem's type."""
        assert self.headers["Content-Type"] == "application/problem+json"
        assert self.body["status"] == self.status
        assert self.body["detail"]
        return str(self.body["type"]).removeprefix("https://tallygate.dev/problems/")

    @property
    def codes(self) -> list[tuple[int, str]]:
        """(index, code) of the events refused."""
        return [(error["index"], error["code"]) for error in self.body["errors"]]


class Sender:
    """Requests to one gateway."""

    def __init__(self, gateway: Gateway, session: aiohttp.ClientSession) -> None:
        self.gateway = gateway
        self.session = session

    async def post(
        self, body: Any, content_type: str | None = BATCH, key: str | None = "grand", **headers: str
    ) -> Answer:
        """Send `body` (bytes as they are, else as JSON) with the key of that name (None: without)."""
        if key is not None:
            headers["Authorization"] = f"Bearer {self.gateway.keys.get(key, key)}"
        if content_type is not None:
            headers["Content-Type"] = content_type
        data = body if isinstance(body, bytes) or hasattr(body, "__aiter__") else msgspec.json.encode(body)
        skip = {"Content-Type"} if content_type is None else None
        async with self.session.post(
            self.gateway.events_url, data=data, headers=headers, skip_auto_headers=skip
        ) as response:
            text = await response.read()
            return Answer(response.status, response.headers, msgspec.json.decode(text) if text else None)

    async def logged(self) -> dict[str, int]:
        """How often each event id stands in the log."""
        times: dict[str, int] = {}
        for record in await self.gateway.broker.records():
            for line in record.events:
                times[line["id"]] = times.get(line["id"], 0) + 1
        return times
