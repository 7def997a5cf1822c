"""Working days: each test is named after its rule; the source stands below the name."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import chinese_calendar
import pytest
from chinese_calendar import constants

from jietong.errors import UsageError
from jietong.workdays import Pause, Segment, Workdays

ROOT = os.environ.get("JIETONG_REAL_DATA", "")
DATA = Path(ROOT, "calendar-cn-holidays")
OFFICIAL = range(2007, 2027)
official = pytest.mark.skipif(
    not ROOT or not DATA.is_dir(), reason=f"JIETONG_REAL_DATA names no folder with {DATA.name}"
)
CITY = Workdays()
NAIVE = datetime(2026, 3, 2, 9)  # noqa: DTZ001 — what must be refused


def at(day: str, hour: str = "10:00") -> datetime:
    """A moment in China; 2026-03-02 is a Monday, and that month has no holiday."""
    return datetime.fromisoformat(f"{day}T{hour}+08:00")


def march(day: int, hour: str = "10:00") -> datetime:
    return at(f"2026-03-{day:02}", hour)


def notices(year: int) -> Any:
    return json.loads((DATA / f"{year}.json").read_text("utf-8"))


def days_of(year: int) -> list[date]:
    return [date(year, 1, 1) + timedelta(n) for n in range((date(year + 1, 1, 1) - date(year, 1, 1)).days)]


# -- the calendar --------------------------------------------------------------------------------------------------------


@official
def test_every_day_of_2007_to_2026_is_a_working_day_exactly_if_the_state_council_says_so() -> None:
    """国务院办公厅关于节假日安排的通知, 2007–2026. A notice also settles days of the year before."""
    said = {date.fromisoformat(day["date"]): not day["isOffDay"] for year in OFFICIAL for day in notices(year)["days"]}
    assert len(said) > 600
    days = [day for year in OFFICIAL for day in days_of(year)]
    assert [day for day in days if CITY.works(day) != said.get(day, day.weekday() < 5)] == []


@official
def test_a_year_is_published_exactly_if_it_has_a_notice() -> None:
    """All but its last week, see below. 2027 has a file and no notice. Red when the library lacks a year that is out."""
    for year in [*OFFICIAL, 2027]:
        days = days_of(year)[:-7]
        assert {CITY.published(day) for day in days} == {bool(notices(year)["papers"])}, year


@official
def test_what_a_notice_settles_of_the_year_before_is_in_its_last_week() -> None:
    earlier = [day["date"] for year in OFFICIAL for day in notices(year)["days"] if int(day["date"][:4]) < year]
    assert len(earlier) == 10
    assert min(day[5:] for day in earlier) == "12-29"


@pytest.mark.parametrize(("day", "works"), [
    ("2026-02-13", True), ("2026-02-14", True), ("2026-02-16", False), ("2026-02-28", True), ("2026-03-01", False),
    ("2018-12-29", True), ("2018-12-31", False), ("2020-01-31", False), ("2003-05-01", True), ("2027-10-01", True), ("2027-10-02", False),
])  # fmt: skip
def test_a_make_up_day_is_a_working_day_and_a_holiday_is_none(day: str, works: bool) -> None:
    """调休, in the notices of 2018, 2020 and 2026; an unpublished year is Monday to Friday."""
    assert CITY.works(date.fromisoformat(day)) is works


def test_the_last_week_of_a_year_is_published_with_the_next_year(monkeypatch: pytest.MonkeyPatch) -> None:
    """The notice of 2019 made 2018-12-29 a working day and took 2018-12-31 off."""
    ends = [date(2026, 12, 24), date(2026, 12, 25), date(2026, 12, 31), date(2027, 1, 1), date(2027, 12, 25)]
    assert [CITY.published(day) for day in ends] == [True, False, False, False, False]
    monkeypatch.setitem(constants.holidays, date(2027, 1, 1), "New Year's Day")
    assert [Workdays().published(day) for day in ends] == [True, True, True, True, False]


def test_nothing_before_the_first_known_year_is_published() -> None:
    assert [CITY.published(day) for day in (date(2003, 12, 31), date(2004, 1, 1))] == [False, True]


def test_a_city_overrules_the_statutory_days_and_publishes_what_it_says() -> None:
    """A city's own days (DOMAIN: cities may add local days)."""
    city = Workdays(days_off=[date(2026, 3, 3), date(2027, 1, 4)], work_days=[date(2026, 10, 1), date(2027, 1, 2)])
    assert [city.works(day) for day in (date(2026, 3, 3), date(2026, 10, 1))] == [False, True]
    assert [(city.works(day), city.published(day)) for day in (date(2027, 1, 2), date(2027, 1, 4), date(2027, 1, 5))] == [
        (True, True), (False, True), (True, False),
    ]  # fmt: skip


