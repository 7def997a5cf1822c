"""The second computation of the figures, on tables so small that the right answers can be seen by eye.

2026-03-02 is a Monday; that month has no holiday. 清明 takes the Monday 2026-04-06 off; 2026-05-09 is a Saturday that works (劳动节).
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import chinese_calendar
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine

from connectors.engineering.tables import exchange
from connectors.investment.tables import investment
from connectors.utility.tables import utility
from jietong.workdays import Workdays
from tests.outside.figures import W, fill_calendar, naive

ZONE = ZoneInfo("Asia/Shanghai")
MARCH = date(2026, 3, 1), date(2026, 3, 31)
NOW = datetime(2026, 7, 1, tzinfo=ZONE)
PACK = """
permit_parts: {EARTHWORK: {zh: 土方}, MAIN: {zh: 主体}}
item_catalogue:
  PLAN: {decision_kind: ENGINEERING_PLANNING}
  FULL: {decision_kind: CONSTRUCTION}
  EARTH: {decision_kind: CONSTRUCTION, permit_part: EARTHWORK}
  MAIN: {decision_kind: CONSTRUCTION, permit_part: MAIN}
  JOINT: {acceptance_kind: JOINT}
"""


PLATFORMS = {
    "investment": investment,
    "platform-engineering": exchange,
    "platform-water": utility,
    "platform-power": utility,
}


class Tables:
    """A folder with the platforms' databases and a city pack. Moments are told as `03-02 10:00`, of 2026."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.city = folder / "data", folder / "city"
        self._open = {name: sqlite3.connect(self.folder / f"{name}.db", isolation_level=None) for name in PLATFORMS}
        for db in self._open.values():
            db.execute("PRAGMA synchronous = OFF")

    def put(self, name: str, table: str, **cells: Any) -> None:
        needed = (
            column for column in PLATFORMS[name].tables[table].columns if not (column.nullable or column.primary_key)
        )
        row = {column.name: "" for column in needed} | cells
        sql = f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join(f':{column}' for column in row)})"
        self.execute(name, sql, **row)

    def execute(self, name: str, sql: str, **named: Any) -> None:
        self._open[name].execute(sql, named)

    def close(self) -> None:
        for db in self._open.values():
            db.close()

    def project(self, code: str, decided: str | None, regions: str = "440703") -> None:
        self.put("investment", "project", code=code, status="DECIDED", site_regions=regions)
        if decided:
            self.put("investment", "handling", code=code, status="DECIDED", at=millis(decided))
        self.put("platform-engineering", "SPGL_XMJBXXB", XMDM=code, GCDM=f"{code}-1", SJYXBS=1)

    def item(self, code: str, item: str, *moves: tuple[int, str, int]) -> None:
        """Moves: status (BLZT), when, whether the row is valid."""
        of_item = {"GCDM": f"{code}-1", "SPSXSLBM": f"{code}/{item}"}
        self.put("platform-engineering", "SPGL_XMSPSXBLXXB", SPSXBM=item, SJYXBS=1, **of_item)
        for status, when, valid in moves:
            row = of_item | {"BLZT": status, "BLSJ": f"2026-{when}:00", "SJYXBS": valid}
            self.put("platform-engineering", "SPGL_XMSPSXBLXXXXB", **row)

    def case(self, case: str, opened: str, *steps: tuple[Any, ...], operator: str = "water", **cells: Any) -> None:
        """Steps: status, when, and perhaps more cells. The subject is P, which has no 立项, unless `cells` say."""
        row = {
            "case_id": case, "subject": "P", "utility": operator.upper(), "business_kind": "PERMANENT", "asked": "LEAD", "since": 0,
            "received_at": millis(opened), "triggered_at": millis(opened), "request_sequence": 1,
        } | cells  # fmt: skip
        self.put(f"platform-{operator}", "case_", **row)
        self.receipt(case, 1, opened, operator)
        for status, when, *more in steps:
            self.step(case, status, when, operator, **(more[0] if more else {}))

    def step(self, case: str, status: str, when: str, operator: str = "water", **cells: Any) -> None:
        row = {
            "case_id": case,
            "status": status,
            "at": millis(when),
            "stamp": millis(when),
            "answers_sequence": 1,
        } | cells
        self.put(f"platform-{operator}", "progress", **row)

    def receipt(self, case: str, sequence: int, when: str, operator: str = "water") -> None:
        row = {"event_id": f"{case}/{sequence}", "case_id": case, "sequence": sequence, "received_at": millis(when)}
        self.put(f"platform-{operator}", "receipt", **row)

    def permit(
        self, permit: str, asked: str, *words: tuple[str, str], case: str = "A", status: str = "DECIDED"
    ) -> None:
        row = {
            "permit": permit,
            "subject": "P",
            "status": status,
            "round": 1,
            "case_id": case,
            "operator": "water",
            "utility": "WATER",
        }
        self.put("platform-engineering", "works_permit", received_at=millis(asked), **row)
        for word, when in words:
            self.put(
                "platform-engineering", "LOCAL_WORKS_DECISION", XKBH=permit, JDLX=word, JDSJ=f"2026-{when}:00", SJYXBS=1
            )

    def figures(self, first: date = MARCH[0], last: date = MARCH[1], now: datetime = NOW) -> dict[str, Any]:
        return naive(self.folder, self.city, first, last, now)["figures"]

    def totals(self, *names: str, **window: Any) -> list[tuple[Any, int, int]]:
        """(value, n, left out) of each."""
        found = self.figures(**window)
        return [tuple(found[name]["total"].values()) for name in names]


