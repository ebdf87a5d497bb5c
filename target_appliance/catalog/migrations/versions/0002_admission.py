"""Limits and suspension of tenants, roles and revocation of agents."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    for name in ("suspended", "quota_bytes", "max_vms", "max_streams", "bandwidth_bytes"):
        op.add_column("tenants", sa.Column(name, sa.BigInteger, nullable=True))
    op.add_column("agents", sa.Column("revoked", sa.BigInteger, nullable=True))
    op.add_column("agents", sa.Column("role", sa.String(16), nullable=False, server_default="agent"))
