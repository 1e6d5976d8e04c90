"""What was measured on: it stands beside every result."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any


def machine(packages: Sequence[str], **more: Any) -> dict[str, Any]:
    """The machine, how busy it is now (load of the last minute), versions of `packages`, and what else is told."""
    return {
        "cpus": os.cpu_count(),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "system": platform.platform(),
        **more,
        "versions": {name: version(name) for name in packages},
    }