def test_a_city_of_another_country_works_monday_to_friday_and_all_its_days_are_published() -> None:
    city = Workdays(zone="America/Chicago", days_off=[date(2026, 7, 3)])
    assert [city.works(day) for day in (date(2026, 10, 1), date(2026, 10, 3), date(2026, 7, 3))] == [True, False, False]
    assert city.published(date(2040, 1, 1))


@pytest.mark.parametrize("zone", ["PRC", "Asia/Urumqi", "Asia/Chongqing"])
def test_the_notices_hold_under_every_name_of_the_mainlands_zones(zone: str) -> None:
    assert not Workdays(zone=zone).works(date(2026, 10, 1))
    assert Workdays(zone="Asia/Hong_Kong").works(date(2026, 10, 2))


def test_the_official_calendar_is_asked_once_for_a_day(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[date] = []

    def is_workday(day: date) -> bool:
        asked.append(day)
        return day.weekday() < 5

    monkeypatch.setattr(chinese_calendar, "is_workday", is_workday)
    city = Workdays()
    for _ in range(100):
        assert (city.works(date(2026, 3, 2)), city.published(date(2026, 3, 2))) == (True, True)
    assert asked == [date(2026, 3, 2), date(2026, 3, 9)]  # itself, and whether the year of a week later is out


# -- receipt and deadline ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("start", "days", "due"), [
    (march(2, "09:00"), 0, march(2, "17:30")), (march(2, "09:00"), 1, march(3, "17:30")), (march(2, "09:00"), 5, march(9, "17:30")),
    (march(6, "17:30"), 1, march(9, "17:30")), (march(7, "00:00"), 1, march(10, "17:30")),
])  # fmt: skip
def test_the_day_of_receipt_is_not_counted(start: datetime, days: int, due: datetime) -> None:
    """民法典 201: 开始的当日不计入，自下一日开始计算; 203: the last day ends with the business hours."""
    assert CITY.add(start, days) == (due, False)


@pytest.mark.parametrize(("start", "days", "due"), [
    ("2026-02-13", 1, "2026-02-14"), ("2026-02-13", 2, "2026-02-24"), ("2026-02-24", 5, "2026-03-02"),
    ("2026-09-18", 1, "2026-09-20"), ("2026-09-30", 1, "2026-10-08"), ("2026-09-30", 3, "2026-10-10"), ("2018-12-28", 2, "2019-01-02"),
])  # fmt: skip
def test_days_are_working_days_without_holidays_and_with_make_up_days(start: str, days: int, due: str) -> None:
    """行政许可法 82: 期限以工作日计算，不含法定节假日; 国务院办公厅 on 2019 and 2026."""
    assert CITY.add(at(start), days) == (at(due, "17:30"), False)


