"""Rows that wait for the log have a table of their own, and an event is written once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

if TYPE_CHECKING:
    from jietong.migrations import Operations

revision, down_revision, branch_labels = "delivery_0002", "delivery_0001", None
release, min_code = "0.3.0", "0.3.0"


def upgrade(op: Operations) -> None:
    op.create_table(
        "unsent",
        sa.Column("n", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("n"),
    )
    op.execute("INSERT INTO unsent (n) SELECT n FROM outbox WHERE sent = 0")
    op.drop_index("pending", "outbox")
    op.drop_column("outbox", "sent")
