"""What hookup knows: projects, what supports their hookups, the company's word, cases and their steps, permits, clocks, and
what waits for a person. Moments are milliseconds since 1970 UTC, days are ISO text."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import BigInteger, Column, Integer, MetaData, Table, Text

hookup = MetaData(info={"branch": "hookup", "revisions": Path(__file__).with_name("migrations")})

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
    Column("decided", BigInteger, nullable=False),
    Column("basis", Text),  # FULL, TOLERANT (容缺) or COMMITMENT (告知承诺)
    Column("missing", Text),  # JSON list: what is to be handed in
    Column("missing_due", Text),  # by that day; null once it was, or need not be
    Column("extended", Integer, nullable=False, server_default="0"),  # how often a construction permit was extended
    Column("historical", Integer, nullable=False, server_default="0"),
)  # fmt: skip

Table(
    "work", hookup,
    Column("subject", Text, primary_key=True),
    Column("work", Text, primary_key=True),
    Column("ordinal", Integer, nullable=False),  # the first 工程 adopts the project's own cases
)  # fmt: skip

# 前阶段工程 (QJDGCDM): which 工程 came of which. Two of one: a split; one of two: a merger.
Table(
    "lineage", hookup,
    Column("subject", Text, primary_key=True),
    Column("work", Text, primary_key=True),
    Column("previous", Text, primary_key=True),
)  # fmt: skip

Table(
    "survey", hookup,
    Column("subject", Text, primary_key=True),
    Column("source", Text, primary_key=True),
    Column("survey", Text, primary_key=True),
    Column("work", Text),
    Column("facts", Text),  # what it measured, as ProjectFacts has it, JSON; null: withdrawn or replaced
    Column("published", BigInteger, nullable=False),
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

# Contact data that the company opened to one operator; it is under a key of its own, which a withdrawal destroys.
Table(
    "consent", hookup,
    Column("subject", Text, primary_key=True),
    Column("operator", Text, primary_key=True),
    Column("contact", Text),  # {"contact_name": Sealed, "contact_phone": Sealed}, JSON; null: withdrawn
    Column("since", BigInteger, nullable=False),
)  # fmt: skip

# The works of the project itself began on this day, says the company (建筑法 9).
Table("begun", hookup, Column("subject", Text, primary_key=True), Column("on_", Text, nullable=False))

Table(
    "objection", hookup,
    Column("subject", Text, primary_key=True),
    Column("event", Text, primary_key=True),
    Column("objects_to", Text),
    Column("objection", Text, nullable=False),
    Column("since", BigInteger, nullable=False),
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
    Column("progress", Text),  # the last step that was applied (services/hookup/machine.py)
    Column("progressed", BigInteger),  # when that was
    Column("acknowledged", Text),  # SUSPENDED, RESUMED or CANCELLED: the last of these that the utility confirmed
    Column("protection", Text),  # NONE, PROTECT or MOVE
    Column("plan", Text),  # the plan replied, JSON
    Column("opened", BigInteger, nullable=False),
    Column("asked", BigInteger, nullable=False, server_default="0"),  # when it was told to stand where it stands
    Column("receipt", Text),  # the promise as it stood when the case was opened, JSON
)  # fmt: skip

# Every step of a utility that was applied, in the order it came.
Table(
    "step", hookup,
    Column("subject", Text, primary_key=True),
    Column("case_id", Text, primary_key=True),
    Column("n", Integer, primary_key=True),  # from 1
    Column("event", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("owner", Text, nullable=False),  # UTILITY, CUSTOMER, DEPARTMENT: whose time follows
    Column("data", Text, nullable=False),  # what else it said, JSON
)  # fmt: skip

# When a case rested, by the city's own word: from SUSPENDED until it went on or was cancelled.
Table(
    "rest", hookup,
    Column("subject", Text, primary_key=True),
    Column("case_id", Text, primary_key=True),
    Column("since", BigInteger, primary_key=True),
    Column("until", BigInteger),  # null: it rests
)  # fmt: skip

# Steps that were not applied: wrong in their place, contradicting, or of a case that never was. Each is answered once.
Table(
    "refusal", hookup,
    Column("subject", Text, primary_key=True),
    Column("event", Text, primary_key=True),
    Column("case_id", Text, nullable=False),
    Column("operator", Text, nullable=False),
    Column("because", Text, nullable=False),
    Column("data", Text, nullable=False),  # the step, JSON
    Column("at", BigInteger, nullable=False),
    Column("answered", Integer, nullable=False),
)  # fmt: skip

# One of the parallel permits for the works of a case (并联审批).
Table(
    "permit", hookup,
    Column("subject", Text, primary_key=True),
    Column("permit", Text, primary_key=True),
    Column("case_id", Text, nullable=False),
    Column("operator", Text, nullable=False),
    Column("works_kind", Text, nullable=False),
    Column("department", Text, nullable=False),
    Column("route", Text, nullable=False),
    Column("requested", Text, nullable=False),  # OPEN or CANCELLED
    Column("round", Integer, nullable=False),
    Column("content", Text, nullable=False),
    Column("data", Text, nullable=False),
    Column("asked", BigInteger, nullable=False),
    Column("due", BigInteger, nullable=False),
    Column("decision", Text),  # the department's last word
    Column("decided", BigInteger),
    Column("reason", Text),
)  # fmt: skip

# Where a case's owner wants to dig, so that others who want to dig there are found.
Table(
    "works", hookup,
    Column("subject", Text, primary_key=True),
    Column("case_id", Text, primary_key=True),
    Column("road", Text, nullable=False, index=True),
    Column("operator", Text, nullable=False),
    Column("start", Text, nullable=False),
    Column("finish", Text, nullable=False),
)  # fmt: skip

Table(
    "trench", hookup,
    Column("subject", Text, primary_key=True),
    Column("road", Text, primary_key=True),
    Column("status", Text, nullable=False),  # PROPOSED or WITHDRAWN
    Column("round", Integer, nullable=False),
    Column("content", Text, nullable=False),
)  # fmt: skip

# Something that did not happen in time (absence), as it was last published.
Table(
    "absence", hookup,
    Column("subject", Text, primary_key=True),
    Column("absence", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("about", Text, nullable=False),
    Column("status", Text, nullable=False),  # NOTICED or ENDED
    Column("round", Integer, nullable=False),
    Column("responsible", Text, nullable=False),  # an operator, a department, or the office
    Column("case_id", Text),
    Column("operator", Text),
    Column("since", BigInteger, nullable=False),
    Column("due", BigInteger, nullable=False),
    Column("provisional", Integer, nullable=False),
    Column("noticed", BigInteger, nullable=False),
    Column("ended", BigInteger),
)  # fmt: skip

# When a subject is to be looked at again, though nothing came: the next of its clocks.
Table(
    "wake", hookup,
    Column("subject", Text, primary_key=True),
    Column("at", BigInteger, nullable=False, index=True),
    Column("guessed", Integer, index=True),  # the last year with a published calendar, if it depends on a later one
)  # fmt: skip

# A promise that a later fact broke (承诺兑现): a fee above it, a contact too late, a visit that was not to be asked.
Table(
    "breach", hookup,
    Column("subject", Text, primary_key=True),
    Column("case_id", Text, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("detail", Text, nullable=False),
    Column("since", BigInteger, nullable=False),
)  # fmt: skip

Table(
    "task", hookup,
    Column("id", Text, primary_key=True),
    Column("subject", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("about", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("unit", Text, nullable=False, server_default="hookup-office"),  # in whose queue it stands
    Column("since", BigInteger, nullable=False),
    Column("done", BigInteger),  # by a person, or with its cause
    Column("gone", Integer, nullable=False, server_default="0"),  # whether its cause is: then it opens again with it
)  # fmt: skip
