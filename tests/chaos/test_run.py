"""The chaos run in short: each kind of process is killed once, totals stay exact, and a lost event would be noticed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.chaos.run.killer import KINDS
from tests.e2e.system import ROOT
from tests.engines import APACHE
from tests.support import heed_ctrl_c, wait_until

SHORT_SECONDS = 240
EMBEDDED = ("--kafka", "embedded")


def _run(*options: str) -> tuple[int, Any, str]:
    """Exit code, result, stderr."""
    command = [sys.executable, "-m", "tests.chaos.run", "--json", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SHORT_SECONDS)
    return done.returncode, json.loads(done.stdout) if done.stdout else None, done.stderr


def _left_behind(folders: set[Path]) -> list[str]:
    """Processes and folders of a run that is over; `folders` were there before it."""
    commands = [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]
    new = [str(path) for path in _folders() - folders]
    return new + [command for command in commands if any(path in command for path in new)]


def _folders() -> set[Path]:
    return set(Path(tempfile.gettempdir()).glob("tallygate-chaos-*"))


@pytest.mark.parametrize("kafka", ["apache" if APACHE else "embedded"])
def test_totals_stay_exact_while_each_kind_of_process_is_killed(kafka: str) -> None:
    before = _folders()
    code, result, errors = _run("--events", "120000", "--seed", "20", "--each", "1", "--kafka", kafka)

    assert code == 0, (errors, [row for row in result["meters"] + result["totals"] if not row["agrees"]])
    assert {kill["kind"] for kill in result["kills"]} == set(KINDS) - ({"kafka"} if kafka == "embedded" else set())
    assert all(row["voided"][0] > 0 and row["duplicates"][0] > 0 for row in result["totals"])
    assert _left_behind(before) == []


def test_a_lost_event_makes_the_run_fail() -> None:
    code, result, errors = _run("--events", "12000", "--seed", "20", "--each", "0", "--plant-loss", *EMBEDDED)

    assert code == 1, errors
    assert {row["tenant"] for row in result["totals"] if not row["agrees"]} == {"hotel-00"}
    wrong = [row for row in result["meters"] if not row["agrees"]]
    assert wrong
    assert {row["tenant"] for row in wrong} == {"hotel-00"}
    assert any(row["ledger"] != row["account"] for row in wrong)
    assert any(row["counter"] != row["counter_account"] for row in wrong)


def test_ctrl_c_ends_the_run_and_leaves_nothing_behind(tmp_path: Path) -> None:
    before = _folders()
    command = [sys.executable, "-m", "tests.chaos.run", "--events", "1000000", "--seed", "20", *EMBEDDED]
    with (tmp_path / "stderr").open("w") as errors:
        run = subprocess.Popen(command, cwd=ROOT, stderr=errors, start_new_session=True, preexec_fn=heed_ctrl_c)
    try:
        wait_until(lambda: "SIGKILL" in (tmp_path / "stderr").read_text(), timeout=90, what="something was killed")
        run.send_signal(signal.SIGINT)
        assert run.wait(60) == 130, (tmp_path / "stderr").read_text()
    finally:
        run.kill()
        run.wait()
    assert _left_behind(before) == []
