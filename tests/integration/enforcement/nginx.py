"""Debian's nginx: the one that is installed, or its package unpacked beside the checkout, which needs no root."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

_KEPT = Path(__file__).parents[3] / ".nginx"


@cache
def find() -> Path | None:
    """Its program; None where it can't be had."""
    installed = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
    if installed:
        return Path(installed)
    program = _KEPT / "usr/sbin/nginx"
    if not program.exists():
        with TemporaryDirectory(prefix="tallygate-nginx-") as folder:
            try:
                subprocess.run(
                    ["apt-get", "download", "-q", "nginx"], cwd=folder, check=True, capture_output=True, timeout=60
                )
                (package,) = Path(folder).glob("nginx_*.deb")
                subprocess.run(["dpkg-deb", "-x", package, _KEPT], check=True, capture_output=True, timeout=60)
            except (OSError, subprocess.SubprocessError, ValueError):
                return None
    return program if program.exists() else None
