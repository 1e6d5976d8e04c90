"""A system's start, life and end: the engines are real, the services are stand-ins."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from local import drain, layout
from local.instance import STATE_FILE
from local.ports import free_ports
from local.system import SystemOptions, run_system
from tests.integration.local import stand_ins
from tests.integration.local.programs import alive
from tests.integration.local.stand_ins import Notes
from tests.support import eventually, wait_until

ROOT = Path(__file__).parents[3]
PROCESSES = ["kafka", "clickhouse", "redis", "streams-0", "gate-0", "console", "ingest-0"]


@pytest.fixture(autouse=True)
def standing_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_ins.write(tmp_path / "packages")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "packages"))
    monkeypatch.setattr(drain, "_SETTLED_SECONDS", 0.1)  # the stand-ins' metrics are never old


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


class Running:
    """A system in this process."""

    def __init__(self, data_dir: Path, ready: dict[str, Any], stop: asyncio.Event, task: asyncio.Task[int]) -> None:
        self.data_dir = data_dir
        self.ready = ready
        self.task = task
        self._stop = stop

    async def stop(self) -> int:
        self._stop.set()
        return await self.task

    @property
    def pids(self) -> dict[str, int]:
        pids: dict[str, int] = read_state(self.data_dir)["processes"]
        return pids


def read_state(data_dir: Path) -> dict[str, Any]:
    state: dict[str, Any] = json.loads((data_dir / STATE_FILE).read_text())
    return state


def notes(data_dir: Path) -> Notes:
    return Notes(data_dir)


@asynccontextmanager
async def running(options: SystemOptions) -> AsyncIterator[Running]:
    stop = asyncio.Event()
    ready: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(run_system(options, ready.set_result, stop))
    try:
        await asyncio.wait({ready, task}, return_when=asyncio.FIRST_COMPLETED)  # type: ignore[type-var]
        assert ready.done(), f"it ended with {task.result()}"
        yield Running(options.data_dir, ready.result(), stop, task)
    finally:
        stop.set()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_system_says_where_everything_is_and_leaves_that_with_its_key_for_its_owner_only(data: Path) -> None:
    async with running(SystemOptions(data, ports="auto")) as system:
        state = read_state(data)
        assert state == system.ready
        assert state["ready"] is True
        assert list(state["processes"]) == PROCESSES
        assert all(map(alive, state["processes"].values()))
        assert list(state["ops"]) == ["streams-0", "gate-0", "console", "ingest-0"]
        assert re.fullmatch(r"tg_[a-z2-7]{12}_[A-Za-z0-9]{32}", state["admin_key"])
        for name in ("ingest", "gate", "console", "clickhouse"):
            assert re.fullmatch(r"http://127\.0\.0\.1:\d+", state[name])
        assert re.fullmatch(r"127\.0\.0\.1:\d+", state["kafka"])
        assert stat.S_IMODE((data / STATE_FILE).stat().st_mode) == 0o600
    assert read_state(data)["ready"] is False
    assert not any(map(alive, state["processes"].values()))


async def test_the_admin_key_reaches_only_the_migration_and_stays_for_the_next_start(data: Path) -> None:
    keys = []
    for _ in range(2):
        async with running(SystemOptions(data, ports="auto", partitions=3)) as system:
            keys.append(system.ready["admin_key"])
            for pid in system.pids.values():
                assert keys[0] not in told_at_start(pid)
    assert keys[0] == keys[1]
    assert notes(data).of("migrate", "key") == keys
    assert notes(data).of("migrate", "arguments") == [["migrate", "--partitions", "3"]] * 2
    assert all(keys[0] not in log.read_text() for log in (data / "logs").iterdir())


async def test_each_service_is_told_where_the_engines_and_itself_are(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TALLYGATE_KEY", "a client's own")
    monkeypatch.setenv("TALLYGATE_INGEST_MAX_EVENTS", "500")
    catalog = tmp_path / "catalog.yaml"
    catalog.touch()
    async with running(SystemOptions(data, ports="auto", catalog=catalog, workers={"ingest": 2})) as system:
        ready = system.ready
        told = notes(data).of("ingest", "environment")
        assert len(told) == 2
        for environment in told:
            assert environment["TALLYGATE_KAFKA"] == ready["kafka"]
            assert environment["TALLYGATE_CLICKHOUSE"] == ready["clickhouse"]
            assert environment["TALLYGATE_REDIS"] == ready["redis"]
            assert environment["TALLYGATE_SQL"] == f"sqlite+aiosqlite:///{data}/tallygate.db"
            assert environment["TALLYGATE_CATALOG"] == str(catalog)
            assert environment["TALLYGATE_KAFKA_EMBEDDED"] == "1"
            assert environment["TALLYGATE_INGEST_MAX_EVENTS"] == "500"
            assert f"http://127.0.0.1:{environment['TALLYGATE_INGEST_PORT']}" == ready["ingest"]
            assert "TALLYGATE_KEY" not in environment
        assert {f"http://127.0.0.1:{port}" for port in notes(data).of("ingest", "ops_port")} == {
            ready["ops"]["ingest-0"],
            ready["ops"]["ingest-1"],
        }
        [console] = notes(data).of("console", "environment")
        assert console["TALLYGATE_CONSOLE_INGEST_URL"] == ready["ingest"]
        assert console["TALLYGATE_CONSOLE_GATE_URL"] == ready["gate"]


async def test_the_gateway_stops_first_and_the_writer_last(data: Path) -> None:
    async with running(SystemOptions(data, ports="auto")) as system:
        assert await system.stop() == 0
    assert notes(data).ended() == ["ingest", "console", "gate", "streams"]


async def test_a_stop_waits_until_the_writer_has_what_the_embedded_broker_holds(data: Path) -> None:
    metrics = (
        'tallygate_writer_lag_records{{partition="usage.events.1/0"}} 5.0\n'
        'tallygate_writer_lag_records{{partition="usage.events.2/0"}} {lag}\n'
        "tallygate_writer_frames_total {frames}\n"
    )
    async with running(SystemOptions(data, ports="auto")) as system:
        (data / "metrics").write_text(metrics.format(lag="3.0", frames="10.0"))
        stopping = asyncio.create_task(system.stop())
        await eventually(lambda: notes(data).ended() == ["ingest"])
        await asyncio.wait({stopping}, timeout=0.6)
        assert notes(data).ended() == ["ingest"]
        assert read_state(data)["undrained"] is True
        (data / "metrics").write_text(metrics.format(lag="0.0", frames="13.0"))
        assert await stopping == 0
    assert read_state(data)["undrained"] is False


async def test_a_process_that_dies_is_started_again_and_its_pid_told(data: Path) -> None:
    async with running(SystemOptions(data, ports="auto")) as system:
        before = system.pids
        os.kill(before["gate-0"], signal.SIGKILL)
        after = await eventually(lambda: system.pids["gate-0"] != before["gate-0"] and system.pids)
        await eventually(lambda: notes(data).of("gate", "pid") == [before["gate-0"], after["gate-0"]])
        assert {name for name in before if before[name] != after[name]} == {"gate-0"}
        assert len(notes(data).of("migrate", "key")) == 1


async def test_an_embedded_broker_that_died_begins_a_new_epoch_and_says_what_may_be_lost(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with running(SystemOptions(data, ports="auto")) as system:
        os.kill(system.pids["kafka"], signal.SIGKILL)
        await eventually(lambda: len(notes(data).of("migrate", "key")) == 2)
    said = capsys.readouterr().err
    assert "kafka was ended by SIGKILL" in said
    assert "a new epoch begins; usage that was acknowledged but not yet written to the ledger is lost" in said


async def test_a_service_that_keeps_dying_ends_the_system_with_its_last_lines(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with running(SystemOptions(data, ports="auto")) as system:
        pids = system.pids
        (data / "gate-fails").touch()
        os.kill(pids["gate-0"], signal.SIGKILL)
        assert await asyncio.wait_for(system.task, 60) == 1
        assert not any(map(alive, pids.values()))
    said = capsys.readouterr().err
    assert "giving up: gate-0 exited with code 1, the 5th time within 60 s" in said
    assert "cannot read the catalog" in said


@pytest.mark.parametrize(
    ("fails", "said"),
    [("migrate", "the schema is newer than this program"), ("streams", "cannot read the catalog")],
)
async def test_a_system_that_cannot_start_says_why_and_leaves_nothing(
    data: Path, fails: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make(data / f"{fails}-fails")
    assert await run_system(SystemOptions(data, ports="auto"), lambda ready: None, asyncio.Event()) == 1
    error = capsys.readouterr().err
    assert "could not start" in error
    assert said in error
    assert processes_on(data) == []


async def test_a_second_system_on_the_same_directory_is_refused(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with running(SystemOptions(data, ports="auto")) as system:
        before = read_state(data)
        assert await run_system(SystemOptions(data, ports="auto"), lambda ready: None, asyncio.Event()) == 2
        assert f"a system already runs on {data}" in capsys.readouterr().err
        assert read_state(data) == before
        assert all(map(alive, system.pids.values()))


async def test_a_taken_port_is_named_and_nothing_is_started(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ports = free_ports(len(layout.FIXED))
    monkeypatch.setattr(layout, "FIXED", dict(zip(layout.FIXED, ports, strict=True)))
    taken = layout.FIXED["gate"]
    with socket.create_server(("127.0.0.1", taken)):
        assert await run_system(SystemOptions(data), lambda ready: None, asyncio.Event()) == 2
    said = capsys.readouterr().err
    assert f"port {taken} (gate) is taken" in said
    assert "--ports auto" in said
    assert processes_on(data) == []


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nonsense"])
async def test_a_broker_that_does_not_answer_is_told_before_anything_starts(
    data: Path, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = SystemOptions(data, ports="auto", kafka=address)
    assert await run_system(options, lambda ready: None, asyncio.Event()) == 2
    assert f"--kafka {address}" in capsys.readouterr().err


async def test_a_broker_that_is_there_is_used_and_left_alone(data: Path, tmp_path: Path) -> None:
    async with running(SystemOptions(tmp_path / "other", ports="auto")) as other:
        async with running(SystemOptions(data, ports="auto", kafka=other.ready["kafka"])) as system:
            assert system.ready["kafka"] == other.ready["kafka"]
            assert "kafka" not in system.ready["processes"]
            [environment] = notes(data).of("ingest", "environment")
            assert "TALLYGATE_KAFKA_EMBEDDED" not in environment
        assert alive(other.pids["kafka"])


_RUN = """
import asyncio, json, sys
from pathlib import Path
from local.system import SystemOptions, run_system

