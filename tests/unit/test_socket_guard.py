"""The promise "a unit test opens no socket" is kept by failing the test, tried in a test run of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]
TESTS = Path(__file__).parents[1]


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    """An empty copy of this test suite: its conftest and guard only."""
    pytester.mkdir("tests")
    for name in ("__init__.py", "conftest.py", "socket_guard.py"):
        (pytester.path / "tests" / name).write_text((TESTS / name).read_text())
    (pytester.path / "pyproject.toml").write_text("[tool.pytest.ini_options]\nasyncio_mode = 'auto'\n")
    return pytester


def run(suite: pytest.Pytester, folder: str, body: str) -> pytest.RunResult:
    place = suite.path / "tests" / folder
    place.mkdir()
    (place / "__init__.py").touch()
    (place / "test_it.py").write_text(body)
    return suite.runpytest_subprocess("-p", "no:cacheprovider", "tests")


CONNECTS = """
import socket

def test_it():
    with socket.socket() as s:
        s.connect_ex(("127.0.0.1", 9))
"""

SWALLOWS = """
import socket

def test_it():
    try:
        socket.create_connection(("localhost", 9), timeout=1)
    except Exception:
        pass
"""

ASYNC = """
import asyncio

async def test_it():
    await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
"""

QUIET = """
import asyncio

async def test_it():
    await asyncio.sleep(0)
"""


@pytest.mark.parametrize("body", [CONNECTS, SWALLOWS, ASYNC], ids=["connects", "swallows the refusal", "serves"])
@pytest.mark.parametrize("folder", ["unit", "properties"])
def test_a_unit_test_which_opens_a_socket_fails(suite: pytest.Pytester, folder: str, body: str) -> None:
    result = run(suite, folder, body)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*may open no socket*"])


def test_a_unit_test_with_an_event_loop_passes(suite: pytest.Pytester) -> None:
    run(suite, "unit", QUIET).assert_outcomes(passed=1)


def test_an_integration_test_may_open_sockets(suite: pytest.Pytester) -> None:
    run(suite, "integration", CONNECTS).assert_outcomes(passed=1)
