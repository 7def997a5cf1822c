"""The rules of the trade once more, naive: written from docs/domain.md, docs/states.md and the city pack, not from the service.

Every fact told is kept in its order; what supports which case is worked out anew from all of them. Only what docs/domain.md
calls the last said and the utility's last word is carried from fact to fact. Slow and plain on purpose.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from functools import cache
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import chinese_calendar

from jietong.city import City

PROJECT, APPROVAL, ACCEPTANCE = (
    "investment.project.registered.v1",
    "engineering.approval.decided.v1",
    "engineering.acceptance.decided.v1",
)
DEMAND, STEP, DECIDED = "hookup.demand.confirmed.v1", "utility.connection.progressed.v1", "works.permit.decided.v1"
ZONE, CUT_OFF, DAY = ZoneInfo("Asia/Shanghai"), time(17, 30), timedelta(days=1)

STANDING = {
    "APPROVED": "IN_FORCE", "EXTENDED": "IN_FORCE", "RESUMED": "IN_FORCE", "CONDITION_MET": "IN_FORCE", "SUSPENDED": "SUSPENDED",
    "REFUSED": "FALLEN", "APPLICATION_WITHDRAWN": "FALLEN", "WITHDRAWN": "FALLEN", "REVOKED": "FALLEN", "DEREGISTERED": "FALLEN",
    "PENALTY_REVOKED": "FALLEN", "LAPSED": "FALLEN", "CONDITION_LAPSED": "FALLEN",
}  # fmt: skip
SUPPLY = ("TEMPORARY", "PERMANENT", "TEMP_TO_PERMANENT", "INCREASE", "CONVERT_TO_DIRECT")
BROKEN_OFF = ("NOT_NEEDED", "DECLINED", "REFUSED", "LAPSED")
ECHOES = ("SUSPENDED", "RESUMED", "CANCELLED")
ANY_OPEN = (
    "LEAD",
    "CONTACTED",
    "ACCEPTED",
    "PLAN_REPLIED",
    "CONTRACTED",
    "WORKS_STARTED",
    "WORKS_FINISHED",
    "INSPECTED",
)
_ENDED: dict[str, tuple[str, ...]] = {"DECLINED": ANY_OPEN, "REFUSED": ANY_OPEN, "LAPSED": ANY_OPEN}
_BEGUN: dict[str, tuple[str, ...]] = {
    "CONTACTED": ("LEAD", "CONTACTED"),
    "ACCEPTED": ("LEAD", "CONTACTED"),
    "CONTRACTED": ("PLAN_REPLIED",),
    **_ENDED,
}
_LINES: dict[str, tuple[str, ...]] = {**_BEGUN, "WORKS_STARTED": ("ACCEPTED", "PLAN_REPLIED", "CONTRACTED"),
          "WORKS_FINISHED": ("ACCEPTED", "PLAN_REPLIED", "CONTRACTED", "WORKS_STARTED")}  # fmt: skip
_PLANNED: dict[str, tuple[str, ...]] = {
    "PLAN_REPLIED": ("ACCEPTED", "PLAN_REPLIED", "CONTRACTED"),
    "NOT_NEEDED": ANY_OPEN,
}
_SUPPLIED: dict[str, tuple[str, ...]] = {
    **_BEGUN, **_PLANNED, "WORKS_STARTED": ("ACCEPTED", "PLAN_REPLIED", "CONTRACTED"), "WORKS_FINISHED": ("WORKS_STARTED",),
    "INSPECTED": ("PLAN_REPLIED", "CONTRACTED", "WORKS_FINISHED"), "CONNECTED": ("ACCEPTED", "INSPECTED"),
}  # fmt: skip
AFTER: dict[str, dict[str, tuple[str, ...]]] = {
    **dict.fromkeys(SUPPLY, _SUPPLIED),
    "PROTECT": {**_LINES, "PLAN_REPLIED": ("LEAD", "CONTACTED", "ACCEPTED"), "NOT_NEEDED": ("LEAD", "CONTACTED", "ACCEPTED")},
    "RELOCATE": {**_LINES, **_PLANNED},
    "CLOSE": {**_LINES, **_PLANNED},
}  # fmt: skip
"""The tables of docs/states.md: a state, and the states it may follow."""
OWNER = {"CONTACTED": "CUSTOMER", "PLAN_REPLIED": "CUSTOMER"}
"""Whose time follows; of all others that are not an end, the utility's."""

