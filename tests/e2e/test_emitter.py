"""What `emit` returned for arrives, once, though the emitter is killed right behind it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.e2e.system import ROOT, RunningSystem, system_up
from tests.support import wait_until

EMIT = """
import asyncio, sys
from ingest.client import Emitter

async def main():
    url, key, spool, linger, ids = sys.argv[1:]
    emitter = Emitter(url, key, source="/voice", spool=spool, linger_seconds=float(linger))
    async with emitter:
        for id in filter(None, ids.split(",")):
            data = {"duration_seconds": 60, "language": "de", "property": "berlin", "concurrent": 1}
            await emitter.emit({"id": id, "type": "call.completed", "data": data})
            print(id, flush=True)
        if float(linger):
            await asyncio.sleep(3600)

asyncio.run(main())
"""


def _emit(system: RunningSystem, key: str, spool: Path, linger: float, *ids: str) -> subprocess.Popen[bytes]:
    arguments = [system.ready["ingest"], key, str(spool), str(linger), ",".join(ids)]
    return subprocess.Popen([sys.executable, "-c", EMIT, *arguments], cwd=ROOT, stdout=subprocess.PIPE)


def test_an_emitter_killed_after_emit_returned_delivers_once_when_it_is_started_again(tmp_path: Path) -> None:
    with system_up(tmp_path / "data", "--catalog", str(ROOT / "catalog.yaml")) as system:
        assert system.tallygate("tenant", "create", "spooled", "--plan", "starter").code == 0
        key = str(system.tallygate("key", "create", "spooled", "--scope", "ingest,read").json["key"])
        spool = tmp_path / "spool"

        doomed = _emit(system, key, spool, 3600, "a", "b")  # it would send in an hour
        assert doomed.stdout is not None
        assert [doomed.stdout.readline() for _ in range(2)] == [b"a\n", b"b\n"]
        doomed.kill()
        doomed.communicate()
        for ids in ((), ("b", "c"), ()):
            again = _emit(system, key, spool, 0, *ids)
            again.communicate(timeout=60)
            assert again.returncode == 0

        def calls() -> bool:
            usage = system.tallygate("usage", "spooled", "--meter", "voice_calls", key=key).json
            return (usage["meters"]["voice_calls"]["total"], usage["duplicates"]) == ("3", 1)

        wait_until(calls, timeout=30)
