"""An operator's own tables. Nothing of ours is in them; times are milliseconds since 1970 UTC, decimals are text."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import BigInteger, Column, Index, Integer, MetaData, Table, Text

utility = MetaData(info={"branch": "utility", "revisions": Path(__file__).with_name("migrations")})

CASE = (
    "case_id", "subject", "utility", "business_kind", "phase", "work", "status", "done", "asked", "round", "request_id",
    "request_sequence", "request_source", "received_at", "triggered_at", "contact_within_hours", "customer_role",
    "demand_basis", "name", "address", "site_regions", "facts", "answer_by", "plan_days", "connect_days", "fee", "boundary",
    "missing", "missing_due", "permits", "permits_reason", "continues", "refused", "since", "contact_name", "contact_phone",
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
    Column("answer_by", BigInteger),  # the next word is promised by then
    Column("plan_days", Integer),
    Column("connect_days", Integer),
    Column("fee", Text),  # the most that was promised
    Column("boundary", Text),  # up to where the operator promised to pay
    Column("missing", Text),  # papers that the approval lacks, JSON
    Column("missing_due", Text),  # the approval lacks a paper until that day
    Column("permits", Text),  # PENDING, GRANTED, REFUSED: the parallel permits for the works
    Column("permits_reason", Text),
    Column("continues", Text),
    Column("refused", Text),  # why the last step was not accepted by the city
    Column("since", BigInteger, nullable=False),  # the last step before the customer asked again; 0: the case began once
    Column("contact_name", Text),  # opened to this operator by the company, until it withdraws
    Column("contact_phone", Text),
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
    "length_m", "fee", "days", "boundary", "works_kinds", "road", "area_m2", "depth_m", "pipe_dn_mm", "voltage", "trees", "emergency",
    "planned_start", "planned_finish", "protection", "visit_demanded",
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
    Column("boundary", Text),
    Column("works_kinds", Text),  # separated by spaces
    Column("road", Text),
    Column("area_m2", Text),
    Column("depth_m", Text),
    Column("pipe_dn_mm", Integer),
    Column("voltage", Text),
    Column("trees", Integer),
    Column("emergency", Integer),
    Column("planned_start", Text),
    Column("planned_finish", Text),
    Column("protection", Text),  # NONE, PROTECT, MOVE
    Column("visit_demanded", Integer),
    sqlite_autoincrement=True,
)  # fmt: skip
Index("changed", utility.tables["progress"].c.stamp, utility.tables["progress"].c.n)

Table("blocked", utility, Column("subject", Text, primary_key=True))
Table("switch", utility, Column("name", Text, primary_key=True), Column("value", Integer, nullable=False))

# -- the account book (户号台账) -----------------------------------------------------------------------------------------
ACCOUNT = (
    "account", "utility", "unit", "holder", "status", "arrears", "meter", "meter_unit", "smart", "auto_debit", "contract",
)  # fmt: skip

Table(
    "account", utility,
    Column("account", Text, primary_key=True),  # 户号
    Column("utility", Text, nullable=False),
    Column("unit", Text, index=True),  # null: the book does not know which unit it supplies
    Column("holder", Text),  # sealed, JSON; null: nobody, or not known by name
    Column("status", Text, nullable=False),  # OPEN, CLOSED
    Column("arrears", Text, nullable=False),  # CNY
    Column("meter", Text),  # the last reading; null: no meter
    Column("meter_unit", Text),
    Column("smart", Integer, nullable=False),  # 1: it reads itself
    Column("auto_debit", Integer, nullable=False),  # 代扣
    Column("contract", Integer, nullable=False),  # 1: its holder has signed, under the real name
)  # fmt: skip

ACCOUNT_CASE = (
    "transfer", "subject", "registration", "utility", "step", "choice", "basis", "round", "asked", "matched", "unmatched",
    "predecessors", "party", "signed", "safe", "reading", "done", "refused", "request_id", "request_sequence", "received_at",
)  # fmt: skip

# One row a transfer, whatever was asked of it since.
Table(
    "account_case", utility,
    Column("transfer", Text, primary_key=True),
    Column("subject", Text, nullable=False),
    Column("registration", Text, nullable=False),
    Column("utility", Text, nullable=False),
    Column("step", Text, nullable=False),
    Column("choice", Text, nullable=False),
    Column("basis", Text),
    Column("round", Integer, nullable=False),
    Column("asked", Text),  # the account named in the request
    Column("matched", Text),  # the account it is, by the book or by a clerk
    Column("unmatched", Integer, nullable=False),  # 1: a clerk looked, and it is none of ours
    Column("predecessors", Text, nullable=False),  # units, separated by spaces
    Column("party", Text),  # the new holder, sealed, JSON
    Column("signed", Integer, nullable=False),
    Column("safe", Integer, nullable=False),  # 安检
    Column("reading", Text),  # at handover
    Column("done", Text),  # what was done: the new account, or ''; null: nothing yet
    Column("refused", Text),
    Column("request_id", Text, nullable=False),
    Column("request_sequence", BigInteger, nullable=False),
    Column("received_at", BigInteger, nullable=False),
)  # fmt: skip

Table("account_receipt", utility, Column("event_id", Text, primary_key=True))

ACCOUNT_ANSWER = (
    "n", "transfer", "subject", "registration", "status", "round", "request_id", "request_sequence", "at", "stamp", "reason",
    "account", "new_account", "arrears", "arrears_stay", "meter_reading", "meter_unit", "auto_debit_stopped",
    "contract_signed", "safety_checked",
)  # fmt: skip

# One row an answer, never changed.
Table(
    "account_answer", utility,
    Column("n", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("transfer", Text, nullable=False, index=True),
    Column("subject", Text, nullable=False),
    Column("registration", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("round", Integer, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("request_sequence", BigInteger, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("stamp", BigInteger, nullable=False),  # when the row was written
    Column("reason", Text),
    Column("account", Text),
    Column("new_account", Text),
    Column("arrears", Text),
    Column("arrears_stay", Integer),
    Column("meter_reading", Text),
    Column("meter_unit", Text),
    Column("auto_debit_stopped", Integer),
    Column("contract_signed", Integer),
    Column("safety_checked", Integer),
    sqlite_autoincrement=True,
)  # fmt: skip
Index("answered", utility.tables["account_answer"].c.stamp, utility.tables["account_answer"].c.n)
