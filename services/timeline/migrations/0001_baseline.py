"""The tables of release 0.2.0."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

if TYPE_CHECKING:
    from jietong.migrations import Operations

revision, down_revision, branch_labels = "timeline_0001", None, ("timeline",)
release, min_code = "0.2.0", "0.2.0"


def upgrade(op: Operations) -> None:
    op.create_table(
        "absence",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("absence", sa.Text(), nullable=False),
        sa.Column("state", sa.Text()),
        sa.Column("kind", sa.Text()),
        sa.Column("responsible", sa.Text()),
        sa.Column("operator", sa.Text()),
        sa.Column("about", sa.Text()),
        sa.Column("reference", sa.Text()),
        sa.Column("since", sa.BigInteger()),
        sa.Column("due", sa.BigInteger()),
        sa.Column("provisional", sa.Boolean(), nullable=False),
        sa.Column("noticed_at", sa.BigInteger()),
        sa.Column("ended_at", sa.BigInteger()),
        sa.PrimaryKeyConstraint("project", "absence"),
    )
    op.create_index("absence_queue", "absence", ["state", "responsible", "due", "absence"], unique=False)
    op.create_table(
        "company",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text()),
        sa.Column("moved_at", sa.BigInteger()),
        sa.PrimaryKeyConstraint("project"),
    )
    op.create_table(
        "connection",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("operator", sa.Text()),
        sa.Column("utility", sa.Text()),
        sa.Column("business_kind", sa.Text()),
        sa.Column("work", sa.Text()),
        sa.Column("phase", sa.Integer()),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("segment_owner", sa.Text()),
        sa.Column("trigger_type", sa.Text()),
        sa.Column("trigger_kind", sa.Text()),
        sa.Column("trigger_part", sa.Text()),
        sa.Column("contact_within_hours", sa.Integer()),
        sa.Column("detail", sa.Text()),
        sa.Column("triggered_at", sa.BigInteger()),
        sa.Column("lead_at", sa.BigInteger()),
        sa.Column("contacted_at", sa.BigInteger()),
        sa.Column("demand_confirmed_at", sa.BigInteger()),
        sa.Column("accepted_at", sa.BigInteger()),
        sa.Column("plan_replied_at", sa.BigInteger()),
        sa.Column("contracted_at", sa.BigInteger()),
        sa.Column("works_started_at", sa.BigInteger()),
        sa.Column("works_finished_at", sa.BigInteger()),
        sa.Column("inspected_at", sa.BigInteger()),
        sa.Column("connected_at", sa.BigInteger()),
        sa.Column("moved_at", sa.BigInteger()),
        sa.PrimaryKeyConstraint("project", "reference"),
    )
    op.create_index("connection_state", "connection", ["operator", "utility", "state", "project"], unique=False)
    op.create_table(
        "fact",
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("thread", sa.Text(), nullable=False),
        sa.Column("word", sa.Text(), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("recorded", sa.BigInteger(), nullable=False),
        sa.Column("historical", sa.Boolean(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("source", "type", "subject", "sequence"),
    )
    op.create_index(
        "fact_subject",
        "fact",
        ["subject"],
        unique=False,
        sqlite_where=sa.text("project <> subject"),
        postgresql_where=sa.text("project <> subject"),
    )
    op.create_index("fact_thread", "fact", ["project", "thread"], unique=False)
    op.create_table(
        "item",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("instance", sa.Text(), nullable=False),
        sa.Column("work", sa.Text()),
        sa.Column("previous_work", sa.Text()),
        sa.Column("name", sa.Text()),
        sa.Column("department", sa.Text()),
        sa.Column("status", sa.Text()),
        sa.Column("kind", sa.Text()),
        sa.Column("part", sa.Text()),
        sa.Column("decision", sa.Text()),
        sa.Column("basis", sa.Text()),
        sa.Column("buildings", sa.Text()),
        sa.Column("document", sa.Text()),
        sa.Column("title", sa.Text()),
        sa.Column("decided_on", sa.Text()),
        sa.Column("valid_until", sa.Text()),
        sa.Column("missing", sa.Text()),
        sa.Column("missing_due", sa.Text()),
        sa.Column("phase", sa.Integer()),
        sa.Column("stage", sa.Integer(), nullable=False),
        sa.Column("live", sa.Boolean(), nullable=False),
        sa.Column("started_at", sa.BigInteger()),
        sa.Column("moved_at", sa.BigInteger()),
        sa.Column("decided_at", sa.BigInteger()),
        sa.PrimaryKeyConstraint("project", "source", "instance"),
    )
    op.create_table(
        "latest",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("change", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "licence",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("licence", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text()),
        sa.Column("kind", sa.Text()),
        sa.Column("status", sa.Text()),
        sa.Column("issued_on", sa.Text()),
        sa.Column("valid_until", sa.Text()),
        sa.Column("scope", sa.Text()),
        sa.Column("moved_at", sa.BigInteger()),
        sa.PrimaryKeyConstraint("project", "source", "licence"),
    )
    op.create_index("licence_holder", "licence", ["holder"], unique=False)
    op.create_table(
        "permit",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("permit", sa.Text(), nullable=False),
        sa.Column("reference", sa.Text()),
        sa.Column("state", sa.Text()),
        sa.Column("detail", sa.Text()),
        sa.Column("moved_at", sa.BigInteger()),
        sa.PrimaryKeyConstraint("project", "permit"),
    )
    op.create_table(
        "project",
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text()),
        sa.Column("regions", sa.Text()),
        sa.Column("zone", sa.Text()),
        sa.Column("status", sa.Text()),
        sa.Column("decision_form", sa.Text()),
        sa.Column("document", sa.Text()),
        sa.Column("registered_at", sa.BigInteger()),
        sa.Column("decided_at", sa.BigInteger()),
        sa.Column("stage", sa.Integer(), server_default="0", nullable=False),
        sa.Column("moved", sa.BigInteger(), nullable=False),
        sa.Column("change", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("code"),
    )
    op.create_index("project_change", "project", ["change"], unique=False)
    op.create_index("project_moved", "project", ["kind", "moved", "code"], unique=False)
    op.create_table(
        "registration",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("registration", sa.Text(), nullable=False),
        sa.Column("unit", sa.Text()),
        sa.Column("kind", sa.Text()),
        sa.Column("status", sa.Text()),
        sa.Column("usage", sa.Text()),
        sa.Column("registered_on", sa.Text()),
        sa.Column("detail", sa.Text()),
        sa.Column("moved_at", sa.BigInteger()),
        sa.PrimaryKeyConstraint("project", "source", "registration"),
    )
    op.create_index("registration_unit", "registration", ["unit"], unique=False)
    op.create_table(
        "survey",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("survey", sa.Text(), nullable=False),
        sa.Column("status", sa.Text()),
        sa.Column("detail", sa.Text()),
        sa.Column("moved_at", sa.BigInteger()),
        sa.PrimaryKeyConstraint("project", "source", "survey"),
    )
    op.create_table(
        "told",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("name", sa.Text()),
        sa.Column("regions", sa.Text()),
        sa.Column("zone", sa.Text()),
        sa.Column("detail", sa.Text()),
        sa.PrimaryKeyConstraint("project", "source", "type"),
    )
    op.create_table(
        "transfer",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("transfer", sa.Text(), nullable=False),
        sa.Column("operator", sa.Text()),
        sa.Column("utility", sa.Text()),
        sa.Column("state", sa.Text()),
        sa.Column("detail", sa.Text()),
        sa.Column("moved_at", sa.BigInteger()),
        sa.PrimaryKeyConstraint("project", "transfer"),
    )
    op.create_table(
        "trench",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("proposal", sa.Text(), nullable=False),
        sa.Column("state", sa.Text()),
        sa.Column("detail", sa.Text()),
        sa.Column("moved_at", sa.BigInteger()),
        sa.PrimaryKeyConstraint("project", "proposal"),
    )
