"""The investment platform's own tables. Times are milliseconds since 1970 UTC, decimals and days are text."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import BigInteger, Column, Integer, MetaData, Table, Text

from jietong.store import Row

investment = MetaData(info={"branch": "investment", "revisions": Path(__file__).with_name("migrations")})

DECIMALS = ("longitude", "latitude", "total_investment", "land_area", "floor_area", "height")
DAYS = ("planned_start", "planned_finish")
NUMBERS = ("buildings", "households", "floors")
TEXTS = (
    "name", "kind", "address", "applicant_uscc", "applicant_name", "content", "contact_name", "contact_phone",
    "authority_region", "functional_zone",
)  # fmt: skip
FACTS = TEXTS + DECIMALS + DAYS + NUMBERS + ("site_regions", "contact_consent")

Table(
    "project", investment,
    Column("code", Text, primary_key=True),
    Column("status", Text, nullable=False),  # REGISTERED, DECIDED, CANCELLED
    Column("decision_form", Text, nullable=False),
    Column("document_number", Text),
    *(Column(name, Text) for name in TEXTS + DECIMALS + DAYS),
    *(Column(name, Integer) for name in NUMBERS),
    Column("site_regions", Text, nullable=False),  # codes, separated by spaces
    Column("contact_consent", Integer, nullable=False),
    Column("registered_at", BigInteger, nullable=False),
    Column("changed_at", BigInteger, nullable=False),
)  # fmt: skip

# 办理记录: what was done to a project, and by which command, so that a repeated one does nothing.
Table(
    "handling", investment,
    Column("n", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("code", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("command", Text, unique=True),
    sqlite_autoincrement=True,
)  # fmt: skip

COLUMNS = ("code", "status", "decision_form", "document_number", *FACTS)


def named(row: Row) -> dict[str, object]:
    """A row of `COLUMNS` by name."""
    return dict(zip(COLUMNS, row, strict=True))
