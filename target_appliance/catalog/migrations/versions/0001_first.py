"""First schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table("tenants", sa.Column("tenant", sa.String(63), primary_key=True))
    op.create_table(
        "agents",
        sa.Column("agent", sa.String(36), primary_key=True),
        sa.Column("tenant", sa.String(63), sa.ForeignKey("tenants.tenant"), nullable=False),
        sa.Column("serial", sa.String(40), nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("not_after", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "replicas",
        sa.Column("tenant", sa.String(63), sa.ForeignKey("tenants.tenant"), primary_key=True),
        sa.Column("replica", sa.String(36), primary_key=True),
        sa.Column("vm_name", sa.String(1024), nullable=False),
    )
    op.create_table(
        "points",
        sa.Column("tenant", sa.String(63), primary_key=True),
        sa.Column("replica", sa.String(36), primary_key=True),
        sa.Column("number", sa.BigInteger, primary_key=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("time", sa.BigInteger, nullable=False),
        sa.Column("capacity_bytes", sa.BigInteger, nullable=False),
        sa.Column("stored_bytes", sa.BigInteger, nullable=False),
        sa.Column("record_hash", sa.LargeBinary(32), nullable=False),
        sa.ForeignKeyConstraint(["tenant", "replica"], ["replicas.tenant", "replicas.replica"]),
    )
    op.create_table(
        "leases",
        sa.Column("tenant", sa.String(63), sa.ForeignKey("tenants.tenant"), primary_key=True),
        sa.Column("replica", sa.String(36), primary_key=True),
        sa.Column("token", sa.BigInteger, nullable=False),
        sa.Column("agent", sa.String(36), nullable=False),
        sa.Column("sync", sa.String(36), nullable=True),
        sa.Column("expires", sa.Double, nullable=False),
    )
