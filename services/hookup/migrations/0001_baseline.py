"""The tables of release 0.2.0."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

if TYPE_CHECKING:
    from jietong.migrations import Operations

revision, down_revision, branch_labels = "hookup_0001", None, ("hookup",)
release, min_code = "0.2.0", "0.2.0"


def upgrade(op: Operations) -> None:
    op.create_table(
        "absence",
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("absence", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("about", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("responsible", sa.Text(), nullable=False),
        sa.Column("case_id", sa.Text()),
        sa.Column("operator", sa.Text()),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("due", sa.BigInteger(), nullable=False),
        sa.Column("provisional", sa.Integer(), nullable=False),
        sa.Column("noticed", sa.BigInteger(), nullable=False),
        sa.Column("ended", sa.BigInteger()),
        sa.PrimaryKeyConstraint("subject", "absence"),
    )
    op.create_table(
        "begun",
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("on_", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("subject"),
    )
    op.create_table(
        "breach",
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("case_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("subject", "case_id", "kind"),
    )
    op.create_table(
        "case_",
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("work", sa.Text(), nullable=False),
        sa.Column("operator", sa.Text(), nullable=False),
        sa.Column("business_kind", sa.Text(), nullable=False),
        sa.Column("phase", sa.Integer(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("utility", sa.Text(), nullable=False),
        sa.Column("requested", sa.Text(), nullable=False),
        sa.Column("confirmed", sa.Integer(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.Column("progress", sa.Text()),
        sa.Column("progressed", sa.BigInteger()),
        sa.Column("acknowledged", sa.Text()),
        sa.Column("protection", sa.Text()),
        sa.Column("plan", sa.Text()),
        sa.Column("opened", sa.BigInteger(), nullable=False),
        sa.Column("asked", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("receipt", sa.Text()),
        sa.PrimaryKeyConstraint("subject", "work", "operator", "business_kind", "phase"),
    )
    op.create_table(
        "consent",
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("operator", sa.Text(), nullable=False),
        sa.Column("contact", sa.Text()),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("subject", "operator"),
    )
    op.create_table(
        "demand",
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("work", sa.Text(), nullable=False),
        sa.Column("phase", sa.Integer(), nullable=False),
        sa.Column("demand", sa.Text(), nullable=False),
        sa.Column("basis", sa.Text(), nullable=False),
        sa.Column("operators", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("subject", "work", "phase"),
    )
    op.create_table(
        "lineage",
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("work", sa.Text(), nullable=False),
        sa.Column("previous", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("subject", "work", "previous"),
    )
    op.create_table(
        "objection",
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("objects_to", sa.Text()),
        sa.Column("objection", sa.Text(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("subject", "event"),
    )
    op.create_table(
        "permit",
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("permit", sa.Text(), nullable=False),
        sa.Column("case_id", sa.Text(), nullable=False),
        sa.Column("operator", sa.Text(), nullable=False),
        sa.Column("works_kind", sa.Text(), nullable=False),
        sa.Column("department", sa.Text(), nullable=False),
        sa.Column("route", sa.Text(), nullable=False),
        sa.Column("requested", sa.Text(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.Column("asked", sa.BigInteger(), nullable=False),
        sa.Column("due", sa.BigInteger(), nullable=False),
        sa.Column("decision", sa.Text()),
        sa.Column("decided", sa.BigInteger()),
        sa.Column("reason", sa.Text()),
        sa.PrimaryKeyConstraint("subject", "permit"),
    )
    op.create_table(
        "project",
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("facts", sa.Text(), nullable=False),
        sa.Column("site_regions", sa.Text(), nullable=False),
        sa.Column("authority_region", sa.Text(), nullable=False),
        sa.Column("functional_zone", sa.Text()),
        sa.PrimaryKeyConstraint("subject"),
    )
    op.create_table(
        "refusal",
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("case_id", sa.Text(), nullable=False),
        sa.Column("operator", sa.Text(), nullable=False),
        sa.Column("because", sa.Text(), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("answered", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("subject", "event"),
    )
    op.create_table(
        "step",
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("case_id", sa.Text(), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("subject", "case_id", "n"),
    )
    op.create_table(
        "support",
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("item", sa.Text(), nullable=False),
        sa.Column("standing", sa.Text(), nullable=False),
        sa.Column("rows", sa.Text(), nullable=False),
        sa.Column("work", sa.Text()),
        sa.Column("phase", sa.Integer(), nullable=False),
        sa.Column("decision_kind", sa.Text()),
        sa.Column("permit_part", sa.Text()),
        sa.Column("document", sa.Text()),
        sa.Column("site_regions", sa.Text(), nullable=False),
        sa.Column("authority_region", sa.Text(), nullable=False),
        sa.Column("functional_zone", sa.Text()),
        sa.Column("facts", sa.Text()),
        sa.Column("decided", sa.BigInteger(), nullable=False),
        sa.Column("basis", sa.Text()),
        sa.Column("missing", sa.Text()),
        sa.Column("missing_due", sa.Text()),
        sa.Column("extended", sa.Integer(), server_default="0", nullable=False),
        sa.Column("historical", sa.Integer(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("subject", "source", "type", "item"),
    )
    op.create_table(
        "survey",
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("survey", sa.Text(), nullable=False),
        sa.Column("work", sa.Text()),
        sa.Column("facts", sa.Text()),
        sa.Column("published", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("subject", "source", "survey"),
    )
    op.create_table(
        "task",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("about", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("unit", sa.Text(), server_default="hookup-office", nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("done", sa.BigInteger()),
        sa.Column("gone", sa.Integer(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "trench",
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("road", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("subject", "road"),
    )
    op.create_table(
        "wake",
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("guessed", sa.Integer()),
        sa.PrimaryKeyConstraint("subject"),
    )
    op.create_index("ix_wake_at", "wake", ["at"], unique=False)
    op.create_index("ix_wake_guessed", "wake", ["guessed"], unique=False)
    op.create_table(
        "work",
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("work", sa.Text(), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("subject", "work"),
    )
    op.create_table(
        "works",
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("case_id", sa.Text(), nullable=False),
        sa.Column("road", sa.Text(), nullable=False),
        sa.Column("operator", sa.Text(), nullable=False),
        sa.Column("start", sa.Text(), nullable=False),
        sa.Column("finish", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("subject", "case_id"),
    )
    op.create_index("ix_works_road", "works", ["road"], unique=False)
