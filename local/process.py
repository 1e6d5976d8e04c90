"""One process under supervision: what to start, its log, its end."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from local.exec_guard import guarded

Probe = Callable[[], Awaitable[bool]]
"""True once the process can do its work. False or any exception: not yet; the exception's text says why."""

_TAIL_LINES = 20
_MAX_LOG_BYTES = 32 * 1024 * 1024
_PROBE_SECONDS = 5.0
_PROBE_INTERVAL = 0.05


@dataclass(frozen=True)
class ProcessSpec:
    """What to start under `name`. `env` is the whole environment; seconds bound the start and the stop."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] = field(repr=False)
    ready: Probe | None = None
    ready_seconds: float = 60.0
    stop_grace_s: float = 10.0


class ProcessLog:
    """`NAME.log` with the process's stdout and stderr, its last lines, and if wanted a copy on this stderr."""

    def __init__(self, path: Path, name: str, echo: bool) -> None:
        self._path = path
        self._prefix = f"{name:<12}| "
        self._echo = echo
        self._file = path.open("ab", buffering=0)
        self._partial = b""
        self._tail: deque[bytes] = deque(maxlen=_TAIL_LINES)

    def write(self, chunk: bytes) -> None:
        """Append what the process said."""
        if self._file.tell() > _MAX_LOG_BYTES:
            self._file.close()
            self._path.replace(self._path.with_suffix(".log.1"))
            self._file = self._path.open("ab", buffering=0)
        self._file.write(chunk)
        *lines, self._partial = (self._partial + chunk).split(b"\n")
        if len(self._partial) > 65_536:
            lines.append(self._partial)
            self._partial = b""
        self._tail.extend(lines)
        if self._echo:
            text = "".join(f"{self._prefix}{line.decode(errors='replace')}\n" for line in lines)
            with suppress(OSError):  # nobody reads stderr any more
                print(text, end="", file=sys.stderr, flush=True)

    def tail(self) -> list[str]:
        """The last lines."""
        lines = [*self._tail, self._partial] if self._partial else self._tail
        return [line.decode(errors="replace") for line in lines]

    def close(self) -> None:
        """No more is written."""
        self._file.close()


class Process:
    """A started process; needs a running event loop in the main thread.

    It leads a session of its own: Ctrl-C on the terminal reaches only the supervisor, and whatever the process leaves
    in its group when it ends is killed.
    """

    def __init__(self, spec: ProcessSpec, log: ProcessLog, inherit: Sequence[int] = ()) -> None:
        self.spec = spec
        self.log = log
        self._loop = asyncio.get_running_loop()
        self._popen = subprocess.Popen(
            guarded(spec.argv),
            env=dict(spec.env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=list(inherit),
        )
        self.pid = self._popen.pid
        self.ended: asyncio.Future[int] = self._loop.create_future()
        self._pidfd = os.pidfd_open(self.pid)
        assert self._popen.stdout is not None
        self._output = self._popen.stdout.fileno()
        os.set_blocking(self._output, False)
        self._loop.add_reader(self._output, self._read)
        self._loop.add_reader(self._pidfd, self._reap)

    def _read(self) -> None:
        while True:
            try:
                chunk = os.read(self._output, 65_536)
            except BlockingIOError:
                return
            if not chunk:
                self._loop.remove_reader(self._output)
                return
            self.log.write(chunk)

    def _reap(self) -> None:
        self._signal_group(signal.SIGKILL)  # before the reaping: until then the group's id can't be anybody else's
        code = self._popen.wait()
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._read()
        self._loop.remove_reader(self._output)
        assert self._popen.stdout is not None
        self._popen.stdout.close()
        self.log.close()
        self.ended.set_result(code)

    async def wait(self) -> int:
        """The exit code, negative for the signal that ended it."""
        return await asyncio.shield(self.ended)

    async def wait_ready(self) -> str | None:
        """None once the probe says yes. Else, after `ready_seconds`, why not. Raises ProcessDied."""
        if self.spec.ready is None:
            return None
        deadline = self._loop.time() + self.spec.ready_seconds
        reason = "not ready"
        while self._loop.time() < deadline:
            if self.ended.done():
                raise ProcessDied(self)
            try:
                # Not wait_for: before Python 3.12 it can swallow the cancellation of who waits here.
                async with asyncio.timeout(_PROBE_SECONDS):
                    ready = await self.spec.ready()
                if ready and not self.ended.done():
                    return None
            except TimeoutError:
                reason = "it does not answer"
            except Exception as error:
                reason = str(error) or repr(error)
            await asyncio.wait({self.ended}, timeout=_PROBE_INTERVAL)
        return reason

    async def stop(self) -> bool:
        """SIGTERM, and SIGKILL after the grace. False if that was needed."""
        if self.ended.done():
            return True
        self._popen.send_signal(signal.SIGTERM)
        self._signal_group(signal.SIGCONT)  # a frozen process does not hear SIGTERM
        await asyncio.wait({self.ended}, timeout=self.spec.stop_grace_s)
        if self.ended.done():
            return True
        self.kill()
        await self.wait()
        return False

    def kill(self) -> None:
        """SIGKILL to it and its group."""
        if not self.ended.done():
            self._signal_group(signal.SIGKILL)

    def _signal_group(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)


class ProcessDied(Exception):
    """A process ended by itself; the message has its last lines."""

    def __init__(self, process: Process) -> None:
        name, code = process.spec.name, process.ended.result()
        lines = "".join(f"\n    {line}" for line in process.log.tail())
        super().__init__(f"{name} {describe_exit(code)} while starting; its last lines:{lines or ' (it said nothing)'}")
        self.name = name
        self.code = code


def describe_exit(code: int) -> str:
    """A sentence's end for an exit code as Popen tells it."""
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"