@pytest.mark.parametrize(("moment", "day"), [
    (march(2, "17:30"), 2), (march(2, "17:30:00.000001"), 3), (march(6, "18:00"), 9), (march(7), 9), (march(8, "23:59"), 9), (march(9, "00:00"), 9),
    (datetime(2026, 3, 2, 9, 30, tzinfo=UTC), 2), (datetime(2026, 3, 2, 9, 31, tzinfo=UTC), 3), (datetime(2026, 3, 1, 20, tzinfo=UTC), 2),
])  # fmt: skip
def test_what_arrives_after_the_cut_off_or_on_a_day_off_is_received_on_the_next_working_day(
    moment: datetime, day: int
) -> None:
    """民法典 203: where there are business hours they end the day. The hour is the city's, whatever zone a moment is told in."""
    assert CITY.first_day(moment) == date(2026, 3, day)


def test_the_cut_off_is_the_citys() -> None:
    city = Workdays(cut_off=time(12))
    assert city.first_day(march(2, "12:01")) == date(2026, 3, 3)
    assert city.add(march(2), 1).at == march(3, "12:00")


def test_a_deadline_keeps_its_hour_when_the_clocks_of_a_zone_change() -> None:
    """America/Chicago went from UTC-6 to UTC-5 on 2026-03-08."""
    deadline = Workdays(zone="America/Chicago").add(datetime(2026, 3, 6, 15, tzinfo=UTC), 1).at
    assert deadline.astimezone(UTC) == datetime(2026, 3, 9, 22, 30, tzinfo=UTC)


@pytest.mark.parametrize(("end", "days"), [
    (march(1), 0), (march(2, "17:30"), 0), (march(2, "17:31"), 1), (march(3, "17:30"), 1), (march(6, "17:31"), 5), (march(9, "17:30"), 5),
    (march(9, "18:00"), 6),
])  # fmt: skip
def test_the_days_between_are_those_a_deadline_would_need(end: datetime, days: int) -> None:
    """A promise of n days is broken exactly if there are more than n between."""
    assert CITY.between(march(2), end) == days


# -- provisional ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("start", "days", "due", "provisional"), [
    ("2026-12-18", 4, "2026-12-24", False), ("2026-12-18", 5, "2026-12-25", True), ("2026-12-30", 2, "2027-01-01", True),
    ("2027-03-01", 1, "2027-03-02", True), ("2003-12-30", 1, "2003-12-31", True),
])  # fmt: skip
def test_a_deadline_that_depends_on_an_unpublished_day_is_provisional(
    start: str, days: int, due: str, provisional: bool
) -> None:
    """DOMAIN: a deadline in an unpublished year is provisional, never silently Monday to Friday."""
    assert CITY.add(at(start), days) == (at(due, "17:30"), provisional)
    assert CITY.due(at(start), days) == (at(due, "17:30"), provisional)


def test_a_day_on_which_nothing_could_arrive_any_more_makes_nothing_provisional() -> None:
    city = Workdays(days_off=[date(2027, 1, 2)], work_days=[date(2027, 1, 3)])
    assert city.add(at("2027-01-01", "18:00"), 0) == (at("2027-01-03", "17:30"), False)
    assert city.add(at("2027-01-01", "17:00"), 0).provisional


def test_an_unpublished_weekend_on_the_way_makes_a_deadline_provisional() -> None:
    """It may become a make-up day (调休), as 2018-12-29 did; the days round it are said by the city."""
    friday, weekend, monday = date(2026, 12, 25), [date(2026, 12, 26), date(2026, 12, 27)], date(2026, 12, 28)
    assert Workdays(work_days=[friday, monday]).add(at("2026-12-25"), 1) == (at("2026-12-28", "17:30"), True)
    assert not Workdays(work_days=[friday, monday], days_off=weekend).add(at("2026-12-25"), 1).provisional


def test_a_provisional_deadline_is_counted_again_when_the_year_is_published(monkeypatch: pytest.MonkeyPatch) -> None:
    """The State Council publishes a year in the autumn before; a new calendar comes with a new start of a program."""
    assert Workdays().add(at("2026-12-30"), 2) == (at("2027-01-01", "17:30"), True)
    for day in range(1, 4):
        monkeypatch.setitem(constants.holidays, date(2027, 1, day), "New Year's Day")
    assert Workdays().add(at("2026-12-30"), 2) == (at("2027-01-04", "17:30"), False)


