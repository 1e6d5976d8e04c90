"""`python -m local.exec_guard [--parent PID] -- PROGRAM ARG…`: becomes a program that dies with the process PID.

The kernel kills it as soon as its parent is gone, however that died: SIGKILL runs no clean-up code. PID is the parent's
id as the parent knows it (default: the parent at the start of this). On systems without prctl it is a plain exec.

The kernel does not hand this on to what the program forks. A program that forks has to see to it that its children
end when it is killed: the gateway's workers hold a pipe from their master, Valkey's rewriting child stops at its
broken pipe.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

_PR_SET_PDEATHSIG = 1
ORPHANED, NOT_STARTED = 125, 127
"""Exit codes: the parent was gone before the program could start; the program cannot be started."""


def die_with_parent() -> None:
    """Ask for SIGKILL when the parent ends; kept over exec. It holds for the parent's thread that started this."""
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl(PR_SET_PDEATHSIG): {os.strerror(number)}")


def guarded(program: Sequence[str], parent: int | None = None) -> list[str]:
    """The command line that runs `program` under this guard as a child of process `parent` (default: this one)."""
    return [
        sys.executable,
        "-P",  # a folder `local` where the command was typed is none of ours
        "-m",
        "local.exec_guard",
        "--parent",
        str(os.getpid() if parent is None else parent),
        "--",
        *program,
    ]


def main(arguments: Sequence[str]) -> NoReturn:
    """Does not return: the process becomes the program, or ends with a message."""
    parent = os.getppid()
    options, separator, program = _split(arguments)
    if len(options) == 2 and options[0] == "--parent" and options[1].isdigit():
        parent = int(options[1])
    elif options:
        separator = False
    if not separator or not program:
        sys.exit("usage: python -m local.exec_guard [--parent PID] -- PROGRAM [ARG…]")
    die_with_parent()
    # The parent may have died before the kernel was asked: then nobody would send the signal any more.
    if os.getppid() != parent:
        sys.exit(ORPHANED)
    try:
        os.execvp(program[0], program)  # noqa: S606 (no shell is wanted)
    except OSError as error:
        print(f"{program[0]}: {error.strerror}", file=sys.stderr)
        sys.exit(NOT_STARTED)


def _split(arguments: Sequence[str]) -> tuple[list[str], bool, list[str]]:
    if "--" not in arguments:
        return list(arguments), False, []
    at = list(arguments).index("--")
    return list(arguments[:at]), True, list(arguments[at + 1 :])


if __name__ == "__main__":
    main(sys.argv[1:])
