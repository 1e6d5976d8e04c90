"""Starts processes, keeps them running, stops them in order. What happens is said on stderr."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from local.process import Process, ProcessDied, ProcessLog, ProcessSpec, describe_exit


class StartFailed(Exception):
    """A process did not become ready, or a one-shot did not succeed; the message has its last lines."""


class RestartPolicy(NamedTuple):
    """Seconds. `deaths` within `within` seconds are too many."""

    first_delay: float = 0.2
    longest_delay: float = 10.0
    deaths: int = 5
    within: float = 60.0


_POLICY = RestartPolicy()


def say(message: str) -> None:
    """Tell the operator."""
    with suppress(OSError):  # nobody reads stderr any more: no reason to stop anything
        print(f"tallygate: {message}", file=sys.stderr, flush=True)


async def _nothing(name: str) -> None:
    return None


class Supervisor:
    """The processes of one system, by name in the order of their start.

    `on_change` runs whenever a pid is new; `on_restart(name)` when a process that had died is ready again. If that
    raises, the supervisor gives up as it does when a process keeps dying: `given_up` then says why, and who owns the
    supervisor has to call `stop`.
    """

    def __init__(
        self,
        logs: Path,
        verbose: bool = False,
        policy: RestartPolicy = _POLICY,
        on_change: Callable[[], None] = lambda: None,
        on_restart: Callable[[str], Awaitable[None]] = _nothing,
        inherit: Sequence[int] = (),
    ) -> None:
        self._logs = logs
        self._verbose = verbose
        self._policy = policy
        self._on_change = on_change
        self._on_restart = on_restart
        self._inherit = tuple(inherit)
        self._processes: dict[str, Process] = {}
        self._one_shots: set[Process] = set()
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self.given_up: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    @property
    def pids(self) -> dict[str, int]:
        """Name → pid of what was started last under that name."""
        return {name: process.pid for name, process in self._processes.items()}

    async def start(self, *specs: ProcessSpec) -> None:
        """Start side by side and return when all are ready; from then on each is kept running. Raises StartFailed."""
        for spec in specs:
            self._spawn(spec)
        waiting = [asyncio.create_task(self._first_ready(spec)) for spec in specs]
        try:
            await asyncio.gather(*waiting)
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def run_once(self, spec: ProcessSpec) -> None:
        """Run to the end. Raises StartFailed unless it exits with 0."""
        process = Process(spec, self._log(spec.name), self._inherit)
        self._one_shots.add(process)
        try:
            code = await process.wait()
        finally:
            process.kill()
            await asyncio.shield(process.wait())
            self._one_shots.discard(process)
        if code != 0:
            raise StartFailed(f"{spec.name} {describe_exit(code)}; its last lines:{_lines(process)}")

    async def stop_one(self, name: str) -> None:
        """Stop `name` for good."""
        keeper = self._keepers.pop(name, None)
        if keeper is not None:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)
        process = self._processes[name]
        if not await process.stop():
            say(f"{name} did not stop within {process.spec.stop_grace_s:g} s and was killed")

    async def stop(self) -> None:
        """Stop everything, the last started first. When cancelled, kill what is left."""
        try:
            # All of them first: an engine that stops must not look dead to anybody.
            keepers = list(self._keepers.values())
            for keeper in keepers:
                keeper.cancel()
            await asyncio.gather(*keepers, return_exceptions=True)
            for name in reversed(self._processes):
                await self.stop_one(name)
        finally:
            self.kill()

    def kill(self) -> None:
        """SIGKILL to everything that still runs, at once; nothing is started again."""
        for keeper in self._keepers.values():
            keeper.cancel()
        for process in (*self._processes.values(), *self._one_shots):
            process.kill()

    def _log(self, name: str) -> ProcessLog:
        self._logs.mkdir(parents=True, exist_ok=True)
        return ProcessLog(self._logs / f"{name}.log", name, self._verbose)

    def _spawn(self, spec: ProcessSpec) -> Process:
        process = Process(spec, self._log(spec.name), self._inherit)
        self._processes[spec.name] = process
        self._on_change()
        return process

    async def _first_ready(self, spec: ProcessSpec) -> None:
        process = self._processes[spec.name]
        try:
            problem = await process.wait_ready()
        except ProcessDied as error:
            raise StartFailed(str(error)) from error
        if problem is not None:
            raise StartFailed(
                f"{spec.name} was not ready within {spec.ready_seconds:g} s: {problem}; "
                f"its last lines:{_lines(process)}"
            )
        self._keepers[spec.name] = asyncio.create_task(self._keep(process), name=f"keep {spec.name}")

    async def _keep(self, process: Process) -> None:
        spec, policy = process.spec, self._policy
        deaths: deque[float] = deque(maxlen=policy.deaths)
        while True:
            code = await process.wait()
            now = time.monotonic()
            deaths.append(now)
            recent = sum(now - death <= policy.within for death in deaths)
            if recent >= policy.deaths:
                self._give_up(
                    f"{spec.name} {describe_exit(code)}, the {recent}th time within {policy.within:g} s; "
                    f"its last lines:{_lines(process)}"
                )
                return
            delay = min(policy.first_delay * 2 ** (recent - 1), policy.longest_delay)
            say(f"{spec.name} {describe_exit(code)}; starting it again in {delay:g} s")
            await asyncio.sleep(delay)
            process = self._spawn(spec)
            try:
                while (problem := await process.wait_ready()) is not None:
                    # It may be waiting for something else that is away: killing it would not help.
                    say(f"{spec.name} runs again but is not ready: {problem}")
            except ProcessDied:
                continue
            say(f"{spec.name} is back, pid {process.pid}")
            try:
                await self._on_restart(spec.name)
            except Exception as error:
                self._give_up(f"after the restart of {spec.name}: {error}")
                return

    def _give_up(self, reason: str) -> None:
        if not self.given_up.done():
            self.given_up.set_result(reason)


def _lines(process: Process) -> str:
    return "".join(f"\n    {line}" for line in process.log.tail()) or " (it said nothing)"
