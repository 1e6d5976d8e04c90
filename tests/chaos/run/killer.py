"""Kills one process after the other with SIGKILL: whose turn it is, and when it is ready again."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from cli.system import read_state
from local.ports import HOST
from local.probes import http_ok, kafka_answers, redis_answers
from tests.chaos.run.emitters import Emitters
from tests.support import eventually

PROCESSES = {"gateway": "ingest-", "worker": "streams-", "kafka": "kafka", "redis": "redis", "clickhouse": "clickhouse"}
"""Kind → how the names of its processes begin. A kind beside them: emitter."""
KINDS = (*PROCESSES, "emitter")
_READY_SECONDS = 120.0
_DEATHS, _WITHIN_SECONDS = 3, 60.0
"""A supervisor gives up a process that keeps dying; five times within a minute are too many for it."""


class Kill(NamedTuple):
    """`at` and `took` in seconds: since the run began, and until the process was ready again."""

    at: float
    kind: str
    process: str
    pid: int
    took: float


class Killer:
    """`kills` are those so far."""

    def __init__(self, seed: int, data_dir: Path, emitters: Emitters, began: float) -> None:
        self.kills: list[Kill] = []
        self._random = random.Random(f"killer {seed}")
        self._data_dir = data_dir
        self._emitters = emitters
        self._began = began

    def plan(self, kinds: Sequence[str], each: int) -> list[str]:
        """Kinds in the order of their deaths: each of them `each` times, every round in an order of its own."""
        return [kind for _ in range(each) for kind in self._random.sample(kinds, len(kinds))]

    async def strike(self, kind: str) -> None:
        """Kill a process of this kind and return when it is ready again."""
        name = self._victim(kind)
        await eventually(lambda: self._may_die(name), timeout=_WITHIN_SECONDS + 1, interval=0.2)
        at = time.monotonic()
        if kind == "emitter":
            pid = await self._emitters.kill(name)
            await self._ready(name, lambda: self._emitters.status(name))
        else:
            pid = read_state(self._data_dir)["processes"][name]
            os.kill(pid, signal.SIGKILL)
            await self._ready(name, partial(self._runs_again, name, pid))
        self.kills.append(Kill(at - self._began, kind, name, pid, time.monotonic() - at))

    def _victim(self, kind: str) -> str:
        if kind == "emitter":
            return self._random.choice(self._emitters.names)
        names: list[str] = list(read_state(self._data_dir)["processes"])
        return self._random.choice(sorted(name for name in names if name.startswith(PROCESSES[kind])))

    def _may_die(self, name: str) -> bool:
        """Whether few enough of its deaths are recent."""
        since = time.monotonic() - self._began - _WITHIN_SECONDS
        return sum(kill.process == name and kill.at > since for kill in self.kills) < _DEATHS

    async def _ready(self, name: str, condition: Callable[[], object]) -> None:
        await eventually(condition, timeout=_READY_SECONDS, interval=0.05, what=f"{name} is ready again")

    async def _runs_again(self, name: str, killed: int) -> bool:
        return read_state(self._data_dir)["processes"][name] != killed and await self.is_ready(name)

    async def is_ready(self, name: str) -> bool:
        """Whether a process of the system says so. Raises OSError while nobody listens."""
        state = read_state(self._data_dir)
        if name == "kafka":
            return await kafka_answers(HOST, int(state["kafka"].rpartition(":")[2]))
        if name == "redis":
            return await redis_answers(int(state["redis"].removesuffix("/0").rpartition(":")[2]))
        return await http_ok(f"{state['clickhouse']}/ping" if name == "clickhouse" else f"{state['ops'][name]}/readyz")

    async def all_ready(self) -> None:
        """Return when every process of the system is ready."""
        for name in read_state(self._data_dir)["processes"]:
            if name != "migrate":
                await self._ready(name, partial(self.is_ready, name))
