"""Whether the scrub's look under way is the second at a point that was found bad."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("scrubs", sa.Column("again", sa.Boolean, nullable=False, server_default=sa.false()))
