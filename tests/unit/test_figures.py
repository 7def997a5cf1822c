"""The city's figures are what docs/figures.md says of them."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from collections.abc import Mapping
from datetime import UTC, date, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jietong.adapters.sqlite import SqliteStore
from jietong.city import City
from jietong.city import load as load_city
from jietong.cli.app import run
from jietong.cli.figures import By
from jietong.delivery.tables import delivery
from jietong.errors import UsageError
from jietong.event import Draft
from jietong.testing import MemoryStore
from jietong.workdays import Segment, Workdays
from services.hookup.figures import BY, FIGURES, OF_PROJECTS, TOTAL, Calendar, Figure, Window, figures, provisional
from services.hookup.tables import hookup
from tests.unit.office import (
    CATALOG,
    CITY,
    CODE,
    CONTRACT,
    OTHER,
    WHERE,
    Fact,
    Office,
    acceptance,
    approval,
    plan,
    project,
    word,
)

SHANGHAI = ZoneInfo("Asia/Shanghai")
SPRING = (date(2026, 3, 1), date(2026, 6, 30))
PAGE = Path(__file__).parents[2] / "docs" / "figures.md"


def at(day: int, hour: int = 9, minute: int = 0, month: int = 3) -> datetime:
    """March 2026 in Jiangmen: it begins on a Sunday, and has no holiday of its own."""
    return datetime(2026, month, day, hour, minute, tzinfo=SHANGHAI)


LATER = at(30, month=6)


class City0(Office):
    """An office whose database has an outbox, and which is asked for figures."""

    def __init__(self, city: City = CITY) -> None:
        super().__init__(city)
        self.store = MemoryStore("hookup", hookup, delivery)

    def on(self, moment: datetime, fact: Fact, subject: str = CODE) -> None:
        self.now = moment
        self.tell(*fact, subject=subject)

    def steps(
        self, operator: str, kind: str, *steps: tuple[datetime, str], subject: str = CODE, promised_days: int | None = None
    ) -> None:  # fmt: skip
        for moment, status in steps:
            self.now = moment
            self.step(operator, kind, status, subject, promised_days=promised_days if status == "ACCEPTED" else None)

    def says(self, moment: datetime, fact: Fact, n: int) -> None:
        """The company's word, through its door: it stands in the outbox."""
        type, data = fact
        draft = Draft(type=type, subject=CODE, time=moment, data=data)
        fingerprint, body = CONTRACT.encode(draft)
        millis = round(moment.timestamp() * 1000)
        with self.store.transaction() as tx:
            tx.execute("INSERT INTO outbox (id, source, aggregatetype, aggregateid, type, sequence, fingerprint, payload, time, recorded) "
                       "VALUES (:id, 'urn:jietong:440700:hookup', 'project', :subject, :type, :n, :fingerprint, :body, :at, :at)",
                       {"id": str(uuid4()), "subject": CODE, "type": type, "n": n, "fingerprint": fingerprint, "body": body,
                        "at": millis})  # fmt: skip
        self.on(moment, fact)

    def figures(
        self, first: date = SPRING[0], last: date = SPRING[1], by: str = "division", now: datetime = LATER
    ) -> dict[tuple[str, str], Figure]:
        window = Window(first, last, by, round(now.timestamp() * 1000))
        with self.store.snapshot() as tx:
            found = figures(tx, self.city, CONTRACT, window)
        assert len({(f.figure, f.group) for f in found}) == len(found)
        return {(f.figure, f.group): f for f in found}

    def total(self, figure: str, **window: Any) -> tuple[float | None, int, int]:
        """Value, n, left out."""
        found = self.figures(**window)[figure, TOTAL]
        return found.value, found.n, found.left_out


@pytest.fixture
def city() -> City0:
    return City0()


# -- the page --------------------------------------------------------------------------------------------------------------
def test_every_figure_stands_on_the_page_with_its_unit_and_nothing_else() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \| [^|]+\. \|$", PAGE.read_text("utf-8"), re.MULTILINE)
    assert rows == [(name, unit) for name, (unit, _) in FIGURES.items()]


