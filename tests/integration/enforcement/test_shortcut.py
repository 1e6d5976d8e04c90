"""Checks past the web framework: the same answers as by way of it, in order, however the bytes come."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from aiohttp import web

from enforcement.app import build
from enforcement.at_once import answer_for
from enforcement.settings import Settings
from metering.errors import Refused
from service.shortcut import Head, Runner
from tenancy import tenants
from tenancy.database import Database
from tenancy.keys import create_key, revoke_key
from tests.integration.enforcement.conftest import State, Valkey
from tests.support import SetClock, eventually, free_port

USUAL = "X-Usual: way\r\n"
"""A header that no shortcut knows."""


class Answered(NamedTuple):
    status: int
    headers: dict[str, str]
    body: Any


class Wire:
    """A connection on which a test says what is written when."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def write(self, data: bytes) -> None:
        """As a segment of its own."""
        self._writer.write(data)
        await self._writer.drain()

    async def answer(self) -> Answered:
        head = (await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), 10)).decode()
        first, *lines = head.strip().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        body = await self._reader.readexactly(int(headers["Content-Length"]))
        return Answered(int(first.split()[1]), headers, json.loads(body))

    async def ask(self, data: bytes) -> Answered:
        await self.write(data)
        return await self.answer()


class Door:
    """A gate with the shortcut; `taken` counts answers that went by it."""

    def __init__(self, app: web.Application, database: Database, platform: str, port: int, socket: Path) -> None:
        self.platform, self.database, self.port, self.socket = platform, database, port, socket
        self.taken = 0
        self._inner = answer_for(app)

    def answer(self, head: Head, body: bytes, by_unix_socket: bool) -> bytes | None:
        content = self._inner(head, body, by_unix_socket)
        self.taken += content is not None
        return content

    async def key(self, scope: str) -> tuple[str, str]:
        """A key of `grand`, and its id."""
        with suppress(Refused):
            await tenants.create(self.database, "grand", "test")
        return await create_key(self.database, "grand", frozenset({scope}))

    async def connect(self) -> Wire:
        return Wire(*await asyncio.open_connection("127.0.0.1", self.port))

    def check(self, body: Any, key: str | None = None, more: str = "", path: str = "/v1/check") -> bytes:
        sent = body if isinstance(body, bytes) else json.dumps(body).encode()
        authorization = f"Authorization: Bearer {self.platform if key is None else key}\r\n" if key != "" else ""
        head = f"POST {path} HTTP/1.1\r\nHost: gate\r\n{authorization}{more}Content-Length: {len(sent)}\r\n\r\n"
        return head.encode() + sent


