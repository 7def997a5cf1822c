"""The page of one project: its way through the stages, its utilities, its papers, its events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from itertools import groupby
from typing import Any

from services.timeline.frame import PASSED, City, both, document, en, local, moment, order, pill, stream
from services.timeline.markup import Html, Part, tag, text
from services.timeline.reads import LINES
from services.timeline.words import PATH, SIGNS, STAGE_NAMES, TYPES, UTILITIES, Name, name_of

HOUR = 3_600_000
TRACK = ("LEAD", "CONTACTED", "ACCEPTED", "PLAN_REPLIED", "CONNECTED")
"""Steps of the path that are drawn before they are reached; the others only then."""
FACTS = (
    ("applicant_name", Name("建设单位", "Developer"), ""),
    ("address", Name("建设地点", "Site"), ""),
    ("content", Name("建设内容", "Works"), ""),
    ("total_investment", Name("总投资", "Investment"), " 万元"),
    ("land_area", Name("用地面积", "Land"), " m²"),
    ("floor_area", Name("建筑面积", "Floor area"), " m²"),
    ("planned_start", Name("计划开工", "Planned start"), ""),
    ("planned_finish", Name("计划竣工", "Planned finish"), ""),
)
ABOUT = (
    "operator", "business_kind", "works_kind", "registration_kind", "item_name", "decision_kind", "acceptance_kind",
    "permit_part", "licence_kind", "licence", "registration", "document_number",
)  # fmt: skip
"""What a line says of its subject, in this order."""
PLAIN = ("FULL", "OTHER", "1")
"""Words that say nothing more."""


def project_page(city: City, change: int, project: dict[str, Any], now: int) -> Html:
    """One project. `now` (milliseconds UTC) tells which promised contact is overdue."""
    code = project["code"]
    papers = list(_papers(project))
    back = tag("a", "← 全部项目", en("All projects"), href="/")
    return document(
        city,
        project["name"] or code,
        stream(change, code),
        tag("nav", back, class_="back", aria_label="返回 Back"),
        tag("section", *_head(city, project), id="head", class_="head", data_part=True),
        _section("stages", Name("审批全过程", "Approvals"), *_stages(project["items"])),
        _section("utilities", Name("公用接入", "Utilities"), *_cases(city, project["cases"], now)),
        _section("papers", Name("证照与登记", "Papers"), tag("ul", *papers) if papers else _empty("尚无", "None yet")),
        _section("events", Name("大事记", "Events"), *_events(city, project["events"])),
    )


def _section(key: str, title: Name, *parts: Part) -> Html:
    head = tag("h2", both(title), id=f"{key}-title")
    return tag("section", head, *parts, id=key, class_=key, aria_labelledby=f"{key}-title", data_part=True)


def _empty(zh: str, words: str) -> Html:
    return tag("p", zh, en(words), class_="empty")


# -- what it is --------------------------------------------------------------------------------------------------------
def _head(city: City, project: dict[str, Any]) -> list[Html]:
    ended = project["status"] == "CANCELLED"
    reached: int = project["stage"]
    stage = tag("span", both(STAGE_NAMES[reached]), class_="pill working")
    facts = (tag("div", tag("dt", both(name)), tag("dd", value)) for name, value in _facts(city, project))
    return [
        tag("p", tag("bdi", project["code"]), class_="code"),
        tag("h1", tag("bdi", project["name"] or project["code"])),
        tag("p", pill("CANCELLED") if ended else stage, class_="standing"),
        tag("dl", *facts),
    ]


def _facts(city: City, project: dict[str, Any]) -> Iterator[tuple[Name, Html]]:
    if project["regions"]:
        yield Name("区域", "Area"), tag("bdi", _dotted(city.places(project["regions"]), project["zone"]))
    for field, name, unit in FACTS:
        if value := project["facts"].get(field):
            yield name, text(tag("bdi", _plain(value) if unit else value), unit)
    if at := project["registered_at"]:
        yield Name("赋码", "Registered"), moment(at)
    if at := project["decided_at"]:
        form = name_of(project["decision_form"]).zh if project["decision_form"] else None
        yield Name("立项", "Decided"), text(moment(at), " ", tag("bdi", _dotted(form, project["document"])))


def _plain(number: str) -> str:
    """A decimal as people write it: grouped, without the zeros that only fill its scale."""
    shown = f"{Decimal(number):,f}"
    return shown.rstrip("0").rstrip(".") if "." in shown else shown


# -- its approvals -----------------------------------------------------------------------------------------------------
def _stages(items: list[dict[str, Any]]) -> list[Html]:
    columns = (_stage(n, [row for row in items if row["stage"] == n]) for n in range(1, 5))
    other = [_item(row) for row in items if not row["stage"]]
    aside = (tag("h3", both(Name("其他事项", "Other items"))), tag("ul", *other, class_="items other"))
    return [tag("ol", *columns, class_="map"), *(aside if other else ())]


def _stage(n: int, items: list[dict[str, Any]]) -> Html:
    passed = sum(_standing(row) in PASSED for row in items)
    tone = "idle" if not items else "done" if passed == len(items) else "working"
    count = text(f"{passed} / {len(items)} 项通过", en("passed")) if items else both(Name("未开始", "Not started"))
    head = tag("h3", tag("b", n, aria_hidden="true"), tag("span", both(STAGE_NAMES[n])))
    listed = tag("ul", *map(_item, items), class_="items") if items else None
    return tag("li", head, tag("p", count, class_="count"), listed, class_=f"stage {tone}")


def _item(row: Mapping[str, Any]) -> Html:
    part = f"（{name_of(row['part']).zh}）" if row["part"] not in (None, "FULL") else ""
    name = row["name"] or row["title"] or (name_of(row["kind"]).zh if row["kind"] else row["instance"])
    given = tag("span", both(name_of(row["basis"])), class_="pill lead") if row["basis"] not in (None, "FULL") else None
    lines = (
        row["department"],
        row["document"],
        f"分期 {row['phase']}" if (row["phase"] or 1) > 1 else None,
        row["buildings"],
        f"限 {row['missing_due']} 前补齐" if row["missing_due"] else None,
        f"有效期至 {row['valid_until']}" if row["valid_until"] and row["valid_until"] < "9999" else None,
    )
    return tag(
        "li",
        tag("p", tag("bdi", name), part if part not in name else None, class_="name"),
        tag("p", pill(_standing(row)), given),
        tag("p", moment(row["started_at"]), " → ", moment(row["decided_at"] or row["moved_at"]), class_="dates"),
        *(tag("p", tag("bdi", line), class_="line") for line in lines if line),
        data_key=f"{row['source']} {row['instance']}",
    )


def _standing(row: Mapping[str, Any]) -> str:
    return row["decision"] or row["status"] or ("DOCUMENTED" if row["document"] else "UNKNOWN")


# -- its utilities -----------------------------------------------------------------------------------------------------
def _cases(city: City, cases: list[dict[str, Any]], now: int) -> list[Html]:
    def place(case: dict[str, Any]) -> int:
        return order(case["utility"] or "", UTILITIES)

    def within(case: dict[str, Any]) -> tuple[str, int, str]:
        return case["operator"], case["triggered_at"] or 0, case["reference"]

    grouped = groupby(sorted(cases, key=lambda case: (place(case), *within(case))), place)
    return [_utility(city, list(found), now) for _, found in grouped] or [_empty("尚无公用接入", "No utility case yet")]


def _utility(city: City, cases: list[dict[str, Any]], now: int) -> Html:
    utility = cases[0]["utility"] or ""
    name = UTILITIES.get(utility, Name("其他", "Other"))
    sign = tag("b", SIGNS.get(utility, "？"), aria_hidden="true", class_="sign")
    head = tag("h3", sign, tag("span", both(name)))
    return tag("div", head, tag("ul", *(_case(city, case, now) for case in cases)), class_="utility")


def _case(city: City, case: dict[str, Any], now: int) -> Html:
    owner = name_of(case["segment_owner"]) if case["segment_owner"] and case["group"] == "working" else None
    waits = tag("span", "等待", owner.zh, en(f"Waits for {owner.en.lower()}"), class_="owner") if owner else None
    late = tag("span", both(Name("超过承诺时限", "Overdue")), class_="pill stopped") if _overdue(case, now) else None
    head = (
        tag("strong", tag("bdi", city[case["operator"]])),
        tag("span", both(name_of(case["business_kind"] or "UNKNOWN"))),
        tag("span", f"分期 {case['phase']}") if (case["phase"] or 1) > 1 else None,
        waits,
        late,
        pill(case["state"]),
    )
    return tag("li", tag("div", *head, class_="case"), _track(case), data_key=case["reference"])


def _overdue(case: dict[str, Any], now: int) -> bool:
    """Whether a lead has waited longer for its first contact than the city promises (承诺时限)."""
    lead = next((step["at"] for step in case["steps"] if step["step"] == "LEAD"), None)
    promised = case["contact_within_hours"]
    return case["state"] == "LEAD" and None not in (lead, promised) and now > lead + promised * HOUR


def _track(case: dict[str, Any]) -> Html:
    """From the approval to the connection, each step with its time and how long it took since the one before."""
    times = {step["step"]: step["at"] for step in case["steps"]}
    shown = [step for step in PATH if step in times or (step in TRACK and case["group"] in ("lead", "working"))]
    nodes, before = [_node(Name("批准", "Approved"), case["triggered_at"], None)], case["triggered_at"]
    for step in shown:
        nodes.append(_node(name_of(step), times.get(step), before))
        before = times.get(step, before)
    return tag("ol", *nodes, class_=f"track {case['group']}")


def _node(name: Name, at: int | None, before: int | None) -> Html:
    if at is None:
        return tag("li", tag("span", both(name), class_="step"))
    took = tag("span", f"+{_span(at - before)}", class_="took") if before is not None else None
    return tag("li", tag("span", both(name), class_="step"), moment(at, seconds=True), took, class_="on")


def _span(ms: int) -> str:
    """How long, in the unit that fits."""
    seconds = max(ms, 0) / 1000
    for size, unit in ((86_400, "天 d"), (3_600, "小时 h"), (60, "分 min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} 秒 s"


# -- its papers and events ---------------------------------------------------------------------------------------------
def _papers(project: dict[str, Any]) -> Iterator[Html]:
    for row in project["licences"]:
        yield _paper(row["kind"], row["licence"], row["status"], row["issued_on"], row["scope"])
    for row in project["registrations"]:
        kind = name_of(row["kind"]).zh if row["kind"] else "不动产登记"
        yield _paper(kind, row["unit"], row["status"], row["registered_on"], row["usage"])


def _paper(kind: str, number: str, status: str, on: str | None, scope: str | None) -> Html:
    beside = (tag("span", tag("bdi", said)) for said in (on, scope) if said)
    named = (tag("strong", tag("bdi", kind)), pill(status), tag("bdi", number, class_="code"))
    return tag("li", *named, *beside, data_key=number)


def _events(city: City, events: list[dict[str, Any]]) -> list[Html]:
    by_day = groupby(events, lambda event: f"{local(event['time']):%Y-%m-%d}")
    days = [
        tag("div", tag("h3", day), tag("ol", *(_line(city, event) for event in found)), class_="day")
        for day, found in by_day
    ]
    return days if len(events) < LINES else [*days, _empty(f"只显示最近 {LINES} 条", f"The newest {LINES} only")]


def _line(city: City, event: dict[str, Any]) -> Html:
    at, about = local(event["time"]), event["about"]
    said = [str(about[field]) for field in ABOUT if field in about and about[field] not in PLAIN]
    subject = _dotted(*(city.names.get(word) or name_of(word).zh for word in said))
    past = tag("span", both(Name("历史数据", "Historical")), class_="pill idle") if event["historical"] else None
    return tag(
        "li",
        tag("time", f"{at:%H:%M:%S}", datetime=at.isoformat()),
        tag("span", both(TYPES.get(event["type"], Name(event["type"], ""))), class_="kind"),
        tag("span", tag("strong", both(name_of(event["word"]))), " ", tag("bdi", subject), past, class_="what"),
        data_key=f"{event['time']} {event['type']} {event['word']} {subject}",
    )


def _dotted(*parts: str | None) -> str:
    return " · ".join(part for part in parts if part)
