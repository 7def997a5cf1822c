"""The city's figures (指标) of a window of days, from hookup's tables alone. docs/figures.md defines each of them.

What is read becomes a stream of things measured, each of one figure; a figure is what its fold makes of them, in total and
by group.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from itertools import chain
from statistics import median
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from jietong.city import FULL, City
from jietong.contract import Contract
from jietong.errors import UsageError
from jietong.store import Transaction
from jietong.workdays import Workdays
from services.hookup.cases import CANCELLED, SUSPENDED
from services.hookup.learning import ACCEPTANCE, APPROVAL, DEMAND, PROGRESSED, PROJECT
from services.hookup.machine import ACKNOWLEDGED, CUSTOMER, DEPARTMENT, ENDS, LINES, UTILITY
from services.hookup.word import own

DIVISION, OPERATOR, TYPE = BY = ("division", "operator", "type")
TOTAL, NONE = "total", "none"
"""Groups: of everything, and of what belongs to none."""
EARLIEST, LATEST = date(1970, 1, 1), date(2100, 1, 1)
DAY = timedelta(days=1)
Case = Sequence[str | None]
"""Subject, operator, utility and business kind; the latter None of what belongs to no case."""
Fold = Callable[[Sequence[int]], float | None]


def _median(values: Sequence[int]) -> float | None:
    return median(values) if values else None


def _share(values: Sequence[int]) -> float | None:
    return sum(values) / len(values) if values else None


MEDIAN: tuple[str, Fold] = ("working days, median", _median)
SUM: tuple[str, Fold] = ("working days, sum", sum)
SHARE: tuple[str, Fold] = ("share", _share)
FIELDS: tuple[str, Fold] = ("fields, sum", sum)
OF_PROJECTS: Mapping[str, tuple[str, str]] = {
    "decided_to_first_permit": ("decided", "permit"), "decided_to_main_permit": ("decided", "main"),
    "decided_to_planning": ("decided", "planning"), "planning_to_first_permit": ("planning", "permit"),
    "first_permit_to_acceptance": ("permit", "acceptance"),
}  # fmt: skip
"""Figures of projects: between which two of their milestones."""
FIGURES: Mapping[str, tuple[str, Fold]] = {
    **dict.fromkeys(OF_PROJECTS, MEDIAN),
    "contacted_in_time": SHARE,
    "case_days": MEDIAN, "case_days_total": SUM, "utility_days": MEDIAN, "utility_days_total": SUM, "customer_days": MEDIAN,
    "customer_days_total": SUM, "department_days": MEDIAN, "department_days_total": SUM,
    "connect_days": MEDIAN, "connect_days_promised": MEDIAN, "connected_in_time": SHARE,
    "fields_known": FIELDS, "fields_to_ask": FIELDS, "fields_asked_again": FIELDS,
    "permits_decided": ("permits, number", sum), "permit_days": MEDIAN, "permits_in_time": SHARE, "packages_in_time": SHARE,
    "breaches": ("breaches, number", sum), "absences_noticed": ("absences, number", sum), "absences_ended": ("absences, number", sum),
}  # fmt: skip
"""Every figure with its unit and how it is made; one with kinds is also there as `name.KIND`. docs/figures.md says what each means."""

PROJECTS = """SELECT subject, type, decision_kind, permit_part, min(decided) FROM support
WHERE historical = 0 AND type IN (:project, :approval, :acceptance) GROUP BY subject, type, decision_kind, permit_part"""
EARLY = """SELECT min(at) FROM (SELECT min(decided) AS at FROM support WHERE historical = 0
UNION ALL SELECT min(opened) FROM case_ WHERE opened > 0 UNION ALL SELECT min(asked) FROM permit) AS moments"""
ECHOES = ", ".join(f"'{status}'" for status in sorted(ACKNOWLEDGED))
CASE = "c.subject, c.operator, c.utility, c.business_kind"
ASKED_OF = "c.requested <> 'NONE' AND c.opened > 0"
CONTACTS = f"""SELECT {CASE}, c.opened, c.requested, c.asked,
(SELECT min(s.at) FROM step s WHERE s.subject = c.subject AND s.case_id = c.id AND s.at >= c.opened AND s.status NOT IN ({ECHOES}))
FROM case_ c WHERE {ASKED_OF} AND c.business_kind <> 'PROTECT' AND c.opened < :end"""
ENDED = f"""SELECT {CASE}, c.id, c.opened, c.progress, c.progressed, c.receipt FROM case_ c
WHERE {ASKED_OF} AND c.progressed >= :start AND c.progressed < :end ORDER BY c.subject, c.id"""
STEPS = """SELECT s.case_id, s.status, s.at, s.owner, CASE WHEN s.status = 'ACCEPTED' THEN s.data END FROM step s
JOIN case_ c ON c.subject = s.subject AND c.id = s.case_id
WHERE c.progressed >= :start AND c.progressed < :end AND s.at >= c.opened ORDER BY s.subject, s.case_id, s.n"""
OPENED = f"""SELECT {CASE}, c.work, c.phase, c.opened, c.receipt FROM case_ c
WHERE {ASKED_OF} AND c.opened >= :start AND c.opened < :end"""
SPOKE = "SELECT DISTINCT aggregateid, source FROM outbox WHERE type = :type"
PERMITS = """SELECT p.subject, p.operator, c.utility, c.business_kind, p.case_id, p.asked, p.requested, p.decision, p.decided FROM permit p
LEFT JOIN case_ c ON c.subject = p.subject AND c.id = p.case_id"""
BREACHES = f"""SELECT {CASE}, b.kind FROM breach b JOIN case_ c ON c.subject = b.subject AND c.id = b.case_id
WHERE b.since >= :start AND b.since < :end"""
ABSENCES = """SELECT a.subject, a.operator, c.utility, c.business_kind, a.kind FROM absence a
LEFT JOIN case_ c ON c.subject = a.subject AND c.id = a.case_id"""
NOTICED = f"{ABSENCES} WHERE a.noticed >= :start AND a.noticed < :end"
GONE = f"{ABSENCES} WHERE a.ended >= :start AND a.ended < :end"
KINDS = """SELECT 'breaches', kind FROM breach UNION SELECT 'absences_noticed', kind FROM absence
UNION SELECT 'absences_ended', kind FROM absence"""
SITES = """SELECT subject, 0, 0, '', '', site_regions FROM project UNION ALL
SELECT subject, CASE WHEN type = :demand THEN 2 ELSE 1 END, decided, type, item, site_regions FROM support WHERE type <> :progressed
ORDER BY 1, 2, 3, 4, 5"""


@dataclass(frozen=True, slots=True)
class Window:
    """The days that are asked about, both included, grouped by one of `BY`, as it was known at `now`, ms.

    Raises UsageError if there are none, or if they are out of reach.
    """

    first: date
    last: date
    by: str
    now: int

    def __post_init__(self) -> None:
        if self.by not in BY:
            raise UsageError(f"{self.by}: figures are given by {', '.join(BY)}")
        if self.first > self.last:
            raise UsageError(f"the window begins on {self.first} and ends before, on {self.last}; swap the days")
        if self.first < EARLIEST or self.last >= LATEST:
            raise UsageError(
                f"the window {self.first} to {self.last} is out of reach; take days of {EARLIEST.year} to {LATEST.year - 1}"
            )


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of one group. `n`: how many it rests on; `left_out`: how many could not be judged."""

    figure: str
    group: str
    value: float | None
    unit: str
    n: int
    left_out: int


