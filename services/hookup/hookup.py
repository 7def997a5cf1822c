"""The service: facts in, cases out, level-triggered through the city's trigger table.

What is due is *wanted minus requested*, from all facts known: cases, permits for their works, shared trenches, absences.
The authoritative facts are those that the topic files name; `engineering.item.progressed.v1` is never read here: it only draws.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import cache, cached_property, lru_cache
from typing import Any
from uuid import NAMESPACE_URL, uuid5
from zoneinfo import ZoneInfo

from jietong.city import City
from jietong.event import Draft, Event
from jietong.service import Learned
from jietong.store import Transaction, placeholders
from jietong.workdays import Deadline, Pause, Workdays
from services.hookup import ahead, knowing, promises, trench
from services.hookup import permits as parallel
from services.hookup.cases import (
    ACCEPTED_ON,
    AFTER,
    CANCELLED,
    FALLEN,
    IN_FORCE,
    OPEN,
    SUSPENDED,
    UNSUPPLIED,
    Case,
    Content,
    Identity,
    Support,
    Want,
    Wanted,
    again,
    next_status,
    target,
    wanted,
)  # fmt: skip
from services.hookup.clocks import OFFICE, Clock, Clocks, Life, Step
from services.hookup.facts import dumps, known, loads, sort_fields
from services.hookup.knowing import Demand, Known, Refusal, columns, following_case, mark
from services.hookup.learning import (
    ABSENCE,
    ACCEPTANCE,
    ANEW,
    APPROVAL,
    DEMAND,
    PERMIT_DECIDED,
    PERMIT_REQUESTED,
    PROGRESSED,
    PROJECT,
    REQUESTED,
    SURVEY,
    TRENCH,
    Learning,
)  # fmt: skip
from services.hookup.machine import over
from services.hookup.permits import Need, Permit, decides

NOT_OF_THE_CASE = frozenset({
    "status", "round", "reason", "project", "demand", "demand_basis", "fields_known", "fields_to_ask", "permits", "permits_reason",
    "refused_step", "refused_because", "authorised",
})  # fmt: skip
"""What a request says of its moment, or of the whole project: not kept with the case."""
WHERE = ("site_regions", "authority_region", "functional_zone")
PERSONAL = ("contact_name", "contact_phone")
WAKES = 200
"""Subjects looked at in one transaction because their time has come."""
CASE_COLUMNS = ("id", "utility", "requested", "confirmed", "round", "content", "said", "opened", "asked", "receipt")
CASE = """INSERT INTO case_ (subject, work, operator, business_kind, phase, id, utility, requested, confirmed, round, content, data, opened,
asked, receipt) VALUES (:subject, :work, :operator, :business_kind, :phase, :id, :utility, :requested, :confirmed, :round, :content, :said,
:opened, :asked, :receipt)
ON CONFLICT (subject, work, operator, business_kind, phase) DO UPDATE SET requested = :requested, confirmed = :confirmed,
round = :round, content = :content, data = :said, opened = :opened, asked = :asked, receipt = :receipt"""
UNANSWERED = """UPDATE case_ SET acknowledged = CASE WHEN EXISTS (SELECT 1 FROM step WHERE step.subject = :subject AND step.case_id = :case
AND step.status = 'SUSPENDED' AND step.at >= :since) THEN 'SUSPENDED' END WHERE subject = :subject AND id = :case"""
"""A suspension waits for its own echo. `since`: remembered after a restore, an echo from then on is of it; null: none is."""
RESTS = """INSERT INTO rest (subject, case_id, since) VALUES (:subject, :case, :at) ON CONFLICT (subject, case_id, since) DO NOTHING"""
RESTED = "UPDATE rest SET until = :at WHERE subject = :subject AND case_id = :case AND until IS NULL AND since <= :at"
PERMIT = """INSERT INTO permit (subject, permit, case_id, operator, works_kind, department, route, requested, round, content, data, asked, due)
VALUES (:subject, :permit, :case_id, :operator, :works_kind, :department, :route, :requested, :round, :content, :data, :asked, :due)
ON CONFLICT (subject, permit) DO UPDATE SET requested = :requested, round = :round, route = :route, data = :data, asked = :asked, due = :due,
decision = CASE WHEN permit.decided >= :since THEN permit.decision END, reason = CASE WHEN permit.decided >= :since THEN permit.reason END,
decided = CASE WHEN permit.decided >= :since THEN permit.decided END"""
"""Asked for anew it waits for a new decision. `since`: remembered after a restore, what was decided from then on is on it; null: nothing is."""
CALLED_BACK = "UPDATE permit SET requested = :requested, round = :round WHERE subject = :subject AND permit = :permit"
ABSENT = """INSERT INTO absence (subject, absence, kind, about, status, round, responsible, case_id, operator, since, due, provisional, noticed)
VALUES (:subject, :absence, :kind, :about, :status, :round, :responsible, :case, :operator, :since, :due, :provisional, :now)
ON CONFLICT (subject, absence) DO UPDATE SET status = :status, round = :round, since = :since, due = :due, provisional = :provisional,
responsible = :responsible, noticed = CASE WHEN :status = 'NOTICED' THEN :now ELSE absence.noticed END,
ended = CASE WHEN :status = 'ENDED' THEN :now ELSE NULL END"""
TASK = """INSERT INTO task (id, subject, kind, about, detail, unit, since, gone) VALUES (:id, :subject, :kind, :about, :detail, :unit, :since, 0)
ON CONFLICT (id) DO UPDATE SET done = NULL, gone = 0, detail = :detail, since = :since"""
WAKE = """INSERT INTO wake (subject, at, guessed) VALUES (:subject, :at, :guessed)
ON CONFLICT (subject) DO UPDATE SET at = :at, guessed = :guessed"""


class Hookup:
    """See `jietong.service.Service`. `clock`: ms since 1970 UTC; what is absent is a question of the hour."""

    name = "hookup"
    types = (PROJECT, APPROVAL, ACCEPTANCE, DEMAND, PROGRESSED, PERMIT_DECIDED, SURVEY)

    def __init__(self, city: City, clock: Callable[[], int]) -> None:
        self.city, self.clock = city, clock
        working = city.working
        self.zone = ZoneInfo(working.zone)
        days = Workdays(
            zone=working.zone, cut_off=working.cut_off, days_off=working.days_off, work_days=working.work_days
        )
        self.clocks = Clocks(city, days)
        self.departments = {id: department.name.zh for id, department in city.departments.items()}
        self._learning = Learning(city)
        self._fields = cache(city.fields)
        self._serving = lru_cache(maxsize=10_000)(self._operators)
        self._receipts = lru_cache(maxsize=1024)(self._written)

    def _operators(self, utility: str, regions: Sequence[str], on: date, red_line: str | None) -> list[str]:
        return [operator.id for operator in self.city.serving(utility, regions, on, red_line)]

    def among(self, tx: Transaction, subjects: Sequence[str]) -> Transaction:
        return ahead.among(tx, subjects)

    def learn(self, tx: Transaction, event: Event) -> Learned:
        return self._learning.learn(tx, event)

    def waking(self, tx: Transaction, now: int) -> Sequence[str]:
        """Subjects with a clock that has run out, or that counted on a year whose calendar is published since."""
        rows = tx.execute("SELECT subject FROM wake WHERE at <= :now OR guessed < :year ORDER BY at LIMIT :most",
                          {"now": now, "year": self.clocks.published, "most": WAKES}).all()  # fmt: skip
        return [row[0] for row in rows]

    # -- due -------------------------------------------------------------------------------------------------------------
    def due(self, tx: Transaction, subject: str, cause: Event | None) -> Iterable[Draft]:
        """Bring everything of a subject to where its facts want it."""
        turn = _Turn(tx, Known(tx, subject, self.zone), cause, self.clock())
        wants = self.wants(turn.told)
        drafts: list[Draft] = []
        for identity in sorted(wants.live.keys() | turn.told.cases.keys()):
            drafts += self._of_case(turn, identity, wants)
        drafts += self._answers(turn)
        drafts += self._trenches(turn)
        drafts += self._absences(turn)
        self._breaches(turn)
        self._level_tasks(turn, wants)
        return drafts

    def wants(self, told: Known) -> Wanted:
        """What its facts want; a case may want another (an owner that must move its pipe), as long as it stands itself."""
        red_line = told.red_line

        def serving(utility: str, regions: Sequence[str], on: date) -> Sequence[str]:
            return self._serving(utility, regions, on, red_line)

        supports = [s for s in told.supports if s.type != PROGRESSED]
        derived = [s for s in told.supports if s.type == PROGRESSED]
        wants = wanted(supports, told.works, told.chosen, serving)
        by_case = {case.id: identity for identity, case in told.cases.items()} if derived else {}
        for _ in derived:  # a chain is as long as it has links at most
            following = [following_case(s, by_case.get(s.item), _stands(wants, by_case.get(s.item))) for s in derived]
            before, wants = wants, wanted([*supports, *following], told.works, told.chosen, serving)
            if wants == before:
                break
        return wants

    def _of_case(self, turn: _Turn, identity: Identity, wants: Wanted) -> Iterator[Draft]:
        told, want = turn.told, wants.live.get(identity)
        case = told.cases.get(identity)
        if case is None:
            case = told.cases[identity] = Case(identity.case(told.subject), want.utility if want else "")
        applied = wants.applied.get(identity)
        if applied is not None and again(case, applied):
            if case.asked >= applied:  # said already, as is remembered after a restore
                case.opened = case.asked
            else:
                case.requested, case.confirmed = CANCELLED, False
            case.progress = case.progressed = case.plan = case.protection = None
            turn.tx.execute(ANEW, {"subject": told.subject, "case": case.id, "opened": case.opened})
        aim = target(wants, identity, case.progress)
        yield from self._permits(turn, identity, case, aim)
        yield from self._brought(turn, identity, case, aim, want, wants)

    def _brought(
        self, turn: _Turn, identity: Identity, case: Case, aim: str | None, want: Want | None, wants: Wanted
    ) -> Iterator[Draft]:
        told, asked, declined = turn.told, identity in wants.applied, identity in wants.declined
        demand, permits = told.demand(identity), parallel.state(turn.permits(case.id), self.departments)
        content = self._content(told, identity, want, demand, permits, case)
        while status := next_status(identity, case, aim, demand is not None, content, asked):
            opens = status in ("LEAD", "REQUESTED") and case.requested not in (OPEN, SUSPENDED)
            moment = turn.moment(want)
            reason = _reason(
                status, told, want, declined, asked, content.why(case.content) if status == "AMENDED" else ""
            )
            today = self._today(told, identity, case.utility, demand)
            if opens:
                case.opened = _millis(moment)
                case.receipt = self._receipt(
                    identity, case.opened, len(today["fields_known"]), len(today["fields_to_ask"])
                )
            said = self._said(told, identity, want, case) if want else loads(case.said)
            case.round, case.requested, case.said, case.content = (
                case.round + 1,
                AFTER[status],
                dumps(said),
                str(content),
            )
            if status != "AMENDED":
                case.asked = _millis(moment)
            case.confirmed = (case.confirmed or status == "REQUESTED") and status != "LEAD"
            turn.tx.execute(CASE, {"subject": told.subject, **identity._asdict(), **columns(case)})
            if status == SUSPENDED:
                case.acknowledged = None
                turn.tx.execute(UNANSWERED, {"subject": told.subject, "case": case.id, "since": None})
                told.has["rest"] = True
            if status != "AMENDED" and told.has["rest"]:
                _rest(turn.tx, told.subject, case)
            yield Draft(
                type=REQUESTED, subject=told.subject, time=moment, operator=identity.operator, about=(case.id, str(case.round)),
                data={**said, **today, "status": status, "round": case.round, "reason": reason, "permits": permits[0] or None,
                      "permits_reason": permits[1][:1000] or None, **_authorised(told, identity.operator, today)},
            )  # fmt: skip

    def _content(
        self,
        told: Known,
        identity: Identity,
        want: Want | None,
        demand: Demand | None,
        permits: tuple[str, str],
        case: Case,
    ) -> Content:
        if want is None:
            kept = Content(*case.content.split("\x1f")) if case.content else Content("", "", "", "", "")
            return kept._replace(authorised=_consented(told, identity.operator), permits=kept.permits)
        support = want.support
        return Content(
            told.mark, want.work or "", " ".join(support.site_regions), support.functional_zone or "",
            f"{demand.basis} {demand.values}" if demand else "",
            f"{support.missing_due} {' '.join(support.missing)}" if support.missing_due else "",
            told.works.origin(identity.work) or "", " ".join(permits), _consented(told, identity.operator),
        )  # fmt: skip

    def _said(self, told: Known, identity: Identity, want: Want, case: Case) -> dict[str, Any]:
        """What a request says of a case itself: kept beside it, so that its cancellation can say it again."""
        support, promise = want.support, self.city.promise(identity.operator)
        receipt, origin = _receipt(case.receipt or "{}"), told.works.origin(identity.work)
        return {
            "case": case.id, "operator": identity.operator, "utility": want.utility, "business_kind": identity.business_kind,
            "phase": identity.phase, "work": want.work, "trigger_type": support.type, "trigger_document": support.document,
            "trigger_kind": support.decision_kind, "trigger_part": support.permit_part, "triggered_at": _moment(support.decided),
            "applicant_visit_required": bool(promise and promise.applicant_visit), "customer_role": want.customer_role,
            "contact_within_hours": promise.contact_within_hours if promise else None, "site_regions": list(support.site_regions),
            "authority_region": support.authority_region, "functional_zone": support.functional_zone, "historical": False,
            "answer_by": receipt.get("contact_by"), "answer_by_provisional": receipt.get("provisional"),
            "promised_plan_days": receipt.get("plan_days"), "promised_connect_days": receipt.get("connect_days"),
            "promised_fee": receipt.get("fee"), "promised_boundary": receipt.get("boundary"),
            "missing": list(support.missing) or None, "missing_due": support.missing_due,
            "continues": identity._replace(work=origin).case(told.subject) if origin is not None else None,
        }  # fmt: skip

    def _today(self, told: Known, identity: Identity, utility: str, demand: Demand | None) -> dict[str, Any]:
        """What is known of the project now, and what is left to ask the company: the one form, prefilled."""
        values = loads(demand.values) if demand else None
        have, ask = sort_fields(self._fields(utility, identity.business_kind), told.facts, values or {})
        return {"project": told.facts, "demand": values, "demand_basis": demand.basis if demand else "UNKNOWN",
                "fields_known": have, "fields_to_ask": ask}  # fmt: skip

    def _receipt(self, identity: Identity, opened: int, known: int, to_ask: int) -> str:
        return self._receipts(identity.operator, self._answer_by(identity, opened), known, to_ask)

    def _written(self, operator: str, by: Deadline, known: int, to_ask: int) -> str:
        return dumps(promises.receipt(self.city.promise(operator), by, known, to_ask))

    def _answer_by(self, identity: Identity, opened: int) -> Any:
        if identity.business_kind == "PROTECT":
            return self.clocks.protect_by(identity.operator, opened)
        return self.clocks.contact_by(opened)

    # -- parallel permits ------------------------------------------------------------------------------------------------
    def _permits(self, turn: _Turn, identity: Identity, case: Case, aim: str | None) -> Iterator[Draft]:
        """One package of parallel permits for the plan that stands; what another plan asked for is called back."""
        told = turn.told
        plan: dict[str, Any] = loads(case.plan) if case.plan else {}
        works = bool(plan.get("works_external")) and aim == OPEN and not over(identity.business_kind, case.progress)
        if not works and not told.has["permit"] and not told.has["works"]:
            return
        on = _moment(case.progressed or 0).astimezone(self.zone).date()
        said: dict[str, Any] = loads(case.said) if works else {}
        needed = (
            list(parallel.needs(case.id, plan, case.utility, said.get("site_regions", ()), on, self.city))
            if works
            else []
        )
        turn.nobody += [(f"{case.id}/{need}", need) for need in needed if isinstance(need, str)]
        wanted = {need.permit: need for need in needed if isinstance(need, Need)}
        for permit in turn.permits(case.id):
            if permit.permit not in wanted and permit.requested == OPEN:
                permit.requested, permit.round = CANCELLED, permit.round + 1
                yield self._permit(turn, permit, "CANCELLED")
        have = {permit.permit for permit in turn.permits(case.id) if permit.requested == OPEN}
        for need in (wanted[name] for name in sorted(wanted.keys() - have)):
            yield self._asked(turn, identity, case, need, plan, said)
        self._plan_works(turn, identity, case, plan if works else {})

    def _asked(
        self, turn: _Turn, identity: Identity, case: Case, need: Need, plan: Mapping[str, Any], said: Mapping[str, Any]
    ) -> Draft:
        road = self.city.roads.get(plan.get("road") or "")
        moment = turn.moment(None)
        by = self.clocks.permit_by(_millis(moment))
        data: dict[str, Any] = {
            "permit": need.permit, "case": case.id, "operator": identity.operator, "utility": case.utility, "works_kind": need.works_kind,
            "route": need.route, "department": need.department, "parallel_group": case.id, **parallel.said(plan, road),
            "due_on": by.at.astimezone(self.zone).date(), "applicant_uscc": None,
            "applicant_name": self.city.operators[identity.operator].name.zh if identity.operator in self.city.operators else None,
            "materials": [], "item_code": None, "historical": False, **{name: said[name] for name in WHERE},
        }  # fmt: skip
        before = next((p for p in turn.permits(case.id) if p.permit == need.permit), None)
        permit = Permit(need.permit, case.id, identity.operator, need.works_kind, need.department, need.route, OPEN,
                        before.round + 1 if before else 1, "", dumps(data), _millis(moment), _millis(by.at))  # fmt: skip
        turn.told.permits = [p for p in turn.told.permits if p.permit != need.permit] + [permit]
        return self._permit(turn, permit, "REQUESTED")

    def _permit(self, turn: _Turn, permit: Permit, status: str) -> Draft:
        row = {"subject": turn.told.subject, **{name: getattr(permit, name) for name in PERMIT_COLUMNS}}
        if status == "CANCELLED":
            turn.tx.execute(CALLED_BACK, {name: row[name] for name in ("subject", "permit", "requested", "round")})
        else:
            turn.tx.execute(PERMIT, {**row, "since": None})
        return Draft(type=PERMIT_REQUESTED, subject=turn.told.subject, time=turn.moment(None), about=(permit.permit, str(permit.round)),
                     data={**loads(permit.data), "status": status, "round": permit.round})  # fmt: skip

    def _plan_works(self, turn: _Turn, identity: Identity, case: Case, plan: Mapping[str, Any]) -> None:
        """Where this case's owner wants to dig now; others who dig in that street are looked at again."""
        by = {"subject": turn.told.subject, "case": case.id}
        before = turn.tx.execute(
            "SELECT road, start, finish FROM works WHERE subject = :subject AND case_id = :case", by
        ).one()
        road, start, finish = (plan.get(name) for name in ("road", "planned_start", "planned_finish"))
        now = (road, start.isoformat(), finish.isoformat()) if road and start and finish else None
        if before == now:
            return
        if now is None:
            turn.tx.execute("DELETE FROM works WHERE subject = :subject AND case_id = :case", by)
        else:
            turn.tx.execute("INSERT INTO works (subject, case_id, road, operator, start, finish) "
                            "VALUES (:subject, :case, :road, :operator, :start, :finish) "
                            "ON CONFLICT (subject, case_id) DO UPDATE SET road = :road, start = :start, finish = :finish",
                            {**by, "operator": identity.operator, "road": now[0], "start": now[1], "finish": now[2]})  # fmt: skip
        turn.told.has["works"] = True
        for street, day in {(place[0], place[1]) for place in (before, now) if place}:
            turn.tx.execute("INSERT INTO wake (subject, at) SELECT DISTINCT subject, 0 FROM works WHERE road = :road AND subject <> :subject "
                            "AND start BETWEEN :since AND :until ON CONFLICT (subject) DO UPDATE SET at = 0",
                            {"road": street, "subject": turn.told.subject, **_season(day)})  # fmt: skip

    # -- dig once --------------------------------------------------------------------------------------------------------
    def _trenches(self, turn: _Turn) -> Iterator[Draft]:
        told, tx = turn.told, turn.tx
        if not (told.has["works"] or told.has["trench"]):
            return
        by = {"subject": told.subject}
        stood = {
            row[0]: row[1:]
            for row in tx.execute("SELECT road, status, round, content FROM trench WHERE subject = :subject", by).all()
        }
        own = {road: (first, last) for road, first, last in tx.execute(
            "SELECT road, min(start), max(start) FROM works WHERE subject = :subject GROUP BY road", by).all()}  # fmt: skip
        for road in sorted(own.keys() | stood.keys()):
            rows = tx.execute("SELECT subject, case_id, operator, start, finish FROM works WHERE road = :road AND start BETWEEN :since AND :until",
                              {"road": road, **_season(*own[road])}).all() if road in own else []  # fmt: skip
            planned = [
                trench.Works(subject, case, operator, date.fromisoformat(start), date.fromisoformat(finish))
                for subject, case, operator, start, finish in rows
            ]
            plan = trench.proposal(told.subject, planned, [m for m in self.city.moratoria if m.road == road])
            status, round_, before = stood.get(road, ("WITHDRAWN", 0, ""))
            content = (
                ""
                if plan is None
                else dumps([[list(map(str, w)) for w in plan.works], str(plan.start), str(plan.finish)])
            )
            if content == before:
                continue
            word = "WITHDRAWN" if plan is None else "AMENDED" if status == "PROPOSED" else "PROPOSED"
            stands = "WITHDRAWN" if plan is None else "PROPOSED"
            tx.execute("INSERT INTO trench (subject, road, status, round, content) VALUES (:subject, :road, :status, :round, :content) "
                       "ON CONFLICT (subject, road) DO UPDATE SET status = :status, round = :round, content = :content",
                       {**by, "road": road, "status": stands, "round": round_ + 1, "content": content})  # fmt: skip
            name = str(uuid5(NAMESPACE_URL, "\x1f".join((told.subject, "trench", road))))
            yield Draft(type=TRENCH, subject=told.subject, time=_moment(turn.now), about=(name, str(round_ + 1)),
                        data={"proposal": name, "road": road, "status": word, "round": round_ + 1, **_trench(plan),
                              "site_regions": list(told.where.site_regions)})  # fmt: skip

    # -- absences --------------------------------------------------------------------------------------------------------
    def _absences(self, turn: _Turn) -> Iterator[Draft]:
        """What should have happened by now and has not; what is noticed and has happened since; when to look again."""
        told = turn.told
        running = list(
            self.clocks.of(told.cases, turn.steps, told.permits, told.supports, told.begun, turn.receipts, turn.rests)
        )
        absent = {_absence(told.subject, clock): clock for clock in running if clock.notice <= turn.now}
        noticed = told.absences()
        for name in sorted(absent.keys() - {n for n, a in noticed.items() if a.status == "NOTICED"}):
            clock, before = absent[name], noticed.get(name)
            yield self._absent(turn, name, clock, "NOTICED", before.round + 1 if before else 1)
        for name, was in sorted(noticed.items()):
            if was.status == "NOTICED" and name not in absent:
                gone = Clock(
                    was.kind,
                    was.about,
                    was.responsible,
                    was.since,
                    was.due,
                    bool(was.provisional),
                    was.due,
                    was.case,
                    was.operator,
                )
                yield self._absent(turn, name, gone, "ENDED", was.round + 1)
        self._wake(turn, [clock for clock in running if clock.notice > turn.now])

    def _absent(self, turn: _Turn, name: str, clock: Clock, status: str, round: int) -> Draft:
        subject = turn.told.subject
        turn.tx.execute(ABSENT, {
            "subject": subject, "absence": name, "kind": clock.kind, "about": clock.about, "status": status, "round": round,
            "responsible": clock.responsible, "case": clock.case, "operator": clock.operator, "since": clock.since, "due": clock.due,
            "provisional": int(clock.provisional), "now": turn.now,
        })  # fmt: skip
        return Draft(type=ABSENCE, subject=subject, time=_moment(turn.now), about=(name, str(round)), data={
            "absence": name, "kind": clock.kind, "status": status, "round": round, "responsible": clock.responsible, "about": clock.about[:200],
            "case": clock.case, "operator": clock.operator, "since": _moment(clock.since), "due_at": _moment(clock.due),
            "provisional": clock.provisional, "site_regions": list(turn.told.where.site_regions),
            "authority_region": turn.told.where.authority_region or None,
        })  # fmt: skip

    def _wake(self, turn: _Turn, ahead: Sequence[Clock]) -> None:
        by = {"subject": turn.told.subject}
        before = turn.tx.execute(knowing.WAKES, by).one()
        guessed = self.clocks.published if any(clock.provisional for clock in ahead) else None
        now = (min(clock.notice for clock in ahead), guessed) if ahead else None
        if now is None and before:
            turn.tx.execute("DELETE FROM wake WHERE subject = :subject", by)
        elif now and now != before:
            turn.tx.execute(WAKE, {**by, "at": now[0], "guessed": now[1]})

    # -- refused steps and broken promises -------------------------------------------------------------------------------
    def _answers(self, turn: _Turn) -> Iterator[Draft]:
        """Every step that was not applied is answered to its sender, once."""
        told = turn.told
        cases = {case.id: (identity, case) for identity, case in told.cases.items()}
        for refusal in turn.refusals:
            if refusal.answered or not refusal.operator:
                continue
            turn.tx.execute("UPDATE refusal SET answered = 1 WHERE subject = :subject AND event = :event",
                            {"subject": told.subject, "event": refusal.event})  # fmt: skip
            found = cases.get(refusal.case)
            if found and found[0].operator == refusal.operator and found[1].round:
                yield self._corrected(turn, *found, refusal)
            else:
                yield self._unknown(turn, refusal)

    def _corrected(self, turn: _Turn, identity: Identity, case: Case, refusal: Refusal) -> Draft:
        told = turn.told
        case.round += 1
        case.content = str(
            Content(*case.content.split("\x1f"))._replace(authorised=_consented(told, identity.operator))
        )
        turn.tx.execute(CASE, {"subject": told.subject, **identity._asdict(), **columns(case)})
        status = {OPEN: "AMENDED", SUSPENDED: "SUSPENDED"}.get(case.requested, "CANCELLED")
        today = self._today(told, identity, case.utility, told.demand(identity))
        permits = parallel.state(turn.permits(case.id), self.departments)
        return Draft(
            type=REQUESTED, subject=told.subject, time=turn.moment(None), operator=identity.operator, about=(case.id, str(case.round)),
            data={**loads(case.said), **today, "status": status, "round": case.round, "reason": "WRONG_STEP", "permits": permits[0] or None,
                  "permits_reason": permits[1][:1000] or None, "refused_step": refusal.event, "refused_because": refusal.because[:500],
                  **_authorised(told, identity.operator, today)},
        )  # fmt: skip

    def _unknown(self, turn: _Turn, refusal: Refusal) -> Draft:
        """Its sender holds a case that nobody asked of it: told to close it, and nothing of the project."""
        step = refusal.data
        operator = self.city.operators.get(refusal.operator)
        return Draft(
            type=REQUESTED, subject=turn.told.subject, time=turn.moment(None), operator=refusal.operator,
            about=(refusal.case, "unknown", refusal.event),
            data={
                "case": refusal.case, "operator": refusal.operator, "utility": operator.utility if operator else "UNKNOWN",
                "business_kind": step["business_kind"], "phase": step["phase"], "work": step.get("work"), "status": "CANCELLED", "round": 1,
                "reason": "UNKNOWN_CASE", "triggered_at": _moment(refusal.at), "project": {}, "authority_region": turn.told.where.authority_region,
                "refused_step": refusal.event, "refused_because": refusal.because[:500],
            },
        )  # fmt: skip

    def _breaches(self, turn: _Turn) -> None:
        """Receipts against what came; a breach once noted stays."""
        told = turn.told
        if not told.has["step"] or (turn.cause and turn.cause.type not in (PROGRESSED, PERMIT_DECIDED)):
            return
        for case in told.cases.values():
            life = Life(turn.steps.get(case.id, ()), turn.rests.get(case.id, ()))
            state = parallel.state(turn.permits(case.id), self.departments)[0]
            allowed = state in ("", parallel.ALL_GRANTED)
            for kind, detail in promises.breaches(
                case.opened, turn.receipts.get(case.id, {}), life, self.clocks, allowed
            ):
                turn.tx.execute("INSERT INTO breach (subject, case_id, kind, detail, since) VALUES (:subject, :case, :kind, :detail, :now) "
                                "ON CONFLICT (subject, case_id, kind) DO NOTHING",
                                {"subject": told.subject, "case": case.id, "kind": kind, "detail": detail, "now": turn.now})  # fmt: skip

    # -- tasks: what waits for a person ----------------------------------------------------------------------------------
    def _level_tasks(self, turn: _Turn, wants: Wanted) -> None:
        """Tasks follow from the facts: opened with their cause and closed with it. One that a person has closed stays
        closed until its cause is gone and comes again."""
        told, due = turn.told, self._tasks(turn, wants)
        rows = turn.tx.execute(knowing.TASKS, {"subject": told.subject}).all()
        stand = {(kind, about): (id, done, gone) for id, kind, about, done, gone in rows}
        for kind, about in sorted(due):
            id, done, gone = stand.get(
                (kind, about), (str(uuid5(NAMESPACE_URL, "\x1f".join((told.subject, kind, about)))), 1, 1)
            )
            if done is not None and gone:
                detail, unit = due[kind, about]
                turn.tx.execute(TASK, {"id": id, "subject": told.subject, "kind": kind, "about": about, "detail": detail, "unit": unit,
                                       "since": turn.now})  # fmt: skip
        for what, (id, _, gone) in sorted(stand.items()):
            if what not in due and not gone:
                turn.tx.execute(
                    "UPDATE task SET done = coalesce(done, :now), gone = 1 WHERE id = :id", {"id": id, "now": turn.now}
                )

    def _tasks(self, turn: _Turn, wants: Wanted) -> dict[tuple[str, str], tuple[str, str]]:
        """(kind, about): what to do, and in whose queue."""
        due = {
            ("uncovered", f"{utility}/{kind}"): ("no operator serves this area: find one", OFFICE)
            for utility, kind in wants.uncovered
        }
        for identity, case in turn.told.cases.items():
            who = identity.operator
            if case.progress == "REFUSED":
                due["refused", case.id] = (f"{who} refused {identity.business_kind}", OFFICE)
            if case.progress == "CONNECTED" and identity not in wants.live.keys() | wants.resting.keys():
                due["connected-without-support", case.id] = (
                    f"{who}: connected, and its approval fell: nothing is cut; decide",
                    OFFICE,
                )
            under_way = case.progress in ACCEPTED_ON and not over(identity.business_kind, case.progress)
            if case.requested == SUSPENDED and under_way:
                due["suspended", case.id] = (
                    f"{who}: accepted, and its support fell or rests: make safe, then decide",
                    OFFICE,
                )
        for about, works in turn.nobody:
            due["no-department", about] = (
                f"no department of the city decides {works}: name one in the city pack",
                OFFICE,
            )
        self._questions(turn, due)
        return due

    def _questions(self, turn: _Turn, due: dict[tuple[str, str], tuple[str, str]]) -> None:
        """What a person must look into: steps that were not applied, and what the company objects to."""
        for refusal in turn.refusals:
            said = f"{refusal.operator}: {refusal.because}", OFFICE
            if refusal.because.startswith("no such"):
                due["unknown-case", refusal.case] = said
            else:
                due["wrong-step", refusal.event] = said
        if turn.told.has["objection"]:
            by = {"subject": turn.told.subject}
            for event, to in turn.tx.execute(
                "SELECT event, objects_to FROM objection WHERE subject = :subject", by
            ).all():
                due["objection", event] = (f"the company objects{f' to {to}' if to else ''}: verify and answer", OFFICE)

    # -- remember, subjects ----------------------------------------------------------------------------------------------
    def remember(self, tx: Transaction, event: Event) -> None:
        """One of its own, come back from the log: what was said last stands in its row again."""
        match event.type:
            case t if t == REQUESTED:
                self._remember_case(tx, event)
            case t if t == PERMIT_REQUESTED:
                self._remember_permit(tx, event)
            case t if t == ABSENCE:
                data = event.data
                tx.execute(ABSENT, {
                    **{name: data[name] for name in ("absence", "kind", "about", "status", "round", "responsible", "case", "operator")},
                    "subject": event.subject, "since": _millis(data["since"]), "due": _millis(data["due_at"]),
                    "provisional": int(data["provisional"]), "now": _millis(event.time),
                })  # fmt: skip
            case t if t == TRENCH:
                tx.execute("INSERT INTO trench (subject, road, status, round, content) VALUES (:subject, :road, :status, :round, '-') "
                           "ON CONFLICT (subject, road) DO UPDATE SET status = :status, round = :round, content = '-'",
                           {"subject": event.subject, "road": event.data["road"], "round": event.data["round"],
                            "status": "WITHDRAWN" if event.data["status"] == "WITHDRAWN" else "PROPOSED"})  # fmt: skip
            case _:
                pass

    def _remember_case(self, tx: Transaction, event: Event) -> None:
        data = dict(event.data)
        if data["refused_step"]:
            tx.execute(
                "UPDATE refusal SET answered = 1 WHERE subject = :s AND event = :event",
                {"s": event.subject, "event": data["refused_step"]},
            )
        if data["reason"] == "UNKNOWN_CASE":
            return
        told = Known(tx, event.subject, self.zone)
        slots = ("", *told.works.all, *([data["work"]] if data["work"] else []))
        known_as = [Identity(slot, data["operator"], data["business_kind"], data["phase"]) for slot in slots]
        identity = next((name for name in known_as if name.case(event.subject) == data["case"]), None)
        if identity is None:
            return
        slot = identity.work
        said = {name: value for name, value in data.items() if name not in NOT_OF_THE_CASE}
        demand = f"{data['demand_basis']} {dumps(known(data['demand']))}" if data["demand"] else ""
        shared = [name for name in PERSONAL if name in (data["authorised"] or ())]
        facts = {name: value for name, value in known(data["project"]).items() if name not in shared}
        contact = dumps({name: data["project"][name] for name in shared}) if shared else ""
        content = Content(
            mark(facts), data["work"] or "", " ".join(data["site_regions"]), data["functional_zone"] or "", demand,
            f"{data['missing_due']} {' '.join(data['missing'] or ())}" if data["missing_due"] else "", told.works.origin(slot) or "",
            " ".join((data["permits"] or "", data["permits_reason"] or "")), contact,
        )  # fmt: skip
        before = told.cases.get(identity) or Case(data["case"], data["utility"])
        confirmed = data["status"] == "REQUESTED" or (data["status"] != "LEAD" and before.confirmed)
        ended = _ended(tx, event, before) if data["status"] == "REQUESTED" and before.requested == OPEN else None
        opens = data["status"] in ("LEAD", "REQUESTED") and (before.requested != OPEN or ended is not None)
        opened = _millis(event.time) if opens else before.opened
        made = self._receipt(identity, opened, len(data["fields_known"]), len(data["fields_to_ask"]))
        receipt = before.receipt if opened == before.opened else made
        moves = data["status"] != "AMENDED" and not data["refused_step"]
        asked = _millis(event.time) if moves else before.asked
        case = Case(data["case"], data["utility"], AFTER[data["status"]], confirmed, data["round"], str(content), dumps(said),
                    opened=opened or _millis(event.time), asked=asked, receipt=receipt)  # fmt: skip
        tx.execute(CASE, {"subject": event.subject, **identity._asdict(), **columns(case)})
        if ended is not None and (before.progressed or 0) <= ended:
            tx.execute(ANEW, {"subject": event.subject, "case": case.id, "opened": opened})
        if moves and data["status"] == SUSPENDED:
            tx.execute(UNANSWERED, {"subject": event.subject, "case": case.id, "since": asked})
        if moves:
            _rest(tx, event.subject, case)

    def _remember_permit(self, tx: Transaction, event: Event) -> None:
        data = {name: value for name, value in event.data.items() if name not in ("status", "round")}
        named = {"subject": event.subject, "permit": data["permit"], "round": event.data["round"]}
        if event.data["status"] == "CANCELLED":
            tx.execute(CALLED_BACK, {**named, "requested": CANCELLED})
            return
        asked = _millis(event.time)
        tx.execute(PERMIT, {
            **named, "since": decides(event.data["round"], asked), "case_id": data["case"], "requested": OPEN, "content": "",
            **{name: data[name] for name in ("operator", "works_kind", "department", "route")}, "data": dumps(data), "asked": asked,
            "due": _millis(self.clocks.permit_by(asked).at),
        })  # fmt: skip

    def subjects(self, tx: Transaction) -> Iterable[str]:
        return [
            row[0]
            for row in tx.execute(
                "SELECT subject FROM project UNION SELECT subject FROM support UNION SELECT subject FROM case_"
            ).all()
        ]


