"""What a system on this machine consists of: its processes, where they listen, what each is told."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from local import apache_kafka, tansu, valkey
from local.ports import HOST, free_ports, taken_ports
from local.probes import http_ok, kafka_answers
from local.process import Probe, ProcessSpec
from metering.errors import TallygateError

FIXED = {"ingest": 8080, "gate": 8081, "console": 8082, "clickhouse": 8123, "redis": 6379, "kafka": 9092}
_PACKAGES = {"streams": "streams", "gate": "enforcement", "console": "console", "ingest": "ingest"}
"""Service → package, in the order of their start; the last stops first: nothing comes in while the others end."""
_PUBLIC = ("ingest", "gate", "console")
_CLIENTS_ONLY = frozenset({"TALLYGATE_URL", "TALLYGATE_KEY", "TALLYGATE_BOOTSTRAP_KEY", "TALLYGATE_KAFKA_EMBEDDED"})
_PORT_PATIENCE_SECONDS = 2.0
_GRACE_SECONDS = 20.0


@dataclass(frozen=True)
class SystemOptions:
    """`kafka`: None for the embedded broker, "apache" for the one of `make kafka`, else HOST:PORT of one that runs.

    `workers`: processes of "ingest", "streams" and "gate", one each if not said. `partitions`: of a new epoch's log.
    `verbose`: the processes' logs also on stderr.
    """

    data_dir: Path
    ports: Literal["auto", "fixed"] = "fixed"
    kafka: str | None = None
    catalog: Path | None = None
    workers: Mapping[str, int] = field(default_factory=dict)
    partitions: int = 8
    verbose: bool = False


class CannotStart(TallygateError):
    """Nothing was started; the message says what to change."""


class Layout:
    """The processes of one system. `public` and `ops`: ports by the name of the service or process."""

    def __init__(self, options: SystemOptions, public: Mapping[str, int], ops: Mapping[str, int]) -> None:
        self.embedded_broker = options.kafka is None
        self._options = options
        self._public = public
        self._ops = ops
        self._data = options.data_dir.resolve()

    @classmethod
    async def choose(cls, options: SystemOptions) -> Layout:
        """Find the ports. Raises CannotStart when one is taken or the broker at HOST:PORT does not answer."""
        names = list(FIXED)
        if options.kafka not in (None, "apache"):
            names.remove("kafka")
            await _require_broker(options.kafka)
        processes = process_names(options)
        free = free_ports(len(names) + len(processes))
        ops = dict(zip(processes, free, strict=False))
        if options.ports == "auto":
            return cls(options, dict(zip(names, free[len(processes) :], strict=True)), ops)
        fixed = {name: FIXED[name] for name in names}
        taken = await taken_ports(fixed, _PORT_PATIENCE_SECONDS)
        if taken:
            listed = ", ".join(f"{port} ({name})" for name, port in taken.items())
            raise CannotStart(
                f"port {listed} is taken. Stop what listens there, or let free ones be found: --ports auto"
            )
        return cls(options, fixed, ops)

    def addresses(self) -> dict[str, Any]:
        """Name → URL, the broker's host:port, and under "ops" each service process's own URL."""
        return {
            **{name: _http(self._public[name]) for name in _PUBLIC},
            "clickhouse": _http(self._public["clickhouse"]),
            "redis": f"redis://{HOST}:{self._public['redis']}/0",
            "kafka": self._kafka(),
            "ops": {name: _http(port) for name, port in self._ops.items()},
        }

    def engines(self) -> list[ProcessSpec]:
        """What has to run before anything else. Takes seconds where Apache Kafka is fetched; raises TallygateError."""
        engines: dict[str, tuple[list[str], Probe]] = {}
        if "kafka" in self._public:
            broker = tansu if self.embedded_broker else apache_kafka
            port = self._public["kafka"]
            engines["kafka"] = broker.command(port, self._data / "kafka"), partial(broker.ready, port)
        port = self._public["clickhouse"]
        clickhouse = [*_python("local.clickhouse"), "--port", str(port), "--path", str(self._data / "clickhouse")]
        engines["clickhouse"] = clickhouse, partial(http_ok, f"{_http(port)}/ping")
        port = self._public["redis"]
        engines["redis"] = valkey.command(port, self._data / "redis"), partial(valkey.ready, port)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TALLYGATE_")}
        return [
            ProcessSpec(name, argv, environment, ready, stop_grace_s=_GRACE_SECONDS)
            for name, (argv, ready) in engines.items()
        ]

    def migration(self, bootstrap_key: str) -> ProcessSpec:
        """Brings the stores up to date."""
        return ProcessSpec(
            "migrate",
            [*_python("cli"), "migrate", "--partitions", str(self._options.partitions)],
            {**self._environment(), "TALLYGATE_BOOTSTRAP_KEY": bootstrap_key},
        )

    def services(self) -> list[ProcessSpec]:
        """The product's own processes."""
        environment = self._environment()
        return [
            ProcessSpec(
                name,
                _python(_PACKAGES[name.split("-")[0]]),
                {**environment, **self._own(name), f"TALLYGATE_{name.split('-')[0].upper()}_OPS_PORT": str(port)},
                partial(http_ok, f"{_http(port)}/readyz"),
                stop_grace_s=_GRACE_SECONDS,
            )
            for name, port in self._ops.items()
        ]

    def _own(self, name: str) -> dict[str, str]:
        return {"TALLYGATE_GATE_MEMORY": str(self._data / f"{name}.memory")} if name.startswith("gate") else {}

    def _environment(self) -> dict[str, str]:
        ours = {
            "TALLYGATE_KAFKA": self._kafka(),
            "TALLYGATE_CLICKHOUSE": _http(self._public["clickhouse"]),
            "TALLYGATE_REDIS": f"redis://{HOST}:{self._public['redis']}/0",
            "TALLYGATE_SQL": f"sqlite+aiosqlite:///{self._data / 'tallygate.db'}",
            "TALLYGATE_DATA_DIR": str(self._data),
            "PYTHONUNBUFFERED": "1",
        }
        for service in _PUBLIC:
            ours[f"TALLYGATE_{service.upper()}_HOST"] = HOST
            ours[f"TALLYGATE_{service.upper()}_PORT"] = str(self._public[service])
        ours["TALLYGATE_STREAMS_HOST"] = HOST
        ours["TALLYGATE_CONSOLE_INGEST_URL"] = _http(self._public["ingest"])
        ours["TALLYGATE_CONSOLE_GATE_URL"] = _http(self._public["gate"])
        if self._options.catalog is not None:
            ours["TALLYGATE_CATALOG"] = str(self._options.catalog.resolve())
        if self.embedded_broker:
            ours["TALLYGATE_KAFKA_EMBEDDED"] = "1"
        return {**{name: value for name, value in os.environ.items() if name not in _CLIENTS_ONLY}, **ours}

    def _kafka(self) -> str:
        return f"{HOST}:{self._public['kafka']}" if "kafka" in self._public else str(self._options.kafka)


def process_names(options: SystemOptions) -> list[str]:
    """The services' processes in the order of their start."""
    return [
        "console" if service == "console" else f"{service}-{number}"
        for service in _PACKAGES
        for number in range(1 if service == "console" else options.workers.get(service, 1))
    ]


def _http(port: int) -> str:
    return f"http://{HOST}:{port}"


def _python(package: str) -> list[str]:
    # -P: a folder of that name where the command was typed is none of ours.
    return [sys.executable, "-P", "-m", package]


async def _require_broker(address: str | None) -> None:
    host, _, port = str(address).rpartition(":")
    if not host or not port.isdigit():
        raise CannotStart(f"--kafka {address}: HOST:PORT or apache is needed")
    try:
        answers = await kafka_answers(host, int(port))
    except OSError as error:
        raise CannotStart(f"--kafka {address}: no broker answers there ({error})") from error
    if not answers:
        raise CannotStart(f"--kafka {address}: what answers there does not speak Kafka's protocol")