def millis(when: str) -> int:
    return round(datetime.fromisoformat(f"2026-{when}").replace(tzinfo=ZONE).timestamp() * 1000)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The platforms' databases without a row, and the pack."""
    folder = tmp_path_factory.mktemp("empty")
    (folder / "city").mkdir()
    (folder / "data").mkdir()
    (folder / "city" / "city.yaml").write_text(PACK, "utf-8")
    for name, metadata in PLATFORMS.items():
        engine = create_engine(f"sqlite:///{folder / 'data' / name}.db")
        with engine.begin() as connection:
            metadata.create_all(connection)
        engine.dispose()
    return folder


@pytest.fixture
def tables(empty: Path, tmp_path: Path) -> Iterator[Tables]:
    with closing(Tables(shutil.copytree(empty, tmp_path / "all"))) as made:
        yield made


# -- projects ----------------------------------------------------------------------------------------------------------
STAGES = (
    "decided_to_planning", "planning_to_first_permit", "decided_to_first_permit", "decided_to_main_permit", "first_permit_to_acceptance",
)  # fmt: skip


def test_the_stages_of_a_project_are_the_working_days_between_its_approvals(tables: Tables) -> None:
    tables.project("P", "03-02 10:00")
    tables.item("P", "PLAN", (3, "03-03 10:00", 1), (11, "03-05 10:00", 1))
    tables.item("P", "EARTH", (11, "03-09 10:00", 1))
    tables.item("P", "MAIN", (12, "03-11 18:00", 1))  # after the cut-off: that day is over too
    tables.item("P", "JOINT", (11, "03-13 10:00", 1))
    assert tables.totals(*STAGES) == [(3, 1, 0), (2, 1, 0), (5, 1, 0), (8, 1, 0), (4, 1, 0)]


def test_what_comes_at_the_cut_off_comes_on_that_day_and_what_comes_after_it_on_the_next(tables: Tables) -> None:
    for code, decided in (("P", "03-02 17:30"), ("Q", "03-02 17:31")):
        tables.project(code, decided, {"P": "440703", "Q": "440704"}[code])
        tables.item(code, "FULL", (11, "03-04 17:30", 1))
    groups = tables.figures()["decided_to_first_permit"]["groups"]["division"]
    assert {division: cell["value"] for division, cell in groups.items()} == {"440703": 2, "440704": 1}


