"""Run a command with Apache Kafka beside it: `python -m tools.with_kafka COMMAND…`.

Sets TALLYGATE_TEST_KAFKA for the command. Where Maven can't be reached the command runs without, and a line says so.
A broker that TALLYGATE_TEST_KAFKA names already is used as it is.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from local import apache_kafka
from local.ports import free_ports

_START_SECONDS = 60


async def _ready(port: int) -> bool:
    for _ in range(_START_SECONDS * 10):
        try:
            if await apache_kafka.ready(port):
                return True
        except OSError:
            pass
        await asyncio.sleep(0.1)
    return False


def main() -> int:
    """The command's exit code."""
    command, environment = sys.argv[1:], dict(os.environ)
    if environment.get("TALLYGATE_TEST_KAFKA"):
        return subprocess.call(command)
    with tempfile.TemporaryDirectory(prefix="tallygate-kafka-") as folder:
        port = free_ports(1)[0]
        try:
            argv = apache_kafka.command(port, Path(folder))
        except apache_kafka.MavenUnavailable as error:
            print(f"SKIPPED: everything on Apache Kafka, because it can't be had here: {error}", flush=True)
            return subprocess.call(command)
        with (Path(folder) / "out").open("wb") as out, subprocess.Popen(argv, stdout=out, stderr=out) as broker:
            try:
                if not asyncio.run(_ready(port)):
                    print(f"Apache Kafka did not start within {_START_SECONDS} s", file=sys.stderr)
                    return 1
                print(f"Apache Kafka runs beside: 127.0.0.1:{port}", flush=True)
                environment["TALLYGATE_TEST_KAFKA"] = f"127.0.0.1:{port}"
                return subprocess.call(command, env=environment)
            finally:
                broker.kill()


if __name__ == "__main__":
    sys.exit(main())
