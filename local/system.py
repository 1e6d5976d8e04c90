"""A whole Tallygate on this machine: the engines, then the stores brought up to date, then the services."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from local.instance import AlreadyRunning, Instance
from local.layout import CannotStart, Layout
from local.layout import SystemOptions as SystemOptions
from local.supervisor import StartFailed, Supervisor, say
from metering.errors import TallygateError

OK, FAILED, WRONG_USE = 0, 1, 2
_MIGRATE_ATTEMPTS = 3

OnReady = Callable[[dict[str, Any]], None]


async def run_system(options: SystemOptions, on_ready: OnReady, stop: asyncio.Event | None = None) -> int:
    """Start everything, call `on_ready` with what `tallygate.json` says, run until `stop`, stop everything in order.

    Without `stop`, SIGINT and SIGTERM are that; a second one kills what still runs. Cancelling stops it in order too.
    Answers 0; 1 when it could not start or a process kept dying; 2 when the directory or a port is in use. The reason
    is on stderr. Has to run in the main thread.
    """
    try:
        instance = await Instance.take(options.data_dir.resolve())
    except AlreadyRunning as error:
        say(str(error))
        return WRONG_USE
    try:
        system = System(options, instance, await Layout.choose(options))
        if stop is not None:
            return await system.run(on_ready, stop)
        with _signals(stopping := asyncio.Event(), system.supervisor.kill):
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

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


class System:
    """One run of a system."""

    def __init__(self, options: SystemOptions, instance: Instance, layout: Layout) -> None:
        self._instance = instance
        self._layout = layout
        self._key = instance.admin_key()
        self._started_before = "processes" in instance.state
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
            self._instance.update(ready=False)
            await self.supervisor.stop()
        return code

    async def _start(self) -> None:
        await self.supervisor.start(*await asyncio.to_thread(self._layout.engines))
        if self._layout.embedded_broker and self._started_before:
            say(
                "the embedded broker keeps its log in memory: a new epoch begins. If the last run did not end in "
                "order, usage that was acknowledged but not yet written to the ledger is lost"
            )
        await self.supervisor.run_once(self._layout.migration(self._key))
        await self.supervisor.start(*self._layout.services())
        self._instance.update(ready=True, **self._layout.addresses())

    async def _restarted(self, name: str) -> None:
        if name != "kafka" or not self._layout.embedded_broker:
            return
        say(
            "the embedded broker lost its log, which lives in memory: usage that was acknowledged but not yet written "
            "to the ledger is lost; what the ledger has is safe. A new epoch begins"
        )
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
