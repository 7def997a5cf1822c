"""An operator's own tables. Nothing of ours is in them; times are milliseconds since 1970 UTC, decimals are text."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, MetaData, Table, Text

utility = MetaData()

CASE = (
    "case_id", "subject", "utility", "business_kind", "phase", "work", "status", "done", "asked", "round", "request_id",
    "request_sequence", "request_source", "received_at", "triggered_at", "contact_within_hours", "customer_role",
    "demand_basis", "name", "address", "site_regions", "facts",
)  # fmt: skip

# One row a case, whatever was asked of it since.
Table(
    "case_", utility,
    Column("case_id", Text, primary_key=True),
    Column("subject", Text, nullable=False, index=True),  # the project, unit or enterprise
    Column("utility", Text, nullable=False),
    Column("business_kind", Text, nullable=False),
    Column("phase", Integer, nullable=False),
    Column("work", Text),
    Column("status", Text, nullable=False, index=True),  # what holds now: of `done` and `asked`
    Column("done", Text, nullable=False),  # the last step the operator took, LEAD before the first
    Column("asked", Text, nullable=False),  # the newest request's status
    Column("round", Integer, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("request_sequence", BigInteger, nullable=False),
    Column("request_source", Text, nullable=False),
    Column("received_at", BigInteger, nullable=False),  # of the first message
    Column("triggered_at", BigInteger, nullable=False),  # of the first message
    Column("contact_within_hours", Integer),
    Column("customer_role", Text, nullable=False),
    Column("demand_basis", Text, nullable=False),
    Column("name", Text),
    Column("address", Text),
    Column("site_regions", Text, nullable=False),  # codes, separated by spaces
    Column("facts", Text, nullable=False),  # project and demand as JSON, nothing personal
)  # fmt: skip

# What came in, so that the same message coming again does nothing.
Table(
    "receipt", utility,
    Column("event_id", Text, primary_key=True),
    Column("case_id", Text, nullable=False, index=True),
    Column("sequence", BigInteger, nullable=False),
    Column("received_at", BigInteger, nullable=False),
    Column("effect", Text, nullable=False),  # opened, updated, or stale: a newer one was here before
)  # fmt: skip

PROGRESS = (
    "n", "case_id", "subject", "business_kind", "phase", "work", "status", "reason", "at", "stamp", "answers_request",
    "answers_sequence", "segment_owner", "account", "promised_days", "works_external", "access_point", "capacity",
    "length_m", "fee", "days",
)  # fmt: skip

# One row a step, never changed: it says of its case what was so then.
Table(
    "progress", utility,
    Column("n", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("case_id", Text, nullable=False, index=True),
    Column("subject", Text, nullable=False),
    Column("business_kind", Text, nullable=False),
    Column("phase", Integer, nullable=False),
    Column("work", Text),
    Column("status", Text, nullable=False),
    Column("reason", Text),
    Column("at", BigInteger, nullable=False),
    Column("stamp", BigInteger, nullable=False),  # when the row was changed
    Column("answers_request", Text, nullable=False),
    Column("answers_sequence", BigInteger, nullable=False),
    Column("segment_owner", Text, nullable=False),
    Column("account", Text),
    Column("promised_days", Integer),
    Column("works_external", Integer),  # null: no plan
    Column("access_point", Text),
    Column("capacity", Text),
    Column("length_m", Text),
    Column("fee", Text),
    Column("days", Integer),
    sqlite_autoincrement=True,
)  # fmt: skip
Index("changed", utility.tables["progress"].c.stamp, utility.tables["progress"].c.n)

Table("blocked", utility, Column("subject", Text, primary_key=True))
Table("switch", utility, Column("name", Text, primary_key=True), Column("value", Integer, nullable=False))
