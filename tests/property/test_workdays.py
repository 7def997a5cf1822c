"""Clocks of working days: a pause never helps, time is never counted twice, and a deadline agrees with what was used."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from jietong.workdays import Deadline, Pause, Segment, Workdays

CITY = Workdays()
FIRST, LAST = datetime(2025, 9, 15, tzinfo=UTC), datetime(2026, 12, 20, tzinfo=UTC)
fixed = settings(max_examples=100, deadline=None, derandomize=True)

minutes = st.integers(0, 24 * 60 * 60)  # sixty days
days = st.integers(0, 15)
moments = st.integers(0, (LAST - FIRST) // timedelta(minutes=1)).map(lambda minute: FIRST + timedelta(minutes=minute))
ends = moments.map(lambda moment: CITY.add(moment, 0).at)
starts = moments | ends
"""Often exactly at a cut-off, where an error would hide."""


def later(start: datetime) -> st.SearchStrategy[datetime]:
    """Within sixty days, often exactly at a cut-off."""
    return minutes.map(lambda n: start + timedelta(minutes=n)) | st.integers(0, 40).map(lambda n: CITY.add(start, n).at)


def pauses_after(start: datetime) -> st.SearchStrategy[list[Pause]]:
    begins = later(start - timedelta(days=5))
    return st.lists(begins.flatmap(lambda begin: later(begin).map(lambda end: Pause(begin, end))), max_size=4)


def at(deadline: Deadline | None) -> datetime:
    """An unknown deadline is later than any other."""
    return datetime.max.replace(tzinfo=UTC) if deadline is None else deadline.at


@given(starts, days)
@fixed
def test_without_pauses_a_deadline_is_the_start_and_its_days(start: datetime, n: int) -> None:
    assert CITY.due(start, n) == CITY.add(start, n)


@given(st.data(), starts, days, st.booleans())
@fixed
def test_one_more_pause_never_makes_a_deadline_earlier(
    data: st.DataObject, start: datetime, n: int, still: bool
) -> None:
    pauses = data.draw(pauses_after(start))
    begin = data.draw(later(start))
    more = Pause(begin, None if still else data.draw(later(begin)))
    assert at(CITY.due(start, n, [*pauses, more])) >= at(CITY.due(start, n, pauses))


@given(st.data(), starts, days)
@fixed
def test_an_open_pause_leaves_no_deadline_exactly_if_it_began_by_then(
    data: st.DataObject, start: datetime, n: int
) -> None:
    pauses = data.draw(pauses_after(start))
    known = CITY.due(start, n, pauses)
    begin = data.draw(later(start - timedelta(days=5)) | st.just(at(known)))
    assert CITY.due(start, n, [*pauses, Pause(begin, None)]) == (None if begin <= at(known) else known)


@given(st.data(), starts, days)
@fixed
def test_a_pause_in_two_parts_is_one_pause(data: st.DataObject, start: datetime, n: int) -> None:
    pauses = data.draw(pauses_after(start))
    begin = data.draw(later(start))
    middle = data.draw(later(begin))
    end = data.draw(later(middle) | st.none())
    whole = CITY.due(start, n, [*pauses, Pause(begin, end)])
    assert CITY.due(start, n, [Pause(middle, end), *pauses, Pause(begin, middle)]) == whole


@given(st.data(), starts, days)
@fixed
def test_overlapping_pauses_are_as_the_time_they_cover(data: st.DataObject, start: datetime, n: int) -> None:
    begin, second, third, end = sorted(data.draw(st.lists(later(start), min_size=4, max_size=4)))
    assert CITY.due(start, n, [Pause(begin, third), Pause(second, end)]) == CITY.due(start, n, [Pause(begin, end)])


@given(st.data(), starts, days, st.integers(0, 15))
@fixed
def test_a_pause_of_whole_working_days_moves_a_deadline_by_exactly_as_many(
    data: st.DataObject, start: datetime, n: int, whole: int
) -> None:
    at_day = data.draw(st.integers(0, n))
    begin = max(start, CITY.add(start, at_day).at - timedelta(minutes=data.draw(st.integers(0, 600))))
    end = CITY.add(begin, whole).at - timedelta(minutes=data.draw(st.integers(0, 600)))
    assert CITY.between(begin, end) == whole or end <= begin
    assert CITY.due(start, n, [Pause(begin, end)]) == CITY.add(start, n + whole)


@given(st.data(), starts, days)
@fixed
def test_the_days_between_are_the_inverse_of_adding(data: st.DataObject, start: datetime, n: int) -> None:
    assert CITY.between(start, CITY.add(start, n).at) == n
    end = data.draw(later(start - timedelta(days=3)))
    needed = CITY.between(start, end)
    assert end <= CITY.add(start, needed).at
    assert needed == 0 or CITY.add(start, needed - 1).at < end


@given(st.data(), starts, days)
@fixed
def test_who_starts_later_is_never_due_earlier_and_a_day_more_is_later(
    data: st.DataObject, start: datetime, n: int
) -> None:
    pauses = data.draw(pauses_after(start))
    assert at(CITY.due(start, n, pauses)) <= at(CITY.due(data.draw(later(start)), n, pauses))
    assert at(CITY.due(start, n, pauses)) < at(CITY.due(start, n + 1, pauses))


@given(starts, days)
@fixed
def test_a_deadline_is_the_end_of_a_working_day_and_not_before_its_start(start: datetime, n: int) -> None:
    deadline = CITY.add(start, n).at
    assert deadline >= start
    assert CITY.works(deadline.date())
    assert (deadline.hour, deadline.minute) == (17, 30)
    assert CITY.add(start, 0).at.date() == CITY.first_day(start)


@given(st.data(), starts, days)
@fixed
def test_the_days_of_all_owners_add_up_and_a_promise_is_broken_exactly_past_its_deadline(
    data: st.DataObject, start: datetime, n: int
) -> None:
    """Every segment of time has an owner; a utility's clock counts only its own (DOMAIN)."""
    segments = case(start, data.draw(st.lists(later(start), max_size=5)), data.draw(st.permutations(OWNERS)))
    now = data.draw(later(start))
    used = {owner: CITY.used(owner, segments, now) for owner in OWNERS}
    assert sum(used.values()) == CITY.between(start, now)
    for owner in OWNERS:
        others = [Pause(segment.start, segment.end) for segment in segments if segment.owner != owner]
        assert (now <= at(CITY.due(start, n, others))) == (used[owner] <= n)


