"""The page of one project, unit or enterprise: its way through the stages, its utilities, its papers, its events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from decimal import Decimal
from itertools import groupby
from typing import Any

from jietong.markup import Html, tag, text
from services.timeline.absences import absences
from services.timeline.frame import (
    PASSED,
    City,
    both,
    document,
    dotted,
    empty,
    en,
    local,
    mark,
    moment,
    order,
    pill,
    provisional,
    section,
    span,
    stream,
    subject_url,
)
from services.timeline.reads import LINES
from services.timeline.redline import sketch
from services.timeline.transfers import transfers
from services.timeline.words import (
    ABOUT,
    BASES,
    BECAME,
    KINDS,
    OF_TYPE,
    PATH,
    PROMISES,
    STAGE_NAMES,
    STAGES,
    TYPES,
    UTILITIES,
    Name,
    name_of,
)
from services.timeline.works import permits, protection, standing_of_permits, trenches, utility_sign

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
SAID = (
    "operator", "business_kind", "works_kind", "registration_kind", "item_name", "decision_kind", "acceptance_kind",
    "permit_part", "licence_kind", "licence", "registration", "document_number", "kind", "responsible", "works_kind",
    "route", "road", "protection", "survey", "choice", "objects_to", "begun_on",
)  # fmt: skip
"""What a line says of its subject, in this order."""
PLAIN = ("FULL", "OTHER", "1")
"""Words that say nothing more."""


def project_page(city: City, change: int, project: dict[str, Any], now: int) -> Html:
    """One project, unit or enterprise. `now` (milliseconds UTC) tells how long something is overdue."""
    code, whole = project["code"], project["kind"] == "project"
    back = tag("a", "← 全部项目", en("All projects"), href="/")
    stages = _stages(project) if whole or project["items"] else ()
    cases = [case for case in project["cases"] if case["business_kind"] != "PROTECT"]
    utilities = (
        _cases(city, cases, project) if cases else [empty("尚无公用接入", "No utility case yet")] if whole else ()
    )
    papers = list(_papers(project))
    return document(
        city,
        project["name"] or code,
        stream(change, code),
        tag("nav", back, class_="back", aria_label="返回 Back"),
        tag("section", *_head(city, project), id="head", class_="head", data_part=True),
        absences(city, project, now),
        transfers(city, project),
        section("company", Name("企业意见", "The company's word"), *_company(city, project)),
        section("stages", Name("审批全过程", "Approvals"), *stages),
        protection(city, project),
        section("utilities", Name("公用接入", "Utilities"), *utilities),
        permits(city, project, now),
        trenches(city, project),
        section(
            "papers", Name("证照、登记与测绘", "Papers"), tag("ul", *papers) if papers else empty("尚无", "None yet")
        ),
        section("events", Name("大事记", "Events"), *_events(city, project["events"])),
    )


# -- what it is --------------------------------------------------------------------------------------------------------
def _head(city: City, project: dict[str, Any]) -> list[Html]:
    ended = project["status"] == "CANCELLED"
    reached: int = project["stage"]
    stage = (
        mark(STAGE_NAMES[reached], "working") if project["kind"] == "project" else mark(KINDS[project["kind"]], "idle")
    )
    facts = (tag("div", tag("dt", both(name)), tag("dd", value)) for name, value in _facts(city, project))
    about = tag(
        "div",
        tag("p", tag("bdi", project["code"]), class_="code"),
        tag("h1", tag("bdi", project["name"] or project["code"])),
        tag("p", pill("CANCELLED") if ended else stage, class_="standing"),
        tag("dl", *facts),
    )
    drawn = sketch(project["facts"].get("red_line"))
    source = project["facts"].get("red_line_source") or ""
    line = (
        tag("figure", drawn, tag("figcaption", both(Name("用地红线", "Red line")), tag("bdi", source)))
        if drawn
        else None
    )
    return [about, line] if line else [about]


def _facts(city: City, project: dict[str, Any]) -> Iterator[tuple[Name, Html]]:
    if project["regions"]:
        yield Name("区域", "Area"), tag("bdi", dotted(city.places(project["regions"]), project["zone"]))
    for field, name, unit in FACTS:
        if value := project["facts"].get(field):
            yield name, text(tag("bdi", _plain(value) if unit else value), unit)
    if at := project["registered_at"]:
        yield Name("赋码", "Registered"), moment(at)
    if at := project["decided_at"]:
        form = name_of(project["decision_form"]).zh if project["decision_form"] else None
        yield Name("立项", "Decided"), text(moment(at), " ", tag("bdi", dotted(form, project["document"])))
    if project["kind"] == "unit":
        for name, codes in _kin(project):
            yield name, text(*(tag("a", tag("bdi", code), href=subject_url(code), class_="kin") for code in codes))


def _kin(unit: dict[str, Any]) -> Iterator[tuple[Name, list[str]]]:
    """The project a unit was built by, the units it was made from, and those made from it."""
    rows, own = unit["registrations"], unit["code"]
    found = (
        (Name("所属项目", "Built by"), {row["project"] for row in rows}),
        (Name("来自单元", "Made from"), {code for row in rows for code in row.get("predecessors", ())}),
        (Name("分出单元", "Made into"), {code for row in rows for code in row.get("successors", ())}),
    )
    return ((name, sorted(codes - {own})) for name, codes in found if codes - {own})


# -- what the company says ---------------------------------------------------------------------------------------------
def _company(city: City, project: dict[str, Any]) -> list[Html]:
    lines = (
        tag("div", tag("dt", both(name)), tag("dd", value)) for name, value in _said(city, project["company"] or {})
    )
    return [tag("dl", *listed)] if (listed := list(lines)) else []


def _said(city: City, company: Mapping[str, Any]) -> Iterator[tuple[Name, Html]]:
    if at := company.get("confirmed_at"):
        basis = BASES.get(company["demand_basis"] or "", Name("", ""))
        yield Name("用量", "Demand"), text(basis.zh, " ", moment(at))
    if chosen := company.get("operators_chosen"):
        yield Name("选定企业", "Operators chosen"), tag("bdi", "、".join(city[code] for code in chosen))
    if consents := company.get("consents"):
        given = "、".join(_whom(city, code) for code, yes in sorted(consents.items()) if yes)
        taken = "、".join(_whom(city, code) for code, yes in sorted(consents.items()) if not yes)
        said = dotted(f"已同意：{given}" if given else None, f"已撤回：{taken}" if taken else None)
        yield Name("共享联系方式", "Contact data"), tag("bdi", said)
    if on := company.get("begun_on"):
        yield Name("工程开工", "Works begun"), text(on)
    for applied in company.get("applications", ()):
        what = dotted(*(name_of(applied[name]).zh for name in ("utility", "business_kind") if applied[name]))
        withdrawn = pill("APPLICATION_WITHDRAWN") if applied["withdrawn"] else None
        yield Name("申请", "Applied"), text(what, " ", moment(applied["at"]) if applied["at"] else None, " ", withdrawn)
    for objected in company.get("objections", ()):
        yield Name("提出异议", "Objected"), text(tag("bdi", objected["objects_to"] or "—"), " ", moment(objected["at"]))


def _whom(city: City, code: str) -> str:
    return "全部企业" if code == "*" else city[code]


# -- its approvals -----------------------------------------------------------------------------------------------------
def _stages(project: dict[str, Any]) -> list[Html]:
    items = project["items"]
    columns = (_stage(n, [row for row in items if row["stage"] == n]) for n in range(1, 5))
    other = [_item(row) for row in items if not row["stage"]]
    aside = (tag("h3", both(Name("其他事项", "Other items"))), tag("ul", *other, class_="items other"))
    return [tag("ol", *columns, class_="map"), *(aside if other else ()), *_lineage(project["lineage"])]


def _lineage(came: list[dict[str, str]]) -> Iterator[Html]:
    """工程沿革: which 工程 came of which, and whether it was split or merged."""
    if not came:
        return
    into = Counter(row["previous_work"] for row in came)
    out_of = Counter(row["work"] for row in came)
    yield tag("h3", both(Name("工程沿革", "Lineage of works")))
    yield tag(
        "ul",
        *(
            tag(
                "li",
                tag("bdi", row["previous_work"]), " → ", tag("bdi", row["work"]), " ",
                mark(Name("分拆", "Split"), "lead") if into[row["previous_work"]] > 1 else None,
                mark(Name("合并", "Merged"), "lead") if out_of[row["work"]] > 1 else None,
            )
            for row in came
        ),
        class_="lineage",
    )  # fmt: skip


def _plain(number: str) -> str:
    """A decimal as people write it: grouped, without the zeros that only fill its scale."""
    shown = f"{Decimal(number):,f}"
    return shown.rstrip("0").rstrip(".") if "." in shown else shown


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
        f"缺：{row['missing']}" if row["missing"] else None,
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
def _cases(city: City, cases: list[dict[str, Any]], project: dict[str, Any]) -> list[Html]:
    def place(case: dict[str, Any]) -> int:
        return order(case["utility"] or "", UTILITIES)

    def within(case: dict[str, Any]) -> tuple[str, int, str]:
        return case["operator"], case["triggered_at"] or 0, case["reference"]

    known = {case["reference"]: case for case in project["cases"]}
    grouped = groupby(sorted(cases, key=lambda case: (place(case), *within(case))), place)
    return [_utility(city, list(found), known) for _, found in grouped]


def _utility(city: City, cases: list[dict[str, Any]], known: Mapping[str, Any]) -> Html:
    utility = cases[0]["utility"] or ""
    name = UTILITIES.get(utility, Name("其他", "Other"))
    head = tag("h3", utility_sign(utility), tag("span", both(name)))
    return tag("div", head, tag("ul", *(_case(city, case, known) for case in cases)), class_="utility")


def _case(city: City, case: dict[str, Any], known: Mapping[str, Any]) -> Html:
    owner = name_of(case["segment_owner"]) if case["segment_owner"] and case["group"] == "working" else None
    waits = tag("span", "等待", owner.zh, en(f"Waits for {owner.en.lower()}"), class_="owner") if owner else None
    overdue = any(promise["became"] == "OVERDUE" for promise in case["promises"])
    head = (
        tag("strong", tag("bdi", city[case["operator"]])),
        tag("span", both(name_of(case["business_kind"] or "UNKNOWN"))),
        tag("span", f"分期 {case['phase']}") if (case["phase"] or 1) > 1 else None,
        waits,
        standing_of_permits(case),
        mark(Name("超过承诺时限", "Overdue"), "stopped") if overdue else None,
        pill(case["state"]),
    )
    promised = tag("ul", *map(_promise, case["promises"]), class_="promises") if case["promises"] else None
    notes = list(_notes(city, case, known))
    return tag(
        "li",
        tag("div", *head, class_="case"),
        _track(case),
        promised,
        tag("ul", *notes, class_="notes") if notes else None,
        data_key=case["reference"],
        id=f"c-{case['reference']}",
    )


def _promise(promise: Mapping[str, Any]) -> Html:
    """One promise and what became of it."""
    kind, promised, came = promise["kind"], promise["promised"], promise["came"]
    match kind:
        case "CONTACT" | "PROTECTION":
            said = text(moment(promised), " 前")
        case "PLAN" | "CONNECTION":
            said = text(f"{promised} 个工作日")
        case "FEE":
            said = text(f"≤ {_plain(promised)} 元", f"，收 {_plain(came)} 元" if came is not None else None)
        case _:
            said = text(promised, f" → {came}" if came not in (None, promised) else None)
    return tag(
        "li",
        tag("span", both(PROMISES[kind]), class_="what"),
        tag("bdi", said),
        provisional(promise["provisional"]),
        pill(promise["became"], BECAME),
    )


def _notes(city: City, case: dict[str, Any], known: Mapping[str, Any]) -> Iterator[Html]:
    if before := case.get("continues"):
        earlier = known.get(before)
        named = dotted(city[earlier["operator"]], name_of(earlier["business_kind"]).zh) if earlier else before
        yield tag("li", both(Name("承接", "Goes on from")), " ", tag("a", tag("bdi", named), href=f"#c-{before}"))
    if case.get("missing"):
        due = f"，限 {case['missing_due']} 前补齐" if case.get("missing_due") else ""
        yield tag("li", both(Name("尚缺", "Missing")), " ", tag("bdi", "、".join(case["missing"]), due))
    plan: Mapping[str, Any] = case.get("plan") or {}
    if plan:
        yield tag("li", both(Name("方案", "Plan")), " ", tag("bdi", dotted(*_plan(plan))))
    for refused in case["refused"]:
        step = name_of(refused["step"]).zh if refused["step"] else "—"
        why = (tag("bdi", f"{step}：{refused['because'] or '—'}"), " ", moment(refused["at"]))
        yield tag("li", mark(Name("未采纳的步骤", "Step not applied"), "stopped"), " ", *why)


def _plan(plan: Mapping[str, Any]) -> Iterator[str | None]:
    yield plan.get("capacity")
    yield f"外线 {_plain(plan['length_m'])} m" if plan.get("length_m") else None
    yield plan.get("road")
    yield f"{plan['days']} 个工作日" if plan.get("days") else None
    if plan.get("planned_start"):
        yield f"{plan['planned_start']} – {plan.get('planned_finish') or ''}"


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
    took = tag("span", f"+{span(at - before)}", class_="took") if before is not None else None
    return tag("li", tag("span", both(name), class_="step"), moment(at, seconds=True), took, class_="on")


# -- its papers and events ---------------------------------------------------------------------------------------------
def _papers(project: dict[str, Any]) -> Iterator[Html]:
    for row in project["licences"]:
        yield _paper(row["kind"], row["licence"], row["status"], row["issued_on"], row["scope"])
    for row in project["registrations"]:
        kind = name_of(row["kind"]).zh if row["kind"] else "不动产登记"
        unit = tag("a", tag("bdi", row["unit"]), href=subject_url(row["unit"]))
        yield _paper(kind, row["registration"], row["status"], row["registered_on"], row["usage"], unit)
    for row in project["surveys"]:
        yield _survey(row)


def _survey(row: Mapping[str, Any]) -> Html:
    stage = STAGE_NAMES[STAGES.index(row["stage"]) + 1].zh if row.get("stage") in STAGES else None
    measured = dotted(
        f"用地 {_plain(row['land_area'])} m²" if row.get("land_area") else None,
        f"建筑 {_plain(row['floor_area'])} m²" if row.get("floor_area") else None,
        f"高 {_plain(row['height'])} m" if row.get("height") else None,
    )
    beside = (
        stage,
        "、".join(row.get("survey_items", ())),
        row.get("published_on"),
        row.get("surveyor_name"),
        measured,
    )
    by = row["superseded_by"]
    return tag(
        "li",
        tag("strong", "多测合一成果"),
        mark(Name("已被替代", "Superseded"), "idle") if by else pill(row["status"]),
        tag("bdi", row["survey"], class_="code"),
        *(tag("span", tag("bdi", said)) for said in beside if said),
        tag("span", "替代为 ", tag("bdi", by)) if by else None,
        data_key=f"survey {row['source']} {row['survey']}",
    )


def _paper(
    kind: str | None, number: str, status: str, on: str | None, scope: str | None, unit: Html | None = None
) -> Html:
    beside = (tag("span", tag("bdi", said)) for said in (on, scope) if said)
    named = (tag("strong", tag("bdi", kind)), pill(status), tag("bdi", number, class_="code"), unit)
    return tag("li", *named, *beside, data_key=number)


def _events(city: City, events: list[dict[str, Any]]) -> list[Html]:
    by_day = groupby(events, lambda event: f"{local(event['time']):%Y-%m-%d}")
    days = [
        tag("div", tag("h3", day), tag("ol", *(_line(city, event) for event in found)), class_="day")
        for day, found in by_day
    ]
    return days if len(events) < LINES else [*days, empty(f"只显示最近 {LINES} 条", f"The newest {LINES} only")]


def _word(city: City, field: str, word: str) -> str:
    named = ABOUT.get(field, {}).get(word)
    return named.zh if named else city.names.get(word) or (city[word] if field == "responsible" else name_of(word).zh)


def _line(city: City, event: dict[str, Any]) -> Html:
    at, about = local(event["time"]), event["about"]
    fields = [field for field in SAID if field in about and str(about[field]) not in PLAIN]
    subject = dotted(*(_word(city, field, str(about[field])) for field in fields))
    names = OF_TYPE.get(event["type"], {})
    past = tag("span", both(Name("历史数据", "Historical")), class_="pill idle") if event["historical"] else None
    return tag(
        "li",
        tag("time", f"{at:%H:%M:%S}", datetime=at.isoformat()),
        tag("span", both(TYPES.get(event["type"], Name(event["type"], ""))), class_="kind"),
        tag(
            "span",
            tag("strong", both(names.get(event["word"]) or name_of(event["word"]))),
            " ",
            tag("bdi", subject),
            past,
            class_="what",
        ),
        data_key=f"{event['time']} {event['type']} {event['word']} {subject}",
    )