# -- windows ---------------------------------------------------------------------------------------------------------------
def test_an_empty_window_is_zeros_and_no_medians(city: City0) -> None:
    found = city.figures()
    assert [name for name, _ in found] == list(FIGURES)
    for (name, group), figure in found.items():
        counts = not FIGURES[name][0].endswith(("median", "share"))
        assert (group, figure.value, figure.n, figure.left_out) == (TOTAL, 0 if counts else None, 0, 0)


@pytest.mark.parametrize(("first", "last", "by"), [
    (date(2026, 3, 2), date(2026, 3, 1), "type"), (date(2026, 3, 1), date(2026, 3, 1), "street"), (date(1, 1, 1), date(2026, 1, 1), "type"),
    (date(2026, 1, 1), date(9999, 12, 31), "type"),
])  # fmt: skip
def test_a_window_that_is_none_is_refused(first: date, last: date, by: str) -> None:
    with pytest.raises(UsageError):
        Window(first, last, by, 0)


def test_a_window_holds_both_its_days_in_the_zone_of_the_city(city: City0) -> None:
    city.on(at(2), project("DECIDED"))
    city.on(at(10, 0, 0), approval("APPROVED"))
    assert city.total("decided_to_first_permit", first=date(2026, 3, 10), last=date(2026, 3, 10))[1] == 1
    assert city.total("decided_to_first_permit", first=date(2026, 3, 9), last=date(2026, 3, 9))[1] == 0
    assert city.total("decided_to_first_permit", first=date(2026, 3, 11))[1] == 0


def test_a_window_with_a_day_whose_calendar_is_not_out_is_provisional() -> None:
    def asked(first: date, last: date) -> bool:
        return provisional(CITY, Window(first, last, "type", 0))

    assert not asked(*SPRING)
    assert asked(date(2026, 11, 1), date(2027, 1, 1))
    assert asked(date(2027, 5, 1), date(2027, 5, 1))


MOMENTS = st.datetimes(datetime(2025, 12, 1), datetime(2026, 6, 29), timezones=st.just(UTC))  # noqa: DTZ001 — a zone is put to them


@settings(max_examples=100, deadline=None, derandomize=True)
@example(start=at(9, 17, 30), end=at(10, 17, 30))
@given(start=MOMENTS, end=MOMENTS)
def test_days_that_are_looked_up_are_those_that_are_counted(start: datetime, end: datetime) -> None:
    window = Window(*SPRING, "type", 0)
    calendar = Calendar(CITY, window, round(min(start, end).timestamp() * 1000))
    counted = Workdays().between(start, end)
    assert calendar.between(round(start.timestamp() * 1000), round(end.timestamp() * 1000)) == counted


# -- projects --------------------------------------------------------------------------------------------------------------
def test_from_the_decision_to_the_first_part_and_to_the_main_structure(city: City0) -> None:
    city.on(at(2), project("DECIDED"))
    city.on(at(5), approval("APPROVED", item="p", kind="ENGINEERING_PLANNING"))
    city.on(at(10), approval("APPROVED", item="e", part="EARTHWORK"))
    city.on(at(16, 18), approval("APPROVED", item="m", part="MAIN"))
    city.on(at(20), acceptance("APPROVED"))
    got = {name: city.total(name) for name in OF_PROJECTS}
    assert got == {
        "decided_to_first_permit": (6, 1, 0), "decided_to_main_permit": (11, 1, 0), "decided_to_planning": (3, 1, 0),
        "planning_to_first_permit": (3, 1, 0), "first_permit_to_acceptance": (8, 1, 0),
    }  # fmt: skip


def test_the_main_structure_is_the_last_part_of_the_citys_pack_or_the_full_permit() -> None:
    dongguan = City0(load_city("dongguan", CATALOG))
    dongguan.on(at(2), project("DECIDED"))
    dongguan.on(at(3), approval("APPROVED", item="a", part="PIT"))
    assert dongguan.total("decided_to_main_permit") == (None, 0, 0)
    dongguan.on(at(4), approval("APPROVED", item="b", part="STRUCTURE"))
    assert dongguan.total("decided_to_main_permit") == (2, 1, 0)
    dongguan.on(at(3), approval("APPROVED", item="c", part="FULL"))
    assert dongguan.total("decided_to_main_permit") == (1, 1, 0)


