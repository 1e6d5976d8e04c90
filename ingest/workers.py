"""Several gateway processes on one port (SO_REUSEPORT), watched by this one: a dead worker is started again.

No worker outlives its master: each holds the reading end of a pipe that only the master can write to, and stops when
the pipe ends, however the master died.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from types import FrameType

import structlog

LIFELINE = "TALLYGATE_INGEST_LIFELINE"
_log = structlog.get_logger(__name__)
_FIRST_BACKOFF = 0.2
_LONGEST_BACKOFF = 10.0
_STEADY_SECONDS = 30.0
_TICK = 0.1


class Worker:
    """One slot: its process now, and when the next may start."""

    def __init__(self, number: int, environment: dict[str, str], lifeline: int) -> None:
        self.number = number
        self._environment = environment
        self._lifeline = lifeline
        self._backoff = _FIRST_BACKOFF
        self._start_at = 0.0
        self._started_at = 0.0
        self.process: subprocess.Popen[bytes] | None = None

    def tend(self, now: float) -> None:
        """Start it if it does not run and its backoff is over; `now` in monotonic seconds."""
        if self.process is None:
            if now >= self._start_at:
                self.process = subprocess.Popen(
                    [sys.executable, "-m", "ingest"], env=self._environment, pass_fds=[self._lifeline]
                )
                self._started_at = now
            return
        code = self.process.poll()
        if code is None:
            return
        if now - self._started_at > _STEADY_SECONDS:
            self._backoff = _FIRST_BACKOFF
        self._start_at = now + self._backoff
        _log.warning("worker died", worker=self.number, code=code, again_in=self._backoff)
        self._backoff = min(self._backoff * 2, _LONGEST_BACKOFF)
        self.process = None


def supervise(count: int, environment: Mapping[str, str], ops_port: int | None, drain_seconds: float) -> None:
    """Keep `count` workers running until SIGTERM or SIGINT; then let them drain, and kill what does not end.

    Worker i gets the ops port `ops_port` + i.
    """
    reading, writing = os.pipe()
    workers = []
    for number in range(count):
        own = {**environment, LIFELINE: str(reading)}
        if ops_port is not None:
            own["TALLYGATE_INGEST_OPS_PORT"] = str(ops_port + number)
        workers.append(Worker(number, own, reading))
    stop = threading.Event()

    def stopping(number: int, frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, stopping)
    signal.signal(signal.SIGINT, stopping)
    try:
        while not stop.is_set():
            for worker in workers:
                worker.tend(time.monotonic())
            stop.wait(_TICK)
    finally:
        _end([worker.process for worker in workers if worker.process is not None], drain_seconds)
        os.close(writing)
        os.close(reading)


def _end(processes: list[subprocess.Popen[bytes]], drain_seconds: float) -> None:
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + drain_seconds
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def hold_lifeline(environment: Mapping[str, str]) -> None:
    """In a worker: stop as by SIGTERM once the master is gone."""
    text = environment.get(LIFELINE)
    if text is None:
        return
    reading = int(text)

    def watch() -> None:
        os.read(reading, 1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()
