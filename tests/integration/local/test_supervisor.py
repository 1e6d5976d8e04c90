"""Processes under the supervisor: started, started again, given up, stopped in order, never left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from local.supervisor import RestartPolicy, StartFailed, Supervisor
from tests.integration.local.programs import alive, noting_its_end, serving
from tests.support import eventually, wait_until

ROOT = Path(__file__).parents[3]


@asynccontextmanager
async def supervising(folder: Path, **options: Any) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(folder / "logs", **options)
    try:
        yield supervisor
    finally:
        await supervisor.stop()


async def test_a_process_that_dies_is_started_again_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    back: list[str] = []

    async def note(name: str) -> None:
        back.append(name)

    async with supervising(tmp_path, on_restart=note) as supervisor:
        await supervisor.start(serving("worker", tmp_path))
        first = supervisor.pids["worker"]
        os.kill(first, signal.SIGKILL)
        await eventually(lambda: back == ["worker"])
        second = supervisor.pids["worker"]
        assert second != first
        assert alive(second)
        assert not alive(first)
    said = capsys.readouterr().err
    assert "worker was ended by SIGKILL; starting it again" in said
    assert f"worker is back, pid {second}" in said


async def test_pids_are_told_whenever_they_change(tmp_path: Path) -> None:
    changes: list[None] = []
    async with supervising(tmp_path, on_change=partial(changes.append, None)) as supervisor:
        await supervisor.start(serving("worker", tmp_path))
        assert len(changes) == 1
        first = supervisor.pids["worker"]
        os.kill(first, signal.SIGKILL)
        await eventually(lambda: len(changes) == 2)
        assert supervisor.pids["worker"] != first


@pytest.mark.parametrize("attempt", range(5))
async def test_stopping_while_a_process_is_coming_back_leaves_nothing(tmp_path: Path, attempt: int) -> None:
    """Several times, as close as can be to the moment in which it becomes ready."""
    async with asyncio.timeout(20), supervising(tmp_path) as supervisor:
        await supervisor.start(serving("worker", tmp_path))
        first = supervisor.pids["worker"]
        os.kill(first, signal.SIGKILL)
        mark = tmp_path / "worker.pid"
        await eventually(lambda: mark.read_text() not in ("", str(first)), interval=0.001)
        await supervisor.stop()
        assert not alive(supervisor.pids["worker"])


async def test_a_process_that_keeps_dying_is_given_up_with_its_last_lines(tmp_path: Path) -> None:
    policy = RestartPolicy(first_delay=0.01, deaths=3)
    async with supervising(tmp_path, policy=policy) as supervisor:
        marker = tmp_path / "started"
        dies = f"""
if os.path.exists({str(marker)!r}): sys.exit("the disk is full")
open({str(marker)!r}, "w").close()
"""
        await supervisor.start(serving("worker", tmp_path, dies))
        os.kill(supervisor.pids["worker"], signal.SIGKILL)
        reason = await eventually(lambda: supervisor.given_up.done() and supervisor.given_up.result())
        assert "worker" in reason
        assert "the disk is full" in reason


async def test_a_process_that_dies_while_starting_is_reported_with_its_last_lines(tmp_path: Path) -> None:
    async with supervising(tmp_path) as supervisor:
        with pytest.raises(StartFailed, match=r"(?s)worker exited with code 1.*no such catalog"):
            await supervisor.start(serving("worker", tmp_path, 'sys.exit("no such catalog")'))


async def test_a_process_that_does_not_become_ready_is_reported(tmp_path: Path) -> None:
    async def never() -> bool:
        return False

    async with supervising(tmp_path) as supervisor:
        with pytest.raises(StartFailed, match=r"worker was not ready within 0\.3 s"):
            await supervisor.start(replace(serving("worker", tmp_path), ready=never, ready_seconds=0.3))


async def test_a_program_that_is_not_there_is_reported(tmp_path: Path) -> None:
    async with supervising(tmp_path) as supervisor:
        with pytest.raises(StartFailed, match="no-such-program"):
            await supervisor.start(replace(serving("worker", tmp_path), argv=["/no-such-program"]))


async def test_processes_stop_in_the_reverse_order_of_their_start(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    async with supervising(tmp_path) as supervisor:
        for name in ("kafka", "streams", "ingest"):
            await supervisor.start(noting_its_end(name, tmp_path, journal))
        await supervisor.stop()
        assert journal.read_text().split() == ["ingest", "streams", "kafka"]


async def test_a_process_that_ignores_sigterm_is_killed_after_its_grace(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with supervising(tmp_path) as supervisor:
        deaf = serving("deaf", tmp_path, "signal.signal(signal.SIGTERM, signal.SIG_IGN)")
        await supervisor.start(replace(deaf, stop_grace_s=0.2))
        pid = supervisor.pids["deaf"]
        await supervisor.stop()
        assert not alive(pid)
    assert "deaf did not stop within 0.2 s and was killed" in capsys.readouterr().err


async def test_a_frozen_process_stops_too(tmp_path: Path) -> None:
    async with supervising(tmp_path) as supervisor:
        await supervisor.start(serving("frozen", tmp_path))
        pid = supervisor.pids["frozen"]
        os.kill(pid, signal.SIGSTOP)
        await supervisor.stop()
        assert not alive(pid)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_what_a_process_has_forked_ends_with_it(tmp_path: Path, number: signal.Signals) -> None:
    child = tmp_path / "child.pid"
    forks = f"""
