"""What hookup knows: projects, what supports their hookups, confirmed demand, cases, and what waits for a person."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Integer, MetaData, Table, Text

hookup = MetaData()

Table(
    "project", hookup,
    Column("subject", Text, primary_key=True),
    Column("status", Text, nullable=False),  # the investment platform's last word; CANCELLED takes all support away
    Column("facts", Text, nullable=False),  # ProjectFacts, JSON
    Column("site_regions", Text, nullable=False),  # JSON list
    Column("authority_region", Text, nullable=False),
    Column("functional_zone", Text),
)  # fmt: skip

# A fact that may open cases: 立项, an approval, an acceptance. One row an item; its standing follows its decisions.
Table(
    "support", hookup,
    Column("subject", Text, primary_key=True),
    Column("source", Text, primary_key=True),
    Column("type", Text, primary_key=True),
    Column("item", Text, primary_key=True),
    Column("standing", Text, nullable=False),  # IN_FORCE, SUSPENDED or FALLEN
    Column("rows", Text, nullable=False),  # JSON: the city's trigger rows it met when it was decided
    Column("work", Text),  # 工程代码
    Column("phase", Integer, nullable=False),  # 分期, 1 if unphased
    Column("decision_kind", Text),
    Column("permit_part", Text),
    Column("document", Text),
    Column("site_regions", Text, nullable=False),
    Column("authority_region", Text, nullable=False),
    Column("functional_zone", Text),
    Column("facts", Text),  # ProjectFacts as this platform has them, JSON
    Column("decided", BigInteger, nullable=False),  # ms
)  # fmt: skip

Table(
    "work", hookup,
    Column("subject", Text, primary_key=True),
    Column("work", Text, primary_key=True),
    Column("ordinal", Integer, nullable=False),  # the first 工程 adopts the project's own cases
    Column("previous", Text),  # QJDGCDM
)  # fmt: skip

Table(
    "demand", hookup,
    Column("subject", Text, primary_key=True),
    Column("work", Text, primary_key=True),  # '' for the project
    Column("phase", Integer, primary_key=True),
    Column("demand", Text, nullable=False),  # Demand, JSON
    Column("basis", Text, nullable=False),
    Column("operators", Text, nullable=False),  # JSON list; empty: all
)  # fmt: skip

Table(
    "case_", hookup,
    Column("subject", Text, primary_key=True),
    Column("work", Text, primary_key=True),  # '' for the project and the first 工程
    Column("operator", Text, primary_key=True),
    Column("business_kind", Text, primary_key=True),
    Column("phase", Integer, primary_key=True),
    Column("id", Text, nullable=False),
    Column("utility", Text, nullable=False),
    Column("requested", Text, nullable=False),  # OPEN, SUSPENDED, CANCELLED; NONE while only the utility spoke of it
    Column("confirmed", Integer, nullable=False),  # whether a lead has become a request
    Column("round", Integer, nullable=False),
    Column("content", Text, nullable=False),  # digest of what was last said
    Column("data", Text, nullable=False),  # what was last said, JSON: a cancellation repeats it
    Column("progress", Text),  # the utility's last word
    Column("opened", BigInteger, nullable=False),  # ms
)  # fmt: skip

Table(
    "task", hookup,
    Column("id", Text, primary_key=True),
    Column("subject", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("about", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("since", BigInteger, nullable=False),
    Column("done", BigInteger),
)  # fmt: skip
