"""What transfer knows: registrations, transfers, which account supplies which unit, and what waits for a person."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import BigInteger, Column, Index, Integer, MetaData, Table, Text

transfer = MetaData(info={"branch": "transfer", "revisions": Path(__file__).with_name("migrations")})

# One row a registration of a unit, as last told.
Table(
    "registration", transfer,
    Column("subject", Text, primary_key=True),
    Column("source", Text, primary_key=True),
    Column("registration", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("correlation", Text),  # 关联号 of a split or merge
    Column("data", Text, nullable=False),  # all that was told of it, JSON; names are sealed
    Column("at", BigInteger, nullable=False),  # ms: when it was told
)  # fmt: skip
Index("family", transfer.tables["registration"].c.source, transfer.tables["registration"].c.correlation)

Table(
    "transfer", transfer,
    Column("id", Text, primary_key=True),
    Column("subject", Text, nullable=False, index=True),
    Column("registration", Text, nullable=False, index=True),
    Column("operator", Text, nullable=False),
    Column("utility", Text, nullable=False),
    Column("asked", Text, nullable=False),  # JSON: [step, choice] of each round
    Column("content", Text, nullable=False),  # digest of what was last said
    Column("said", Text, nullable=False),  # what was last said, JSON: a stop repeats it
    Column("answer", Text),  # the operator's last word that holds
    Column("answered_round", Integer, nullable=False),
    Column("told", Text, nullable=False),  # the rest of that answer, JSON
    Column("opened", BigInteger, nullable=False),  # ms
)  # fmt: skip

# 户号与不动产单元的对应: remembered after the first match.
Table(
    "link", transfer,
    Column("subject", Text, primary_key=True),
    Column("operator", Text, primary_key=True),
    Column("account", Text, primary_key=True),
    Column("closed", Integer, nullable=False),  # 1: the operator closed it, or replaced it by another
    Column("by_", Text, nullable=False),  # operator, or the person who matched it
    Column("at", BigInteger, nullable=False),
)  # fmt: skip

# What people decided. A match and a mark of settlement is of one transfer; `seen` of its remaining arrears were told.
Table(
    "decision", transfer,
    Column("transfer", Text, primary_key=True),
    Column("account", Text),
    Column("settled", Integer, nullable=False),  # how often someone saw it paid
    Column("told", Integer, nullable=False),  # 1: what arrears stay was told to whom it concerns
    Column("by_", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
)  # fmt: skip

# Which unit an account of a divided or merged unit goes to; '' = to none.
Table(
    "heir", transfer,
    Column("subject", Text, primary_key=True),
    Column("operator", Text, primary_key=True),
    Column("account", Text, primary_key=True),
    Column("successor", Text, nullable=False),
    Column("by_", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
)  # fmt: skip

# Units to look at again though no event of theirs came: a person decided, or a unit they were made from moved.
Table("wake", transfer, Column("subject", Text, primary_key=True), Column("at", BigInteger, nullable=False))

Table(
    "task", transfer,
    Column("id", Text, primary_key=True),
    Column("subject", Text, nullable=False, index=True),
    Column("kind", Text, nullable=False),
    Column("about", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("since", BigInteger, nullable=False),
    Column("done", BigInteger),
)  # fmt: skip
