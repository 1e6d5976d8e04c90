"""Operations on the ledger and their parts; meters that the past is filled in with."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward."""
    op.create_table(
        "catalog_fills",
        sa.Column("meter", sa.String(255), primary_key=True),
        sa.Column("version", sa.Integer, sa.ForeignKey("catalogs.version"), nullable=False),
        sa.Column("since", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "operations",
        sa.Column("id", sa.String(12), primary_key=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("parameters", sa.Text, nullable=False),
        sa.Column("requester", sa.String(64), nullable=False),
        sa.Column("asked", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "operation_parts",
        sa.Column("operation", sa.String(12), sa.ForeignKey("operations.id"), primary_key=True),
        sa.Column("epoch", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("partition", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("status", sa.String(16), nullable=False, index=True),
        sa.Column("doing", sa.String(64), nullable=False),
        sa.Column("done", sa.BigInteger, nullable=False),
        sa.Column("total", sa.BigInteger, nullable=False),
        sa.Column("result", sa.Text, nullable=False),
        sa.Column("holder", sa.String(64), nullable=False),
        sa.Column("held", sa.BigInteger, nullable=False),
    )
