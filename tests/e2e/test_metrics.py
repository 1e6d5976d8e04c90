"""docs/metrics.md names what the processes of a running system expose, no more and no less."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.system import ROOT, RunningSystem, system_up
from tests.support import wait_until


def documented() -> dict[str, dict[str, str]]:
    """Section → name → type, from the page's tables."""
    sections: dict[str, dict[str, str]] = {}
    for line in (ROOT / "docs" / "metrics.md").read_text().splitlines():
        if line.startswith("## "):
            section = sections.setdefault(line[3:], {})
        elif row := re.match(r"\| `(tallygate_\w+)` \| (\w+) \|", line):
            section[row[1]] = row[2]
    return sections


def exposed(url: str) -> dict[str, str]:
    """Name → type of what a process counts by itself."""
    with urlopen(url + "/metrics", timeout=10) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    return {
        family.name + ("_total" if family.type == "counter" else ""): family.type
        for family in families
        if family.name.startswith("tallygate_") and not family.name.endswith("_created")
    }


def _writers(system: RunningSystem) -> Any:
    return system.tallygate("status").json["writers"]


def test_the_page_of_metrics_is_what_the_processes_expose(tmp_path: Path) -> None:
    with system_up(tmp_path / "data") as system:
        found = {name.split("-")[0]: exposed(url) for name, url in system.ready["ops"].items()}
        wait_until(lambda: len(_writers(system)["streams-0"]["partitions"]) == 8, timeout=20)
    sections = documented()
    for process, section in (
        ("ingest", "ingest"),
        ("streams", "streams"),
        ("gate", "enforcement"),
        ("console", "console"),
    ):
        assert found[process] == sections[section], process