def test_a_provisional_deadline_is_settled_by_what_the_city_says_of_its_days() -> None:
    said = [date(2026, 12, 30), date(2026, 12, 31), date(2027, 1, 4)]
    off = [date(2027, 1, day) for day in range(1, 4)]
    assert Workdays(work_days=said, days_off=off).add(at("2026-12-30"), 2) == (at("2027-01-04", "17:30"), False)
    assert Workdays(work_days=said[:2], days_off=off).add(at("2026-12-30"), 2).provisional
    assert Workdays(work_days=said[1:], days_off=off).add(at("2026-12-30"), 2).provisional


def test_an_unpublished_day_on_which_the_clock_stands_makes_nothing_provisional() -> None:
    city = Workdays(work_days=[date(2027, 3, 1), date(2027, 3, 2)])
    pause = Pause(at("2026-12-18"), at("2027-03-01", "09:00"))
    assert city.due(at("2026-12-17"), 2, [pause]) == (at("2027-03-02", "17:30"), False)


# -- pauses --------------------------------------------------------------------------------------------------------------

FRIDAY_EVENING_TO_MONDAY = Pause(march(6, "17:31"), march(9, "09:00"))


@pytest.mark.parametrize(("pauses", "due"), [
    pytest.param([], 6, id="none"),
    pytest.param([Pause(march(4, "09:00"), march(4, "17:30"))], 6, id="within a day, over at its cut-off"),
    pytest.param([Pause(march(4, "09:00"), march(4, "17:31"))], 9, id="within a day, over the cut-off"),
    pytest.param([Pause(march(4, "17:31"), march(5, "09:00"))], 6, id="over a night"),
    pytest.param([Pause(march(4), march(5))], 9, id="one day"),
    pytest.param([Pause(march(4), march(6))], 10, id="two days"),
    pytest.param([Pause(march(2, "11:00"), march(3, "11:00"))], 9, id="from the day of receipt"),
    pytest.param([Pause(march(5), march(9))], 10, id="over a weekend: Thursday and Friday"),
    pytest.param([Pause(march(4), march(5)), FRIDAY_EVENING_TO_MONDAY], 9, id="on a weekend: none of it"),
    pytest.param([Pause(march(1), march(3))], 9, id="the start in a pause: received after it"),
    pytest.param([Pause(march(1), march(2, "17:30"))], 6, id="the start in a pause over at the cut-off"),
    pytest.param([Pause(march(3), march(5)), Pause(march(4), march(6))], 11, id="overlapping"),
    pytest.param([Pause(march(3), march(6)), Pause(march(4), march(5))], 11, id="one in the other"),
    pytest.param([Pause(march(4), march(5)), Pause(march(5), march(6))], 10, id="one after the other"),
    pytest.param([Pause(march(4), march(4)), Pause(march(5), march(4))], 6, id="empty, or over before it began"),
    pytest.param([Pause(march(6, "17:31"), None)], 6, id="open, after the deadline"),
    pytest.param([Pause(march(9), march(20))], 6, id="after the deadline"),
    pytest.param([Pause(march(1), march(1, "12:00"))], 6, id="before the start"),
])  # fmt: skip
def test_clocks_stop_between_6_and_7_and_between_9_and_10(pauses: Sequence[Pause], due: int) -> None:
    """补正 (行政许可法 32) and 特别程序 (行政许可法 45: 所需时间不计算在规定的期限内); four days from Monday 2 March."""
    assert CITY.due(march(2), 4, pauses) == (march(due, "17:30"), False)
    assert CITY.due(march(2), 4, pauses[::-1]) == (march(due, "17:30"), False)


