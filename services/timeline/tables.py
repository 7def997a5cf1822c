"""What the map keeps. `fact` holds every event as it came; the other tables are folds of it. Times: milliseconds UTC.

Dates are ISO text, lists are text with a space before and after each element, `detail` is JSON. Nothing personal.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, MetaData, String, Table, Text, text

from services.timeline.words import PATH

timeline = MetaData(info={"branch": "timeline", "revisions": Path(__file__).with_name("migrations")})
OF_ANOTHER = text("project <> subject")


def _texts(*names: str) -> list[Column[str]]:
    return [Column(name, Text) for name in names]


def _times(*names: str) -> list[Column[int]]:
    return [Column(name, BigInteger) for name in names]


Table(
    "fact", timeline,
    *(Column(name, Text, primary_key=True) for name in ("source", "type", "subject")),
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("id", String(36), nullable=False),
    Column("project", Text, nullable=False),  # the code on whose map it stands; a unit or firm without one: the subject
    Column("thread", Text, nullable=False),  # what it is about: facts of one thread are folded together
    Column("word", Text, nullable=False),  # its status, decision or action
    Column("time", BigInteger, nullable=False),
    Column("recorded", BigInteger, nullable=False),
    Column("historical", Boolean, nullable=False),
    Column("detail", Text, nullable=False),
    Index("fact_thread", "project", "thread"),
    # what a flat or a firm did on a project's map, for its own page; few facts are of that kind
    Index("fact_subject", "subject", sqlite_where=OF_ANOTHER, postgresql_where=OF_ANOTHER),
)  # fmt: skip
Table(  # what each source says of a project as a whole
    "told", timeline,
    *(Column(name, Text, primary_key=True) for name in ("project", "source", "type")),
    *_texts("name", "regions", "zone", "detail"),
)  # fmt: skip
Table(  # a project; and a unit or firm that something was said of
    "project", timeline,
    Column("code", Text, primary_key=True),
    Column("kind", Text, nullable=False),  # project (a local code too), unit or enterprise
    *_texts("name", "regions", "zone", "status", "decision_form", "document"),
    *_times("registered_at", "decided_at"),
    Column("stage", Integer, nullable=False, server_default="0"),  # the furthest reached, 1–4; 0: none yet
    Column("moved", BigInteger, nullable=False),  # when the newest of its events happened
    Column("change", BigInteger, nullable=False),  # grows with every fact learned about any project
    Index("project_moved", "kind", "moved", "code"),
    Index("project_change", "change"),
)  # fmt: skip
Table(  # 审批事项: one item, how far it is, and what was decided
    "item", timeline,
    *(Column(name, Text, primary_key=True) for name in ("project", "source", "instance")),
    *_texts("work", "previous_work", "name", "department", "status", "kind", "part", "decision", "basis", "buildings"),
    *_texts("document", "title", "decided_on", "valid_until", "missing", "missing_due"),
    Column("phase", Integer),
    Column("stage", Integer, nullable=False),
    Column("live", Boolean, nullable=False),  # under way or in force: it counts for the stage reached
    *_times("started_at", "moved_at", "decided_at"),
)  # fmt: skip
Table(
    "licence", timeline,
    *(Column(name, Text, primary_key=True) for name in ("project", "source", "licence")),
    *_texts("holder", "kind", "status", "issued_on", "valid_until", "scope"),
    *_times("moved_at"),
    Index("licence_holder", "holder"),
)  # fmt: skip
Table(
    "registration", timeline,
    *(Column(name, Text, primary_key=True) for name in ("project", "source", "registration")),
    *_texts("unit", "kind", "status", "usage", "registered_on", "detail"),
    *_times("moved_at"),
    Index("registration_unit", "unit"),
)  # fmt: skip
Table(  # 公用接入: one case, `state` folded from what was asked and what was answered
    "connection", timeline,
    *(Column(name, Text, primary_key=True) for name in ("project", "reference")),
    *_texts("operator", "utility", "business_kind", "work"),
    Column("phase", Integer),
    Column("state", Text, nullable=False),
    *_texts("segment_owner", "trigger_type", "trigger_kind", "trigger_part"),
    Column("contact_within_hours", Integer),
    *_texts("detail"),  # its promises, its plan, the answer to a protection request, what is missing, what was refused
    *_times("triggered_at", *(f"{step.lower()}_at" for step in PATH), "moved_at"),
    Index("connection_state", "operator", "utility", "state", "project"),
)  # fmt: skip
Table(  # 多测合一成果
    "survey", timeline,
    *(Column(name, Text, primary_key=True) for name in ("project", "source", "survey")),
    *_texts("status", "detail"),
    *_times("moved_at"),
)  # fmt: skip
Table(  # 并联许可: one permit for the works of a case
    "permit", timeline,
    *(Column(name, Text, primary_key=True) for name in ("project", "permit")),
    *_texts("reference", "state", "detail"),
    *_times("moved_at"),
)  # fmt: skip
Table(  # 一次开挖: a proposal to dig together
    "trench", timeline,
    *(Column(name, Text, primary_key=True) for name in ("project", "proposal")),
    *_texts("state", "detail"),
    *_times("moved_at"),
)  # fmt: skip
Table(  # 服务缺位: what did not happen in time, in the queue of who is responsible
    "absence", timeline,
    *(Column(name, Text, primary_key=True) for name in ("project", "absence")),
    *_texts("state", "kind", "responsible", "operator", "about", "reference"),
    *_times("since", "due"),
    Column("provisional", Boolean, nullable=False),
    *_times("noticed_at", "ended_at"),
    Index("absence_queue", "state", "responsible", "due", "absence"),
)  # fmt: skip
Table(  # 账户过户: one account of a unit
    "transfer", timeline,
    *(Column(name, Text, primary_key=True) for name in ("project", "transfer")),
    *_texts("operator", "utility", "state", "detail"),
    *_times("moved_at"),
)  # fmt: skip
Table("company", timeline, Column("project", Text, primary_key=True), *_texts("detail"), *_times("moved_at"))
Table("latest", timeline, Column("name", Text, primary_key=True), Column("change", BigInteger, nullable=False))