Key = tuple[str, str, str, str, int]
"""Subject, 工程 ('' for the project's own), operator, business kind, phase."""


Task = tuple[str, str, Any]
"""Subject, kind, and what it is about: a key, a key and a kind of works, an event, a name."""
Absence = tuple[str, str, Any, str]
"""Subject, kind, what it is about, and who is responsible."""


class Told(NamedTuple):
    at: datetime
    type: str
    subject: str
    data: Mapping[str, Any]
    event: str


class Support(NamedTuple):
    """One fact that wants cases."""

    standing: str
    work: str | None
    phase: int
    business_kind: str
    utilities: tuple[str, ...]
    regions: tuple[str, ...]
    on: date
    operator: str | None = None
    applied: datetime | None = None
    """When a customer applied, if that is the fact."""


@dataclass
class Permit:
    asked: datetime
    content: Any
    open: bool = True
    decision: str | None = None


@dataclass
class Case:
    """What was last said, and the steps applied since it began."""

    stands: str = "NONE"
    opened: datetime | None = None
    steps: list[tuple[str, datetime]] = field(default_factory=list)
    rests: list[tuple[datetime, datetime | None]] = field(default_factory=list)
    """When it was suspended, from and until."""
    acknowledged: str | None = None
    protection: str | None = None
    plan: Mapping[str, Any] | None = None
    permits: dict[str, Permit] = field(default_factory=dict)

    @property
    def progress(self) -> str | None:
        return self.steps[-1][0] if self.steps else None

    @property
    def accepted(self) -> bool:
        return self.progress not in (None, "CONTACTED")


def over(kind: str, progress: str | None) -> bool:
    return progress in ("CONNECTED", *BROKEN_OFF) or (kind not in SUPPLY and progress == "WORKS_FINISHED")


def right(kind: str, case: Case, status: str, protection: str | None) -> bool:
    """Whether a step may follow (docs/states.md)."""
    if status in ECHOES:
        return True
    if (case.progress or "LEAD") not in AFTER[kind].get(status, ()):
        return False
    if kind != "PROTECT" or status not in ("PLAN_REPLIED", "NOT_NEEDED"):
        return True
    if status == "NOT_NEEDED":
        return protection in (None, "NONE")
    return protection in ("PROTECT", "MOVE")


# -- working days --------------------------------------------------------------------------------------------------------
@cache
def works(day: date) -> bool:
    try:
        return bool(chinese_calendar.is_workday(day))
    except NotImplementedError:  # not published yet: Monday to Friday, provisionally
        return day.weekday() < 5


@cache
def ends(start: datetime, until: datetime) -> int:
    """The ends of working days from `start` on and before `until`."""
    day, last, found = start.astimezone(ZONE).date(), until.astimezone(ZONE).date(), 0
    while day <= last:
        found += works(day) and start <= datetime.combine(day, CUT_OFF, ZONE) < until
        day += DAY
    return found


def days_before(day: date, days: int) -> date:
    while days:
        day -= DAY
        days -= works(day)
    return day


def months_after(day: date, months: int) -> date:
    year, month = day.year + (day.month - 1 + months) // 12, (day.month - 1 + months) % 12 + 1
    for last in (day.day, 30, 29, 28):
        try:
            return date(year, month, min(day.day, last))
        except ValueError:
            continue
    raise AssertionError(day)


