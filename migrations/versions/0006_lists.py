"""Names with a tag are found in the order in which they are listed, and know how many versions they have."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(op.f("ix_module_tags_tag_module_id"), "module_tags", ["tag", "module_id"])
    op.add_column("modules", sa.Column("version_count", sa.Integer(), nullable=True))
    op.add_column("modules", sa.Column("counted_to", sa.Integer(), nullable=True))


def downgrade() -> None:
    # Not batch_alter_table: on SQLite it makes the table anew, and the end of the old one takes the rows with it that
    # refer to it with ON DELETE CASCADE.
    op.drop_column("modules", "counted_to")
    op.drop_column("modules", "version_count")
    op.drop_index(op.f("ix_module_tags_tag_module_id"), "module_tags")
