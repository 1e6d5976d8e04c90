"""Crossings that alerts are sent from, and how long each tenant's payloads are kept."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward."""
    op.create_table(
        "alert_outbox",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("tenant", sa.String(63), nullable=False, index=True),
        sa.Column("feature", sa.String(63), nullable=False),
        sa.Column("meter", sa.String(63), nullable=False),
        sa.Column("period", sa.String(16), nullable=False),
        sa.Column("start", sa.BigInteger, nullable=False),
        sa.Column("end", sa.BigInteger, nullable=False),
        sa.Column("threshold", sa.String(64), nullable=False),
        sa.Column("limit", sa.String(64), nullable=False),
        sa.Column("used", sa.String(64), nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
    )
    op.add_column("tenants", sa.Column("payload_days", sa.Integer, nullable=True))