PERMIT_COLUMNS = (
    "permit",
    "case_id",
    "operator",
    "works_kind",
    "department",
    "route",
    "requested",
    "round",
    "content",
    "data",
    "asked",
    "due",
)


class _Turn:
    """One look at one subject: what is known, and what is read only if it is needed."""

    def __init__(self, tx: Transaction, told: Known, cause: Event | None, now: int) -> None:
        self.tx, self.told, self.cause, self.now = tx, told, cause, now
        self.refusals: Sequence[Refusal] = told.refusals()
        self.nobody: list[tuple[str, str]] = []
        """(about, kind of works) that no department decides."""

    @cached_property
    def steps(self) -> Mapping[str, Sequence[Step]]:
        """Of the life of each case that goes on now: one that was cancelled or ended and asked for again begins anew."""
        opened = {case.id: case.opened for case in self.told.cases.values()}
        return {
            case: [step for step in steps if step.at >= opened.get(case, 0)]
            for case, steps in self.told.steps().items()
        }

    @cached_property
    def rests(self) -> Mapping[str, Sequence[Pause]]:
        """By case; what this turn said is among them."""
        return self.told.rests()

    @property
    def receipts(self) -> Mapping[str, Mapping[str, Any]]:
        return {case.id: _receipt(case.receipt) for case in self.told.cases.values() if case.receipt}

    def permits(self, case: str) -> list[Permit]:
        return [permit for permit in self.told.permits if permit.case_id == case]

    def moment(self, want: Want | None) -> datetime:
        """When what is said now is said: with its cause; without one, when it was decided, so that it is said the same again."""
        if self.cause:
            return self.cause.recorded
        return _moment(want.support.decided if want else self.now)