class Measured(NamedTuple):
    """One thing measured. `value`: working days, a number, or 1 and 0 for yes and no; None: it is left out."""

    figure: str
    subject: str
    value: int | None
    operator: str = NONE
    type: str = NONE


class Step(NamedTuple):
    """A step of the case's present life. `data`: what else it said, JSON, of an ACCEPTED."""

    status: str
    at: int
    owner: str
    data: str | None


class Calendar:
    """A window in a city's working days; moments are ms. `since`: nothing before it is counted."""

    def __init__(self, city: City, window: Window, since: int | None) -> None:
        working = city.working
        self.window, self.zone, self._cut_off = window, ZoneInfo(working.zone), working.cut_off
        self.days = Workdays(
            zone=working.zone, cut_off=working.cut_off, days_off=working.days_off, work_days=working.work_days
        )
        self.start, self.end = (
            _millis(datetime.combine(day, datetime.min.time(), self.zone)) for day in (window.first, window.last + DAY)
        )
        self._since = min(window.first, window.first if since is None else _moment(since).astimezone(self.zone).date())

    @cached_property
    def _ends(self) -> list[int]:
        """Of every working day up to the window's last: looked up, where `Workdays.between` would count them one by one."""
        days = (self._since + n * DAY for n in range((self.window.last - self._since).days + 1))
        return [_millis(datetime.combine(day, self._cut_off, self.zone)) for day in days if self.days.works(day)]

    def within(self, at: int | None) -> bool:
        return at is not None and self.start <= at < self.end

    def between(self, start: int, end: int) -> int:
        """Working days, as `Workdays.between`, of moments up to the window's end."""
        return max(0, bisect_left(self._ends, end) - bisect_left(self._ends, start))

    def limit(self, start: int, days: int) -> int:
        return _millis(self.days.add(_moment(start), days).at)

    def provisional(self) -> bool:
        """Whether a day of the window is not published."""
        window = self.window
        return not all(
            self.days.published(window.first + n * DAY) for n in range((window.last - window.first).days + 1)
        )


