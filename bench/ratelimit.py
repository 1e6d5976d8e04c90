"""Envoy's ratelimit on a Valkey of its own: for each tenant a limit an hour and one a day, as its README sets it up."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import msgspec

from bench import pace
from bench.pace import Target
from local import valkey
from local.ports import HOST, free_ports
from local.probes import http_ok
from local.process import ProcessSpec
from local.supervisor import Supervisor

_DOMAIN = "bench"
_CONFIG = f"""domain: {_DOMAIN}
descriptors:
  - key: tenant
    rate_limit: {{unit: hour, requests_per_unit: 10000000}}
  - key: tenant_of_day
    rate_limit: {{unit: day, requests_per_unit: 100000000}}
"""


@asynccontextmanager
async def ratelimit_running(program: Path, tenants: Sequence[str]) -> AsyncIterator[Target]:
    """Start both; checks of all tenants through its HTTP endpoint `/json`."""
    redis_port, port, grpc_port, debug_port = free_ports(4)
    with tempfile.TemporaryDirectory(prefix="tallygate-ratelimit-") as folder:
        data = Path(folder)
        config = data / "runtime" / "config"
        config.mkdir(parents=True)
        (config / "bench.yaml").write_text(_CONFIG)
        environment = {
            **os.environ,
            "HOST": HOST,
            "PORT": str(port),
            "GRPC_HOST": HOST,
            "GRPC_PORT": str(grpc_port),
            "DEBUG_HOST": HOST,
            "DEBUG_PORT": str(debug_port),
            "LOG_LEVEL": "error",
            "USE_STATSD": "false",
            "DISABLE_STATS": "true",
            "REDIS_SOCKET_TYPE": "tcp",
            "REDIS_URL": f"{HOST}:{redis_port}",
            "RUNTIME_ROOT": str(data / "runtime"),
            "RUNTIME_WATCH_ROOT": "false",
        }
        redis = ProcessSpec(
            "redis", valkey.command(redis_port, data / "redis"), os.environ, partial(valkey.ready, redis_port)
        )
        ready = partial(http_ok, f"http://{HOST}:{port}/healthcheck")
        supervisor = Supervisor(data / "logs")
        try:
            await supervisor.start(redis)
            await supervisor.start(ProcessSpec("ratelimit", [str(program)], environment, ready))
            yield _checks(f"{HOST}:{port}", tenants)
        finally:
            await supervisor.stop()


def _checks(address: str, tenants: Sequence[str]) -> Target:
    requests = []
    for name in tenants:
        entries = [[{"key": key, "value": name}] for key in ("tenant", "tenant_of_day")]
        body = {"domain": _DOMAIN, "descriptors": [{"entries": one} for one in entries]}
        requests.append(pace.request("POST", address, "/json", msgspec.json.encode(body)))
    # Protocol buffers' JSON puts a blank behind colons in one process and none in another, on purpose.
    return Target(address, requests, 200, '"limitRemaining"')