@lru_cache(maxsize=1024)
def _receipt(text: str) -> Mapping[str, Any]:
    return loads(text)


def _ended(tx: Transaction, event: Event, case: Case) -> int | None:
    """When the case had ended without a supply before it was asked for once more; None: it had not."""
    named, statuses = placeholders("s", sorted(UNSUPPLIED))
    rows = tx.execute(
        f"SELECT max(at) FROM step WHERE subject = :subject AND case_id = :case AND at >= :opened AND at < :now AND status IN ({named})",
        {"subject": event.subject, "case": case.id, "opened": case.opened, "now": _millis(event.time), **statuses},
    ).all()  # fmt: skip
    return rows[0][0]


def _rest(tx: Transaction, subject: str, case: Case) -> None:
    """It rests from the moment it was told to; told anything else, it rests no more."""
    at = {"subject": subject, "case": case.id, "at": case.asked}
    tx.execute(RESTS if case.requested == SUSPENDED else RESTED, at)


def _stands(wants: Wanted, identity: Identity | None) -> str:
    if identity in wants.live:
        return IN_FORCE
    return SUSPENDED if identity in wants.resting else FALLEN


def _consented(told: Known, operator: str) -> str:
    return dumps(told.consents[operator]) if operator in told.consents else ""


def _authorised(told: Known, operator: str, today: Mapping[str, Any]) -> dict[str, Any]:
    """Contact data goes to an operator only on the company's consent, under a key made for that operator."""
    contact = told.consents.get(operator, {})
    return {"project": {**today["project"], **contact}, "authorised": sorted(contact) or None}


