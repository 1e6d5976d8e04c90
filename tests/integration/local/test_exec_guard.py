"""A guarded program and its parent."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from local.exec_guard import NOT_STARTED, ORPHANED, guarded
from tests.integration.local.programs import alive
from tests.support import wait_until

ROOT = Path(__file__).parents[3]


def run(argv: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=30)


def test_the_guard_becomes_the_program() -> None:
    done = run(guarded([sys.executable, "-c", "import os; print(os.getpid(), os.getppid())"]))
    pid, parent = map(int, done.stdout.split())
    assert parent == os.getpid()
    assert pid != parent


def test_a_program_ends_with_a_parent_that_is_killed() -> None:
    code = (
        "import subprocess, sys; from local.exec_guard import guarded;"
        "program = 'import signal; print(1, flush=True); signal.pause()';"
        "child = subprocess.Popen(guarded([sys.executable, '-c', program]),"
        " stdout=subprocess.PIPE); child.stdout.readline(); print(child.pid, flush=True); child.wait()"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert alive(pid)
        parent.kill()
    wait_until(lambda: not alive(pid), what="the program gone")


def test_nothing_is_started_when_the_parent_is_already_gone() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    done = run(guarded([sys.executable, "-c", "print('started')"], parent=gone.pid))
    assert (done.returncode, done.stdout) == (ORPHANED, "")


def test_a_program_that_is_not_there_has_its_own_exit_code() -> None:
    done = run(guarded(["/no-such-program"]))
    assert done.returncode == NOT_STARTED
    assert "/no-such-program" in done.stderr


def test_wrong_use_is_told() -> None:
    for arguments in ([], ["--"], ["--parent", "--", "true"], ["--other", "1", "--", "true"]):
        done = run([sys.executable, "-m", "local.exec_guard", *arguments])
        assert done.returncode == 1
        assert "usage:" in done.stderr
