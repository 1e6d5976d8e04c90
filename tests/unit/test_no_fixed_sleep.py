"""No test sleeps for a fixed time: it waits for a condition, so every sleep stands in a loop that looks for one."""

from __future__ import annotations

import ast
from pathlib import Path

TESTS = Path(__file__).parent.parent


def fixed_sleeps(source: str) -> list[int]:
    """Lines of sleeps outside of any `while`. A sleep of 0 only lets others run."""
    found: list[int] = []

    def look(node: ast.AST, in_loop: bool) -> None:
        in_loop = in_loop or isinstance(node, ast.While)
        if isinstance(node, ast.Call) and _name(node.func) == "sleep" and not in_loop and not _is_zero(node.args):
            found.append(node.lineno)
        for child in ast.iter_child_nodes(node):
            look(child, in_loop)

    look(ast.parse(source), in_loop=False)
    return found


def _name(function: ast.expr) -> str | None:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", None)


def _is_zero(arguments: list[ast.expr]) -> bool:
    return len(arguments) == 1 and isinstance(arguments[0], ast.Constant) and arguments[0].value == 0


def test_every_sleep_waits_for_a_condition() -> None:
    files = sorted(TESTS.rglob("*.py"))
    assert len(files) > 50
    assert {str(file.relative_to(TESTS)): lines for file in files if (lines := fixed_sleeps(file.read_text()))} == {}


def test_a_fixed_sleep_is_found() -> None:
    assert fixed_sleeps("import time\ntime.sleep(1)\nfor n in range(3):\n    sleep(n)\n") == [2, 4]
    assert fixed_sleeps("while not ready():\n    await asyncio.sleep(0.1)\nawait asyncio.sleep(0)\n") == []
