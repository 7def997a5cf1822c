"""When cases rested, by the city's word. Those that rest now have rested since they were last spoken to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

if TYPE_CHECKING:
    from jietong.migrations import Operations

revision, down_revision, branch_labels = "hookup_0002", "hookup_0001", None
release, min_code = "0.3.0", "0.2.0"


def upgrade(op: Operations) -> None:
    op.create_table(
        "rest",
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("case_id", sa.Text(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.BigInteger()),
        sa.PrimaryKeyConstraint("subject", "case_id", "since"),
    )
    op.execute(
        "INSERT INTO rest (subject, case_id, since) SELECT subject, id, asked FROM case_ WHERE requested = 'SUSPENDED'"
    )