OWNERS = ("UTILITY", "CUSTOMER", "DEPARTMENT")


def case(start: datetime, changes: Sequence[datetime], owners: Sequence[str]) -> list[Segment]:
    """One owner after the other, from the start on; the last still."""
    bounds = [start, *sorted(changes)]
    spans = [*pairwise(bounds), (bounds[-1], None)]
    return [Segment(owners[n % len(owners)], begin, end) for n, (begin, end) in enumerate(spans)]


@given(st.data(), starts)
@fixed
def test_owners_that_never_overlap_use_no_more_days_than_there_are_and_each_day_once(
    data: st.DataObject, start: datetime
) -> None:
    """With time in between that is nobody's."""
    bounds = sorted(data.draw(st.lists(later(start), min_size=2, max_size=8)))
    spans = list(zip(bounds[::2], bounds[1::2], strict=False))
    segments = [Segment(data.draw(st.sampled_from(OWNERS)), begin, end) for begin, end in spans]
    now = data.draw(later(start))
    used = [CITY.used(owner, segments, now) for owner in OWNERS]
    assert sum(used) <= CITY.between(bounds[0], min(now, spans[-1][1]))
    assert sum(used) == sum(CITY.between(begin, min(now, end)) for begin, end in spans)
    assert used == [CITY.used(owner, [*segments, *segments], now) for owner in OWNERS]


@given(st.dates(date(2004, 1, 1), date(2100, 1, 1)), st.integers(0, 60))
@fixed
def test_months_later_it_is_the_same_day_or_the_last_of_a_shorter_month(start: date, n: int) -> None:
    """民法典 202."""
    end = CITY.months(start, n)
    assert (end.year - start.year) * 12 + end.month - start.month == n
    assert end.day == start.day or (end.day < start.day and (end + timedelta(days=1)).day == 1)
    assert end <= CITY.months(start + timedelta(days=1), n)
    assert end < CITY.months(start, n + 1)


@given(st.integers(0, 40 * 24 * 60), days, st.sets(st.integers(0, 60), max_size=20))
@fixed
def test_no_calendar_that_is_still_to_come_changes_a_deadline_that_is_not_provisional(
    minute: int, n: int, turned: set[int]
) -> None:
    start = datetime(2026, 12, 1, tzinfo=UTC) + timedelta(minutes=minute)
    deadline = CITY.add(start, n)
    assume(not deadline.provisional)
    open_days = [
        day for day in (date(2026, 12, 20) + timedelta(offset) for offset in turned) if not CITY.published(day)
    ]
    off, on = ([day for day in open_days if CITY.works(day) is works] for works in (True, False))
    assert Workdays(days_off=off, work_days=on).add(start, n) == deadline