def test_a_duration_counts_in_the_window_in_which_it_ends(tables: Tables) -> None:
    tables.project("P", "03-02 10:00")
    tables.item("P", "FULL", (11, "03-31 23:59", 1))
    tables.project("Q", "03-02 10:00")
    tables.item("Q", "FULL", (11, "04-01 00:00", 1))
    assert tables.totals("decided_to_first_permit") == [(22, 1, 0)]
    assert tables.totals("decided_to_main_permit", first=date(2026, 4, 1), last=date(2026, 4, 1)) == [(22, 1, 0)]


def test_holidays_do_not_count_and_make_up_days_do(tables: Tables) -> None:
    tables.project("P", "04-03 10:00")  # a Friday; 清明 until Monday
    tables.item("P", "PLAN", (11, "04-07 10:00", 1))
    tables.item("P", "FULL", (11, "05-11 10:00", 1))
    april = tables.totals("decided_to_planning", first=date(2026, 4, 1), last=date(2026, 4, 30))
    may = tables.totals("planning_to_first_permit", first=date(2026, 5, 1), last=date(2026, 5, 31))
    assert (april, may) == ([(1, 1, 0)], [(18 + 4, 1, 0)])  # 04-07 to 04-30; 05-06, 07, 08 and Saturday the 9th


def test_an_item_approved_again_counts_from_its_last_approval_and_what_became_of_it_does_not_matter(
    tables: Tables,
) -> None:
    tables.project("P", "03-02 10:00")
    tables.item(
        "P", "PLAN", (11, "03-03 10:00", 1), (15, "03-04 10:00", 1), (11, "03-05 10:00", 1), (14, "03-06 10:00", 1)
    )
    tables.item("P", "FULL", (11, "03-12 10:00", 0), (11, "03-10 10:00", 1))  # corrected: the first row was never true
    assert tables.totals("decided_to_planning", "decided_to_first_permit") == [(3, 1, 0), (6, 1, 0)]


def test_a_project_without_a_beginning_or_with_one_after_the_end_is_left_out(tables: Tables) -> None:
    tables.project("P", None)
    tables.item("P", "FULL", (11, "03-10 10:00", 1))
    tables.project("Q", "03-12 10:00")
    tables.item("Q", "FULL", (11, "03-11 10:00", 1))
    tables.item("Q", "PLAN", (13, "03-13 10:00", 1))  # refused
    assert tables.totals("decided_to_first_permit", "decided_to_planning") == [(None, 0, 2), (None, 0, 0)]


def test_a_project_in_two_divisions_counts_in_each_and_once_in_the_total_and_by_operator_only_there(
    tables: Tables,
) -> None:
    tables.project("P", "03-02 10:00", "440703 440704005 440704006")
    tables.item("P", "FULL", (11, "03-03 10:00", 1))
    tables.project("Q", "03-02 10:00", "440704")
    tables.item("Q", "FULL", (11, "03-06 10:00", 1))
    found = tables.figures()["decided_to_first_permit"]
    both = {"value": 2.5, "n": 2, "left_out": 0}
    assert found["total"] == both
    assert found["groups"] == {
        "division": {"440703": both | {"value": 1, "n": 1}, "440704": both},
        "operator": {},
        "type": {},
    }


def test_a_site_that_investment_does_not_tell_is_that_of_the_earliest_approval_else_of_the_case(tables: Tables) -> None:
    tables.project("P", None, "")
    tables.execute("platform-engineering", "UPDATE SPGL_XMJBXXB SET JSDDXZQH = '440785,440784'")
    tables.item("P", "FULL", (11, "03-03 10:00", 1))
    tables.case("A", "03-02 10:00", ("DECLINED", "03-03 10:00"), site_regions="440703")
    tables.case("B", "03-02 10:00", ("DECLINED", "03-03 10:00"), site_regions="440781", subject="enterprise:1")
    tables.case("C", "03-02 10:00", ("DECLINED", "03-03 10:00"), site_regions="", subject="enterprise:2")
    assert list(tables.figures()["case_days"]["groups"]["division"]) == ["440781", "440784", "440785", "none"]


