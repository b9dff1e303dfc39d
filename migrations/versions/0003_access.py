"""Access: keys by their hashes, and the audit log."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(16), nullable=False),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("namespaces", sa.JSON(), nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("created_by", sa.String(), nullable=True),
        sa.Column("expires_at", TIME, nullable=True),
        sa.Column("rotated_at", TIME, nullable=True),
        sa.Column("earlier_sha256", sa.String(64), nullable=True),
        sa.Column("earlier_until", TIME, nullable=True),
        sa.Column("revoked_at", TIME, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("name", name=op.f("uq_api_keys_name")),
    )
    op.create_table(
        "audit",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("by", sa.String(), nullable=True),
        sa.Column("action", sa.String(32), nullable=False),
        sa.Column("what", sa.String(), nullable=False),
        sa.Column("name", sa.String(128), nullable=True),
        sa.Column("request_id", sa.String(64), nullable=True),
        sa.Column("details", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_audit_by_id"), "audit", ["by", "id"])
    op.create_index(op.f("ix_audit_name_id"), "audit", ["name", "id"])


def downgrade() -> None:
    op.drop_table("audit")
    op.drop_table("api_keys")
