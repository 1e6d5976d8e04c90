"""Packages with the names of the product's own, which only note what they are told: the system around them is real."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_SERVICE = """
import http.server, json, os, pathlib, signal, sys, threading

SERVICE = {service!r}
data = pathlib.Path(os.environ["TALLYGATE_DATA_DIR"])
ops_port = int(os.environ[f"TALLYGATE_{{SERVICE}}_OPS_PORT"])

def note(**what):
    with (data / "notes").open("a") as notes:
        notes.write(json.dumps({{"service": SERVICE.lower(), "ops_port": ops_port, **what}}) + "\\n")

def end(number, frame):
    note(ended=number)
    threading.Thread(target=server.shutdown).start()

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        metrics = data / "metrics"
        self.send_response(200)
        self.end_headers()
        self.wfile.write(metrics.read_bytes() if self.path == "/metrics" and metrics.exists() else b"")
    def log_message(self, *arguments):
        pass

if (data / f"{{SERVICE.lower()}}-fails").exists():
    sys.exit("cannot read the catalog")
note(pid=os.getpid(), environment={{n: v for n, v in os.environ.items() if n.startswith("TALLYGATE_")}})
signal.signal(signal.SIGTERM, end)
server = http.server.ThreadingHTTPServer(("127.0.0.1", ops_port), Handler)
print(f"{{SERVICE.lower()}} listens", flush=True)
server.serve_forever()
"""
_CLI = """
import json, os, pathlib, sys

data = pathlib.Path(os.environ["TALLYGATE_DATA_DIR"])
if (data / "migrate-fails").exists():
    sys.exit("the schema is newer than this program")
key = os.environ["TALLYGATE_BOOTSTRAP_KEY"]
with (data / "notes").open("a") as notes:
    notes.write(json.dumps({"service": "migrate", "arguments": sys.argv[1:], "key": key}) + "\\n")
"""
_SERVICES = {"ingest": "INGEST", "streams": "STREAMS", "enforcement": "GATE", "console": "CONSOLE"}


def write(folder: Path) -> None:
    """Put the packages into `folder`, which has to be on PYTHONPATH."""
    programs = {package: _SERVICE.format(service=service) for package, service in _SERVICES.items()}
    for package, code in {**programs, "cli": _CLI}.items():
        (folder / package).mkdir(parents=True)
        (folder / package / "__init__.py").touch()
        (folder / package / "__main__.py").write_text(code)


class Notes:
    """What the stand-ins of the system on `data_dir` noted."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / "notes"

    def of(self, service: str, member: str) -> list[Any]:
        """Each `member` that `service` noted, in order."""
        return [note[member] for note in self._all() if note["service"] == service and member in note]

    def ended(self) -> list[str]:
        """The services in the order in which they were told to stop."""
        return [note["service"] for note in self._all() if "ended" in note]

    def _all(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._path.read_text().splitlines()]