def test_a_median_is_the_mean_of_the_middle_two_and_nothing_is_rounded(city: City0) -> None:
    for subject, day in ((CODE, 3), (OTHER, 4)):
        city.on(at(2), project("DECIDED"), subject)
        city.on(at(day), approval("APPROVED"), subject)
    assert city.total("decided_to_first_permit") == (1.5, 2, 0)


def test_a_permit_that_fell_later_took_its_time_all_the_same(city: City0) -> None:
    city.on(at(2), project("DECIDED"))
    city.on(at(4), approval("APPROVED"))
    city.on(at(9), approval("REVOKED"))
    city.on(at(10), project("CANCELLED"))
    assert city.total("decided_to_first_permit") == (2, 1, 0)


def test_what_was_before_the_city_joined_ends_nothing_and_begins_nothing(city: City0) -> None:
    city.on(at(2), project("DECIDED", historical=True))
    city.on(at(4), approval("APPROVED", item="old", historical=True))
    assert city.total("decided_to_first_permit") == (None, 0, 0)
    city.on(at(5), approval("APPROVED", item="new"))
    assert city.total("decided_to_first_permit") == (None, 0, 1)


def test_what_ends_before_it_begins_is_left_out_and_said(city: City0) -> None:
    city.on(at(3), approval("APPROVED"))
    city.on(at(5), project("DECIDED"))
    assert city.total("decided_to_first_permit") == (None, 0, 1)


# -- contact ---------------------------------------------------------------------------------------------------------------
def contacts(city: City0, now: datetime) -> Mapping[str, tuple[float | None, int, int]]:
    found = city.figures(by="operator", now=now)
    return {group: (f.value, f.n, f.left_out) for (name, group), f in found.items() if name == "contacted_in_time"}


def test_contact_in_time_counts_the_overdue_and_leaves_out_what_is_not_due(city: City0) -> None:
    """主动服务: one working day, until the office closes."""
    city.on(at(6), project("DECIDED"))  # a Friday: until Monday, 17:30
    city.steps("jm-water", "PERMANENT", (at(9, 17, 30), "CONTACTED"))
    city.steps("jm-power", "PERMANENT", (at(9, 17, 31), "ACCEPTED"))
    before, after = contacts(city, at(9, 17, 30)), contacts(city, at(9, 17, 32))
    assert before["jm-water"] == after["jm-water"] == (1, 1, 0)
    assert before["jm-power"] == after["jm-power"] == (0, 1, 0)
    assert (before["jm-drainage"], after["jm-drainage"]) == ((None, 0, 1), (0, 1, 0))
    n = sum(entry[1] for group, entry in after.items() if group != TOTAL)
    assert after[TOTAL] == (1 / n, n, 0)


def test_contact_counts_on_the_day_its_limit_ends_however_late_it_came(city: City0) -> None:
    city.on(at(6), project("DECIDED"))
    city.steps("jm-water", "PERMANENT", (at(20), "CONTACTED"))
    assert city.total("contacted_in_time", first=date(2026, 3, 9), last=date(2026, 3, 9))[0] == 0
    assert city.total("contacted_in_time", first=date(2026, 3, 10))[1] == 0


def test_a_lead_that_was_taken_back_before_its_limit_needs_no_contact(city: City0) -> None:
    city.on(at(6), project("DECIDED"))
    city.on(at(6, 15), project("CANCELLED"))
    value, n, left_out = city.total("contacted_in_time")
    assert (value, n) == (None, 0)
    assert left_out > 0
    late = City0()
    late.on(at(6), project("DECIDED"))
    late.on(at(10), project("CANCELLED"))
    assert late.total("contacted_in_time") == (0, left_out, 0)


