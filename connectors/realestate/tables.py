"""The real-estate platform's own tables. Times are milliseconds since 1970 UTC, decimals and days are text."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Integer, MetaData, Table, Text, UniqueConstraint

realestate = MetaData()

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
