"""What is settled before and for the works: protection of what lies there, the parallel permits, and digging once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

from jietong.markup import Html, tag
from services.timeline.frame import City, both, dotted, local, mark, moment, pill, provisional, section, subject_url
from services.timeline.words import (
    OF_TYPE,
    PERMITS,
    PROTECTION,
    ROUTES,
    SIGNS,
    TRENCHES,
    UTILITIES,
    WORKS_KINDS,
    Name,
    name_of,
)

Row = Mapping[str, Any]
DECIDED = OF_TYPE["works.permit.decided.v1"]
LATE = Name("逾期", "Late")


# -- protection --------------------------------------------------------------------------------------------------------
def protection(city: City, project: Row) -> Html:
    """管线保护: what every pipe owner whose area meets the red line answered, and whether works began before."""
    asked = sorted((c for c in project["cases"] if c["business_kind"] == "PROTECT"), key=lambda c: c["operator"])
    company: Row = project["company"] or {}
    begun = company.get("begun_on")
    silent = [case for case in asked if not case.get("protection") and case["group"] in ("lead", "working")]
    warned = tag(
        "p", both(Name("已开工，仍有管线单位未答复", "Works began before every owner answered")), class_="warning"
    )
    listed = tag("ul", *(_owner(city, case) for case in asked), class_="owners") if asked else None
    parts = (warned if begun and silent else None, listed)
    title = Name("管线保护（开工前）", "Lines to protect, before the start of works")
    return section("protection", title, *(part for part in parts if part))


def _owner(city: City, case: Row) -> Html:
    answer, promise = case.get("protection"), next(iter(case["promises"]), None)
    silent = case["group"] in ("lead", "working")
    standing = (
        mark(PROTECTION.get(answer, Name(answer, "")), "done" if answer == "NONE" else "lead")
        if answer
        else mark(Name("待答复", "No answer yet"), "idle")
        if silent
        else pill(case["state"])
    )
    late = promise is not None and promise["became"] in ("OVERDUE", "LATE")
    due = (
        (tag("span", "应于 ", moment(promise["promised"]), " 前答复"), provisional(promise["provisional"]))
        if promise
        else ()
    )
    return tag(
        "li",
        utility_sign(case["utility"]),
        tag("strong", tag("bdi", city[case["operator"]])),
        standing,
        pill(case["state"]) if answer in ("PROTECT", "MOVE") else None,
        tag("span", "答复 ", moment(case["protected_at"])) if case.get("protected_at") else None,
        *(due if not answer or late else ()),
        mark(LATE, "stopped") if late else None,
        data_key=case["reference"],
        id=f"c-{case['reference']}",
    )


# -- permits -----------------------------------------------------------------------------------------------------------
def permits(city: City, project: Row, now: int) -> Html:
    """并联许可: by case, every department with its route, its clock and its decision."""
    cases = {case["reference"]: case for case in project["cases"]}
    rows = sorted(project["permits"], key=lambda row: row["reference"] or "")
    packages = [
        _package(city, cases.get(reference), list(found), now)
        for reference, found in groupby(rows, lambda row: row["reference"] or "")
    ]
    return section("permits", Name("接入工程并联许可", "Works permits in parallel"), *packages)


def _package(city: City, case: Row | None, rows: list[Row], now: int) -> Html:
    operator = next((row["operator"] for row in rows if row.get("operator")), None)
    kind = name_of(case["business_kind"]).zh if case and case["business_kind"] else None
    asked = [row["state"] for row in rows if row["state"] != "CANCELLED"]
    decided = sum(state != "REQUESTED" for state in asked)
    head = tag(
        "h3",
        tag("span", tag("bdi", dotted(city[operator] if operator else None, kind) or "—")),
        tag(
            "span",
            both(Name(f"{len(asked)} 项并联，办结 {decided} 项", f"{decided} of {len(asked)} decided")),
            class_="count",
        ),
        standing_of_permits(case) if case else None,
    )
    return tag("div", head, tag("ul", *(_permit(city, row, now) for row in rows)), class_="package")


def standing_of_permits(case: Row) -> Html | None:
    """Where the permits of a case stand, as its newest request says."""
    state = case.get("permits")
    return pill(state, PERMITS) if state else None


def _permit(city: City, row: Row, now: int) -> Html:
    department = row.get("department")
    late = _late(row, now)
    return tag(
        "li",
        tag("strong", both(WORKS_KINDS.get(row.get("works_kind") or "", name_of("UNKNOWN")))),
        tag("span", tag("bdi", city[department] if department else row.get("department_name") or "—")),
        mark(ROUTES[row["route"]], "idle") if row.get("route") in ROUTES else None,
        tag("span", *_clock(row), class_="clock"),
        mark(LATE, "stopped") if late else None,
        pill(row["state"], DECIDED),
        tag("span", tag("bdi", dotted(*_works(row))), class_="line"),
        data_key=row["permit"],
    )


def _clock(row: Row) -> Iterator[Html | str]:
    if row.get("asked_at"):
        yield "申请 "
        yield moment(row["asked_at"])
    if row.get("due_on"):
        yield f" 限 {row['due_on']}"
    if row.get("decided_at"):
        yield " 办结 "
        yield moment(row["decided_at"])
    if row.get("working_days_used") is not None:
        yield f"（用时 {row['working_days_used']} 个工作日）"


def _late(row: Row, now: int) -> bool:
    """Whether it was decided, or is not yet, after the last day of the promise."""
    until = row.get("decided_at") or (now if row["state"] == "REQUESTED" else None)
    return bool(row.get("due_on") and until and f"{local(until):%Y-%m-%d}" > row["due_on"])


def _works(row: Row) -> Iterator[str | None]:
    yield row.get("road")
    yield f"长 {_number(row['length_m'])} m" if row.get("length_m") else None
    yield f"面积 {_number(row['area_m2'])} m²" if row.get("area_m2") else None
    if row.get("planned_start"):
        yield f"{row['planned_start']} – {row.get('planned_finish') or ''}"
    yield row.get("document_number")
    yield f"有效期至 {row['valid_until']}" if row.get("valid_until") else None


def _number(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text else text


# -- dig once ----------------------------------------------------------------------------------------------------------
def trenches(city: City, project: Row) -> Html:
    """一次开挖: where several owners could share a trench, and roads that must not be dug."""
    cards = [_trench(city, project, row) for row in project["trenches"]]
    return section("trenches", Name("一次开挖", "Dig once"), *([tag("ul", *cards)] if cards else ()))


def _trench(city: City, project: Row, row: Row) -> Html:
    state = "stopped" if row["state"] == "WITHDRAWN" else "lead"
    window = f"可合并 {row['window_start']} – {row['window_finish']}" if row["window_start"] else None
    closed = row["moratorium_until"]
    return tag(
        "li",
        tag(
            "p",
            tag("strong", tag("bdi", row["road"])),
            " ",
            mark(TRENCHES.get(row["state"], name_of(row["state"])), state),
        ),
        tag("p", window) if window else None,
        tag("p", tag("bdi", dotted(f"{closed} 前禁挖", row["moratorium_reason"])), class_="warning")
        if closed
        else None,
        tag("ul", *(_planned(city, project, works) for works in row["works"] or ())),
        data_key=row["proposal"],
    )


def _planned(city: City, project: Row, works: Row) -> Html:
    other = works["subject"] != project["code"]
    where = tag("a", tag("bdi", works["subject"]), href=subject_url(works["subject"])) if other else None
    when = f"{works['planned_start']} – {works['planned_finish']}"
    return tag("li", tag("bdi", city[works["operator"]]), " ", tag("span", when), " " if where else None, where)


def utility_sign(utility: str | None) -> Html:
    """A utility by its one character, for eyes; its name beside it is for everyone."""
    return tag(
        "b",
        SIGNS.get(utility or "", "？"),
        aria_hidden="true",
        class_="sign",
        title=UTILITIES.get(utility or "", Name("其他", "")).zh,
    )
