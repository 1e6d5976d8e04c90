"""The README's two commands on a fresh clone with an empty home directory; nothing is left running afterwards."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from uuid import uuid4

import psutil
import pytest

from tests.e2e.system import ROOT

_MARK = "TALLYGATE_FRESH_CLONE"
_SECONDS = 600


def _still_running(mark: str) -> list[str]:
    """Processes that were started by the commands, whatever became of their parents."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(_MARK) == mark:
                found.append(" ".join(process.cmdline()))
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


@pytest.mark.skipif(not (ROOT / ".git").exists() or shutil.which("git") is None, reason="this is no git checkout")
def test_the_two_commands_of_the_readme_work_and_leave_nothing_running(tmp_path: Path) -> None:
    clone, home, mark = tmp_path / "clone", tmp_path / "home", uuid4().hex
    home.mkdir()
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    ours = {"TALLYGATE_TEST_KAFKA"}  # a broker that is there serves this one too
    kept = {name: value for name, value in os.environ.items() if name in ours or not name.startswith("TALLYGATE_")}
    environment = {**kept, "HOME": str(home), "TMPDIR": str(tmp_path), _MARK: mark}
    # The second one runs all tests where it is not told which; this test is one of them.
    for command in (["make", "demo"], ["make", "test", "TESTS=tests/unit/metering"]):
        done = subprocess.run(
            command, cwd=clone, env=environment, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
        assert done.returncode == 0, f"{command}: {done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        assert _still_running(mark) == []