@pytest.fixture
async def door(server: Valkey, state: State, sql: str, clock: SetClock, tmp_path: Path) -> AsyncIterator[Door]:
    app = build(Settings(redis=server.url, sql=sql, redis_seconds=2.0), clock)
    database = Database(sql)
    await database.open()
    platform, _ = await create_key(database, None, frozenset({"platform"}))
    made = Door(app, database, platform, free_port(), tmp_path / "gate.sock")
    runner = Runner(app, made.answer, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", made.port).start()
    await web.UnixSite(runner, made.socket).start()
    await eventually(lambda: _is_taken(made), what="the shortcut")
    yield made
    await runner.cleanup()
    await database.close()


async def _is_taken(door: Door, key: str | None = None) -> bool:
    """Whether `grand` and the key are known, so that a check of it goes by the shortcut."""
    before = door.taken
    wire = await door.connect()
    await wire.ask(door.check({"tenant": "grand", "feature": "voice"}, key))
    return door.taken > before


VOICE = {"tenant": "grand", "feature": "voice"}


def without_instants(answered: Answered) -> Answered:
    headers = {name: text for name, text in answered.headers.items() if name != "Date"}
    body = {name: text for name, text in answered.body.items() if name != "as_of"}
    return Answered(answered.status, headers, body)


@pytest.mark.parametrize(
    ("body", "taken"),
    [
        (VOICE, True),
        ({**VOICE, "amount": "2.5"}, True),
        ({**VOICE, "amount": 36001}, True),
        ({"tenant": "grand", "feature": "upload"}, True),
        ({"tenant": "grand", "feature": "white-label"}, True),
        ({"tenant": "grand", "feature": "no-such"}, True),
        ({"tenant": "nobody-knows", "feature": "voice"}, True),
        ({"tenant": "grand", "feature": "voice", "amount": -1}, False),
        ({"tenant": "grand", "feature": "voice", "amont": 1}, False),
        ({"feature": "voice"}, False),
        (b"{", False),
        (b"", False),
    ],
)
async def test_both_ways_give_the_same_answer(door: Door, body: Any, taken: bool) -> None:
    wire = await door.connect()
    await wire.ask(door.check(body))  # who is asked about for the first time is read in Redis
    await eventually(lambda: _is_taken(door), what="the key is known")
    before = door.taken
    short = await wire.ask(door.check(body))
    assert (door.taken > before) is taken
    usual = await wire.ask(door.check(body, more=USUAL))
    assert without_instants(short) == without_instants(usual)


@pytest.mark.parametrize(("key", "status"), [("", 401), ("tg_aaaaaaaaaaaa_" + "a" * 32, 401), ("no key at all", 401)])
async def test_who_has_no_key_gets_no_answer(door: Door, key: str, status: int) -> None:
    wire = await door.connect()
    for more in ("", USUAL):
        assert (await wire.ask(door.check(VOICE, key, more))).status == status


async def test_a_key_answers_for_its_own_tenant_and_scope_only(door: Door, state: State) -> None:
    await state.tenant("other")
    (own, _), (reading, _) = [await door.key(scope) for scope in ("check", "read")]
    await eventually(lambda: _is_taken(door, own), what="the key is known")
    wire = await door.connect()
    assert (await wire.ask(door.check({"feature": "voice"}, own))).body["reason"] == "within-limit"
    others = await wire.ask(door.check({"feature": "voice", "tenant": "other"}, own))
    nobodys = await wire.ask(door.check({"feature": "voice", "tenant": "nobody"}, own))
    assert others.body["reason"] == nobodys.body["reason"] == "unknown-tenant"
    for _ in range(2):
        assert (await wire.ask(door.check(VOICE, reading))).status == 403


async def test_a_revoked_key_is_refused_by_the_shortcut_too(door: Door) -> None:
    own, name = await door.key("check")
    await eventually(lambda: _is_taken(door, own), what="the key is known")
    await revoke_key(door.database, name, "grand", "test")
    wire = await door.connect()

    async def refused() -> bool:
        return (await wire.ask(door.check(VOICE, own))).status == 401

    await eventually(refused, timeout=2, what="the revoked key is refused")
    assert await refused()


async def test_who_may_open_the_unix_socket_needs_no_key(door: Door) -> None:
    wire = Wire(*await asyncio.open_unix_connection(door.socket))
    before = door.taken
    assert (await wire.ask(door.check(VOICE, ""))).body["allowed"] is True
    assert door.taken == before + 1


async def test_a_request_that_comes_in_two_pieces_is_answered_once(door: Door) -> None:
    sent = door.check(VOICE)
    for cut in range(1, len(sent), 7):
        wire = await door.connect()
        await wire.write(sent[:cut])
        await asyncio.sleep(0)
        assert (await wire.ask(sent[cut:])).body["allowed"] is True
        assert (await wire.ask(sent)).body["allowed"] is True


async def test_requests_sent_ahead_are_answered_in_order(door: Door) -> None:
    wire = await door.connect()
    unknown = door.check({"tenant": "nobody-knows", "feature": "voice"})
    features = ["voice", "upload", "cloning"]
    await wire.write(unknown)  # Redis is read for it, so the others overtake it if they can
    for feature in features:
        await wire.write(door.check({"tenant": "grand", "feature": feature}))
    assert (await wire.answer()).body["reason"] == "unknown-tenant"
    assert [(await wire.answer()).body["feature"] for _ in features] == features
    await wire.write(b"".join(door.check({"tenant": "grand", "feature": feature}) for feature in features))
    assert [(await wire.answer()).body["feature"] for _ in features] == features


async def test_a_body_that_looks_like_a_request_is_none(door: Door) -> None:
    inner = door.check({"tenant": "grand", "feature": "upload"})
    outer = door.check(inner)
    wire = await door.connect()
    before = door.taken
    await wire.write(outer[: -len(inner)])
    await eventually(lambda: _is_taken(door), what="the gate has read the head")
    before = door.taken
    assert (await wire.ask(inner)).status == 400
    assert door.taken == before
    assert (await wire.ask(door.check(VOICE))).body["feature"] == "voice"
