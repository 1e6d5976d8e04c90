"""`python -m streams`: one worker."""

from __future__ import annotations

import gc
import logging
import os
import sys
from pathlib import Path

import faust
import uvloop

from metering import settings as settings_reader
from metering.errors import InvalidSettings
from service import logs
from streams.app import build
from streams.settings import PREFIX, Settings
from streams.writer import Probe, no_probe


def run(probe: Probe = no_probe) -> None:
    """Run a worker until SIGTERM or SIGINT."""
    try:
        settings = settings_reader.load(Settings, PREFIX, os.environ)
    except InvalidSettings as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        sys.exit(2)
    logs.configure("streams")
    Path(settings.data_dir).mkdir(parents=True, exist_ok=True)
    uvloop.install()
    # A batch is many small containers that live as long as it does; the default thresholds walk them again and again.
    gc.set_threshold(100_000, 50, 100)
    worker = faust.Worker(
        build(settings, probe), loglevel=logging.WARNING, quiet=True, redirect_stdouts=False, override_logging=False
    )
    worker.execute_from_commandline()


if __name__ == "__main__":
    run()
