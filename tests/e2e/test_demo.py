"""The demo as `make demo` runs it: a whole system, exit code 0 only if every total agrees, nothing left behind."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil

from tests.e2e.system import ROOT, run_tallygate
from tests.support import heed_ctrl_c, wait_until


def _left_behind() -> list[str]:
    """Processes and folders of a demo."""
    folders = [str(path) for path in Path(tempfile.gettempdir()).glob("tallygate-demo-*")]
    commands = [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]
    return folders + [command for command in commands if "tallygate-demo-" in command]


def test_every_total_of_the_demo_agrees_and_the_hotel_at_its_limit_is_denied() -> None:
    demo = run_tallygate("demo", "--events", "3000", timeout=180)

    assert demo.code == 0, demo.stderr
    assert demo.json["agrees"] is True
    assert {row["tenant"] for row in demo.json["meters"]} == {
        "pension-alpenblick",
        "hafenhotels-nord",
        "grand-metropole",
    }
    denied = demo.json["gate"]["pension-alpenblick"]
    assert (denied["allowed"], denied["reason"]) == (False, "limit-reached")
    assert _left_behind() == []


def test_a_planted_loss_makes_the_demo_fail() -> None:
    demo = run_tallygate("demo", "--events", "600", "--plant-loss", timeout=180)

    assert demo.code == 1, demo.stderr
    assert "voice_calls" in {row["meter"] for row in demo.json["meters"] if not row["agrees"]}


def test_ctrl_c_stops_the_demo_and_leaves_nothing_behind() -> None:
    demo = subprocess.Popen(
        [sys.executable, "-m", "cli", "demo", "--events", "100000"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=heed_ctrl_c,
        text=True,
    )
    assert demo.stderr is not None
    for line in demo.stderr:
        if "goes out" in line:
            break
    demo.send_signal(signal.SIGINT)

    _, errors = demo.communicate(timeout=60)

    assert demo.returncode == 130, errors
    assert "Traceback" not in errors
    wait_until(lambda: _left_behind() == [], what="nothing left")
