from __future__ import annotations

import asyncio
import base64
import json
import random
import re
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from uuid import NAMESPACE_URL, uuid5

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from jietong.adapters.sqlite import SqliteStore, SqliteTransaction, ThreadBell
from jietong.errors import RetriableError, UsageError
from jietong.event import Event
from jietong.identifiers import ProjectCode
from jietong.store import Parameters
from services.timeline import live
from services.timeline.guard import Login, guard
from services.timeline.page import READERS, app
from services.timeline.tables import timeline
from services.timeline.timeline import Timeline
from services.timeline.words import GROUP, PATH
from tests.unit.test_timeline import (
    ACCEPTANCE,
    ANSWERED,
    APPROVAL,
    ASKED,
    CATALOG,
    INVESTMENT,
    ITEM,
    LICENCE,
    MORNING,
    Streams,
    facts,
    learn,
)  # fmt: skip

JIANGMEN = {"zh": "江门市", "en": "Jiangmen"}
NAMES = {
    "jm-water": "江门供水", "jm-drainage": "江门排水", "jm-power": "江门供电局", "jm-gas": "江门燃气",
    "jm-telecom-a": "江门电信", "jm-telecom-b": "江门移动", "jm-cable": "江门广电",
}  # fmt: skip
NOW = datetime(2026, 6, 1, tzinfo=UTC)
LOGIN = Login("city", "correct horse")
HTML = {"accept": "text/html"}


# -- a seeded city -----------------------------------------------------------------------------------------------------
OPERATORS = [
    ("jm-water", "WATER"), ("jm-drainage", "DRAINAGE"), ("jm-power", "POWER"), ("jm-gas", "GAS"),
    ("jm-telecom-a", "TELECOM"), ("jm-telecom-b", "TELECOM"), ("jm-cable", "CABLE_TV"),
]  # fmt: skip
ITEMS = [
    ("建设项目用地预审与选址意见书核发", "LAND_USE", "OTHER", "FULL"),
    ("建设用地规划许可证核发", "LAND_USE", "LAND_USE_PLANNING", "FULL"),
    ("建设工程设计方案审查", "ENGINEERING_PLANNING", "OTHER", "FULL"),
    ("建设工程规划许可证核发", "ENGINEERING_PLANNING", "ENGINEERING_PLANNING", "FULL"),
    ("建筑工程施工许可证核发", "CONSTRUCTION", "CONSTRUCTION", "EARTHWORK"),
    ("建筑工程施工许可证核发", "CONSTRUCTION", "CONSTRUCTION", "MAIN"),
    ("建设工程消防设计审查", "CONSTRUCTION", "FIRE_DESIGN", "FULL"),
    ("竣工联合验收", "ACCEPTANCE", None, "FULL"),
]
PLACES = ["滨江新区", "银湖湾", "会城", "外海", "水口", "共和", "恩城", "白沙"]
WORKS = ["智能制造产业园", "第三中学扩建工程", "人民医院门诊楼", "人才公寓", "污水处理厂", "物流中心", "标准厂房"]
COUNTIES = ["440703", "440704", "440705", "440781", "440783", "440784", "440785"]


Tell = Callable[..., Event]


def code_of(n: int) -> str:
    return str(ProjectCode.make(month=date(2026, 4, 1), region=COUNTIES[n % 7], serial=n))


