"""`tallygate settings`: every environment variable that a process reads."""

from __future__ import annotations

from importlib import import_module

import msgspec

from cli import migrate, output
from cli.options import DataDir, Json, examples
from metering.settings import SettingDoc, document

SERVICES = {
    "ingest": "TALLYGATE_INGEST",
    "streams": "TALLYGATE_STREAMS",
    "enforcement": "TALLYGATE_GATE",
    "console": "TALLYGATE_CONSOLE",
}
COMMAND_LINE = (
    SettingDoc("TALLYGATE_URL", "", "the console of the system that commands talk to; it tells where the others are"),
    SettingDoc("TALLYGATE_KEY", "", "the key commands use; goes before the one stored in the data directory"),
)
EXAMPLES = examples("tallygate settings", "tallygate settings --json | jq -r '.settings[].variable'")


def settings(data_dir: DataDir = None, as_json: Json = False) -> None:
    """List all environment variables with their defaults."""
    documented = {
        "command line": list(COMMAND_LINE),
        "migrate": document(migrate.Stores, migrate.PREFIX),
        **{name: service_settings(name) for name in SERVICES},
    }
    listed = [
        {"service": service, "variable": doc.variable, "default": doc.default, "description": doc.description}
        for service, docs in documented.items()
        for doc in docs
    ]
    rows = output.table(None, "variable", "default", "what it sets")
    for service, docs in documented.items():
        rows.add_section()
        rows.add_row(f"[bold]{service}[/]")
        for doc in docs:
            default = "[yellow]required[/]" if doc.default == "required" else output.plain(doc.default)
            rows.add_row(doc.variable, default, output.plain(doc.description))
    output.show({"settings": listed}, as_json, rows)


def service_settings(service: str) -> list[SettingDoc]:
    """The variables of one service."""
    module = import_module(f"{service}.settings")
    declared: type[msgspec.Struct] = module.Settings
    return document(declared, getattr(module, "PREFIX", SERVICES[service]))
