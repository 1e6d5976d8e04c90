"""The bench's programs in Go, built into `.go` of the checkout; go.mod and go.sum pin versions and checksums."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from metering.errors import TallygateError

_BENCH = Path(__file__).resolve().parent
_BUILT = _BENCH.parent / ".go"
_BUILD_SECONDS = 900
RATELIMIT = "github.com/envoyproxy/ratelimit"


class GoUnavailable(TallygateError):
    """A program can't be built here: no Go, or no module proxy in reach."""


def pace() -> Path:
    """The load generator (bench/pace), which needs nothing but Go's standard library. Raises GoUnavailable."""
    return _built("pace", _BENCH / "pace", ".")


def ratelimit() -> Path:
    """Envoy's ratelimit, from Go's module proxy. Raises GoUnavailable."""
    return _built("ratelimit", _BENCH / "peer", f"{RATELIMIT}/src/service_cmd")


def ratelimit_version() -> str:
    """The version that is pinned."""
    lines = (line.split() for line in (_BENCH / "peer" / "go.mod").read_text().splitlines())
    return next(words[1] for words in lines if words[:1] == [RATELIMIT])


def _built(name: str, folder: Path, package: str) -> Path:
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")  # where its own archive is unpacked
    if go is None:
        raise GoUnavailable(f"building {name} needs Go, which is not installed (https://go.dev/doc/install)")
    fetching = _run([go, "list", "-deps", package], folder)
    if fetching.returncode != 0:
        said = fetching.stderr.strip().splitlines() or ["it does not say why"]
        raise GoUnavailable(f"Go can't fetch what {name} is made of: {said[-1]}")
    program = _BUILT / name
    building = _run([go, "build", "-buildvcs=false", "-o", str(program), package], folder)
    if building.returncode != 0:
        raise RuntimeError(f"building {name} failed:\n{building.stderr}")
    return program


def _run(argv: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    # The toolchain that is here: another one would be fetched. With patience: tests that watch the time may run beside.
    environment = {**os.environ, "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly"}
    return subprocess.run(
        ["nice", *argv], cwd=folder, env=environment, capture_output=True, text=True, timeout=_BUILD_SECONDS
    )
