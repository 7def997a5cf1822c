"""The tables of release 0.2.0."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

if TYPE_CHECKING:
    from jietong.migrations import Operations

revision, down_revision, branch_labels = "realestate_0001", None, ("realestate",)
release, min_code = "0.2.0", "0.2.0"


def upgrade(op: Operations) -> None:
    op.create_table(
        "application",
        sa.Column("registration", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("basis", sa.Text()),
        sa.Column("party", sa.Text(), nullable=False),
        sa.Column("accepted_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("registration"),
    )
    op.create_index("ix_application_status", "application", ["status"], unique=False)
    op.create_table(
        "concerned",
        sa.Column("registration", sa.Text(), nullable=False),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("usage", sa.Text(), nullable=False),
        sa.Column("area", sa.Text(), nullable=False),
        sa.Column("accounts", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("registration", "unit"),
    )
    op.create_table(
        "ended",
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("registration", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("unit"),
    )
    op.create_table(
        "handling",
        sa.Column("n", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("about", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("command", sa.Text()),
        sa.PrimaryKeyConstraint("n"),
        sa.UniqueConstraint("command"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "licence",
        sa.Column("licence", sa.Text(), nullable=False),
        sa.Column("project_code", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("holder_uscc", sa.Text(), nullable=False),
        sa.Column("holder_name", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("units", sa.Integer(), nullable=False),
        sa.Column("issued_on", sa.Text(), nullable=False),
        sa.Column("valid_until", sa.Text()),
        sa.Column("authority_region", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("licence"),
    )
    op.create_table(
        "owner",
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("name", sa.Text()),
        sa.Column("registration", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("unit"),
    )
    op.create_table(
        "parcel",
        sa.Column("project_code", sa.Text(), nullable=False),
        sa.Column("county", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("project_code"),
        sa.UniqueConstraint("county", "number"),
    )
    op.create_table(
        "result",
        sa.Column("transfer", sa.Text(), nullable=False),
        sa.Column("registration", sa.Text(), nullable=False),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("operator", sa.Text(), nullable=False),
        sa.Column("utility", sa.Text()),
        sa.Column("step", sa.Text()),
        sa.Column("choice", sa.Text()),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("status", sa.Text()),
        sa.Column("answered_round", sa.Integer(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("account", sa.Text()),
        sa.Column("new_account", sa.Text()),
        sa.Column("arrears", sa.Text()),
        sa.Column("arrears_stay", sa.Integer()),
        sa.Column("reason", sa.Text()),
        sa.PrimaryKeyConstraint("transfer"),
    )
    op.create_index("ix_result_registration", "result", ["registration"], unique=False)
    op.create_table(
        "surveyed",
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("survey", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("stands", sa.Integer(), nullable=False),
        sa.Column("units", sa.Text(), nullable=False),
        sa.Column("floor_area", sa.Text()),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("source", "survey"),
    )
    op.create_index("ix_surveyed_project", "surveyed", ["project"], unique=False)
    op.create_table(
        "unit",
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("project_code", sa.Text(), nullable=False),
        sa.Column("registration", sa.Text(), nullable=False),
        sa.Column("usage", sa.Text(), nullable=False),
        sa.Column("area", sa.Text(), nullable=False),
        sa.Column("registered_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("code"),
    )
    op.create_index("ix_unit_registration", "unit", ["registration"], unique=False)
