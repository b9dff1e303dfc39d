"""Jobs say how much memory they need of their device."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("memory_bytes", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    # Not batch_alter_table: on SQLite it makes the table anew, and the end of the old one takes the rows with it that
    # refer to it with ON DELETE CASCADE.
    op.drop_column("jobs", "memory_bytes")
