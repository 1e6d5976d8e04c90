"""A system without sockets: what it was asked, and the answers it gives."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from cli import alerts, api, check, grant, key, send, status, tenant, usage
from cli import catalog as catalog_verb
from cli.api import Api
from cli.system import System
from ingest.client.transport import NoAnswerError, Reply


class Asked(NamedTuple):
    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes


class FakeSystem:
    """Answers by (method, path); a list is answered one by one, its last again and again."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, str], list[Reply | Exception | Callable[[Asked], Reply]]] = {}
        self.asked: list[Asked] = []

    def on(
        self, method: str, path: str, body: Any = None, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> None:
        content = b"" if body is None else msgspec.json.encode(body)
        self.answers.setdefault((method, path), []).append(Reply(status, headers or {}, content))

    def call(self, method: str, path: str, answer: Callable[[Asked], Reply]) -> None:
        self.answers.setdefault((method, path), []).append(answer)

    def silent(self, method: str, path: str) -> None:
        self.answers.setdefault((method, path), []).append(NoAnswerError("refused"))

    async def request(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Reply:
        asked = Asked(method, url, headers, body or b"")
        self.asked.append(asked)
        path = "/" + url.split("://", 1)[1].split("/", 1)[1].split("?")[0]
        answers = self.answers[method, path]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, Reply) else answer(asked)

    async def close(self) -> None:
        pass


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeSystem:
    """Every verb talks to this; the data directory is tmp_path."""
    fake = FakeSystem()

    @asynccontextmanager
    async def open_fake(where: System) -> AsyncIterator[Api]:
        yield Api(where, fake)

    for module in (alerts, api, check, grant, key, send, status, tenant, usage, catalog_verb):
        monkeypatch.setattr(module, "open_api", open_fake)
    state = {"console": "http://console", "ingest": "http://ingest", "gate": "http://gate", "admin_key": "tg_admin"}
    (tmp_path / "tallygate.json").write_bytes(msgspec.json.encode(state))
    monkeypatch.delenv("TALLYGATE_URL", raising=False)
    monkeypatch.delenv("TALLYGATE_KEY", raising=False)
    monkeypatch.chdir(tmp_path)
    return fake