# -- cases -------------------------------------------------------------------------------------------------------------
def test_the_days_of_a_case_belong_to_whose_time_it_was_and_to_nobody_while_it_rests(tables: Tables) -> None:
    tables.case(
        "A", "03-02 10:00",  # the utility: the 2nd
        ("CONTACTED", "03-03 10:00", {"segment_owner": "CUSTOMER"}),  # 3rd and 4th
        ("ACCEPTED", "03-05 10:00", {"segment_owner": "UTILITY", "promised_days": 3}),  # 5th
        ("SUSPENDED", "03-06 10:00", {"segment_owner": "UNKNOWN"}),  # nobody: 6th and 9th
        ("RESUMED", "03-10 10:00", {"segment_owner": "UNKNOWN"}),  # the utility: 10th
        ("PLAN_REPLIED", "03-11 10:00", {"segment_owner": "DEPARTMENT"}),  # 11th to 13th
        ("INSPECTED", "03-16 10:00", {"segment_owner": ""}),  # as states.md says: the utility, 16th and 17th
        ("CONNECTED", "03-18 17:30"), connect_days=9,
    )  # fmt: skip
    names = (
        "case_days",
        "utility_days",
        "customer_days",
        "department_days",
        "connect_days",
        "connect_days_promised",
        "connected_in_time",
    )
    assert tables.totals(*names) == [(12, 1, 0), (5, 1, 0), (2, 1, 0), (3, 1, 0), (4, 1, 0), (3, 1, 0), (0, 1, 0)]
    assert tables.totals("case_days_total", "utility_days_total") == [(12, 1, 0), (5, 1, 0)]


def test_what_finished_is_told_from_what_ended_otherwise_by_operator_and_type(tables: Tables) -> None:
    tables.case("A", "03-02 10:00", ("ACCEPTED", "03-03 10:00"), ("CONNECTED", "03-04 10:00"), connect_days=1)
    tables.case("B", "03-02 10:00", ("WORKS_FINISHED", "03-06 10:00"), operator="power", business_kind="CLOSE")
    tables.case(
        "C",
        "03-02 10:00",
        ("ACCEPTED", "03-03 10:00"),
        ("WORKS_FINISHED", "03-09 10:00"),
        operator="power",
        business_kind="CLOSE",
    )
    tables.case("D", "03-02 10:00", ("REFUSED", "03-04 10:00"), ("CANCELLED", "03-05 10:00"))
    tables.case("E", "03-02 10:00", ("CONTACTED", "03-04 10:00"))
    works = ("ACCEPTED", "03-03 10:00"), ("WORKS_STARTED", "03-04 10:00"), ("WORKS_FINISHED", "03-05 10:00")
    tables.case("F", "03-02 10:00", *works)  # of a supply that is not the end
    groups = tables.figures()["case_days"]["groups"]
    water, power = {"value": 2, "n": 1, "left_out": 1}, {"value": 5, "n": 1, "left_out": 0}
    assert groups["operator"] == {"water": water, "power": power}
    assert groups["type"] == {"WATER/PERMANENT": water, "POWER/CLOSE": power}
    assert tables.totals("connect_days", "connected_in_time") == [(1, 1, 0), (1, 1, 0)]


def test_a_step_out_of_turn_is_not_applied(tables: Tables) -> None:
    tables.case(
        "A", "03-02 10:00", ("INSPECTED", "03-03 10:00"), ("CONTACTED", "03-05 10:00"), ("CONNECTED", "03-06 10:00")
    )
    tables.step("nowhere", "CONNECTED", "03-06 10:00")
    assert tables.totals("contacted_in_time", "case_days") == [(0, 1, 0), (None, 0, 0)]


