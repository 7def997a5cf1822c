"""The tables of release 0.2.0."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

if TYPE_CHECKING:
    from jietong.migrations import Operations

revision, down_revision, branch_labels = "utility_0001", None, ("utility",)
release, min_code = "0.2.0", "0.2.0"


def upgrade(op: Operations) -> None:
    op.create_table(
        "account",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("utility", sa.Text(), nullable=False),
        sa.Column("unit", sa.Text()),
        sa.Column("holder", sa.Text()),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("arrears", sa.Text(), nullable=False),
        sa.Column("meter", sa.Text()),
        sa.Column("meter_unit", sa.Text()),
        sa.Column("smart", sa.Integer(), nullable=False),
        sa.Column("auto_debit", sa.Integer(), nullable=False),
        sa.Column("contract", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("account"),
    )
    op.create_index("ix_account_unit", "account", ["unit"], unique=False)
    op.create_table(
        "account_answer",
        sa.Column("n", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("transfer", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("registration", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("request_sequence", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("stamp", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("account", sa.Text()),
        sa.Column("new_account", sa.Text()),
        sa.Column("arrears", sa.Text()),
        sa.Column("arrears_stay", sa.Integer()),
        sa.Column("meter_reading", sa.Text()),
        sa.Column("meter_unit", sa.Text()),
        sa.Column("auto_debit_stopped", sa.Integer()),
        sa.Column("contract_signed", sa.Integer()),
        sa.Column("safety_checked", sa.Integer()),
        sa.PrimaryKeyConstraint("n"),
        sqlite_autoincrement=True,
    )
    op.create_index("answered", "account_answer", ["stamp", "n"], unique=False)
    op.create_index("ix_account_answer_transfer", "account_answer", ["transfer"], unique=False)
    op.create_table(
        "account_case",
        sa.Column("transfer", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("registration", sa.Text(), nullable=False),
        sa.Column("utility", sa.Text(), nullable=False),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("choice", sa.Text(), nullable=False),
        sa.Column("basis", sa.Text()),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("asked", sa.Text()),
        sa.Column("matched", sa.Text()),
        sa.Column("unmatched", sa.Integer(), nullable=False),
        sa.Column("predecessors", sa.Text(), nullable=False),
        sa.Column("party", sa.Text()),
        sa.Column("signed", sa.Integer(), nullable=False),
        sa.Column("safe", sa.Integer(), nullable=False),
        sa.Column("reading", sa.Text()),
        sa.Column("done", sa.Text()),
        sa.Column("refused", sa.Text()),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("request_sequence", sa.BigInteger(), nullable=False),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("transfer"),
    )
    op.create_table(
        "account_receipt", sa.Column("event_id", sa.Text(), nullable=False), sa.PrimaryKeyConstraint("event_id")
    )
    op.create_table("blocked", sa.Column("subject", sa.Text(), nullable=False), sa.PrimaryKeyConstraint("subject"))
    op.create_table(
        "case_",
        sa.Column("case_id", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("utility", sa.Text(), nullable=False),
        sa.Column("business_kind", sa.Text(), nullable=False),
        sa.Column("phase", sa.Integer(), nullable=False),
        sa.Column("work", sa.Text()),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("done", sa.Text(), nullable=False),
        sa.Column("asked", sa.Text(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("request_sequence", sa.BigInteger(), nullable=False),
        sa.Column("request_source", sa.Text(), nullable=False),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.Column("triggered_at", sa.BigInteger(), nullable=False),
        sa.Column("contact_within_hours", sa.Integer()),
        sa.Column("customer_role", sa.Text(), nullable=False),
        sa.Column("demand_basis", sa.Text(), nullable=False),
        sa.Column("name", sa.Text()),
        sa.Column("address", sa.Text()),
        sa.Column("site_regions", sa.Text(), nullable=False),
        sa.Column("facts", sa.Text(), nullable=False),
        sa.Column("answer_by", sa.BigInteger()),
        sa.Column("plan_days", sa.Integer()),
        sa.Column("connect_days", sa.Integer()),
        sa.Column("fee", sa.Text()),
        sa.Column("boundary", sa.Text()),
        sa.Column("missing", sa.Text()),
        sa.Column("missing_due", sa.Text()),
        sa.Column("permits", sa.Text()),
        sa.Column("permits_reason", sa.Text()),
        sa.Column("continues", sa.Text()),
        sa.Column("refused", sa.Text()),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("contact_name", sa.Text()),
        sa.Column("contact_phone", sa.Text()),
        sa.PrimaryKeyConstraint("case_id"),
    )
    op.create_index("ix_case__status", "case_", ["status"], unique=False)
    op.create_index("ix_case__subject", "case_", ["subject"], unique=False)
    op.create_table(
        "progress",
        sa.Column("n", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("case_id", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("business_kind", sa.Text(), nullable=False),
        sa.Column("phase", sa.Integer(), nullable=False),
        sa.Column("work", sa.Text()),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("stamp", sa.BigInteger(), nullable=False),
        sa.Column("answers_request", sa.Text(), nullable=False),
        sa.Column("answers_sequence", sa.BigInteger(), nullable=False),
        sa.Column("segment_owner", sa.Text(), nullable=False),
        sa.Column("account", sa.Text()),
        sa.Column("promised_days", sa.Integer()),
        sa.Column("works_external", sa.Integer()),
        sa.Column("access_point", sa.Text()),
        sa.Column("capacity", sa.Text()),
        sa.Column("length_m", sa.Text()),
        sa.Column("fee", sa.Text()),
        sa.Column("days", sa.Integer()),
        sa.Column("boundary", sa.Text()),
        sa.Column("works_kinds", sa.Text()),
        sa.Column("road", sa.Text()),
        sa.Column("area_m2", sa.Text()),
        sa.Column("depth_m", sa.Text()),
        sa.Column("pipe_dn_mm", sa.Integer()),
        sa.Column("voltage", sa.Text()),
        sa.Column("trees", sa.Integer()),
        sa.Column("emergency", sa.Integer()),
        sa.Column("planned_start", sa.Text()),
        sa.Column("planned_finish", sa.Text()),
        sa.Column("protection", sa.Text()),
        sa.Column("visit_demanded", sa.Integer()),
        sa.PrimaryKeyConstraint("n"),
        sqlite_autoincrement=True,
    )
    op.create_index("changed", "progress", ["stamp", "n"], unique=False)
    op.create_index("ix_progress_case_id", "progress", ["case_id"], unique=False)
    op.create_table(
        "receipt",
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("case_id", sa.Text(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.Column("effect", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("event_id"),
    )
    op.create_index("ix_receipt_case_id", "receipt", ["case_id"], unique=False)
    op.create_table(
        "switch",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
