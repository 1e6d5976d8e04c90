"""`python -m tests.chaos.run.emitter FOLDER`: sends the slots of some tenants through spools, as far as allowed.

`FOLDER/job.json` says what to send. `FOLDER/pace` holds the share of all slots that may be emitted so far, between 0
and 1, and is read again and again. `FOLDER/status.json` tells how far this process is. Killed at any point, the next
one goes on behind the last event that is in the spool: each slot is emitted once.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import msgspec

from ingest.client import Emitter
from tests.chaos.run.workload import Workload

_AT_ONCE = 100
"""Slots between two chances for the sending."""
_LOOK_SECONDS = 0.05
_SPOOL_BYTES = 256 * 1024 * 1024


class Errand(msgspec.Struct, frozen=True):
    """One tenant's slots. In slot `lost` the slot before is sent again instead; -1: nothing is lost."""

    tenant: str
    key: str
    slots: int
    lost: int = -1


class Job(msgspec.Struct, frozen=True):
    """All that one emitter process has to do."""

    url: str
    seed: int
    now_ms: int
    errands: list[Errand]


class Status(msgspec.Struct, frozen=True):
    """`emitted` events are in the spools or further, `answered` of them were answered by the gateway."""

    pid: int
    emitted: int
    answered: int


class EmitterProcess:
    """One Emitter for each errand."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._job = msgspec.json.decode((folder / "job.json").read_bytes(), type=Job)
        self._emitters: list[Emitter] = []
        self._share = 0.0

    async def run(self) -> None:
        """Returns when everything is answered."""
        self._read_pace()
        for errand in self._job.errands:
            spool = self._folder / errand.tenant
            emitter = Emitter(self._job.url, errand.key, spool=spool, most_bytes=_SPOOL_BYTES, full_seconds=600)
            self._emitters.append(await emitter.open())
        async with asyncio.TaskGroup() as tasks:
            looking = tasks.create_task(self._look())
            async with asyncio.TaskGroup() as errands:
                for errand, emitter in zip(self._job.errands, self._emitters, strict=True):
                    errands.create_task(self._send(errand, emitter))
            looking.cancel()
        self._tell()
        for emitter in self._emitters:
            await emitter.close()

    async def _send(self, errand: Errand, emitter: Emitter) -> None:
        workload = Workload(self._job.seed, errand.tenant, errand.slots, self._job.now_ms)
        while (first := emitter.emitted) < errand.slots:
            allowed = min(int(self._share * errand.slots), first + _AT_ONCE)
            for number in range(first, allowed):
                await emitter.emit_json(workload.line(number - (number == errand.lost)))
            await asyncio.sleep(0 if first < allowed else _LOOK_SECONDS)
        await emitter.flush()

    async def _look(self) -> None:
        while True:
            self._read_pace()
            self._tell()
            await asyncio.sleep(_LOOK_SECONDS)

    def _read_pace(self) -> None:
        self._share = float((self._folder / "pace").read_text())

    def _tell(self) -> None:
        emitted = sum(emitter.emitted for emitter in self._emitters)
        status = Status(os.getpid(), emitted, emitted - sum(emitter.waiting for emitter in self._emitters))
        unfinished = self._folder / "status.new"
        unfinished.write_bytes(msgspec.json.encode(status))
        unfinished.replace(self._folder / "status.json")


if __name__ == "__main__":
    asyncio.run(EmitterProcess(Path(sys.argv[1])).run())