def test_a_step_before_the_opening_is_none_of_the_case(tables: Tables) -> None:
    tables.case("A", "03-03 10:00", ("CONTACTED", "03-02 10:00"), ("CONTACTED", "03-06 10:00"))
    assert tables.totals("contacted_in_time") == [(0, 1, 0)]


def test_without_a_promise_a_connection_is_not_judged(tables: Tables) -> None:
    tables.case("A", "03-02 10:00", ("ACCEPTED", "03-03 10:00"), ("CONNECTED", "03-04 10:00"))
    assert tables.totals("connect_days", "connect_days_promised", "connected_in_time") == [
        (1, 1, 0),
        (None, 0, 1),
        (None, 0, 1),
    ]


def test_contact_is_in_time_until_the_end_of_the_next_working_day_and_silence_is_not(tables: Tables) -> None:
    tables.case("A", "03-02 10:00", ("CONTACTED", "03-03 17:30"))
    tables.case("B", "03-02 10:00", ("CONTACTED", "03-03 17:31"))
    tables.case("C", "03-02 18:00", ("NOT_NEEDED", "03-04 10:00"))  # after the cut-off: received on the 3rd
    tables.case("D", "03-02 10:00")
    tables.case("E", "03-02 10:00", ("WORKS_FINISHED", "03-09 10:00"), business_kind="PROTECT")
    assert tables.totals("contacted_in_time") == [(0.5, 4, 0)]
    assert tables.totals("contacted_in_time", last=date(2026, 3, 3)) == [(1 / 3, 3, 0)]


def test_a_case_that_rests_since_before_its_limit_or_whose_limit_is_not_over_is_left_out(tables: Tables) -> None:
    for case, when in (("A", "03-03 10:00"), ("B", "03-04 10:00")):
        tables.case(case, "03-02 10:00", ("CANCELLED", when), asked="CANCELLED", request_sequence=2)
        tables.receipt(case, 2, when)
    tables.case("C", "03-10 10:00")
    assert tables.totals("contacted_in_time", now=datetime(2026, 3, 11, 12, tzinfo=ZONE)) == [(0, 1, 2)]


def test_a_case_of_an_approval_begins_when_its_operator_heard_and_of_a_project_when_it_was_decided(
    tables: Tables,
) -> None:
    tables.project("P", "03-02 16:00")
    ends = ("ACCEPTED", "03-03 11:00"), ("CONNECTED", "03-04 11:00")
    tables.case("A", "03-03 10:00", *ends, triggered_at=millis("03-02 16:00"))
    tables.case("B", "03-03 10:00", *ends, triggered_at=millis("03-02 15:00"))
    tables.case("C", "03-03 10:00", *ends, triggered_at=millis("03-02 15:00"), subject="enterprise:1")
    tables.case("D", "03-03 10:00", *ends, operator="power", triggered_at=millis("03-02 16:00"))
    tables.case("E", "03-03 11:00", *ends, operator="power", triggered_at=millis("03-02 16:00"))  # a further 工程
    assert tables.totals("case_days_total", "case_days") == [(2 + 1 + 2 + 2 + 1, 5, 0), (2, 5, 0)]


def test_a_case_that_was_never_asked_for_is_none(tables: Tables) -> None:
    tables.case("A", "03-02 10:00", ("INSPECTED", "03-02 10:00"), asked="CANCELLED", round=1)
    assert tables.totals("contacted_in_time") == [(None, 0, 0)]


