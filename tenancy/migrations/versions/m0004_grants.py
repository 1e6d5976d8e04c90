"""Grants beside a plan's limits, and trials."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward."""
    op.create_table(
        "grants",
        sa.Column("tenant", sa.String(63), sa.ForeignKey("tenants.name"), primary_key=True),
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("feature", sa.String(63), nullable=False),
        sa.Column("amount", sa.String(64), nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("since", sa.BigInteger, nullable=False),
        sa.Column("until", sa.BigInteger, nullable=True),
        sa.Column("rollover", sa.String(64), nullable=True),
        sa.Column("ended", sa.BigInteger, nullable=True),
        sa.Column("burnt", sa.String(64), nullable=True),
        sa.Column("left", sa.String(64), nullable=True),
        sa.Column("left_at", sa.BigInteger, nullable=True),
    )
    op.add_column("subscriptions", sa.Column("trial_ends", sa.BigInteger, nullable=True))
