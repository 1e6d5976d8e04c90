"""`python -m ingest [--workers N]`: the gateway."""

from __future__ import annotations

import argparse
import os
import sys

from ingest import app, settings, workers
from metering.clock import SystemClock
from metering.errors import InvalidSettings
from service import logs, run


def main() -> int:
    """Runs until SIGTERM or SIGINT. Exit code 2: wrong settings, every mistake on stderr."""
    parser = argparse.ArgumentParser(prog="python -m ingest", description="The gateway: usage events to the log.")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes that share the port")
    arguments = parser.parse_args()
    if arguments.workers < 1:
        parser.error("--workers must be at least 1")
    try:
        read = settings.load(os.environ)
    except InvalidSettings as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return 2
    if arguments.workers > 1:
        logs.configure("ingest")
        workers.supervise(arguments.workers, os.environ, read.ops_port, read.drain_seconds + 5)
        return 0
    workers.hold_lifeline(os.environ)
    run.serve(
        "ingest",
        app.build(read, SystemClock()),
        read.host,
        read.port,
        ops_port=read.ops_port,
        drain_seconds=read.drain_seconds,
        auto_decompress=False,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