def story(streams: Streams, rng: random.Random, n: int) -> Iterator[Event]:
    """One project as far as it has come."""
    code, county, at = code_of(n), COUNTIES[n % 7], rng.uniform(0, 40_000)
    zone = rng.choice([None, None, "江门高新区"])
    where = {"site_regions": [county], "authority_region": county, "functional_zone": zone}
    named = f"{rng.choice(PLACES)}{rng.choice(WORKS)}{rng.choice(['一期', '二期', '', ''])}"
    known = facts(named, address=f"江门市{rng.choice(PLACES)}大道{n}号")

    def tell(type_: str, source: str, minutes: float, **data: Any) -> Event:
        return streams.event(type_, source, minutes, code, **(where if type_ != ANSWERED else {}), **data)

    yield tell(INVESTMENT, "investment", at, status="REGISTERED", project=known)
    if rng.random() < 0.05:
        yield tell(INVESTMENT, "investment", at + 900, status="CANCELLED", project=known)
        return
    decided = tell(INVESTMENT, "investment", at + 60, status="DECIDED", project=known)
    yield decided
    yield from cases(tell, rng, decided, "PERMANENT", rng.random())
    for i, (name, stage, kind, part) in enumerate(ITEMS[: rng.randint(0, len(ITEMS))]):
        at += rng.uniform(200, 900)
        about = {"item_instance": f"{n}-{i}", "department_name": "江门市住房和城乡建设局"}
        item = {"item_name": name, "stage": stage, **about}
        yield tell(ITEM, "engineering", at, status="ACCEPTED", **item)
        if rng.random() < 0.2:
            yield tell(ITEM, "engineering", at + 90, status="CORRECTION_STARTED", **item)
            continue
        at += rng.uniform(400, 2000)
        yield tell(ITEM, "engineering", at, status="PASSED", **item)
        if kind is None:
            yield tell(ACCEPTANCE, "engineering", at, acceptance_kind="JOINT", buildings=["1号楼"], phase=1, **about)
            continue
        basis = rng.choice(["FULL", "FULL", "TOLERANT", "COMMITMENT"])
        due = None if basis == "FULL" else date(2026, 7, 1)
        given = {"decision_kind": kind, "permit_part": part, "decision_basis": basis, "missing_due": due, "phase": 1}
        approved = tell(APPROVAL, "engineering", at, **given, **about)
        yield approved
        if part == "EARTHWORK":
            yield tell(LICENCE, "engineering", at, licence=f"4407{n:08d}", status="ISSUED", project_code=code)
            yield from cases(tell, rng, approved, "TEMPORARY", rng.random())


def cases(tell: Tell, rng: random.Random, cause: Event, kind: str, far: float) -> Iterator[Event]:
    """One case an operator, all begun in the seconds after their cause, each as far as it goes."""
    decided = (cause.time - MORNING).total_seconds() / 60
    for operator, utility in OPERATORS:
        at = decided + rng.uniform(0.01, 0.06)
        case = str(uuid5(NAMESPACE_URL, f"{cause.subject}{operator}{kind}"))
        about = {"case": case, "operator": operator, "business_kind": kind, "phase": 1}
        asked = {"utility": utility, "status": "LEAD", "round": 1, "project": facts(None), "triggered_at": cause.time}
        ask = tell(ASKED, "hookup", at, **asked, **about)
        yield ask
        steps = [step for step in PATH[1:] if step != "DEMAND_CONFIRMED"][: int(far * 10 + rng.uniform(-2, 2))]
        if far < 0.1:
            steps = ["CONTACTED", rng.choice(["DECLINED", "REFUSED", "NOT_NEEDED", "SUSPENDED"])]
        for step in steps:
            at += rng.uniform(5, 900)
            owner = rng.choice(["UTILITY", "CUSTOMER", "DEPARTMENT"])
            said = {"status": step, "answers_request": str(ask.id), "segment_owner": owner}
            yield tell(ANSWERED, f"utility:{operator}", at, **said, **about)


def fill(store: SqliteStore, projects: int, seed: int = 7) -> None:
    streams, rng = Streams(), random.Random(seed)
    for n in range(projects):
        learn(store, *story(streams, rng, n))


# -- a page over it ----------------------------------------------------------------------------------------------------
class Watched(SqliteStore):
    """A store that remembers what was read from it."""

    def __init__(self, path: Path) -> None:
        self.asked: list[tuple[str, Parameters]] = []
        super().__init__(path, timeline)

    @contextmanager
    def snapshot(self) -> Iterator[SqliteTransaction]:
        with super().snapshot() as tx:
            execute = tx.execute

            def noted(sql: str, parameters: Parameters = {}) -> Any:  # noqa: B006 — never changed
                self.asked.append((sql, parameters))
                return execute(sql, parameters)

            yield _Noting(tx, noted)  # type: ignore[misc]


class _Noting:
    def __init__(self, tx: SqliteTransaction, execute: Callable[..., Any]) -> None:
        self.execute_many, self.after_commit, self.execute = tx.execute_many, tx.after_commit, execute


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Watched]:
    store = Watched(tmp_path / "timeline.db")
    yield store
    store.close()


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """60 projects as far as they have come; read only."""
    store = Watched(tmp_path_factory.mktemp("city") / "timeline.db")
    fill(store, 60)
    yield store
    store.close()


