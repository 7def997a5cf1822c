"""The first page: all projects, last moved first, with counts above and a search."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote, urlencode

from services.timeline.frame import GLYPHS, City, both, document, en, moment, order, pill, stream
from services.timeline.markup import Html, tag
from services.timeline.reads import Cursor, Filter, Found, Overview
from services.timeline.words import GROUP, GROUPS, SIGNS, STAGE_NAMES, STATES, UTILITIES, Name, name_of

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
        tag("p", f"共 {page.total:,} 个项目", en(f"{page.total:,} in all"), class_="found"),
        _table(city, page.projects) if page.projects else empty,
        _pager(narrowed, after, page.following),
    )
    cells = _counts(counts, narrowed)
    return document(
        city,
        city.name.zh,
        stream(change),
        tag("h1", city.name.zh, "工程项目", en(f"Projects in {city.name.en}"), class_="hidden"),
        tag("section", *cells, id="counts", class_="counts", aria_label="总数 Counts", data_part=True),
        _search(city, counts, narrowed),
        tag("section", *found, id="projects", aria_label="项目 Projects", data_part=True),
    )


def _counts(counts: Overview, narrowed: Filter) -> list[Html]:
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
    ]


def _search(city: City, counts: Overview, narrowed: Filter) -> Html:
    def choice(name: str, title: Name, chosen: str, options: Iterable[tuple[str, str]]) -> Html:
        listed = (tag("option", shown, value=value, selected=value == chosen) for value, shown in options)
        field = tag("select", tag("option", "全部 All", value=""), *listed, name=name)
        return tag("label", tag("span", both(title)), field)

    q = {"type": "search", "name": "q", "value": narrowed.q, "maxlength": 100, "autocomplete": "off"}
    stages = [(str(n), f"{name.zh} {name.en}") for n, name in enumerate(STAGE_NAMES)]
    operators = sorted(counts.operators, key=lambda code: (order(counts.operators[code], UTILITIES), code))
    states = [*GROUPS.items(), *((state, Name(f"· {name_of(state).zh}", name_of(state).en)) for state in STATES)]
    return tag(
        "form",
        tag("label", tag("span", both(Name("项目代码或名称", "Code or name"))), tag("input", **q), class_="q"),
        choice("stage", Name("到达阶段", "Stage"), "" if narrowed.stage is None else str(narrowed.stage), stages),
        choice("area", Name("区域", "Area"), narrowed.area, ((code, city[code]) for code in counts.areas)),
        choice("operator", Name("公用企业", "Operator"), narrowed.operator, ((code, city[code]) for code in operators)),
        choice("state", Name("接入状态", "Case state"), narrowed.state, ((s, f"{n.zh} {n.en}") for s, n in states)),
        tag("button", both(Name("查询", "Search"))),
        tag("a", both(Name("清除", "Clear")), href="/", class_="clear") if narrowed != Filter() else None,
        role="search",
        method="get",
        action="/",
        class_="search",
    )


def _table(city: City, found: list[dict[str, Any]]) -> Html:
    heads = tag("thead", tag("tr", *(tag("th", both(head), scope="col") for head in HEADS)))
    rows = tag("tbody", *(_row(city, project) for project in found))
    return tag("table", tag("caption", "项目列表 Projects", class_="hidden"), heads, rows, class_="projects")


def _row(city: City, project: dict[str, Any]) -> Html:
    code: str = project["code"]
    stage: int = project["stage"]
    utilities = sorted(project["utilities"].items(), key=lambda pair: order(pair[0], UTILITIES))
    name = (
        tag("a", tag("bdi", project["name"] or code), href=project_url(code), id=f"p-{code}"),
        pill("CANCELLED") if project["status"] == "CANCELLED" else None,
        tag("small", tag("bdi", code), class_="code"),
    )
    zone = tag("small", tag("bdi", project["zone"])) if project["zone"] else None
    dots = tag("span", *(tag("i", class_="on" if n <= stage else None) for n in range(1, 5)), class_="mini")
    cells = (
        tag("td", city.places(project["regions"]), zone, class_="area"),
        tag("td", dots, tag("span", both(STAGE_NAMES[stage])), class_="stage"),
        tag("td", *(_chip(utility, states) for utility, states in utilities), class_="chips"),
        tag("td", moment(project["moved"]), class_="moved"),
    )
    return tag("tr", tag("th", *name, scope="row"), *cells, data_key=code)


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
        "after": str(after) if after else "",
    }
    given = urlencode({name: value for name, value in chosen.items() if value})
    return f"/?{given}" if given else "/"


def project_url(code: str) -> str:
    """A project's page: a local code may hold anything."""
    return f"/p/{quote(code, safe='')}"
