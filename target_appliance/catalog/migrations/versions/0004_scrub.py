"""What the scrub found of each point."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "scrubs",
        sa.Column("tenant", sa.String(63), sa.ForeignKey("tenants.tenant"), primary_key=True),
        sa.Column("replica", sa.String(36), primary_key=True),
        sa.Column("number", sa.BigInteger, primary_key=True),
        sa.Column("state", sa.String(16), nullable=True),
        sa.Column("checked", sa.BigInteger, nullable=True),
        sa.Column("with_key", sa.Boolean, nullable=False),
        sa.Column("what", sa.String(1024), nullable=False),
        sa.Column("so_far", sa.String(16), nullable=True),
        sa.Column("mark", sa.String(256), nullable=True),
        sa.Column("mark_offset", sa.BigInteger, nullable=False),
    )
