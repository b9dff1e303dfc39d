"""Certificates: what networks answered at their probes, and every replay of them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "probes",
        sa.Column("version_id", ROW_ID, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("device_class", sa.JSON(), nullable=False),
        sa.Column("made_at", TIME, nullable=False),
        sa.Column("made_by", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(["digest"], ["blobs.digest"], name=op.f("fk_probes_digest")),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name=op.f("fk_probes_version_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("version_id", name=op.f("pk_probes")),
    )
    op.create_index(op.f("ix_probes_digest"), "probes", ["digest"])
    op.create_table(
        "replays",
        sa.Column("version_id", ROW_ID, nullable=False),
        sa.Column("job_id", sa.String(32), nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("compared", sa.String(16), nullable=False),
        sa.Column("same", sa.Boolean(), nullable=False),
        sa.Column("identical", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_replays_job_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["version_id"], ["versions.id"], name=op.f("fk_replays_version_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("version_id", "job_id", name=op.f("pk_replays")),
    )


def downgrade() -> None:
    op.drop_table("replays")
    op.drop_table("probes")