@pytest.mark.parametrize("opened", [march(1), march(2, "17:30"), march(6, "17:30"), march(4)])
def test_while_a_clock_stands_nobody_knows_the_deadline(opened: datetime) -> None:
    assert CITY.due(march(2), 4, [Pause(opened, None)]) is None
    assert CITY.due(march(2), 4, [Pause(opened, march(5)), Pause(march(3), None)]) is None


# -- owners --------------------------------------------------------------------------------------------------------------

CASE = [Segment("UTILITY", march(2), march(4)), Segment("CUSTOMER", march(4), march(6)), Segment("UTILITY", march(6), march(9, "18:00")),
        Segment("DEPARTMENT", march(9, "18:00"), None)]  # fmt: skip


@pytest.mark.parametrize(("owner", "now", "days"), [
    ("UTILITY", march(2), 0), ("UTILITY", march(2, "17:30"), 0), ("UTILITY", march(2, "17:31"), 1), ("UTILITY", march(20), 4),
    ("CUSTOMER", march(4), 0), ("CUSTOMER", march(5), 1), ("CUSTOMER", march(20), 2),
    ("DEPARTMENT", march(9, "18:00"), 0), ("DEPARTMENT", march(11), 1), ("DEPARTMENT", march(16, "17:31"), 5), ("NOBODY", march(20), 0),
])  # fmt: skip
def test_every_segment_of_time_has_an_owner_and_a_clock_counts_only_its_own(
    owner: str, now: datetime, days: int
) -> None:
    """江门方案 18 and DOMAIN. A day is of who has the case at its end."""
    assert CITY.used(owner, CASE, now) == days


def test_a_day_counts_once_however_many_segments_it_lies_in() -> None:
    twice = [Segment("UTILITY", march(2), march(4)), Segment("UTILITY", march(3), march(5))]
    assert CITY.used("UTILITY", twice, march(20)) == 3
    assert (
        CITY.used(
            "UTILITY",
            [Segment("UTILITY", march(2), march(2, "11:00")), Segment("UTILITY", march(2, "12:00"), None)],
            march(3),
        )
        == 1
    )


# -- months --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("start", "months", "end"), [
    ("2026-01-15", 3, "2026-04-15"), ("2025-11-30", 3, "2026-02-28"), ("2027-11-30", 3, "2028-02-29"), ("2026-12-31", 3, "2027-03-31"),
    ("2026-08-31", 3, "2026-11-30"), ("2026-05-20", 9, "2027-02-20"), ("2026-12-01", 0, "2026-12-01"),
])  # fmt: skip
def test_months_end_on_the_same_day_or_the_last_of_a_shorter_one(start: str, months: int, end: str) -> None:
    """建筑法 9: works begin within three months, extended twice at most; 民法典 202: 没有对应日的，月末日为期间的最后一日."""
    assert CITY.months(date.fromisoformat(start), months) == date.fromisoformat(end)


# -- bad input -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ask", [
    lambda: CITY.first_day(NAIVE), lambda: CITY.add(NAIVE, 1), lambda: CITY.due(NAIVE, 1), lambda: CITY.between(NAIVE, march(2)),
    lambda: CITY.between(march(2), NAIVE), lambda: CITY.due(march(2), 1, [Pause(NAIVE, None)]),
    lambda: CITY.due(march(2), 1, [Pause(march(2), NAIVE)]), lambda: CITY.used("UTILITY", [Segment("UTILITY", NAIVE, None)], march(2)),
    lambda: CITY.used("UTILITY", [Segment("UTILITY", march(2), NAIVE)], march(2)), lambda: CITY.used("UTILITY", CASE, NAIVE),
])  # fmt: skip
def test_a_moment_without_a_time_zone_is_refused(ask: Callable[[], object]) -> None:
    with pytest.raises(UsageError, match="no time zone"):
        ask()


@pytest.mark.parametrize("zone", ["Asia/Jiangmen", "../etc", "Asia", ""])
def test_a_zone_there_is_not_is_refused(zone: str) -> None:
    with pytest.raises(UsageError, match="no such time zone"):
        Workdays(zone=zone)