def figures(tx: Transaction, city: City, contract: Contract, window: Window) -> list[Figure]:
    """Every figure, first in total and then by group, in the order of `FIGURES`. Of nothing: zeros and None."""
    [[since]] = tx.execute(EARLY).all()
    calendar = Calendar(city, window, since)
    measured = chain(
        _projects(tx, city, calendar), _contacts(tx, city, calendar), _ended(tx, calendar), _fields(tx, contract, calendar),
        _permits(tx, city, calendar), _broken(tx, calendar),
    )  # fmt: skip
    return list(_folded(tx, measured, window.by))


def provisional(city: City, window: Window) -> bool:
    """Whether a day of the window is one whose calendar is not published yet."""
    return Calendar(city, window, None).provisional()


# -- projects --------------------------------------------------------------------------------------------------------------
def _projects(tx: Transaction, city: City, calendar: Calendar) -> Iterator[Measured]:
    """The durations between a project's milestones that end in the window."""
    main = {FULL, *list(city.permit_parts)[-1:]}
    known: defaultdict[str, dict[str, int]] = defaultdict(dict)
    facts = tx.execute(PROJECTS, {"project": PROJECT, "approval": APPROVAL, "acceptance": ACCEPTANCE}).all()
    for subject, type, kind, part, at in facts:
        for milestone in _milestones(type, kind, part, main):
            known[subject][milestone] = min(at, known[subject].get(milestone, at))
    for subject, at in known.items():
        for figure, (begins, ends) in OF_PROJECTS.items():
            start, end = at.get(begins), at.get(ends)
            if end is not None and calendar.within(end):
                yield Measured(figure, subject, None if start is None or start > end else calendar.between(start, end))


def _milestones(type: str, kind: str | None, part: str | None, main: set[str]) -> Sequence[str]:
    match type, kind:
        case (t, _) if t == PROJECT:
            return ("decided",)
        case (t, _) if t == ACCEPTANCE:
            return ("acceptance",)
        case _, "ENGINEERING_PLANNING":
            return ("planning",)
        case _, "CONSTRUCTION":
            return ("permit", "main") if part in main else ("permit",)
        case _:
            return ()


# -- cases -----------------------------------------------------------------------------------------------------------------
def _contacts(tx: Transaction, city: City, calendar: Calendar) -> Iterator[Measured]:
    for *case, opened, requested, asked, first in tx.execute(CONTACTS, {"end": calendar.end}).all():
        limit = calendar.limit(opened, city.clocks.contact_days)
        if calendar.within(limit):
            rests = requested in (CANCELLED, SUSPENDED) and asked < limit
            yield _of("contacted_in_time", case, _kept(first, limit, calendar.window.now, rests))


def _kept(done: int | None, limit: int, now: int, recalled: bool) -> int | None:
    """Whether something was done by its limit; None: that cannot be said yet, or need not be done."""
    if done is not None:
        return int(done <= limit)
    return None if recalled or now <= limit else 0


