"""Run a command with Apache Kafka beside it: `python -m tools.with_kafka BROKERS COMMAND…`.

Sets TALLYGATE_TEST_KAFKA for the command: host:port of each broker, with commas between. Test processes that run side
by side take one each. Where Maven can't be reached the command runs without, and a line says so. What
TALLYGATE_TEST_KAFKA names already is used as it is.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
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
    brokers, command, environment = int(sys.argv[1]), sys.argv[2:], dict(os.environ)
    if environment.get("TALLYGATE_TEST_KAFKA"):
        return subprocess.call(command)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tallygate-kafka-")))
        ports = free_ports(brokers)
        for port in ports:
            try:
                argv = apache_kafka.command(port, folder / str(port))
            except apache_kafka.MavenUnavailable as error:
                print(f"SKIPPED: everything on Apache Kafka, because it can't be had here: {error}", flush=True)
                return subprocess.call(command)
            out = stack.enter_context((folder / f"{port}.out").open("wb"))
            broker = subprocess.Popen(argv, stdout=out, stderr=out)
            stack.callback(broker.wait)
            stack.callback(broker.kill)
        for port in ports:
            if not asyncio.run(_ready(port)):
                print(f"Apache Kafka did not start within {_START_SECONDS} s", file=sys.stderr)
                return 1
        environment["TALLYGATE_TEST_KAFKA"] = ",".join(f"127.0.0.1:{port}" for port in ports)
        print(f"Apache Kafka runs beside: {environment['TALLYGATE_TEST_KAFKA']}", flush=True)
        return subprocess.call(command, env=environment)


if __name__ == "__main__":
    sys.exit(main())
