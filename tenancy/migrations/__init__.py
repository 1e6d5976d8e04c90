"""Schema changes by Alembic: numbered, forward only."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy.engine import make_url


def upgrade(url: str) -> None:
    """Bring the database at `url` to the newest schema. Raises Unavailable; must not be called from an event loop.

    Safe to repeat, and for several processes at once.
    """
    parsed = make_url(url)
    if parsed.drivername.startswith("sqlite") and parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["url"] = url
    command.upgrade(config, "head")
