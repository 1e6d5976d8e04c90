"""The load generator against a server whose answers and delays are known."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from bench import golang, pace
from bench.golang import GoUnavailable
from bench.pace import Target, WrongAnswers

HELD_UP = 0.3


@pytest.fixture(scope="session")
def program() -> Path:
    try:
        return golang.pace()
    except GoUnavailable as error:
        pytest.skip(str(error))


class Server:
    """Answers at once, but for one time in which it answers nobody for `HELD_UP` seconds."""

    def __init__(self) -> None:
        self.bodies: list[str] = []
        self.hold_up_after: int | None = None
        self._going = asyncio.Event()
        self._going.set()

    async def answer(self, request: web.Request) -> web.Response:
        self.bodies.append(await request.text())
        if len(self.bodies) == self.hold_up_after:
            self._going.clear()
            asyncio.get_running_loop().call_later(HELD_UP, self._going.set)
        await self._going.wait()
        return web.json_response({"allowed": True})


@pytest.fixture
async def server() -> AsyncIterator[tuple[Server, str]]:
    app, made = web.Application(), Server()
    app.router.add_post("/", made.answer)
    async with TestServer(app) as running:
        yield made, f"{running.host}:{running.port}"


def target(address: str, expect: str = '"allowed": true') -> Target:
    bodies = [f'{{"tenant": "t{number}"}}'.encode() for number in range(10)]
    return Target(address, [pace.request("POST", address, "/", body) for body in bodies], 200, expect)


async def test_an_open_loop_keeps_its_rate_and_draws_the_same_by_the_same_seed(
    program: Path, server: tuple[Server, str]
) -> None:
    made, address = server
    for _ in range(2):
        seen = (await pace.drive(program, target(address), 200, 1, 0.25, 0.5, seed=7)).right()
        assert (seen.sent, seen.rate) == (100, 200)
        assert 0 < seen.p50 <= seen.p99 <= seen.p999 <= seen.longest
    assert made.bodies[:150] == made.bodies[150:]
    assert len(set(made.bodies)) == 10


async def test_what_waits_behind_a_server_that_is_held_up_has_waited(program: Path, server: tuple[Server, str]) -> None:
    """No coordinated omission: with one connection only one request is sent into the pause; all that were due meanwhile
    count from when they were due."""
    made, address = server
    made.hold_up_after = 20
    seen = (await pace.drive(program, target(address), 200, 1, 0, 1, seed=7)).right()
    assert seen.sent == 200
    due_meanwhile = HELD_UP * 200
    # Their waits fall from HELD_UP to nothing, so 15 % of all waited for longer than half of it.
    assert due_meanwhile / 2 / seen.sent > 0.01
    assert seen.p99 > HELD_UP * 1000 * 0.9
    assert seen.longest >= HELD_UP * 1000
    assert seen.lag_longest < HELD_UP * 1000 / 2  # the server's wait is not taken for the generator's


async def test_a_closed_loop_asks_again_as_soon_as_it_has_its_answer(program: Path, server: tuple[Server, str]) -> None:
    _, address = server
    seen = (await pace.drive(program, target(address), 0, 4, 0, 0.5, seed=7)).right()
    assert seen.sent > 100
    assert seen.rate == pytest.approx(seen.sent / 0.5)


async def test_wrong_answers_are_counted_and_shown(program: Path, server: tuple[Server, str]) -> None:
    _, address = server
    seen = await pace.drive(program, target(address, expect='"allowed": false'), 100, 4, 0, 0.2, seed=7)
    assert (seen.sent, seen.wrong, seen.rate) == (20, 20, 0)
    with pytest.raises(WrongAnswers, match=r"20 of 20 answers were wrong, the first one: HTTP/1.1 200 OK"):
        seen.right()