def test_an_echo_of_a_suspension_is_no_contact_and_a_protection_request_waits_for_none(city: City0) -> None:
    city.on(at(6), approval("APPROVED"))
    city.on(at(6, 15), approval("SUSPENDED"))
    city.steps("jm-water", "TEMPORARY", (at(6, 16), "SUSPENDED"))
    city.on(at(6, 17), approval("RESUMED"))
    found = contacts(city, at(20))
    assert found["jm-water"] == (0, 1, 0)
    assert found["jm-gas"] == (None, 0, 0)


def test_a_case_that_is_opened_again_waits_for_a_new_contact_and_its_time_begins_anew(city: City0) -> None:
    city.on(at(2), approval("APPROVED"))
    city.steps("jm-water", "TEMPORARY", (at(2, 10), "CONTACTED"))
    city.on(at(4), approval("WITHDRAWN"))
    city.on(at(9), approval("APPROVED"))
    assert contacts(city, at(20))["jm-water"] == (0, 1, 0)
    city.steps("jm-water", "TEMPORARY", (at(10), "ACCEPTED"), (at(12), "CONNECTED"))
    assert contacts(city, at(20))["jm-water"] == (1, 1, 0)
    assert city.total("case_days") == city.total("utility_days") == (3, 1, 0)


# -- whose time ------------------------------------------------------------------------------------------------------------
LIFE = (
    (at(3, 10), "CONTACTED"), (at(9, 10), "ACCEPTED"), (at(11, 10), "PLAN_REPLIED"), (at(18, 10), "CONTRACTED"), (at(23, 10), "INSPECTED"),
    (at(24, 18), "CONNECTED"),
)  # fmt: skip


def test_a_case_belongs_to_the_utility_until_its_first_step_and_then_to_whom_each_step_names(city: City0) -> None:
    city.on(at(2), project("DECIDED"))
    city.steps("jm-power", "PERMANENT", *LIFE)
    days = {name: city.total(name) for name in ("utility_days", "customer_days", "department_days", "case_days")}
    # to the call 1; the customer's to the application 4; the plan 2; the customer's to the contract 5; to the connection 5
    assert days == {
        "utility_days": (8, 1, 0),
        "customer_days": (9, 1, 0),
        "department_days": (0, 1, 0),
        "case_days": (17, 1, 0),
    }
    assert city.total("utility_days_total") == (8, 1, 0)
    segments = [Segment("UTILITY", at(2), LIFE[0][0])]
    for (start, status), (end, _) in pairwise(LIFE):
        segments.append(Segment("CUSTOMER" if status in ("CONTACTED", "PLAN_REPLIED") else "UTILITY", start, end))
    assert Workdays().used("UTILITY", segments, LIFE[-1][0]) == 8


def test_a_step_that_says_whose_time_follows_is_believed(city: City0) -> None:
    city.on(at(2), project("DECIDED"))
    for moment, status in LIFE:
        city.now = moment
        city.step("jm-power", "PERMANENT", status, segment_owner="DEPARTMENT" if status == "CONTRACTED" else "UNKNOWN")
    assert city.total("department_days") == (3, 1, 0)
    assert city.total("utility_days") == (5, 1, 0)


def test_time_between_the_echoes_of_a_suspension_is_nobodys(city: City0) -> None:
    city.on(at(2), project("DECIDED"))
    city.steps("jm-power", "PERMANENT", *LIFE[:2])
    city.steps("jm-power", "PERMANENT", (at(9, 11), "SUSPENDED"), (at(10, 10), "RESUMED"))
    city.steps("jm-power", "PERMANENT", *LIFE[2:])
    assert city.total("utility_days") == (7, 1, 0)
    assert city.total("case_days") == (17, 1, 0)


def test_nothing_after_the_end_is_anybodys_time(city: City0) -> None:
    city.on(at(2), project("DECIDED"))
    city.now = at(3)
    city.step("jm-power", "PERMANENT", "ACCEPTED")
    city.step("jm-power", "PERMANENT", "CONNECTED", segment_owner="UTILITY")
    city.on(at(9), project("CANCELLED"))
    city.steps("jm-power", "PERMANENT", (at(10), "SUSPENDED"))
    assert city.total("utility_days") == city.total("case_days") == (1, 1, 0)