def ready(state):
    print(json.dumps(state), flush=True)

sys.exit(asyncio.run(run_system(SystemOptions(Path(sys.argv[1]), ports="auto"), ready)))
"""


@contextmanager
def in_a_process(data_dir: Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, int]]]:
    """A system in a process of its own, and the pids of its processes."""
    command = [sys.executable, "-c", _RUN, str(data_dir)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, json.loads(process.stdout.readline())["processes"]
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_the_system_in_order(data: Path, number: signal.Signals) -> None:
    with in_a_process(data) as (process, pids):
        process.send_signal(number)
        assert process.wait(60) == 0
        assert not any(map(alive, pids.values()))
    assert notes(data).ended() == ["ingest", "console", "gate", "streams"]


def test_a_second_signal_kills_what_still_runs(data: Path) -> None:
    with in_a_process(data) as (process, pids):
        os.kill(pids["ingest-0"], signal.SIGSTOP)
        (data / "metrics").write_text('tallygate_writer_lag_records{partition="usage.events.1/0"} 3.0\n')
        process.send_signal(signal.SIGINT)
        wait_until(lambda: notes(data).ended() == ["ingest"])
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
        assert not any(map(alive, pids.values()))
    assert notes(data).ended() == ["ingest"]


def test_nothing_survives_sigkill_of_the_system_and_the_next_one_starts_at_once(data: Path) -> None:
    with in_a_process(data) as (process, pids):
        process.kill()
        process.wait()
        wait_until(lambda: not any(map(alive, pids.values())), what="all processes gone")
    with in_a_process(data) as (process, pids):
        assert list(pids) == PROCESSES
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def make(mark: Path) -> None:
    """An empty file, and its folder."""
    mark.parent.mkdir()
    mark.touch()


def told_at_start(pid: int) -> str:
    """A process's command line and environment."""
    folder = Path(f"/proc/{pid}")
    return ((folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()).decode(errors="replace")


def processes_on(data_dir: Path) -> list[int]:
    """Processes whose command line or environment names the directory."""
    found = []
    for pid in (int(folder.name) for folder in Path("/proc").glob("[0-9]*")):
        with suppress(OSError):
            if pid != os.getpid() and str(data_dir) in told_at_start(pid):
                found.append(pid)
    return found
