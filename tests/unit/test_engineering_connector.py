"""The connector over real SQLite files, filled by the stand-in platform or by hand as a vendor might."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.engineering import connector
from connectors.engineering.cells import Row, UnreadableError
from connectors.engineering.connector import EngineeringSource
from connectors.engineering.context import Dialect
from connectors.engineering.platform import RedLine
from connectors.engineering.tables import (
    CHANGE,
    DECISION,
    DOCUMENT,
    ITEM,
    PARTY,
    PROGRESS,
    PROJECT,
    RED_LINE,
    SUPPLEMENT,
    SURVEY,
)
from jietong.identifiers import LicenceId
from jietong.platform import Reading
from tests.unit.exchange import (
    ACCEPTANCE,
    APPROVAL,
    CODE,
    CONTRACT,
    GC,
    ITEM_MOVED,
    ITEMS,
    LICENCE,
    NOW,
    SX,
    WORK,
    City,
    drafts,
    minutes,
    only,
    word,
)


@pytest.fixture
def city(tmp_path: Path) -> Iterator[City]:
    made = City(tmp_path)
    yield made
    made.close()


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Callable[..., City]]:
    """A city with other options."""
    made: list[City] = []

    def make(**options: Any) -> City:
        made.append(City(tmp_path, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


# -- what a row tells ------------------------------------------------------------------------------------------------
def test_every_status_moves_its_item_and_only_six_of_them_decide(city: City) -> None:
    city.begin()
    for status in range(1, 16):
        city.platform.progress(GC, SX, status, minutes(status))
    readings = list(city.source.read(None))
    moves = [draft.data for draft in drafts(readings) if draft.type == ITEM_MOVED]
    assert [move["status_code"] for move in moves] == list(range(1, 16))
    assert moves[3]["status"] == "NOT_ACCEPTED"
    assert moves[11]["status"] == "PASSED_TOLERANT"
    decided = {reading.row: word(d.data) for reading in readings for d in reading.drafts if d.type == APPROVAL}
    assert decided == {
        f"{PROGRESS}:2": "APPLICATION_WITHDRAWN",
        f"{PROGRESS}:11": "APPROVED",
        f"{PROGRESS}:12": "APPROVED",
        f"{PROGRESS}:13": "REFUSED",
        f"{PROGRESS}:14": "WITHDRAWN",
        f"{PROGRESS}:15": "REVOKED",
    }
    for draft in drafts(readings):
        CONTRACT.encode(draft)


def test_an_approval_is_told_at_once_with_what_the_tables_know_of_the_project(city: City) -> None:
    city.begin()
    city.platform.progress(GC, SX, 11, NOW)
    data = only(city.source.read(None), APPROVAL)
    assert data["project"] == {
        "name": "滨江新区产业园",
        "address": "江门市蓬江区新昌路88号",
        "longitude": Decimal("113.078125"),
        "latitude": Decimal("22.590431"),
        "total_investment": Decimal("56800.500000"),
        "floor_area": Decimal("98640.00"),
        "planned_start": date(2026, 5, 10),
        "content": "新建厂房4栋 宿舍1栋",
        "applicant_uscc": WORK.developer,
        "applicant_name": WORK.developer_name,
    }
    assert data | {"project": None} == {
        "work": GC,
        "previous_work": f"{CODE}-000",
        "item_instance": SX,
        "decision_kind": "CONSTRUCTION",
        "permit_part": "FULL",
        "phase": 1,
        "decision": "APPROVED",
        "acceptance_basis": "FULL",
        "decision_basis": "FULL",
        "document_number": None,
        "document_title": None,
        "decided_on": date(2026, 4, 21),
        "valid_until": None,
        "department_name": "住房和城乡建设局",
        "project": None,
        "site_regions": ["440703", "440704001"],
        "authority_region": "440700",
        "item_code": "JM-0301",
        "historical": False,
    }
    assert drafts(city.source.read(None))[0].time == NOW


@pytest.mark.parametrize(
    ("basis", "status", "expected"),
    [
        ("FULL", 12, "TOLERANT"),
        ("TOLERANT", 12, "TOLERANT"),
        ("TOLERANT", 11, "FULL"),
        ("COMMITMENT", 11, "COMMITMENT"),
    ],
)
def test_tolerant_acceptance_tolerant_passing_and_commitment_are_three_things(
    city: City, basis: str, status: int, expected: str
) -> None:
    city.platform.register(WORK, NOW)
    due = date(2026, 5, 21)
    city.platform.open_item(
        GC, "JM-0303", SX, NOW, basis=basis, phase=2, missing=["审查合格书", "合同"], missing_due=due
    )
    city.platform.progress(GC, SX, status, NOW)
    data = only(city.source.read(None), APPROVAL)
    assert (data["acceptance_basis"], data["decision_basis"]) == (basis, expected)
    assert (data["permit_part"], data["phase"]) == ("PILE", 2)
    lacks = (
        (["审查合格书", "合同"], due) if expected != "FULL" else (None, None)
    )  # what was passed in full lacks nothing
    assert (data.get("missing"), data.get("missing_due")) == lacks


@pytest.mark.parametrize(("code", "kind"), [("JM-0401", "JOINT"), ("JM-0402", "STAGED")])
def test_an_acceptance_is_an_event_of_its_own_with_its_buildings(city: City, code: str, kind: str) -> None:
    city.platform.register(WORK, NOW)
    city.platform.open_item(GC, code, SX, NOW, phase=2, buildings=["1号楼", "2号楼"])
    city.platform.progress(GC, SX, 11, NOW)
    data = only(city.source.read(None), ACCEPTANCE)
    assert (data["acceptance_kind"], data["decision"], data["phase"]) == (kind, "APPROVED", 2)
    assert data["buildings"] == ["1号楼", "2号楼"]
    city.platform.issue(GC, SX, "验〔2026〕7号", "竣工联合验收意见书", minutes(1))
    assert city.told() == [(ITEM_MOVED, "PASSED"), (ACCEPTANCE, "APPROVED"), (ACCEPTANCE, "DOCUMENTED")]


def test_the_paper_comes_later_and_one_without_end_has_no_last_day(city: City) -> None:
    city.begin()
    city.platform.progress(GC, SX, 11, NOW)
    city.told()
    city.platform.issue(GC, SX, "建字第7号", "施工许可证", minutes(1))
    city.platform.issue(GC, SX, "建字第8号", "施工许可证", minutes(2), valid_until=date(2028, 4, 20))
    papers = [draft.data for draft in drafts(city.source.read(None)) if word(draft.data) == "DOCUMENTED"]
    assert [paper["valid_until"] for paper in papers] == [None, date(2028, 4, 20)]
    assert papers[0]["document_number"] == "建字第7号"
    assert papers[0]["document_title"] == "施工许可证"
    assert papers[0]["decided_on"] == date(2026, 4, 21)
    assert city.told() == [(APPROVAL, "DOCUMENTED")] * 2


def test_an_item_outside_the_catalogue_is_told_as_other_with_the_stage_its_process_gives_it(city: City) -> None:
    city.platform.define(NOW)
    city.begin("JM-0102")
    city.platform.progress(GC, SX, 11, NOW)
    bare = EngineeringSource(city.store, {}, lambda: NOW)
    assert only(bare.read(None), APPROVAL)["decision_kind"] == "OTHER"
    moved = only(bare.read(None), ITEM_MOVED)
    assert (moved["stage"], moved["item_name"]) == ("LAND_USE", "建设用地规划许可证核发")


@pytest.mark.parametrize(
    ("kind", "decision"),
    [
        ("注销", "DEREGISTERED"),
        ("吊销", "PENALTY_REVOKED"),
        ("失效", "LAPSED"),
        ("延期", "EXTENDED"),
        ("中止", "SUSPENDED"),
        ("恢复", "RESUMED"),
        ("容缺补齐", "CONDITION_MET"),
        ("容缺逾期", "CONDITION_LAPSED"),
    ],
)
def test_what_the_standard_has_no_status_for_is_read_from_the_platforms_own_table(
    city: City, kind: str, decision: str
) -> None:
    city.begin()
    city.platform.progress(GC, SX, 11, NOW)
    city.told()
    city.platform.change(GC, SX, kind, minutes(5), number="变更7号", valid_until=date(2026, 10, 21))
    data = next(draft.data for draft in drafts(city.source.read(None)) if word(draft.data) == decision)
    assert (data["document_number"], data["valid_until"]) == ("变更7号", date(2026, 10, 21))
    assert city.told() == [(APPROVAL, decision)]


def test_a_city_without_the_local_tables_is_read_just_as_well(other: Callable[..., City]) -> None:
    city = other(dialect=Dialect(local=False, developer=1, acceptance={1: "TOLERANT"}))
    city.begin()
    city.platform.progress(GC, SX, 11, NOW)
    for table in (CHANGE, SUPPLEMENT, RED_LINE, SURVEY, DECISION):
        city.sql(f"DROP TABLE {table}")
    assert only(city.source.read(None), APPROVAL)["acceptance_basis"] == "TOLERANT"
    assert city.scanned() == [(ITEM_MOVED, "PASSED"), (APPROVAL, "APPROVED")]


def test_what_happened_before_the_source_was_connected_is_history(other: Callable[..., City]) -> None:
    city = other(since=NOW)
    city.begin()
    city.platform.progress(GC, SX, 11, minutes(1), happened=minutes(-1))
    city.platform.progress(GC, SX, 15, minutes(2))
    told = [draft.data for draft in drafts(city.source.read(None)) if draft.type == APPROVAL]
    assert [(word(data), data["historical"]) for data in told] == [("APPROVED", True), ("REVOKED", False)]


# -- conditions, red lines, predecessors ------------------------------------------------------------------------------
def told_last(city: City, said: str) -> dict[str, Any]:
    """The newest approval event with this word."""
    return [dict(d.data) for d in drafts(city.source.read(None)) if d.type == APPROVAL and word(d.data) == said][-1]


def test_a_condition_that_lapsed_says_what_was_missing_and_one_that_was_met_nothing(city: City) -> None:
    city.platform.register(WORK, NOW)
    city.platform.open_item(GC, "JM-0301", SX, NOW, basis="COMMITMENT", missing=["合同"], missing_due=date(2026, 5, 21))
    city.platform.progress(GC, SX, 11, NOW)
    city.platform.change(GC, SX, "容缺补齐", minutes(1))
    city.platform.change(GC, SX, "容缺逾期", minutes(2))
    assert "missing" not in told_last(city, "CONDITION_MET")
    lapsed = told_last(city, "CONDITION_LAPSED")
    assert (lapsed["missing"], lapsed["missing_due"], lapsed["acceptance_basis"]) == (
        ["合同"],
        date(2026, 5, 21),
        "COMMITMENT",
    )


SITE = RedLine(
    wkt="POLYGON((113.07 22.59, 113.08 22.59, 113.08 22.6, 113.07 22.59))",
    accuracy=Decimal("0.5"),
    source="地字第7号附图",
)
SQUARE = RedLine(wkt="POLYGON((113.07 22.59, 113.08 22.59, 113.08 22.6, 113.07 22.6, 113.07 22.59))")


def test_an_approval_tells_the_red_line_that_was_drawn_before_it_once(city: City) -> None:
    city.begin("JM-0102")
    city.platform.draw_red_line(GC, SX, SITE, NOW)
    city.platform.progress(GC, SX, 11, minutes(1))
    told = told_last(city, "APPROVED")["project"]
    assert {name: told[name] for name in told if name.startswith("red_line")} == {
        "red_line": SITE.wkt, "red_line_crs": "EPSG:4490", "red_line_accuracy_m": Decimal("0.50"), "red_line_source": "地字第7号附图",
    }  # fmt: skip
    assert city.told() == [(ITEM_MOVED, "PASSED"), (APPROVAL, "APPROVED")]


def test_another_item_of_the_same_work_does_not_tell_it(city: City) -> None:
    city.begin("JM-0102")
    city.platform.draw_red_line(GC, SX, SITE, NOW)
    city.platform.open_item(GC, "JM-0301", "SX-other", NOW)
    city.platform.progress(GC, "SX-other", 11, NOW)
    assert "red_line" not in told_last(city, "APPROVED")["project"]


def test_a_red_line_drawn_after_its_approval_makes_it_told_again_with_what_became_of_it(city: City) -> None:
    city.begin("JM-0102")
    city.platform.progress(GC, SX, 11, NOW)
    city.platform.change(GC, SX, "延期", minutes(1))
    city.told()
    key = city.platform.draw_red_line(GC, SX, SITE, minutes(2))
    assert city.told() == [(APPROVAL, "APPROVED"), (APPROVAL, "EXTENDED")]
    again = told_last(city, "APPROVED")
    assert (again["project"]["red_line"], again["decided_on"]) == (SITE.wkt, NOW.date())
    city.platform.correct(RED_LINE, key, minutes(3), "图形有误", HX=SQUARE.wkt)
    assert city.told() == [(APPROVAL, "APPROVED"), (APPROVAL, "EXTENDED")]
    assert told_last(city, "APPROVED")["project"]["red_line"] == SQUARE.wkt
    assert (city.told(), city.scanned()) == ([], [])


def test_a_struck_red_line_is_known_no_more(city: City) -> None:
    city.begin("JM-0102")
    key = city.platform.draw_red_line(GC, SX, SITE, NOW)
    city.platform.progress(GC, SX, 11, minutes(1))
    city.told()
    city.platform.strike(RED_LINE, key, minutes(2), "误录")
    assert city.told() == [(APPROVAL, "APPROVED")]
    assert "red_line" not in told_last(city, "APPROVED")["project"]


@pytest.mark.parametrize("ending", ["中止", "注销"])
def test_a_red_line_brings_no_approval_back_that_does_not_stand(city: City, ending: str) -> None:
    city.begin("JM-0102")
    city.platform.progress(GC, SX, 11, NOW)
    city.platform.change(GC, SX, ending, minutes(1))
    city.told()
    city.platform.draw_red_line(GC, SX, SITE, minutes(2))
    assert city.told() == []


@pytest.mark.parametrize(
    "wkt",
    ["POINT(113 22)", "POLYGON((38512345 2498765, 38512445 2498765, 38512445 2498865, 38512345 2498765))", "红线"],
)
def test_a_red_line_that_is_no_polygon_of_degrees_is_held_and_keeps_no_approval_back(city: City, wkt: str) -> None:
    city.begin("JM-0102")
    city.platform.draw_red_line(GC, SX, SITE, NOW)
    city.platform.progress(GC, SX, 11, minutes(1))
    city.sql(f"UPDATE {RED_LINE} SET HX = :wkt", wkt=wkt)
    assert city.told() == [(ITEM_MOVED, "PASSED"), (APPROVAL, "APPROVED")]
    assert "red_line" not in told_last(city, "APPROVED")["project"]
    assert city.held() == [f"{RED_LINE}.HX: no polygon (WKT, longitude and latitude in degrees)"]


def test_a_work_that_came_of_two_has_its_approval_told_once_for_each(city: City) -> None:
    city.platform.register(replace(WORK, previous=f"{CODE}-A"), NOW)
    city.platform.register(replace(WORK, previous=f"{CODE}-B"), NOW)
    city.platform.open_item(GC, "JM-0301", SX, NOW)
    city.platform.progress(GC, SX, 11, NOW)
    city.platform.change(GC, SX, "延期", minutes(1))
    told = [draft for draft in drafts(city.source.read(None)) if draft.type == APPROVAL]
    assert [(word(d.data), d.data["previous_work"]) for d in told] == [
        ("APPROVED", f"{CODE}-A"), ("APPROVED", f"{CODE}-B"), ("EXTENDED", f"{CODE}-A"),
    ]  # fmt: skip
    assert len({draft.about for draft in told}) == 3
    assert len(city.told()) == 4


def test_a_predecessor_that_was_corrected_is_one(city: City) -> None:
    city.begin()
    city.platform.correct(PROJECT, 1, minutes(1), "前阶段工程有误", QJDGCDM=f"{CODE}-A")
    city.platform.progress(GC, SX, 11, minutes(2))
    assert only(city.source.read(None), APPROVAL)["previous_work"] == f"{CODE}-A"


# -- e-licences ------------------------------------------------------------------------------------------------------
def licensed(city: City, version: int = 1, at: float = 1) -> LicenceId:
    made = city.platform.licence("JM-0301", "4407032026042100", version)
    city.platform.issue(GC, SX, "4407032026042100", "施工许可证", minutes(at), licence=made)
    return made


def test_an_e_licence_is_issued_reissued_and_ends_with_its_approval(city: City) -> None:
    city.begin()
    city.platform.progress(GC, SX, 11, NOW)
    first = licensed(city)
    issued = only(city.source.read(None), LICENCE)
    assert issued["status"] == "ISSUED"
    assert issued["licence"] == "4407032026042100"
    assert issued["licence_id"] == first
    assert issued["licence_kind"] == "建筑工程施工许可证"
    assert (issued["holder_uscc"], issued["holder_name"]) == (WORK.developer, WORK.developer_name)
    assert issued["project_code"] == CODE
    assert issued["scope"] == "1号至4号厂房"
    city.told()
    second = licensed(city, version=2, at=2)
    assert city.told() == [(APPROVAL, "DOCUMENTED"), (LICENCE, "REISSUED")]
    reissued = next(d.data for d in drafts(city.source.read(None)) if word(d.data) == "REISSUED")
    assert (reissued["supersedes_licence_id"], reissued["licence_id"]) == (first, second)
    city.platform.change(GC, SX, "延期", minutes(3), valid_until=date(2027, 1, 1))
    city.platform.progress(GC, SX, 15, minutes(4))
    assert city.told() == [
        (APPROVAL, "EXTENDED"),
        (LICENCE, "EXTENDED"),
        (ITEM_MOVED, "REVOKED"),
        (APPROVAL, "REVOKED"),
        (LICENCE, "REVOKED"),
    ]
    extended = next(d.data for d in drafts(city.source.read(None)) if d.type == LICENCE and word(d.data) == "EXTENDED")
    assert extended["valid_until"] == date(2027, 1, 1)
    assert extended["licence_id"] == second


def test_a_struck_paper_cancels_its_licence_unless_another_stands(city: City) -> None:
    city.begin()
    city.platform.progress(GC, SX, 11, NOW)
    licensed(city)
    licensed(city, version=2, at=2)
    city.told()
    city.platform.strike(DOCUMENT, 2, minutes(3), "误录")
    assert city.told() == [(LICENCE, "ISSUED")]
    key = city.platform.correct(DOCUMENT, 1, minutes(4), "标题有误", PFWJBT="建筑工程施工许可证")
    assert city.told() == [(APPROVAL, "DOCUMENTED"), (LICENCE, "ISSUED")]
    city.platform.strike(DOCUMENT, key, minutes(5), "误录")
    assert city.told() == [(LICENCE, "CANCELLED")]


def test_an_attachment_that_looks_like_an_e_licence_must_be_one(city: City) -> None:
    city.begin()
    made = licensed(city)
    wrong = made[:-1] + ("0" if made[-1] != "0" else "1")
    city.sql(f"UPDATE {DOCUMENT} SET FJID = :wrong", wrong=wrong)
    (reading,) = city.source.read(None)
    assert reading.reason is not None
    assert "SPGL_XMSPSXPFWJXXB.FJID: e-licence id: the check character" in reading.reason
    assert wrong not in reading.reason


# -- corrections and tombstones --------------------------------------------------------------------------------------
def test_a_corrected_approval_is_one_event_with_the_new_truth(city: City) -> None:
    city.begin()
    key = city.platform.progress(GC, SX, 11, NOW)
    assert city.told() == [(ITEM_MOVED, "PASSED"), (APPROVAL, "APPROVED")]
    city.platform.correct(PROGRESS, key, minutes(1), "办理结果录入有误", BLZT=13)
    assert city.told() == [(ITEM_MOVED, "NOT_PASSED"), (APPROVAL, "REFUSED")]


def test_a_corrected_time_is_one_event_even_if_it_moves_back(city: City) -> None:
    city.begin()
    key = city.platform.progress(GC, SX, 11, minutes(10))
    city.told()
    city.platform.correct(PROGRESS, key, minutes(20), "时间有误", BLSJ="2026-04-21 09:00:00")
    assert city.told() == [(ITEM_MOVED, "PASSED"), (APPROVAL, "APPROVED")]


def test_a_struck_approval_without_another_is_deregistered_on_the_day_it_was_struck(city: City) -> None:
    city.begin()
    city.platform.progress(GC, SX, 8, NOW)
    key = city.platform.progress(GC, SX, 11, minutes(1))
    city.told()
    city.platform.strike(PROGRESS, key, NOW + timedelta(days=1), "重复录入")
    ending = next(d for d in drafts(city.source.read(None)) if d.type == APPROVAL)
    assert (ending.data["decided_on"], ending.time) == (date(2026, 4, 22), NOW + timedelta(days=1))
    assert city.told() == [(ITEM_MOVED, "IN_PROGRESS"), (APPROVAL, "DEREGISTERED")]
    assert city.told() == []


def test_a_struck_ending_brings_back_what_it_ended(city: City) -> None:
    city.begin()
    city.platform.progress(GC, SX, 11, NOW)
    licensed(city)
    key = city.platform.progress(GC, SX, 15, minutes(2))
    change = city.platform.change(GC, SX, "注销", minutes(3))
    city.told()
    city.platform.strike(PROGRESS, key, minutes(4), "误录")
    assert city.told() == [(ITEM_MOVED, "PASSED")]  # it stands deregistered all the same
    city.platform.strike(CHANGE, change, minutes(5), "误录")
    assert city.told() == [(APPROVAL, "APPROVED"), (LICENCE, "ISSUED")]


@pytest.mark.parametrize("status", [2, 4, 5, 8, 13])
def test_a_struck_row_that_supported_nothing_decides_nothing(city: City, status: int) -> None:
    city.begin()
    key = city.platform.progress(GC, SX, status, NOW)
    city.told()
    city.platform.strike(PROGRESS, key, minutes(1), "误录")
    assert city.told() == []


def test_an_item_struck_whole_with_its_parents_still_ends_its_approval(city: City) -> None:
    city.begin()
    key = city.platform.progress(GC, SX, 11, NOW)
    city.told()
    city.platform.strike(ITEM, 1, minutes(1), "误录")
    city.platform.strike(PROJECT, 1, minutes(1), "误录")
    city.platform.strike(PROGRESS, key, minutes(1), "误录")
    assert city.told() == [(APPROVAL, "DEREGISTERED")]


def test_a_row_written_after_a_later_one_does_not_have_the_last_word(city: City) -> None:
    city.begin()
    city.platform.progress(GC, SX, 15, minutes(5))
    city.told()
    city.platform.progress(GC, SX, 11, minutes(6), happened=minutes(1))
    assert city.told() == [(ITEM_MOVED, "PASSED"), (APPROVAL, "APPROVED"), (APPROVAL, "REVOKED")]


def test_an_approval_entered_after_its_ending_in_the_other_table_does_not_have_the_last_word(city: City) -> None:
    city.begin()
    city.platform.change(GC, SX, "注销", minutes(5))
    city.told()
    city.platform.progress(GC, SX, 11, minutes(6), happened=minutes(1))
    assert city.told() == [(ITEM_MOVED, "PASSED"), (APPROVAL, "APPROVED"), (APPROVAL, "DEREGISTERED")]


MOVES = st.tuples(st.just("progress"), st.sampled_from([11, 15, 8, 13, 12, 2, 14]), st.sampled_from([0, 100, 500]))
OPERATIONS = st.lists(
    st.one_of(
        MOVES,
        MOVES,
        st.tuples(st.just("change"), st.sampled_from(["注销", "吊销", "失效"]), st.just(0)),
        st.tuples(st.just("strike"), st.integers(0, 3), st.just(0)),
        st.tuples(st.just("correct"), st.integers(0, 3), st.sampled_from([11, 8, 13, 15])),
        st.just(("look", 0, 0)),
    ),
    min_size=3,
    max_size=10,
)


def operate(city: City, rows: list[tuple[str, int]], n: int, operation: tuple[str, Any, Any]) -> None:
    """One step at minute `n` × 60; a progress row may be entered up to 500 minutes after it happened."""
    name, what, more = operation
    now = minutes(60 * n)
    if name == "look":
        look(city)
    elif name == "progress":
        happened = now - timedelta(minutes=more, seconds=n)
        rows.append((PROGRESS, city.platform.progress(GC, SX, what, now, happened=happened)))
    elif name == "change":
        rows.append((CHANGE, city.platform.change(GC, SX, what, now)))
    elif rows:
        table, key = rows.pop(what % len(rows))
        if name == "strike" or table == CHANGE:
            city.platform.strike(table, key, now, "误录")
        else:
            rows.append((table, city.platform.correct(table, key, now, "误录", BLZT=more)))


def look(city: City) -> None:
    city.told()
    words = [said for topic, said in city.events() if topic == APPROVAL]
    assert (words[-1:] == ["APPROVED"]) == stands(city)


def stands(city: City) -> bool:
    """Whether the item is approved, by the rows that are valid."""
    valid = city.sql(
        f"""SELECT BLSJ, BLZT IN (11, 12) FROM {PROGRESS} WHERE SJYXBS = 1 AND BLZT <> 8
            UNION ALL SELECT BGSJ, 0 FROM {CHANGE} WHERE SJYXBS = 1 ORDER BY 1 DESC LIMIT 1"""
    )
    return bool(valid and valid[0][1])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(operations=OPERATIONS)
def test_whenever_one_looks_the_last_event_says_whether_the_approval_stands(
    tmp_path_factory: pytest.TempPathFactory, operations: list[tuple[str, Any, Any]]
) -> None:
    city = City(tmp_path_factory.mktemp("city"), overlap=timedelta(minutes=1))
    try:
        city.begin()
        rows: list[tuple[str, int]] = []
        for n, operation in enumerate(operations, 1):
            operate(city, rows, n, operation)
        look(city)
        assert city.scanned() == []
    finally:
        city.close()


# -- order, overlap, scan --------------------------------------------------------------------------------------------
def test_rows_come_in_the_order_of_their_stamps_across_tables_and_pages(
    city: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connector, "PAGE", 3)
    city.begin()
    for n in range(10):
        city.platform.progress(GC, SX, 8, minutes(2 * n), stamped=minutes(2 * n))
        city.platform.issue(GC, SX, f"{n}", "意见", minutes(2 * n), stamped=minutes(2 * n))
        city.platform.change(GC, SX, "恢复", minutes(2 * n), stamped=minutes(2 * n + 1))
    rows = [reading.row for reading in city.source.read(None)]
    assert rows == [f"{table}:{n}" for n in range(1, 11) for table in (PROGRESS, DOCUMENT, CHANGE)]
    assert sorted(reading.row for reading in city.source.scan()) == sorted(rows)


def test_a_row_that_commits_late_within_the_overlap_is_read_and_told_once(city: City) -> None:
    city.begin()
    city.platform.progress(GC, SX, 8, minutes(10))
    assert city.told() == [(ITEM_MOVED, "IN_PROGRESS")]
    city.platform.progress(GC, SX, 3, minutes(11), happened=minutes(9), stamped=minutes(9))
    assert city.told() == [(ITEM_MOVED, "ACCEPTED")]
    assert city.told() == []


def rows_of(readings: Iterable[Reading]) -> list[str]:
    return [reading.row.removeprefix(f"{PROGRESS}:") for reading in readings]


def test_a_row_that_is_known_to_be_kept_is_not_handed_over_again(city: City) -> None:
    city.begin()
    for n in range(4):
        city.platform.progress(GC, SX, 8, minutes(n / 10))
    first = list(city.source.read(None))
    assert rows_of(city.source.read(first[1].position)) == ["3", "4"]
    assert rows_of(city.source.read(first[1].position)) == ["3", "4"]  # the look before was not kept
    last = list(city.source.read(first[1].position))[-1].position
    assert rows_of(city.source.read(last)) == []
    assert rows_of(city.source.read(last)) == []
    city.platform.strike(PROGRESS, 2, minutes(1), "误录")
    assert rows_of(city.source.read(last)) == ["2"]


def test_a_position_of_another_time_proves_nothing(city: City) -> None:
    city.begin()
    city.platform.progress(GC, SX, 8, NOW)
    city.platform.progress(GC, SX, 8, minutes(1))
    old, last = (reading.position for reading in city.source.read(None))
    assert rows_of(city.source.read(last)) == []
    assert rows_of(city.source.read(old)) == ["1", "2"]  # a database restored from a backup
    restarted = EngineeringSource(city.store, ITEMS, lambda: minutes(600))
    assert rows_of(restarted.read(last)) == ["1", "2"]


def test_a_row_that_is_held_is_handed_over_each_time(city: City) -> None:
    city.platform.progress(GC, SX, 8, NOW)
    (held,) = city.source.read(None)
    assert [reading.reason for reading in city.source.read(held.position)] == [held.reason]


def test_a_late_row_whose_commit_failed_at_the_same_position_is_read_again(city: City) -> None:
    city.begin()
    city.platform.progress(GC, SX, 8, minutes(10))
    (kept,) = city.source.read(None)
    city.platform.progress(GC, SX, 3, minutes(11), stamped=minutes(9))
    (late,) = city.source.read(kept.position)
    assert (late.position or "")[:19] == (kept.position or "")[:19]
    assert rows_of(city.source.read(kept.position)) == ["2"]


def test_what_a_look_that_failed_had_given_is_not_taken_for_kept_by_the_next(city: City) -> None:
    city.begin()
    city.platform.progress(GC, SX, 8, minutes(10))
    (kept,) = city.source.read(None)
    city.platform.progress(GC, SX, 8, minutes(11))
    assert rows_of(city.source.read(kept.position)) == ["2"]
    city.platform.progress(GC, SX, 3, minutes(11), stamped=minutes(9))
    late, _ = city.source.read(kept.position)
    assert rows_of(city.source.read(late.position)) == ["2"]


def test_a_row_older_than_the_overlap_is_missed_by_reading_and_found_by_the_scan(city: City) -> None:
    city.begin()
    city.platform.progress(GC, SX, 8, minutes(10))
    city.told()
    city.platform.progress(GC, SX, 11, minutes(11), stamped=minutes(1))
    assert city.told() == []
    assert city.scanned() == [(ITEM_MOVED, "PASSED"), (APPROVAL, "APPROVED")]
    assert city.scanned() == []


def test_a_stamp_of_the_future_does_not_blind_the_reader(city: City) -> None:
    city.begin()
    city.platform.progress(GC, SX, 3, minutes(1), stamped=NOW + timedelta(days=9000))
    assert city.told() == [(ITEM_MOVED, "ACCEPTED")]
    city.platform.progress(GC, SX, 8, minutes(5999))
    assert city.told() == [(ITEM_MOVED, "IN_PROGRESS")]


def test_positions_never_go_back_and_an_unreadable_stamp_moves_none(city: City) -> None:
    city.begin()
    for n in (5, 1, 3):
        city.platform.progress(GC, SX, 8, minutes(n))
    city.sql(f"UPDATE {PROGRESS} SET GXSJ = 'ZZZZ' WHERE LSH = 3")
    found = list(city.source.read("2026-04-21 10:00:00"))
    positions = [(reading.position or "")[:19] for reading in found]
    assert positions == ["2026-04-21 10:00:00", "2026-04-21 10:03:00", "2026-04-21 10:03:00"]
    assert found[-1].reason == f"{PROGRESS}.GXSJ: not a date or time (YYYY-MM-DD HH:MM:SS)"


def test_a_row_without_a_stamp_is_seen_by_the_scan_alone(city: City) -> None:
    city.begin()
    city.platform.progress(GC, SX, 8, NOW)
    city.sql(f"UPDATE {PROGRESS} SET GXSJ = NULL")
    assert list(city.source.read(None)) == []
    assert [reading.reason for reading in city.source.scan()] == [f"{PROGRESS}.GXSJ: missing"]


def test_a_row_that_vanished_ends_nothing(city: City) -> None:
    city.begin()
    city.platform.progress(GC, SX, 11, NOW)
    city.told()
    city.sql(f"DELETE FROM {PROGRESS}")
    assert city.scanned() == []
    assert city.source.gone(f"{PROGRESS}:1", None).drafts == ()


def test_no_statement_gives_more_than_a_thousand_rows(city: City, monkeypatch: pytest.MonkeyPatch) -> None:
    from jietong.adapters.sqlite import SqliteRows

    most = 0
    fetched = SqliteRows.all

    def counting(self: SqliteRows) -> list[Any]:
        nonlocal most
        rows = fetched(self)
        most = max(most, len(rows))
        return rows

    city.begin()
    with city.store.transaction() as tx:
        tx.execute(
            f"""INSERT INTO {PROGRESS} (XZQHDM, GCDM, SPSXSLBM, BLZT, BLSJ, SJYXBS, GXSJ)
                WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2500)
                SELECT '440700', :work, :item, 8, :at, 1, :at FROM n""",
            {"work": GC, "item": SX, "at": "2026-04-21 10:00:00"},
        )
    city.platform.progress(GC, SX, 11, minutes(1))
    monkeypatch.setattr(SqliteRows, "all", counting)
    assert len(list(city.source.read(None))) == 2501
    assert len(list(city.source.scan())) == 2501
    assert most <= 1000


# -- children before parents -----------------------------------------------------------------------------------------
def test_an_orphan_waits_with_its_reason_until_item_and_project_are_there(city: City) -> None:
    city.platform.progress(GC, SX, 11, NOW)
    assert city.told() == []
    assert city.held() == [f"{PROGRESS}.SPSXSLBM: no valid row of this item and 工程 in {ITEM} yet"]
    city.platform.open_item(GC, "JM-0301", SX, minutes(60))
    assert city.told() == []
    city.platform.register(WORK, minutes(61))
    city.platform.progress(GC, "SX-other", 3, minutes(120))  # carries the position past the orphan
    assert city.told() == [(ITEM_MOVED, "PASSED"), (APPROVAL, "APPROVED")]
    assert city.told() == []


def test_an_orphan_is_read_again_by_its_name_and_one_that_is_gone_is_let_go(city: City) -> None:
    city.platform.progress(GC, SX, 8, NOW)
    city.begin()
    again = list(city.source.again([f"{PROGRESS}:99", f"{PROGRESS}:1"]))
    assert [(reading.row, len(reading.drafts), reading.reason) for reading in again] == [
        (f"{PROGRESS}:99", 0, None),
        (f"{PROGRESS}:1", 1, None),
    ]


def test_an_orphan_that_is_struck_was_never_told_and_is_let_go(city: City) -> None:
    city.platform.progress(GC, SX, 11, NOW)
    city.told()
    city.platform.strike(PROGRESS, 1, minutes(1), "误录")
    assert city.told() == []
    assert city.held() == []


def test_a_child_of_struck_parents_waits_for_their_correction(city: City) -> None:
    city.begin()
    city.platform.strike(ITEM, 1, NOW, "事项有误")
    city.platform.progress(GC, SX, 11, minutes(1))
    assert city.told() == []
    city.platform.open_item(GC, "JM-0303", SX, minutes(2))
    assert city.told() == [(ITEM_MOVED, "PASSED"), (APPROVAL, "APPROVED")]
    assert only(city.source.read(None), APPROVAL)["permit_part"] == "PILE"


def test_a_valid_parent_counts_before_a_newer_one_that_was_struck(city: City) -> None:
    city.begin()
    city.platform.strike(ITEM, city.platform.open_item(GC, "JM-0303", SX, minutes(1)), minutes(2), "重复录入")
    city.platform.progress(GC, SX, 11, minutes(3))
    assert only(city.source.read(None), APPROVAL)["permit_part"] == "FULL"


def test_a_corrected_parent_is_the_one_that_counts(city: City) -> None:
    city.begin()
    city.platform.correct(PROJECT, 1, minutes(1), "地址有误", JSDD="江门市蓬江区建设路1号")
    city.platform.progress(GC, SX, 11, minutes(2))
    assert only(city.source.read(None), APPROVAL)["project"]["address"] == "江门市蓬江区建设路1号"


# -- identity and digests --------------------------------------------------------------------------------------------
def test_the_same_row_read_twice_is_the_same_event(city: City) -> None:
    city.begin()
    city.platform.progress(GC, SX, 11, NOW)
    licensed(city)
    first, second = list(city.source.read(None)), list(city.source.scan())
    assert [d.about for d in drafts(first)] == [d.about for d in drafts(second)]
    assert drafts(first)[0].about[:3] == (PROGRESS, "1", "2026-04-21 10:00:00")
    assert [reading.digest for reading in first] == [reading.digest for reading in second]
    city.told()
    with city.kept.snapshot() as tx:
        ids = [row[0] for row in tx.execute("SELECT id FROM outbox ORDER BY n").all()]
    with city.kept.transaction() as tx:
        for table in ("outbox", "counter", "total", "source_seen", "source_position"):
            tx.execute(f"DELETE FROM {table}")
    city.draw.step()
    with city.kept.snapshot() as tx:
        assert [row[0] for row in tx.execute("SELECT id FROM outbox ORDER BY n").all()] == ids


def test_two_facts_of_one_type_in_one_reading_have_two_ids(city: City) -> None:
    city.begin()
    city.platform.progress(GC, SX, 15, minutes(5))
    city.platform.progress(GC, SX, 11, minutes(6), happened=minutes(1))
    told = drafts(city.source.read(None))
    assert len({(draft.type, draft.about) for draft in told}) == len(told)


@pytest.mark.parametrize(
    ("change", "seen"),
    [
        ("SJSCZT = 3", False),
        ("SBYY = '退回'", False),
        ("GXSJ = '2026-04-21 10:01:00'", False),
        ("BLYJ = '同意'", False),
        ("BLR = '李四'", False),
        ("BLZT = 13", True),
        ("BLSJ = '2026-04-21 10:00:01'", True),
        ("XZQHDM = '440703'", True),
    ],
)
def test_only_a_cell_that_is_told_makes_a_row_new(city: City, change: str, seen: bool) -> None:
    city.begin()
    city.platform.progress(GC, SX, 11, NOW)
    city.told()
    city.sql(f"UPDATE {PROGRESS} SET {change}")
    assert bool(city.told()) == seen


# -- persons ---------------------------------------------------------------------------------------------------------
def test_a_persons_name_and_opinion_never_leave(city: City) -> None:
    canary = "张三丰"
    city.begin()
    city.platform.progress(GC, SX, 11, NOW, office=canary, person=canary, opinion=canary)
    city.platform.strike(PROGRESS, city.platform.progress(GC, SX, 12, minutes(1), person=canary), minutes(2), canary)
    licensed(city)
    readings = [*city.source.read(None), *city.source.scan()]
    assert len(drafts(readings)) > 4
    assert canary not in repr(readings)


def test_a_developer_without_a_credit_code_may_be_a_person_and_stays_unnamed(city: City) -> None:
    city.begin()
    city.sql(f"UPDATE {PARTY} SET DWTYSHXYDM = '440702197001011234', DWMC = '张三丰'")
    city.platform.progress(GC, SX, 11, NOW)
    licensed(city)
    assert only(city.source.read(None), LICENCE)["holder_name"] is None
    assert "张三丰" not in repr(list(city.source.read(None)))
    assert "440702197001011234" not in repr(list(city.source.read(None)))


# -- bad rows --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("table", "column", "value", "rule"),
    [
        (PROGRESS, "BLZT", 16, "not a status from 1 to 15"),
        (PROGRESS, "BLZT", 0, "not a status from 1 to 15"),
        (PROGRESS, "BLZT", "办结", "not a number"),
        (PROGRESS, "BLZT", 1.5, "not a whole number"),
        (PROGRESS, "BLZT", None, "not a status from 1 to 15"),
        (PROGRESS, "BLSJ", "2026-02-30", "not a date or time"),
        (PROGRESS, "BLSJ", None, "missing"),
        (PROGRESS, "BLSJ", "0001-01-01", "not a time between"),
        (PROGRESS, "XZQHDM", "990000", "division code"),
        (PROGRESS, "GCDM", None, "missing"),
        (PROGRESS, "SPSXSLBM", "乙" * 101, "longer than 100"),
        (ITEM, "SPBMMC", "局" * 201, "longer than 200"),
        (PROJECT, "XMDM", "2106-440100-04-01-237449", "project code"),
        (PROJECT, "XMDM", None, "missing"),
        (PROJECT, "XMMC", "园" * 501, "longer than 500"),
        (PROJECT, "JSDD", "路\x00号", "control characters"),
        (PROJECT, "JSDDXZQH", "440703,蓬江", "division code"),
        (PROJECT, "NKGSJ", "明年", "not a date or time"),
        (PROJECT, "ZTZE", "约五千万", "not a number"),
        (PROJECT, "ZTZE", "1e40", "not a number"),
        (PROJECT, "YDMJ", "NaN", "not a number"),
    ],
)
def test_a_bad_cell_is_a_reason_that_names_it_and_never_shows_it(
    city: City, table: str, column: str, value: Any, rule: str
) -> None:
    city.begin()
    city.platform.progress(GC, SX, 11, NOW)
    city.sql(f"UPDATE {table} SET {column} = :value", value=value)
    (reading,) = city.source.read(None)
    assert reading.reason is not None
    assert reading.reason.startswith(f"{table}.{column}: ")
    assert rule in reading.reason
    assert value is None or len(str(value)) < 3 or str(value) not in reading.reason
    assert reading.drafts == ()
    assert city.told() == []
    assert len(city.held()) == 1


def test_a_bad_row_that_is_corrected_by_a_tombstone_and_a_new_one_is_held_no_more(city: City) -> None:
    city.begin()
    key = city.platform.progress(GC, SX, 11, NOW)
    city.sql(f"UPDATE {PROGRESS} SET BLZT = 16")
    assert city.told() == []
    city.platform.correct(PROGRESS, key, minutes(1), "状态有误", BLZT=11)
    assert city.told() == [(ITEM_MOVED, "PASSED"), (APPROVAL, "APPROVED")]
    assert city.held() == []


def test_a_bad_paper_does_not_keep_an_ending_back(city: City) -> None:
    city.begin()
    licensed(city)
    city.sql(f"UPDATE {DOCUMENT} SET PFRQ = '不详'")
    city.platform.progress(GC, SX, 15, minutes(2))
    assert city.told() == [(ITEM_MOVED, "REVOKED"), (APPROVAL, "REVOKED")]


def test_metres_in_the_columns_of_degrees_are_not_taken_for_degrees(city: City) -> None:
    city.begin()
    city.sql(f"UPDATE {PROJECT} SET XMJSDDX = 38512345.12, XMJSDDY = 2498765.5")
    city.platform.progress(GC, SX, 11, NOW)
    assert "longitude" not in only(city.source.read(None), APPROVAL)["project"]


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    cell=st.one_of(
        st.none(), st.text(max_size=80), st.integers(), st.floats(), st.binary(max_size=8), st.decimals(),
        st.datetimes(), st.dates(), st.datetimes(timezones=st.just(UTC)),
    )
)  # fmt: skip
def test_whatever_a_vendor_put_into_a_cell_is_read_or_refused_in_words(cell: Any) -> None:
    row = Row("T", {"C": cell})
    readers: list[Callable[[], Any]] = [
        lambda: row.text("C", 40), lambda: row.code("C", 40), lambda: row.many("C", 40), lambda: row.whole("C"),
        lambda: row.number("C", 18, 6), lambda: row.moment("C"), lambda: row.required_moment("C"), lambda: row.day("C"),
    ]  # fmt: skip
    for reader in readers:
        said = "T.C: "
        try:
            reader()
        except UnreadableError as error:
            said = str(error)
        assert said.startswith("T.C: ")