class Rules:
    """`tell` a fact, then ask how things should stand. `now` is its clock."""

    def __init__(self, city: City) -> None:
        self.city = city
        self.facts: list[Told] = []
        self.cases: dict[Key, Case] = {}
        self.refused: list[tuple[str, str, Told]] = []  # (task kind, case or permit, the step)
        self.closed: set[Task] = set()

    def tell(self, fact: Told, key: Key | None = None) -> None:
        """`key`: of a step, the case it names; None: one that is none of its sender's."""
        self.facts.append(fact)
        if fact.type == STEP:
            self._step(fact, key)
        if fact.type == DECIDED:
            self._decide(fact, key)
        for subject in {fact.subject, *(key[0] for key in self.cases)}:
            self._settle(subject, fact.at)
        self.closed &= self.causes()

    # -- what the facts say ----------------------------------------------------------------------------------------------
    def of(self, type: str, subject: str) -> list[Told]:
        return [fact for fact in self.facts if (fact.type, fact.subject) == (type, subject)]

    def cancelled(self, subject: str) -> bool:
        """A mere change does not bring a cancelled project back."""
        told = [fact.data["status"] for fact in self.of(PROJECT, subject) if fact.data["status"] != "CHANGED"]
        return told[-1:] == ["CANCELLED"]

    def items(self, type: str, subject: str) -> Iterator[tuple[Told, str, list[Told]]]:
        """Of each item that was approved: the last approval, how it stands now, and what came from that approval on."""
        told = self.of(type, subject)
        for item in dict.fromkeys(fact.data["item_instance"] for fact in told):
            mine = [
                fact for fact in told if fact.data["item_instance"] == item and fact.data["decision"] != "DOCUMENTED"
            ]
            granted = [n for n, fact in enumerate(mine) if fact.data["decision"] == "APPROVED"]
            if granted:
                standing = "FALLEN" if self.cancelled(subject) else STANDING[mine[-1].data["decision"]]
                yield mine[granted[-1]], standing, mine[granted[-1] :]

    def applications(self, subject: str) -> Iterator[tuple[Told, str]]:
        told = self.of(DEMAND, subject)
        for number in dict.fromkeys(fact.data.get("application") for fact in told):
            mine = [fact for fact in told if number and fact.data.get("application") == number]
            applied = [fact for fact in mine if fact.data["action"] == "APPLIED"]
            if applied:
                falls = self.cancelled(subject) or mine[-1].data["action"] != "APPLIED"
                yield applied[-1], "FALLEN" if falls else "IN_FORCE"

    def supports(self, subject: str) -> list[Support]:
        found: list[Support] = []
        decided = [fact for fact in self.of(PROJECT, subject) if fact.data["status"] == "DECIDED"]
        if decided:
            standing = "FALLEN" if self.cancelled(subject) else "IN_FORCE"
            found += self._opened(decided[-1], "DECIDED", standing, None, None)
        for type in (APPROVAL, ACCEPTANCE):
            for fact, standing, _ in self.items(type, subject):
                kind = fact.data["decision_kind" if type == APPROVAL else "acceptance_kind"]
                found += self._opened(fact, "APPROVED", standing, kind, fact.data.get("permit_part"))
        for fact, standing in self.applications(subject):
            found.append(Support(standing, fact.data["work"], fact.data["phase"], fact.data["business_kind"], (fact.data["utility"],),
                                 tuple(fact.data["site_regions"] or self.site(subject)), self._day(fact), applied=fact.at))  # fmt: skip
        return found

    def _opened(self, fact: Told, word: str, standing: str, kind: str | None, part: str | None) -> list[Support]:
        return [
            Support(standing, fact.data.get("work"), fact.data.get("phase", 1), row.business_kind, tuple(row.utilities),
                    tuple(fact.data["site_regions"]), self._day(fact))
            for row in self.city.triggers
            if (row.type, row.word) == (fact.type, word) and row.decision_kind == kind and not fact.data["historical"]
            and (row.permit_part in (None, "*", part))
        ]  # fmt: skip

    def _day(self, fact: Told) -> date:
        return fact.at.astimezone(ZONE).date()

    def site(self, subject: str) -> list[str]:
        told = self.of(PROJECT, subject) or self.of(APPROVAL, subject)
        return told[-1].data["site_regions"] if told else []

    # -- 工程 ------------------------------------------------------------------------------------------------------------
    def named(self, subject: str) -> dict[str, list[str]]:
        """Every 工程 that an approval has named, in that order, and those it came from."""
        found: dict[str, list[str]] = {}
        for fact in self.of(APPROVAL, subject):
            if fact.data["work"] is not None:
                mine = found.setdefault(fact.data["work"], [])
                before = fact.data["previous_work"]
                if before is not None and before not in mine:
                    mine.append(before)
        return found

    def slot(self, subject: str, work: str | None) -> str:
        named = self.named(subject)
        if work is None:
            return ""
        merged = [w for w, before in named.items() if work in before and len(before) > 1]
        return self.slot(subject, merged[0]) if merged else self._own(named, work)

    def _own(self, named: dict[str, list[str]], work: str) -> str:
        if not named[work]:
            return "" if next(iter(named)) == work else work
        before = min(named[work], key=list(named).index)
        parts = [w for w, came in named.items() if before in came]
        return self._own(named, before) if parts[0] == work else work

    def slots(self, subject: str) -> list[str]:
        return sorted({"", *(self.slot(subject, work) for work in self.named(subject))})

    # -- who -------------------------------------------------------------------------------------------------------------
    def serving(self, utility: str, regions: tuple[str, ...], on: date) -> list[str]:
        """Whose area covers the site that day. A polygon counts as met while no red line is known."""
        return sorted(
            id for id, operator in self.city.operators.items()
            if operator.utility == utility and any(
                area.since <= on and (area.until is None or on < area.until)
                and (area.division is None or any(region.startswith(area.division) for region in regions))
                for area in operator.areas
            )
        )  # fmt: skip

    def chosen(self, subject: str, serving: list[str]) -> list[str]:
        words = [fact for fact in self.of(DEMAND, subject) if fact.data["action"] in ("CONFIRMED", "CORRECTED")]
        wanted = [operator for operator in serving if words and operator in words[-1].data["operators_chosen"]]
        return wanted or serving

    def wanted(self, subject: str) -> dict[Key, list[Support]]:
        """Every case that some fact wants or wanted, with the facts."""
        found: dict[Key, list[Support]] = {}
        for support in self.supports(subject):
            for utility in support.utilities:
                for operator in self._asked(subject, support, utility):
                    for slot in self._where(subject, support):
                        found.setdefault((subject, slot, operator, support.business_kind, support.phase), []).append(
                            support
                        )
        for key, case in self.cases.items():
            if key[0] == subject and key[3] == "PROTECT" and case.protection == "MOVE" and key in found:
                found.setdefault((subject, key[1], key[2], "RELOCATE", key[4]), []).extend(found[key])
        return found

    def _asked(self, subject: str, support: Support, utility: str) -> list[str]:
        serving = self.serving(utility, support.regions, support.on)
        return serving if support.business_kind == "PROTECT" else self.chosen(subject, serving)

    def _where(self, subject: str, support: Support) -> list[str]:
        if support.work is not None:
            return [self.slot(subject, support.work)] if support.work in self.named(subject) else []
        return self.slots(subject)

    # -- where cases stand -----------------------------------------------------------------------------------------------
    def _settle(self, subject: str, now: datetime) -> None:
        wanted = self.wanted(subject)
        for key in {*wanted, *(key for key in self.cases if key[0] == subject)}:
            case = self.cases.get(key) or Case()
            self._stand(key, case, wanted.get(key, []), now)
            self._ask_permits(key, case, now)
            if case.stands != "NONE":
                self.cases[key] = case
        if self.wanted(subject).keys() - wanted.keys():
            self._settle(subject, now)  # an owner that must move its line

    def best(self, supports: list[Support]) -> str:
        standing = {support.standing for support in supports}
        return next((s for s in ("IN_FORCE", "SUSPENDED") if s in standing), "FALLEN")

    def _stand(self, key: Key, case: Case, supports: list[Support], now: datetime) -> None:
        if over(key[3], case.progress):
            applied = [s.applied for s in supports if s.applied and s.standing == "IN_FORCE"]
            if case.progress not in BROKEN_OFF or not any(at > case.steps[-1][1] for at in applied):
                return
            case.stands, case.steps, case.rests, case.protection, case.plan = "CANCELLED", [], [], None, None
        best = self.best(supports)
        if best == "IN_FORCE":
            if case.stands in ("NONE", "CANCELLED"):
                case.opened = now
            elif case.stands == "SUSPENDED":
                case.rests[-1] = (case.rests[-1][0], now)
            case.stands = "OPEN"
        elif case.stands == "NONE" or (case.stands == "CANCELLED" and not case.accepted):
            return
        else:
            to = "SUSPENDED" if best == "SUSPENDED" or case.accepted else "CANCELLED"
            if to == "SUSPENDED" != case.stands:
                case.acknowledged = None
                case.rests.append((now, None))
            if to == "CANCELLED" and case.stands == "SUSPENDED":
                case.rests[-1] = (case.rests[-1][0], now)
            case.stands = to

    # -- permits ---------------------------------------------------------------------------------------------------------
    def needed(self, key: Key, case: Case) -> list[tuple[str, str | None]]:
        """Kinds of works whose permits are to be asked for, each with its department."""
        plan = case.plan if case.stands == "OPEN" and not over(key[3], case.progress) else None
        if not plan or not plan["works_external"]:
            return []
        kinds = plan["works_kinds"] or ["ROAD_EXCAVATION"]
        deciding = {kind: id for id, department in self.city.departments.items() for kind in department.works}
        return [(kind, deciding.get(kind)) for kind in kinds]

    def _ask_permits(self, key: Key, case: Case, now: datetime) -> None:
        needed = {kind for kind, department in self.needed(key, case) if department}
        for kind in needed:
            known = case.permits.get(kind)
            if known is None or not known.open or known.content != case.plan:
                case.permits[kind] = Permit(now, case.plan)
        for kind in case.permits.keys() - needed:
            case.permits[kind].open = False

    def package(self, key: Key, case: Case) -> str | None:
        """Where the parallel permits of a case stand."""
        decisions = [permit.decision for permit in case.permits.values() if permit.open]
        if not decisions:
            return None
        fallen = any(decision and STANDING[decision] == "FALLEN" for decision in decisions)
        return "REFUSED" if fallen else "PENDING" if None in decisions else "GRANTED"

    def _decide(self, fact: Told, key: Key | None) -> None:
        if key is None:
            self.refused.append(("unknown-case", fact.data["permit"], fact))
        elif fact.data["decision"] != "DOCUMENTED":
            permit = self.cases[key].permits[fact.data["works_kind"]]
            if permit.open:
                permit.decision = fact.data["decision"]

    # -- tasks -----------------------------------------------------------------------------------------------------------
    def tasks(self) -> set[Task]:
        return self.causes() - self.closed

    def causes(self) -> set[Task]:
        found: set[Task] = {
            (fact.subject, kind, about if kind == "unknown-case" else fact.event) for kind, about, fact in self.refused
        }
        found |= {
            (fact.subject, "objection", fact.event) for fact in self.facts if fact.data.get("action") == "OBJECTED"
        }
        for subject in {fact.subject for fact in self.facts}:
            wanted = self.wanted(subject)
            found |= {(subject, kind, about) for kind, about in self._uncovered(subject)}
            for key, case in self.cases.items():
                if key[0] == subject:
                    found |= {(subject, kind, about) for kind, about in self._of_case(key, case, wanted.get(key, []))}
        return found

    def _uncovered(self, subject: str) -> Iterator[tuple[str, str]]:
        for support in self.supports(subject):
            for utility in support.utilities:
                served = self.serving(utility, support.regions, support.on)
                if not served and support.standing == "IN_FORCE" and self._where(subject, support):
                    yield "uncovered", f"{utility}/{support.business_kind}"

    def _of_case(self, key: Key, case: Case, supports: list[Support]) -> Iterator[tuple[str, Any]]:
        best = self.best(supports)
        if case.stands == "SUSPENDED" and case.accepted and not over(key[3], case.progress):
            yield "suspended", key
        if case.progress == "CONNECTED" and best == "FALLEN":
            yield "connected-without-support", key
        if case.progress == "REFUSED":
            yield "refused", key
        for kind, department in self.needed(key, case):
            if department is None:
                yield "no-department", (key, kind)

    # -- what did not happen in time -------------------------------------------------------------------------------------
    def absences(self, now: datetime) -> dict[Absence, bool]:
        """What is absent now, and whether that is certain: on which hour of a day something is warned of is not said."""
        found: dict[Absence, bool] = {}
        for key, case in self.cases.items():
            for kind, about, who in self._silent(key, case, now):
                found[key[0], kind, about, who] = True
        for subject in {fact.subject for fact in self.facts}:
            for kind, item, due in self._due(subject):
                warned = days_before(due, self.city.clocks.warn_days)
                if warned <= now.astimezone(ZONE).date():
                    found[subject, kind, item, "hookup-office"] = warned != now.astimezone(ZONE).date()
        return found

    def _silent(self, key: Key, case: Case, now: datetime) -> Iterator[tuple[str, Any, str]]:
        operator, kind = key[2], key[3]
        promise = self.city.promises[self.city.operators[operator].utility]
        assert case.opened
        open = case.stands == "OPEN" and not over(kind, case.progress)
        if (
            open
            and kind != "PROTECT"
            and case.progress is None
            and ends(case.opened, now) > self.city.clocks.contact_days
        ):
            yield "NO_CONTACT", key, operator
        if open and kind == "PROTECT" and case.protection is None and ends(case.opened, now) > promise.protect_days:
            yield "NO_PROTECTION_ANSWER", key, operator
        if open and kind != "PROTECT" and case.progress == "ACCEPTED" and self.own(case, now) > promise.plan_days:
            yield "NO_PLAN", key, operator
        if open and kind != "PROTECT" and case.accepted and self.own(case, now) > promise.connect_days:
            yield "NO_CONNECTION", key, operator
        if (
            case.stands == "SUSPENDED"
            and not over(kind, case.progress)
            and not case.acknowledged
            and ends(case.rests[-1][0], now) > 1
        ):
            yield "NO_ACKNOWLEDGEMENT", key, operator
        for works, department in self.needed(key, case):
            permit = case.permits.get(works)
            if (
                department
                and permit
                and permit.open
                and not permit.decision
                and ends(permit.asked, now) > self.city.works.days
            ):
                yield "NO_PERMIT_DECISION", (key, works), department

    def own(self, case: Case, now: datetime) -> int:
        """Working days since it was accepted that were the utility's own. A rest is nobody's."""
        after = [at for _, at in case.steps[1:]] + [now]
        used = 0
        for (status, start), until in zip(case.steps, after, strict=True):
            if status != "CONTACTED" and OWNER.get(status, "UTILITY") == "UTILITY":
                rests = [(max(start, a), min(until, b or now)) for a, b in case.rests]
                used += ends(start, until) - sum(ends(a, b) for a, b in rests if a < b)
        return used

    def _due(self, subject: str) -> Iterator[tuple[str, str, date]]:
        begun = any(fact.data["action"] == "WORKS_BEGUN" for fact in self.of(DEMAND, subject))
        standing = [
            (fact, since)
            for fact, now, since in self.items(APPROVAL, subject)
            if now == "IN_FORCE" and not fact.data["historical"]
        ]
        permits = [
            (fact, since) for fact, since in standing if fact.data["decision_kind"] == "CONSTRUCTION" and not begun
        ]
        for fact, since in permits:
            extended = [told.data["decision"] for told in since].count("EXTENDED")
            times = 1 + min(extended, self.city.clocks.lapse_extensions)
            yield (
                "NO_START_OF_WORKS",
                fact.data["item_instance"],
                months_after(self._day(fact), times * self.city.clocks.lapse_months),
            )
        for fact, since in standing:
            if fact.data["missing_due"] and "CONDITION_MET" not in [told.data["decision"] for told in since]:
                yield "CONDITION_DUE", fact.data["item_instance"], fact.data["missing_due"]

    # -- contact data ----------------------------------------------------------------------------------------------------
    def authorised(self, subject: str, operator: str) -> list[str] | None:
        """Which personal fields an operator may see."""
        about = [fact for fact in self.of(DEMAND, subject) if fact.data["action"] in ("CONSENTED", "CONSENT_WITHDRAWN")]
        mine = [
            fact for fact in about if operator in fact.data["operators_chosen"] or not fact.data["operators_chosen"]
        ]
        opened = [name for name in ("contact_name", "contact_phone") if mine and mine[-1].data[name] is not None]
        return opened or None

    # -- steps -----------------------------------------------------------------------------------------------------------
    def _step(self, fact: Told, key: Key | None) -> None:
        status, protection = fact.data["status"], fact.data.get("protection")
        if key is None or key not in self.cases:
            self.refused.append(("unknown-case", fact.data["case"], fact))
        elif not right(key[3], self.cases[key], status, protection):
            self.refused.append(("wrong-step", fact.data["case"], fact))
        elif status in ECHOES:
            self.cases[key].acknowledged = status
        else:
            case = self.cases[key]
            case.steps.append((status, fact.at))
            case.protection = case.protection or protection
            case.plan = fact.data.get("plan") or case.plan
