"""What did not happen in time (服务缺位): on the page of whom it concerns, and as the queue of who is responsible."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jietong.markup import Html, tag
from services.timeline.frame import (
    City,
    both,
    document,
    dotted,
    empty,
    en,
    mark,
    moment,
    provisional,
    queue_url,
    section,
    span,
    stream,
    subject_url,
)
from services.timeline.reads import Cursor, Queue
from services.timeline.words import ABSENCES, WORKS_KINDS, Name, name_of

Row = Mapping[str, Any]


def absences(city: City, project: Row, now: int) -> Html:
    """Open ones first, each with who is responsible; then those that are over."""
    rows = project["absences"]
    open_, over = ([row for row in rows if (row["state"] == "NOTICED") is wanted] for wanted in (True, False))
    parts = (
        tag("ul", *(_open(city, project, row, now) for row in open_), class_="open") if open_ else None,
        tag("ul", *(_over(city, project, row) for row in over), class_="over") if over else None,
    )
    count = f"{len(open_)} 项未消除" if open_ else "均已消除"
    title = Name(f"服务缺位（{count}）", f"Absences, {len(open_)} open")
    return section("absences", title, *(part for part in parts if part))


def _open(city: City, project: Row, row: Row, now: int) -> Html:
    about = _about(city, project, row)
    return tag(
        "li",
        tag("strong", both(_kind(row))),
        tag("span", about, class_="about") if about else None,
        tag("span", "责任单位 ", _responsible(city, row["responsible"])),
        *_due(row, now),
        data_key=row["absence"],
    )


def _over(city: City, project: Row, row: Row) -> Html:
    about = dotted(_kind(row).zh, _about(city, project, row), city[row["responsible"]])
    ended = (tag("span", tag("bdi", about)), " ", moment(row["due"]), " → ", moment(row["ended_at"]))
    return tag("li", mark(Name("已消除", "Ended"), "done"), *ended, data_key=row["absence"])


def _kind(row: Row) -> Name:
    return ABSENCES.get(row["kind"], Name(row["kind"], ""))


def _responsible(city: City, who: str) -> Html:
    return tag("a", tag("bdi", city[who]), href=queue_url(who))


def _due(row: Row, now: int) -> tuple[Html | None, ...]:
    """When it was due, and how long ago: some are noticed before, while something can still be done."""
    late = row["due"] <= now
    name = Name(f"逾期 {span(now - row['due'])}", "overdue") if late else Name(f"还有 {span(row['due'] - now)}", "left")
    return (
        tag("span", "应于 ", moment(row["due"]), " 前", class_="due"),
        provisional(row["provisional"]),
        mark(name, "stopped" if late else "lead"),
    )


def _about(city: City, project: Row, row: Row) -> str:
    """The case, the permit, or else the document."""
    permit = next((p for p in project["permits"] if p["permit"] == row["about"]), None)
    case = next((c for c in project["cases"] if c["reference"] == row["reference"]), None)
    works = WORKS_KINDS.get(permit.get("works_kind") or "", Name("", "")).zh if permit else None
    if case:
        return dotted(city[case["operator"]], name_of(case["business_kind"] or "UNKNOWN").zh, works)
    return dotted(city[row["operator"]] if row["operator"] else None, works) or row["about"]


# -- the queue ---------------------------------------------------------------------------------------------------------
def queue_page(city: City, change: int, responsible: str, after: Cursor | None, found: Queue, now: int) -> Html:
    """Everything that is open with one operator, department or the office, longest overdue first."""
    name = city[responsible]
    here = queue_url(responsible)
    links = (
        tag("a", both(Name("回到第一页", "First page")), href=here, rel="first") if after else None,
        tag("a", both(Name("下一页", "Next page")), href=f"{here}?after={found.following}", rel="next")
        if found.following
        else None,
    )
    listed = tag("ul", *(_waiting(city, row, now) for row in found.absences), class_="open")
    return document(
        city,
        f"{name} · 待办缺位",
        stream(change),
        tag("nav", tag("a", "← 全部项目", en("All projects"), href="/"), class_="back", aria_label="返回 Back"),
        tag(
            "section",
            tag("h1", tag("bdi", name)),
            tag("p", both(Name(f"缺位队列：{found.total:,} 项待处理", f"Queue of absences: {found.total:,} open"))),
            id="head",
            class_="head",
            data_part=True,
        ),
        section(
            "absences",
            Name("服务缺位", "Absences"),
            listed if found.absences else empty("没有待处理的缺位", "Nothing is absent"),
            tag("nav", *links, class_="pager", aria_label="分页 Pages") if any(links) else None,
        ),
    )


def _waiting(city: City, row: Row, now: int) -> Html:
    kind, works = row["business_kind"], WORKS_KINDS.get(row["works_kind"] or "")
    whose = city[row["operator"]] if row["operator"] else None
    about = dotted(whose, name_of(kind).zh if kind else None, works.zh if works else None, row["road"]) or row["about"]
    return tag(
        "li",
        tag("strong", both(_kind(row))),
        tag("a", tag("bdi", row["name"] or row["project"]), href=subject_url(row["project"])),
        tag("span", tag("bdi", about), class_="about"),
        *_due(row, now),
        data_key=f"{row['project']} {row['absence']}",
    )
