"""The clocks of a subject (时限), from recorded facts alone: what is expected, of whom, by when. Plain functions.

A clock is only listed while what it waits for has not happened; whether it ran out is a question of the hour.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from jietong.city import City
from jietong.workdays import Deadline, Pause, Segment, Workdays
from services.hookup.cases import IN_FORCE, OPEN, SUSPENDED, Case, Identity, Support
from services.hookup.facts import Facts
from services.hookup.machine import ACKNOWLEDGED, UTILITY, over
from services.hookup.permits import Permit

OFFICE = "hookup-office"
CONSTRUCTION = "CONSTRUCTION"


class Clock(NamedTuple):
    """Something that is expected. `notice`: when its absence is noticed, at `due` or, of a warning, before; both in ms."""

    kind: str
    about: str
    responsible: str
    since: int
    due: int
    provisional: bool
    notice: int
    case: str | None = None
    operator: str | None = None


class Step(NamedTuple):
    """A step of a utility that was applied; `owner`: whose time follows."""

    status: str
    at: int
    owner: str
    data: Facts


class Life(NamedTuple):
    """What happened in a case since it was opened: the utility's steps, and when the city let it rest, which is nobody's time
    from the city's word on, echoed or not."""

    steps: Sequence[Step]
    rests: Sequence[Pause] = ()

    @property
    def accepted(self) -> Step | None:
        return next((step for step in self.steps if step.status == "ACCEPTED"), None)

    def segments(self) -> list[Segment]:
        """Whose time it was from the acceptance on, by the utility's steps."""
        steps = [step for step in self.steps if step.status not in ACKNOWLEDGED]
        first = next((n for n, step in enumerate(steps) if step.status == "ACCEPTED"), len(steps))
        later = steps[first:]
        ends = [moment(step.at) for step in later[1:]] + [None]
        return [Segment(step.owner, moment(step.at), end) for step, end in zip(later, ends, strict=True)]

    def others(self) -> list[Pause]:
        """When a utility's clock stands."""
        return [*(Pause(s.start, s.end) for s in self.segments() if s.owner != UTILITY), *self.rests]


