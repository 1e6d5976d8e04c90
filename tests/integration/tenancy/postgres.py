"""A PostgreSQL server of the machine's own package, for the tests that hold on both databases."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from itertools import count
from pathlib import Path

import psutil

from tests.support import free_port

_FOLDERS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
_PROGRAMS = ("postgres", "initdb", "pg_ctl", "createdb")
_USER = "postgres"


def find() -> Path | None:
    """Where its programs are; None if it is not installed."""
    on_path = shutil.which("postgres")
    folders = [*_FOLDERS, *([Path(on_path).resolve().parent] if on_path else [])]
    return next((one for one in folders if all((one / program).exists() for program in _PROGRAMS)), None)


class Postgres:
    """One server with its data in a folder of its own; `database` makes an empty database in it."""

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        self._folder = Path(tempfile.mkdtemp(prefix="tallygate-postgres-"))
        self._port = free_port()
        self._numbers = count(1)
        # The server refuses to run as root.
        self._as = ["setpriv", f"--reuid={_USER}", f"--regid={_USER}", "--clear-groups"] if os.getuid() == 0 else []
        if self._as:
            shutil.chown(self._folder, _USER, _USER)
        self._run("initdb", "--pgdata", str(self._data), "--username", _USER, "--auth", "trust", "--no-sync")
        options = f"-p {self._port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
        log = str(self._folder / "log")
        self._run("pg_ctl", "start", "--wait", "--pgdata", str(self._data), "--log", log, "--options", options)

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def database(self) -> str:
        """The SQLAlchemy URL of a new database."""
        name = f"tallygate_{next(self._numbers)}"
        self._run("createdb", "--host", "127.0.0.1", "--port", str(self._port), "--username", _USER, name)
        return f"postgresql+asyncpg://{_USER}@127.0.0.1:{self._port}/{name}"

    def send(self, number: signal.Signals) -> None:
        """SIGSTOP freezes the server with all its processes, SIGCONT wakes them."""
        server = psutil.Process(int((self._data / "postmaster.pid").read_text().split()[0]))
        for process in (server, *server.children(recursive=True)):
            process.send_signal(number)

    def stop(self) -> None:
        """Stop it and remove its data."""
        self._run("pg_ctl", "stop", "--wait", "--pgdata", str(self._data), "--mode", "immediate")
        shutil.rmtree(self._folder)

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self._as, str(self._programs / program), *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=self._folder)
