"""What a running system keeps in its data directory: a lock, so that it is the only one there, and `tallygate.json`."""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
import string
from pathlib import Path
from typing import Any

import msgspec

from metering.errors import TallygateError

STATE_FILE = "tallygate.json"
_LOCK_FILE = "lock"
_BASE32 = "abcdefghijklmnopqrstuvwxyz234567"
_ALPHANUMERIC = string.ascii_letters + string.digits
_PATIENCE_SECONDS = 2.0


class AlreadyRunning(TallygateError):
    """Another system works on this data directory."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__(
            f"a system already runs on {data_dir}: `tallygate status --data-dir {data_dir}` shows it. "
            "Stop it first, or choose another --data-dir"
        )


class Unreadable(TallygateError):
    """The state file is there, but nothing that a system wrote."""


class Instance:
    """The only system on `data_dir`. Its processes inherit `lock`, so that none of them can meet a successor."""

    def __init__(self, data_dir: Path, lock: int) -> None:
        self._path = data_dir / STATE_FILE
        self.lock = lock
        self.state: dict[str, Any] = {}

    @classmethod
    async def take(cls, data_dir: Path) -> Instance:
        """Waits for processes of a killed system, which are just ending. Raises AlreadyRunning, Unreadable, OSError."""
        os.makedirs(data_dir, mode=0o700, exist_ok=True)
        lock = os.open(data_dir / _LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            await _hold(lock, data_dir)
            instance = cls(data_dir, lock)
            instance.state = instance._read()
            return instance
        except BaseException:
            os.close(lock)
            raise

    def release(self) -> None:
        """Let another system have the directory."""
        os.close(self.lock)

    def update(self, **changes: Any) -> None:
        """Change members of `tallygate.json`; readers see the old or the new file, never a part; mode 0600."""
        self.state = {**self.state, **changes}
        unfinished = self._path.with_suffix(".new")
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o600)
            file.write(msgspec.json.format(msgspec.json.encode(self.state), indent=2) + b"\n")
            os.fsync(descriptor)
        unfinished.replace(self._path)

    def admin_key(self) -> str:
        """The key with platform scope, made at the first start and kept."""
        if "admin_key" not in self.state:
            self.update(ready=False, admin_key=new_key())
        key: str = self.state["admin_key"]
        return key

    def _read(self) -> dict[str, Any]:
        try:
            state: dict[str, Any] = msgspec.json.decode(self._path.read_bytes(), type=dict[str, Any])
        except FileNotFoundError:
            return {}
        except msgspec.MsgspecError as error:
            raise Unreadable(f"{self._path} was changed by hand: move it away, and a new admin key is made") from error
        return state


async def _hold(lock: int, data_dir: Path) -> None:
    deadline = asyncio.get_running_loop().time() + _PATIENCE_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if asyncio.get_running_loop().time() >= deadline:
                raise AlreadyRunning(data_dir) from None
        await asyncio.sleep(0.05)


def new_key() -> str:
    """`tg_<12 lower base32 characters>_<32 letters and digits>`."""
    identity = "".join(secrets.choice(_BASE32) for _ in range(12))
    secret = "".join(secrets.choice(_ALPHANUMERIC) for _ in range(32))
    return f"tg_{identity}_{secret}"
