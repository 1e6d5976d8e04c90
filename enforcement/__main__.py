"""`python -m enforcement`: the gate."""

from __future__ import annotations

import os
import sys

from enforcement import app
from enforcement.at_once import answer_for
from enforcement.settings import PREFIX, Settings
from metering import settings
from metering.clock import SystemClock
from metering.errors import InvalidSettings
from service import run


def main() -> int:
    """Runs until SIGTERM or SIGINT. Exit code 2: wrong settings, every mistake on stderr."""
    try:
        read = settings.load(Settings, PREFIX, os.environ)
    except InvalidSettings as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return 2
    gate = app.build(read, SystemClock())
    run.serve(
        "gate",
        gate,
        read.host,
        read.port,
        ops_port=read.ops_port,
        unix_socket=read.socket,
        drain_seconds=read.drain_seconds,
        answer=answer_for(gate),
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
