"""`python -m console`."""

from __future__ import annotations

import os
import sys

from console.app import build
from console.settings import PREFIX, Settings
from metering import settings as settings_reader
from metering.errors import InvalidSettings
from service.run import serve


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    try:
        settings = settings_reader.load(Settings, PREFIX, os.environ)
    except InvalidSettings as error:
        sys.exit("\n".join(error.problems))
    serve("console", build(settings), settings.host, settings.port, settings.ops_port)


if __name__ == "__main__":
    main()