def _season(first: str, last: str | None = None) -> dict[str, str]:
    """From one season before the first day to one after the last."""
    season = timedelta(days=trench.SEASON)
    return {
        "since": (date.fromisoformat(first) - season).isoformat(),
        "until": (date.fromisoformat(last or first) + season).isoformat(),
    }


def _trench(plan: trench.Trench | None) -> dict[str, Any]:
    if plan is None:
        return {"works": []}
    works = [
        {
            "subject": w.subject,
            "case": w.case,
            "operator": w.operator,
            "planned_start": w.start,
            "planned_finish": w.finish,
        }
        for w in plan.works
    ]
    closed = plan.moratorium
    return {"works": works, "window_start": plan.start, "window_finish": plan.finish, "moratorium_until": closed.until if closed else None,
            "moratorium_reason": closed.reason if closed else None}  # fmt: skip


def _absence(subject: str, clock: Clock) -> str:
    return str(uuid5(NAMESPACE_URL, "\x1f".join((subject, clock.kind, clock.about))))


def _reason(status: str, told: Known, want: Want | None, declined: bool, asked: bool, amended: str) -> str:
    if status in ("SUSPENDED", "CANCELLED"):
        return "PROJECT_CANCELLED" if told.cancelled else "CUSTOMER_ASKED" if declined else "SUPPORT_FELL"
    if status == "LEAD":
        support: Support | None = want.support if want else None
        kind = support.type if support else ""
        return {PROJECT: "PROJECT_DECIDED", PROGRESSED: "UTILITY_ASKED"}.get(kind, "APPROVAL_DECIDED")
    if status == "REQUESTED":
        return "CUSTOMER_ASKED" if asked else "DEMAND_CONFIRMED"
    return amended or "SUPPORT_RETURNED"


def _millis(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def _moment(millis: int) -> datetime:
    return datetime.fromtimestamp(millis / 1000, UTC)
