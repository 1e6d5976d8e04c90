"""Scripts that come together go together, and nobody waits for ever for one that does not come back."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

import pytest
from redis.exceptions import NoScriptError

from enforcement.scripts import GatheredScripts
from tests.support import eventually


class Script(NamedTuple):
    sha: str
    script: str


ECHO: Any = Script("sha", "text")


class Server:
    """Answers EVALSHA with its last argument, once it knows the script; lets rounds through one by one."""

    def __init__(self) -> None:
        self.rounds: list[list[str]] = []
        self.known = True
        self.open = asyncio.Event()
        self.open.set()
        self.error: Exception | None = None

    def pipeline(self, transaction: bool) -> Pipe:
        return Pipe(self)

    async def script_load(self, text: str) -> None:
        self.known = True


class Pipe:
    def __init__(self, server: Server) -> None:
        self._server = server
        self._asked: list[str] = []

    def execute_command(self, *words: Any) -> None:
        self._asked.append(words[-1])

    async def execute(self, raise_on_error: bool) -> list[Any]:
        known = self._server.known
        self._server.rounds.append(self._asked)
        await self._server.open.wait()
        if self._server.error is not None:
            raise self._server.error
        return [word if known else NoScriptError("unknown") for word in self._asked]


def scripts(server: Any, seconds: float = 5.0) -> GatheredScripts:
    return GatheredScripts(server, seconds)


async def test_what_comes_while_rounds_are_under_way_goes_in_one() -> None:
    server = Server()
    gathered = scripts(server)
    asked = await under_way(server, gathered)
    asked += [asyncio.create_task(gathered.run("t", ECHO, ["k"], [str(number)])) for number in range(10)]
    server.open.set()
    assert await asyncio.gather(*asked) == ["a", "b", *(str(number) for number in range(10))]
    assert [len(words) for words in server.rounds] == [1, 1, 10]


async def under_way(server: Server, gathered: GatheredScripts) -> list[asyncio.Task[Any]]:
    """Two rounds, which is as many as there are, wait for the server."""
    server.open.clear()
    asked = []
    for word in "ab":
        asked.append(asyncio.create_task(gathered.run("t", ECHO, [], [word])))
        await eventually(lambda: len(server.rounds) == len(asked))
    return asked


async def test_a_script_that_the_server_has_lost_is_loaded_again() -> None:
    server = Server()
    server.known = False
    assert await asyncio.gather(*(scripts(server).run("t", ECHO, [], [word]) for word in "ab")) == ["a", "b"]


async def test_who_gave_up_before_its_round_asks_for_nothing() -> None:
    server = Server()
    gathered = scripts(server)
    first = await under_way(server, gathered)
    late = [asyncio.create_task(gathered.run("t", ECHO, [], [word])) for word in "cd"]
    await asyncio.sleep(0)
    late[0].cancel()
    await asyncio.sleep(0)
    server.open.set()
    assert await asyncio.gather(*first, late[1]) == ["a", "b", "d"]
    assert server.rounds == [["a"], ["b"], ["d"]]


async def test_nobodys_many_calls_are_in_front_of_somebodys_one() -> None:
    server = Server()
    gathered = scripts(server)
    asked = await under_way(server, gathered)
    asked += [asyncio.create_task(gathered.run("busy", ECHO, [], [str(number)])) for number in range(100)]
    asked += [asyncio.create_task(gathered.run("quiet", ECHO, [], ["mine"]))]
    await asyncio.sleep(0)
    server.open.set()
    await asyncio.gather(*asked)
    assert server.rounds[2][:3] == ["0", "mine", "1"]
    assert sorted(int(word) for words in server.rounds[2:] for word in words if word != "mine") == list(range(100))


@pytest.mark.parametrize("error", [ConnectionError("away"), ValueError("a mistake")])
async def test_whatever_ends_a_round_is_told_to_all_of_it_and_the_others_go_on(error: Exception) -> None:
    server = Server()
    gathered = scripts(server)
    asked = await under_way(server, gathered)
    server.error = error
    server.open.set()
    assert await asyncio.gather(*asked, return_exceptions=True) == [error] * 2
    server.error = None
    assert await gathered.run("t", ECHO, [], ["again"]) == "again"


async def test_who_waited_for_too_long_does_not_set_out() -> None:
    server = Server()
    gathered = scripts(server, 0.2)
    asked = await under_way(server, gathered)
    gathered._seconds = 0.01
    asked.append(asyncio.create_task(gathered.run("t", ECHO, [], ["late"])))
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(one) for one in found] == [TimeoutError] * 3
    assert ["late"] not in server.rounds


async def test_a_server_that_stands_still_is_not_waited_for_longer_than_said() -> None:
    server = Server()
    server.open.clear()
    with pytest.raises(TimeoutError):
        await scripts(server, 0.05).run("t", ECHO, [], ["x"])