@pytest.mark.parametrize("end", ["DECLINED", "REFUSED", "NOT_NEEDED", "LAPSED"])
def test_a_case_that_ended_otherwise_is_left_out_and_said(city: City0, end: str) -> None:
    city.on(at(2), project("DECIDED"))
    city.steps("jm-power", "PERMANENT", (at(4), "CONTACTED"), (at(5), end))
    assert city.total("utility_days") == (None, 0, 1)
    assert city.total("case_days_total") == (0, 0, 1)


def test_business_on_lines_is_finished_with_its_works(city: City0) -> None:
    city.on(at(2), approval("APPROVED"))
    city.now = at(4)
    city.step("jm-gas", "PROTECT", "ACCEPTED")
    city.step("jm-gas", "PROTECT", "PLAN_REPLIED", protection="PROTECT")
    city.steps("jm-gas", "PROTECT", (at(6), "WORKS_FINISHED"))
    assert city.figures(by="type")["case_days", "GAS/PROTECT"].value == 4
    assert city.total("connect_days") == (None, 0, 0)


# -- promises --------------------------------------------------------------------------------------------------------------
def test_a_connection_is_held_against_what_was_promised_at_its_acceptance_else_in_its_receipt(city: City0) -> None:
    city.on(at(2), project("DECIDED"))
    city.steps("jm-power", "PERMANENT", *LIFE)
    own = 7  # of the utility, of the 15 that the city's promise has
    assert city.total("connect_days") == (own, 1, 0)
    assert city.total("connect_days_promised") == (15, 1, 0)
    assert city.total("connected_in_time") == (1, 1, 0)
    other = City0()
    other.on(at(2), project("DECIDED"))
    other.steps("jm-power", "PERMANENT", *LIFE, promised_days=own - 1)
    assert other.total("connect_days_promised") == (own - 1, 1, 0)
    assert other.total("connected_in_time") == (0, 1, 0)
    assert other.total("breaches.LATE_CONNECTION") == (1, 1, 0)


def test_a_connection_counts_from_its_last_acceptance_and_may_take_all_that_was_promised(city: City0) -> None:
    city.on(at(2), project("DECIDED"))
    city.now = at(4)
    city.step("jm-gas", "PERMANENT", "CONTACTED", segment_owner="UTILITY")
    city.steps("jm-gas", "PERMANENT", (at(6), "ACCEPTED"), (at(9), "DECLINED"), promised_days=9)
    city.on(at(16), word("APPLIED", application="a1", utility="GAS", business_kind="PERMANENT"))
    city.steps("jm-gas", "PERMANENT", (at(17), "ACCEPTED"), (at(19), "CONNECTED"), promised_days=2)
    assert city.total("connect_days") == city.total("connect_days_promised") == (2, 1, 0)
    assert city.total("connected_in_time") == (1, 1, 0)
    assert city.total("utility_days") == (1 + 2, 1, 0), "it was opened again when the customer applied anew"


def test_where_nothing_was_promised_nothing_is_in_time_or_late(city: City0) -> None:
    city.on(at(2), project("DECIDED"))
    with city.store.transaction() as tx:
        tx.execute("UPDATE case_ SET receipt = NULL")
    city.steps("jm-power", "PERMANENT", *LIFE)
    assert city.total("connect_days") == (7, 1, 0)
    assert city.total("connect_days_promised") == (None, 0, 1)
    assert city.total("connected_in_time") == (None, 0, 1)
    cases = len(city.cases())
    assert city.total("fields_known") == (0, 0, cases)


def test_breaches_and_absences_count_by_kind_on_the_day_they_were_noticed(city: City0) -> None:
    city.on(at(6), project("DECIDED"))
    city.wait(at(10))
    cases = len(city.cases())
    assert city.total("absences_noticed") == city.total("absences_noticed.NO_CONTACT") == (cases, cases, 0)
    assert city.total("absences_noticed", first=date(2026, 3, 11)) == (0, 0, 0)
    city.steps("jm-water", "PERMANENT", (at(12), "CONTACTED"))
    assert city.total("absences_ended", first=date(2026, 3, 12), last=date(2026, 3, 12)) == (1, 1, 0)
    found = city.figures(by="operator", first=date(2026, 3, 12))
    assert found["breaches.LATE_CONTACT", "jm-water"].value == 1
    assert found["breaches", TOTAL].value == 1
    assert city.total("breaches", first=date(2026, 3, 13)) == (0, 0, 0)


