"""The real command as a user runs it: `tallygate up` in a process of its own, and the other verbs against it."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from tests.support import wait_until

ROOT = Path(__file__).parents[2]
READY_SECONDS = 90
STOP_SECONDS = 45


class Ran(NamedTuple):
    """How a command ended; `json` is its stdout decoded, None if it is no JSON."""

    code: int
    json: Any
    stdout: str
    stderr: str


class RunningSystem:
    """A system that `tallygate up --json` said was ready."""

    def __init__(self, data_dir: Path, ready: dict[str, Any]) -> None:
        self.data_dir = data_dir
        self.ready = ready

    def tallygate(self, *arguments: str, key: str | None = None, timeout: float = 120) -> Ran:
        """Run a verb with --json against this system."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TALLYGATE_")}
        if key is not None:
            environment["TALLYGATE_KEY"] = key
        return run_tallygate(*arguments, "--data-dir", str(self.data_dir), environment=environment, timeout=timeout)


def run_tallygate(*arguments: str, environment: dict[str, str] | None = None, timeout: float = 120) -> Ran:
    """Run one command to its end, with --json."""
    done = subprocess.run(
        [sys.executable, "-m", "cli", *arguments, "--json"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    try:
        decoded = json.loads(done.stdout)
    except ValueError:
        decoded = None
    return Ran(done.returncode, decoded, done.stdout, done.stderr)


@contextmanager
def system_up(data_dir: Path, *options: str) -> Iterator[RunningSystem]:
    """`tallygate up --json --ports auto` until the block ends, then Ctrl-C; nothing may be left running."""
    command = [sys.executable, "-m", "cli", "up", "--json", "--ports", "auto", "--data-dir", str(data_dir), *options]
    log = data_dir.with_suffix(".log")
    with log.open("wb") as errors:
        up = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, start_new_session=True)
        try:
            ready = _first_line(up, log)
            try:
                yield RunningSystem(data_dir, ready)
            finally:
                up.send_signal(signal.SIGINT)
                code = up.wait(STOP_SECONDS)
            assert code in (0, 130), f"up ended with {code}: {_tail(log)}"
            wait_until(lambda: not _alive(ready), what="all processes gone")
        finally:
            if up.poll() is None:
                up.kill()
                up.wait()


def _first_line(up: subprocess.Popen[bytes], log: Path) -> dict[str, Any]:
    assert up.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(up.stdout, selectors.EVENT_READ)
        deadline = time.monotonic() + READY_SECONDS
        while selector.select(max(0, deadline - time.monotonic())):
            line = up.stdout.readline()
            if line.startswith(b"{"):
                ready: dict[str, Any] = json.loads(line)
                assert ready["ready"] is True
                return ready
            if not line:
                break
    raise AssertionError(f"the system was not ready within {READY_SECONDS} s: {_tail(log)}")


def _alive(ready: dict[str, Any]) -> list[int]:
    return [
        pid
        for pid in ready["processes"].values()
        if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    ]


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-4000:]