def page(store: SqliteStore, **options: Any) -> Starlette:
    return app(store, JIANGMEN, clock=lambda: NOW, names=NAMES, **options)


def client(store: SqliteStore, **options: Any) -> TestClient:
    return TestClient(page(store, **options), base_url="http://127.0.0.1", raise_server_exceptions=False)


def pages(browser: TestClient, **narrowed: str) -> Iterator[dict[str, Any]]:
    """Every page of the list, one after the other."""
    after: str | None = ""
    while after is not None:
        got = browser.get("/api/projects", params={**narrowed, **({"after": after} if after else {})}).json()
        yield got
        after = got["next"]


def codes(browser: TestClient, **narrowed: str) -> list[str]:
    return [project["code"] for got in pages(browser, **narrowed) for project in got["projects"]]


class Reading(HTMLParser):
    """What a browser makes of a page: its elements, its text, and whether they nest."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def reading(browser: TestClient, url: str) -> Reading:
    got = browser.get(url, headers=HTML)
    assert got.status_code == 200
    return Reading(got.text)


# -- the list ----------------------------------------------------------------------------------------------------------
def test_the_list_narrows_to_exactly_the_projects_that_fit(city: Watched) -> None:
    browser = client(city)
    every = {code: browser.get(f"/api/projects/{code}").json() for code in codes(browser, limit="7")}
    assert len(every) == 60

    def fit(what: Callable[[dict[str, Any]], object]) -> set[str]:
        return {code for code, project in every.items() if what(project)}

    def has(project: dict[str, Any], operator: str, *states: str) -> bool:
        return any(case["operator"] == operator and case["state"] in states for case in project["cases"])

    lead, done = ([state for state in GROUP if GROUP[state] == group] for group in ("lead", "done"))
    expected = [
        ({"stage": "3"}, fit(lambda p: p["stage"] == 3)),
        ({"area": "440703"}, fit(lambda p: "440703" in p["regions"])),
        ({"area": "4407"}, set(every)),
        ({"q": "人才公寓"}, fit(lambda p: "人才公寓" in (p["name"] or ""))),
        ({"q": code_of(5)[:18]}, fit(lambda p: p["code"].startswith(code_of(5)[:18]))),
        ({"operator": "jm-gas", "state": "lead"}, fit(lambda p: has(p, "jm-gas", *lead))),
        ({"operator": "jm-water", "state": "CONNECTED"}, fit(lambda p: has(p, "jm-water", "CONNECTED"))),
        ({"state": "done", "stage": "4"}, fit(lambda p: p["stage"] == 4 and any(has(p, o, *done) for o in NAMES))),
        ({"operator": "nobody"}, set()),
    ]
    for narrowed, fitting in expected:
        found = codes(browser, **narrowed)
        assert len(found) == len(set(found))
        assert set(found) == fitting, narrowed
        assert next(pages(browser, **narrowed))["total"] == len(fitting)
    assert all(fitting for _, fitting in expected[:-1])


def test_the_counts_on_top_are_those_of_all_projects_and_cases(city: Watched) -> None:
    browser = client(city)
    got = browser.get("/api/projects", params={"limit": 200, "stage": "1"}).json()
    every = [browser.get(f"/api/projects/{code}").json() for code in codes(browser)]
    assert got["counts"]["projects"] == 60
    assert got["counts"]["stages"] == [sum(p["stage"] == n for p in every) for n in range(5)]
    assert got["counts"]["groups"] == Counter(case["group"] for p in every for case in p["cases"])
    assert got["counts"]["areas"] == COUNTIES
    assert got["counts"]["operators"] == dict(OPERATORS)
    shown = "".join(reading(browser, "/").texts)
    assert all(word in shown for word in ("全部项目", "待联系", "蓬江区", "江门供电局", "下一页"))


@pytest.mark.parametrize("typed", ["%", "_", "!", "!%", "' OR 1=1 --", "100%_!"])
def test_what_is_searched_for_means_itself(store: Watched, typed: str) -> None:
    streams = Streams()
    for n, name in enumerate((f"工程{typed}期", "工程甲期", "工程100期")):
        learn(store, streams.event(INVESTMENT, "investment", n, code_of(n), project=facts(name)))
    assert codes(client(store), q=typed) == [code_of(0)]


def test_ten_thousand_projects_are_paged_whole_with_as_few_questions_as_ten(tmp_path: Path) -> None:
    asked, plans = list[int](), list[str]()
    for n in (10, 10_000):
        store, streams = Watched(tmp_path / f"{n}.db"), Streams()
        learn(store, *(e for i in range(n) for e in short(streams, i, n)))
        browser = client(store)
        store.asked.clear()
        assert len(browser.get("/").text) < 150_000
        asked.append(len(store.asked))
        assert len(browser.get("/api/projects").text) < 40_000
        assert sorted(codes(browser, limit="200")) == sorted(map(code_of, range(n)))
        listing, parameters = next(pair for pair in store.asked if "ORDER BY moved" in pair[0])
        browser.get("/", params={"operator": "jm-water", "state": "lead", "q": "工"})
        narrowed, filled = [pair for pair in store.asked if "ORDER BY moved" in pair[0]][-1]
        with store.snapshot() as tx:
            narrow = repr(tx.execute(f"EXPLAIN QUERY PLAN {narrowed}", filled).all())
            plans.append(repr(tx.execute(f"EXPLAIN QUERY PLAN {listing}", parameters).all()))
        assert "LIST SUBQUERY" in narrow
        assert "CORRELATED" not in narrow
        store.close()
    assert asked[0] == asked[1] <= 10
    assert all("project_moved" in plan and "TEMP B-TREE" not in plan for plan in plans)


def short(streams: Streams, n: int, of: int) -> Iterator[Event]:
    code = code_of(n)
    yield streams.event(INVESTMENT, "investment", n * 7919 % of, code, project=facts(f"工程{n}"))
    if n % 10 == 0:
        about = {"case": f"c{n}", "operator": "jm-water", "triggered_at": MORNING, "project": facts(None)}
        yield streams.event(ASKED, "hookup", 0, code, status="LEAD", round=1, **about)


def test_a_project_that_moves_while_one_leafs_through_the_list_hides_and_doubles_no_other(
    store: Watched,
) -> None:
    streams = Streams()
    learn(store, *(streams.event(INVESTMENT, "investment", n, code_of(n), project=facts(f"工程{n}")) for n in range(9)))
    seen = list[str]()
    for got in pages(client(store), limit="3"):
        seen += [project["code"] for project in got["projects"]]
        learn(store, streams.event(INVESTMENT, "investment", 100 + len(seen), code_of(8), project=facts("工程8")))
    assert seen == [code_of(n) for n in reversed(range(9))]


@pytest.mark.parametrize(
    "query",
    ["stage=5", "stage=x", "state=BROKEN", "area=xyz", "limit=0", "limit=201", "after=never", f"q={'x' * 101}",
     f"operator={'x' * 101}"],
)  # fmt: skip
def test_a_parameter_that_cannot_be_understood_is_named_and_its_value_is_not(store: Watched, query: str) -> None:
    parameter, _, value = query.partition("=")
    program = client(store).get(f"/api/projects?{query}", headers=HTML)
    assert (program.status_code, program.headers["content-type"]) == (400, "application/problem+json")
    assert [error["parameter"] for error in program.json()["errors"]] == [parameter]
    assert value.isdecimal() or len(value) < 2 or value not in program.text
    if parameter != "limit":
        person = client(store).get(f"/?{query}", headers=HTML)
        assert (person.status_code, person.headers["content-type"]) == (400, "text/html; charset=utf-8")


# -- one project -------------------------------------------------------------------------------------------------------
def test_one_project_shows_its_way_from_permit_to_answer_in_local_time_without_any_script(store: Watched) -> None:
    streams, code = Streams(), code_of(1)
    about = {"item_instance": "SX1", "department_name": "住建局"}
    item = {"item_name": "施工许可证核发", "stage": "CONSTRUCTION", **about}
    case = {"case": "c1", "operator": "jm-power", "business_kind": "TEMPORARY", "phase": 1}
    asked = {"utility": "POWER", "round": 1, "project": facts(None), "triggered_at": MORNING + timedelta(minutes=30)}
    ask = streams.event(ASKED, "hookup", 31, code, status="LEAD", **asked, **case)
    said = {"status": "CONTACTED", "answers_request": str(ask.id), "segment_owner": "CUSTOMER"}
    learn(
        store,
        streams.event(INVESTMENT, "investment", 0, code, status="DECIDED", project=facts("滨江产业园")),
        streams.event(ITEM, "engineering", 5, code, status="PASSED", **item),
        streams.event(APPROVAL, "engineering", 30, code, decision="APPROVED", decision_kind="CONSTRUCTION", **about),
        streams.event(LICENCE, "engineering", 30, code, licence="4407-1", licence_kind="施工许可证", status="ISSUED"),
        ask,
        streams.event(ANSWERED, "utility:jm-power", 60, code, **said, **case),
    )
    shown = reading(client(store), f"/p/{code}")
    text = "\n".join(shown.texts)
    facts_shown = ("滨江产业园", code, "56,800.5")
    approval_shown = ("施工许可证核发", "1 / 1 项通过", "土方开挖和基坑支护", "告知承诺", "施工许可证", "4407-1")
    case_shown = ("江门供电局", "临时接入", "用户", "+1.0 分 min")  # from the approval to the committed lead: 61 s
    for word in (*facts_shown, *approval_shown, *case_shown):
        assert word in text
    times = {attributes["datetime"] for tag, attributes in shown.elements if tag == "time"}
    assert {"2026-04-21T09:30:00+08:00", "2026-04-21T10:00:00+08:00"} <= times
    got = client(store).get(f"/api/projects/{code}").json()
    assert [step["step"] for step in got["cases"][0]["steps"]] == ["LEAD", "CONTACTED"]
    assert [e["word"] for e in got["events"]] == ["CONTACTED", "LEAD", "ISSUED", "APPROVED", "PASSED", "DECIDED"]


@pytest.mark.parametrize(("hours", "overdue"), [(23, False), (25, True)])
def test_a_lead_that_waits_longer_than_promised_is_marked(store: Watched, hours: int, overdue: bool) -> None:
    since = NOW - timedelta(hours=hours)
    minutes = (since - MORNING).total_seconds() / 60
    about = {"case": "c", "triggered_at": since, "contact_within_hours": 24, "answer_by": None, "project": facts(None)}
    learn(store, Streams().event(ASKED, "hookup", minutes, code_of(1), status="LEAD", round=1, **about))
    assert ("超过承诺时限" in client(store).get(f"/p/{code_of(1)}").text) is overdue


@pytest.mark.parametrize(
    "name",
    [
        "<script>alert(1)</script>", "</title><img src=x onerror=alert(1)>", "甲\n乙\r\n丙", "\"' onmouseover='x",
        "&lt;b&gt; &amp;", "\u202egnp.exe", "<!--", "]]>", "{{7*7}}", "𠮷野 · 😀",
    ],
)  # fmt: skip
def test_whatever_a_project_or_an_item_is_called_it_stays_text(store: Watched, name: str) -> None:
    streams, code = Streams(), "local:feed:a/b?c#d e<i>"
    learn(
        store,
        streams.event(INVESTMENT, "investment", 0, code, project=facts(name, address=name), functional_zone=name),
        streams.event(ITEM, "engineering", 1, code, item_name=name, department_name=name, item_instance=name),
        streams.event(LICENCE, "engineering", 2, code, licence=name, licence_kind=name, scope=name),
        streams.event(ASKED, "hookup", 3, code, case=name, operator=name, project=facts(name)),
    )
    browser = client(store)
    listed = reading(browser, "/")
    links = [attributes["href"] or "" for tag, attributes in listed.elements if tag == "a"]
    (href,) = (link for link in links if link.startswith("/p/"))
    for shown, times in ((listed, 1), (reading(browser, href), 5)):
        assert "".join(shown.texts).count(name) >= times
        assert [attributes["src"] for tag, attributes in shown.elements if tag == "script"] == ["/static/page.js"]
        assert not {tag for tag, _ in shown.elements} & {"img", "style", "iframe", "object"}
        given = {key for _, attributes in shown.elements for key in attributes}
        assert not [key for key in given if key.startswith("on") or key == "style"]
    assert browser.get(f"/api/projects/{href.removeprefix('/p/')}").json()["name"] == name
    searched = reading(browser, f"/?{urlencode({'q': name, 'operator': name})}")
    assert [attributes["value"] for tag, attributes in searched.elements if tag == "input"] == [name.strip()]


def test_a_project_nobody_knows_is_not_found_for_people_and_for_programs(store: Watched) -> None:
    browser = client(store)
    person, program = browser.get("/p/nobody", headers=HTML), browser.get("/api/projects/nobody", headers=HTML)
    assert (person.status_code, program.status_code) == (404, 404)
    assert "没有找到" in person.text
    assert program.headers["content-type"] == "application/problem+json"
    assert program.json()["status"] == 404
    assert browser.post("/api/projects").status_code == 405


@contextmanager
def away() -> Iterator[SqliteTransaction]:
    raise RetriableError("database: /secret/path is locked")
    yield


@contextmanager
def broken() -> Iterator[SqliteTransaction]:
    raise ZeroDivisionError("secret")
    yield


@pytest.mark.parametrize("path", ["/", "/p/x", "/api/projects"])
@pytest.mark.parametrize(("snapshot", "status"), [(away, 503), (broken, 500)])
def test_a_database_that_fails_is_said_to_and_the_page_lives_on(
    store: Watched, monkeypatch: pytest.MonkeyPatch, snapshot: Callable[[], object], status: int, path: str
) -> None:
    browser = client(store)
    with monkeypatch.context() as now:
        now.setattr(store, "snapshot", snapshot)
        got = browser.get(path, headers=HTML)
    assert got.status_code == status
    assert not re.search("secret|ZeroDivision|Traceback", got.text)
    assert (status == 503) == ("retry-after" in got.headers)
    assert browser.get("/").status_code == 200


def test_the_store_is_read_by_a_few_threads_however_many_ask(store: Watched) -> None:
    browser = client(store)
    for _ in range(30):
        assert browser.get("/").status_code == 200
    assert len(store._opened) <= 1 + READERS


# -- who may look ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "[::1]", "127.9.9.9"])
def test_on_loopback_no_login_is_needed(host: str) -> None:
    guard(host, None)


EVERYWHERE = "0.0.0.0"  # noqa: S104


@pytest.mark.parametrize("host", [EVERYWHERE, "::", "192.168.1.2", "example.org", "", "127.0.0.1.example.org"])
def test_elsewhere_the_page_is_not_made_without_one(store: Watched, host: str) -> None:
    with pytest.raises(UsageError, match="login"):
        page(store, host=host)
    assert page(store, host=host, login=LOGIN)


@pytest.mark.parametrize("login", [Login("city", "short"), Login("", "long enough"), Login("city", "")])
def test_an_empty_name_or_a_short_password_is_no_login(login: Login) -> None:
    with pytest.raises(UsageError, match="at least 8 characters"):
        guard("127.0.0.1", login)
    assert "long enough" not in repr(login)


def basic(name: str, password: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


@pytest.mark.parametrize("path", ["/", f"/p/{code_of(1)}", "/api/projects", "/events", "/static/page.js", "/nowhere"])
@pytest.mark.parametrize(
    "headers",
    [
        {}, basic("city", "wrong horse"), basic("", ""), basic("City", LOGIN.password), {"authorization": "Basic ???"},
        {"authorization": basic(LOGIN.name, LOGIN.password)["authorization"].replace("Basic", "Bearer")},
        {"authorization": "Basic /////w=="}, {"authorization": "Basic"}, basic("city", LOGIN.password + "\0"),
    ],
)  # fmt: skip
def test_behind_a_login_nothing_is_shown_without_it(city: Watched, path: str, headers: Mapping[str, str]) -> None:
    got = client(city, login=LOGIN).get(path, headers=headers)
    assert got.status_code == 401
    assert got.headers["www-authenticate"].startswith("Basic realm=")
    assert got.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("login", [LOGIN, Login("管理员", "密码密码密码密码"), Login("a", "colon:in it")])
def test_with_the_login_it_is_shown_wherever_it_is_asked(city: Watched, login: Login) -> None:
    headers = {**basic(login.name, login.password), "host": "map.example"}
    assert client(city, login=login, host=EVERYWHERE).get("/", headers=headers).status_code == 200


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost:1", "[::1]:80", "evil.example", "localhost.evil", ""])
def test_without_a_login_a_name_rebound_to_this_machine_gets_nothing(city: Watched, host: str) -> None:
    status = 421 if "evil" in host or not host else 200
    assert client(city).get("/", headers={"host": host}).status_code == status


@pytest.mark.parametrize(
    "path", ["/", f"/p/{code_of(1)}", "/api/projects", "/p/nobody", "/static/page.css", "/static/x"]
)
def test_every_answer_forbids_foreign_code_and_guessing(city: Watched, path: str) -> None:
    got = client(city).get(path)
    assert got.headers["x-content-type-options"] == "nosniff"
    policy = dict(part.strip().split(" ", 1) for part in got.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert (policy["script-src"], policy["style-src"], policy["connect-src"]) == ("'self'",) * 3
    assert "unsafe" not in got.headers["content-security-policy"]


def test_the_script_and_the_style_are_ours_alone(city: Watched) -> None:
    browser = client(city)
    script, style = browser.get("/static/page.js"), browser.get("/static/page.css")
    assert script.headers["content-type"].startswith("text/javascript")
    assert style.headers["content-type"].startswith("text/css")
    for text in (script.text, style.text, browser.get("/").text):
        assert not re.findall(r"https?://|@import|\burl\(|\beval\b|innerHTML", text)


# -- live --------------------------------------------------------------------------------------------------------------
class Listener:
    """One open stream, as a server has it: no sleeping, it waits for the next message."""

    def __init__(self, page: Starlette, url: str, **headers: str) -> None:
        path, _, query = url.partition("?")
        raw = [(b"host", b"127.0.0.1"), *((k.replace("_", "-").encode(), v.encode()) for k, v in headers.items())]
        server = {"type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1"}
        ask = {"method": "GET", "path": path, "query_string": query.encode(), "headers": raw, "scheme": "http"}
        self.scope = {**server, **ask}
        self.sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.gone = asyncio.Event()
        self.task = asyncio.create_task(page(self.scope, self._receive, self.sent.put))  # type: ignore[arg-type]

    async def _receive(self) -> dict[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def start(self) -> dict[str, Any]:
        return await asyncio.wait_for(self.sent.get(), 20)

    async def text(self) -> str:
        return (await asyncio.wait_for(self.sent.get(), 20))["body"].decode()

    async def moved(self) -> tuple[int, list[str] | None]:
        """The next event, signs of life passed over."""
        while True:
            text = await self.text()
            if found := re.fullmatch(r"id: (\d+)\nevent: moved\ndata: (.*)\n\n", text):
                data = json.loads(found[2])
                assert data["change"] == int(found[1])
                return data["change"], data["codes"]

    async def close(self) -> None:
        self.gone.set()
        await asyncio.wait_for(self.task, 20)


class City:
    """A consumer in a thread of its own, and a page that hears its bell."""

    def __init__(self, store: SqliteStore, bell: ThreadBell | None, **options: Any) -> None:
        self.store, self.bell, self.streams = store, bell, Streams()
        self.page = page(store, bell=bell, **options)

    def move(self, *numbers: int) -> None:
        def commit() -> None:
            service = Timeline(CATALOG, self.bell)
            with self.store.transaction() as tx:
                for n in numbers:
                    service.learn(tx, self.streams.event(INVESTMENT, "investment", n, code_of(n), project=facts("x")))

        thread = threading.Thread(target=commit)
        thread.start()
        thread.join()

    def listen(self, url: str = "/events", **headers: str) -> Listener:
        return Listener(self.page, url, **headers)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "PACE", 0)


def run(scene: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(scene())


def test_a_page_hears_of_every_move_by_the_bell_and_comes_back_where_it_was(store: Watched) -> None:
    town = City(store, ThreadBell())
    town.move(0)

    async def scene() -> None:
        ear = town.listen("/events?after=1")
        start = await ear.start()
        headers = {k.decode(): v.decode() for k, v in start["headers"]}
        assert (start["status"], headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"
        assert "retry:" in await ear.text()
        town.move(1)
        assert await ear.moved() == (2, [code_of(1)])
        town.move(2, 3, 2)
        assert await ear.moved() == (5, [code_of(3), code_of(2)])
        await ear.close()
        town.move(4)
        town.move(5)
        back = town.listen("/events?after=1", last_event_id="5")
        await back.start()
        assert await back.moved() == (7, [code_of(4), code_of(5)])
        await back.close()

    run(scene)


def test_without_a_bell_the_change_number_is_looked_at(store: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "POLL", 0.01)
    town = City(store, None)

    async def scene() -> None:
        ear = town.listen()
        town.move(1)
        assert await ear.start()
        assert await ear.moved() == (1, [code_of(1)])
        town.move(2)
        assert await ear.moved() == (2, [code_of(2)])
        await ear.close()

    run(scene)


def test_the_page_of_one_project_hears_of_that_one_only(store: Watched) -> None:
    town = City(store, ThreadBell())

    async def scene() -> None:
        one, every = town.listen(f"/events?project={code_of(2)}"), town.listen()
        await one.start(), await every.start()
        town.move(1)
        assert await every.moved() == (1, [code_of(1)])
        town.move(2)
        assert await every.moved() == (2, [code_of(2)])
        assert await one.moved() == (2, [code_of(2)])
        await one.close()
        await every.close()

    run(scene)


def test_a_quiet_stream_shows_that_it_lives(store: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "BEAT", 0.01)
    town = City(store, ThreadBell())

    async def scene() -> None:
        ear = town.listen()
        await ear.start()
        await ear.text()
        assert [await ear.text() for _ in range(3)] == [": beat\n\n"] * 3
        town.move(1)
        assert await ear.moved() == (1, [code_of(1)])
        await ear.close()

    run(scene)


def test_many_moves_and_a_number_from_another_database_are_told_as_such(store: Watched) -> None:
    town = City(store, ThreadBell())
    town.move(*range(101))

    async def scene() -> None:
        for after, heard in ((0, None), (1, 100), (999, None)):
            ear = town.listen(f"/events?after={after}")
            await ear.start()
            change, moved = await ear.moved()
            assert (change, moved and len(moved)) == (101, heard)
            await ear.close()

    run(scene)


def test_a_page_that_reads_slowly_is_told_the_sum_and_nothing_is_kept_for_it(store: Watched) -> None:
    town = City(store, ThreadBell())

    async def scene() -> None:
        ear = town.listen()
        await ear.start()
        for n in range(50):
            town.move(n)
        told = list[str]()
        change = 0
        while change < 50:
            change, moved = await ear.moved()
            told += moved or []
        assert told == [code_of(n) for n in range(50)]
        await ear.close()

    run(scene)


def test_a_database_that_is_away_ends_the_stream_and_the_page_comes_back(
    store: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    town = City(store, ThreadBell())

    async def scene() -> None:
        with monkeypatch.context() as now:
            now.setattr(store, "snapshot", away)
            ear = town.listen()
            assert (await ear.start())["status"] == 200
            await asyncio.wait_for(ear.task, 20)
        back = town.listen()
        town.move(1)
        await back.start()
        assert await back.moved() == (1, [code_of(1)])
        await back.close()

    run(scene)


def test_streams_end_when_the_program_stops(store: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "POLL", 0.01)
    ended = threading.Event()
    town = City(store, ThreadBell(), stopping=ended.is_set)

    async def scene() -> None:
        ears = [town.listen() for _ in range(3)]
        for ear in ears:
            await ear.start()
        ended.set()
        for ear in ears:
            await asyncio.wait_for(ear.task, 20)

    run(scene)


def test_too_many_streams_are_refused_until_one_is_closed(store: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "MOST", 2)
    town = City(store, ThreadBell())

    async def scene() -> None:
        ears = [town.listen() for _ in range(2)]
        for ear in ears:
            await ear.start()
            await ear.text()
        assert (await town.listen().start())["status"] == 503
        await ears[0].close()
        again = town.listen()
        assert (await again.start())["status"] == 200
        await again.text()
        await again.close()
        await ears[1].close()

    run(scene)


@pytest.mark.parametrize("seen", ["x", "-1", "1;2", "9" * 19])
def test_a_change_number_that_is_none_is_refused(store: Watched, seen: str) -> None:
    assert client(store).get("/events", headers={"last-event-id": seen}).status_code == 400
