"""The tables of release 0.2.0."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

if TYPE_CHECKING:
    from jietong.migrations import Operations

revision, down_revision, branch_labels = "investment_0001", None, ("investment",)
release, min_code = "0.2.0", "0.2.0"


def upgrade(op: Operations) -> None:
    op.create_table(
        "handling",
        sa.Column("n", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("command", sa.Text()),
        sa.PrimaryKeyConstraint("n"),
        sa.UniqueConstraint("command"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "project",
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("decision_form", sa.Text(), nullable=False),
        sa.Column("document_number", sa.Text()),
        sa.Column("name", sa.Text()),
        sa.Column("kind", sa.Text()),
        sa.Column("address", sa.Text()),
        sa.Column("applicant_uscc", sa.Text()),
        sa.Column("applicant_name", sa.Text()),
        sa.Column("content", sa.Text()),
        sa.Column("contact_name", sa.Text()),
        sa.Column("contact_phone", sa.Text()),
        sa.Column("authority_region", sa.Text()),
        sa.Column("functional_zone", sa.Text()),
        sa.Column("longitude", sa.Text()),
        sa.Column("latitude", sa.Text()),
        sa.Column("total_investment", sa.Text()),
        sa.Column("land_area", sa.Text()),
        sa.Column("floor_area", sa.Text()),
        sa.Column("height", sa.Text()),
        sa.Column("planned_start", sa.Text()),
        sa.Column("planned_finish", sa.Text()),
        sa.Column("buildings", sa.Integer()),
        sa.Column("households", sa.Integer()),
        sa.Column("floors", sa.Integer()),
        sa.Column("site_regions", sa.Text(), nullable=False),
        sa.Column("contact_consent", sa.Integer(), nullable=False),
        sa.Column("registered_at", sa.BigInteger(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("code"),
    )
