"""The emitter processes as the run sees them: started with their jobs, paced, killed, started again on their spools."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from local.process import Process, ProcessLog, ProcessSpec, describe_exit
from tests.chaos.run.emitter import Job, Status


class EmitterDied(Exception):
    """An emitter ended that nobody had killed, or did not answer for everything; the message has its last lines."""


class Emitters:
    """By name. `stop` has to be called."""

    def __init__(self, folder: Path, jobs: Mapping[str, Job]) -> None:
        """Does not start them yet."""
        self._folders = {name: folder / name for name in jobs}
        self._processes: dict[str, Process] = {}
        for name, job in jobs.items():
            self._folders[name].mkdir(parents=True, mode=0o700)
            (self._folders[name] / "job.json").write_bytes(msgspec.json.encode(job))

    @property
    def names(self) -> list[str]:
        """Of all."""
        return list(self._folders)

    def start(self) -> None:
        """Start all."""
        for name in self._folders:
            self._start(name)

    def allow(self, share: float) -> None:
        """Let each emit this share of its events, between 0 and 1."""
        for folder in self._folders.values():
            unfinished = folder / "pace.new"
            unfinished.write_text(repr(share))
            unfinished.replace(folder / "pace")

    async def kill(self, name: str) -> int:
        """SIGKILL, and start its successor. Answers the pid of the one that was killed."""
        killed = self._processes[name]
        killed.kill()
        await killed.wait()
        self._start(name)
        return killed.pid

    def status(self, name: str) -> Status | None:
        """What the process that runs now has said; None before it has. Raises EmitterDied."""
        process = self._processes[name]
        if process.ended.done() and (code := process.ended.result()) != 0:
            raise EmitterDied(f"{name} {describe_exit(code)}: {' / '.join(process.log.tail()[-5:])}")
        try:
            status = msgspec.json.decode((self._folders[name] / "status.json").read_bytes(), type=Status)
        except FileNotFoundError:
            return None
        return status if status.pid == process.pid else None

    def progress(self) -> tuple[int, int]:
        """Events emitted and answered, by what was said last. Raises EmitterDied."""
        said = [status for name in self._folders if (status := self.status(name)) is not None]
        return sum(status.emitted for status in said), sum(status.answered for status in said)

    async def finished(self) -> None:
        """Returns when all have ended. Raises EmitterDied."""
        await asyncio.gather(*(process.wait() for process in self._processes.values()))
        self.progress()

    def refused(self, tenant: str) -> int:
        """How many of the tenant's events the gateway refused."""
        files = [folder / tenant / "refused.ndjson" for folder in self._folders.values()]
        return sum(file.read_bytes().count(b"\n") for file in files if file.exists())

    async def stop(self) -> None:
        """Leave nothing running."""
        for process in self._processes.values():
            process.kill()
        await asyncio.gather(*(process.wait() for process in self._processes.values()))

    def _start(self, name: str) -> None:
        folder = self._folders[name]
        argv = [sys.executable, "-m", "tests.chaos.run.emitter", str(folder)]
        spec = ProcessSpec(name, argv, dict(os.environ))
        self._processes[name] = Process(spec, ProcessLog(folder / "log", name, echo=False))