def _ended(tx: Transaction, calendar: Calendar) -> Iterator[Measured]:
    """Whose time it was in the cases that ended in the window."""
    between = {"start": calendar.start, "end": calendar.end}
    steps: defaultdict[str, list[Step]] = defaultdict(list)
    for id, *step in tx.execute(STEPS, between).all():
        steps[id].append(Step(*step))
    for *case, id, opened, progress, ended, receipt in tx.execute(ENDED, between).all():
        if progress == "CONNECTED" or (progress == "WORKS_FINISHED" and case[-1] in LINES):
            mine = [step for step in steps[id] if step.at <= ended]
            yield from _finished(case, opened, ended, mine, calendar)
            if progress == "CONNECTED":
                yield from _connected(case, mine, ended, receipt, calendar)
        elif progress in ENDS:
            for name in ("case_days", *OWNERS):
                yield from _days(name, case, None)


OWNERS = {"utility_days": UTILITY, "customer_days": CUSTOMER, "department_days": DEPARTMENT}


def _finished(case: Case, opened: int, ended: int, steps: Sequence[Step], calendar: Calendar) -> Iterator[Measured]:
    whole = [Step("", opened, UTILITY, None), *steps]
    yield from _days("case_days", case, calendar.between(opened, ended))
    for name, owner in OWNERS.items():
        yield from _days(name, case, _used(owner, whole, ended, calendar))


def _days(name: str, case: Case, days: int | None) -> Iterator[Measured]:
    yield _of(name, case, days)
    yield _of(f"{name}_total", case, days)


def _used(owner: str, steps: Sequence[Step], until: int, calendar: Calendar) -> int:
    """The working days whose end came in the time that followed these steps and was this owner's."""
    ends = [*(step.at for step in steps[1:]), until]
    return sum(calendar.between(step.at, end) for step, end in zip(steps, ends, strict=True) if step.owner == owner)


def _connected(
    case: Case, steps: Sequence[Step], ended: int, receipt: str | None, calendar: Calendar
) -> Iterator[Measured]:
    accepted = max((n for n, step in enumerate(steps) if step.status == "ACCEPTED"), default=None)
    used = promised = None
    if accepted is not None:
        used = _used(UTILITY, steps[accepted:], ended, calendar)
        told: list[dict[str, Any]] = [json.loads(text or "{}") for text in (steps[accepted].data, receipt)]
        promised = told[0].get("promised_days") or told[1].get("connect_days")
    yield _of("connect_days", case, used)
    yield _of("connect_days_promised", case, promised)
    yield _of("connected_in_time", case, None if used is None or promised is None else int(used <= promised))


def _fields(tx: Transaction, contract: Contract, calendar: Calendar) -> Iterator[Measured]:
    """What the one form (一张表单) already knew, and what it asked, when cases were opened in the window."""
    spoke = {row[0]: row[1] for row in tx.execute(SPOKE, {"type": DEMAND}).all()}
    confirmed: dict[str, Mapping[tuple[str, int], int]] = {}
    for *case, work, phase, opened, receipt in tx.execute(OPENED, {"start": calendar.start, "end": calendar.end}).all():
        subject = case[0]
        if subject in spoke and subject not in confirmed:
            confirmed[subject] = _confirmed(tx, contract, spoke[subject], subject)
        said = confirmed.get(subject, {})
        before = any(said.get((slot, phase), opened) < opened for slot in (work, ""))
        counts: dict[str, Any] = json.loads(receipt or "{}")
        known, ask = counts.get("known"), counts.get("to_ask")
        yield _of("fields_known", case, known)
        yield _of("fields_to_ask", case, ask)
        yield _of("fields_asked_again", case, ask if ask is None or before else 0)


def _confirmed(tx: Transaction, contract: Contract, source: str, subject: str) -> Mapping[tuple[str, int], int]:
    """When the company first confirmed the demand of each 工程 and phase ('': of the project)."""
    said: dict[tuple[str, int], int] = {}
    for event in own(tx, contract, source, DEMAND, subject):
        if event.data["action"] == "CONFIRMED":
            said.setdefault((event.data["work"] or "", event.data["phase"]), _millis(event.time))
    return said