# -- the one form ----------------------------------------------------------------------------------------------------------
def test_fields_known_and_asked_are_those_of_the_opening_and_asked_again_after_the_company_had_filled_them_in(
    city: City0,
) -> None:
    """一张表单, asked once."""
    city.on(at(2), project("DECIDED", name="甲"))
    first = [d.data for d in city.said]
    assert city.total("fields_known") == (sum(len(d["fields_known"]) for d in first), len(first), 0)
    assert city.total("fields_to_ask") == (asked := sum(len(d["fields_to_ask"]) for d in first), len(first), 0)
    city.says(at(3), word("WORKS_BEGUN"), 1)
    city.says(at(4), word("CONFIRMED"), 2)
    assert city.total("fields_asked_again") == (0, len(first), 0), "what was asked before it said so was asked once"
    city.on(at(9), approval("APPROVED"))
    leads = [d.data for d in city.said if d.data["status"] == "LEAD"][len(first):]  # fmt: skip
    again = sum(len(d["fields_to_ask"]) for d in leads)
    assert city.total("fields_asked_again") == (again, len(first) + len(leads), 0)
    assert city.total("fields_to_ask")[0] == asked + again
    city.on(at(10), approval("APPROVED", item="second", phase=2))
    assert city.total("fields_asked_again")[0] == again, "another phase is another form"
    city.on(at(11), approval("APPROVED", work="W2", item="third"))
    assert (city.total("fields_asked_again")[0] or 0) > again, "the word on the project is one on each 工程"


def test_a_word_of_the_company_that_is_no_demand_fills_in_no_form(city: City0) -> None:
    city.on(at(2), project("DECIDED"))
    city.says(at(3), word("WORKS_BEGUN"), 1)
    city.on(at(9), approval("APPROVED"))
    assert city.total("fields_asked_again")[0] == 0


# -- permits ---------------------------------------------------------------------------------------------------------------
def dug(city: City0) -> list[Draft]:
    """A case whose works need three permits at once, asked for on Monday the 9th."""
    city.on(at(2), project("DECIDED"))
    city.now = at(9)
    city.step("jm-water", "PERMANENT", "ACCEPTED")
    city.step(
        "jm-water", "PERMANENT", "PLAN_REPLIED", plan=plan(works_kinds=["ROAD_EXCAVATION", "TRAFFIC", "GREEN_SPACE"])
    )
    found = city.permits()
    assert len(found) == 3
    return found


def test_permits_in_parallel_are_in_time_within_five_working_days_and_a_package_with_its_last(city: City0) -> None:
    one, *rest = dug(city)
    for n, permit in enumerate(rest):
        city.now = at(10 + n)
        city.decide(permit, "APPROVED")
    assert city.total("packages_in_time", now=at(16, 17)) == (None, 0, 1), "one is not due yet"
    assert city.total("permits_in_time", now=at(16, 17)) == (1, len(rest), 1)
    assert city.total("packages_in_time", now=at(17)) == (0, 1, 0)
    city.now = at(16, 17, 30)
    city.decide(one, "REFUSED")
    assert city.total("packages_in_time") == (1, 1, 0)
    assert city.total("permits_in_time") == (1, len(rest) + 1, 0)
    assert city.total("permits_decided") == (len(rest) + 1, len(rest) + 1, 0)
    assert city.total("permit_days", first=date(2026, 3, 16)) == (5, 1, 0)


def test_one_permit_that_came_late_makes_the_package_late(city: City0) -> None:
    one, *rest = dug(city)
    for permit in rest:
        city.decide(permit, "APPROVED")
    city.now = at(16, 17, 31)
    city.decide(one, "APPROVED")
    assert city.total("packages_in_time") == (0, 1, 0)
    assert city.total("permits_in_time")[0] == pytest.approx(len(rest) / (len(rest) + 1))
    assert city.figures(by="type")["permit_days", "WATER/PERMANENT"].n == len(rest) + 1