def test_a_case_asked_for_again_begins_anew(tables: Tables) -> None:
    tables.case("A", "03-02 10:00", ("ACCEPTED", "03-03 10:00"), ("DECLINED", "03-04 10:00"), since=2)
    tables.receipt("A", 2, "03-16 10:00")
    tables.step("A", "ACCEPTED", "03-17 10:00", answers_sequence=2)
    tables.step("A", "CONNECTED", "03-18 10:00", answers_sequence=2)
    assert tables.totals("case_days", "contacted_in_time") == [(2, 1, 0), (1, 1, 0)]


def test_a_case_cancelled_and_asked_for_again_begins_anew_once_its_operator_had_acknowledged(tables: Tables) -> None:
    tables.case("A", "03-02 10:00", ("CANCELLED", "03-03 10:00", {"answers_sequence": 2}))
    tables.receipt("A", 2, "03-03 10:00")
    tables.receipt("A", 3, "03-16 10:00")
    tables.step("A", "CONTACTED", "03-17 10:00", answers_sequence=3)
    assert tables.totals("contacted_in_time", first=date(2026, 3, 17)) == [(1, 1, 0)]
    assert tables.totals("contacted_in_time", last=date(2026, 3, 16)) == [(None, 0, 0)]


# -- permits -----------------------------------------------------------------------------------------------------------
PERMITS = ("permits_decided", "permit_days", "permits_in_time", "packages_in_time")


def test_permits_in_parallel_are_in_time_within_five_working_days_and_a_package_if_all_of_it_is(tables: Tables) -> None:
    tables.case("A", "02-24 10:00", business_kind="TEMPORARY")
    tables.case("B", "02-24 10:00", operator="power")
    tables.permit("1", "03-02 10:00", ("准予", "03-09 17:30"))
    tables.permit("2", "03-02 10:00", ("不予", "03-09 17:31"))
    tables.permit("3", "03-03 10:00", ("准予", "03-04 10:00"))  # asked for later: a package of its own
    assert tables.totals(*PERMITS) == [(3, 3, 0), (5, 3, 0), (2 / 3, 3, 0), (1 / 2, 2, 0)]
    found = tables.figures()["packages_in_time"]["groups"]
    assert list(found["type"]) == ["WATER/TEMPORARY"]
    assert list(found["operator"]) == ["water"]


def test_a_permit_overwritten_recalled_or_not_due_is_left_out_but_a_late_one_makes_its_package_late(
    tables: Tables,
) -> None:
    tables.permit("1", "03-02 10:00", ("准予", "03-04 10:00"), ("撤销", "03-20 10:00"))
    tables.permit("2", "03-02 10:00", status="CANCELLED")
    tables.permit("3", "03-02 10:00", status="OPEN")
    tables.permit("4", "03-02 10:00", status="CANCELLED", case="B")
    tables.permit(
        "5", "03-02 10:00", ("准予", "03-04 10:00"), case="B", status="CANCELLED"
    )  # recalled after it was given
    assert tables.totals(*PERMITS) == [(1, 1, 1), (2, 1, 1), (0.5, 2, 3), (0, 1, 1)]
    assert tables.totals(*PERMITS[2:], now=datetime(2026, 3, 9, tzinfo=ZONE)) == [(1, 1, 4), (None, 0, 2)]


def test_a_permit_asked_for_again_is_judged_by_the_answer_since(tables: Tables) -> None:
    tables.permit("1", "03-10 10:00", ("不予", "03-04 10:00"), ("准予", "03-13 10:00"))
    tables.permit("2", "03-10 10:00", ("不予", "03-04 10:00"), status="OPEN")
    assert tables.totals(*PERMITS[:3]) == [(1, 1, 0), (3, 1, 0), (0.5, 2, 0)]


def test_a_decision_that_was_struck_was_none(tables: Tables) -> None:
    tables.permit("1", "03-02 10:00", ("准予", "03-03 10:00"), ("准予", "03-04 10:00"))
    tables.execute("platform-engineering", "UPDATE LOCAL_WORKS_DECISION SET SJYXBS = 0 WHERE LSH = 2")
    assert tables.totals(*PERMITS[:3]) == [(1, 1, 0), (1, 1, 0), (1, 1, 0)]


