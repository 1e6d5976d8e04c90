"""The tables of the control plane (contracts.md, Storage). Instants in ms UTC."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Integer, LargeBinary, MetaData, String, Table, Text

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

tenants = Table(
    "tenants",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("status", String(16), nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("payload_days", Integer, nullable=True),
)

subscriptions = Table(
    "subscriptions",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("tenant", String(63), ForeignKey("tenants.name"), nullable=False, index=True),
    Column("plan", String(63), nullable=False),
    Column("since", BigInteger, nullable=False),
    Column("anchor", BigInteger, nullable=False),
    Column("time_zone", String(64), nullable=False),
    Column("trial_ends", BigInteger, nullable=True),
)

grants = Table(
    "grants",
    metadata,
    Column("tenant", String(63), ForeignKey("tenants.name"), primary_key=True),
    Column("id", String(64), primary_key=True),
    Column("feature", String(63), nullable=False),
    Column("amount", String(64), nullable=False),
    Column("priority", Integer, nullable=False),
    Column("since", BigInteger, nullable=False),
    Column("until", BigInteger, nullable=True),
    Column("rollover", String(64), nullable=True),
    Column("ended", BigInteger, nullable=True),
    Column("burnt", String(64), nullable=True),
    Column("left", String(64), nullable=True),
    Column("left_at", BigInteger, nullable=True),
    comment="`burnt` and `left`: what the ledger said of the time before `left_at`, the beginning of a period",
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String(12), primary_key=True),
    Column("digest", LargeBinary(32), nullable=False),
    Column("tenant", String(63), ForeignKey("tenants.name"), nullable=True, index=True),
    Column("scopes", String(255), nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("expires", BigInteger, nullable=True),
    Column("revoked", BigInteger, nullable=True),
)

catalogs = Table(
    "catalogs",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("content", LargeBinary, nullable=False),
    Column("source", Text, nullable=False),
    Column("effective_from", BigInteger, nullable=False),
)

catalog_fills = Table(
    "catalog_fills",
    metadata,
    Column("meter", String(255), primary_key=True),
    Column("version", Integer, ForeignKey("catalogs.version"), nullable=False),
    Column("since", BigInteger, nullable=False),
    comment="Meters that also count what earlier versions than `version` let pass",
)

epochs = Table(
    "epochs",
    metadata,
    Column("epoch", Integer, primary_key=True, autoincrement=False),
    Column("partitions", Integer, nullable=False),
    Column("status", String(16), nullable=False),
    Column("created", BigInteger, nullable=False),
)

changes = Table(
    "changes",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("tenant", String(63), nullable=True),
    comment="What snapshots have to be published anew; tenant NULL: all",
)

audit = Table(
    "audit",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("at", BigInteger, nullable=False),
    Column("actor", String(64), nullable=False),
    Column("tenant", String(63), nullable=True, index=True),
    Column("action", String(64), nullable=False),
    Column("detail", Text, nullable=False),
)

operations = Table(
    "operations",
    metadata,
    Column("id", String(12), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("parameters", Text, nullable=False),
    Column("requester", String(64), nullable=False),
    Column("asked", BigInteger, nullable=False),
)

operation_parts = Table(
    "operation_parts",
    metadata,
    Column("operation", String(12), ForeignKey("operations.id"), primary_key=True),
    Column("epoch", Integer, primary_key=True, autoincrement=False),
    Column("partition", Integer, primary_key=True, autoincrement=False),
    Column("status", String(16), nullable=False, index=True),
    Column("doing", String(64), nullable=False, default=""),
    Column("done", BigInteger, nullable=False, default=0),
    Column("total", BigInteger, nullable=False, default=0),
    Column("result", Text, nullable=False, default="{}"),
    Column("holder", String(64), nullable=False, default=""),
    Column("held", BigInteger, nullable=False, default=0),
)

alert_outbox = Table(
    "alert_outbox",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("tenant", String(63), nullable=False, index=True),
    Column("feature", String(63), nullable=False),
    Column("meter", String(63), nullable=False),
    Column("period", String(16), nullable=False),
    Column("start", BigInteger, nullable=False),
    Column("end", BigInteger, nullable=False),
    Column("threshold", String(64), nullable=False),
    Column("limit", String(64), nullable=False),
    Column("used", String(64), nullable=False),
    Column("at", BigInteger, nullable=False),
    comment="Crossings (metering/crossing.py) that somebody is to be alerted of",
)