def test_each_case_asks_for_a_package_of_its_own(city: City0) -> None:
    one, *_ = dug(city)
    city.decide(one, "APPROVED")
    city.step("jm-gas", "PERMANENT", "ACCEPTED")
    city.step("jm-gas", "PERMANENT", "PLAN_REPLIED", plan=plan())
    city.decide(city.permits()[-1], "APPROVED")
    assert city.total("packages_in_time") == (0.5, 2, 0)


def test_a_permit_whose_first_word_was_overwritten_or_that_was_recalled_cannot_be_judged(city: City0) -> None:
    one, *rest = dug(city)
    city.decide(one, "APPROVED")
    city.now = at(20)
    city.decide(one, "REVOKED")
    city.step("jm-water", "PERMANENT", "PLAN_REPLIED", plan=plan(works_external=False))
    assert city.total("permits_in_time") == (None, 0, 1 + len(rest))
    assert city.total("packages_in_time") == (None, 0, 1)
    assert city.total("permits_decided") == (0, 0, 1)


# -- groups ----------------------------------------------------------------------------------------------------------------
def test_a_project_in_two_counties_counts_in_each_and_once_in_the_total(city: City0) -> None:
    where = {**WHERE, "site_regions": ["440703001", "440704", "440703002"]}
    city.on(at(2), project("DECIDED", **{**where, "authority_region": "440703"}))
    city.on(at(2), project("DECIDED"), OTHER)
    city.on(at(3), approval("APPROVED"))
    found = city.figures()
    groups = {group for _, group in found}
    assert groups == {TOTAL, "440703", "440704"}
    figure = "decided_to_first_permit"
    assert [(found[figure, g].value, found[figure, g].n) for g in (TOTAL, "440703", "440704")] == [(1, 1)] * 3
    contact = "contacted_in_time"
    assert found[contact, TOTAL].n < found[contact, "440703"].n + found[contact, "440704"].n


def test_a_site_that_no_platform_knows_is_in_no_division(city: City0) -> None:
    city.on(at(2), project("DECIDED", site_regions=[]))
    city.on(at(3), approval("APPROVED", site_regions=[]))
    assert {group for _, group in city.figures()} == {TOTAL, "none"}


def test_a_site_is_where_a_platform_says_before_where_the_customer_says(city: City0) -> None:
    applied = word(
        "APPLIED",
        application="a1",
        utility="POWER",
        business_kind="PERMANENT",
        site_regions=["440704"],
        authority_region="440704",
    )
    city.on(at(2), applied)
    assert {group for _, group in city.figures()} == {TOTAL, "440704"}
    city.on(at(3), approval("APPROVED"))
    assert {group for _, group in city.figures()} == {TOTAL, "440703"}


@pytest.mark.parametrize("by", BY)
def test_the_groups_add_up_to_the_total(city: City0, by: str) -> None:
    city.on(at(2), project("DECIDED"))
    city.steps("jm-power", "PERMANENT", *LIFE)
    city.on(at(9), approval("APPROVED"))
    found = city.figures(by=by)
    groups = {group for _, group in found} - {TOTAL}
    assert ("WATER/TEMPORARY" in groups, "jm-power" in groups, "440703" in groups) == (
        by == "type",
        by == "operator",
        by == "division",
    )
    assert "none" not in groups
    for name in FIGURES:
        if by != "division" and name in OF_PROJECTS:
            assert not any((name, group) in found for group in groups)
        else:
            assert sum(found[name, group].n for group in groups) == found[name, TOTAL].n


