"""Generic networks: rows and columns, cells, and their history."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.DateTime(timezone=True)


def _to(table: str, column: str, other: str = "modules", ondelete: str | None = None) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [f"{other}.id"], name=op.f(f"fk_{table}_{column}"), ondelete=ondelete)


def _indexes(table: str, *columns: str) -> None:
    for column in columns:
        op.create_index(op.f(f"ix_{table}_{column}"), table, [column])


def upgrade() -> None:
    op.create_table(
        "generic_members",
        sa.Column("generic_id", ROW_ID, nullable=False),
        sa.Column("member_id", ROW_ID, nullable=False),
        sa.Column("version_id", ROW_ID, nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        _to("generic_members", "generic_id", ondelete="CASCADE"),
        _to("generic_members", "member_id"),
        _to("generic_members", "version_id", "versions"),
        sa.PrimaryKeyConstraint("generic_id", "member_id", name=op.f("pk_generic_members")),
    )
    _indexes("generic_members", "version_id", "member_id")
    op.create_table(
        "generic_cells",
        sa.Column("generic_id", ROW_ID, nullable=False),
        sa.Column("category_id", ROW_ID, nullable=False),
        sa.Column("task_id", ROW_ID, nullable=False),
        sa.Column("version_id", ROW_ID, nullable=True),
        sa.Column("job_id", sa.String(32), nullable=True),
        sa.Column("precheck", sa.JSON(), nullable=True),
        sa.Column("direct", sa.JSON(), nullable=True),
        sa.Column("rejected", sa.JSON(), nullable=True),
        _to("generic_cells", "generic_id", ondelete="CASCADE"),
        _to("generic_cells", "category_id"),
        _to("generic_cells", "task_id"),
        _to("generic_cells", "version_id", "versions"),
        _to("generic_cells", "job_id", "jobs"),
        sa.PrimaryKeyConstraint("generic_id", "category_id", "task_id", name=op.f("pk_generic_cells")),
    )
    _indexes("generic_cells", "version_id", "job_id", "category_id", "task_id")
    op.create_table(
        "generic_changes",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("generic_id", ROW_ID, nullable=False),
        sa.Column("action", sa.String(16), nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("by", sa.String(), nullable=True),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.Column("undoes", ROW_ID, nullable=True),
        _to("generic_changes", "generic_id", ondelete="CASCADE"),
        _to("generic_changes", "undoes", "generic_changes"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_generic_changes")),
    )
    op.create_index(op.f("ix_generic_changes_generic_id_id"), "generic_changes", ["generic_id", "id"])


def downgrade() -> None:
    op.drop_table("generic_changes")
    op.drop_table("generic_cells")
    op.drop_table("generic_members")
    # Names of a kind that an earlier version does not know.
    op.execute("DELETE FROM modules WHERE kind = 'generic'")
