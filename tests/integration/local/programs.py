"""Small programs to supervise."""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from local.process import ProcessSpec

_BEGIN = "import os, pathlib, signal, sys, time\n"
_SERVE = """
pathlib.Path(sys.argv[1]).write_text(str(os.getpid()))
while True: signal.pause()
"""
_NOTE_THE_END = """
def end(number, frame):
    with open(sys.argv[2], "a") as journal: journal.write(sys.argv[3] + "\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
"""


def serving(name: str, folder: Path, before: str = "") -> ProcessSpec:
    """Ready once it has written its pid to `NAME.pid`; runs until it is ended. `before`: what it does at first."""
    mark = folder / f"{name}.pid"
    return _program(name, _BEGIN + before + _SERVE, [str(mark)], _written_by_a_living_process(mark))


def noting_its_end(name: str, folder: Path, journal: Path) -> ProcessSpec:
    """Like `serving`; when told to stop, it appends its name to `journal`."""
    mark = folder / f"{name}.pid"
    arguments = [str(mark), str(journal), name]
    return _program(name, _BEGIN + _NOTE_THE_END + _SERVE, arguments, _written_by_a_living_process(mark))


def _program(name: str, code: str, arguments: list[str], ready: Callable[[], Awaitable[bool]]) -> ProcessSpec:
    argv = [sys.executable, "-I", "-S", "-c", code, *arguments]
    return ProcessSpec(name, argv, dict(os.environ), ready, ready_seconds=20, stop_grace_s=5)


def _written_by_a_living_process(mark: Path) -> Callable[[], Awaitable[bool]]:
    async def ready() -> bool:
        return alive(int(mark.read_text()))  # noqa: ASYNC240 (a few bytes)

    return ready


def alive(pid: int) -> bool:
    """Whether a process runs: neither gone nor waiting to be reaped."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"
