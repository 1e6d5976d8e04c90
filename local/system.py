"""A whole Tallygate on this machine: the engines, then the stores brought up to date, then the services."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from local.drain import drained
from local.instance import AlreadyRunning, Instance, Unreadable
from local.layout import CannotStart, Layout
from local.layout import SystemOptions as SystemOptions
from local.supervisor import StartFailed, Supervisor, say
from metering.errors import TallygateError

OK, FAILED, WRONG_USE = 0, 1, 2
_MIGRATE_ATTEMPTS = 3
_DRAIN_SECONDS = 15.0

_IN_MEMORY = "the embedded broker keeps its log in memory only: a new epoch begins"

OnReady = Callable[[dict[str, Any]], None]


async def run_system(options: SystemOptions, on_ready: OnReady, stop: asyncio.Event | None = None) -> int:
    """Start everything, call `on_ready` with what `tallygate.json` says, run until `stop`, stop everything in order.

    Without `stop`, SIGINT, SIGTERM and SIGHUP are that; a second one kills what still runs. Cancelling stops it in
    order too. Answers 0; 1 when it could not start or a process kept dying; 2 when the directory or a port is in use.
    The reason is on stderr. Has to run in the main thread.
    """
    try:
        instance = await Instance.take(options.data_dir.resolve())
    except (AlreadyRunning, Unreadable, OSError) as error:
        say(str(error))
        return WRONG_USE
    try:
        system = System(options, instance, await Layout.choose(options))
        if stop is not None:
            return await system.run(on_ready, stop)
        with _signals(stopping := asyncio.Event(), system.kill):
            return await system.run(on_ready, stopping)
    except CannotStart as error:
        say(str(error))
        return WRONG_USE
    finally:
        instance.release()


async def _first(*events: asyncio.Future[Any]) -> None:
    await asyncio.wait(events, return_when=asyncio.FIRST_COMPLETED)


@contextmanager
def _signals(stop: asyncio.Event, kill: Callable[[], None]) -> Iterator[None]:
    loop = asyncio.get_running_loop()

    def stopping() -> None:
        if stop.is_set():
            say("killing what still runs")
            kill()
        else:
            say("stopping (once more: kill)")
            stop.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stopping)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.remove_signal_handler(number)


class System:
    """One run of a system."""

    def __init__(self, options: SystemOptions, instance: Instance, layout: Layout) -> None:
        self._instance = instance
        self._layout = layout
        self._key = instance.admin_key()
        self._drain: asyncio.Task[None] | None = None
        instance.update(ready=False)
        self.supervisor = Supervisor(
            options.data_dir.resolve() / "logs",
            verbose=options.verbose,
            on_change=self._write_pids,
            on_restart=self._restarted,
            inherit=(instance.lock,),
        )

    async def run(self, on_ready: OnReady, stop: asyncio.Event) -> int:
        """See run_system."""
        starting = asyncio.create_task(self._start())
        stopped = asyncio.create_task(stop.wait())
        given_up = self.supervisor.given_up
        code = OK
        try:
            await _first(starting, stopped, given_up)
            if starting.done():
                starting.result()
                on_ready(self._instance.state)
                await _first(stopped, given_up)
        except (StartFailed, TallygateError, OSError) as error:
            say(f"could not start: {error}")
            code = FAILED
        finally:
            for task in (starting, stopped):
                task.cancel()
            await asyncio.gather(starting, stopped, return_exceptions=True)
            if given_up.done():
                say(f"giving up: {given_up.result()}")
                code = FAILED
            await self._stop()
        return code

    async def _start(self) -> None:
        await self.supervisor.start(*await asyncio.to_thread(self._layout.engines))
        if self._instance.state.get("undrained"):
            say(f"{_IN_MEMORY}; usage that the last run acknowledged but did not write to the ledger is lost")
        elif self._layout.embedded_broker and "undrained" in self._instance.state:
            say(_IN_MEMORY)
        await self.supervisor.run_once(self._layout.migration(self._key))
        await self.supervisor.start(*self._layout.services())
        # "undrained": should this run end without a drain, the memory of its broker held what is nowhere else.
        self._instance.update(ready=True, undrained=self._layout.embedded_broker, **self._layout.addresses())

    async def _stop(self) -> None:
        undrained = self._instance.state["ready"] and self._layout.embedded_broker
        self._instance.update(ready=False)
        try:
            if undrained and not self.supervisor.given_up.done():
                self._drain = asyncio.create_task(self._write_what_was_acknowledged())
                await asyncio.wait({self._drain})
        finally:
            await self.supervisor.stop()
            self._instance.update(processes={})

    async def _write_what_was_acknowledged(self) -> None:
        """Before the embedded broker ends, what it acknowledged has to be in the ledger."""
        pids, ops = self.supervisor.pids, self._layout.addresses()["ops"]
        await asyncio.gather(*(self.supervisor.stop_one(name) for name in pids if name.startswith("ingest-")))
        if await drained([url for name, url in ops.items() if name.startswith("streams-")], _DRAIN_SECONDS):
            self._instance.update(undrained=False)
        else:
            say(f"the ledger did not take everything within {_DRAIN_SECONDS:g} s")

    def kill(self) -> None:
        """End everything at once."""
        if self._drain is not None:
            self._drain.cancel()
        self.supervisor.kill()

    async def _restarted(self, name: str) -> None:
        if name != "kafka" or not self._layout.embedded_broker:
            return
        say(f"{_IN_MEMORY}; usage that was acknowledged but not yet written to the ledger is lost")
        for attempt in range(1, _MIGRATE_ATTEMPTS + 1):
            try:
                await self.supervisor.run_once(self._layout.migration(self._key))
                return
            except StartFailed as error:
                if attempt == _MIGRATE_ATTEMPTS:
                    raise
                say(str(error))
                await asyncio.sleep(attempt)

    def _write_pids(self) -> None:
        self._instance.update(processes=self.supervisor.pids)