# -- the command -----------------------------------------------------------------------------------------------------------
@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder of a city in which something happened."""
    office = City0()
    office.store = SqliteStore(tmp_path / "hookup.db", hookup, delivery)  # pyright: ignore[reportAttributeAccessIssue] — of the same port
    office.on(at(2), project("DECIDED", site_regions=["=1+1"]))
    office.on(at(4), approval("APPROVED"))
    office.on(at(3), project("DECIDED"), OTHER)
    office.on(at(4), approval("APPROVED"), OTHER)
    office.steps("jm-power", "PERMANENT", *LIFE, subject=OTHER)
    office.store.close()
    return tmp_path


def told(capsys: pytest.CaptureFixture[str], folder: Path, *more: str) -> str:
    assert run(["figures", "--from", "2026-03-01", "--to", "2026-06-30", "--data", str(folder), *more]) == 0
    return capsys.readouterr().out


def test_json_csv_and_table_say_the_same(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nested = json.loads(told(capsys, folder, "--by", "division", "--json"))
    text = told(capsys, folder, "--by", "division", "--csv")
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    lines = [line.split("\t") for line in told(capsys, folder, "--by", "division").splitlines()]
    assert nested["figures"]["decided_to_first_permit"] == {
        "unit": "working days, median", "total": {"value": 1.5, "n": 2, "left_out": 0},
        "groups": {"=1+1": {"value": 2, "n": 1, "left_out": 0}, "440703": {"value": 1, "n": 1, "left_out": 0}},
    }  # fmt: skip
    assert (nested["from"], nested["to"], nested["zone"]) == ("2026-03-01", "2026-06-30", "Asia/Shanghai")
    assert nested["provisional"] is False
    assert {row["provisional"] for row in rows} == {"false"}
    assert rows[0]["value"] == "1.5"
    assert {row["group"] for row in rows} == {"total", "'=1+1", "440703"}, "a spreadsheet runs no group"
    for row in rows:
        entry = nested["figures"][row["figure"]]
        said = entry["total"] if row["group"] == "total" else entry["groups"][row["group"].lstrip("'")]
        value = "" if said["value"] is None else str(said["value"])
        assert (row["value"], row["n"], row["left_out"]) == (value, str(said["n"]), str(said["left_out"]))
    assert lines[0] == ["figure", "group", "value", "unit", "n", "left_out"]
    assert len(lines) == len(rows) + 1
    share = next(row for row in rows if row["figure"] == "contacted_in_time")
    assert float(share["value"]) == 1 / int(share["n"]), "nothing is rounded"


def test_an_unpublished_year_is_marked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["figures", "--from", "2027-05-01", "--to", "2027-05-31", "--by", "type", "--data", str(folder)]
    assert run([*asked, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["provisional"] is True
    assert run(asked) == 0
    assert "provisional" in capsys.readouterr().out
    assert run([*asked, "--csv"]) == 0
    assert capsys.readouterr().out.splitlines()[1].endswith(",true")


@pytest.mark.parametrize("wrong", [
    ["--from", "2026-03-02", "--to", "2026-03-01", "--by", "type"],
    ["--from", "2026-03-02", "--to", "2026-03-03", "--by", "street"],
    ["--from", "2026-02-30", "--to", "2026-03-03", "--by", "type"],
    ["--from", "0001-01-01", "--to", "9999-12-31", "--by", "type"],
    ["--from", "2026-03-02", "--by", "type"],
    ["--from", "2026-03-02", "--to", "2026-03-03", "--by", "type", "--csv", "--json"],
    ["--from", "2026-03-02", "--to", "2026-03-03", "--by", "type", "--city", "atlantis"],
])  # fmt: skip
def test_what_cannot_be_asked_is_said_in_a_line(
    folder: Path, wrong: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["figures", *wrong, "--data", str(folder)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert err.startswith("jietong: ")


def test_no_folder_no_hookup_and_no_services_are_said_in_a_line(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["figures", "--from", "2026-03-02", "--to", "2026-03-03", "--by", "type", "--data"]
    (tmp_path / "empty").mkdir()
    assert run([*asked, str(tmp_path / "none")]) == 2
    assert run([*asked, str(tmp_path / "empty")]) == 2
    monkeypatch.setitem(sys.modules, "services.hookup.figures", None)
    assert run([*asked, str(folder)]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert [
        "no such data folder" in errors[0],
        "no program hookup here" in errors[1],
        "no module services.hookup.figures" in errors[2],
    ] == [True] * 3
    assert len(errors) == 3


def test_the_command_groups_by_what_the_figures_know() -> None:
    assert [by.value for by in By] == list(BY)