# -- the city ----------------------------------------------------------------------------------------------------------
def test_the_pack_says_the_hours_the_limits_and_the_own_days(tables: Tables) -> None:
    own = "working: {cut_off: '12:00', days_off: [2026-03-03], work_days: [2026-03-07]}\nclocks: {contact_days: 2}\nworks: {days: 4}\n"
    (tables.city / "own.yaml").write_text(own, "utf-8")
    tables.case("A", "03-02 12:30", ("CONTACTED", "03-06 12:00"))  # received on the 4th
    tables.permit("1", "03-02 10:00", ("准予", "03-07 11:00"))  # 2, 4, 5, 6
    assert tables.totals("contacted_in_time", "permit_days", "permits_in_time") == [(1, 1, 0), (4, 1, 0), (1, 1, 0)]


def test_days_of_a_calendar_that_is_not_published_are_provisional(tables: Tables) -> None:
    def provisional(day: date) -> bool:
        return naive(tables.folder, tables.city, day, day)["provisional"]

    known = max(day.year for day in chinese_calendar.holidays)
    assert [provisional(day) for day in (date(known, 12, 20), date(known, 12, 28), date(2099, 3, 2))] == [
        False,
        True,
        True,
    ]
    (tables.city / "own.yaml").write_text("working: {work_days: [2099-03-02]}", "utf-8")
    assert not provisional(date(2099, 3, 2))


def test_nothing_gives_nothing_and_sums_of_none_are_nought(tables: Tables) -> None:
    assert tables.totals("decided_to_planning", "contacted_in_time", "case_days_total", "permits_decided") == [
        (None, 0, 0), (None, 0, 0), (0, 0, 0), (0, 0, 0),
    ]  # fmt: skip


MINUTES = st.integers(0, 330 * 24 * 60).map(lambda n: datetime(2026, 1, 1, tzinfo=ZONE) + timedelta(minutes=n))


@pytest.fixture(scope="module")
def ends() -> Iterator[sqlite3.Connection]:
    """The ends of the working days of most of a year, as the computation makes them."""
    with closing(sqlite3.connect(":memory:")) as db:
        for table, column in (
            ("handling", "at"),
            ("approval", "at"),
            ("step", "at"),
            ("opening", "opened"),
            ("works_permit", "received_at"),
        ):
            db.execute(f"CREATE TABLE {table} ({column})")
        db.execute("INSERT INTO handling VALUES (?)", (millis("01-01 00:00"),))
        fill_calendar(db, {"zone": "Asia/Shanghai", "cut_off": "17:30"}, date(2026, 11, 30))
        yield db


@settings(max_examples=100, deadline=None, derandomize=True)
@given(a=MINUTES, b=MINUTES)
def test_working_days_counted_in_sql_are_those_of_the_city(ends: sqlite3.Connection, a: datetime, b: datetime) -> None:
    a, b = sorted((a, b))
    [(counted,)] = ends.execute(
        f"SELECT {W.format('?', '?')}", [round(m.timestamp() * 1000) for m in (a, b)]
    ).fetchall()
    assert counted == Workdays().between(a, b)


def test_the_command_prints_the_figures_or_says_what_is_missing(tables: Tables) -> None:
    command = [sys.executable, "-m", "tests.outside.figures"]
    window = [str(tables.city), "--from", "2026-03-01", "--to", "2026-03-31"]
    told = subprocess.run([*command, str(tables.folder), *window, "--json"], capture_output=True, text=True, check=True)
    assert json.loads(told.stdout) == naive(tables.folder, tables.city, *MARCH)
    missing = subprocess.run([*command, str(tables.city), *window], capture_output=True, text=True, check=False)
    assert (missing.returncode, missing.stderr) == (
        2,
        f"{tables.city}: has no investment.db, platform-engineering.db\n",
    )