class Clocks:
    """A city's clocks. `published`: the last year whose calendar of working days is known."""

    def __init__(self, city: City, days: Workdays) -> None:
        self.city, self.days = city, days
        self._warnings: dict[date, tuple[int, int, bool]] = {}
        self.published = max((year for year in range(2000, 2100) if days.published(date(year, 1, 1))), default=0)

    def of(
        self,
        cases: Mapping[Identity, Case],
        steps: Mapping[str, Sequence[Step]],
        permits: Iterable[Permit],
        supports: Sequence[Support],
        begun: bool,
        receipts: Mapping[str, Facts],
        rests: Mapping[str, Sequence[Pause]],
    ) -> Iterator[Clock]:
        """Everything that is expected now of anyone. `steps`, `receipts` and `rests`: by case."""
        for identity, case in cases.items():
            mine = Life(steps.get(case.id, ()), rests.get(case.id, ()))
            yield from self._of_case(identity, case, mine, receipts.get(case.id, {}))
        for permit in permits:
            if permit.requested == OPEN and permit.decision is None:
                by = self.permit_by(permit.asked)
                yield Clock("NO_PERMIT_DECISION", permit.permit, permit.department, permit.asked, permit.due, by.provisional, permit.due,
                            permit.case_id, permit.operator)  # fmt: skip
        yield from self._of_supports(supports, begun)

    def contact_by(self, opened: int) -> Deadline:
        """One working day after the lead (主动服务), or as the city has it."""
        return self.days.add(moment(opened), self.city.clocks.contact_days)

    def protect_by(self, operator: str, opened: int) -> Deadline:
        """When a pipe owner promised its answer."""
        promise = self.city.promise(operator)
        return self.days.add(moment(opened), promise.protect_days if promise else self.city.works.days)

    def permit_by(self, asked: int) -> Deadline:
        """All parallel permits are due so many working days after they were asked for."""
        return self.days.add(moment(asked), self.city.works.days)

    def _of_case(self, identity: Identity, case: Case, life: Life, receipt: Facts) -> Iterator[Clock]:
        def clock(kind: str, since: int, by: Deadline) -> Clock:
            due = _millis(by.at)
            return Clock(kind, case.id, identity.operator, since, due, by.provisional, due, case.id, identity.operator)

        if over(identity.business_kind, case.progress):
            return
        if case.requested == SUSPENDED and case.acknowledged != SUSPENDED:
            yield clock("NO_ACKNOWLEDGEMENT", case.asked, self.days.add(moment(case.asked), 1))
        if case.requested != OPEN:
            return
        if identity.business_kind == "PROTECT" and case.protection is None:
            yield clock("NO_PROTECTION_ANSWER", case.opened, self.protect_by(identity.operator, case.opened))
        elif identity.business_kind != "PROTECT":
            yield from self._of_supply(case, life, receipt, clock)

    def _of_supply(
        self, case: Case, life: Life, receipt: Facts, clock: Callable[[str, int, Deadline], Clock]
    ) -> Iterator[Clock]:
        if case.progress is None:
            yield clock("NO_CONTACT", case.opened, self.contact_by(case.opened))
        accepted = life.accepted
        if accepted is None:
            return
        plan_days, connect_days = (
            receipt.get("plan_days"),
            accepted.data.get("promised_days") or receipt.get("connect_days"),
        )
        start, others = moment(accepted.at), life.others()
        if case.progress == "ACCEPTED" and plan_days and (by := self.days.due(start, plan_days, others)):
            yield clock("NO_PLAN", accepted.at, by)
        if connect_days and (by := self.days.due(start, connect_days, others)):
            yield clock("NO_CONNECTION", accepted.at, by)

    def used(self, life: Life, until: int) -> int:
        """Working days of the utility's own time from the acceptance until then: what waits for others, and what rests, is
        not its own."""
        now = moment(until)
        own = [s for s in life.segments() if s.owner == UTILITY and s.start < now]
        rested = [
            Segment(UTILITY, max(s.start, r.start), min(s.end or now, r.end or now)) for s in own for r in life.rests
        ]
        return self.days.used(UTILITY, own, now) - self.days.used(UTILITY, rested, now)

    def _of_supports(self, supports: Sequence[Support], begun: bool) -> Iterator[Clock]:
        for support in (s for s in supports if s.standing == IN_FORCE and not s.historical):
            if support.missing_due is not None:
                yield self._warned(
                    "CONDITION_DUE", support.document or support.item, support.decided, support.missing_due
                )
            if support.decision_kind == CONSTRUCTION and not begun:
                extensions = min(support.extended, self.city.clocks.lapse_extensions)
                lapses = self.days.months(support.on, self.city.clocks.lapse_months * (1 + extensions))
                yield self._warned("NO_START_OF_WORKS", support.document or support.item, support.decided, lapses)

    def _warned(self, kind: str, about: str, since: int, day: date) -> Clock:
        """Due at the end of a day, noticed as the day begins that is so many working days before it: while something can be
        done. The due day itself is not counted (民法典 201)."""
        due, notice, provisional = self._before(day)
        return Clock(kind, about, OFFICE, since, due, provisional, max(notice, since))

    def _before(self, day: date) -> tuple[int, int, bool]:
        """(a day's end, the beginning of the day so many working days before it, whether that is provisional)."""
        if day not in self._warnings:
            zone, warned, ahead = ZoneInfo(self.city.working.zone), day, self.city.clocks.warn_days
            while ahead:
                warned -= timedelta(days=1)
                ahead -= self.days.works(warned)
            end, notice = datetime.combine(day, time.max, zone), datetime.combine(warned, time.min, zone)
            self._warnings[day] = _millis(end), _millis(notice), not self.days.published(day)
        return self._warnings[day]


def moment(millis: int) -> datetime:
    """Of milliseconds since 1970 UTC."""
    return datetime.fromtimestamp(millis / 1000, UTC)


def _millis(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
