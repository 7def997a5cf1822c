"""Working days (工作日) and the clocks that count them, from recorded moments alone.

A limit in the administration is counted in working days (行政许可法 82). Here they are counted by their *ends*: the cut-off
of a working day, when the office closes (民法典 203: where there are business hours, the last day ends with them).
* What arrives at an end or before it is received on that day. The day of receipt is not counted (民法典 201), so its end
  has number 0 and the deadline of n days is end number n.
* An end at which the clock stands passes uncounted: 补正 (status 6 to 7), 特别程序 (9 to 10; 行政许可法 45).
* A day belongs to whoever has the case at its end. So the days of all owners add up, and an owner has used more than n
  days exactly when the deadline of n days, with everyone else's time as pauses, has passed.

Statutory days and make-up days (调休) come from the State Council's yearly notices as `chinese_calendar` has them. A year it
does not know is *unpublished*: counted Monday to Friday, and everything that depends on it is provisional.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime, time, timedelta
from functools import cache, lru_cache
from itertools import islice, takewhile
from typing import NamedTuple
from zoneinfo import ZoneInfo

import chinese_calendar

from jietong.errors import UsageError

DAY, WEEK = timedelta(days=1), timedelta(days=7)
CHINA = {"Asia/Shanghai", "Asia/Chongqing", "Asia/Chungking", "Asia/Harbin", "Asia/Urumqi", "Asia/Kashgar", "PRC"}
"""Every name of the IANA database for a place where the State Council's notices hold."""


class Deadline(NamedTuple):
    """The end of a working day, in the city's zone; `provisional`: it depends on a day that is not published."""

    at: datetime
    provisional: bool


class Pause(NamedTuple):
    """When a clock stood: from `start` until before `end`; None: it still stands. One that ends before it starts is none."""

    start: datetime
    end: datetime | None


class Segment(NamedTuple):
    """Whose time it is (UTILITY, CUSTOMER, DEPARTMENT): from `start` until before `end`; None: it still is."""

    owner: str
    start: datetime
    end: datetime | None


class Workdays:
    """A city's calendar. A method given a moment without a time zone raises UsageError; days are 0 or more.

    `zone`: an IANA name, else UsageError. Outside China every week is Monday to Friday, and published.
    `cut_off`: local time at which the office closes, the end of a day.
    `days_off`, `work_days`: the city's own; they overrule the statutory ones, and are published by being said.
    """

    def __init__(
        self, *, zone: str = "Asia/Shanghai", cut_off: time = time(17, 30), days_off: Iterable[date] = (),
        work_days: Iterable[date] = (),
    ) -> None:  # fmt: skip
        try:
            self._zone = ZoneInfo(zone)
        except (KeyError, OSError, ValueError) as error:  # not in the database; a folder of it; not a name
            raise UsageError(f"{zone}: no such time zone; use a name of the IANA database, as Asia/Shanghai") from error
        self._cut_off = cut_off
        self._chinese = zone in CHINA
        self._own = dict.fromkeys(days_off, False) | dict.fromkeys(work_days, True)
        self._settled = cache(self._settle)
        self._deadline = lru_cache(maxsize=10_000)(self._count)

    def works(self, day: date) -> bool:
        """Whether it is a working day; of an unpublished day, whether it is one of Monday to Friday."""
        return self._settled(day)[0]

    def published(self, day: date) -> bool:
        """Whether that is settled: the calendar is out, or the city says it of this very day.

        The last week of a year is settled by the next year's notice: that of 2019 made 2018-12-29 a working day and took
        2018-12-31 off; those of 2007, 2008 and 2012 did likewise.
        """
        return self._settled(day)[1]

    def first_day(self, moment: datetime) -> date:
        """The working day on which what arrives then is received: this one until its cut-off, else the next."""
        return self.add(moment, 0).at.date()

    def add(self, moment: datetime, days: int) -> Deadline:
        """The end of the n-th working day after the day of receipt, which is not counted (民法典 201, 行政许可法 82)."""
        return self._deadline(self._from(moment), days)

    def between(self, start: datetime, end: datetime) -> int:
        """The working days that `add` needs to reach `end`: the smallest n with end <= add(start, n).at."""
        return len(self._passed(start, end))

    def due(self, start: datetime, days: int, pauses: Sequence[Pause] = ()) -> Deadline | None:
        """As `add`, but the clock stands in the pauses. None: it stands now, before the deadline, and is not known to go on.

        Only the ends of working days in a pause are lost: a pause within one day loses none if it is over by the
        cut-off, one from Friday's evening to Monday's morning none, and an end in several pauses is lost once. What starts
        in a pause is received at the first end after it. A pause that begins after the deadline comes too late to move it.
        """
        local = [Pause(self._local(pause.start), pause.end and self._local(pause.end)) for pause in pauses]
        return next(islice(self._running(self._from(start), local), days, None), None)

    def used(self, owner: str, segments: Sequence[Segment], now: datetime) -> int:
        """The working days whose end came in this owner's segments and before `now`, each counted once."""
        own = [segment for segment in segments if segment.owner == owner]
        return len({end for _, start, until in own for end in self._passed(start, until, now)})

    def months(self, start: date, months: int) -> date:
        """The same day so many months later, or the last one of a shorter month (民法典 202), be it a day off or not: a
        construction permit lapses three months after it was received unless works have begun (建筑法 9)."""
        years, month = divmod(start.month - 1 + months, 12)
        year, month = start.year + years, month + 1
        return date(year, month, min(start.day, monthrange(year, month)[1]))

    def _settle(self, day: date) -> tuple[bool, bool]:
        """Whether it works, and whether that is published."""
        if day in self._own:
            return self._own[day], True
        statutory = _statutory(day) if self._chinese else None
        works = day.weekday() < 5 if statutory is None else statutory
        return works, not self._chinese or not (statutory is None or _statutory(day + WEEK) is None)

    def _count(self, first: date, days: int) -> Deadline:
        return next(islice(self._running(first), days, None))

    def _running(self, first: date, pauses: Sequence[Pause] = ()) -> Iterator[Deadline]:
        """The ends, from a day on, at which the clock runs; without end, or until it stands for good."""
        day, provisional = first, False
        while True:
            end = datetime.combine(day, self._cut_off, self._zone)
            standing = [pause.end for pause in pauses if pause.start <= end and (pause.end is None or end < pause.end)]
            if None in standing:
                return
            provisional = provisional or not (standing or self.published(day))
            if not standing and self.works(day):
                yield Deadline(end, provisional)
            day += DAY

    def _passed(self, start: datetime, *until: datetime | None) -> list[datetime]:
        """The ends from `start` on and before the earliest of the other moments; None: never."""
        last = min(self._local(moment) for moment in until if moment is not None)
        ends = (end.at for end in self._running(self._from(start)))
        return list(takewhile(lambda end: end < last, ends))

    def _from(self, moment: datetime) -> date:
        """The first day, working or not, whose end is not before a moment."""
        local = self._local(moment)
        return local.date() if local.time() <= self._cut_off else local.date() + DAY

    def _local(self, moment: datetime) -> datetime:
        if moment.tzinfo is None:
            raise UsageError("a moment has no time zone; give it one, as in 2026-09-30T17:30:00+08:00")
        return moment.astimezone(self._zone)


def _statutory(day: date) -> bool | None:
    """What the State Council's notices say of a day; None: they are silent: not out yet, or before 2004."""
    try:
        return bool(chinese_calendar.is_workday(day))
    except NotImplementedError:
        return None
