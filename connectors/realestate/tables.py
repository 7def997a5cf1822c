"""The real-estate platform's own tables. Times are milliseconds since 1970 UTC, decimals and days are text."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import BigInteger, Column, Integer, MetaData, Table, Text, UniqueConstraint

realestate = MetaData(info={"branch": "realestate", "revisions": Path(__file__).with_name("migrations")})

LICENCE = (
    "licence", "project_code", "status", "holder_uscc", "holder_name", "scope", "units", "issued_on", "valid_until",
    "authority_region",
)  # fmt: skip

Table(
    "licence", realestate,
    Column("licence", Text, primary_key=True),
    Column("project_code", Text, nullable=False),
    Column("status", Text, nullable=False),  # the last thing that became of it
    Column("holder_uscc", Text, nullable=False),
    Column("holder_name", Text, nullable=False),
    Column("scope", Text, nullable=False),
    Column("units", Integer, nullable=False),
    Column("issued_on", Text, nullable=False),
    Column("valid_until", Text),
    Column("authority_region", Text, nullable=False),
)  # fmt: skip

# 宗地: the piece of land of a project, numbered within its county.
Table(
    "parcel", realestate,
    Column("project_code", Text, primary_key=True),
    Column("county", Text, nullable=False),
    Column("number", Integer, nullable=False),
    UniqueConstraint("county", "number"),
)  # fmt: skip

# 登记簿: one row a unit.
Table(
    "unit", realestate,
    Column("code", Text, primary_key=True),
    Column("project_code", Text, nullable=False),
    Column("registration", Text, nullable=False, index=True),
    Column("usage", Text, nullable=False),
    Column("area", Text, nullable=False),
    Column("registered_at", BigInteger, nullable=False),
)  # fmt: skip

# 办理记录: what was done to which licence or registration, and by which command, so that a repeated one does nothing.
Table(
    "handling", realestate,
    Column("n", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("about", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("command", Text, unique=True),
    sqlite_autoincrement=True,
)  # fmt: skip

# -- transfers, splits and merges ----------------------------------------------------------------------------------------
# 权利人: who owns a unit now, by name where the registry said so; sealed, JSON.
Table(
    "owner", realestate,
    Column("unit", Text, primary_key=True),
    Column("name", Text),
    Column("registration", Text, nullable=False),
)  # fmt: skip

# 多测合一: what was surveyed for all, so that nobody measures again for the register.
Table(
    "surveyed", realestate,
    Column("source", Text, primary_key=True),
    Column("survey", Text, primary_key=True),
    Column("project", Text, nullable=False, index=True),
    Column("stands", Integer, nullable=False),  # 0: withdrawn, or replaced
    Column("units", Text, nullable=False),  # separated by spaces
    Column("floor_area", Text),  # m²
    Column("sequence", BigInteger, nullable=False),
)  # fmt: skip

# A unit that was divided or merged away.
Table("ended", realestate, Column("unit", Text, primary_key=True), Column("registration", Text, nullable=False))

# 受理: one row an application.
Table(
    "application", realestate,
    Column("registration", Text, primary_key=True),  # 受理号
    Column("kind", Text, nullable=False),
    Column("status", Text, nullable=False, index=True),  # ACCEPTED, REGISTERED, WITHDRAWN
    Column("basis", Text),
    Column("party", Text, nullable=False),  # the new owner, JSON; personal fields sealed
    Column("accepted_at", BigInteger, nullable=False),
)  # fmt: skip

# One row a unit that an application is about.
Table(
    "concerned", realestate,
    Column("registration", Text, primary_key=True),
    Column("unit", Text, primary_key=True),
    Column("role", Text, nullable=False),  # OF a transfer; BEFORE and AFTER a split or merge
    Column("usage", Text, nullable=False),
    Column("area", Text, nullable=False),
    Column("accounts", Text, nullable=False),  # the applicant's choices, JSON
)  # fmt: skip

RESULT = (
    "transfer", "registration", "unit", "operator", "utility", "step", "choice", "round", "status", "answered_round", "sequence",
    "account", "new_account", "arrears", "arrears_stay", "reason",
)  # fmt: skip

# What came back of each account: what was asked of its operator, and its last word.
Table(
    "result", realestate,
    Column("transfer", Text, primary_key=True),
    Column("registration", Text, nullable=False, index=True),
    Column("unit", Text, nullable=False),
    Column("operator", Text, nullable=False),
    Column("utility", Text),  # null: only its answer is here yet
    Column("step", Text),
    Column("choice", Text),
    Column("round", Integer, nullable=False),
    Column("status", Text),
    Column("answered_round", Integer, nullable=False),
    Column("sequence", BigInteger, nullable=False),  # of the answer
    Column("account", Text),
    Column("new_account", Text),
    Column("arrears", Text),
    Column("arrears_stay", Integer),
    Column("reason", Text),
)  # fmt: skip
