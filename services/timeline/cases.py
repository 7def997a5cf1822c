"""What was asked, and what came of it: cases, permits, transfers, absences, proposals and the company's word. Folds as in
`folds`: what is asked comes in rounds, what is answered names the event it answers, and either may be known first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from services.timeline.folds import STILL_APPROVED, Fact, Values, last, millis, said
from services.timeline.words import ENDS, LINES, PATH

ASKED = "utility.connection.requested.v1"
PERMIT_ASKED = "works.permit.requested.v1"
TRANSFER_ASKED = "utility.account.transfer.requested.v1"
OF_CASE = ("operator", "utility", "business_kind", "work", "phase", "contact_within_hours")
OF_PROMISE = (
    "promised_plan_days", "promised_connect_days", "promised_fee", "promised_boundary", "applicant_visit_required",
    "continues",
)  # fmt: skip
OF_MOMENT = ("permits", "missing", "missing_due")
"""What the newest request says of a case as it stands: what it leaves out no longer holds."""
OF_PERMIT = (
    "operator", "works_kind", "route", "department", "department_name", "road", "length_m", "area_m2", "planned_start",
    "planned_finish", "due_on", "parallel_group", "document_number", "accepted_on", "decided_on", "valid_until",
    "working_days_used",
)  # fmt: skip
OF_TRENCH = ("road", "works", "window_start", "window_finish", "moratorium_until", "moratorium_reason")
OF_TRANSFER = (
    "registration", "choice", "registered_on", "read_on", "auto_debit_stopped", "contract_signed", "safety_checked",
    "effective_on",
)  # fmt: skip


@dataclass(slots=True)
class _Case:
    """A case while it is folded: what was asked of the operator, then what it answered to that."""

    kind: str | None
    opened: int = 0
    """The round that opened it, or opened it again after a cancellation: older answers are history."""
    asked: int = 0
    standing: str | None = None
    base: str = "LEAD"
    paused: bool = False
    reached: str | None = None
    ended: tuple[str, int] | None = None
    opening: Fact | None = None
    answered: int | None = None
    """When the operator first said anything."""
    times: dict[str, int] = field(default_factory=dict[str, int])

    def ask(self, fact: Fact) -> None:
        if fact.word in ("LEAD", "REQUESTED"):
            self.asked = fact.detail["round"]
            if self.standing in (None, "CANCELLED"):
                self.opened, self.opening, self.base, self.times = self.asked, fact, "LEAD", {}
            step = "LEAD" if fact.word == "LEAD" else "DEMAND_CONFIRMED"
            self.base = max(self.base, step, key=PATH.index)
            self.times.setdefault(step, fact.recorded)  # a lead is there once it is committed
        if fact.word != "AMENDED":
            self.standing = fact.word

    def answer(self, fact: Fact, to: int) -> None:
        if to < self.opened:
            return
        self.answered = self.answered or fact.time
        if fact.word in ("SUSPENDED", "RESUMED"):
            self.paused = fact.word == "SUSPENDED"
        elif fact.word in ENDS:
            self.ended = (fact.word, to)
        elif fact.word in PATH:
            self.reached, self.ended = fact.word, None
            self.times.setdefault(fact.word, fact.time)

    @property
    def state(self) -> str:
        """What is connected is never cut by an event; an end holds until the operator is asked again."""
        if self.reached == "CONNECTED":
            return self.reached
        if self.reached == "WORKS_FINISHED" and self.kind in LINES:
            return "COMPLETED"
        if self.standing == "CANCELLED":
            return self.standing
        if self.ended and self.ended[1] >= self.asked:
            return self.ended[0]
        if self.standing == "SUSPENDED" or self.paused:
            return "SUSPENDED"
        return self.base if self.ended or not self.reached else max(self.base, self.reached, key=PATH.index)


def connection(facts: list[Fact]) -> Values:
    """公用接入: a case's state from its requests (by round) and its answers. Either may be known before the other.

    A step that was answered as not applied (`refused_step`) moves nothing; it is told beside.
    """
    asks = _by_round(facts, ASKED)
    refused = {fact.detail["refused_step"]: fact for fact in asks if fact.detail.get("refused_step")}
    told = [fact for fact in facts if fact.type != ASKED]
    answers = [fact for fact in told if fact.id not in refused]
    case = _Case(last(facts, "business_kind"))
    for fact in asks:
        case.ask(fact)
    rounds = {fact.id: fact.detail["round"] for fact in asks}
    for fact in answers:
        case.answer(fact, rounds.get(fact.detail["answers_request"], case.asked))
    opening: Values = case.opening.detail if case.opening else {}
    return {
        "reference": facts[0].detail["case"],
        **{name: last(facts, name) for name in OF_CASE},
        **{name: opening.get(name) for name in ("trigger_type", "trigger_kind", "trigger_part")},
        "state": case.state,
        "segment_owner": last(answers[-1:], "segment_owner"),
        "triggered_at": millis(opening.get("triggered_at")),
        **{f"{step.lower()}_at": case.times.get(step) for step in PATH},
        "detail": {
            **said(asks, OF_PROMISE), **said(asks[-1:], OF_MOMENT), **_answer_by(asks), **_answered(case, answers),
            "refused": _refused(refused, told),
        },
        "moved_at": max(fact.time for fact in facts),
    }  # fmt: skip


def _by_round(facts: Iterable[Fact], type_: str | None = None) -> list[Fact]:
    asked = (fact for fact in facts if type_ in (None, fact.type))
    return sorted(asked, key=lambda fact: (fact.detail["round"], fact.source))


def _answer_by(asks: list[Fact]) -> Values:
    """The moment promised for the next word, and whether it may still move: both of the same request."""
    promised = next((fact.detail for fact in reversed(asks) if fact.detail.get("answer_by")), None)
    if promised is None:
        return {}
    return {
        "answer_by": millis(promised["answer_by"]),
        "answer_by_provisional": bool(promised.get("answer_by_provisional")),
    }


def _answered(case: _Case, answers: list[Fact]) -> Values:
    protected = [fact for fact in answers if fact.detail.get("protection")]
    return {
        **said(answers, ("protection", "plan", "promised_days")),
        "answered_at": case.answered,
        "protected_at": protected[-1].time if protected else None,
        "visit_demanded": any(fact.detail.get("visit_demanded") for fact in answers),
    }


def _refused(refused: Mapping[str, Fact], told: list[Fact]) -> list[Values]:
    """Steps that were not applied, by the round that said so. A step not known yet has no word."""
    words = {fact.id: fact.word for fact in told}
    return [
        {"step": words.get(step), "because": fact.detail.get("refused_because"), "at": fact.recorded}
        for step, fact in refused.items()
    ]


def permit(facts: list[Fact]) -> Values:
    """并联许可: as it was last asked for, and what the department decided. A paper (DOCUMENTED) changes no decision."""
    asks = _by_round(facts, PERMIT_ASKED)
    decisions = [fact for fact in facts if fact.type != PERMIT_ASKED]
    decision = decided = None
    for fact in decisions:
        if fact.word in STILL_APPROVED:
            decision = "APPROVED"
        elif fact.word != "DOCUMENTED":
            decision, decided = fact.word, fact.time
    withdrawn = bool(asks) and asks[-1].word == "CANCELLED"
    return {
        "permit": facts[0].detail["permit"],
        "reference": last([*decisions, *asks], "case"),
        "state": "CANCELLED" if withdrawn else decision or "REQUESTED",
        "detail": {
            **said([*asks, *decisions], OF_PERMIT),
            "asked_at": asks[0].time if asks else None,
            "decided_at": decided,
        },
        "moved_at": max(fact.time for fact in facts),
    }


def trench(facts: list[Fact]) -> Values:
    """一次开挖建议, as last told: with whom, where and when to dig together."""
    newest = _by_round(facts)[-1]
    return {
        "proposal": newest.detail["proposal"],
        "state": newest.word,
        "detail": {name: newest.detail.get(name) for name in OF_TRENCH},
        "moved_at": newest.time,
    }


def absence(facts: list[Fact]) -> Values:
    """服务缺位: what did not happen in time, as last told, and when it was noticed this time."""
    told = _by_round(facts)
    newest, noticed = told[-1], None
    for before, fact in pairwise([None, *told]):
        if fact and fact.word == "NOTICED" and (before is None or before.word != "NOTICED"):
            noticed = fact.time
    detail = newest.detail
    return {
        "absence": detail["absence"],
        "state": newest.word,
        **{name: detail.get(name) for name in ("kind", "responsible", "operator", "about")},
        "reference": detail.get("case"),
        "since": millis(detail.get("since")),
        "due": millis(detail.get("due_at")),
        "provisional": bool(detail.get("provisional")),
        "noticed_at": noticed,
        "ended_at": newest.time if newest.word == "ENDED" else None,
    }


def transfer(facts: list[Fact]) -> Values:
    """账户过户: one account, from what was asked of its operator and what it answered to the newest round of it.

    What is done stays done when it is stopped afterwards. What the check before found is kept beside. An account that is
    not found while nothing is chosen yet waits for nobody.
    """
    asks = _by_round(facts, TRANSFER_ASKED)
    answers = [fact for fact in facts if fact.type != TRANSFER_ASKED]
    steps = {fact.detail["round"]: fact.word for fact in asks}
    newest = asks[-1].detail["round"] if asks else 0
    checks = [fact.word for fact in answers if steps.get(fact.detail["answers_round"]) == "PRECHECK"]
    current = [fact.word for fact in answers if fact.detail["answers_round"] >= newest]
    state = current[-1] if current else steps.get(newest, "UNKNOWN")
    if steps.get(newest) == "STOP" and any(fact.word == "DONE" for fact in answers):
        state = "DONE"
    if state == "UNMATCHED" and asks and last(asks[-1:], "choice") is None:
        state = "NOT_FOUND"
    return {
        "transfer": facts[0].detail["transfer"],
        "operator": last(facts, "operator"),
        "utility": last(asks, "utility"),
        "state": state,
        "detail": {
            **said([*asks, *answers], OF_TRANSFER),
            "settlement_seen": bool(asks and asks[-1].detail.get("settlement_seen")),
            "checked": checks[-1] if checks else None,
            "asked_at": asks[0].time if asks else None,
            "answered_at": answers[-1].time if answers else None,
        },
        "moved_at": max(fact.time for fact in facts),
    }


def company(facts: list[Fact]) -> Values:
    """企业意见: what the company confirmed, whom it chose, to whom it opened its contact data, what it objects to."""
    consents, applications, objections = dict[str, bool](), dict[str, Values](), list[Values]()
    confirmed: Fact | None = None
    for fact in facts:
        detail = fact.detail
        match fact.word:
            case "CONFIRMED" | "CORRECTED":
                confirmed = fact
            case "CONSENTED" | "CONSENT_WITHDRAWN":
                named: list[str] = detail.get("operators_chosen") or []
                consents = (consents if named else {}) | dict.fromkeys(named or ["*"], fact.word == "CONSENTED")
            case "APPLIED":
                applications[detail.get("application") or ""] = {
                    **{name: detail.get(name) for name in ("utility", "business_kind")}, "at": fact.time, "withdrawn": False,
                }  # fmt: skip
            case "APPLICATION_WITHDRAWN":
                key = detail.get("application") or ""
                applications[key] = {
                    **applications.get(key, {"utility": None, "business_kind": None, "at": None}),
                    "withdrawn": True,
                }
            case "OBJECTED":
                objections.append({"objects_to": detail.get("objects_to"), "at": fact.time})
            case _:
                pass
    return {
        "detail": {
            "confirmed_at": confirmed.time if confirmed else None,
            "demand_basis": confirmed.detail.get("demand_basis") if confirmed else None,
            "operators_chosen": confirmed.detail.get("operators_chosen") or [] if confirmed else [],
            "consents": consents,
            "begun_on": last([fact for fact in facts if fact.word == "WORKS_BEGUN"], "begun_on"),
            "applications": list(applications.values()),
            "objections": objections,
        },
        "moved_at": max(fact.time for fact in facts),
    }
