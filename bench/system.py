"""The system under test: `tallygate up` in a process of its own, with its engines."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CATALOG = Path(__file__).with_name("catalog.yaml")


class System:
    """Addresses, processes and a few calls of the running system."""

    def __init__(self, facts: dict[str, Any], apache: bool) -> None:
        self.facts = facts
        self.broker = "Apache Kafka" if apache else "embedded broker"
        self.key: str = facts["admin_key"]

    def console(self, method: str, path: str, body: Any = None) -> Any:
        """Ask the console."""
        request = urllib.request.Request(
            self.facts["console"] + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read())

    def applied(self) -> int:
        """Records applied, over all partitions."""
        return sum(offset + 1 for offset in self.console("GET", "/v1/applied")["partitions"].values())

    def clickhouse(self, query: str) -> float:
        """One number from the ledger; 0 for a statement that answers nothing."""
        url = self.facts["clickhouse"]
        with urllib.request.urlopen(url, data=query.encode(), timeout=60) as answer:
            return float(answer.read() or 0)

    def signal(self, name: str, number: signal.Signals) -> None:
        """Freeze or wake a process."""
        os.kill(self.facts["processes"][name], number)


@contextmanager
def running() -> Iterator[System]:
    """Start, wait until ready, stop in order. TALLYGATE_TEST_KAFKA names the broker, else the embedded one is used."""
    kafka = os.environ.get("TALLYGATE_TEST_KAFKA")
    with tempfile.TemporaryDirectory(prefix="tallygate-bench-") as folder:
        command = [sys.executable, "-m", "cli", "up", "--json", "--ports", "auto", "--data-dir", folder]
        command += ["--catalog", str(CATALOG), *(["--kafka", kafka] if kafka else [])]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            try:
                assert process.stdout is not None
                line = process.stdout.readline()
                if not line:
                    raise SystemExit("the system did not start; see above")
                yield System(json.loads(line), bool(kafka))
            finally:
                process.send_signal(signal.SIGINT)
                process.wait(timeout=120)
