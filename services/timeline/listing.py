"""The first page: all projects, last moved first, with counts above and a search."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import urlencode

from jietong.markup import Html, tag
from services.timeline.frame import (
    GLYPHS,
    City,
    both,
    document,
    en,
    mark,
    moment,
    order,
    pill,
    queue_url,
    stream,
    subject_url,
)
from services.timeline.reads import Cursor, Filter, Found, Overview
from services.timeline.words import (
    ABSENCES,
    GROUP,
    GROUPS,
    KINDS,
    SIGNS,
    STAGE_NAMES,
    STATES,
    TRANSFERS,
    UTILITIES,
    Name,
    name_of,
)

QUEUES = 12
"""Longest queues named above the list."""
HEADS = (
    Name("项目", "Project"),
    Name("区域", "Area"),
    Name("审批阶段", "Stage"),
    Name("公用接入", "Utilities"),
    Name("最近变动", "Last change"),
)


def list_page(city: City, change: int, counts: Overview, narrowed: Filter, after: Cursor | None, page: Found) -> Html:
    """All projects, last moved first."""
    empty = tag("p", "没有符合条件的项目", en("No project matches"), class_="empty")
    found = (
        tag(
            "p",
            f"共 {page.total:,} 个{KINDS[narrowed.kind].zh}",
            en(f"{page.total:,} in all"),
            *_others(counts, narrowed),
            class_="found",
        ),
        _table(city, page.projects) if page.projects else empty,
        _pager(narrowed, after, page.following),
    )
    cells = _counts(city, counts, narrowed)
    return document(
        city,
        city.name.zh,
        stream(change),
        tag("h1", city.name.zh, "工程项目", en(f"Projects in {city.name.en}"), class_="hidden"),
        tag("section", *cells, id="counts", class_="counts", aria_label="总数 Counts", data_part=True),
        _search(city, counts, narrowed),
        tag("section", *found, id="projects", aria_label="项目 Projects", data_part=True),
    )


def _counts(city: City, counts: Overview, narrowed: Filter) -> list[Html]:
    def cell(mark: str, name: Name, n: int, target: Filter, kind: str) -> Html:
        what = tag("span", tag("i", mark, aria_hidden="true") if mark else None, both(name))
        here = "true" if target == narrowed else None
        return tag("a", tag("b", f"{n:,}"), what, href=_url(target), class_=f"count {kind}", aria_current=here)

    stages = [cell(str(n), STAGE_NAMES[n], counts.stages[n], Filter(stage=n), "stage") for n in range(1, 5)]
    groups = [cell(GLYPHS[group], GROUPS[group], counts.groups[group], Filter(state=group), group) for group in GROUPS]
    return [
        cell("", Name("全部项目", "All projects"), counts.projects, Filter(), "all"),
        tag(
            "div", tag("h2", both(Name("到达阶段", "Stage reached"))), tag("div", *stages, class_="cells"), class_="row"
        ),
        tag(
            "div", tag("h2", both(Name("公用接入", "Utility cases"))), tag("div", *groups, class_="cells"), class_="row"
        ),
        *_absent(city, counts, narrowed),
    ]


def _absent(city: City, counts: Overview, narrowed: Filter) -> Iterator[Html]:
    """Open absences, and in whose queues they stand."""
    total = sum(counts.absences.values())
    if not total:
        return
    target = Filter(absence="open")
    here = "true" if target == narrowed else None
    what = tag("span", both(Name("服务缺位", "Open absences")))
    most = sorted(counts.absences.items(), key=lambda pair: (-pair[1], pair[0]))[:QUEUES]
    queues = (tag("a", tag("bdi", city[who]), f" {n:,}", href=queue_url(who), class_="chip stopped") for who, n in most)
    yield tag(
        "div",
        tag("a", tag("b", f"{total:,}"), what, href=_url(target), class_="count stopped", aria_current=here),
        tag("p", tag("span", both(Name("责任单位队列", "Queues"))), *queues, class_="queues"),
        class_="row absent",
    )


def _search(city: City, counts: Overview, narrowed: Filter) -> Html:
    def choice(name: str, title: Name, chosen: str, options: Iterable[tuple[str, str]]) -> Html:
        listed = (tag("option", shown, value=value, selected=value == chosen) for value, shown in options)
        field = tag("select", tag("option", "全部 All", value=""), *listed, name=name)
        return tag("label", tag("span", both(title)), field)

    q = {"type": "search", "name": "q", "value": narrowed.q, "maxlength": 100, "autocomplete": "off"}
    stages = [(str(n), f"{name.zh} {name.en}") for n, name in enumerate(STAGE_NAMES)]
    operators = sorted(counts.operators, key=lambda code: (order(counts.operators[code], UTILITIES), code))
    states = [*GROUPS.items(), *((state, Name(f"· {name_of(state).zh}", name_of(state).en)) for state in STATES)]
    absent = [("open", "未消除 Open"), *((kind, f"· {name.zh}") for kind, name in ABSENCES.items())]
    return tag(
        "form",
        tag("label", tag("span", both(Name("项目代码或名称", "Code or name"))), tag("input", **q), class_="q"),
        choice("stage", Name("到达阶段", "Stage"), "" if narrowed.stage is None else str(narrowed.stage), stages),
        choice("area", Name("区域", "Area"), narrowed.area, ((code, city[code]) for code in counts.areas)),
        choice("operator", Name("公用企业", "Operator"), narrowed.operator, ((code, city[code]) for code in operators)),
        choice("state", Name("接入状态", "Case state"), narrowed.state, ((s, f"{n.zh} {n.en}") for s, n in states)),
        choice("absence", Name("服务缺位", "Absences"), narrowed.absence, absent),
        _kind(counts, narrowed),
        tag("button", both(Name("查询", "Search"))),
        tag("a", both(Name("清除", "Clear")), href="/", class_="clear") if narrowed != Filter() else None,
        role="search",
        method="get",
        action="/",
        class_="search",
    )


def _others(counts: Overview, narrowed: Filter) -> Iterator[Html]:
    """Where else something is listed."""
    for kind, name in KINDS.items():
        if kind != narrowed.kind and counts.kinds[kind]:
            yield tag("a", f"{name.zh} {counts.kinds[kind]:,}", en(name.en), href=_url(Filter(kind=kind)))


def _kind(counts: Overview, narrowed: Filter) -> Html | None:
    """Units and firms have a list of their own, once there are any."""
    if not any(n for kind, n in counts.kinds.items() if kind != "project") and narrowed.kind == "project":
        return None
    listed = (
        tag("option", f"{name.zh} {counts.kinds[kind]:,}", value=kind, selected=kind == narrowed.kind)
        for kind, name in KINDS.items()
    )
    return tag("label", tag("span", both(Name("对象", "Kind"))), tag("select", *listed, name="kind"))


def _table(city: City, found: list[dict[str, Any]]) -> Html:
    heads = tag("thead", tag("tr", *(tag("th", both(head), scope="col") for head in HEADS)))
    rows = tag("tbody", *(_row(city, project) for project in found))
    return tag("table", tag("caption", "项目列表 Projects", class_="hidden"), heads, rows, class_="projects")


def _row(city: City, project: dict[str, Any]) -> Html:
    code: str = project["code"]
    stage: int = project["stage"]
    utilities = sorted(project["utilities"].items(), key=lambda pair: order(pair[0], UTILITIES))
    name = (
        tag("a", tag("bdi", project["name"] or code), href=subject_url(code), id=f"p-{code}"),
        pill("CANCELLED") if project["status"] == "CANCELLED" else None,
        mark(Name(f"缺位 {absent}", f"{absent} absent"), "stopped") if (absent := project["absences"]) else None,
        tag("small", tag("bdi", code), class_="code"),
    )
    moving = (pill(state, {state: _counted(state, n)}) for state, n in project["transfers"].items())
    zone = tag("small", tag("bdi", project["zone"])) if project["zone"] else None
    dots = tag("span", *(tag("i", class_="on" if n <= stage else None) for n in range(1, 5)), class_="mini")
    cells = (
        tag("td", city.places(project["regions"]), zone, class_="area"),
        tag("td", dots, tag("span", both(STAGE_NAMES[stage])), class_="stage"),
        tag("td", *(_chip(utility, states) for utility, states in utilities), *moving, class_="chips"),
        tag("td", moment(project["moved"]), class_="moved"),
    )
    return tag("tr", tag("th", *name, scope="row"), *cells, data_key=code)


def _counted(state: str, n: int) -> Name:
    name = TRANSFERS.get(state, name_of(state))
    return Name(f"{name.zh} {n}", name.en)


def _chip(utility: str, states: Mapping[str, int]) -> Html:
    """One utility's cases at a glance: what is furthest behind decides."""
    groups = {GROUP[state] for state in states}
    group = next(g for g in GROUPS if g in groups)
    said = "，".join(f"{name_of(state).zh} {states[state]}" for state in STATES if state in states)
    title = f"{name_of(utility).zh}：{said}"
    sign = tag("span", SIGNS.get(utility, "？"), tag("i", GLYPHS[group]), aria_hidden="true")
    return tag("span", sign, tag("span", title, class_="hidden"), class_=f"chip {group}", title=title)


def _pager(narrowed: Filter, after: Cursor | None, following: Cursor | None) -> Html | None:
    links = (
        tag("a", both(Name("回到第一页", "First page")), href=_url(narrowed), rel="first") if after else None,
        tag("a", both(Name("下一页", "Next page")), href=_url(narrowed, following), rel="next") if following else None,
    )
    return tag("nav", *links, class_="pager", aria_label="分页 Pages") if any(links) else None


def _url(narrowed: Filter, after: Cursor | None = None) -> str:
    chosen = {
        "q": narrowed.q,
        "stage": "" if narrowed.stage is None else str(narrowed.stage),
        "area": narrowed.area,
        "operator": narrowed.operator,
        "state": narrowed.state,
        "absence": narrowed.absence,
        "kind": "" if narrowed.kind == "project" else narrowed.kind,
        "after": str(after) if after else "",
    }
    given = urlencode({name: value for name, value in chosen.items() if value})
    return f"/?{given}" if given else "/"