# -- permits, promises, absences -------------------------------------------------------------------------------------------
def _permits(tx: Transaction, city: City, calendar: Calendar) -> Iterator[Measured]:
    packages: defaultdict[tuple[str, int], list[Measured]] = defaultdict(list)
    for *case, id, asked, requested, decision, decided in tx.execute(PERMITS).all():
        first_word = decision in ("APPROVED", "REFUSED")
        if calendar.within(decided):
            yield _of("permits_decided", case, 1 if first_word else None)
            yield _of("permit_days", case, calendar.between(asked, decided) if first_word else None)
        limit = calendar.limit(asked, city.works.days)
        if calendar.within(limit):
            overwritten = decision is not None and not first_word
            kept = None if overwritten else _kept(decided, limit, calendar.window.now, requested == CANCELLED)
            yield _of("permits_in_time", case, kept)
            packages[id, asked].append(_of("packages_in_time", case, kept))
    for permits in packages.values():
        kept = {permit.value for permit in permits}
        yield permits[0]._replace(value=0 if 0 in kept else None if None in kept else 1)


def _broken(tx: Transaction, calendar: Calendar) -> Iterator[Measured]:
    """Broken promises, and what did not happen in time, each also by its kind."""
    between = {"start": calendar.start, "end": calendar.end}
    for figure, sql in (("breaches", BREACHES), ("absences_noticed", NOTICED), ("absences_ended", GONE)):
        for *case, kind in tx.execute(sql, between).all():
            yield _of(figure, case, 1)
            yield _of(f"{figure}.{kind}", case, 1)


def _of(figure: str, case: Case, value: int | None) -> Measured:
    subject, operator, utility, kind = case
    return Measured(figure, subject or "", value, operator or NONE, f"{utility}/{kind}" if utility else NONE)


# -- groups ----------------------------------------------------------------------------------------------------------------
@dataclass(slots=True)
class _Heap:
    """What one figure of one group is made of."""

    values: list[int] = field(default_factory=list[int])
    left_out: int = 0

    def add(self, value: int | None) -> None:
        if value is None:
            self.left_out += 1
        else:
            self.values.append(value)


def _folded(tx: Transaction, measured: Iterable[Measured], by: str) -> Iterator[Figure]:
    sites = _divisions(tx) if by == DIVISION else {}
    heaps: defaultdict[tuple[str, str], _Heap] = defaultdict(_Heap)
    groups: set[str] = set()
    for one in measured:
        own_groups = () if by != DIVISION and one.figure in OF_PROJECTS else _groups(one, by, sites)
        groups.update(own_groups)
        for group in (TOTAL, *own_groups):
            heaps[one.figure, group].add(one.value)
    for name in _names(tx):
        unit, fold = FIGURES[name.partition(".")[0]]
        for group in (TOTAL,) if by != DIVISION and name in OF_PROJECTS else (TOTAL, *sorted(groups)):
            heap = heaps[name, group]
            yield Figure(name, group, fold(heap.values), unit, len(heap.values), heap.left_out)


def _groups(one: Measured, by: str, sites: Mapping[str, Sequence[str]]) -> Sequence[str]:
    if by == DIVISION:
        return sites.get(one.subject, (NONE,))
    return (one.operator,) if by == OPERATOR else (one.type,)


def _names(tx: Transaction) -> Iterator[str]:
    """Every figure, and after one with kinds those that were ever seen."""
    kinds: defaultdict[str, list[str]] = defaultdict(list)
    for figure, kind in tx.execute(KINDS).all():
        kinds[figure].append(kind)
    for name in FIGURES:
        yield name
        yield from (f"{name}.{kind}" for kind in sorted(kinds[name]))


def _divisions(tx: Transaction) -> dict[str, Sequence[str]]:
    """In which divisions of a county's rank each subject's site lies."""
    found: dict[str, Sequence[str]] = {}
    for subject, *_, regions in tx.execute(SITES, {"demand": DEMAND, "progressed": PROGRESSED}).all():
        if subject not in found and (codes := json.loads(regions)):
            found[subject] = sorted({code[:6] if code[:6].isdecimal() else code for code in codes})
    return found


def _millis(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def _moment(millis: int) -> datetime:
    return datetime.fromtimestamp(millis / 1000, UTC)