if os.fork() == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    pathlib.Path({str(child)!r}).write_text(str(os.getpid()))
    while True: signal.pause()
while not pathlib.Path({str(child)!r}).exists() or not pathlib.Path({str(child)!r}).read_text(): time.sleep(0.01)
"""
    async with supervising(tmp_path) as supervisor:
        await supervisor.start(serving("forking", tmp_path, forks))
        first, forked = supervisor.pids["forking"], int(child.read_text())
        assert alive(forked)
        child.unlink()
        os.kill(first, number)
        await eventually(lambda: not alive(first) and not alive(forked))


async def test_what_a_process_says_is_kept_in_its_log_over_restarts(tmp_path: Path) -> None:
    async with supervising(tmp_path) as supervisor:
        await supervisor.start(serving("worker", tmp_path, 'print("hello from", os.getpid(), flush=True)'))
        first = supervisor.pids["worker"]
        os.kill(first, signal.SIGKILL)
        log = tmp_path / "logs" / "worker.log"
        await eventually(lambda: log.read_text().count("hello from") == 2)
        assert log.read_text().split() == ["hello", "from", str(first), "hello", "from", str(supervisor.pids["worker"])]


async def test_a_one_shot_that_fails_is_reported_with_its_last_lines(tmp_path: Path) -> None:
    async with supervising(tmp_path) as supervisor:
        await supervisor.run_once(replace(serving("good", tmp_path), argv=[sys.executable, "-c", ""], ready=None))
        bad = [sys.executable, "-c", "raise SystemExit('wrong schema')"]
        with pytest.raises(StartFailed, match=r"(?s)migrate exited with code 1.*wrong schema"):
            await supervisor.run_once(replace(serving("migrate", tmp_path), argv=bad, ready=None))


_SUPERVISE = """
import asyncio, sys
from pathlib import Path
from local.supervisor import Supervisor
from tests.integration.local.programs import serving

async def main():
    folder = Path(sys.argv[1])
    supervisor = Supervisor(folder / "logs")
    deaf = "signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    await supervisor.start(*(serving(name, folder, deaf) for name in ("one", "two", "three")))
    print(*supervisor.pids.values(), flush=True)
    await asyncio.sleep(3600)

asyncio.run(main())
"""


def test_nothing_survives_sigkill_of_the_supervisor(tmp_path: Path) -> None:
    supervisor = subprocess.Popen(
        [sys.executable, "-c", _SUPERVISE, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert supervisor.stdout is not None
        pids = [int(word) for word in supervisor.stdout.readline().split()]
        assert len(pids) == 3
        assert all(map(alive, pids))
    finally:
        supervisor.kill()
        supervisor.communicate()
    wait_until(lambda: not any(map(alive, pids)), what="all processes gone")
